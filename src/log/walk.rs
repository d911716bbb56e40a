//! Walking through a segment, group by group, and finding the next group behind a damaged place.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use crc32fast::Hasher;

use super::ahead::{Ahead, DISTANCE};
use crate::{
    codec::{KeyRing, admit, decode},
    error::{Error, Result},
    format::{
        BLOCK, FRAME_HEADER, Footer, FrameHeader, FrameKind, GROUP_HEADER, GroupHeader, Place, is_zero,
    },
    planted::planted,
    storage::{Chunk, SegmentRead},
};

/// Bytes that are asked for at once, at most.
const WINDOW: usize = 1 << 20;
/// Bytes of a segment that is read by the chunk, and of a log that is read ahead.
pub(super) const LARGE: u64 = 4 << 20;
/// Bytes that storage is told to fetch ahead of what is read in order, where nobody else reads ahead.
const EXPECTED: u64 = 8 << 20;

/// Where the bytes are that were read last.
#[derive(Debug)]
enum Memory {
    /// [`WINDOW`] bytes, from wherever they are asked for.
    Plain(Vec<u8>),
    /// A large segment in order, a chunk after the other; none before the first.
    Chunk(Option<Chunk>),
}

/// Buffered reading of one segment.
#[derive(Debug)]
pub(crate) struct Window {
    pub(crate) reader: Arc<dyn SegmentRead>,
    /// What was read last: so many bytes from `start` on.
    memory: Memory,
    start: u64,
    length: usize,
    /// Bytes across the end of a chunk.
    joined: Vec<u8>,
    /// What is read in order, without what is already asked for.
    ahead: Range<u64>,
    /// Who reads ahead, and the segment's number there.
    fetcher: Option<(Arc<Ahead>, u64)>,
}

impl Window {
    pub(crate) fn new(reader: Arc<dyn SegmentRead>) -> Window {
        let memory = Memory::Plain(Vec::new());
        Window { reader, memory, start: 0, length: 0, joined: Vec::new(), ahead: 0..0, fetcher: None }
    }

    /// The same for a segment that is read in order, up to `end`.
    fn in_order(reader: Arc<dyn SegmentRead>, end: u64) -> Window {
        let memory = if end >= LARGE && reader.in_parallel() {
            Memory::Chunk(None)
        } else {
            Memory::Plain(Vec::new())
        };
        Window { memory, ahead: 0..end, ..Window::new(reader) }
    }

    /// Keeps the device busy with what comes from `start` on.
    fn look_ahead(&mut self, start: u64) {
        let from = self.ahead.start.max(start);
        if let Memory::Chunk(_) = self.memory {
            if let Some((ahead, stream)) = &self.fetcher {
                let until = self.ahead.end.min(start + DISTANCE);
                self.ahead.start = ahead.want(*stream, &self.reader, from..until);
            }
            return;
        }
        // In pieces of no less than half of what it is told at most.
        let until = (start + EXPECTED).min(self.ahead.end);
        if from < until && (until - from >= EXPECTED / 2 || until == self.ahead.end) {
            self.reader.expect(from, until - from);
            self.ahead.start = until;
        }
    }

    /// Reads what is at `offset`, and more.
    fn load(&mut self, offset: u64) -> Result<()> {
        self.start = match self.memory {
            Memory::Plain(_) => offset,
            Memory::Chunk(_) => offset - offset % Chunk::LENGTH as u64,
        };
        self.look_ahead(self.start);
        // Nothing stale may be taken for what a failed read would have given.
        self.length = 0;
        self.length = match &mut self.memory {
            Memory::Plain(bytes) => {
                bytes.resize(WINDOW, 0);
                self.reader.read(self.start, bytes)?
            }
            Memory::Chunk(chunk) => {
                let chunk = chunk.get_or_insert_with(Chunk::new);
                let fetcher = self.fetcher.as_ref();
                match fetcher.and_then(|(ahead, stream)| ahead.take(*stream, self.start, chunk)) {
                    Some(length) => length,
                    None => self.reader.read_through(self.start, chunk)?,
                }
            }
        };
        Ok(())
    }

    /// Some of the bytes at `offset`, and no more than `most`; none at the segment's end.
    fn some(&mut self, offset: u64, most: usize) -> Result<&[u8]> {
        if !(self.start..self.start + self.length as u64).contains(&offset) {
            self.load(offset)?;
        }
        let memory = match &self.memory {
            Memory::Plain(bytes) => bytes,
            Memory::Chunk(chunk) => chunk.as_deref().unwrap_or_default(),
        };
        let have = &memory[..self.length];
        let from = ((offset - self.start) as usize).min(have.len());
        Ok(&have[from..have.len().min(from.saturating_add(most))])
    }

