//! Reading single records by handle, and keeping the files of recent ones open.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crc32fast::Hasher;
use uuid::Uuid;

use super::analysis::{Scope, analyse};
use crate::{
    codec::{KeyRing, admit, decode},
    error::{Error, Result},
    format::{FRAME_HEADER, FrameHeader, FrameKind, Place, VERSION},
    handle::RecordHandle,
    planted::planted,
    storage::{Home, SegmentRead, Storage, Which},
};

/// Segments that stay open for the next read.
const MOST_OPEN: usize = 64;
/// Bytes that are read at once where only a checksum is taken.
const PIECE: usize = 256 << 10;

type Key = (Uuid, u64);
/// An open segment, with its size then: what lies within it and is not there fails its check.
type Measured = (Arc<dyn SegmentRead>, u64);
/// The same, and when it was last read.
type Opened = (Measured, Instant);

/// The open files of a log's readers.
#[derive(Debug)]
pub(crate) struct Reader {
    open: Mutex<HashMap<Key, Opened>>,
    keep: Duration,
}

impl Reader {
    pub(crate) fn new(keep: Duration) -> Reader {
        Reader { open: Mutex::default(), keep }
    }

    /// Lets go of files that were not read for a while: a deleted segment's space is free only then.
    pub(crate) fn let_go(&self) {
        let now = Instant::now();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, (_, used)| now.duration_since(*used) < self.keep);
    }

    /// Lets go of everything; what is read later is opened again.
    pub(crate) fn let_go_of_all(&self) {
        let files = std::mem::take(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner));
        drop(files);
    }

    /// Lets go of segments that were deleted. One of another writer with the same number is simply opened again.
    pub(crate) fn let_go_of(&self, segments: &[u64]) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).retain(|(_, id), _| !segments.contains(id));
    }

    fn cached(&self, key: Key) -> Option<Measured> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.get_mut(&key).map(|(segment, used)| {
            *used = Instant::now();
            segment.clone()
        })
    }

    fn remember(&self, key: Key, segment: &Measured) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= MOST_OPEN
            && let Some(oldest) = open.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| *key)
        {
            open.remove(&oldest);
        }
        open.insert(key, (segment.clone(), Instant::now()));
    }

    fn forget(&self, key: Key) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }

    /// The segment of a record, if it could hold the record.
    pub(crate) fn locate(&self, at: &At<'_>) -> Result<Located> {
        let key = (at.handle.writer, at.handle.segment);
        if let Some(segment) = self.cached(key) {
            match at.bounded(segment) {
                // Where files grow, it may have been opened before the record was written.
                Err(Error::Corrupt { .. }) => self.forget(key),
                located => return located,
            }
        }
        let frame = FrameHeader::footprint(at.handle.length);
        let segment = match at.storage.open_for(at.handle.segment, at.handle.offset, frame) {
            Ok(segment) => segment,
            Err(e) if e.is_not_found() => return Err(at.absent()?),
            Err(e) => return Err(e),
        };
        let size = segment.size()?;
        let segment = (segment, size);
        let located = at.bounded(segment.clone())?;
        self.remember(key, &segment);
        Ok(located)
    }

    /// Reads the record into `into`, which has its length.
    pub(crate) fn read(&self, at: &At<'_>, into: &mut [u8]) -> Result<()> {
        let located = self.locate(at)?;
        self.read_located(at, &located, into)
    }

    /// Reads the record and shows it to `show`, in memory that is not kept: from where the device wrote it, if it was not in
    /// the page cache.
    pub(crate) fn read_with<T>(&self, at: &At<'_>, show: impl FnOnce(&[u8]) -> T) -> Result<T> {
        let located = self.locate(at)?;
        let (mut show, mut shown) = (Some(show), None);
        let length = at.handle.length as usize;
        // One that is encrypted or compressed is shown from where it was decoded.
        if at.handle.version <= VERSION {
            located.0.lend(at.handle.offset, FRAME_HEADER + length, &mut |frame| {
                if let Some(record) = at.plain(frame) {
                    shown = show.take().map(|show| show(record));
                }
            });
        }
        match (shown, show) {
            (Some(shown), _) => Ok(shown),
            // What is wrong with it is met again.
            (None, Some(show)) => with_memory(length, |bytes| {
                self.read_located(at, &located, bytes)?;
                Ok(show(bytes))
            }),
            (None, None) => Err(Error::Internal("a record was shown to nobody".into())),
        }
    }

    /// The same from where it was found: one call to the device, and no other, unless the check fails.
    pub(crate) fn read_located(&self, at: &At<'_>, located: &Located, into: &mut [u8]) -> Result<()> {
        // An object is opened before it is read, and may be cleaned in between.
        let there = |read: Result<bool>| match read {
            Err(e) if e.is_not_found() => Err(at.absent()?),
            read => read,
        };
        if there(at.read_checked(&located.0, into))? {
            return Ok(());
        }
        // The file may not be the one that has this name now: look again before calling it damage.
        self.forget((at.handle.writer, at.handle.segment));
        let located = self.locate(at)?;
        if there(at.read_checked(&located.0, into))? {
            return Ok(());
        }
        into.fill(0);
        Err(at.corrupt("the record's frame does not check"))
    }
}

