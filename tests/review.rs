//! Review: each of these fails on main.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{fs, time::Duration};

use common::{all, open, options, record, segment_file};
use ferrowal::{Log, Recovery, Role};

/// A fresh driver whose first write fails (lock held by the dying predecessor) must still begin a new generation.
#[test]
fn fresh_start_survives_a_failed_first_write() {
    let dir = tempfile::tempdir().unwrap();
    let old = open(dir.path(), Role::Driver);
    old.append(b"old", 1).unwrap();
    old.close().unwrap();
    let lock = fs::OpenOptions::new().read(true).write(true).open(dir.path().join("driver/LOCK")).unwrap();
    lock.lock().unwrap();
    let fresh = open(dir.path(), Role::Driver);
    fresh.append(b"first try", 2).unwrap_err();
    drop(lock);
    fresh.append(b"new", 3).unwrap();
    fresh.close().unwrap();
    assert_eq!(all(&open(dir.path(), Role::Driver)), [b"new".to_vec()]);
}

/// The same with two threads whose first writes overlap.
#[test]
fn fresh_start_survives_two_first_writers() {
    for round in 0..200 {
        let dir = tempfile::tempdir().unwrap();
        let old = open(dir.path(), Role::Driver);
        old.append(b"old", 1).unwrap();
        old.close().unwrap();
        let fresh = open(dir.path(), Role::Driver);
        let go = std::sync::Barrier::new(4);
        std::thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    go.wait();
                    fresh.append(b"new", 3).unwrap();
                });
            }
        });
        fresh.close().unwrap();
        let found = all(&open(dir.path(), Role::Driver));
        assert!(!found.contains(&b"old".to_vec()), "round {round}: {} records", found.len());
    }
}

/// A crash between the mark and the unlink leaves files below the low-water mark: the next open must delete them.
#[test]
fn files_below_the_low_water_mark_are_deleted_by_the_next_open() {
    let dir = tempfile::tempdir().unwrap();
    let mut opts = options(dir.path(), Role::Driver);
    opts.segment_size = 1 << 20;
    let log = Log::open(opts.clone()).unwrap();
    let first = log.append(&record(0, 500_000), 0).unwrap();
    let path = segment_file(dir.path(), Role::Driver, &first);
    for t in 1..40 {
        log.append(&record(t, 100_000), t as i64).unwrap();
    }
    let bytes = fs::read(&path).unwrap();
    log.clean(35, true).unwrap();
    assert!(!path.exists());
    log.close().unwrap();
    fs::write(&path, bytes).unwrap();
    let log = Log::open(opts).unwrap();
    drop(all(&log));
    log.append(b"x", 100).unwrap();
    log.clean(99, true).unwrap();
    log.append(b"y", 101).unwrap();
    log.clean(100, true).unwrap();
    log.close().unwrap();
    assert!(!path.exists(), "leaked for ever");
}

/// A log whose id is lost must not read as an empty one.
#[test]
fn a_lost_id_is_not_an_empty_log() {
    for role in [Role::Driver, Role::Receivers] {
        let dir = tempfile::tempdir().unwrap();
        let log = open(&dir.path().join("a"), role);
        log.append(b"x", 1).unwrap();
        log.close().unwrap();
        fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
        fs::remove_file(dir.path().join("b/ferrowal.id")).unwrap();
        let log = open(&dir.path().join("b"), role);
        let scan = log.scan();
        assert!(scan.is_err(), "{role:?}: readAll gave {} records and no error", scan.unwrap().count());
    }
}

/// Restarts under salvage must not copy the same damage to quarantine each time.
#[test]
fn quarantine_does_not_grow_with_every_restart() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), Role::Driver);
    let h = log.append(&record(1, 300_000), 1).unwrap();
    log.close().unwrap();
    let path = segment_file(dir.path(), Role::Driver, &h);
    let n = fs::metadata(&path).unwrap().len() as usize;
    fs::write(&path, record(7, n)).unwrap();
    for _ in 0..4 {
        let mut opts = options(dir.path(), Role::Driver);
        opts.recovery = Recovery::Salvage;
        let log = Log::open(opts).unwrap();
        drop(all(&log));
        log.append(b"x", 2).unwrap();
        log.close().unwrap();
    }
    let copies = fs::read_dir(dir.path().join("quarantine")).unwrap().count();
    assert_eq!(copies, 1);
}

/// readAll never returns a record below the threshold: also not a dead writer's.
#[test]
fn a_scan_hides_a_dead_writers_records_below_the_threshold() {
    let dir = tempfile::tempdir().unwrap();
    let dead = open(dir.path(), Role::Receivers);
    for t in 0..10 {
        dead.append(&record(t, 100), t as i64).unwrap();
    }
    dead.close().unwrap();
    let live = open(dir.path(), Role::Receivers);
    live.append(&record(20, 100), 20).unwrap();
    live.clean(9, true).unwrap();
    let found: Vec<u64> = all(&live).iter().map(|r| u64::from_le_bytes(r[..8].try_into().unwrap())).collect();
    assert_eq!(found, [9, 20]);
}

/// A clean that waits, before the first write, is a clean.
#[test]
fn a_clean_before_the_first_write_counts_for_a_scan() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), Role::Driver);
    for t in 0..10 {
        log.append(&record(t, 100), t as i64).unwrap();
    }
    log.close().unwrap();
    let log = open(dir.path(), Role::Driver);
    assert_eq!(all(&log).len(), 10);
    log.clean(5, true).unwrap();
    assert_eq!(all(&log).len(), 5);
}

struct Broken(usize);
impl ferrowal::RecordSource for Broken {
    fn len(&self) -> usize {
        self.0
    }
    fn copy(&mut self, _: usize, _: &mut [u8]) -> ferrowal::Result<()> {
        Err(ferrowal::Error::Source("it broke".into()))
    }
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir_all(to).unwrap();
    for e in fs::read_dir(from).unwrap() {
        let p = e.unwrap().path();
        let t = to.join(p.file_name().unwrap());
        if p.is_dir() {
            copy(&p, &t)
        } else {
            let _ = fs::copy(&p, &t);
        }
    }
}

/// After a second of silence the last acknowledged record is covered, whatever a failed append left behind.
#[test]
fn a_failed_source_does_not_keep_the_last_record_uncovered() {
    for broken in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let live = dir.path().join("live");
        let mut opts = options(&live, Role::Driver);
        opts.idle_mark = Duration::from_millis(100);
        let log = Log::open(opts).unwrap();
        log.append(b"one", 1).unwrap();
        let h = log.append(&record(2, 1000), 2).unwrap();
        if broken {
            log.append_from(&mut Broken(10), 3).unwrap_err();
        }
        std::thread::sleep(Duration::from_secs(2));
        let copied = dir.path().join("copy");
        copy(&live, &copied);
        let path = segment_file(&copied, Role::Driver, &h);
        let mut bytes = fs::read(&path).unwrap();
        bytes[h.offset as usize + 100] ^= 1;
        fs::write(&path, bytes).unwrap();
        let damaged = open(&copied, Role::Driver);
        let found: Vec<_> = damaged.scan().unwrap().collect();
        for e in fs::read_dir(path.parent().unwrap()).unwrap() {
            let e = e.unwrap();
            let b = fs::read(e.path()).unwrap();
            let groups: Vec<_> = (0..b.len() / 4096).filter(|i| &b[i * 4096..][..4] == b"FWGR").collect();
            println!("{:?} {} groups at {groups:?}", e.path(), b.len());
        }
        println!("{broken} {h} {found:?}");
        assert!(found.iter().any(|r| r.is_err()), "broken={broken}: lost in silence");
    }
}