    /// The same as [`Window::some`] gives, of what was read last and nothing else.
    fn held(&self, offset: u64, length: usize) -> Option<&[u8]> {
        let memory = match &self.memory {
            Memory::Plain(bytes) => bytes,
            Memory::Chunk(chunk) => chunk.as_deref()?,
        };
        let from = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        memory.get(..self.length)?.get(from..from.checked_add(length)?)
    }

    /// `length` bytes at `offset`, or fewer at the segment's end. At most [`WINDOW`].
    pub(crate) fn bytes(&mut self, offset: u64, length: usize) -> Result<&[u8]> {
        let have = self.some(offset, length)?.len();
        if have == length || have == 0 {
            return self.some(offset, length);
        }
        let mut joined = std::mem::take(&mut self.joined);
        joined.clear();
        while joined.len() < length {
            let piece = self.some(offset + joined.len() as u64, length - joined.len())?;
            if piece.is_empty() {
                break;
            }
            joined.extend_from_slice(piece);
        }
        self.joined = joined;
        Ok(&self.joined)
    }

    fn array<const N: usize>(&mut self, offset: u64) -> Result<Option<[u8; N]>> {
        Ok(self.bytes(offset, N)?.try_into().ok())
    }

    /// Where the first byte that is not zero lies, from `from` up to `to`.
    pub(crate) fn first_written(&mut self, from: u64, to: u64) -> Result<Option<u64>> {
        let mut at = from;
        while at < to {
            let piece = self.some(at, WINDOW.min((to - at) as usize))?;
            if piece.is_empty() {
                return Ok(None);
            }
            if !is_zero(piece) {
                return Ok(piece.iter().position(|b| *b != 0).map(|i| at + i as u64));
            }
            at += piece.len() as u64;
        }
        Ok(None)
    }
}

/// A group that was found whole, or (unchecked) whose header was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GroupAt {
    pub(crate) offset: u64,
    pub(crate) end: u64,
    pub(crate) header: GroupHeader,
    /// Where the first of its records lies that is not encrypted; known only where its frames were checked.
    pub(crate) bare: Option<u64>,
}

/// What lies at a place of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    Group(GroupAt),
    /// Bytes that are no group, or a group with a bad frame.
    /// In the latter case the header checks, and says where it ends.
    Bad {
        offset: u64,
        detail: String,
        end: Option<u64>,
        /// And which sequence its segment began with.
        base: Option<u64>,
    },
    Footer(Footer),
}

/// Goes through a segment from its first block to its footer or its end.
#[derive(Debug)]
pub(crate) struct Walk {
    pub(crate) window: Window,
    place: Place,
    block: u64,
    size: u64,
    at: u64,
    /// Whether every frame is checked, and not the group headers alone.
    check_frames: bool,
    in_bad: bool,
}

impl Walk {
    pub(crate) fn new(
        reader: Arc<dyn SegmentRead>,
        place: Place,
        block: u32,
        check_frames: bool,
    ) -> Result<Walk> {
        let size = reader.size()?;
        let block = u64::from(block);
        Ok(Walk {
            window: Window::in_order(reader, size),
            place,
            block,
            size,
            at: block.max(BLOCK.into()),
            check_frames,
            in_bad: false,
        })
    }

    /// Ends the walk at `end`, where a footer says that the groups end.
    pub(crate) fn until(mut self, end: u64) -> Walk {
        self.size = self.size.min(end);
        self.window.ahead.end = self.size;
        self
    }

    /// Has `ahead` read what comes next, as `stream`, of which it was asked for what lies before `from`.
    pub(crate) fn with(mut self, ahead: &Arc<Ahead>, stream: u64, from: u64) -> Walk {
        self.window.fetcher = Some((Arc::clone(ahead), stream));
        self.window.ahead.start = from.min(self.window.ahead.end);
        self
    }

    /// Whether all of it is asked for.
    pub(crate) fn is_all_asked_for(&self) -> bool {
        self.window.ahead.is_empty()
    }

