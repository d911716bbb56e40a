//! The logs of others, each as its own documentation says to use it, set up so that it does well in this benchmark.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use okaywal::{Configuration, LogVoid, WriteAheadLog};
use protobuf::well_known_types::BytesValue;
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};

use crate::logs::{Failure, Log, Writer};

/// One entry a record, committed: its own group commit shares an fdatasync among writers. Files are of 64 MiB, and
/// checkpointed (here: forgotten) and reused by the log itself when three quarters full.
pub struct Okaywal(WriteAheadLog);

impl Okaywal {
    pub fn open(dir: &Path) -> Result<Arc<dyn Log>, Failure> {
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
pub struct RaftEngine {
    engine: Arc<Engine>,
    /// The index of each region's next entry.
    next: Arc<Vec<AtomicU64>>,
}

impl RaftEngine {
    pub fn open(dir: &Path, size: usize, threads: usize) -> Result<Arc<dyn Log>, Failure> {
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
