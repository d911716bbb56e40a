//! HDFS, through the JVM's own Hadoop client: its Kerberos, tokens, failover and encryption are the cluster's.
//!
//! ```text
//! <directory>/ferrowal.id                     the log's uuid, made once, exclusively
//! <directory>/ferrowal.properties             the operator's overrides
//! <directory>/driver/<id>.seg                 segments
//! <directory>/driver/alive/<uuid>-<who>       marks of live drivers
//! <directory>/receivers/<uuid>/<id>.seg       the same for each process that wrote
//! <directory>/receivers/<uuid>/alive          its mark
//! <directory>/receivers/removed/<uuid>        writers whose every segment was cleaned
//! <directory>/quarantine/                     copies of damaged bytes
//! ```
//!
//! Every call is a job for a Java thread ([`jobs`]). There is no lock: a driver creates the next segment exclusively and
//! then takes the leases of the older ones, so that an older driver can neither append nor roll ([`segments`]).

pub(crate) mod jobs;
mod marks;
#[cfg(test)]
#[allow(clippy::expect_used)]
mod scripted;
mod segments;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

use once_cell::sync::OnceCell;
use uuid::Uuid;

use self::{
    jobs::{Answer, Call, What, call},
    marks::{Gone, Held, Mark, NameNodeClock},
    segments::{HadoopStorage, Writing},
};
use super::{
    Claim, Home, Storage, Which, given_id,
    times::{Times, signature},
};
use crate::{
    error::{Error, Result},
    location::Remote,
    options::{Options, Takeover},
};

const ID: &str = "ferrowal.id";
/// The number under which Java knows the file system, and the user for whom it was opened.
const ROOT: &str = "ferrowal.hadoop.root";
/// `true` where `hflush` is enough.
const HFLUSH: &str = "ferrowal.hadoop.hflush";
/// As a rule, the bound on calls that no record waits for.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the marks of a live driver are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Removed writers that are remembered; a handle older than that many dead executors reads as missing, not as gone.
const REMOVED_KEPT: usize = 4096;
/// Bytes of `ferrowal.id` and `ferrowal.properties` that are read.
const SMALL: usize = 1 << 20;
/// Bytes of one piece of a copy.
const PIECE: usize = 1 << 20;

/// A mark, with its last renewal in milliseconds since 1970 by the name node's clock.
type Born = (i64, String);

/// One application's directory.
#[derive(Debug)]
pub(crate) struct HadoopHome {
    inner: Arc<Inner>,
}

/// What a listing says of a file.
#[derive(Debug, Clone)]
struct Found {
    name: String,
    length: u64,
    /// Milliseconds since 1970, by the name node's clock.
    changed: i64,
    /// Whether somebody has it open for writing, or had when he died.
    written: bool,
    is_dir: bool,
}