    /// The next thing; `None` at the end. Zeros are passed over: they are space that was never written.
    pub(crate) fn next(&mut self) -> Result<Option<Found>> {
        while self.at < self.size {
            let at = self.at;
            let block = self.window.bytes(at, self.block.max(BLOCK.into()) as usize)?;
            if block.is_empty() {
                break;
            }
            let zeros = block.chunks(self.block as usize).take_while(|c| is_zero(c)).count() as u64;
            if zeros > 0 {
                // Small blocks of zeros are met in records, too.
                self.in_bad &= zeros * self.block < block.len() as u64;
                self.at += zeros * self.block;
                continue;
            }
            let header: Option<&[u8; GROUP_HEADER]> = block.first_chunk();
            if let Some(header) = header.and_then(|h| GroupHeader::decode(h, &self.place, at)) {
                self.in_bad = false;
                return self.group(at, header).map(Some);
            }
            if let Some(footer) = Footer::decode(block, &self.place, at) {
                self.at = self.size;
                return Ok(Some(Found::Footer(footer)));
            }
            self.at += self.block;
            if !std::mem::replace(&mut self.in_bad, true) {
                let detail = "no group header checks here".into();
                return Ok(Some(Found::Bad { offset: at, detail, end: None, base: None }));
            }
        }
        Ok(None)
    }

    fn group(&mut self, offset: u64, header: GroupHeader) -> Result<Found> {
        let footprint = (GROUP_HEADER as u64)
            .saturating_add(header.length)
            .div_ceil(self.block)
            .saturating_mul(self.block);
        let end = offset.saturating_add(footprint);
        if end > self.size {
            self.at += self.block;
            return Ok(Found::Bad {
                offset,
                detail: "a group that reaches beyond the end of its segment".into(),
                end: Some(self.size),
                base: Some(header.base),
            });
        }
        self.at = end;
        let mut group = GroupAt { offset, end, header, bare: None };
        if self.check_frames && !planted!(UncheckedFrames) {
            let mut frames = Frames::new(&group);
            let mut at = frames.at();
            while let Some(frame) = frames.next(&mut self.window, &self.place, None)? {
                match frame {
                    Frame::Bad { offset, detail } => {
                        return Ok(Found::Bad { offset, detail, end: Some(end), base: Some(header.base) });
                    }
                    Frame::Record { sealed: false, .. } => {
                        group.bare.get_or_insert(at);
                    }
                    _ => {}
                }
                at = frames.at();
            }
        }
        Ok(Found::Group(group))
    }
}

/// A record's bytes, which were checked.
#[derive(Debug, Clone)]
pub(crate) enum Payload {
    Own(Bytes),
    /// So many bytes from this place of the segment on, until the window reads something else: whoever copies them elsewhere
    /// copies them once.
    Lent(u64, usize),
}

impl Payload {
    pub(crate) fn len(&self) -> usize {
        match self {
            Payload::Own(bytes) => bytes.len(),
            Payload::Lent(_, length) => *length,
        }
    }

    /// The bytes. Lent ones are in the `window` that the frame was read in, if that has read nothing since.
    ///
    /// # Errors
    /// If it has.
    pub(crate) fn bytes<'a>(&'a self, window: Option<&'a Window>) -> Result<&'a [u8]> {
        match self {
            Payload::Own(bytes) => Ok(bytes),
            Payload::Lent(offset, length) => window
                .and_then(|window| window.held(*offset, *length))
                .ok_or_else(|| Error::Internal("a record that is not in memory any more".into())),
        }
    }

    /// The bytes, to be kept. As [`Payload::bytes`].
    ///
    /// # Errors
    /// The same, and where there is no memory.
    pub(crate) fn into_own(self, window: Option<&Window>) -> Result<Bytes> {
        if let Payload::Own(bytes) = self {
            return Ok(bytes);
        }
        let mut own = super::room(self.len())?;
        own.extend_from_slice(self.bytes(window)?);
        Ok(own.into())
    }
}

/// One frame of a group.
#[derive(Debug, Clone)]
pub(crate) enum Frame {
    Record {
        time: i64,
        payload: Payload,
        /// Whether it is encrypted.
        sealed: bool,
    },
    /// A record whose checksum holds and that may not be given: its key is missing, or no key vouches for it where one
    /// must.
    Closed {
        time: i64,
        error: Error,
    },
    /// A reservation that was abandoned.
    Void,
    Bad {
        offset: u64,
        detail: String,
    },
}

/// The frames of one group, in order.
#[derive(Debug, Clone)]
pub(crate) struct Frames {
    at: u64,
    end: u64,
}

impl Frames {
    pub(crate) fn new(group: &GroupAt) -> Frames {
        let at = group.offset + GROUP_HEADER as u64;
        Frames { at, end: at + group.header.length }
    }

