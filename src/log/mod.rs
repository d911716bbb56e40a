//! The log itself: [`Log`] and what it is made of.
//!
//! | file | idea |
//! |---|---|
//! | `mod` | the public face: append, read, scan, clean, close |
//! | `shared` | what instances of one directory share, and when it is opened and let go |
//! | `writer/` | groups on their way to the device: a state machine and the threads around it |
//! | `analysis` | what a writer's segments hold: kept, void, torn, corrupt |
//! | `recover` | opening for writing: policy, quarantine, sealing what was left open |
//! | `scan`, `ahead`, `read`, `walk` | reading in order, reading ahead, reading by handle, going through a segment |
//! | `survey`, `salvage`, `unread` | a whole log, for tools: looking at it, copying what is good, going on where nothing can be read |
//! | `threshold`, `collect` | what may be dropped, and cleaning for dead writers |
//! | `summary` | a line now and then about what the log did |

mod ahead;
pub(crate) mod analysis;
mod collect;
#[cfg(test)]
mod faults;
#[cfg(all(test, feature = "object-store"))]
mod object_faults;
mod read;
mod recover;
#[cfg(feature = "cli")]
pub(crate) mod salvage;
mod scan;
mod shared;
#[cfg(all(test, not(loom), feature = "object-store"))]
mod store_simulation;
mod summary;
#[cfg(feature = "cli")]
pub(crate) mod survey;
mod threshold;
#[cfg(feature = "cli")]
mod unread;
mod walk;
mod writer;

#[cfg(any(test, feature = "simulation"))]
pub use writer::simulation;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use self::shared::Shared;
use crate::{
    error::{Error, Result},
    handle::RecordHandle,
    location::{Location, StoreProperties},
    options::{Durability, Options},
    report::RecoveryReport,
    storage,
};

pub use scan::Scan;

/// The operator's overrides, a file in the log's directory.
const OVERRIDES: &str = "ferrowal.properties";

/// Where a record's bytes come from, when they are not a slice: a Java array is copied piece by piece.
pub trait RecordSource {
    /// The record's length in bytes.
    fn len(&self) -> usize;

    /// Whether there are no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies the bytes from `offset` on into all of `into`. A record that must be sent to another segment may be
    /// copied again.
    ///
    /// # Errors
    /// Any error makes the append fail and leaves nothing of the record.
    fn copy(&mut self, offset: usize, into: &mut [u8]) -> Result<()>;
}

/// Memory is copied in pieces of this many bytes. The C library copies longer ones by one instruction (`rep movsb`)
/// that some processors run fifteen times slower where the target lies a few bytes behind the source modulo a page.
pub(crate) const COPY_PIECE: usize = 4 << 10;

/// A record in memory.
struct Slice<'a>(&'a [u8]);

impl RecordSource for Slice<'_> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn copy(&mut self, offset: usize, into: &mut [u8]) -> Result<()> {
        for (into, from) in into.chunks_mut(COPY_PIECE).zip(self.0[offset..].chunks(COPY_PIECE)) {
            into.copy_from_slice(&from[..into.len()]);
        }
        Ok(())
    }
}

/// An open log: one directory, one [`Role`](crate::Role).
///
/// Cheap to make: nothing is created before the first append. Instances of one directory and role in one process share
/// what is open, and the last one to be closed seals it. All calls may be made from any thread.
#[derive(Debug)]
pub struct Log {
    shared: Arc<Shared>,
    closed: AtomicBool,
    used: AtomicBool,
    /// Whether this instance has read the log, or something it wrote is in it: then it goes on with what is there.
    goes_on: AtomicBool,
}

impl Log {
    /// Opens a log. Looks at nothing and creates nothing: the first append does.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for options that make no sense.
    pub fn open(options: Options) -> Result<Log> {
        options.validate()?;
        if cfg!(feature = "stubbed-storage") && options.durability == Durability::Os {
            log::warn!(
                "{}: built to be measured, with its storage stubbed out: nothing that is written is kept",
                options.dir
            );
        }
        Ok(Log {
            shared: shared::acquire(options)?,
            closed: AtomicBool::new(false),
            used: AtomicBool::new(false),
            goes_on: AtomicBool::new(false),
        })
    }

