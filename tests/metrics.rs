//! What is counted, and what a log says of itself. The numbers are the process's, so the tests here take turns.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    os::unix::fs::FileExt,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use common::{local, open, options, segment_file};
use ferrowal::{Error, Kind, Log, METRICS, RecordSource, Result, Role, metrics};

static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// By how much each counter grew, and what the others are.
fn since(before: &ferrowal::MetricsSnapshot, role: Role) -> BTreeMap<&'static str, u64> {
    let now = metrics(role);
    let pairs = METRICS.iter().zip(before.values()).zip(now.values());
    pairs
        .map(|((metric, old), new)| {
            assert!(
                metric.kind != Kind::Counter || new >= old,
                "{} went back from {old} to {new}",
                metric.name
            );
            (metric.name, if metric.kind == Kind::Counter { new - old } else { *new })
        })
        .collect()
}

#[test]
fn every_metric_is_in_the_manual() {
    let manual = include_str!("../docs/metrics.md");
    let told = manual.lines().filter(|l| l.starts_with("| `")).collect::<Vec<_>>();
    for metric in &METRICS {
        let kind = format!("{:?}", metric.kind).to_lowercase();
        let row = format!("| `{}` | {kind} | {} | {} |", metric.name, metric.unit, metric.help);
        assert!(told.contains(&row.as_str()), "docs/metrics.md has no line {row}");
    }
}

/// Lines that were logged.
#[derive(Default)]
struct Lines {
    lines: Mutex<Vec<(log::Level, String)>>,
    more: Condvar,
}

static LINES: Lines = Lines { lines: Mutex::new(Vec::new()), more: Condvar::new() };

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        self.lines.lock().unwrap().push((record.level(), record.args().to_string()));
        self.more.notify_all();
    }

    fn flush(&self) {}
}

impl Lines {
    /// Begins to listen.
    fn listen() {
        let _ = log::set_logger(&LINES);
        log::set_max_level(log::LevelFilter::Info);
        LINES.lines.lock().unwrap().clear();
    }

    /// Waits for a line at INFO with these words in it.
    fn await_info(words: &str) -> String {
        let until = Instant::now() + Duration::from_secs(30);
        let mut lines = LINES.lines.lock().unwrap();
        loop {
            if let Some((_, line)) = lines.iter().find(|(l, t)| *l == log::Level::Info && t.contains(words)) {
                return line.clone();
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "nobody said {words:?}, but {lines:?}");
            lines = LINES.more.wait_timeout(lines, left).unwrap().0;
        }
    }
}

#[test]
fn writes_reads_and_cleans_are_counted() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let before = metrics(Role::Driver);
    let mut opts = options(dir.path(), Role::Driver);
    opts.rolling_interval = Duration::from_millis(100);
    let log = Log::open(opts).unwrap();
    let handles: Vec<_> = (0..100).map(|i| log.append(&[7; 1000], i * 10).unwrap()).collect();
    log.read(&handles[5]).unwrap();
    let seen = since(&before, Role::Driver);
    assert_eq!((seen["records"], seen["bytes"], seen["logs.open"]), (100, 100_000, 1), "{seen:?}");
    assert_eq!((seen["reads"], seen["read.bytes"]), (1, 1000));
    assert!(seen["groups"] - seen["marks"] == 100, "one writer's records go one by one: {seen:?}");
    assert!(seen["device.bytes"] >= 100_000);
    assert_eq!((seen["group.records.max"], seen["group.bytes.p50"]), (1, 1023), "{seen:?}");
    assert!(
        seen["barrier.micros.p50"] > 0 && seen["barrier.micros.max"] >= seen["barrier.micros.p99"],
        "{seen:?}"
    );
    assert!(seen["barrier.busy.micros"] > 0 && seen["barrier.busy.percent"] <= 100, "{seen:?}");
    assert!(seen["rolls"] >= 10 && seen["segments.live"] >= 10, "{seen:?}");
    assert!(seen["memory.used"] <= seen["memory.held"] && seen["memory.held"] <= seen["memory.limit"]);
    assert!(seen["memory.held"] >= 4 << 20, "{seen:?}");
    assert_eq!(
        (seen["failed"], seen["retries"], seen["poisonings"], seen["fences"], seen["damaged"]),
        (0, 0, 0, 0, 0)
    );
    assert_eq!((seen["recovery.count"], seen["recovery.segments"]), (1, 0));
    log.clean(900, true).unwrap();
    let seen = since(&before, Role::Driver);
    assert!(seen["cleaned.segments"] >= 5, "{seen:?}");
    if local() {
        assert!(seen["segments.spare"] >= 1, "{seen:?}");
    }
    log.close().unwrap();
    drop(log);
    let seen = since(&before, Role::Driver);
    for gauge in
        ["logs.open", "segments.live", "segments.spare", "memory.held", "memory.used", "memory.limit"]
    {
        assert_eq!(seen[gauge], 0, "{gauge} after the close: {seen:?}");
    }
    assert!(seen["seal.micros.max"] > 0 && seen["prepare.micros.max"] > 0, "{seen:?}");
}

