//! Segments as objects: each holds one group, and comes into being with it.
//!
//! Ids are contiguous, and each is created exclusively: that is the fence. So a writer never goes past an id of which it
//! does not know what became: before the next one it makes an empty segment there, unless its first attempt came to be
//! after all, or somebody else's did, and then it is fenced.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io::IoSlice,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use object_store::path::Path;
use uuid::Uuid;

use super::{
    Inner,
    bucket::PATIENCE,
    marks::Mark,
    settle::{self, Settled},
    tasks::Task,
};
use crate::{
    error::{Error, Result},
    format::{BLOCK, decode_header},
    planted::planted,
    storage::{
        Barrier, Header, Listed, SegmentRead, SegmentWrite, Space, Storage, Traits, Which, times::Since,
    },
    sync,
};

/// Groups of a receiver writer that may be on their way at once. A driver's go one by one: its ids are its fence.
const IN_FLIGHT: usize = 4;
/// Bytes that opening a segment reads: all of it, unless it holds a large record.
const FIRST: u64 = (4 << 20) + (64 << 10);
/// Bytes that are fetched ahead at most, all segments together.
const AHEAD: u64 = 32 << 20;
/// Pause before a listing that is not up to date is asked for again.
const STALE: Duration = Duration::from_millis(50);
/// Room that a segment has besides its header and one group.
const ROOM: u64 = 16;

/// What outlives the instances of one writer's storage in this process.
#[derive(Debug, Default)]
pub(super) struct Lasting {
    /// Ids that were tried and not settled, with their headers.
    unsettled: Mutex<BTreeMap<u64, Bytes>>,
    /// Ids that are to be deleted once they are old enough.
    young: Mutex<BTreeSet<u64>>,
    /// The segment that keeps older writers out: never deleted by its own writer.
    fence: Mutex<Option<u64>>,
    /// The newest segment that is surely there.
    newest: Mutex<u64>,
    /// When it was last seen that nobody else has the log.
    confirmed: Mutex<Option<Since>>,
}

