//! What a restart finds and does, beyond damage: leftovers, lost names, marks.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use common::{all, open, options, record, segment_file};
use ferrowal::{Durability, Error, Log, RecordHandle, RecordSource, Recovery, Role};

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
        let (id, lost) = (dir.path().join("b/ferrowal.id"), dir.path().join("lost"));
        fs::rename(&id, &lost).unwrap();
        let log = open(&dir.path().join("b"), role);
        assert!(matches!(log.scan(), Err(Error::Missing { .. })), "{role:?}");
        // Nor is there a new one, under which the old records were foreign: whoever writes first.
        for writes in [Role::Driver, Role::Receivers] {
            let log = open(&dir.path().join("b"), writes);
            let refused = log.append(b"y", 2);
            assert!(matches!(refused, Err(Error::Missing { .. })), "{writes:?} beside {role:?}: {refused:?}");
            log.close().unwrap();
        }
        assert!(!id.exists());
        fs::rename(&lost, &id).unwrap();
        let log = open(&dir.path().join("b"), role);
        assert_eq!(all(&log), [b"x"]);
        log.append(b"z", 3).unwrap();
    }
}

/// The log's uuid may be the wrong one, and then nothing is its own. What was set aside is read by nobody.
#[test]
fn a_segment_of_another_log_is_refused_where_it_counts_and_alike_under_every_policy() {
    let base = tempfile::tempdir().unwrap();
    // A log of three segments, and its first one's path.
    let make = |name: &str| {
        let mut opts = options(&base.path().join(name), Role::Driver);
        opts.segment_size = 1 << 20;
        let log = Log::open(opts).unwrap();
        let handles: Vec<_> = (0..3).map(|t| log.append(&record(t, 600_000), t as i64).unwrap()).collect();
        log.close().unwrap();
        assert_eq!(handles[2].segment, 3);
        segment_file(&base.path().join(name), Role::Driver, &handles[0])
    };
    let theirs = make("theirs");
    for begun in [false, true] {
        let from = base.path().join(format!("ours-{begun}"));
        let path = make(from.file_name().unwrap().to_str().unwrap());
        if begun {
            let log = open(&from, Role::Driver);
            log.append(b"new", 1).unwrap();
            log.close().unwrap();
        }
        fs::copy(&theirs, path).unwrap();
        for policy in [Recovery::Default, Recovery::Strict, Recovery::Salvage] {
            let to = base.path().join(format!("{policy:?}-{begun}"));
            let copied = std::process::Command::new("cp").arg("-r").args([&from, &to]).status().unwrap();
            assert!(copied.success());
            let mut opts = options(&to, Role::Driver);
            opts.recovery = policy;
            let log = Log::open(opts).unwrap();
            let read = log.scan().and_then(|scan| scan.collect::<Result<Vec<_>, _>>());
            let wrote = log.append(b"more", 2);
            if begun {
                assert_eq!(read.unwrap(), ["new"], "{policy:?}");
                wrote.unwrap();
            } else {
                assert!(read.is_err() && wrote.is_err(), "{policy:?}: {wrote:?}");
            }
            log.close().unwrap();
        }
    }
}

/// A collector that was cut short: the note is there, and so is a whole segment of the writer, whose clean threshold went
/// with a later one.
#[test]
fn what_is_left_of_a_writer_that_was_cleaned_is_not_shown_again() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), Role::Receivers);
    let handle = log.append(b"cleaned", 1).unwrap();
    log.close().unwrap();
    let log = open(dir.path(), Role::Receivers);
    assert_eq!(all(&log), [b"cleaned"]);
    fs::write(dir.path().join("receivers/removed"), format!("{}\n", handle.writer)).unwrap();
    assert_eq!(all(&log), [b""; 0]);
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

