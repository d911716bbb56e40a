//! A write allocates nothing: buffers, groups and lists of wake-ups are used again. The test's allocator counts by
//! thread, so what the housekeepers do beside is not in it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    sync::{Arc, Barrier},
    thread,
};

use common::{options, write_by};
use ferrowal::{Log, Role};

/// Allocations of `n` writes of `length` bytes.
fn of_writes(log: &Log, length: usize, n: i64) -> u64 {
    let record = vec![7; length];
    let counted = allocation_counter::measure(|| {
        for time in 0..n {
            log.append(&record, time).unwrap();
        }
    });
    counted.count_total
}

#[test]
fn a_writer_alone_allocates_nothing() {
    for way in common::ways() {
        let dir = tempfile::tempdir().unwrap();
        let mut opts = options(dir.path(), Role::Receivers);
        write_by(&mut opts, way);
        // Everything goes into one segment: what a new one costs is not a write's.
        let log = Log::open(opts).unwrap();
        for length in [0, 100, 1 << 10, 64 << 10] {
            // The first ones make what is used again.
            of_writes(&log, length, 50);
            // A segment may be left for a larger one meanwhile: some allocations then, but none for each write.
            let counted = of_writes(&log, length, 200);
            assert!(counted < 60, "{way}: {counted} allocations in 200 writes of {length} bytes");
        }
        let counted = (0..20).map(|_| of_writes(&log, 100, 20)).min().unwrap();
        assert_eq!(counted, 0, "{way}: 20 writes");
        log.close().unwrap();
    }
}

#[test]
fn writers_that_share_groups_allocate_nothing() {
    const WRITERS: usize = 8;
    let dir = tempfile::tempdir().unwrap();
    let log = Arc::new(Log::open(options(dir.path(), Role::Receivers)).unwrap());
    let start = Arc::new(Barrier::new(WRITERS));
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let (log, start) = (log.clone(), start.clone());
            thread::spawn(move || {
                of_writes(&log, 1 << 10, 100);
                start.wait();
                of_writes(&log, 1 << 10, 200)
            })
        })
        .collect();
    let counted: u64 = writers.into_iter().map(|w| w.join().unwrap()).sum();
    // Who is slow to leave a group may make a new one necessary; and segments are changed.
    assert!(counted < (WRITERS * 200 / 10) as u64, "{counted} allocations in {} writes", WRITERS * 200);
    log.close().unwrap();
}
