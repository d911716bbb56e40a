//! Records that do not fit in a buffer: staged and written in pieces, several at once, the one with the headers last.
//!
//! Until that one is durable nothing on the device says that there is a group. While pieces are being written the next
//! ones are copied and checksummed, so a large record costs little more than the device takes for its bytes.

use std::{
    io::IoSlice,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, PoisonError,
        mpsc::{self, Receiver, Sender},
    },
    thread::{self, Scope},
};

use bytes::BytesMut;
use crc32fast::Hasher;

use super::{
    core::Written,
    group::{Large, Placed, Stamp},
    pool::BUFFER,
    staging::Staging,
};
use crate::{
    codec::{Frame, Key, SealedSource},
    error::{Error, Result},
    format::{Coded, FRAME_HEADER, FrameHeader, FrameKind, GROUP_HEADER, GroupHeader, pad_to},
    log::RecordSource,
    storage::{Barrier, SegmentWrite},
};

/// Bytes of the first piece, both headers included: the shorter, the sooner the record is durable after the others are.
const FIRST: usize = 64 << 10;
/// Bytes of every other piece. Two buffers hold seven.
const PIECE: usize = 1 << 20;
const HEAD: usize = GROUP_HEADER + FRAME_HEADER;

/// What became of a large record.
#[derive(Debug)]
pub(super) struct WrittenLarge {
    pub(super) placed: Placed,
    pub(super) written: Written,
    /// Where the frame begins behind the group's offset, and its crc.
    pub(super) frame: Option<(u32, u32)>,
    /// Why the source gave no record: then the group is empty.
    pub(super) failure: Option<Error>,
}

/// Where a large record's group goes.
#[derive(Debug)]
pub(super) struct Target<'a> {
    pub(super) segment: &'a dyn SegmentWrite,
    pub(super) stamp: &'a Stamp,
    pub(super) barrier: Barrier,
    /// What groups are padded to.
    pub(super) align: u32,
    /// How the record is kept.
    pub(super) coded: Coded,
    /// What it is encrypted with, if it is.
    pub(super) key: Option<&'a Key>,
    /// Pieces that may be written at once; one is written by the caller itself.
    pub(super) lanes: usize,
    pub(super) staging: &'a Staging,
}

/// Writes a record of its own group. If the source fails, an empty group takes the sequence.
pub(super) fn write_large(
    target: &Target<'_>,
    large: Large,
    buffers: &mut [BytesMut; 2],
    source: &mut dyn RecordSource,
) -> Result<WrittenLarge> {
    let Target { segment, stamp, align, coded, staging, .. } = *target;
    // What is encrypted takes its time in the source: that says nothing of the copy.
    let untimed = Staging::new(false);
    let staging = if coded.codec.sealed { &untimed } else { staging };
    let at = stamp.offset + GROUP_HEADER as u64;
    let head = FrameHeader::bare(FrameKind::Record, coded, large.time);
    let mut sealed;
    let source: &mut dyn RecordSource = match target.key.filter(|_| coded.codec.sealed) {
        Some(key) => {
            let frame = Frame { head: &head, coded, place: &stamp.place, offset: at };
            sealed = SealedSource::new(source, frame, key)?;
            &mut sealed
        }
        None => source,
    };
    let [first, more] = buffers;
    // A record that is large fills a whole buffer, and so more than the first piece.
    let (first, rest) = first.split_at_mut(FIRST);
    let slots = more[..BUFFER].chunks_exact_mut(PIECE).chain(rest.chunks_exact_mut(PIECE)).collect();
    let mut payload = Hasher::new();
    let mut stage = |done: usize, into: &mut [u8]| -> Result<()> {
        // A panic of the source is the end of its record, and not of the writer that carries it.
        let copied = catch_unwind(AssertUnwindSafe(|| staging.copy(source, done, into, &mut payload)));
        copied.unwrap_or_else(|_| Err(Error::Source("its source panicked".into())))
    };
    let length = large.length as usize;
    let in_first = length.min(FIRST - HEAD);
    let failure = match stage(0, &mut first[HEAD..HEAD + in_first]) {
        Ok(()) => write_pieces(target, in_first..length, slots, stage)?.err(),
        Err(error) => Some(error),
    };
    let mut written = Written::none();
    let (frame, bytes, end) = if failure.is_none() {
        let (header, crc) =
            FrameHeader::encode(FrameKind::Record, coded, large.time, &payload, &stamp.place, at);
        first[GROUP_HEADER..HEAD].copy_from_slice(&header);
        written.note(large.length, large.time);
        (Some((GROUP_HEADER as u32, crc)), FrameHeader::footprint(large.length), FIRST)
    } else {
        let end = GroupHeader::footprint(0, align) as usize;
        first[GROUP_HEADER..end].fill(0);
        (None, 0, end)
    };
    first[..GROUP_HEADER].copy_from_slice(&stamp.header(bytes, u32::from(frame.is_some()), &written));
    segment.write(stamp.offset, &mut [IoSlice::new(&first[..end])], target.barrier)?;
    let placed = Placed { place: stamp.place, offset: stamp.offset };
    Ok(WrittenLarge { placed, written, frame, failure })
}