struct Inner {
    remote: Remote,
    dir: String,
    root: Option<i64>,
    /// Whether groups are made durable in the memory of all their DataNodes only.
    hflush: bool,
    write_timeout: Duration,
    takeover: Takeover,
    times: Times,
    connected: OnceCell<()>,
    clock: NameNodeClock,
    marks: Mutex<HashMap<Which, Weak<Mark>>>,
    /// Files that this process has open for writing, by path.
    writing: Mutex<HashMap<String, Arc<Writing>>>,
    /// Segments that this process tried to create without being told what became of it, by path.
    tried: Mutex<HashSet<String>>,
    /// Bound on calls that no record waits for.
    patience: Duration,
    /// The driver's segment that keeps older ones out: never deleted by its own writer.
    fence: Mutex<Option<u64>>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.remote)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    fn root(&self) -> Result<i64> {
        let root = self.root.ok_or_else(|| {
            Error::Config(format!(
                "{} is reached through the JVM's Hadoop client: open this log from Java (or Spark), with that client on the class path",
                self.remote
            ))
        })?;
        self.connected.get_or_try_init(|| {
            call(Call::new(root, What::Connect, format!("{}", self.remote)), self.patience).map(drop)
        })?;
        Ok(root)
    }

    fn ask(&self, what: What, path: &str, bound: Duration) -> Result<Answer> {
        call(Call::new(self.root()?, what, path), bound)
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.dir)
    }

    fn below(&self, which: Which) -> String {
        match which {
            Which::Driver => self.path("driver"),
            Which::Receiver(uuid) => self.path(&format!("receivers/{uuid}")),
        }
    }

    fn shown(&self, path: &str) -> String {
        format!("{}://{}{path}", self.remote.scheme, self.remote.authority)
    }

    fn mark(&self, which: Which) -> Option<Arc<Mark>> {
        locked(&self.marks).get(&which).and_then(Weak::upgrade)
    }

    fn let_go_of_writing(&self, which: Which) {
        let below = self.below(which) + "/";
        let gone: Vec<_> = {
            let mut writing = locked(&self.writing);
            let paths: Vec<String> = writing.keys().filter(|p| p.starts_with(&below)).cloned().collect();
            paths.iter().filter_map(|p| writing.remove(p)).collect()
        };
        // Closed by going, without the lock.
        drop(gone);
        locked(&self.tried).retain(|path| !path.starts_with(&below));
    }

    /// Writes a small file that is not there; gives the name node's time.
    fn put(&self, path: &str, bytes: Vec<u8>) -> Result<i64> {
        let asked = Call { bytes, ..Call::new(self.root()?, What::Put, path) };
        Ok(call(asked, self.patience)?.number)
    }

    /// Gives a file that is there the name node's time, and gives that; none where it is not there, and then nothing is
    /// made: whoever removed it must not see it again, however late this comes.
    fn renew(&self, path: &str) -> Result<Option<i64>> {
        found(self.ask(What::Renew, path, self.patience).map(|a| a.number))
    }

    /// A small file, if it is there.
    fn get(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let asked = Call { room: SMALL, ..Call::new(self.root()?, What::Get, path) };
        found(call(asked, self.patience).map(|a| a.bytes))
    }

    /// When a file was changed, if it is there.
    fn time(&self, path: &str) -> Result<Option<i64>> {
        found(self.ask(What::Time, path, self.patience).map(|a| a.number))
    }

    fn delete(&self, path: &str) -> Result<bool> {
        self.delete_within(path, self.patience)
    }

    fn delete_within(&self, path: &str, bound: Duration) -> Result<bool> {
        Ok(found(self.ask(What::Delete, path, bound))?.is_some_and(|a| a.number == 1))
    }

    fn make_dirs(&self, path: &str) -> Result<()> {
        self.ask(What::MakeDirs, path, self.patience).map(drop)
    }

    /// Gives a file its name, unless that is taken. Whether it was not.
    fn rename(&self, from: &str, to: &str) -> Result<bool> {
        let asked = Call { other: to.to_owned(), ..Call::new(self.root()?, What::Rename, from) };
        Ok(call(asked, self.patience)?.number == 1)
    }

    /// What is in a directory; nothing where there is none.
    fn list(&self, dir: &str) -> Result<Vec<Found>> {
        let Some(answer) = found(self.ask(What::List, dir, self.patience))? else { return Ok(Vec::new()) };
        let parse = |line: &String| {
            let mut parts = line.splitn(4, ' ');
            let (length, changed) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            let kind = parts.next()?;
            let name = parts.next()?.to_owned();
            Some(Found { name, length, changed, written: kind == "w", is_dir: kind == "d" })
        };
        let all: Option<Vec<Found>> = answer.names.iter().map(parse).collect();
        all.ok_or_else(|| Error::Internal("a listing that cannot be read".into()))
    }

    /// Takes a file from whoever has it open, or had when he died; gives its length, which no other writer changes any
    /// more.
    fn recover(&self, path: &str) -> Result<u64> {
        let answer = self.ask(What::Recover, path, self.patience)?;
        Ok(u64::try_from(answer.number).unwrap_or(0))
    }

    /// Takes every open segment of a writer but `own`.
    fn recover_all(&self, which: Which, own: Option<&str>) -> Result<()> {
        let below = self.below(which);
        let open = self.list(&below)?.into_iter().filter(|f| f.written && f.name.ends_with(".seg"));
        for file in open.filter(|f| Some(f.name.as_str()) != own) {
            match self.recover(&format!("{below}/{}", file.name)) {
                Err(e) if e.is_not_found() => {}
                other => drop(other?),
            }
        }
        Ok(())
    }

    /// Milliseconds since 1970 by the name node's clock. Asks it, if it has not said so lately, by making a file.
    fn now(&self) -> Result<i64> {
        if let Some(now) = self.clock.now() {
            return Ok(now);
        }
        let probe = self.path(&format!("clock-{}", Uuid::new_v4()));
        let time = self.put(&probe, Vec::new())?;
        self.clock.note(time);
        self.delete(&probe)?;
        Ok(time)
    }

    fn age(&self, then: i64) -> Result<Duration> {
        Ok(Duration::from_millis(u64::try_from(self.now()?.saturating_sub(then)).unwrap_or(0)))
    }
}

/// Nothing where there is nothing.
fn found<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => Err(e),
    }
}