/// A long record is written in pieces, and its group's header last. What a crash leaves of one is kept, at once and in the
/// place where it lies: a copy would take the time and the space of a record that may have 2 GiB.
#[test]
fn what_was_written_of_a_long_record_is_kept_without_a_copy() {
    const LENGTH: usize = 20 << 20;
    for cut_short in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (live, path) = (dir.path().join("live"), dir.path().join("log"));
        let mut opts = options(&live, Role::Driver);
        opts.segment_size = 1 << 20;
        let log = Log::open(opts).unwrap();
        log.append(b"short", 1).unwrap();
        let handle = log.append(&record(1, LENGTH), 2).unwrap();
        // As a crash would leave it.
        fs::create_dir_all(path.join("driver")).unwrap();
        fs::copy(live.join("ferrowal.id"), path.join("ferrowal.id")).unwrap();
        for id in 1..=handle.segment {
            let name = format!("driver/{id:016}.seg");
            fs::copy(live.join(&name), path.join(&name)).unwrap();
        }
        log.close().unwrap();
        let segment = segment_file(&path, Role::Driver, &handle);
        let file = fs::OpenOptions::new().write(true).open(&segment).unwrap();
        file.write_all_at(&[0; 4096], 4096).unwrap();
        let (left, inode) = (fs::read(&segment).unwrap(), file.metadata().unwrap().ino());
        let quarantine = path.join("quarantine");
        let kept = quarantine.join(format!("driver-segment-{:016}-whole", handle.segment));
        if cut_short {
            fs::create_dir(&quarantine).unwrap();
            fs::hard_link(&segment, &kept).unwrap();
        }
        let log = Log::open(options(&path, Role::Driver)).unwrap();
        // A driver that goes on reads first.
        assert_eq!(all(&log), [b"short"]);
        log.append(b"goes on", 3).unwrap();
        let report = log.report().unwrap();
        assert_eq!((report.corrupt, report.quarantined), (0, 1));
        assert!(report.torn_bytes > LENGTH as u64 - 8192, "{}", report.torn_bytes);
        assert_eq!(fs::read_dir(&quarantine).unwrap().count(), 1);
        assert_eq!(fs::metadata(&kept).unwrap().ino(), inode, "a copy was made");
        let settled = fs::metadata(&segment).unwrap();
        assert!(settled.ino() != inode && settled.len() <= 8192, "{} bytes", settled.len());
        assert_eq!(all(&log), [&b"short"[..], b"goes on"]);
        // Nor does anybody write to it when the segment is gone.
        log.clean(4, true).unwrap();
        (0..40).for_each(|t| assert!(log.append(&record(t, 200_000), 10).is_ok()));
        log.close().unwrap();
        assert!(fs::read(&kept).unwrap() == left);
    }
}

