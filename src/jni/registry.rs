//! The open logs and scans, by number.
//!
//! Numbers only grow and are never used again, so a number kept too long finds nothing instead of something else. A call
//! clones the `Arc` and lets go of the table at once: no lock is held while the log works.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use super::error::{Failure, panic_text};
use crate::{Error, Location, Log, Options, Role, Scan};

/// A log that Java has open.
pub(super) struct OpenLog {
    log: Log,
    place: (Location, Role),
    /// The text of the first panic in this log; shared by all instances of one place, since they share what is open.
    panicked: Arc<OnceLock<String>>,
    /// What is opened after a close is a new beginning, even while the closed one's number is still known.
    closed: AtomicBool,
}

impl OpenLog {
    /// Calls the log. A panic is caught, is this call's error, and refuses all later writes.
    pub(super) fn call<T>(&self, call: impl FnOnce(&Log) -> Result<T, Failure>) -> Result<T, Failure> {
        catch_unwind(AssertUnwindSafe(|| call(&self.log))).unwrap_or_else(|payload| {
            let text = panic_text(payload);
            ::log::error!("panic in the log {}: {text}", self.place.0);
            // A second panic leaves the first one's text.
            let _ = self.panicked.set(text.clone());
            Err(Failure::Log(Error::Internal(text)))
        })
    }

    /// Closes the log; its number stays, since a write may come after the close.
    pub(super) fn close(&self) -> Result<(), Failure> {
        self.closed.store(true, Ordering::Release);
        self.call(|log| Ok(log.close()?))
    }

    /// As [`OpenLog::call`], for what writes: refused after a panic.
    pub(super) fn write<T>(&self, call: impl FnOnce(&Log) -> Result<T, Failure>) -> Result<T, Failure> {
        match self.panicked.get() {
            Some(text) => Err(Failure::Log(Error::Internal(format!("an earlier failure: {text}")))),
            None => self.call(call),
        }
    }
}

/// A scan that Java has open, with the record it has not yet taken.
pub(super) struct OpenScan {
    log: Arc<OpenLog>,
    /// None at the end, so that files are let go of as soon as the last record was read.
    scan: Mutex<Option<Scan>>,
}

impl OpenScan {
    /// Moves to the next record and tells its length; none at the end.
    pub(super) fn advance(&self) -> Result<Option<usize>, Failure> {
        self.log.call(|_| {
            let mut scan = locked(&self.scan);
            let next = scan.as_mut().map_or(Ok(None), Scan::lend);
            // An error ends the scan as well: what lies behind it is not known to be in order.
            if !matches!(next, Ok(Some(_))) {
                *scan = None;
            }
            Ok(next?)
        })
    }

    /// Has `take` copy the record that the last [`OpenScan::advance`] found.
    pub(super) fn take(&self, take: impl FnOnce(&[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
        let shown = locked(&self.scan).as_mut().map_or(Ok(None), |scan| scan.show(take))?;
        shown.unwrap_or(Err(Failure::Stale))
    }
}

/// Numbers and what they stand for.
struct Registry {
    last: AtomicI64,
    logs: Mutex<HashMap<i64, Arc<OpenLog>>>,
    scans: Mutex<HashMap<i64, Arc<OpenScan>>>,
}

static REGISTRY: OnceLock<Registry> = OnceLock::new();

fn registry() -> &'static Registry {
    REGISTRY.get_or_init(|| Registry {
        last: AtomicI64::new(0),
        logs: Mutex::default(),
        scans: Mutex::default(),
    })
}

/// The tables are whole after any panic: each change is one call of the map.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens a log and numbers it. Looks at nothing on disk.
pub(super) fn open(options: Options) -> Result<i64, Failure> {
    let place = (options.dir.clone(), options.role);
    let log = Log::open(options)?;
    let registry = registry();
    let id = registry.last.fetch_add(1, Ordering::Relaxed) + 1;
    let mut logs = locked(&registry.logs);
    let panicked = logs
        .values()
        .find(|other| other.place == place && !other.closed.load(Ordering::Acquire))
        .map_or_else(Arc::default, |other| Arc::clone(&other.panicked));
    logs.insert(id, Arc::new(OpenLog { log, place, panicked, closed: AtomicBool::new(false) }));
    Ok(id)
}

/// The log of a number.
pub(super) fn log(id: i64) -> Result<Arc<OpenLog>, Failure> {
    locked(&registry().logs).get(&id).cloned().ok_or(Failure::Stale)
}

/// Forgets a number; the log itself goes with the last call that uses it. Whether the number was known.
pub(super) fn forget(id: i64) -> bool {
    let forgotten = locked(&registry().logs).remove(&id);
    // Dropped here and not under the lock: a log that goes may do I/O.
    forgotten.is_some()
}

/// Starts a scan and numbers it.
pub(super) fn open_scan(id: i64) -> Result<i64, Failure> {
    let log = log(id)?;
    let scan = log.call(|log| Ok(log.scan()?))?;
    let registry = registry();
    let id = registry.last.fetch_add(1, Ordering::Relaxed) + 1;
    locked(&registry.scans).insert(id, Arc::new(OpenScan { log, scan: Mutex::new(Some(scan)) }));
    Ok(id)
}

/// The scan of a number.
pub(super) fn scan(id: i64) -> Result<Arc<OpenScan>, Failure> {
    locked(&registry().scans).get(&id).cloned().ok_or(Failure::Stale)
}

/// Forgets a scan and lets go of its files. Whether the number was known.
pub(super) fn forget_scan(id: i64) -> bool {
    let forgotten = locked(&registry().scans).remove(&id);
    forgotten.is_some()
}
