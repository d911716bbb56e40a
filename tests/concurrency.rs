//! Everything at once: no lost wake-up, no deadlock, nothing wrong.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use common::{all, open, options, record};
use ferrowal::{Durability, Error, Log, RecordHandle, Role};

/// Fails the test, instead of letting it hang, if `work` takes longer than a generous bound.
fn bounded<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (told, heard) = mpsc::channel();
    let worker = thread::spawn(move || {
        let result = work();
        let _ = told.send(());
        result
    });
    if heard.recv_timeout(Duration::from_secs(120)) == Err(mpsc::RecvTimeoutError::Timeout) {
        panic!("it hangs");
    }
    worker.join().unwrap()
}

#[test]
fn sixty_four_threads_write_and_read_while_others_clean_and_close() {
    write_and_read_while_others_clean_and_close(Durability::Device);
}

/// Where records go by themselves, and with others, and beside others.
#[test]
fn so_they_do_without_barriers() {
    if common::local() {
        write_and_read_while_others_clean_and_close(Durability::Os);
    }
}

fn write_and_read_while_others_clean_and_close(durability: Durability) {
    bounded(move || {
        let dir = tempfile::tempdir().unwrap();
        let mut opts = options(dir.path(), Role::Receivers);
        opts.durability = durability;
        opts.segment_size = 1 << 20;
        let clock = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let keeper = Arc::new(Log::open(opts.clone()).unwrap());
        let recent: Arc<Mutex<Vec<(RecordHandle, u64)>>> = Arc::default();
        let mut threads = Vec::new();
        for t in 0..64u64 {
            let (clock, stop, recent, opts) = (clock.clone(), stop.clone(), recent.clone(), opts.clone());
            threads.push(thread::spawn(move || {
                // Every thread has an instance of its own and closes it now and then, as Spark's tasks do.
                let mut log = Log::open(opts.clone()).unwrap();
                let mut written = 0;
                while !stop.load(Ordering::Relaxed) {
                    let time = clock.fetch_add(1, Ordering::Relaxed);
                    let bytes = record(time, 8 + (time as usize * 7919) % 20_000);
                    let handle = log.append(&bytes, time as i64).unwrap();
                    written += 1;
                    recent.lock().unwrap().push((handle, time));
                    let earlier = {
                        let recent = recent.lock().unwrap();
                        recent[recent.len() * t as usize / 64]
                    };
                    match log.read(&earlier.0) {
                        Ok(read) => {
                            assert!(read == record(earlier.1, 8 + (earlier.1 as usize * 7919) % 20_000));
                        }
                        Err(Error::Gone { .. }) => assert!(earlier.1 + 500 <= clock.load(Ordering::Relaxed)),
                        Err(e) => panic!("{e}"),
                    }
                    if time % 50 == t {
                        log.close().unwrap();
                        log = Log::open(opts.clone()).unwrap();
                    }
                }
                written
            }));
        }
        let cleaner = thread::spawn({
            let (clock, stop, keeper) = (clock.clone(), stop.clone(), keeper.clone());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let now = clock.load(Ordering::Relaxed) as i64;
                    keeper.clean(now - 1000, now % 3 == 0).unwrap();
                    thread::yield_now();
                }
            }
        });
        while clock.load(Ordering::Relaxed) < 6000 {
            let before: Vec<u64> = keeper
                .scan()
                .unwrap()
                .map(|r| u64::from_le_bytes(r.unwrap()[..8].try_into().unwrap()))
                .collect();
            let mut once = before.clone();
            once.sort_unstable();
            once.dedup();
            assert_eq!(once.len(), before.len(), "a scan gave a record twice");
        }
        stop.store(true, Ordering::Relaxed);
        let written: u64 = threads.into_iter().map(|t| t.join().unwrap()).sum();
        cleaner.join().unwrap();
        assert_eq!(written, clock.load(Ordering::Relaxed));
        keeper.clean(written as i64 - 100, true).unwrap();
        assert_eq!(all(&keeper).len(), 100);
        keeper.close().unwrap();
        assert_eq!(all(&open(dir.path(), Role::Receivers)).len(), 100);
    });
}

#[test]
fn a_close_during_writes_loses_none_that_was_acknowledged() {
    bounded(|| {
        let ways = [Durability::Device, Durability::Os].into_iter().take(1 + usize::from(common::local()));
        for (role, durability) in ways.flat_map(|d| [(Role::Driver, d), (Role::Receivers, d)]) {
            let dir = tempfile::tempdir().unwrap();
            for round in 0..10u64 {
                let mut opts = options(dir.path(), role);
                opts.durability = durability;
                opts.lock_wait = Duration::from_secs(20);
                let log = Arc::new(Log::open(opts).unwrap());
                log.scan().unwrap().for_each(drop);
                let threads: Vec<_> = (0..8u64)
                    .map(|t| {
                        let log = log.clone();
                        // Some of these come after the close, and are durable all the same.
                        thread::spawn(move || {
                            for i in 0..5 {
                                log.append(&(round * 100 + t * 10 + i).to_le_bytes(), round as i64).unwrap();
                            }
                        })
                    })
                    .collect();
                log.close().unwrap();
                threads.into_iter().for_each(|t| t.join().unwrap());
            }
            let mut found = all(&open(dir.path(), role));
            found.sort();
            found.dedup();
            assert_eq!(found.len(), 400, "{role:?}, {durability:?}");
        }
    });
}

#[test]
fn memory_is_bounded_and_callers_wait_for_it() {
    bounded(|| {
        let dir = tempfile::tempdir().unwrap();
        let mut opts = options(dir.path(), Role::Receivers);
        opts.memory = 16 << 20;
        let log = Arc::new(Log::open(opts).unwrap());
        // Ten times what the bound holds, at once, in groups and in pieces.
        let threads: Vec<_> = (0..16u64)
            .map(|t| {
                let log = log.clone();
                thread::spawn(move || {
                    let bytes = record(t, if t % 4 == 0 { 15 << 20 } else { 3 << 20 });
                    let handle = log.append(&bytes, 1).unwrap();
                    assert!(log.read(&handle).unwrap() == bytes);
                })
            })
            .collect();
        threads.into_iter().for_each(|t| t.join().unwrap());
    });
}

#[test]
fn opening_and_closing_leaves_nothing_open() {
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let dir = tempfile::tempdir().unwrap();
    let mut opts = options(dir.path(), Role::Receivers);
    opts.linger = Duration::ZERO;
    let before = descriptors();
    for i in 0..50 {
        let log = Log::open(opts.clone()).unwrap();
        let handle = log.append(b"x", i).unwrap();
        log.read(&handle).unwrap();
        log.close().unwrap();
    }
    let began = std::time::Instant::now();
    // Other tests of this file open files meanwhile; what must not happen is that fifty logs stay.
    while descriptors() > before + 40 {
        assert!(began.elapsed() < Duration::from_secs(60), "{} descriptors, {before} before", descriptors());
        thread::yield_now();
    }
}