impl Lasting {
    /// The segment by which this process has the log.
    pub(super) fn fence(&self) -> Option<u64> {
        *locked(&self.fence)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type Fetched = Result<(Bytes, u64)>;

/// The segments of one writer.
#[derive(Debug)]
pub(super) struct ObjectStorage {
    inner: Arc<Inner>,
    which: Which,
    prefix: Path,
    /// What the last listing said of sizes, and of times of creation (seconds since 1970 by the store's clock).
    listed: Mutex<HashMap<u64, (u64, i64)>>,
    ahead: Mutex<HashMap<u64, Task<Fetched>>>,
}

fn name(id: u64) -> String {
    format!("{id:016}.seg")
}

fn segment_id(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    (digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
}

impl ObjectStorage {
    pub(super) fn new(inner: Arc<Inner>, which: Which) -> ObjectStorage {
        let prefix = inner.below(which);
        ObjectStorage { inner, which, prefix, listed: Mutex::default(), ahead: Mutex::default() }
    }

    fn path(&self, id: u64) -> Path {
        self.prefix.clone().join(name(id))
    }

    fn lasting(&self) -> Arc<Lasting> {
        self.inner.lasting(self.which)
    }

    /// Who is fenced has lost the log for good: nobody is to wait for its mark.
    fn fenced(&self, detail: String) -> Error {
        if let Some(mark) = self.inner.mark(self.which).filter(|_| self.which == Which::Driver) {
            mark.give_up();
        }
        Error::Fenced { place: self.place(), detail }
    }

    /// Whether an object that is there begins as one of this writer's.
    fn is_of(&self, found: &[u8], writer: Uuid) -> bool {
        decode_header(&found[..found.len().min(BLOCK as usize)]).is_ok_and(|h| h.place().writer == writer)
    }

    fn whose(&self, id: u64, found: &[u8]) -> Error {
        match decode_header(&found[..found.len().min(BLOCK as usize)]) {
            Ok(h) => {
                self.fenced(format!("segment {id} is of writer {}, epoch {}", h.place().writer, h.epoch))
            }
            Err(_) => self.fenced(format!("segment {id} is something else")),
        }
    }

    /// Goes back to ids below `below` that were tried and of which nobody knows what became.
    fn settle_older(&self, below: u64, bound: Duration) -> Result<()> {
        let lasting = self.lasting();
        loop {
            let oldest = locked(&lasting.unsettled).range(..below).next().map(|(id, h)| (*id, h.clone()));
            let Some((id, header)) = oldest else { return Ok(()) };
            let bucket = self.inner.bucket()?;
            match settle::create(&bucket, &self.path(id), &header, bound)? {
                Settled::Ours => log::debug!("{}: segment {id} stays empty", self.place()),
                Settled::Theirs(found) => {
                    let writer = decode_header(&header).map(|h| h.place().writer).unwrap_or_default();
                    if !self.is_of(&found, writer) {
                        return Err(self.whose(id, &found));
                    }
                    log::debug!("{}: segment {id} was written late", self.place());
                }
            }
            locked(&lasting.unsettled).remove(&id);
        }
    }

    /// Whether nobody can think that this writer is gone.
    fn not_gone(&self) -> Result<()> {
        let Some(mark) = self.inner.mark(self.which) else { return Ok(()) };
        if planted!(IgnoreOwnMark) {
            return Ok(());
        }
        if mark.is_removed() {
            return Err(self.fenced("its mark was removed, or was not renewed in time".into()));
        }
        let age = mark.age();
        match self.which {
            Which::Receiver(_) if age > self.inner.times.overdue => Err(self.fenced(format!(
                "its mark is {} s old, and others may think that it is gone",
                age.as_secs()
            ))),
            _ => Ok(()),
        }
    }

    /// Whether others may have cleaned up after this writer, as after one that is gone: then it knows of nothing that must
    /// still be there. Nobody has after one that wrote a moment ago, though it was closed, and its mark is gone since.
    fn may_be_collected(&self) -> bool {
        let overdue = self.inner.times.overdue;
        let live = |mark: Arc<Mark>| !mark.is_removed() && mark.age() <= overdue;
        let recent = || locked(&self.lasting().confirmed).is_some_and(|s| s.elapsed() <= overdue);
        self.which != Which::Driver && !self.inner.mark(self.which).is_some_and(live) && !recent()
    }

    /// Whether what was just written, not before `asked`, may be acknowledged.
    fn still_ours(&self, id: u64, header: &Bytes, mut asked: Since) -> Result<()> {
        let overdue = self.inner.times.overdue;
        self.not_gone()?;
        let lasting = self.lasting();
        let since = *locked(&lasting.confirmed);
        let long = since.is_none_or(|s| s.elapsed() > overdue) && !planted!(NoLookAfterPause);
        if self.which == Which::Driver && long {
            // So long a pause that even a fence may have been made, used, and cleaned meanwhile.
            asked = Since::now();
            let bucket = self.inner.bucket()?;
            let newer = bucket.list_after(&self.prefix, &self.path(id))?;
            let newest = newer.iter().filter_map(|o| segment_id(o.location.filename()?)).max();
            if let Some(newest) = newest {
                let (found, _) = bucket.get(&self.path(newest), 0..u64::from(BLOCK), PATIENCE)?;
                let writer = decode_header(header).map(|h| h.place().writer).unwrap_or_default();
                if !self.is_of(&found, writer) {
                    return Err(self.whose(newest, &found));
                }
            }
        }
        // Not when it was answered: whoever is paused in between has not looked since.
        *locked(&lasting.confirmed) = Some(asked);
        let mut newest = locked(&lasting.newest);
        *newest = id.max(*newest);
        Ok(())
    }

    fn put(&self, id: u64, header: &Bytes, body: Bytes) -> Result<()> {
        let bound = self.inner.write_timeout;
        let lasting = self.lasting();
        let asked = Since::now();
        let written = self.not_gone().and_then(|()| self.settle_older(id, bound)).and_then(|()| {
            let bucket = self.inner.bucket()?;
            match settle::create(&bucket, &self.path(id), &body, bound)? {
                Settled::Ours => Ok(()),
                Settled::Theirs(found) => Err(self.whose(id, &found)),
            }
        });
        match written {
            Ok(()) => self.still_ours(id, header, asked),
            Err(e @ Error::Fenced { .. }) => Err(e),
            Err(e) => {
                locked(&lasting.unsettled).insert(id, header.clone());
                Err(e)
            }
        }
    }

    fn list_once(&self) -> Result<Vec<Listed>> {
        let found = self.inner.bucket()?.list(&self.prefix)?;
        let depth = self.prefix.parts().count() + 1;
        let mut segments = HashMap::new();
        for object in found.iter().filter(|o| o.location.parts().count() == depth) {
            if let Some(id) = object.location.filename().and_then(segment_id) {
                segments.insert(id, (object.size, object.last_modified.timestamp()));
            }
        }
        let mut listed: Vec<Listed> =
            segments.iter().map(|(id, (length, _))| Listed { id: *id, length: *length }).collect();
        listed.sort_by_key(|l| l.id);
        *locked(&self.listed) = segments;
        Ok(listed)
    }

    /// Takes what was fetched ahead, or fetches it.
    fn first(&self, id: u64) -> Fetched {
        let begun = locked(&self.ahead).remove(&id);
        if let Some(begun) = begun {
            return begun.wait()?;
        }
        self.inner.bucket()?.get(&self.path(id), 0..FIRST, PATIENCE)
    }
}

impl Storage for ObjectStorage {
    fn traits(&self) -> Traits {
        Traits {
            in_flight: if self.which == Which::Driver { 1 } else { IN_FLIGHT },
            groups: 1,
            most_group: self.inner.most_put.saturating_sub(BLOCK.into()),
            deferred: true,
            fenced: true,
            fetches: false,
            reserve: false,
            idle_mark: false,
            collect_every: Duration::from_secs(60),
            ..Traits::local(BLOCK, 1)
        }
    }

    fn place(&self) -> String {
        match self.inner.connected() {
            Some(bucket) => bucket.shown(&self.prefix),
            None => format!("{}/{}", self.inner.remote, self.prefix.filename().unwrap_or_default()),
        }
    }

    fn list(&self) -> Result<Vec<Listed>> {
        let newest = if self.may_be_collected() { 0 } else { *locked(&self.lasting().newest) };
        let began = sync::now();
        loop {
            let listed = self.list_once()?;
            // Some stores list what was there a moment ago. What we know to be there must be in it.
            if listed.last().map_or(0, |l| l.id) >= newest || planted!(TrustOldListing) {
                return Ok(listed);
            }
            if sync::now().saturating_duration_since(began) > PATIENCE {
                return Err(Error::Missing {
                    what: format!("segment {newest}, which was written, in the listing of {}", self.place()),
                    hint: "the store lists what was there before, or somebody deletes from the log".into(),
                });
            }
            sync::pause(STALE);
        }
    }

    fn create(&self, id: u64, _: Space, header: &Header<'_>) -> Result<Box<dyn SegmentWrite>> {
        self.settle_older(id, self.inner.write_timeout)?;
        Ok(Box::new(ObjectSegment {
            storage: ObjectStorage::new(self.inner.clone(), self.which),
            id,
            header: header(false).into(),
            parts: Mutex::default(),
        }))
    }

    fn fence(&self, id: u64, _: Space, header: &Header<'_>) -> Result<Option<Box<dyn SegmentWrite>>> {
        let bucket = self.inner.bucket()?;
        let body: Bytes = header(false).into();
        if planted!(FenceOverwrites) {
            bucket.delete(vec![self.path(id)])?;
        }
        let asked = Since::now();
        match settle::create(&bucket, &self.path(id), &body, self.inner.write_timeout.max(PATIENCE))? {
            Settled::Ours => {
                let lasting = self.lasting();
                // Of an older writer of this process: its ids are below the fence, and it is told so.
                locked(&lasting.unsettled).clear();
                *locked(&lasting.fence) = Some(id);
                *locked(&lasting.newest) = id;
                *locked(&lasting.confirmed) = Some(asked);
                Ok(None)
            }
            Settled::Theirs(_) => Err(Error::io(
                "create",
                bucket.shown(&self.path(id)),
                std::io::ErrorKind::AlreadyExists.into(),
            )),
        }
    }

    fn open(&self, id: u64) -> Result<Arc<dyn SegmentRead>> {
        let (bytes, size) = self.first(id)?;
        Ok(Arc::new(self.reader(id, size, 0, bytes)))
    }

    fn open_for(&self, id: u64, offset: u64, length: u64) -> Result<Arc<dyn SegmentRead>> {
        // No object is longer, whatever a handle says.
        let end = offset.saturating_add(length.min(self.inner.most_put.max(1 << 30)));
        let (bytes, size) = self.inner.bucket()?.get(&self.path(id), offset..end, PATIENCE)?;
        Ok(Arc::new(self.reader(id, size, offset, bytes)))
    }

    fn expect(&self, ids: &[u64]) {
        let mut ahead = locked(&self.ahead);
        ahead.retain(|id, _| ids.contains(id));
        let sizes = locked(&self.listed);
        let size = |id: &u64| sizes.get(id).map_or(FIRST, |(size, _)| (*size).min(FIRST));
        let mut bytes: u64 = ahead.keys().map(size).sum();
        let Ok(bucket) = self.inner.bucket() else { return };
        for id in ids {
            if ahead.contains_key(id) {
                continue;
            }
            bytes += size(id);
            if bytes > AHEAD {
                return;
            }
            if let Ok(begun) = bucket.begin_get(self.path(*id), 0..FIRST) {
                ahead.insert(*id, begun);
            }
        }
    }

    /// An object is as long as it will ever be.
    fn seal(&self, _: u64, _: u64, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn delete(&self, ids: &[u64]) -> Result<()> {
        let lasting = self.lasting();
        let mut wanted: BTreeSet<u64> = locked(&lasting.young).clone();
        wanted.extend(ids);
        if let Some(fence) = *locked(&lasting.fence) {
            wanted.remove(&fence);
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let bucket = self.inner.bucket()?;
        if wanted.iter().any(|id| !locked(&self.listed).contains_key(id)) {
            self.list()?;
        }
        let gone = if planted!(DeleteYoung) { Duration::ZERO } else { self.inner.times.gone };
        let listed = locked(&self.listed).clone();
        // Whoever was paused for so long looks before it answers, so a name may be free again only then.
        let (old, young): (Vec<u64>, Vec<u64>) = wanted
            .iter()
            .filter(|id| listed.contains_key(id))
            .partition(|id| listed.get(id).is_some_and(|(_, born)| bucket.clock.age(*born) >= gone));
        bucket.delete(old.iter().map(|id| self.path(*id)).collect())?;
        locked(&self.listed).retain(|id, _| !old.contains(id));
        *locked(&lasting.young) = young.into_iter().collect();
        Ok(())
    }

    fn drop_spares(&self) -> Result<()> {
        Ok(())
    }

    fn keep_reserve(&self) -> Result<()> {
        Ok(())
    }
}

impl ObjectStorage {
    fn reader(&self, id: u64, size: u64, from: u64, bytes: Bytes) -> ObjectReader {
        let chunk = Mutex::new(Some((from, bytes)));
        ObjectReader { inner: self.inner.clone(), path: self.path(id), size, chunk }
    }
}

/// A segment that will come into being when its group is written.
#[derive(Debug)]
struct ObjectSegment {
    storage: ObjectStorage,
    id: u64,
    header: Bytes,
    /// What was written, to be sent as one.
    parts: Mutex<BTreeMap<u64, Vec<u8>>>,
}

impl SegmentWrite for ObjectSegment {
    fn size(&self) -> u64 {
        self.storage.inner.most_put + ROOM * u64::from(BLOCK)
    }

    fn write(&self, offset: u64, bytes: &mut [IoSlice<'_>], barrier: Barrier) -> Result<()> {
        let piece: Vec<u8> = bytes.iter().flat_map(|b| b.iter().copied()).collect();
        let parts = {
            let mut parts = locked(&self.parts);
            parts.insert(offset, piece);
            match barrier {
                Barrier::No => return Ok(()),
                Barrier::Yes => std::mem::take(&mut *parts),
            }
        };
        let mut body = Vec::with_capacity(self.header.len() + parts.values().map(Vec::len).sum::<usize>());
        body.extend_from_slice(&self.header);
        for (at, part) in parts {
            // Behind a gap are pieces of a record whose source failed: an empty group has taken its place.
            if at != body.len() as u64 {
                break;
            }
            body.extend_from_slice(&part);
        }
        self.storage.put(self.id, &self.header, body.into())
    }
}

/// An object, open for reading.
#[derive(Debug)]
struct ObjectReader {
    inner: Arc<Inner>,
    path: Path,
    size: u64,
    /// What was read last, and where it begins.
    chunk: Mutex<Option<(u64, Bytes)>>,
}

impl ObjectReader {
    fn within(&self, range: &Range<u64>) -> Option<Bytes> {
        let chunk = locked(&self.chunk);
        let (from, bytes) = chunk.as_ref()?;
        let (at, end) = (range.start.checked_sub(*from)?, range.end.checked_sub(*from)?);
        (end <= bytes.len() as u64).then(|| bytes.slice(at as usize..end as usize))
    }

    fn bytes(&self, offset: u64, length: usize) -> Result<Bytes> {
        let end = offset.saturating_add(length as u64).min(self.size);
        if offset >= end {
            return Ok(Bytes::new());
        }
        if let Some(bytes) = self.within(&(offset..end)) {
            return Ok(bytes);
        }
        let until = end.max(offset.saturating_add(FIRST).min(self.size));
        let (bytes, _) = self.inner.bucket()?.get(&self.path, offset..until, PATIENCE)?;
        let wanted = bytes.slice(..bytes.len().min((end - offset) as usize));
        *locked(&self.chunk) = Some((offset, bytes));
        Ok(wanted)
    }
}

impl SegmentRead for ObjectReader {
    fn size(&self) -> Result<u64> {
        Ok(self.size)
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Result<usize> {
        let bytes = self.bytes(offset, into.len())?;
        into[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }

    fn read_two(&self, offset: u64, head: &mut [u8], body: &mut [u8]) -> Result<usize> {
        let wanted = head.len() + body.len();
        let end = offset.saturating_add(wanted as u64).min(self.size);
        let bytes = match self.within(&(offset..end)) {
            Some(bytes) => bytes,
            // One record, and no more of the segment than that.
            None if offset >= end => Bytes::new(),
            None => self.inner.bucket()?.get(&self.path, offset..end, PATIENCE)?.0,
        };
        // Who keeps this open need not keep the bytes.
        *locked(&self.chunk) = None;
        let first = bytes.len().min(head.len());
        head[..first].copy_from_slice(&bytes[..first]);
        let rest = (bytes.len() - first).min(body.len());
        body[..rest].copy_from_slice(&bytes[first..first + rest]);
        Ok(first + rest)
    }

    fn settle(&self) -> Result<()> {
        Ok(())
    }
}
