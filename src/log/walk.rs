//! Walking through a segment, group by group, and finding the next group behind a damaged place.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use crc32fast::Hasher;

use super::ahead::Ahead;
use crate::{
    codec::{KeyRing, admit, decode},
    error::{Error, Result},
    format::{
        BLOCK, FRAME_HEADER, Footer, FrameHeader, FrameKind, GROUP_HEADER, GroupHeader, Place, is_zero,
    },
    planted::planted,
    storage::SegmentRead,
};

/// Bytes read at once.
const WINDOW: usize = 1 << 20;
/// Bytes that are fetched ahead of what is read, so that the device has several large reads to do while checksums are
/// taken here.
pub(super) const AHEAD: u64 = 16 << 20;

/// Buffered reading of one segment.
#[derive(Debug)]
pub(crate) struct Window {
    pub(crate) reader: Arc<dyn SegmentRead>,
    buffer: Vec<u8>,
    start: u64,
    /// What is read in order, without what is already being fetched.
    ahead: Range<u64>,
    /// Who fetches it; without, it is this thread that asks storage for it.
    fetcher: Option<Arc<Ahead>>,
}

impl Window {
    pub(crate) fn new(reader: Arc<dyn SegmentRead>) -> Window {
        Window { reader, buffer: Vec::new(), start: 0, ahead: 0..0, fetcher: None }
    }

    /// The same for a segment that is read in order, up to `end`.
    fn in_order(reader: Arc<dyn SegmentRead>, end: u64) -> Window {
        Window { ahead: 0..end, ..Window::new(reader) }
    }

    /// Keeps storage busy with what comes behind `offset`, in pieces of no less than a quarter of what is fetched at most.
    fn look_ahead(&mut self, offset: u64) {
        let until = (offset + AHEAD).min(self.ahead.end);
        let from = self.ahead.start.max(offset);
        if from < until && (until - from >= AHEAD / 4 || until == self.ahead.end) {
            match &self.fetcher {
                Some(ahead) => ahead.fetch(&self.reader, from, until - from),
                None => self.reader.expect(from, until - from),
            }
            self.ahead.start = until;
        }
    }

    /// `length` bytes at `offset`, or fewer at the segment's end. At most [`WINDOW`].
    pub(crate) fn bytes(&mut self, offset: u64, length: usize) -> Result<&[u8]> {
        let have = self.start..self.start + self.buffer.len() as u64;
        if offset < have.start || offset + length as u64 > have.end {
            self.look_ahead(offset);
            self.buffer.resize(WINDOW.max(length), 0);
            let read = self.reader.read(offset, &mut self.buffer);
            // Nothing stale may be taken for what a failed read would have given.
            self.buffer.truncate(*read.as_ref().unwrap_or(&0));
            self.start = offset;
            read?;
        }
        let from = (offset - self.start) as usize;
        let to = (from + length).min(self.buffer.len());
        Ok(&self.buffer[from.min(to)..to])
    }

    fn array<const N: usize>(&mut self, offset: u64) -> Result<Option<[u8; N]>> {
        Ok(self.bytes(offset, N)?.try_into().ok())
    }

    /// Where the first byte that is not zero lies, from `from` up to `to`.
    pub(crate) fn first_written(&mut self, from: u64, to: u64) -> Result<Option<u64>> {
        let mut at = from;
        while at < to {
            let piece = self.bytes(at, WINDOW.min((to - at) as usize))?;
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

    /// Has `fetcher` fetch what comes next, but for the first `already` bytes: those it has, or is at.
    pub(crate) fn with(mut self, fetcher: &Arc<Ahead>, already: u64) -> Walk {
        self.window.fetcher = Some(Arc::clone(fetcher));
        self.window.ahead.start = already.min(self.window.ahead.end);
        self
    }

    /// Whether all of it that is read in order is fetched, or being fetched.
    pub(crate) fn is_all_fetched(&self) -> bool {
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

/// One frame of a group.
#[derive(Debug, Clone)]
pub(crate) enum Frame {
    Record {
        time: i64,
        payload: Bytes,
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
        let checks = if keys.is_some() {
            payload = super::zeroed(length)?;
            read_all(window, from, &mut payload)? && header.check(&bytes, &payload, place, at)
        } else {
            let mut crc = Hasher::new();
            let mut done = 0;
            while done < length {
                let piece = window.bytes(from + done as u64, (length - done).min(WINDOW))?;
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
            let decoded = if header.coded.codec.is_plain() {
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
                payload: payload.into(),
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

/// Fills `into` from the window or, where that is too small, from the segment; false if the segment ends before.
fn read_all(window: &mut Window, offset: u64, into: &mut [u8]) -> Result<bool> {
    if into.len() <= WINDOW / 2 {
        let bytes = window.bytes(offset, into.len())?;
        if bytes.len() < into.len() {
            return Ok(false);
        }
        into.copy_from_slice(bytes);
        return Ok(true);
    }
    window.look_ahead(offset);
    Ok(window.reader.read(offset, into)? == into.len())
}