/// A file that has another name is not written again: not to be sealed, nor as a segment.
#[test]
fn a_file_with_another_name_is_never_changed() {
    let dir = tempfile::tempdir().unwrap();
    let mut opts = options(dir.path(), Role::Driver);
    opts.segment_size = 1 << 20;
    let log = Log::open(opts.clone()).unwrap();
    let handles: Vec<_> = (0..8).map(|t| log.append(&record(t, 400_000), t as i64).unwrap()).collect();
    log.close().unwrap();
    let mut files: Vec<_> = handles.iter().map(|h| segment_file(dir.path(), Role::Driver, h)).collect();
    files.dedup();
    assert!(files.len() > 2);
    let backup = dir.path().join("backup");
    fs::create_dir(&backup).unwrap();
    let backed: Vec<_> = files
        .iter()
        .map(|file| {
            let other = backup.join(file.file_name().unwrap());
            fs::hard_link(file, &other).unwrap();
            let bytes = fs::read(&other).unwrap();
            (other, bytes)
        })
        .collect();
    let log = Log::open(opts).unwrap();
    log.append(b"x", 100).unwrap();
    log.clean(100, true).unwrap();
    assert!(!files[0].exists());
    (0..40).for_each(|t| assert!(log.append(&record(t, 200_000), 200).is_ok()));
    log.close().unwrap();
    for (other, bytes) in backed {
        assert!(fs::read(&other).unwrap() == bytes, "{} was used again", other.display());
    }
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

/// What groups are aligned to.
const BLOCK: usize = 4096;

struct Broken;

impl RecordSource for Broken {
    fn len(&self) -> usize {
        10
    }
    fn copy(&mut self, _: usize, _: &mut [u8]) -> ferrowal::Result<()> {
        Err(Error::Source("it broke".into()))
    }
}

/// Waits until the last group of the driver's log has no records: it says that those before it were durable. That is one in
/// the last record's segment, or, if that had no room for another group, the first one in the next.
fn await_mark(dir: &Path) {
    let began = Instant::now();
    loop {
        let last = driver_segments(dir).iter().rev().find_map(|path| {
            let bytes = fs::read(path).unwrap();
            let group = bytes.chunks_exact(BLOCK).rev().find(|b| b.starts_with(b"FWGR"))?;
            Some(group[24..28] == [0; 4])
        });
        if last == Some(true) {
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
        thread::scope(|s| {
            for t in 0..4 {
                let log = &log;
                s.spawn(move || {
                    let began = Instant::now();
                    while began.elapsed() < Duration::from_millis(100) {
                        log.append(&record(t, 1000), 1).unwrap();
                    }
                });
            }
        });
        if round % 2 == 0 {
            // What a failed append left behind is no noise.
            log.append_from(&mut Broken, 3).unwrap_err();
        }
        await_mark(dir.path());
    }
}

#[test]
fn a_mark_follows_in_the_next_segment_where_the_last_one_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let mut opts = options(dir.path(), Role::Driver);
    // Not while the segment is being filled.
    opts.idle_mark = Duration::from_secs(2);
    let log = Log::open(opts).unwrap();
    let mut last = log.append(b"the first", 1).unwrap();
    let file = segment_file(dir.path(), Role::Driver, &last);
    let size = fs::metadata(&file).unwrap().len();
    // A segment keeps room for four marks that free space, and its footer.
    while last.offset / BLOCK as u64 * BLOCK as u64 + 7 * BLOCK as u64 <= size {
        last = log.append(b"one more", 1).unwrap();
    }
    assert_eq!(segment_file(dir.path(), Role::Driver, &last), file, "it was not to overflow");
    await_mark(dir.path());
    let full = fs::read(&file).unwrap();
    // There may be marks between the records, after a write for which the device took its time.
    let last = full.chunks_exact(BLOCK).rev().find(|b| b.starts_with(b"FWGR")).unwrap();
    assert_ne!(last[24..28], [0; 4], "the mark is in the next one");
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

/// What somebody makes anew there is no part of this log: it has no uuid, and another process may have the lock.
#[test]
fn in_a_directory_that_was_made_anew_an_open_log_makes_no_segment() {
    for role in [Role::Driver, Role::Receivers] {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("log");
        let log = open(&dir, role);
        let first = log.append(b"lost", 1).unwrap();
        let writers = segment_file(&dir, role, &first).parent().unwrap().to_owned();
        take_away(&dir, role, &first);
        fs::create_dir_all(&writers).unwrap();
        for _ in 0..2 {
            let refused = log.append(b"no log", 2).unwrap_err();
            let said = refused.to_string();
            assert!(matches!(refused, Error::Missing { .. }) && said.contains("LOCK is not there"), "{said}");
        }
        // Nor is nothing what was written.
        assert!(matches!(log.scan().err(), Some(Error::Missing { .. })));
        drop(log.close());
        assert_eq!(fs::read_dir(&writers).unwrap().count(), 0, "something was made");
    }
}

/// Removes the directory of a log that is open, once nobody makes files there.
fn take_away(dir: &Path, role: Role, last: &RecordHandle) {
    let prepared = segment_file(dir, role, &RecordHandle { segment: last.segment + 1, ..*last });
    let reserve = prepared.with_file_name("reserve");
    let until = Instant::now() + Duration::from_secs(30);
    while !prepared.exists() || (role == Role::Driver && !reserve.exists()) {
        assert!(Instant::now() < until, "nothing is prepared");
        thread::yield_now();
    }
    let gone = dir.with_file_name("gone");
    fs::rename(dir, &gone).unwrap();
    fs::remove_dir_all(&gone).unwrap();
}

/// Sealing and cleaning go by names, and what has them now is another log's.
#[test]
fn in_the_directory_of_another_log_an_open_one_changes_nothing() {
    for way in ["close", "clean", "append"] {
        let base = tempfile::tempdir().unwrap();
        let (dir, other) = (base.path().join("log"), base.path().join("other"));
        let theirs = open(&other, Role::Driver);
        let kept: Vec<_> = (0..20).map(|i| theirs.append(&record(i, 3000), i as i64).unwrap()).collect();
        theirs.close().unwrap();
        fs::write(other.join("driver/spare-0000000000000009"), [7; 4096]).unwrap();
        let log = open(&dir, Role::Driver);
        let lost = log.append(b"lost", 1).unwrap();
        take_away(&dir, Role::Driver, &lost);
        copy(&other, &dir);
        let before = files(&dir);
        match way {
            "clean" => drop(log.clean(i64::MAX, true)),
            "append" => assert!(log.append(b"no log", 2).is_err()),
            _ => {}
        }
        drop(log.close());
        assert!(files(&dir) == before, "{way} changed something");
        // Elsewhere: this process remembers whose the directory was.
        let again = base.path().join("again");
        copy(&dir, &again);
        let log = open(&again, Role::Driver);
        for (i, handle) in kept.iter().enumerate() {
            assert_eq!(log.read(handle).unwrap(), record(i as u64, 3000), "{way}");
        }
        log.close().unwrap();
    }
}

/// Whoever opens the log then takes what is there for all that there is.
#[test]
fn a_log_whose_lock_has_gone_acknowledges_no_more() {
    for (role, durability, size) in [
        (Role::Driver, Durability::Device, 100),
        (Role::Receivers, Durability::Device, 5 << 20),
        (Role::Receivers, Durability::Os, 100),
        (Role::Driver, Durability::Os, 100_000),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut opts = options(dir.path(), role);
        opts.durability = durability;
        opts.max_failures = 2;
        let log = Log::open(opts).unwrap();
        let first = log.append(&record(1, size), 1).unwrap();
        let path = segment_file(dir.path(), role, &first);
        // A segment that is made finds out for itself; one that was made before is no way around it.
        let next = path.with_file_name(format!("{:016}.seg", first.segment + 1));
        let until = Instant::now() + Duration::from_secs(60);
        while !next.exists() {
            assert!(Instant::now() < until, "no segment is prepared");
            thread::yield_now();
        }
        let lock = path.with_file_name("LOCK");
        fs::remove_file(&lock).unwrap();
        fs::write(&lock, "somebody else's").unwrap();
        // The source is silent for more than a second.
        let later = Instant::now() + Duration::from_millis(1100);
        while Instant::now() < later {
            assert_eq!(log.read(&first).unwrap().len(), size);
        }
        for number in 2..5 {
            let refused = log.append(&record(number, size), 2);
            assert!(matches!(refused, Err(Error::Missing { .. })), "{role:?} {durability:?}: {refused:?}");
        }
        drop(log.close());
    }
}

/// All files of a driver's log, with what is in them.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let names = fs::read_dir(dir.join("driver")).unwrap().map(|e| e.unwrap().path());
    names.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// The segments of a driver's log, by number.
fn driver_segments(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(dir.join("driver"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "seg"))
        .collect();
    found.sort();
    found
}

/// A driver's log as a kill leaves it: `segments` that hold records, and one that was prepared behind them. Gives a handle
/// into each.
fn killed(dir: &Path, segments: u64) -> Vec<RecordHandle> {
    let live = dir.join("live");
    let mut opts = options(&live, Role::Driver);
    opts.rolling_interval = Duration::from_millis(10);
    let log = Log::open(opts).unwrap();
    let mut handles = Vec::new();
    for t in 0..segments {
        let first = log.append(&record(t, 100), t as i64 * 100).unwrap();
        log.append(&record(1000 + t, 100), t as i64 * 100).unwrap();
        handles.push(first);
        let began = Instant::now();
        while !live.join(format!("driver/{:016}.seg", first.segment + 1)).exists() {
            assert!(began.elapsed() < Duration::from_secs(30), "nothing is prepared");
            thread::yield_now();
        }
    }
    copy(&live, &dir.join("log"));
    log.close().unwrap();
    assert_eq!(driver_segments(&dir.join("log")).len() as u64, segments + 1);
    handles
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else if path.extension().is_none_or(|e| e != "tmp") {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// Opens for writing with `recovery`, after a scan; gives what the scan found, what the append answered, and the log.
fn salvaged(
    dir: &Path,
    recovery: Recovery,
) -> (Vec<ferrowal::Result<Vec<u8>>>, u64, ferrowal::Result<()>, Log) {
    let mut opts = options(dir, Role::Driver);
    opts.recovery = recovery;
    let log = Log::open(opts).unwrap();
    let mut scan = log.scan().unwrap();
    let found = scan.by_ref().map(|r| r.map(|b| b.to_vec())).collect();
    let skipped = scan.skipped();
    let appended = log.append(b"goes on", 10_000).map(drop);
    (found, skipped, appended, log)
}

/// Deletes the segment of `lost`, one of `count`: without salvage everything stops, with it everything else is there.
fn a_lost_segment_stops_all_but_salvage(count: u64, lost: usize) {
    let dir = tempfile::tempdir().unwrap();
    let handles = killed(dir.path(), count);
    let log_dir = dir.path().join("log");
    let gone = segment_file(&log_dir, Role::Driver, &handles[lost]);
    fs::remove_file(&gone).unwrap();
    let before = driver_segments(&log_dir);
    for recovery in [Recovery::Strict, Recovery::Default] {
        let (found, _, appended, log) = salvaged(&log_dir, recovery);
        let Some(Err(Error::Corrupt { segment, detail, .. })) = found.last() else {
            panic!("{recovery:?} did not notice: {found:?}")
        };
        assert_eq!(*segment, handles[lost].segment, "{detail}");
        let Err(Error::Corrupt { segment, detail, .. }) = appended else { panic!("{recovery:?} went on") };
        assert_eq!(segment, handles[lost].segment);
        assert!(detail.contains("the segment is missing"), "{detail}");
        assert!(log.check().is_err(), "and it is said before anything is written");
        log.close().unwrap();
    }
    assert_eq!(driver_segments(&log_dir), before, "stopping changed nothing");
    // Salvage goes on, and does so again: what proves the loss is kept.
    for round in 0..3u64 {
        let (found, skipped, appended, log) = salvaged(&log_dir, Recovery::Salvage);
        appended.unwrap();
        let found: Vec<Vec<u8>> = found.into_iter().map(|r| r.unwrap()).collect();
        let kept = (0..count).filter(|t| *t != lost as u64);
        let mut expected: Vec<_> = kept.flat_map(|t| [record(t, 100), record(1000 + t, 100)]).collect();
        expected.resize(expected.len() + round as usize, b"goes on".to_vec());
        assert!(found == expected, "{} records", found.len());
        let report = log.report().unwrap();
        assert_eq!(skipped, 1, "{count} {lost} {round} {:?}", report.findings);
        assert_eq!(report.corrupt, 1, "{:?}", report.findings);
        let finding = report.findings.iter().find(|f| f.corrupt).unwrap();
        assert_eq!(finding.segment, handles[lost].segment);
        for (i, h) in handles.iter().enumerate() {
            match log.read(h) {
                Ok(bytes) => assert!(i != lost && bytes == record(i as u64, 100)),
                Err(e) => assert!(i == lost && matches!(e, Error::Corrupt { .. }), "{e}"),
            }
        }
        log.close().unwrap();
    }
}

#[test]
fn a_lost_last_segment_is_noticed_by_the_one_that_was_prepared_behind_it() {
    for count in [1, 2, 4] {
        a_lost_segment_stops_all_but_salvage(count, count as usize - 1);
    }
}

#[test]
fn salvage_gets_past_a_segment_that_is_missing_in_the_middle_or_first() {
    for lost in 0..3 {
        a_lost_segment_stops_all_but_salvage(4, lost);
    }
}

/// Enough segments to be looked at by several threads.
#[test]
fn many_segments_are_found_in_order_and_damage_among_them_too() {
    let dir = tempfile::tempdir().unwrap();
    let handles = killed(dir.path(), 40);
    let log_dir = dir.path().join("log");
    let expected: Vec<_> = (0..40).flat_map(|t| [record(t, 100), record(1000 + t, 100)]).collect();
    let mut opts = options(&log_dir, Role::Driver);
    for recovery in [Recovery::Strict, Recovery::Default, Recovery::Salvage] {
        opts.recovery = recovery;
        assert!(all(&Log::open(opts.clone()).unwrap()) == expected, "{recovery:?}");
    }
    let path = segment_file(&log_dir, Role::Driver, &handles[20]);
    let mut bytes = fs::read(&path).unwrap();
    bytes[30] ^= 4;
    fs::write(&path, &bytes).unwrap();
    fs::remove_file(segment_file(&log_dir, Role::Driver, &handles[30])).unwrap();
    let (found, skipped, appended, log) = salvaged(&log_dir, Recovery::Salvage);
    appended.unwrap();
    let found: Vec<_> = found.into_iter().map(|r| r.unwrap()).collect();
    assert!(found == [&expected[..60], &expected[62..]].concat(), "{} records", found.len());
    assert_eq!(skipped, 2);
    let mut named: Vec<_> = log.report().unwrap().findings.iter().map(|f| (f.segment, f.corrupt)).collect();
    named.sort_unstable();
    assert_eq!(named, [(handles[20].segment, true), (handles[30].segment, true)]);
}
