//! Object stores: S3 and what speaks its language, Google Cloud Storage, Azure Blob Storage.
//!
//! ```text
//! <prefix>/ferrowal.id                     the log's uuid, made once, exclusively
//! <prefix>/ferrowal.properties             the operator's overrides
//! <prefix>/ferrowal.raced                  the store that passed the race test
//! <prefix>/driver/<id>.seg                 segments: a header, and a group unless it is a fence
//! <prefix>/driver/alive/<uuid>             marks of drivers that wait for their turn
//! <prefix>/driver/alive/<fence>.<uuid>     the mark of the one that has the log
//! <prefix>/receivers/<uuid>/<id>.seg       the same for each process that wrote
//! <prefix>/receivers/<uuid>/alive          its mark
//! <prefix>/receivers/removed/<uuid>        writers whose every segment was cleaned
//! <prefix>/quarantine/                     copies of damaged bytes
//! ```

mod bucket;
mod clock;
mod connect;
#[cfg(all(test, not(loom)))]
pub(crate) mod far;
mod marks;
mod segments;
mod settle;
#[cfg(test)]
pub(crate) mod sim;
mod tasks;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use object_store::path::Path;
use once_cell::sync::{Lazy, OnceCell};
use uuid::Uuid;

use self::{
    bucket::{Bucket, PATIENCE},
    clock::StoreClock,
    marks::{Driver, Gone, Held, Mark, fence_of},
    segments::{Lasting, ObjectStorage},
    settle::Settled,
};
use super::{Claim, Home, Storage, Which, given_id, times::Times};
use crate::{
    error::{Error, Result},
    location::{Remote, StoreProperties},
    options::{Options, Takeover},
    planted::planted,
    sync,
};

const ID: &str = "ferrowal.id";
const RACED: &str = "ferrowal.raced";
/// Stores that stay connected.
const CONNECTED: usize = 8;
/// How often the marks of a live driver are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Removed writers that are remembered; a handle older than that many dead executors reads as missing, not as gone.
const REMOVED_KEPT: usize = 4096;
/// Bytes of a quarantined range that are kept.
const QUARANTINED: usize = 1 << 30;

/// A mark, with its last renewal in seconds since 1970 by the store's clock.
type Born = (i64, Path);
type Key = (Remote, StoreProperties);
type Store = (Key, Arc<Bucket>);

/// The stores of this process, the one used last at the end. Spark makes an instance of the log for each partition that
/// it reads: they share connections.
static STORES: Lazy<Mutex<Vec<Store>>> = Lazy::new(Mutex::default);

/// One application's prefix of a bucket.
#[derive(Debug)]
pub(crate) struct ObjectHome {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    remote: Remote,
    properties: StoreProperties,
    prefix: Path,
    most_put: u64,
    write_timeout: Duration,
    takeover: Takeover,
    times: Times,
    bucket: OnceCell<Arc<Bucket>>,
    marks: Mutex<HashMap<Which, Weak<Mark>>>,
    lasting: Mutex<HashMap<Which, Arc<Lasting>>>,
}

impl Inner {
    fn connected(&self) -> Option<&Arc<Bucket>> {
        self.bucket.get()
    }

    fn bucket(&self) -> Result<Arc<Bucket>> {
        self.bucket.get_or_try_init(|| connected(&self.remote, &self.properties)).cloned()
    }

    fn path(&self, name: &str) -> Path {
        self.prefix.clone().join(name)
    }

    fn below(&self, which: Which) -> Path {
        match which {
            Which::Driver => self.path("driver"),
            Which::Receiver(uuid) => self.path("receivers").join(uuid.to_string()),
        }
    }

    /// Where the drivers' marks are.
    fn alive(&self) -> Path {
        self.below(Which::Driver).join("alive")
    }

