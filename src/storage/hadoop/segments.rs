//! Segments as files of HDFS: appended to by one open stream, made durable by `hsync`, fixed by a footer at the end.
//!
//! A file has one writer by its lease. Taking the lease of a dead, or older, writer's file fixes its length: what was
//! acknowledged is in it, and nothing is added any more. Ids are contiguous, and each is created exclusively: together
//! that is the fence.

use std::{
    collections::BTreeMap,
    io::IoSlice,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::{
    Found, Inner, exists, found,
    jobs::{Call, What, call, post},
    locked,
};
use crate::{
    error::{Error, Result},
    format::{BLOCK, decode_header},
    storage::{Barrier, Header, Listed, SegmentRead, SegmentWrite, Space, Storage, Traits, Which},
};

/// What groups are padded to: frames begin there, and no device's block is at stake.
const PAD: u32 = 64;
/// Bytes of one read at most.
const MOST_READ: usize = 4 << 20;
/// Between the number and the rest of the name of what was left where a segment was to be: no segment's name has it.
const ASIDE: &str = ".aside-";
/// How long somebody else may take from the creation of a segment to its header.
const HEADER_WAIT: Duration = Duration::from_secs(5);
const HEADER_LOOK: Duration = Duration::from_millis(50);

fn name(id: u64) -> String {
    format!("{id:016}.seg")
}

fn segment_id(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    (digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
}

/// A file that this process writes. Closed when it goes.
#[derive(Debug)]
pub(super) struct Writing {
    root: i64,
    path: String,
    file: i64,
    /// Its length, as far as it is known to be written.
    at: Mutex<u64>,
    closed: AtomicBool,
}

impl Writing {
    /// Creates a file exclusively, durably with these bytes.
    pub(super) fn create(inner: &Inner, path: &str, bytes: Vec<u8>, bound: Duration) -> Result<Writing> {
        let root = inner.root()?;
        let length = bytes.len() as u64;
        let asked = Call { bytes, ..Call::new(root, What::Create, path) };
        let file = call(asked, bound)?.number;
        Ok(Writing { root, path: path.into(), file, at: Mutex::new(length), closed: AtomicBool::new(false) })
    }

    /// Appends, where the file is so long; durable as `barrier` says (0 not, 1 on the devices, 2 on the DataNodes).
    pub(super) fn append(&self, at: u64, bytes: Vec<u8>, barrier: i64, bound: Duration) -> Result<()> {
        let mut length = locked(&self.at);
        if *length != at {
            return Err(Error::Internal(format!("{}: {at} is not its end, which is {length}", self.path)));
        }
        let end = at + bytes.len() as u64;
        let asked = Call {
            file: self.file,
            a: at.cast_signed(),
            b: barrier,
            bytes,
            ..Call::new(self.root, What::Write, self.path.as_str())
        };
        call(asked, bound)?;
        *length = end;
        Ok(())
    }

    fn length(&self) -> u64 {
        *locked(&self.at)
    }

    /// Closes it, and waits for that: nobody but the name node says whether it is closed.
    pub(super) fn close(&self, bound: Duration) -> Result<()> {
        self.closed.store(true, Ordering::Release);
        let asked = Call { file: self.file, ..Call::new(self.root, What::Close, self.path.as_str()) };
        call(asked, bound).map(drop)
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if !self.closed.load(Ordering::Acquire) {
            post(Call { file: self.file, ..Call::new(self.root, What::Close, self.path.as_str()) });
        }
    }
}

/// The segments of one writer.
#[derive(Debug)]
pub(super) struct HadoopStorage {
    inner: Arc<Inner>,
    which: Which,
    dir: String,
}

impl HadoopStorage {
    pub(super) fn new(inner: Arc<Inner>, which: Which) -> HadoopStorage {
        let dir = inner.below(which);
        HadoopStorage { inner, which, dir }
    }

    fn path(&self, id: u64) -> String {
        format!("{}/{}", self.dir, name(id))
    }

    fn taken(&self, id: u64, writer: Uuid, epoch: u64) -> Error {
        let detail = format!("segment {id} is of writer {writer}, epoch {epoch}");
        Error::Fenced { place: self.place(), detail }
    }

    fn segments(&self) -> Result<Vec<(u64, Found)>> {
        let files = self.inner.list(&self.dir)?.into_iter();
        let mut segments: Vec<(u64, Found)> =
            files.filter(|f| !f.is_dir).filter_map(|f| Some((segment_id(&f.name)?, f))).collect();
        segments.sort_by_key(|(id, _)| *id);
        Ok(segments)
    }

    /// Makes the file, and keeps it among those that are written.
    fn make(&self, id: u64, space: Space, header: Vec<u8>) -> Result<Box<dyn SegmentWrite>> {
        let path = self.path(id);
        let bound = self.inner.write_timeout.max(Duration::from_secs(1));
        let file = match Writing::create(&self.inner, &path, header, bound) {
            Ok(file) => Arc::new(file),
            Err(e) => {
                if !e.is_exists() {
                    locked(&self.inner.tried).insert(path);
                }
                return Err(e);
            }
        };
        locked(&self.inner.tried).remove(&path);
        locked(&self.inner.writing).insert(path, file.clone());
        Ok(Box::new(HadoopSegment {
            inner: self.inner.clone(),
            which: self.which,
            file,
            size: space.wish.max(space.least),
            parts: Mutex::default(),
        }))
    }

    /// Whose segment a file is, as far as its header says.
    fn owner(&self, id: u64) -> Result<Option<(Uuid, u64)>> {
        let mut block = vec![0; BLOCK as usize];
        let n = self.open(id).and_then(|reader| reader.read(0, &mut block))?;
        Ok(decode_header(&block[..n]).ok().map(|h| (h.place().writer, h.epoch)))
    }

    /// What to make of an id that is taken: it is somebody else's, and then this writer is fenced, or what became of our
    /// own attempt that was never answered; that goes.
    ///
    /// Nothing is deleted by its name, which soon names a segment in use: a request that the name node carries out late
    /// would take acknowledged records with it. What was left is given a name that nobody else has, and deleted by that.
    /// Only the renaming can come late then. If it is not known what became of it, this writer creates nothing any more
    /// ([`Mark::note_unsure`](super::marks::Mark::note_unsure)); and no other one ever does under this name, since a new
    /// driver's ids are above those that it found, and an executor's directory is its own. So whenever it lands, it finds
    /// what was left, or nothing.
    fn settle(&self, id: u64, header: &[u8]) -> Result<()> {
        let ours = decode_header(header).map(|h| h.place().writer).ok();
        // Our own attempt was given up: what is there is that, most likely, and nobody is about to write a header to it.
        // Should it be somebody else's after all, he loses his lease and creates it anew, or is found by his header below.
        let wait = !locked(&self.inner.tried).contains(&self.path(id));
        let began = Instant::now();
        while began.elapsed() < HEADER_WAIT {
            match found(self.owner(id))? {
                None => return Ok(()),
                Some(Some((writer, _))) if Some(writer) == ours => break,
                // Its writer may be at it: its lease is not ours to take.
                Some(Some((writer, epoch))) => return Err(self.taken(id, writer, epoch)),
                Some(None) if !wait => break,
                // Whoever made it is about to write its header, or is dead.
                Some(None) => thread::sleep(HEADER_LOOK),
            }
        }
        self.not_gone(true)?;
        let path = self.path(id);
        // From here on nobody writes a header to it that was not there: only then does its absence mean anything.
        if found(self.inner.recover(&path))?.is_none() {
            return Ok(());
        }
        match found(self.owner(id))? {
            Some(Some((writer, epoch))) if Some(writer) != ours => Err(self.taken(id, writer, epoch)),
            _ => self.put_aside(id),
        }
    }

    fn put_aside(&self, id: u64) -> Result<()> {
        let aside = format!("{}/{id:016}{ASIDE}{}", self.dir, Uuid::new_v4());
        match self.inner.rename(&self.path(id), &aside) {
            Ok(_) => {}
            Err(e) => {
                if let Some(mark) = self.inner.mark(self.which) {
                    mark.note_unsure();
                }
                return Err(e);
            }
        }
        // Nobody ever has this name again: it may be deleted whenever the name node comes to it, and does no harm if not.
        if let Err(e) = self.inner.delete(&aside) {
            log::debug!("{aside} is in nobody's way: {e}");
        }
        Ok(())
    }

    /// Whether nothing is on its way that could take from a segment the name that it is about to be given.
    fn certain(&self) -> Result<()> {
        if self.inner.mark(self.which).is_some_and(|mark| mark.is_unsure()) {
            let detail =
                "the name node did not say whether a segment that was never used has another name by now: \
                          a new writer must go on"
                    .into();
            return Err(Error::Fenced { place: self.place(), detail });
        }
        Ok(())
    }

    /// Whether nobody can think that this writer is gone, or has taken its place.
    fn not_gone(&self, look: bool) -> Result<()> {
        still_ours(&self.inner, self.which, look)
    }
}

/// Whether nobody can think that a writer is gone; with `look`, the mark itself is looked at.
fn still_ours(inner: &Inner, which: Which, look: bool) -> Result<()> {
    let fenced = |detail: String| Err(Error::Fenced { place: inner.shown(&inner.below(which)), detail });
    let Some(mark) = inner.mark(which) else { return Ok(()) };
    if mark.is_removed() {
        return fenced("its mark was removed, or was not renewed in time".into());
    }
    let age = mark.age();
    if matches!(which, Which::Receiver(_)) && age > inner.times.overdue {
        let seconds = age.as_secs();
        return fenced(format!("its mark is {seconds} s old, and others may think that it is gone"));
    }
    if look && inner.time(&mark.path)?.is_none() {
        mark.note_removed();
        return fenced("its mark was removed".into());
    }
    Ok(())
}

impl Storage for HadoopStorage {
    fn traits(&self) -> Traits {
        Traits {
            pad: PAD,
            preallocated: false,
            fenced: true,
            begins_empty: true,
            fetches: false,
            reserve: false,
            // A minute.
            collect_every: self.inner.times.writer_renewed,
            ..Traits::local(BLOCK, 1)
        }
    }

    fn place(&self) -> String {
        self.inner.shown(&self.dir)
    }

    fn list(&self) -> Result<Vec<Listed>> {
        Ok(self.segments()?.into_iter().map(|(id, f)| Listed { id, length: f.length }).collect())
    }

    fn create(&self, id: u64, space: Space, header: &Header<'_>) -> Result<Box<dyn SegmentWrite>> {
        self.not_gone(false)?;
        self.certain()?;
        let header = header(false);
        let made = match self.make(id, space, header.clone()) {
            Err(e) if e.is_exists() => {
                self.settle(id, &header)?;
                self.make(id, space, header)
            }
            // Its directory was removed: so was its mark.
            Err(e) if e.is_not_found() => {
                self.not_gone(true)?;
                Err(e)
            }
            made => made,
        }?;
        // After the creation: a fence is raised before the older driver's mark is removed, and nothing is cleaned before.
        if let Err(e) = self.not_gone(true) {
            drop(locked(&self.inner.writing).remove(&self.path(id)));
            drop(made);
            return Err(e);
        }
        Ok(made)
    }

    fn fence(&self, id: u64, space: Space, header: &Header<'_>) -> Result<Option<Box<dyn SegmentWrite>>> {
        let made = match self.make(id, space, header(false)) {
            Err(e) if e.is_exists() => return Err(exists(self.inner.shown(&self.path(id)))),
            made => made?,
        };
        *locked(&self.inner.fence) = Some(id);
        // From here on nobody creates a segment but us; those that are there get no byte more.
        self.inner.recover_all(self.which, Some(&name(id)))?;
        Ok(Some(made))
    }

    fn open(&self, id: u64) -> Result<Arc<dyn SegmentRead>> {
        let reader = HadoopReader {
            inner: self.inner.clone(),
            path: self.path(id),
            opened: Mutex::new(Arc::new(Opened::new(&self.inner, &self.path(id))?)),
        };
        Ok(Arc::new(reader))
    }

    fn seal(&self, id: u64, at: u64, footer: &[u8]) -> Result<()> {
        let path = self.path(id);
        let writing = locked(&self.inner.writing).remove(&path);
        if let Some(file) = writing
            && file.length() == at
        {
            // Even without barriers: a footer says that what is before it is durable.
            file.append(at, footer.to_vec(), 1, self.inner.patience)?;
            let Err(e) = file.close(self.inner.patience) else { return Ok(()) };
            // It is whole, and under construction: as long as that stays so, it takes a block of the quota, and its end is
            // where DataNodes say.
            log::debug!("closing {path}, whose lease is taken now: {e}");
            self.not_gone(true)?;
            return self.inner.recover(&path).map(drop);
        }
        // This cuts, and an older driver must not: the new one may have kept what is to be cut. (It was never acknowledged;
        // but what was recovered stays.) Whoever comes past this and is paused then can only be one that recovers the log
        // itself, since a writer's own segments are sealed above: and what two of them find in an older segment, whose
        // lease was taken before they looked, is the same.
        self.not_gone(true)?;
        let asked = Call {
            a: at.cast_signed(),
            bytes: footer.to_vec(),
            ..Call::new(self.inner.root()?, What::Seal, path)
        };
        call(asked, self.inner.patience * 2).map(drop)
    }

    fn delete(&self, ids: &[u64]) -> Result<()> {
        let fence = if self.which == Which::Driver { *locked(&self.inner.fence) } else { None };
        for id in ids.iter().filter(|id| Some(**id) != fence) {
            let path = self.path(*id);
            drop(locked(&self.inner.writing).remove(&path));
            self.inner.delete(&path)?;
        }
        Ok(())
    }

    fn drop_spares(&self) -> Result<()> {
        Ok(())
    }

    fn keep_reserve(&self) -> Result<()> {
        Ok(())
    }
}

/// A segment's file, open for writing.
#[derive(Debug)]
struct HadoopSegment {
    inner: Arc<Inner>,
    which: Which,
    file: Arc<Writing>,
    size: u64,
    /// Pieces of a large record, which come before the one that they lie behind.
    parts: Mutex<BTreeMap<u64, Vec<u8>>>,
}

impl HadoopSegment {
    fn append(&self, offset: u64, mut parts: BTreeMap<u64, Vec<u8>>, barrier: Barrier) -> Result<()> {
        let sync = match barrier {
            Barrier::Yes if self.inner.hflush => 2,
            Barrier::Yes => 1,
            Barrier::No => 0,
        };
        let bound = self.inner.write_timeout.max(Duration::from_secs(1));
        let mut at = self.file.length();
        if at > offset {
            return Err(Error::Internal(format!("{offset} is written already in {}", self.file.path)));
        }
        if at < offset {
            // Where a record whose source failed was to be.
            self.file.append(at, vec![0; (offset - at) as usize], 0, bound)?;
            at = offset;
        }
        let first = parts.remove(&at);
        let mut next = at + first.as_ref().map_or(0, |p| p.len() as u64);
        let mut all: Vec<Vec<u8>> = first.into_iter().collect();
        for (from, part) in parts {
            // Behind a gap are pieces of a record whose source failed: an empty group has taken its place.
            if from != next {
                break;
            }
            next += part.len() as u64;
            all.push(part);
        }
        let last = all.pop().unwrap_or_default();
        for part in all {
            let length = part.len() as u64;
            self.file.append(at, part, 0, bound)?;
            at += length;
        }
        self.file.append(at, last, sync, bound)
    }
}

impl SegmentWrite for HadoopSegment {
    fn size(&self) -> u64 {
        self.size
    }

    fn write(&self, offset: u64, bytes: &mut [IoSlice<'_>], barrier: Barrier) -> Result<()> {
        let piece: Vec<u8> = bytes.iter().flat_map(|b| b.iter().copied()).collect();
        let written = if piece.is_empty() {
            self.append(self.file.length(), BTreeMap::new(), barrier)
        } else {
            let waits = offset > self.file.length() && barrier == Barrier::No;
            // A piece of a large record is kept until that with its headers comes: a file is written from its beginning
            // to its end.
            let parts = {
                let mut parts = locked(&self.parts);
                parts.insert(offset, piece);
                if waits {
                    return Ok(());
                }
                std::mem::take(&mut *parts)
            };
            self.append(offset, parts, barrier)
        };
        match written {
            Ok(()) => still_ours(&self.inner, self.which, false),
            Err(e) => {
                // Never written again, and sealed by whoever comes next.
                drop(locked(&self.inner.writing).remove(&self.file.path));
                Err(e)
            }
        }
    }
}

/// A file's stream, and how long it was when it was opened.
#[derive(Debug)]
struct Opened {
    root: i64,
    file: i64,
    size: u64,
}

impl Opened {
    fn new(inner: &Inner, path: &str) -> Result<Opened> {
        let root = inner.root()?;
        let answer = call(Call::new(root, What::Open, path), inner.patience)?;
        let size = answer.names.first().and_then(|n| n.parse().ok());
        let size = size.ok_or_else(|| Error::Internal("a file was opened, and has no length".into()))?;
        Ok(Opened { root, file: answer.number, size })
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        post(Call { file: self.file, ..Call::new(self.root, What::Close, "") });
    }
}

/// A segment's file, open for reading. It ends where it ended when it was opened.
#[derive(Debug)]
struct HadoopReader {
    inner: Arc<Inner>,
    path: String,
    /// Closed when nobody reads from it any more.
    opened: Mutex<Arc<Opened>>,
}

impl HadoopReader {
    fn fill(&self, offset: u64, into: &mut [u8]) -> Result<usize> {
        let opened = locked(&self.opened).clone();
        let end = offset.saturating_add(into.len() as u64).min(opened.size);
        let wanted = end.saturating_sub(offset) as usize;
        let mut done = 0;
        while done < wanted {
            let asked = Call {
                file: opened.file,
                a: (offset + done as u64).cast_signed(),
                room: MOST_READ.min(wanted - done),
                ..Call::new(opened.root, What::Read, self.path.as_str())
            };
            let bytes = call(asked, self.inner.patience)?.bytes;
            if bytes.is_empty() {
                break;
            }
            into[done..done + bytes.len()].copy_from_slice(&bytes);
            done += bytes.len();
        }
        Ok(done)
    }
}

impl SegmentRead for HadoopReader {
    fn size(&self) -> Result<u64> {
        Ok(locked(&self.opened).size)
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Result<usize> {
        self.fill(offset, into)
    }

    fn read_two(&self, offset: u64, head: &mut [u8], body: &mut [u8]) -> Result<usize> {
        // One call: the head is small.
        let mut both = vec![0; head.len() + body.len()];
        let read = self.fill(offset, &mut both)?;
        let (first, rest) = both.split_at(head.len());
        head.copy_from_slice(first);
        body.copy_from_slice(rest);
        Ok(read)
    }

    /// Takes the file from whoever had it open, unless that is this process.
    fn settle(&self) -> Result<()> {
        let writing = locked(&self.inner.writing).get(&self.path).cloned();
        if let Some(file) = writing {
            return file.append(file.length(), Vec::new(), 1, self.inner.patience);
        }
        self.inner.recover(&self.path)?;
        let again = Arc::new(Opened::new(&self.inner, &self.path)?);
        let before = std::mem::replace(&mut *locked(&self.opened), again);
        // Without the lock: it is closed here, or by whoever still reads from it.
        drop(before);
        Ok(())
    }
}
