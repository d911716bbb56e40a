//! What a restart finds and does, beyond damage: leftovers, lost names, marks.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    fs,
    path::Path,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use common::{all, open, options, record, segment_file};
use ferrowal::{Error, Log, RecordHandle, RecordSource, Recovery, Role};

/// A crash between the mark and the unlink leaves files below the low-water mark.
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
    assert_eq!(all(&log).len(), 5);
    log.append(b"x", 100).unwrap();
    assert!(!path.exists(), "nobody else would ever look at it");
}

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
        assert!(matches!(log.scan(), Err(Error::Missing { .. })), "{role:?}");
    }
}

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
        log.scan().unwrap().for_each(drop);
        log.append(b"x", 2).unwrap();
        log.close().unwrap();
    }
    assert_eq!(fs::read_dir(dir.path().join("quarantine")).unwrap().count(), 1);
}

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

/// The header of a driver's segment is the only place that names its writer, and every open has another writer.
#[test]
fn a_rotten_header_costs_no_record_where_a_neighbour_is_of_the_same_writer() {
    let dir = tempfile::tempdir().unwrap();
    let mut opts = options(dir.path(), Role::Driver);
    opts.rolling_interval = Duration::from_millis(10);
    for run in 0..2 {
        let log = Log::open(opts.clone()).unwrap();
        log.scan().unwrap().for_each(drop);
        for t in 0..4 {
            log.append(&record(run * 10 + t, 100), (run * 100 + t * 10) as i64).unwrap();
        }
        log.close().unwrap();
    }
    let copy = dir.path().join("driver");
    let mut segments: Vec<_> = fs::read_dir(&copy)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "seg"))
        .collect();
    segments.sort();
    for path in segments {
        let bytes = fs::read(&path).unwrap();
        let mut rotten = bytes.clone();
        rotten[50] ^= 1;
        fs::write(&path, rotten).unwrap();
        opts.recovery = Recovery::Salvage;
        let log = Log::open(opts.clone()).unwrap();
        assert_eq!(all(&log).len(), 8, "{}", path.display());
        log.close().unwrap();
        opts.recovery = Recovery::Default;
        let default = Log::open(opts.clone()).unwrap();
        let first = default.scan().unwrap().next();
        assert!(matches!(first, Some(Err(Error::Corrupt { .. }))), "it is said, too: {first:?}");
        default.close().unwrap();
        fs::write(&path, bytes).unwrap();
    }
}

struct Broken;

impl RecordSource for Broken {
    fn len(&self) -> usize {
        10
    }
    fn copy(&mut self, _: usize, _: &mut [u8]) -> ferrowal::Result<()> {
        Err(Error::Source("it broke".into()))
    }
}

/// Waits until the last group in the handle's segment has no records: it says that those before it were durable.
fn await_mark(dir: &Path, h: &RecordHandle) {
    let began = Instant::now();
    loop {
        let bytes = fs::read(segment_file(dir, Role::Driver, h)).unwrap();
        let last =
            (1..bytes.len() / 4096).filter(|i| &bytes[i * 4096..][..4] == b"FWGR").max().unwrap() * 4096;
        if bytes[last + 24..last + 28] == [0; 4] {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "silence, and no mark");
        thread::yield_now();
    }
}

#[test]
fn a_mark_follows_every_silence() {
    for round in 0..10u64 {
        let dir = tempfile::tempdir().unwrap();
        let mut opts = options(dir.path(), Role::Driver);
        opts.idle_mark = Duration::from_millis(50);
        let log = Log::open(opts).unwrap();
        let handles = Mutex::new(Vec::new());
        thread::scope(|s| {
            for t in 0..4 {
                let (log, handles) = (&log, &handles);
                s.spawn(move || {
                    let began = Instant::now();
                    while began.elapsed() < Duration::from_millis(100) {
                        let h = log.append(&record(t, 1000), 1).unwrap();
                        handles.lock().unwrap().push(h);
                    }
                });
            }
        });
        if round % 2 == 0 {
            // What a failed append left behind is no noise.
            log.append_from(&mut Broken, 3).unwrap_err();
        }
        let last = handles.into_inner().unwrap().into_iter().max_by_key(|h| (h.segment, h.offset)).unwrap();
        await_mark(dir.path(), &last);
    }
}

#[test]
fn files_that_are_deleted_under_the_log_are_noticed_by_the_next_write() {
    for role in [Role::Driver, Role::Receivers] {
        let dir = tempfile::tempdir().unwrap();
        let log = open(dir.path(), role);
        let first = log.append(b"lost", 1).unwrap();
        fs::remove_file(segment_file(dir.path(), role, &first)).unwrap();
        // It goes on in another file, and what is lost is not passed over afterwards.
        let second = log.append(b"kept", 2).unwrap();
        assert!(second.segment > first.segment);
        assert_eq!(log.read(&second).unwrap(), b"kept");
        log.close().unwrap();
        let found: Vec<_> = open(dir.path(), role).scan().unwrap().collect();
        assert!(matches!(found.last(), Some(Err(Error::Corrupt { .. }))), "{found:?}");
    }
}