/// Memory for records that were read into it, to be used again: large pieces are dear to get and to give back.
static SPARE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
/// So many pieces of so many bytes at most.
const SPARES: usize = 2;
const SPARE_LENGTH: usize = 512 << 10;

fn with_memory<T>(length: usize, work: impl FnOnce(&mut [u8]) -> Result<T>) -> Result<T> {
    let fits = |spares: &mut Vec<Vec<u8>>| {
        let at = spares.iter().position(|spare| spare.len() >= length)?;
        Some(spares.swap_remove(at))
    };
    let spare = fits(&mut SPARE.lock().unwrap_or_else(PoisonError::into_inner));
    let mut memory = match spare {
        Some(spare) => spare,
        None => super::zeroed(length)?,
    };
    let result = work(&mut memory[..length]);
    if memory.len() <= SPARE_LENGTH {
        let mut spares = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        // The longest ones stay: they do for all.
        spares.push(memory);
        spares.sort_unstable_by_key(|spare| std::cmp::Reverse(spare.len()));
        spares.truncate(SPARES);
    }
    result
}

/// A segment that could hold the record.
pub(crate) struct Located(Arc<dyn SegmentRead>);

/// A record to be read, with where to look for it.
pub(crate) struct At<'a> {
    pub(crate) handle: &'a RecordHandle,
    pub(crate) home: &'a dyn Home,
    pub(crate) storage: &'a dyn Storage,
    pub(crate) which: Which,
    /// For a record that is encrypted.
    pub(crate) keys: &'a KeyRing,
    /// A live writer's low-water mark, where the record is one of its own. Asked for only where the segment is absent: it
    /// takes the writer's lock.
    pub(crate) low_water: &'a dyn Fn() -> u64,
}