impl HadoopHome {
    /// Connects to nothing yet.
    pub(crate) fn new(remote: Remote, options: &Options) -> HadoopHome {
        let number = |key: &str| options.store.get(key).and_then(|s| s.parse::<i64>().ok());
        let scale = number("ferrowal.test.timescale").and_then(|s| u32::try_from(s).ok()).unwrap_or(1);
        HadoopHome {
            inner: Arc::new(Inner {
                dir: format!("/{}", remote.path),
                remote,
                root: number(ROOT),
                hflush: options.store.get(HFLUSH) == Some("true"),
                write_timeout: options.write_timeout,
                takeover: options.takeover,
                times: Times::divided_by(scale),
                connected: OnceCell::new(),
                clock: NameNodeClock::default(),
                marks: Mutex::default(),
                writing: Mutex::default(),
                tried: Mutex::default(),
                patience: number("ferrowal.test.patience")
                    .and_then(|millis| u64::try_from(millis).ok())
                    .map_or(PATIENCE, Duration::from_millis),
                fence: Mutex::default(),
            }),
        }
    }

    fn alive(&self) -> String {
        self.inner.below(Which::Driver) + "/alive"
    }

    /// Marks of drivers but `ours`: those that live, the oldest first, and all.
    fn live_drivers(&self, ours: Option<&str>) -> Result<(Vec<Born>, Vec<String>)> {
        let mut live = Vec::new();
        let mut all = Vec::new();
        for mark in self.inner.list(&self.alive())? {
            let path = format!("{}/{}", self.alive(), mark.name);
            if Some(path.as_str()) == ours {
                continue;
            }
            if self.inner.age(mark.changed)? < self.inner.times.driver_live {
                live.push((mark.changed, path.clone()));
            }
            all.push(path);
        }
        live.sort();
        Ok((live, all))
    }

    fn await_drivers(&self, wait: Duration) -> Result<Vec<String>> {
        let began = Instant::now();
        loop {
            let (live, all) = self.live_drivers(None)?;
            let Some((_, mark)) = live.first() else { return Ok(all) };
            let waited = began.elapsed();
            if waited >= wait {
                return Err(self.locked_by(mark, waited));
            }
            // Nobody tells when a mark grows old.
            thread::sleep(LOOK.min(self.inner.times.driver_renewed).min(wait - waited));
        }
    }

    fn locked_by(&self, mark: &str, waited: Duration) -> Error {
        // The uuid's 36 characters and a dash come before who it is.
        let owner = mark.rsplit('/').next().and_then(|name| name.get(37..)).unwrap_or("another driver");
        Error::Locked { place: self.place(), owner: owner.replace('_', " "), waited }
    }

    fn claim_driver(&self, wait: Duration) -> Result<Box<dyn Claim>> {
        let inner = &self.inner;
        let force = inner.takeover == Takeover::Force;
        inner.make_dirs(&self.alive())?;
        let others = if force { self.live_drivers(None)?.1 } else { self.await_drivers(wait)? };
        let plain = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
        let who: String = signature().chars().map(|c| if plain(c) { c } else { '_' }).collect();
        let ours = format!("{}/{}-{who}", self.alive(), Uuid::new_v4());
        let held = Held::new(inner, Which::Driver, ours.clone(), others)?;
        // Another may have begun at the same time: the older mark stays, the other one waits for its turn no longer.
        if !force {
            let (live, _) = self.live_drivers(Some(&ours))?;
            let born = inner.time(&ours)?.unwrap_or(i64::MAX);
            if let Some((_, mark)) = live.first().filter(|(at, path)| (*at, path) < (born, &ours)) {
                return Err(self.locked_by(mark, Duration::ZERO));
            }
        }
        locked(&inner.marks).insert(Which::Driver, Arc::downgrade(&held.mark));
        Ok(Box::new(held))
    }
}

impl Home for HadoopHome {
    fn place(&self) -> String {
        self.inner.remote.to_string()
    }

    fn check(&self) -> Result<()> {
        self.log_id().map(drop)
    }

    fn log_id(&self) -> Result<Option<Uuid>> {
        let path = self.inner.path(ID);
        let Some(bytes) = self.inner.get(&path)? else { return Ok(None) };
        let parsed = std::str::from_utf8(&bytes).ok().and_then(|text| Uuid::parse_str(text.trim()).ok());
        parsed.map(Some).ok_or_else(|| Error::Missing {
            what: format!("a readable uuid in {}", self.inner.shown(&path)),
            hint: "the file is damaged; write the log's uuid into it again (every segment's header holds it, at byte 24)".into(),
        })
    }

