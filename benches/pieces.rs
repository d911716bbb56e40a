//! What the log's own software costs, piece by piece, under criterion: `cargo bench --bench pieces`.
//!
//! The log lies on a tmpfs (`/dev/shm`, or the directory in `FERROWAL_BENCH_MEMORY`), where a barrier costs nothing: what
//! is left is the way of a record through group commit, frame and checksum into the kernel, and back. Beside it the same
//! bytes by the kernel alone, and their checksum alone. Only the crate's public interface is used.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::atomic::{AtomicI64, Ordering},
    thread,
    time::{Duration, Instant},
};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ferrowal::{Log, Options, Recovery, Role};
use tempfile::TempDir;

const SIZES: [usize; 4] = [100, 1 << 10, 64 << 10, 1 << 20];
/// Records between two cleans, at most; and bytes.
const KEPT_RECORDS: i64 = 4096;
const KEPT_BYTES: i64 = 64 << 20;
/// Records and their size in what is scanned and recovered.
const SCANNED: (usize, usize) = (1024, 64 << 10);
const WRITERS: [usize; 2] = [8, 64];

fn memory() -> TempDir {
    let parent =
        std::env::var_os("FERROWAL_BENCH_MEMORY").map_or_else(|| PathBuf::from("/dev/shm"), PathBuf::from);
    tempfile::Builder::new().prefix("ferrowal-bench-").tempdir_in(parent).unwrap()
}

fn options(dir: &TempDir, role: Role) -> Options {
    let mut options = Options::new(dir.path(), role);
    options.clean_grace = Duration::ZERO;
    options.linger = Duration::ZERO;
    options
}

fn kept(size: usize) -> i64 {
    KEPT_RECORDS.min(KEPT_BYTES / size as i64).max(1)
}

/// One writer: a group of one record, again and again.
fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("append");
    for size in SIZES {
        let dir = memory();
        let log = Log::open(options(&dir, Role::Receivers)).unwrap();
        let record = vec![9; size];
        let mut time = 0;
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(format!("{size} B"), |b| {
            b.iter(|| {
                time += 1;
                if time % kept(size) == 0 {
                    log.clean(time - kept(size), false).unwrap();
                }
                log.append(&record, time).unwrap()
            });
        });
        log.close().unwrap();
    }
    group.finish();
}

/// Several writers at once: what group commit costs where the barrier costs nothing. The time is that of one record.
fn append_together(c: &mut Criterion) {
    let mut group = c.benchmark_group("append, several writers, 1 KiB");
    for writers in WRITERS {
        let dir = memory();
        let log = Log::open(options(&dir, Role::Receivers)).unwrap();
        let time = AtomicI64::new(0);
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("{writers} writers"), |b| {
            b.iter_custom(|records| {
                let began = Instant::now();
                thread::scope(|scope| {
                    for i in 0..writers as u64 {
                        let (log, time) = (&log, &time);
                        // The first few take one more each, so that it is as many as criterion asks for.
                        let own = records / writers as u64 + u64::from(i < records % writers as u64);
                        scope.spawn(move || {
                            let record = vec![9; 1 << 10];
                            for _ in 0..own {
                                let now = time.fetch_add(1, Ordering::Relaxed) + 1;
                                if now % KEPT_RECORDS == 0 {
                                    log.clean(now - KEPT_RECORDS, false).unwrap();
                                }
                                log.append(&record, now).unwrap();
                            }
                        });
                    }
                });
                began.elapsed()
            });
        });
        log.close().unwrap();
    }
    group.finish();
}

/// One record by its handle, warm.
fn read(c: &mut Criterion) {
    let mut group = c.benchmark_group("read by handle");
    for size in SIZES {
        let dir = memory();
        let log = Log::open(options(&dir, Role::Receivers)).unwrap();
        let handle = log.append(&vec![9; size], 1).unwrap();
        let mut into = vec![0; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(format!("{size} B"), |b| b.iter(|| log.read_into(&handle, &mut into).unwrap()));
        log.close().unwrap();
    }
    group.finish();
}

fn filled(dir: &TempDir, role: Role) {
    let log = Log::open(options(dir, role)).unwrap();
    let record = vec![9; SCANNED.1];
    for time in 0..SCANNED.0 {
        log.append(&record, time as i64).unwrap();
    }
    log.close().unwrap();
}

/// All records in order, every checksum checked, warm.
fn scan(c: &mut Criterion) {
    let mut group = c.benchmark_group("scan");
    let dir = memory();
    filled(&dir, Role::Receivers);
    let log = Log::open(options(&dir, Role::Receivers)).unwrap();
    group.throughput(Throughput::Bytes((SCANNED.0 * SCANNED.1) as u64));
    group.bench_function("64 MiB of 64 KiB", |b| {
        b.iter(|| log.scan().unwrap().map(|record| record.unwrap().len()).sum::<usize>());
    });
    group.finish();
}

/// Opening a driver's log, up to its first acknowledged record.
fn reopen(c: &mut Criterion) {
    let mut group = c.benchmark_group("reopen");
    let dir = memory();
    filled(&dir, Role::Driver);
    group.bench_function("64 MiB, to the first append", |b| {
        b.iter_batched(
            || {
                let mut options = options(&dir, Role::Driver);
                options.recovery = Recovery::Default;
                options
            },
            |options| {
                let log = Log::open(options).unwrap();
                // A recovered driver reads first, or its records would be set aside.
                log.scan().unwrap().next().unwrap().unwrap();
                log.append(b"again", 1 << 20).unwrap();
                log.close().unwrap();
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// What of an append is not the log's: the kernel's copy, and the checksum.
fn floor(c: &mut Criterion) {
    let mut group = c.benchmark_group("floor");
    let dir = memory();
    let file = File::create_new(dir.path().join("bare")).unwrap();
    for size in SIZES {
        let record = vec![9; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(format!("pwrite, {size} B"), |b| {
            b.iter(|| file.write_all_at(&record, 0).unwrap())
        });
        group.bench_function(format!("crc32, {size} B"), |b| b.iter(|| crc32fast::hash(&record)));
    }
    group.finish();
}

criterion_group!(pieces, append, append_together, read, scan, reopen, floor);
criterion_main!(pieces);