    /// The same in a home of any kind, shared with nobody.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn open_in(options: Options, home: Arc<dyn crate::storage::Home>) -> Result<Log> {
        options.validate()?;
        Ok(Log {
            shared: Arc::new(Shared::with_home(options, home)),
            closed: AtomicBool::new(false),
            used: AtomicBool::new(false),
            goes_on: AtomicBool::new(false),
        })
    }

    /// Looks, creating nothing, at what would make the first append fail: a parent that is missing or cannot be written,
    /// a file system whose locks do not reach other hosts, a damaged or newer log; for a driver also a live owner
    /// elsewhere, which is waited for up to [`Options::lock_wait`].
    ///
    /// # Errors
    /// What the first append would answer.
    pub fn check(&self) -> Result<()> {
        self.shared.check()
    }

    /// Appends one record and returns when it is durable. `time` is in milliseconds, of whatever clock `clean` uses.
    ///
    /// After [`Log::close`] too: such a record gets a segment of its own and is durable on return.
    ///
    /// # Errors
    /// The record is not in the log, or (after a failed barrier) counts only until something is acknowledged again.
    pub fn append(&self, record: &[u8], time: i64) -> Result<RecordHandle> {
        self.append_from(&mut Slice(record), time)
    }

    /// [`Log::append`] for bytes that are copied from `source`, once, straight to where the device takes them.
    ///
    /// # Errors
    /// As for `append`; an error of `source` is passed on.
    pub fn append_from(&self, source: &mut dyn RecordSource, time: i64) -> Result<RecordHandle> {
        let result = self.append_counted(source, time);
        if let Err(error) = &result {
            self.shared.metrics().refused(error);
        }
        result
    }

    fn append_counted(&self, source: &mut dyn RecordSource, time: i64) -> Result<RecordHandle> {
        let closed = self.closed.load(Ordering::Acquire);
        if closed {
            return shared::current(&self.shared).append(source, time, false, || true);
        }
        self.first_use();
        // Not only the very first write: one that failed, or that runs beside another, has begun no generation.
        let fresh = !self.goes_on.load(Ordering::Acquire);
        let appended = self.shared.append(source, time, fresh, || self.closed.load(Ordering::Acquire));
        if fresh && appended.is_ok() {
            self.goes_on.store(true, Ordering::Release);
        }
        appended
    }

    /// Checks that a record's segment is there and could hold it, so that a caller may allocate its length.
    ///
    /// # Errors
    /// What [`Log::read`] would answer before it reads.
    pub fn locate(&self, handle: &RecordHandle) -> Result<()> {
        self.shared.locate(handle).map(drop)
    }

    /// Reads one record. Works after `close` too.
    ///
    /// # Errors
    /// [`Error::Gone`](crate::Error::Gone) if it was cleaned, [`Error::Corrupt`](crate::Error::Corrupt) if its bytes no
    /// longer check, [`Error::Missing`](crate::Error::Missing) and [`Error::Foreign`](crate::Error::Foreign) if this is not
    /// where it lies.
    pub fn read(&self, handle: &RecordHandle) -> Result<Vec<u8>> {
        self.shared.read_new(handle)
    }

    /// [`Log::read`] into memory of exactly the record's length, without another copy.
    ///
    /// # Errors
    /// As for `read`; then `into` holds no part of the record to be used.
    pub fn read_into(&self, handle: &RecordHandle, into: &mut [u8]) -> Result<()> {
        self.shared.read(handle, into)
    }

    /// [`Log::read`] for a caller who copies the record elsewhere: `show` sees it where it was read, and is called only when
    /// it was found whole.
    ///
    /// # Errors
    /// As for `read`.
    pub fn read_with<T>(&self, handle: &RecordHandle, show: impl FnOnce(&[u8]) -> T) -> Result<T> {
        self.shared.read_with(handle, show)
    }

    /// All records that were written and not cleaned, in write order, read lazily. A driver's are those of its current
    /// generation; the receivers' are those of all writers, one after the other, in the order in which their oldest segments
    /// were made by the clocks of their machines.
    ///
    /// # Errors
    /// If the directory cannot be read, or is not there any more since the log was opened. Damage is met while iterating.
    pub fn scan(&self) -> Result<Scan> {
        self.first_use();
        self.goes_on.store(true, Ordering::Release);
        self.shared.scan()
    }

    /// Drops records with a time below the effective threshold: the least of `threshold` less the grace and the
    /// threshold of three distinct cleans ago. Returns at once unless `wait`; after `close` it does nothing.
    ///
    /// # Errors
    /// Only with `wait`: what kept segments from being removed.
    pub fn clean(&self, threshold: i64, wait: bool) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Ok(());
        }
        // A driver that has neither read nor written may yet begin a generation: its log is not opened for a clean.
        let may_open = self.shared.is_receivers() || self.goes_on.load(Ordering::Acquire);
        self.shared.clean(threshold, wait, may_open)
    }

    /// Waits for writes under way, seals the log if this was its last open instance, and lets go of everything.
    /// Calling it again does nothing; a sibling stays open.
    ///
    /// # Errors
    /// None at present: what cannot be sealed is logged and recovered by the next open.
    pub fn close(&self) -> Result<()> {
        if !self.closed.swap(true, Ordering::AcqRel) {
            shared::release(&self.shared, self.used.load(Ordering::Acquire));
        }
        Ok(())
    }

    /// What recovery found when the log was first written to or scanned.
    pub fn report(&self) -> Option<RecoveryReport> {
        self.shared.report()
    }

    /// The operator's overrides: the bytes of `ferrowal.properties` in `dir`, if there is one. `store` is what
    /// [`Options::store`] will be.
    ///
    /// # Errors
    /// If it is there and cannot be read.
    pub fn overrides(dir: impl Into<Location>, store: StoreProperties) -> Result<Option<Vec<u8>>> {
        let options = Options { store, ..Options::new(dir, crate::Role::Receivers) };
        storage::home(&options)?.small_file(OVERRIDES)
    }

    /// Whether this is the instance's first operation.
    fn first_use(&self) -> bool {
        // Looked at first: a line that every writer of a log changes goes from processor to processor.
        let first = !self.used.load(Ordering::Acquire) && !self.used.swap(true, Ordering::AcqRel);
        if first {
            self.shared.begin_use();
        }
        first
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Err(e) = self.close() {
            log::warn!("closing a log that was dropped: {e}");
        }
    }
}

/// Room for a record of up to 2 GiB, or an error where there is none.
fn room(length: usize) -> Result<Vec<u8>> {
    #[cfg(any(test, feature = "simulation"))]
    crate::planted::within_bounds(length);
    let mut bytes = Vec::new();
    let got = bytes.try_reserve_exact(length);
    got.map_err(|_| Error::io("find memory for", "a record", std::io::ErrorKind::OutOfMemory.into()))?;
    Ok(bytes)
}

/// The same, filled with zeros.
fn zeroed(length: usize) -> Result<Vec<u8>> {
    let mut bytes = room(length)?;
    bytes.resize(length, 0);
    Ok(bytes)
}

/// When a segment is made, by [`wall_clock`], and later than whatever this process made before: receivers' logs are read
/// in this order, also those that began within a millisecond, or beside a clock that was put back.
fn creation_time() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = wall_clock();
    if analysis::is_simulated() {
        return now;
    }
    let after = |last: u64| now.max(last.saturating_add(1));
    LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(after(last))).map_or(now, after)
}

/// Milliseconds since 1970: never compared with a record's time.
fn wall_clock() -> u64 {
    #[cfg(any(test, feature = "simulation"))]
    if let Some(now) = crate::planted::simulated_clock() {
        return now;
    }
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}