    fn mark(&self, which: Which) -> Option<Arc<Mark>> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner).get(&which).and_then(Weak::upgrade)
    }

    fn note_mark(&self, which: Which, mark: &Arc<Mark>) {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        marks.retain(|_, mark| mark.strong_count() > 0);
        marks.insert(which, Arc::downgrade(mark));
    }

    fn lasting(&self, which: Which) -> Arc<Lasting> {
        let mut lasting = self.lasting.lock().unwrap_or_else(PoisonError::into_inner);
        lasting.entry(which).or_default().clone()
    }
}

fn connected(remote: &Remote, properties: &StoreProperties) -> Result<Arc<Bucket>> {
    let key = (Remote { path: String::new(), ..remote.clone() }, properties.clone());
    let mut stores = STORES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(i) = stores.iter().position(|(k, _)| *k == key) {
        let found = stores.remove(i);
        let bucket = found.1.clone();
        stores.push(found);
        return Ok(bucket);
    }
    let bucket = Arc::new(connect::connect(remote, properties)?);
    if stores.len() == CONNECTED {
        stores.remove(0);
    }
    stores.push((key, bucket.clone()));
    Ok(bucket)
}

impl ObjectHome {
    /// Whether a writer's mark is held here.
    #[cfg(test)]
    pub(crate) fn has_mark(&self, which: Which) -> bool {
        self.inner.mark(which).is_some()
    }

    /// Connects to nothing yet.
    ///
    /// # Errors
    /// [`Error::Config`] for a prefix that no store takes.
    pub(crate) fn new(remote: Remote, options: &Options) -> Result<ObjectHome> {
        let prefix = Path::parse(&remote.path).map_err(|_| {
            Error::Config(format!("{remote} has characters that object stores do not take in names"))
        })?;
        let scale = options.store.get("ferrowal.test.timescale").and_then(|s| s.parse().ok()).unwrap_or(1);
        Ok(ObjectHome {
            inner: Arc::new(Inner {
                remote,
                properties: options.store.clone(),
                prefix,
                most_put: options.most_put,
                write_timeout: options.write_timeout,
                takeover: options.takeover,
                times: Times::divided_by(scale),
                bucket: OnceCell::new(),
                marks: Mutex::default(),
                lasting: Mutex::default(),
            }),
        })
    }

    /// The same in a store of a test's.
    #[cfg(test)]
    fn within(bucket: Arc<Bucket>, path: &str, options: &Options) -> Result<ObjectHome> {
        let remote = Remote { scheme: "s3".into(), authority: "test".into(), path: path.into() };
        let home = ObjectHome::new(remote, options)?;
        let _ = home.inner.bucket.set(bucket);
        Ok(home)
    }

