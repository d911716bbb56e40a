//! Memory and descriptors stay flat: one test to this file, since both are counted for the whole process.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    fs,
    time::{Duration, Instant},
};

use common::{options, record};
use ferrowal::{Log, Role};

/// Resident memory in KiB.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
fn many_writes_reads_and_opens_leave_memory_descriptors_and_threads_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let mut opts = options(dir.path(), Role::Receivers);
    opts.segment_size = 1 << 20;
    opts.linger = Duration::ZERO;
    let mut time = 0;
    let mut round = || {
        let log = Log::open(opts.clone()).unwrap();
        for _ in 0..200 {
            time += 1;
            let bytes = record(time, 8 + (time as usize * 7919) % 20_000);
            let handle = log.append(&bytes, time as i64).unwrap();
            assert!(log.read(&handle).unwrap() == bytes);
        }
        log.clean(time as i64 - 100, true).unwrap();
        log.scan().unwrap().for_each(|r| drop(r.unwrap()));
        log.close().unwrap();
    };
    let settled = |bound: &dyn Fn() -> bool| {
        let began = Instant::now();
        while !bound() && began.elapsed() < Duration::from_secs(30) {
            std::thread::yield_now();
        }
    };
    let (files, tasks) = (descriptors(), threads());
    // What a process takes once, pools and arenas, it has taken by then.
    (0..10).for_each(|_| round());
    let memory = resident();
    (0..50).for_each(|_| round());
    settled(&|| descriptors() <= files && threads() <= tasks);
    assert!(descriptors() <= files, "{} descriptors, {files} before", descriptors());
    assert!(threads() <= tasks, "{} threads, {tasks} before", threads());
    let grown = resident().saturating_sub(memory);
    println!("10,000 writes and reads, 50 opens: {grown} KiB more than before");
    assert!(grown < 24 << 10, "{grown} KiB more after 50 more rounds");
}