/// A piece on its way: all of a slot, and what of it is written where.
struct Piece<'a> {
    slot: &'a mut [u8],
    used: usize,
    at: u64,
}

impl Piece<'_> {
    fn write(&self, segment: &dyn SegmentWrite) -> Result<()> {
        segment.write(self.at, &mut [IoSlice::new(&self.slot[..self.used])], Barrier::No)
    }
}

/// Stages and writes what lies behind the first piece. The inner result is the source's.
fn write_pieces<'a>(
    target: &Target<'_>,
    range: std::ops::Range<usize>,
    mut free: Vec<&'a mut [u8]>,
    mut stage: impl FnMut(usize, &mut [u8]) -> Result<()>,
) -> Result<Result<()>> {
    let segment = target.segment;
    let (work, jobs) = mpsc::channel::<Piece<'a>>();
    let jobs = Mutex::new(jobs);
    let (answers, answered) = mpsc::channel();
    thread::scope(|scope| {
        let mut lanes = Lanes { scope, jobs: &jobs, answers, started: 0, most: target.lanes };
        let (mut on_their_way, mut failure, mut unwritten) = (0, None, None);
        let take_back = |free: &mut Vec<&'a mut [u8]>, unwritten: &mut Option<Error>| {
            // Every piece is answered, whatever happens to its write; `answers` is held here.
            if let Ok((slot, result)) = answered.recv() {
                free.push(slot);
                if let Err(error) = result {
                    unwritten.get_or_insert(error);
                }
            }
        };
        let mut done = range.start;
        while done < range.end && failure.is_none() && unwritten.is_none() {
            let Some(slot) = free.pop() else {
                take_back(&mut free, &mut unwritten);
                on_their_way -= 1;
                continue;
            };
            let n = (range.end - done).min(PIECE);
            if let Err(error) = stage(done, &mut slot[..n]) {
                failure = Some(error);
                break;
            }
            // Padding, too: the slot holds what was there before.
            let used = pad_to(n as u64, u64::from(target.align)) as usize;
            slot[n..used].fill(0);
            let piece = Piece { slot, used, at: target.stamp.offset + (HEAD + done) as u64 };
            done += n;
            // The last one is the caller's: it has nothing else to do.
            if done < range.end && lanes.start_one(segment, on_their_way) {
                on_their_way += usize::from(work.send(piece).is_ok());
            } else {
                unwritten = piece.write(segment).err();
                free.push(piece.slot);
            }
        }
        drop(work);
        for _ in 0..on_their_way {
            take_back(&mut free, &mut unwritten);
        }
        match unwritten {
            Some(error) => Err(error),
            None => Ok(failure.map_or(Ok(()), Err)),
        }
    })
}

/// Threads that write pieces, started one by one as they are needed.
struct Lanes<'scope, 'env, 'a> {
    scope: &'scope Scope<'scope, 'env>,
    jobs: &'scope Mutex<Receiver<Piece<'a>>>,
    answers: Sender<(&'a mut [u8], Result<()>)>,
    started: usize,
    most: usize,
}

impl<'scope, 'a: 'scope> Lanes<'scope, '_, 'a> {
    /// Sees to it that there is a thread for one more piece than are on their way, up to the bound; says whether there
    /// is any thread.
    fn start_one(&mut self, segment: &'scope dyn SegmentWrite, on_their_way: usize) -> bool {
        if self.started <= on_their_way && self.started + 1 < self.most {
            let (jobs, answers) = (self.jobs, self.answers.clone());
            let thread = thread::Builder::new().name("ferrowal-piece".into());
            let spawned = thread.spawn_scoped(self.scope, move || {
                loop {
                    let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(piece) = job else { return };
                    let result = catch_unwind(AssertUnwindSafe(|| piece.write(segment)));
                    let result =
                        result.unwrap_or_else(|_| Err(Error::Internal("a panic while writing".into())));
                    if answers.send((piece.slot, result)).is_err() {
                        return;
                    }
                }
            });
            match spawned {
                Ok(_) => self.started += 1,
                // Without threads the pieces are written one after the other.
                Err(e) => {
                    log::debug!("no thread for a piece: {e}");
                    self.most = self.started + 1;
                }
            }
        }
        self.started > 0
    }
}