#[test]
fn the_roles_are_counted_apart() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let (driver, receivers) = (metrics(Role::Driver), metrics(Role::Receivers));
    open(dir.path(), Role::Receivers).append(b"x", 1).unwrap();
    assert_eq!(since(&driver, Role::Driver)["records"], 0);
    assert_eq!(since(&receivers, Role::Receivers)["records"], 1);
}

struct Broken;

impl RecordSource for Broken {
    fn len(&self) -> usize {
        10
    }
    fn copy(&mut self, _: usize, _: &mut [u8]) -> Result<()> {
        Err(Error::Source("planned".into()))
    }
}

#[test]
fn failures_and_damage_are_counted() {
    let _turn = turn();
    if !local() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let before = metrics(Role::Receivers);
    let log = open(dir.path(), Role::Receivers);
    log.append_from(&mut Broken, 1).unwrap_err();
    let handle = log.append(&[1; 100], 1).unwrap();
    let file =
        OpenOptions::new().write(true).open(segment_file(dir.path(), Role::Receivers, &handle)).unwrap();
    file.write_all_at(b"X", handle.offset + 60).unwrap();
    assert!(matches!(log.read(&handle), Err(Error::Corrupt { .. })), "{:?}", log.read(&handle));
    let seen = since(&before, Role::Receivers);
    assert_eq!((seen["failed"], seen["failed.full"], seen["records"]), (1, 0, 1), "{seen:?}");
    assert!(seen["damaged"] >= 1 && seen["reads"] == 0, "{seen:?}");
}

#[test]
fn recovery_says_what_it_found_and_did() {
    let _turn = turn();
    if !local() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (live, crashed) = (dir.path().join("live"), dir.path().join("log"));
    let log = open(&live, Role::Driver);
    let handles: Vec<_> = (0..20u8).map(|i| log.append(&[i; 104], i64::from(i)).unwrap()).collect();
    // As a crash would leave it, with the last record's group torn.
    copy(&live, &crashed);
    log.close().unwrap();
    let last = handles.last().unwrap();
    let file = OpenOptions::new().write(true).open(segment_file(&crashed, Role::Driver, last)).unwrap();
    file.write_all_at(b"X", last.offset + 40).unwrap();
    Lines::listen();
    let before = metrics(Role::Driver);
    let log = open(&crashed, Role::Driver);
    assert_eq!(common::all(&log).len(), 19);
    log.append(b"more", 100).unwrap();
    let block = Lines::await_info("recovered ");
    let report = log.report().unwrap();
    assert_eq!((report.records, report.settled, report.quarantined), (19, 1, 1), "{block}");
    for words in [
        format!("recovered {}", crashed.join("driver").display()),
        "found: ".into(),
        "19 records of 1976 bytes in all, generation 1".into(),
        format!("0 corrupt places; {} torn bytes, never acknowledged", report.torn_bytes),
        "done: 1 segments sealed, ".into(),
        "1 copies put into quarantine".into(),
    ] {
        assert!(block.contains(&words), "{words:?} is not in {block}");
    }
    assert!(report.torn_bytes > 0);
    let seen = since(&before, Role::Driver);
    assert_eq!(
        (seen["recovery.records"], seen["recovery.torn.bytes"], seen["segments.quarantined"]),
        (19, report.torn_bytes, 1)
    );
}

#[test]
fn recovery_counts_orphans() {
    let _turn = turn();
    if !local() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // One writer after the other: each has closed, and so is gone, before the next begins.
    for _ in 0..3 {
        let mut opts = options(dir.path(), Role::Receivers);
        opts.linger = Duration::ZERO;
        let log = Log::open(opts).unwrap();
        log.append(b"x", 1).unwrap();
        log.close().unwrap();
    }
    Lines::listen();
    let log = open(dir.path(), Role::Receivers);
    log.append(b"x", 1).unwrap();
    let block = Lines::await_info("orphans: 3 of 3 other writers are gone");
    assert_eq!((log.report().unwrap().others, log.report().unwrap().orphans), (3, 3), "{block}");
}

#[test]
fn a_summary_is_said_now_and_then_and_at_the_close() {
    let _turn = turn();
    Lines::listen();
    let dir = tempfile::tempdir().unwrap();
    let mut opts = options(dir.path(), Role::Receivers);
    opts.summary = Duration::from_secs(1);
    let log = Log::open(opts.clone()).unwrap();
    for i in 0..50 {
        log.append(&[1; 2000], i).unwrap();
    }
    let line = Lines::await_info("50 records, 0.1 MiB, in 50 groups of 1.0; queue wait p99");
    assert!(line.contains("0 writes failed, 0 groups sent again, 0 segments poisoned"), "{line}");
    Lines::await_info(" 0 records, 0.0 MiB, in 0 groups");
    log.append(b"one more", 100).unwrap();
    log.close().unwrap();
    Lines::await_info(" 1 records, ");
    opts.summary = Duration::from_millis(10);
    assert!(matches!(Log::open(opts), Err(Error::Config(text)) if text.contains("every second at most")));
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}
