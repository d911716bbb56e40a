//! What a row is, and ferrowal's own.

use std::{
    error::Error,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use ferrowal::{Durability, Options, Role};

#[cfg(feature = "others")]
use crate::others::{Okaywal, RaftEngine};
use crate::{waiting::Waiting, writing::Writing};

/// Why a log could not do something.
pub type Failure = Box<dyn Error + Send + Sync>;

/// An open log.
pub trait Log: Send + Sync {
    /// A writer, for one thread, of one record again and again.
    fn writer(&self, index: usize, record: Vec<u8>) -> Box<dyn Writer + Send>;

    /// Drops old records, so that the disk holds about a gigabyte at most.
    fn clean(&self) -> Result<(), Failure>;
}

/// See [`Log::writer`].
pub trait Writer {
    /// Writes the record; it survives a power cut when this returns.
    fn write(&mut self) -> Result<(), Failure>;
}

/// Opens a log in an empty directory, for records of `size` bytes from `threads` writers.
pub fn open(name: &str, dir: &Path, size: usize, threads: usize) -> Result<Arc<dyn Log>, Failure> {
    match name {
        #[cfg(feature = "others")]
        "okaywal" => Okaywal::open(dir),
        #[cfg(feature = "others")]
        "raft-engine" => RaftEngine::open(dir, size, threads),
        "ferrowal-os" => Ferrowal::open(dir),
        "waiting" => Waiting::open(dir, size, threads, false),
        "waiting-awake" => Waiting::open(dir, size, threads, true),
        "writing" => Writing::open(dir, size),
        _ => Err(format!("no log is named '{name}'").into()),
    }
}

/// ferrowal itself, without a JVM and without barriers: what is above this in a call from Java is Java's and JNI's.
struct Ferrowal(Arc<FerrowalShared>);

struct FerrowalShared {
    log: ferrowal::Log,
    time: AtomicI64,
}

impl Ferrowal {
    /// Records that are kept, as in `JniCost`.
    const KEPT: i64 = 1 << 16;

    fn open(dir: &Path) -> Result<Arc<dyn Log>, Failure> {
        let mut options = Options::new(dir.join("ferrowal"), Role::Receivers);
        options.durability = Durability::Os;
        options.clean_grace = Duration::ZERO;
        let shared = FerrowalShared { log: ferrowal::Log::open(options)?, time: AtomicI64::new(0) };
        Ok(Arc::new(Self(Arc::new(shared))))
    }
}

impl Log for Ferrowal {
    fn writer(&self, _: usize, record: Vec<u8>) -> Box<dyn Writer + Send> {
        Box::new(FerrowalWriter { shared: self.0.clone(), record })
    }

    fn clean(&self) -> Result<(), Failure> {
        // Its writers do, each time when so many records were written as are kept.
        Ok(())
    }
}

struct FerrowalWriter {
    shared: Arc<FerrowalShared>,
    record: Vec<u8>,
}

impl Writer for FerrowalWriter {
    fn write(&mut self) -> Result<(), Failure> {
        let FerrowalShared { log, time } = &*self.shared;
        let time = time.fetch_add(1, Ordering::Relaxed) + 1;
        if time % Ferrowal::KEPT == 0 {
            log.clean(time - Ferrowal::KEPT, false)?;
        }
        log.append(&self.record, time)?;
        Ok(())
    }
}