impl At<'_> {
    /// Nothing is allocated, nor read, for a length that the segment cannot hold.
    fn bounded(&self, (segment, size): Measured) -> Result<Located> {
        let fits = |length| {
            let end = self.handle.offset.checked_add(FrameHeader::footprint(length));
            end.is_some_and(|end| end <= size)
        };
        if fits(self.handle.length) {
            return Ok(Located(segment));
        }
        // One that is kept in fewer bytes than it has: its header says so, and is believed once its checksum holds. Otherwise
        // a few forged bytes would have somebody allocate gigabytes.
        let mut head = [0; FRAME_HEADER];
        if self.handle.version > VERSION
            && fits(0)
            && segment.read(self.handle.offset, &mut head)? == FRAME_HEADER
            && let Some(header) = FrameHeader::decode(&head).filter(|f| self.is_of(f) && fits(f.length))
        {
            if self.checks(&segment, &header, &head)? {
                return Ok(Located(segment));
            }
            return Err(self.corrupt("the record's frame does not check"));
        }
        Err(self.corrupt(&format!("the record reaches beyond the segment's end at {size}")))
    }

    /// Whether a frame's checksum holds, found without memory for it.
    fn checks(
        &self,
        segment: &Arc<dyn SegmentRead>,
        header: &FrameHeader,
        head: &[u8; FRAME_HEADER],
    ) -> Result<bool> {
        let h = self.handle;
        let mut piece = super::zeroed(PIECE.min(header.length as usize))?;
        let (mut crc, mut done) = (Hasher::new(), 0);
        while done < header.length as usize {
            let length = PIECE.min(header.length as usize - done);
            let read = segment.read(h.offset + (FRAME_HEADER + done) as u64, &mut piece[..length])?;
            if read < length {
                return Ok(false);
            }
            crc.update(&piece[..length]);
            done += length;
        }
        let place = Place { log: h.log, writer: h.writer, segment: h.segment };
        Ok(header.check_hashed(head, crc, &place, h.offset))
    }

    /// Whether a frame's header says what the handle says.
    fn is_of(&self, f: &FrameHeader) -> bool {
        f.kind == FrameKind::Record && f.coded.raw == self.handle.length && f.crc == self.handle.crc
    }

    /// The record in these bytes, if they are its frame, and neither encrypted nor compressed.
    fn plain<'f>(&self, frame: &'f [u8]) -> Option<&'f [u8]> {
        let h = self.handle;
        let (head, record) = frame.split_first_chunk::<FRAME_HEADER>()?;
        let f = FrameHeader::decode(head).filter(|f| self.is_of(f) && f.coded.codec.is_plain())?;
        let place = Place { log: h.log, writer: h.writer, segment: h.segment };
        let whole = record.len() == h.length as usize && f.check(head, record, &place, h.offset);
        (whole && admit(&f, (&place, h.offset), self.keys).is_ok()).then_some(record)
    }

    fn read_checked(&self, segment: &Arc<dyn SegmentRead>, into: &mut [u8]) -> Result<bool> {
        let h = self.handle;
        if into.len() != h.length as usize {
            return Err(Error::Config(format!(
                "{} bytes of memory for a record of {}",
                into.len(),
                h.length
            )));
        }
        let mut head = [0; FRAME_HEADER];
        let read = segment.read_two(h.offset, &mut head, into)?;
        let place = Place { log: h.log, writer: h.writer, segment: h.segment };
        if planted!(UncheckedRead) {
            return Ok(read == FRAME_HEADER + into.len());
        }
        let Some(body) = read.checked_sub(FRAME_HEADER) else { return Ok(false) };
        let Some(f) = FrameHeader::decode(&head).filter(|f| self.is_of(f)) else { return Ok(false) };
        if f.coded.codec.is_plain() {
            let whole = body == into.len() && f.check(&head, into, &place, h.offset);
            if let (true, Err(error)) = (whole, admit(&f, (&place, h.offset), self.keys)) {
                into.fill(0);
                return Err(error);
            }
            return Ok(whole);
        }
        // Mostly the whole payload was read already: it is rarely longer than its record.
        let mut payload = super::zeroed(f.length as usize)?;
        let have = body.min(payload.len());
        payload[..have].copy_from_slice(&into[..have]);
        into.fill(0);
        let from = h.offset + (FRAME_HEADER + have) as u64;
        if have < payload.len() && segment.read(from, &mut payload[have..])? < f.length as usize - have {
            return Ok(false);
        }
        if !f.check(&head, &payload, &place, h.offset) {
            return Ok(false);
        }
        match decode(&f, &head, &mut payload, into, (&place, h.offset), self.keys)? {
            Ok(()) => Ok(true),
            Err(detail) => {
                into.fill(0);
                Err(self.corrupt(detail))
            }
        }
    }

    fn corrupt(&self, detail: &str) -> Error {
        Error::Corrupt {
            place: self.storage.place(),
            segment: self.handle.segment,
            offset: self.handle.offset,
            detail: format!("{detail} (record {})", self.handle),
        }
    }

    /// Why the segment is not there. Only a durable mark or note proves that it was cleaned; where another segment names it
    /// as one that was there, it was lost, which is damage. Without either, this may not be the place to look.
    fn absent(&self) -> Result<Error> {
        let h = self.handle;
        let gone = |detail: String| Ok(Error::Gone { handle: h.to_string(), detail });
        let low_water = (self.low_water)();
        if low_water > h.segment {
            return gone(format!("segments below {low_water} were"));
        }
        if matches!(self.which, Which::Receiver(_)) && self.home.was_removed(h.writer)? {
            return gone("its writer is dead, and was cleaned as a whole".into());
        }
        let writer = matches!(self.which, Which::Receiver(_)).then_some(h.writer);
        let found = analyse(self.storage, Scope { log: h.log, writer, ..Scope::default() })?;
        if found.low_water > h.segment {
            return gone(format!("segments below {} were", found.low_water));
        }
        if found.missing().contains(&h.segment) {
            return Ok(self.corrupt("the segment is missing, and was not cleaned"));
        }
        Ok(Error::Missing {
            what: format!("segment {} of writer {} in {}", h.segment, h.writer, self.storage.place()),
            hint: "nothing proves that it was cleaned; is the directory shared with, or mounted on, this machine?".into(),
        })
    }
}