    /// Where the next frame begins.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// The next frame; `None` behind the last. After a bad one it goes on where the next frame that checks begins.
    /// With `keys`, records are given, decrypted and decompressed; without, frames are only checked.
    ///
    /// # Errors
    /// I/O errors.
    pub(crate) fn next(
        &mut self,
        window: &mut Window,
        place: &Place,
        keys: Option<&KeyRing>,
    ) -> Result<Option<Frame>> {
        if self.at >= self.end {
            return Ok(None);
        }
        let at = self.at;
        match self.frame_at(at, window, place, keys)? {
            Some((frame, length)) => {
                self.at = at + FrameHeader::footprint(length);
                Ok(Some(frame))
            }
            None => {
                self.at = self.next_good(at, window, place)?;
                Ok(Some(Frame::Bad { offset: at, detail: "the record's frame does not check".into() }))
            }
        }
    }

    fn frame_at(
        &self,
        at: u64,
        window: &mut Window,
        place: &Place,
        keys: Option<&KeyRing>,
    ) -> Result<Option<(Frame, u32)>> {
        let Some(bytes) = window.array::<FRAME_HEADER>(at)? else { return Ok(None) };
        let Some(header) = FrameHeader::decode(&bytes) else { return Ok(None) };
        // Before anything is allocated: no frame is longer than its group.
        if at + FrameHeader::footprint(header.length) > self.end && !planted!(NoLengthBound) {
            return Ok(None);
        }
        let length = header.length as usize;
        let from = at + FRAME_HEADER as u64;
        let mut payload = Vec::new();
        let keys = keys.filter(|_| header.kind == FrameKind::Record);
        let plain = header.coded.codec.is_plain();
        // What lies in memory in one piece is not copied here.
        let piece = if keys.is_some() && plain { window.some(from, length)? } else { &[] };
        let lent = keys.is_some() && plain && piece.len() == length;
        let checks = if lent {
            header.check(&bytes, piece, place, at)
        } else if keys.is_some() {
            payload = super::room(length)?;
            read_all(window, from, length, &mut payload)? && header.check(&bytes, &payload, place, at)
        } else {
            let mut crc = Hasher::new();
            let mut done = 0;
            while done < length {
                let piece = window.some(from + done as u64, length - done)?;
                if piece.is_empty() {
                    return Ok(None);
                }
                crc.update(piece);
                done += piece.len();
            }
            header.check_hashed(&bytes, crc, place, at)
        };
        if !checks {
            return Ok(None);
        }
        if let Some(keys) = keys {
            let decoded = if plain {
                admit(&header, (place, at), keys).map(Ok)
            } else {
                let mut record = super::zeroed(header.coded.raw as usize)?;
                let decoded = decode(&header, &bytes, &mut payload, &mut record, (place, at), keys);
                payload = record;
                decoded
            };
            let frame = match decoded {
                Ok(Ok(())) => None,
                Ok(Err(detail)) => Some(Frame::Bad { offset: at, detail: detail.into() }),
                Err(error @ (Error::Key { .. } | Error::Unauthenticated { .. })) => {
                    Some(Frame::Closed { time: header.time, error })
                }
                Err(error) => return Err(error),
            };
            if let Some(frame) = frame {
                return Ok(Some((frame, header.length)));
            }
        }
        let frame = match header.kind {
            FrameKind::Record => Frame::Record {
                time: header.time,
                payload: if lent { Payload::Lent(from, length) } else { Payload::Own(payload.into()) },
                sealed: header.coded.codec.sealed,
            },
            FrameKind::Void => Frame::Void,
        };
        Ok(Some((frame, header.length)))
    }

    /// Behind a bad frame: first where its length says that the next one begins, then wherever one checks.
    fn next_good(&self, bad: u64, window: &mut Window, place: &Place) -> Result<u64> {
        let claimed = window.array::<FRAME_HEADER>(bad)?.and_then(|b| FrameHeader::decode(&b));
        if let Some(header) = claimed {
            let next = bad + FrameHeader::footprint(header.length);
            if next == self.end || (next < self.end && self.frame_at(next, window, place, None)?.is_some()) {
                return Ok(next);
            }
        }
        let mut at = bad + 8;
        while at < self.end {
            if self.frame_at(at, window, place, None)?.is_some() {
                return Ok(at);
            }
            at += 8;
        }
        Ok(self.end)
    }
}

/// Adds `length` bytes at `offset` to `into`; false if the segment ends before.
fn read_all(window: &mut Window, offset: u64, length: usize, into: &mut Vec<u8>) -> Result<bool> {
    while into.len() < length {
        let piece = window.some(offset + into.len() as u64, length - into.len())?;
        if piece.is_empty() {
            return Ok(false);
        }
        into.extend_from_slice(piece);
    }
    Ok(true)
}