    fn bucket(&self) -> Result<Arc<Bucket>> {
        self.inner.bucket()
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        match self.bucket()?.head(path, PATIENCE) {
            Ok(_) => Ok(true),
            Err(e) if e.is_not_found() => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Makes sure, once for each prefix and store, that of several creators one wins.
    fn race(&self) -> Result<()> {
        let bucket = self.bucket()?;
        let path = self.inner.path(RACED);
        if bucket.small(&path)?.is_some_and(|said| said == bucket.identity.as_bytes()) {
            return Ok(());
        }
        settle::race(&bucket, &self.inner.path("ferrowal.race"))?;
        bucket.put(&path, Bytes::from(bucket.identity.clone()), PATIENCE)
    }

    /// Marks of drivers but `ours`: those that live, the oldest first, and all.
    fn live_drivers(&self, ours: Option<&Path>) -> Result<(Vec<Born>, Vec<Path>)> {
        let bucket = self.bucket()?;
        let alive = self.inner.alive();
        let asked = bucket.asked(&self.inner.path(ID))?;
        let marks = bucket.list(&alive)?;
        let others = marks.iter().filter(|m| Some(&m.location) != ours);
        let all: Vec<Path> = others.clone().map(|m| m.location.clone()).collect();
        let limit = self.inner.times.driver_live;
        let mut live: Vec<Born> = others
            .map(|m| (m.last_modified.timestamp(), m.location.clone()))
            .filter(|(at, _)| StoreClock::between(*at, asked) < limit)
            .collect();
        live.sort();
        Ok((live, all))
    }

    fn await_drivers(&self, wait: Duration) -> Result<Vec<Path>> {
        let began = sync::now();
        loop {
            let (live, all) = self.live_drivers(None)?;
            let Some((_, mark)) = live.first() else { return Ok(all) };
            let waited = sync::now().saturating_duration_since(began);
            if waited >= wait {
                return Err(self.locked(mark, waited)?);
            }
            // Nobody tells when a mark grows old.
            sync::pause(LOOK.min(self.inner.times.driver_renewed).min(wait - waited));
        }
    }

    fn locked(&self, mark: &Path, waited: Duration) -> Result<Error> {
        let owner = match self.bucket()?.get(mark, 0..1024, PATIENCE) {
            Ok((text, _)) => String::from_utf8_lossy(&text).trim().to_owned(),
            Err(_) => "another driver".into(),
        };
        Ok(Error::Locked { place: self.place(), owner, waited })
    }

    fn claim_driver(&self, wait: Duration) -> Result<Box<dyn Claim>> {
        let bucket = self.bucket()?;
        let force = self.inner.takeover == Takeover::Force;
        let others = if force { self.live_drivers(None)?.1 } else { self.await_drivers(wait)? };
        let claim = Driver::new(&self.inner, others)?;
        let ours = claim.path();
        // Another may have begun at the same time: the older mark stays, the other one waits for its turn no longer. Nor if
        // the other has the log already, and its second mark.
        if !force {
            let (live, _) = self.live_drivers(Some(&ours))?;
            let born = bucket.head(&ours, PATIENCE)?.last_modified.timestamp();
            let first = |(at, path): &&Born| (*at, path) < (born, &ours) || fence_of(path).is_some();
            if let Some((_, mark)) = live.iter().find(first) {
                return Err(self.locked(mark, Duration::ZERO)?);
            }
        }
        Ok(Box::new(claim))
    }
}

impl Home for ObjectHome {
    fn place(&self) -> String {
        match self.inner.connected() {
            Some(bucket) => bucket.shown(&self.inner.prefix),
            None => self.inner.remote.to_string(),
        }
    }

    fn check(&self) -> Result<()> {
        self.log_id().map(drop)
    }

    fn log_id(&self) -> Result<Option<Uuid>> {
        let path = self.inner.path(ID);
        let bucket = self.bucket()?;
        let bytes = match bucket.get(&path, 0..1024, PATIENCE) {
            Ok((bytes, _)) => bytes,
            Err(e) if e.is_not_found() => return Ok(None),
            Err(e) => return Err(e),
        };
        let parsed = std::str::from_utf8(&bytes).ok().and_then(|text| Uuid::parse_str(text.trim()).ok());
        parsed.map(Some).ok_or_else(|| Error::Missing {
            what: format!("a readable uuid in {}", bucket.shown(&path)),
            hint: "the object is damaged; write the log's uuid into it again (every segment's header holds it, at byte 24)".into(),
        })
    }

    fn make_log_id(&self) -> Result<Uuid> {
        if let Some(id) = given_id(self)? {
            return Ok(id);
        }
        self.race()?;
        let id = sync::new_uuid();
        let body = Bytes::from(format!("{id}\n"));
        match settle::create(self.bucket()?.as_ref(), &self.inner.path(ID), &body, PATIENCE)? {
            Settled::Ours => Ok(id),
            Settled::Theirs(_) => self.log_id()?.ok_or_else(|| Error::Missing {
                what: format!("the log's uuid in {}", self.place()),
                hint: "it was there a moment ago: does somebody delete the log?".into(),
            }),
        }
    }

    fn small_file(&self, name: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.bucket()?.small(&self.inner.path(name))?.map(|bytes| bytes.to_vec()))
    }

    fn writers(&self) -> Result<Vec<Uuid>> {
        let found = self.bucket()?.folders(&self.inner.path("receivers"))?;
        Ok(found.iter().filter_map(|name| Uuid::parse_str(name).ok()).collect())
    }

    fn storage(&self, which: Which) -> Arc<dyn Storage> {
        Arc::new(ObjectStorage::new(self.inner.clone(), which))
    }

    fn claim(&self, which: Which, wait: Duration) -> Result<Box<dyn Claim>> {
        self.race()?;
        match which {
            Which::Driver => self.claim_driver(wait),
            Which::Receiver(_) => {
                let path = self.inner.below(which).join("alive");
                let every = self.inner.times.writer_renewed;
                let held = Held::new(&self.bucket()?, path, every, Some(self.inner.times.overdue))?;
                self.inner.note_mark(which, &held.mark);
                Ok(Box::new(held))
            }
        }
    }

    fn await_unclaimed(&self, which: Which, wait: Duration) -> Result<()> {
        match which {
            Which::Driver if self.inner.takeover == Takeover::Refuse => self.await_drivers(wait).map(drop),
            _ => Ok(()),
        }
    }

    fn claim_gone(&self, which: Which) -> Result<Option<Box<dyn Claim>>> {
        if which == Which::Driver {
            return Ok(None);
        }
        let bucket = self.bucket()?;
        // How old the mark was when it was looked for. Who is paused, and then sees in an old answer a mark that has not been
        // renewed since, must not take a writer that lives for gone.
        let asked = bucket.asked(&self.inner.path(ID))?;
        // The mark, and what a writer that closed, and removed its mark, has left.
        let objects = bucket.list(&self.inner.below(which))?;
        let Some(newest) = objects.iter().map(|o| o.last_modified.timestamp()).max() else { return Ok(None) };
        let asked = if planted!(AgeWhenAnswered) { bucket.clock.now() } else { asked };
        let gone = StoreClock::between(newest, asked) >= self.inner.times.gone;
        Ok(gone.then(|| Box::new(Gone) as Box<dyn Claim>))
    }

    fn note_removed(&self, writer: Uuid) -> Result<()> {
        let bucket = self.bucket()?;
        let removed = self.inner.path("receivers").join("removed");
        let mut notes = bucket.list(&removed)?;
        if notes.len() >= REMOVED_KEPT {
            notes.sort_by_key(|n| n.last_modified);
            let from = notes.len() + 1 - REMOVED_KEPT;
            bucket.delete(notes.drain(..from).map(|n| n.location).collect())?;
        }
        bucket.put(&removed.join(writer.to_string()), Bytes::from_static(b"cleaned\n"), PATIENCE)
    }

    fn remove_writer(&self, writer: Uuid, claim: Box<dyn Claim>) -> Result<()> {
        let path = self.inner.below(Which::Receiver(writer)).join("alive");
        self.bucket()?.delete(vec![path])?;
        drop(claim);
        Ok(())
    }

    fn was_removed(&self, writer: Uuid) -> Result<bool> {
        self.exists(&self.inner.path("receivers").join("removed").join(writer.to_string()))
    }

    fn quarantine(&self, label: &str, bytes: &mut dyn Iterator<Item = Result<Vec<u8>>>) -> Result<String> {
        let path = self.inner.path("quarantine").join(label);
        let bucket = self.bucket()?;
        if self.exists(&path)? {
            return Ok(bucket.shown(&path));
        }
        let mut body = Vec::new();
        for piece in bytes {
            body.extend_from_slice(&piece?);
            if body.len() > QUARANTINED {
                return Err(Error::Config(format!("{label} is too long to be kept aside")));
            }
        }
        bucket.put(&path, body.into(), PATIENCE * 4)?;
        Ok(bucket.shown(&path))
    }
}
