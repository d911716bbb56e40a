//! What the instances of one directory and role share in a process, and when it is opened and let go.
//!
//! Spark makes an instance per receiver, and one per partition that is read back: new, read, close. So instances are
//! light, what is open lingers for a while after the last one was closed, and the last one seals the log.

use std::{
    collections::HashMap,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use once_cell::sync::{Lazy, OnceCell};
use uuid::Uuid;

use super::{
    RecordSource,
    analysis::{Scope, analyse, check_version},
    read::{At, Reader},
    recover::{raise, recover},
    scan::{Scan, Source, began},
    summary::Summary,
    threshold::{LAG, Thresholds},
    writer::Writer,
};
use crate::{
    codec::Coder,
    error::{Error, Result},
    handle::RecordHandle,
    location::{Location, Place},
    metrics::Metrics,
    options::{Options, Recovery, Role},
    planted::planted,
    report::RecoveryReport,
    storage::{self, Claim, Home, Storage, Which},
    sync,
};

/// Who has waited as long as was asked for, but for this, in line behind others who waited for the log's owner, need not ask.
const CLAIM_SLACK: Duration = Duration::from_millis(100);

/// Everything open in this process, by directory and role.
static OPEN: Lazy<Registry> = Lazy::new(Registry::default);

#[derive(Default)]
struct Registry {
    entries: Mutex<Entries>,
    changed: Condvar,
}

#[derive(Default)]
struct Entries {
    by_key: HashMap<(Location, Role), Entry>,
    janitor: bool,
}

struct Entry {
    shared: Arc<Shared>,
    instances: usize,
    /// When the last instance was closed.
    idle: Option<Instant>,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What instances with these options share. The first one's options count while it is open.
///
/// # Errors
/// [`Error::Config`] where records are to be encrypted, and the first one does not: nobody would see that they are not.
pub(crate) fn acquire(options: Options) -> Result<Arc<Shared>> {
    let key = (options.dir.canonical(), options.role);
    let lingers = OPEN.lock().by_key.get(&key).filter(|e| e.instances == 0).map(|e| e.shared.clone());
    // Not under the lock: a file system may hang, and it is everybody's.
    let gone = lingers.filter(|shared| shared.is_another_there());
    let mut entries = OPEN.lock();
    if let Some(entry) = entries.by_key.get_mut(&key) {
        let same = entry.shared.options == options;
        // One that was taken over stays so; who opens it anew takes it over in turn.
        let lost = entry.shared.lost.get().is_some();
        let is_gone = gone.as_ref().is_some_and(|gone| Arc::ptr_eq(gone, &entry.shared));
        if entry.instances > 0 || (same && !lost && !is_gone) {
            if options.keys.current().is_some() && entry.shared.options.keys.current().is_none() {
                return Err(Error::Config(format!(
                    "{} is open in this process, and what is written there is not encrypted: give every context of the process the same spark.ferrowal.encryption.key, or close the other one first",
                    key.0
                )));
            }
            if options.keys.is_required() && !entry.shared.options.keys.is_required() {
                return Err(Error::Config(format!(
                    "{} is open in this process without spark.ferrowal.encryption.required: set it alike for every context of the process, or close the other one first",
                    key.0
                )));
            }
            if !same {
                log::warn!("{}: already open in this process with other options; those count", key.0);
            }
            entry.instances += 1;
            entry.idle = None;
            return Ok(entry.shared.clone());
        }
    }
    let shared = Arc::new(Shared::new(options)?);
    let before = entries.by_key.insert(key, Entry { shared: shared.clone(), instances: 1, idle: None });
    drop(entries);
    if let Some(entry) = before {
        entry.shared.reader.let_go_of_all();
    }
    Ok(shared)
}

/// What instances of the same directory share now: not the same, if everything was let go and opened again since.
pub(crate) fn current(shared: &Arc<Shared>) -> Arc<Shared> {
    let key = (shared.options.dir.canonical(), shared.options.role);
    let entries = OPEN.lock();
    entries.by_key.get(&key).filter(|e| e.instances > 0).map_or_else(|| shared.clone(), |e| e.shared.clone())
}

/// An instance was closed. The last one seals the log; its files linger.
pub(crate) fn release(shared: &Arc<Shared>, was_used: bool) {
    if was_used {
        shared.used.fetch_sub(1, Ordering::AcqRel);
    }
    let last = {
        let mut entries = OPEN.lock();
        let entry = entries.by_key.values_mut().find(|e| Arc::ptr_eq(&e.shared, shared));
        entry.is_none_or(|entry| {
            entry.instances = entry.instances.saturating_sub(1);
            entry.idle = (entry.instances == 0).then(Instant::now);
            entry.instances == 0
        })
    };
    if last {
        shared.close_writer();
        linger();
    }
}

/// Sees to it that what lingers is let go in time.
fn linger() {
    let mut entries = OPEN.lock();
    if entries.janitor {
        OPEN.changed.notify_one();
        return;
    }
    let started = thread::Builder::new().name("ferrowal-linger".into()).spawn(sweep);
    entries.janitor = started.is_ok();
    if started.is_err() {
        // Without a thread nothing can linger.
        entries.by_key.retain(|_, e| e.idle.is_none());
    }
}

fn sweep() {
    let mut entries = OPEN.lock();
    loop {
        let now = Instant::now();
        let due = |e: &Entry| e.idle.map(|t| t + e.shared.options.linger);
        let expired: Vec<_> = entries
            .by_key
            .iter()
            .filter(|(_, e)| due(e).is_some_and(|d| d <= now))
            .map(|(k, _)| k.clone())
            .collect();
        let gone: Vec<Option<Entry>> = expired.iter().map(|k| entries.by_key.remove(k)).collect();
        if !gone.is_empty() {
            // Files are closed without the lock, and also where a closed instance is still referred to.
            drop(entries);
            gone.iter().flatten().for_each(|e| e.shared.reader.let_go_of_all());
            drop(gone);
            entries = OPEN.lock();
            continue;
        }
        let Some(next) = entries.by_key.values().filter_map(due).min() else {
            entries.janitor = false;
            return;
        };
        let wait = next.saturating_duration_since(now).max(Duration::from_millis(1));
        entries = OPEN.changed.wait_timeout(entries, wait).unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// One directory and role.
#[derive(Debug)]
pub(crate) struct Shared {
    options: Options,
    home: Arc<dyn Home>,
    id: OnceCell<Uuid>,
    /// Held while the writer is opened or closed, never while a record is written.
    changing: sync::Patient,
    writer: RwLock<Option<Arc<Writer>>>,
    summary: Mutex<Option<Summary>>,
    reader: Arc<Reader>,
    /// Open instances that did something.
    used: AtomicUsize,
    /// Why this process must not write to the log any more.
    lost: OnceCell<Error>,
    /// When the last attempt to open the log ended because it has another owner, and what that one was told.
    refused: Mutex<Option<(Instant, Error)>>,
    /// Whether it was said why the log cannot be opened for writing on a full volume: each write tries.
    full_told: AtomicBool,
    report: Arc<Mutex<Option<RecoveryReport>>>,
    /// Thresholds that came before there was a writer.
    noted: Mutex<Vec<i64>>,
}

impl Shared {
    fn new(options: Options) -> Result<Shared> {
        let home = storage::home(&options)?;
        Ok(Shared::with_home(options, home))
    }

    /// The same in a home of any kind.
    pub(crate) fn with_home(options: Options, home: Arc<dyn Home>) -> Shared {
        Shared {
            home,
            id: OnceCell::new(),
            changing: sync::Patient::default(),
            writer: RwLock::default(),
            summary: Mutex::default(),
            reader: Arc::new(Reader::new(options.linger)),
            used: AtomicUsize::new(0),
            lost: OnceCell::new(),
            refused: Mutex::default(),
            full_told: AtomicBool::new(false),
            report: Arc::default(),
            noted: Mutex::default(),
            options,
        }
    }

    /// Whether a log that lingers is surely not the one in its directory any more: somebody has deleted that, and perhaps begun
    /// anew. It is asked where asking costs nothing.
    fn is_another_there(&self) -> bool {
        let is_local = matches!(self.options.dir.place(), Ok(Place::Local(_)));
        let Some(id) = self.id.get().filter(|_| is_local) else { return false };
        matches!(self.home.log_id(), Ok(found) if found != Some(*id))
    }

    /// An instance does something for the first time.
    pub(crate) fn begin_use(&self) {
        self.used.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn is_receivers(&self) -> bool {
        self.options.role == Role::Receivers
    }

    pub(crate) fn report(&self) -> Option<RecoveryReport> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is counted of logs of this role.
    pub(crate) fn metrics(&self) -> &'static Metrics {
        Metrics::of(self.options.role)
    }

    /// Groups that wait for the device, and cleans that wait for their turn.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> Option<(usize, usize)> {
        self.writer().map(|w| w.waiting())
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.home.check()?;
        if self.options.role == Role::Driver && self.writer().is_none() {
            self.home.await_unclaimed(Which::Driver, self.options.lock_wait)?;
            let storage = self.home.storage(Which::Driver);
            check_version(storage.as_ref())?;
            // Spark turns what a driver's write answers into warnings: damage must be said before.
            if let (Some(log), true) = (self.log_id()?, self.options.recovery != Recovery::Salvage) {
                let deep = self.options.recovery == Recovery::Strict;
                let found = analyse(storage.as_ref(), Scope { log, deep, settle: true, ..Scope::default() })?;
                if let Some((_, corruption)) = found.corruptions().next() {
                    return Err(corruption);
                }
            }
        }
        Ok(())
    }

    fn writer(&self) -> Option<Arc<Writer>> {
        self.writer.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_writer(&self, writer: Option<Arc<Writer>>) -> Option<Arc<Writer>> {
        let mut slot = self.writer.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *slot, writer)
    }

    fn changing(&self) -> sync::Patiently<'_> {
        self.changing.lock()
    }

    /// Appends through the open writer, opening it if need be; for a closed instance without siblings, by a writer
    /// that lives for this record only.
    pub(crate) fn append(
        &self,
        source: &mut dyn RecordSource,
        time: i64,
        fresh: bool,
        closed: impl Fn() -> bool,
    ) -> Result<RecordHandle> {
        loop {
            let writer = self.usable_writer(fresh, closed())?;
            match writer.append(source, time) {
                // It was closed between the look and the call.
                Err(Error::Closed(_)) => {}
                Err(error @ Error::Fenced { .. }) => self.fenced(&writer, error)?,
                result => {
                    if writer.is_temporary() {
                        self.close_temporary();
                    }
                    return result;
                }
            }
        }
    }

    /// The open writer, or a new one. One that was opened for a closed instance's record is only for such records.
    fn usable_writer(&self, fresh: bool, closed: bool) -> Result<Arc<Writer>> {
        if let Some(error) = self.lost.get() {
            return Err(error.clone());
        }
        let fits = |w: &Arc<Writer>| closed || !w.is_temporary();
        if let Some(writer) = self.writer().filter(fits) {
            return Ok(writer);
        }
        let changing = self.changing();
        if let Some(writer) = self.writer() {
            if fits(&writer) {
                return Ok(writer);
            }
            self.set_writer(None);
            writer.close();
        }
        let fresh = fresh && self.options.role == Role::Driver && self.used.load(Ordering::Acquire) <= 1;
        let started = self.start_writer(fresh, !closed, changing.waited).map_err(|e| self.without_space(e));
        if let Err(error @ Error::Fenced { .. }) = &started
            && self.options.role == Role::Driver
        {
            let _ = self.lost.set(error.clone());
        }
        let writer = Arc::new(started?);
        if !closed {
            for threshold in std::mem::take(&mut *self.noted()) {
                writer.clean(threshold, false)?;
            }
        }
        if !closed && !self.options.summary.is_zero() {
            let place = self.home.storage(writer.which()).place();
            let summary = Summary::start(place, self.options.role, self.options.summary)?;
            *self.summary.lock().unwrap_or_else(PoisonError::into_inner) = Some(summary);
        }
        self.full_told.store(false, Ordering::Relaxed);
        self.set_writer(Some(writer.clone()));
        Ok(writer)
    }

    /// A volume that is full before there is a writer is told as a writer tells it. Nothing is waited for: the writer that would
    /// try again, and be woken by a clean, is not there yet.
    fn without_space(&self, error: Error) -> Error {
        match error {
            Error::Io { .. } if error.is_full() => {
                if !self.full_told.swap(true, Ordering::Relaxed) {
                    log::warn!("{}: the log cannot be opened for writing: {error}", self.home.place());
                }
                Error::StorageFull { place: self.home.place(), waited: Duration::ZERO }
            }
            other => other,
        }
    }

    /// A writer was fenced. A driver's log has another owner now, and never takes back; an executor goes on under a name of
    /// its own, and sends the record again: nothing of it was acknowledged.
    fn fenced(&self, writer: &Arc<Writer>, error: Error) -> Result<()> {
        if self.options.role == Role::Driver {
            let _ = self.lost.set(error.clone());
            return Err(error);
        }
        log::warn!("{}: beginning anew as another writer: {error}", self.home.place());
        let _changing = self.changing();
        if self.writer().is_some_and(|open| Arc::ptr_eq(&open, writer)) {
            self.set_writer(None);
            writer.close();
        }
        Ok(())
    }

    fn close_temporary(&self) {
        let _changing = self.changing();
        if let Some(writer) = self.writer().filter(|w| w.is_temporary()) {
            self.set_writer(None);
            writer.close();
        }
    }

    fn noted(&self) -> MutexGuard<'_, Vec<i64>> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start_writer(&self, fresh: bool, prepare: bool, in_line: Duration) -> Result<Writer> {
        let log = self.log_id_made()?;
        let writer = sync::new_uuid();
        let which = match self.options.role {
            Role::Driver => Which::Driver,
            Role::Receivers => Which::Receiver(writer),
        };
        let claim = self.claim(which, in_line)?;
        let storage = self.home.storage(which);
        let fenced = which == Which::Driver && storage.traits().fenced;
        let coding = Coder::new(&self.options).coding();
        let fence = if fenced && !planted!(ReadBeforeFence) {
            Some(raise(storage.as_ref(), log, writer, coding)?)
        } else {
            None
        };
        claim.taken()?;
        let scope = Scope { log, writer: None, ..Scope::default() };
        let start = (fresh, fence);
        let policy = (self.options.recovery, &self.options.keys);
        let mut recovered = recover(self.home.as_ref(), storage.as_ref(), which, policy, scope, start)?;
        if let (true, true) = (planted!(ReadBeforeFence), fenced) {
            let fence = raise(storage.as_ref(), log, writer, coding)?;
            (recovered.next_id, recovered.epoch) = (fence.id + 1, fence.epoch);
        }
        self.count_others(which, &mut recovered.report);
        // A writer for one record says only what it met.
        if prepare || recovered.report.segments > 0 {
            log::info!("{}", recovered.report);
        }
        self.metrics().recovered(&recovered.report);
        *self.report.lock().unwrap_or_else(PoisonError::into_inner) = Some(recovered.report.clone());
        let homes = (self.home.clone(), self.reader.clone());
        Writer::start(&self.options, homes, which, (log, writer), claim, recovered, prepare)
    }

    /// Claims the log, and waits for another owner. Those who wrote at once come here one after the other: as far as those
    /// before waited for that owner while this one was `in_line`, it has waited, too. Otherwise the tenth of them would be
    /// told after ten times [`Options::lock_wait`].
    fn claim(&self, which: Which, in_line: Duration) -> Result<Box<dyn Claim>> {
        let refused = || self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = Duration::ZERO;
        if !in_line.is_zero()
            && let Some((until, Error::Locked { place, owner, .. })) = &*refused()
        {
            // What ends with this error begins with a wait, and goes on until it fails.
            before = in_line.saturating_sub(until.elapsed());
            if before + CLAIM_SLACK >= self.options.lock_wait && !before.is_zero() {
                return Err(Error::Locked { place: place.clone(), owner: owner.clone(), waited: before });
            }
        }
        let claimed = self.home.claim(which, self.options.lock_wait.saturating_sub(before));
        claimed.map_err(|error| match error {
            Error::Locked { place, owner, waited } => {
                let error = Error::Locked { place, owner, waited: waited + before };
                *refused() = Some((Instant::now(), error.clone()));
                error
            }
            other => other,
        })
    }

    /// Counts the other writers of receivers, and those that are gone.
    fn count_others(&self, own: Which, report: &mut RecoveryReport) {
        let Which::Receiver(own) = own else { return };
        if self.home.storage(Which::Receiver(own)).traits().fenced {
            return;
        }
        // Nothing hangs on it but what people are told.
        let writers = self.home.writers().unwrap_or_else(|e| {
            log::warn!("cannot count the other writers: {e}");
            Vec::new()
        });
        for other in writers.into_iter().filter(|w| *w != own) {
            report.others += 1;
            // Held for a moment only. Who cannot be asked is not known to be gone.
            let gone = matches!(self.home.claim_gone(Which::Receiver(other)), Ok(Some(_)));
            report.orphans += u64::from(gone);
        }
    }

    fn log_id_made(&self) -> Result<Uuid> {
        self.id.get_or_try_init(|| self.home.make_log_id()).copied()
    }

    /// The log's uuid, if there is a log; asked again until there is one.
    fn log_id(&self) -> Result<Option<Uuid>> {
        if let Some(id) = self.id.get() {
            return Ok(Some(*id));
        }
        let found = self.home.log_id()?;
        Ok(found.map(|id| *self.id.get_or_init(|| id)))
    }

    /// The log's uuid; none if there is nothing at all.
    fn log_id_of_segments(&self) -> Result<Option<Uuid>> {
        if let Some(id) = self.log_id()? {
            return Ok(Some(id));
        }
        let anything = match self.options.role {
            Role::Driver => !self.home.storage(Which::Driver).list()?.is_empty(),
            Role::Receivers => !self.home.writers()?.is_empty(),
        };
        if !anything {
            return Ok(None);
        }
        // A first writer makes the uuid before anything else, but both may have come after the first look.
        self.log_id()?.map(Some).ok_or_else(|| storage::no_id(self.home.as_ref()))
    }

    fn close_writer(&self) {
        let _changing = self.changing();
        if let Some(writer) = self.set_writer(None) {
            writer.close();
            drop(self.summary.lock().unwrap_or_else(PoisonError::into_inner).take());
            // The next instance tells its own.
            *self.report.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    pub(crate) fn clean(&self, threshold: i64, wait: bool, may_open: bool) -> Result<()> {
        self.reader.let_go();
        if let Some(writer) = self.writer() {
            return writer.clean(threshold, wait);
        }
        {
            let mut noted = self.noted();
            if noted.last().is_none_or(|last| threshold > *last) {
                noted.push(threshold);
                // No more than these can matter when they are replayed.
                let superfluous = noted.len().saturating_sub(LAG + 1);
                noted.drain(..superfluous);
            }
        }
        if wait && may_open && self.log_id()?.is_some() {
            // Somebody waits for space to be freed, so the log is opened for it.
            return self.usable_writer(false, false)?.clean(threshold, true);
        }
        Ok(())
    }

    /// The effective threshold of cleans that came before there was a writer.
    fn noted_threshold(&self) -> i64 {
        let mut thresholds = Thresholds::new(self.options.clean_grace, i64::MIN);
        self.noted().iter().for_each(|t| thresholds.note(*t));
        thresholds.effective()
    }

    pub(crate) fn scan(&self) -> Result<Scan> {
        // Where the directory is gone that it writes to, what is found there now is no answer.
        if let Some(writer) = self.writer() {
            writer.check_claim()?;
        }
        let Some(log) = self.log_id_of_segments()? else {
            return Ok(Scan::new(Vec::new(), self.options.recovery));
        };
        let live = self.writer();
        // Whoever's records they are: below the threshold of this application nothing is given.
        let threshold = live.as_ref().map_or_else(|| self.noted_threshold(), |l| l.threshold());
        let deep = self.options.recovery == Recovery::Strict;
        let mut found: Vec<(Which, Arc<dyn Storage>)> = match self.options.role {
            Role::Driver => vec![(Which::Driver, self.home.storage(Which::Driver))],
            Role::Receivers => {
                let writers = self.home.writers()?.into_iter().map(Which::Receiver);
                let mut all: Vec<_> = writers
                    .map(|which| {
                        let storage = self.home.storage(which);
                        began(storage.as_ref()).map(|t| (t, which, storage))
                    })
                    .collect::<Result<_>>()?;
                all.sort_by_key(|(t, which, _)| (*t, format!("{which:?}")));
                all.into_iter().map(|(_, which, storage)| (which, storage)).collect()
            }
        };
        let sources = found.drain(..).map(|(which, storage)| {
            let (writer, own) = match which {
                Which::Driver => (None, true),
                Which::Receiver(uuid) => {
                    (Some(uuid), live.as_ref().is_some_and(|l| l.identity().writer == uuid))
                }
            };
            let live = live.as_ref().filter(|_| own);
            let home = self.home.clone();
            // A scan that is open keeps no writer from going.
            let writing = live.map(Arc::downgrade).unwrap_or_default();
            Source {
                storage,
                scope: Scope {
                    log,
                    writer,
                    deep,
                    aside: false,
                    limit: live.map(|l| l.acked()),
                    settle: live.is_none(),
                },
                threshold,
                low_water: Box::new(move || writing.upgrade().map_or(0, |w| w.low_water())),
                removed: Box::new(move || match which {
                    Which::Driver => Ok(false),
                    Which::Receiver(uuid) => home.was_removed(uuid),
                }),
                keys: self.options.keys.clone(),
                report: self.report.clone(),
            }
        });
        Ok(Scan::new(sources.collect(), self.options.recovery))
    }

    pub(crate) fn locate(&self, handle: &RecordHandle) -> Result<()> {
        self.with_place(handle, |at| self.reader.locate(at).map(drop))
    }

    /// The record in memory of its own, which is taken only once a segment is found that could hold it.
    pub(crate) fn read_new(&self, handle: &RecordHandle) -> Result<Vec<u8>> {
        let read = self.with_place(handle, |at| {
            let located = self.reader.locate(at)?;
            let mut bytes = super::zeroed(handle.length as usize)?;
            self.reader.read_located(at, &located, &mut bytes)?;
            Ok(bytes)
        });
        self.metrics().read(u64::from(handle.length), &read);
        read
    }

    pub(crate) fn read(&self, handle: &RecordHandle, into: &mut [u8]) -> Result<()> {
        let read = self.with_place(handle, |at| self.reader.read(at, into));
        self.metrics().read(u64::from(handle.length), &read);
        read
    }

    pub(crate) fn read_with<T>(&self, handle: &RecordHandle, show: impl FnOnce(&[u8]) -> T) -> Result<T> {
        let read = self.with_place(handle, |at| self.reader.read_with(at, show));
        self.metrics().read(u64::from(handle.length), &read);
        read
    }

    fn with_place<T>(&self, handle: &RecordHandle, work: impl FnOnce(&At<'_>) -> Result<T>) -> Result<T> {
        handle.validate()?;
        let Some(ours) = self.log_id()? else {
            return Err(Error::Missing {
                what: format!("a log in {}", self.home.place()),
                hint: "is the directory shared with, or mounted on, this machine?".into(),
            });
        };
        if ours != handle.log {
            return Err(Error::Foreign { theirs: handle.log, ours, place: self.home.place() });
        }
        let which = match self.options.role {
            Role::Driver => Which::Driver,
            Role::Receivers => Which::Receiver(handle.writer),
        };
        let storage = self.home.storage(which);
        let own = |w: &Arc<Writer>| which == Which::Driver || w.identity().writer == handle.writer;
        let low_water = || self.writer().filter(own).map_or(0, |w| w.low_water());
        let home = self.home.as_ref();
        work(&At {
            handle,
            home,
            storage: storage.as_ref(),
            which,
            keys: &self.options.keys,
            low_water: &low_water,
        })
    }
}
