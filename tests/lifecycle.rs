//! Starts and ends of instances as Spark makes them: what goes on, what begins anew, what is let go.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    fs,
    fs::File,
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use common::{all, options, record};
use ferrowal::{Error, Log, Role};

/// A fresh start whose first write fails (here: the lock is held) must still begin a new generation.
#[test]
fn a_fresh_start_whose_first_write_fails_replays_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut opts = options(dir.path(), Role::Driver);
    opts.lock_wait = Duration::from_millis(100);
    opts.linger = Duration::ZERO;
    let old = Log::open(opts.clone()).unwrap();
    old.append(b"of an earlier life", 1).unwrap();
    old.close().unwrap();
    let fresh = Log::open(opts.clone()).unwrap();
    fresh.check().unwrap();
    let lock = File::open(dir.path().join("driver/LOCK")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    assert!(matches!(fresh.append(b"lost in a warning", 1), Err(Error::Locked { .. })));
    drop(lock);
    fresh.append(b"of this life", 1).unwrap();
    fresh.close().unwrap();
    let recovered = Log::open(opts).unwrap();
    assert_eq!(all(&recovered), vec![b"of this life".to_vec()]);
}

/// Two first writes at once (driver batching off: JobGenerator and the RPC thread).
#[test]
fn a_fresh_start_with_two_first_writes_at_once_replays_nothing() {
    let mut bad = 0;
    for _ in 0..100 {
        let dir = tempfile::tempdir().unwrap();
        let mut opts = options(dir.path(), Role::Driver);
        opts.linger = Duration::ZERO;
        let old = Log::open(opts.clone()).unwrap();
        old.append(b"old", 1).unwrap();
        old.close().unwrap();
        drop(old);
        let fresh = Arc::new(Log::open(opts.clone()).unwrap());
        let gate = Arc::new(Barrier::new(2));
        let t: Vec<_> = (0..2)
            .map(|_| {
                let (l, g) = (fresh.clone(), gate.clone());
                thread::spawn(move || {
                    g.wait();
                    l.append(b"new", 1).unwrap();
                })
            })
            .collect();
        for t in t {
            t.join().unwrap();
        }
        fresh.close().unwrap();
        let recovered = Log::open(opts).unwrap();
        if all(&recovered).contains(&b"old".to_vec()) {
            bad += 1;
        }
    }
    assert_eq!(bad, 0, "of 100 fresh starts");
}

fn open_segments() -> usize {
    fs::read_dir("/proc/self/fd")
        .unwrap()
        .flatten()
        .filter(|e| {
            fs::read_link(e.path()).is_ok_and(|p| {
                p.to_string_lossy().contains("lingering") && p.to_string_lossy().contains(".seg")
            })
        })
        .count()
}

/// What a closed instance that is still referenced (Spark's: until the collector comes) keeps open after the linger.
#[test]
fn a_closed_instance_keeps_no_file_open() {
    let dir = tempfile::Builder::new().prefix("lingering").tempdir().unwrap();
    let mut opts = options(dir.path(), Role::Receivers);
    opts.linger = Duration::from_millis(50);
    let log = Log::open(opts.clone()).unwrap();
    let h = log.append(b"block", 1).unwrap();
    log.close().unwrap();
    drop(log);
    let reader = Log::open(opts).unwrap();
    assert_eq!(reader.read(&h).unwrap(), b"block");
    reader.close().unwrap();
    let end = Instant::now() + Duration::from_secs(30);
    while open_segments() > 0 && Instant::now() < end {
        thread::yield_now();
    }
    assert_eq!(open_segments(), 0, "long after the linger of 50 ms");
    drop(reader);
}

/// What cannot work is known before the application runs.
#[test]
fn check_tells_of_a_damaged_driver_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut opts = options(dir.path(), Role::Driver);
    opts.linger = Duration::ZERO;
    let old = Log::open(opts.clone()).unwrap();
    for i in 0..20 {
        old.append(&[7; 5000], i).unwrap();
    }
    // A crash: no seal.
    let image = tempfile::tempdir().unwrap();
    let d = image.path().join("log");
    std::process::Command::new("cp").args(["-r"]).arg(dir.path()).arg(&d).status().unwrap();
    drop(old);
    let mut segs: Vec<_> = fs::read_dir(d.join("driver"))
        .unwrap()
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|e| e == "seg"))
        .collect();
    segs.sort();
    let mut b = fs::read(&segs[0]).unwrap();
    b[30_000] ^= 1;
    fs::write(&segs[0], b).unwrap();
    opts.dir = d.into();
    let fresh = Log::open(opts).unwrap();
    let checked = fresh.check();
    let appended = fresh.append(b"new", 1).map(drop);
    let again = fresh.append(b"new", 1).map(drop);
    println!("check: {checked:?}\nappend: {appended:?}\nagain: {again:?}");
    assert_eq!(checked.is_err(), appended.is_err(), "check and the first append disagree");
}

/// Spark's manual clock begins near 0, whatever was cleaned before: a new generation has a threshold of its own.
#[test]
fn a_fresh_start_with_an_earlier_clock_is_not_hidden_by_what_was_cleaned_before() {
    for records_are_left in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let mut opts = options(dir.path(), Role::Driver);
        opts.linger = Duration::ZERO;
        let old = Log::open(opts.clone()).unwrap();
        old.append(b"old", 1_700_000_000_000).unwrap();
        let threshold = 1_700_000_000_000 + i64::from(!records_are_left);
        old.clean(threshold, true).unwrap();
        old.close().unwrap();
        let fresh = Log::open(opts.clone()).unwrap();
        fresh.append(b"new", 5).unwrap();
        assert_eq!(all(&fresh), vec![b"new".to_vec()]);
        fresh.close().unwrap();
        let again = Log::open(opts.clone()).unwrap();
        assert_eq!(all(&again), vec![b"new".to_vec()]);
        // The new clock's own threshold counts, and takes the old generation with it.
        again.append(b"newer", 50).unwrap();
        again.clean(10, true).unwrap();
        assert_eq!(all(&again), vec![b"newer".to_vec()]);
    }
}

/// What lingers of a log is not what is in the directory any more, where that was deleted meanwhile.
#[test]
fn a_directory_that_was_deleted_after_a_close_begins_a_new_log() {
    for role in [Role::Driver, Role::Receivers] {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("log");
        let mut opts = options(&dir, role);
        opts.linger = Duration::from_secs(3600);
        let mut logs = Vec::new();
        for number in 0..3 {
            let log = Log::open(opts.clone()).unwrap();
            assert_eq!(all(&log), [b""; 0]);
            logs.push(log.append(&record(number, 100), 1).unwrap().log);
            assert_eq!(all(&log), [record(number, 100)]);
            log.close().unwrap();
            assert!(dir.join("ferrowal.id").exists(), "{role:?}: without it nobody can read the log");
            fs::remove_dir_all(&dir).unwrap();
        }
        logs.sort_unstable();
        logs.dedup();
        assert_eq!(logs.len(), 3, "{role:?}: each is a log of its own");
    }
}
