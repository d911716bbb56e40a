//! The logs, each as its own documentation says to use it, set up so that it does well in this benchmark.

use std::{
    error::Error,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use ferrowal::{Durability, Options, Role};
use okaywal::{Configuration, LogVoid, WriteAheadLog};
use protobuf::well_known_types::BytesValue;
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};

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
        "okaywal" => Okaywal::open(dir),
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

/// One entry a record, committed: its own group commit shares an fdatasync among writers. Files are of 64 MiB, and
/// checkpointed (here: forgotten) and reused by the log itself when three quarters full.
struct Okaywal(WriteAheadLog);

impl Okaywal {
    fn open(dir: &Path) -> Result<Arc<dyn Log>, Failure> {
        let log = Configuration::default_for(dir.join("okaywal"))
            .preallocate_bytes(64 << 20)
            .checkpoint_after_bytes(48 << 20)
            .open(LogVoid)?;
        Ok(Arc::new(Self(log)))
    }
}

impl Log for Okaywal {
    fn writer(&self, _: usize, record: Vec<u8>) -> Box<dyn Writer + Send> {
        Box::new(OkaywalWriter { log: self.0.clone(), record })
    }

    fn clean(&self) -> Result<(), Failure> {
        Ok(()) // By its own checkpoints.
    }
}

struct OkaywalWriter {
    log: WriteAheadLog,
    record: Vec<u8>,
}

impl Writer for OkaywalWriter {
    fn write(&mut self) -> Result<(), Failure> {
        let mut entry = self.log.begin_entry()?;
        entry.write_chunk(&self.record)?;
        entry.commit()?;
        Ok(())
    }
}

/// One entry a record, one region a writer, `write(batch, sync = true)`. Without compression (the records are random bytes)
/// and with its files written ahead and recycled.
struct RaftEngine {
    engine: Arc<Engine>,
    /// The index of each region's next entry.
    next: Arc<Vec<AtomicU64>>,
}

impl RaftEngine {
    fn open(dir: &Path, size: usize, threads: usize) -> Result<Arc<dyn Log>, Failure> {
        if size < INDEX {
            return Err(format!("records of less than {INDEX} bytes have no room for their index").into());
        }
        let engine = Engine::open(Config {
            dir: dir.join("raft-engine").to_string_lossy().into_owned(),
            batch_compression_threshold: ReadableSize::kb(0),
            purge_threshold: ReadableSize::gb(1),
            enable_log_recycle: true,
            prefill_for_recycle: true,
            ..Config::default()
        })?;
        let next = (0..threads).map(|_| AtomicU64::new(1)).collect();
        Ok(Arc::new(Self { engine: Arc::new(engine), next: Arc::new(next) }))
    }
}

impl Log for RaftEngine {
    fn writer(&self, index: usize, record: Vec<u8>) -> Box<dyn Writer + Send> {
        let mut entry = BytesValue::new();
        entry.set_value(record);
        Box::new(RaftWriter {
            engine: self.engine.clone(),
            next: self.next.clone(),
            region: index,
            entry: [entry],
            batch: LogBatch::default(),
        })
    }

    fn clean(&self) -> Result<(), Failure> {
        for (region, next) in self.next.iter().enumerate() {
            // All but the last few, as a state machine that has applied them would.
            self.engine.compact_to(region as u64 + 1, next.load(Ordering::Relaxed).saturating_sub(8));
        }
        self.engine.purge_expired_files()?;
        Ok(())
    }
}

struct RaftWriter {
    engine: Arc<Engine>,
    next: Arc<Vec<AtomicU64>>,
    region: usize,
    entry: [BytesValue; 1],
    batch: LogBatch,
}

impl Writer for RaftWriter {
    fn write(&mut self) -> Result<(), Failure> {
        let next = &self.next[self.region];
        let index = next.load(Ordering::Relaxed);
        // In place: the entry's value is never copied but by the log.
        self.entry[0].value[..INDEX].copy_from_slice(&index.to_le_bytes());
        self.batch.add_entries::<Indexed>(self.region as u64 + 1, &self.entry)?;
        self.engine.write(&mut self.batch, true)?;
        next.store(index + 1, Ordering::Relaxed);
        Ok(())
    }
}

/// Bytes at a record's start that hold its index.
const INDEX: usize = 8;

/// What raft-engine asks of its entries: a message that knows its index.
#[derive(Clone)]
struct Indexed;

impl MessageExt for Indexed {
    type Entry = BytesValue;

    fn index(entry: &BytesValue) -> u64 {
        let mut bytes = [0; INDEX];
        bytes.copy_from_slice(&entry.value[..INDEX]);
        u64::from_le_bytes(bytes)
    }
}