    fn make_log_id(&self) -> Result<Uuid> {
        if let Some(id) = given_id(self)? {
            return Ok(id);
        }
        let inner = &self.inner;
        inner.make_dirs(&inner.dir)?;
        let id = Uuid::new_v4();
        let temp = inner.path(&format!("{ID}.{id}"));
        inner.put(&temp, format!("{id}\n").into_bytes())?;
        // Whole when it has its name, which is refused to all but the first.
        let ours = inner.rename(&temp, &inner.path(ID));
        if !matches!(ours, Ok(true)) {
            inner.delete(&temp)?;
        }
        ours?;
        self.log_id()?.ok_or_else(|| Error::Missing {
            what: format!("the log's uuid in {}", self.place()),
            hint: "it was there a moment ago: does somebody delete the log?".into(),
        })
    }

    fn small_file(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.inner.get(&self.inner.path(name))
    }

    fn writers(&self) -> Result<Vec<Uuid>> {
        let found = self.inner.list(&self.inner.path("receivers"))?;
        Ok(found.iter().filter(|f| f.is_dir).filter_map(|f| Uuid::parse_str(&f.name).ok()).collect())
    }

    fn storage(&self, which: Which) -> Arc<dyn Storage> {
        Arc::new(HadoopStorage::new(self.inner.clone(), which))
    }

    fn claim(&self, which: Which, wait: Duration) -> Result<Box<dyn Claim>> {
        if which == Which::Driver {
            return self.claim_driver(wait);
        }
        let below = self.inner.below(which);
        self.inner.make_dirs(&below)?;
        let held = Held::new(&self.inner, which, below + "/alive", Vec::new())?;
        let mut marks = locked(&self.inner.marks);
        marks.retain(|_, mark| mark.strong_count() > 0);
        marks.insert(which, Arc::downgrade(&held.mark));
        drop(marks);
        Ok(Box::new(held))
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
        // The mark, and what a writer that closed, and removed its mark, has left.
        let files = self.inner.list(&self.inner.below(which))?;
        let Some(newest) = files.iter().map(|f| f.changed).max() else { return Ok(None) };
        if self.inner.age(newest)? < self.inner.times.gone {
            return Ok(None);
        }
        // Who was paused since it listed them has seen old times, and must not take a writer that lives for gone.
        if self.inner.list(&self.inner.below(which))?.iter().any(|f| f.changed > newest) {
            return Ok(None);
        }
        // What is concluded from its segments must not change any more.
        self.inner.recover_all(which, None)?;
        Ok(Some(Box::new(Gone)))
    }

    fn note_removed(&self, writer: Uuid) -> Result<()> {
        let removed = self.inner.path("receivers/removed");
        self.inner.make_dirs(&removed)?;
        let mut notes = self.inner.list(&removed)?;
        if notes.len() >= REMOVED_KEPT {
            notes.sort_by_key(|n| n.changed);
            let most = notes.len() + 1 - REMOVED_KEPT;
            for note in notes.iter().take(most) {
                self.inner.delete(&format!("{removed}/{}", note.name))?;
            }
        }
        match self.inner.put(&format!("{removed}/{writer}"), Vec::new()) {
            // An earlier try has noted it.
            Err(e) if e.is_exists() => Ok(()),
            noted => noted.map(drop),
        }
    }

    fn remove_writer(&self, writer: Uuid, claim: Box<dyn Claim>) -> Result<()> {
        self.inner.delete(&self.inner.below(Which::Receiver(writer)))?;
        drop(claim);
        Ok(())
    }

    fn was_removed(&self, writer: Uuid) -> Result<bool> {
        Ok(self.inner.time(&self.inner.path(&format!("receivers/removed/{writer}")))?.is_some())
    }

    fn quarantine(&self, label: &str, bytes: &mut dyn Iterator<Item = Result<Vec<u8>>>) -> Result<String> {
        let inner = &self.inner;
        let dir = inner.path("quarantine");
        let path = format!("{dir}/{label}");
        if inner.time(&path)?.is_some() {
            return Ok(inner.shown(&path));
        }
        inner.make_dirs(&dir)?;
        let temp = format!("{path}.{}", Uuid::new_v4());
        let file = Writing::create(inner, &temp, Vec::new(), inner.patience)?;
        let mut at = 0;
        let copy = || {
            for piece in bytes {
                let piece = piece?;
                for part in piece.chunks(PIECE) {
                    file.append(at, part.to_vec(), 0, inner.patience)?;
                    at += part.len() as u64;
                }
            }
            file.append(at, Vec::new(), 1, inner.patience)?;
            file.close(inner.patience)
        };
        let copied = copy();
        // Another that keeps the same bytes aside at the same time has made the same copy.
        if copied.is_err() || !inner.rename(&temp, &path)? {
            inner.delete(&temp)?;
        }
        copied?;
        Ok(inner.shown(&path))
    }
}

/// An error of a file that is there already.
fn exists(path: String) -> Error {
    Error::io("create", path, io::ErrorKind::AlreadyExists.into())
}
