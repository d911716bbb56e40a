//! The runs of `make check`, and the planted bugs.
//!
//! `FERROWAL_STORE_SEED=<n>` replays one run, and `FERROWAL_STORE_TRACE=1` says what happens in it; `FERROWAL_STORE_RUNS=<n>`,
//! `FERROWAL_MINUTES=<n>` and `FERROWAL_FIRST_SEED=<n>` say how many are made, or for how long, and from where;
//! `FERROWAL_THREADS=<n>` how many at once.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{Report, simulate};
use crate::planted::Bug;

/// Runs of a check.
const RUNS: u64 = 100;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|s| s.parse().unwrap_or_else(|_| panic!("{name} is not a number: {s}")))
}

fn told(report: &Report) -> String {
    report.iter().map(|(what, n)| format!("{n:>12}  {what}\n")).collect()
}

#[test]
fn one_store_seed() {
    if let Some(seed) = number("FERROWAL_STORE_SEED") {
        match simulate(seed, None) {
            Ok(report) => println!("seed {seed}:\n{}", told(&report)),
            Err(failure) => panic!("{failure}"),
        }
    }
}

#[test]
fn a_store_seed_replays_exactly() {
    for seed in 1..=8 {
        assert_eq!(simulate(seed, None), simulate(seed, None), "seed {seed}");
    }
}

/// 704: a record that was sent twice was taken for disorder. 771: a collector that slept took a writer that lived for gone.
/// 1000824: a record that was cleaned while it was read was an I/O error.
#[test]
fn runs_that_found_something_are_run_again() {
    for seed in [704, 771, 1_000_824] {
        simulate(seed, None).unwrap();
    }
}

/// What every long run must have done.
const FEATURES: &[&str] = &[
    "acknowledged",
    "answered with an error",
    "checks",
    "cleans",
    "closed",
    "dead writers collected",
    "double requests",
    "drivers that race",
    "exists of what does not",
    "fenced",
    "fenced at once",
    "killed processes",
    "late requests",
    "long waits",
    "lost answers",
    "lost requests",
    "objects deleted",
    "paused processes",
    "paused processes that woke up",
    "processes that go on beside the next",
    "reads beside",
    "refused requests",
    "stale listings",
    "waits for a live driver",
];

#[test]
fn whatever_becomes_of_requests_nothing_acknowledged_is_lost() {
    let runs = number("FERROWAL_STORE_RUNS").unwrap_or(RUNS);
    let until = number("FERROWAL_MINUTES").map(|m| Instant::now() + Duration::from_secs(60 * m));
    let today = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    // A check is the same each time; a soak goes where nobody was.
    let fresh = if until.is_some() { today >> 8 } else { 1 };
    let first = number("FERROWAL_FIRST_SEED").unwrap_or(fresh);
    let threads = number("FERROWAL_THREADS")
        .map_or_else(|| thread::available_parallelism().map_or(1, |n| n.get()), |n| n as usize);
    let (next, done, total) = (AtomicU64::new(first), AtomicU64::new(0), Mutex::new(Report::new()));
    let failure = Mutex::new(None);
    let (began, told_at) = (Instant::now(), Mutex::new(Instant::now()));
    thread::scope(|s| {
        for _ in 0..threads {
            s.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let over = until.map_or(seed >= first + runs, |until| Instant::now() >= until);
                    if over || failure.lock().unwrap().is_some() {
                        return;
                    }
                    match simulate(seed, None) {
                        Ok(report) => {
                            done.fetch_add(1, Ordering::Relaxed);
                            let mut total = total.lock().unwrap();
                            report.iter().for_each(|(what, n)| *total.entry(what).or_default() += n);
                        }
                        Err(f) => drop(failure.lock().unwrap().get_or_insert(f)),
                    }
                    let mut told_at = told_at.lock().unwrap();
                    if until.is_some() && told_at.elapsed() > Duration::from_secs(60) {
                        *told_at = Instant::now();
                        println!("{} runs", done.load(Ordering::Relaxed));
                    }
                }
            });
        }
    });
    let (total, done) = (total.into_inner().unwrap(), done.into_inner());
    println!("{done} runs from seed {first} on, {:?}:\n{}", began.elapsed(), told(&total));
    if let Some(failure) = failure.into_inner().unwrap() {
        panic!("{failure}");
    }
    if done >= RUNS {
        for what in FEATURES {
            assert!(total.get(what).is_some_and(|n| *n > 0), "{what}: never happened");
        }
    }
}

/// A run that shows each bug. Where one no longer does, all are tried from the first on.
const SHOWN_BY: &[(Bug, u64)] = &[
    (Bug::UnsureIsDone, 1),
    (Bug::TheirsIsOurs, 5),
    (Bug::TrustOldListing, 6),
    (Bug::ReadBeforeFence, 5),
    (Bug::FenceOverwrites, 14),
    (Bug::DeleteYoung, 26),
    (Bug::NoLookAfterPause, 181),
    (Bug::IgnoreOwnMark, 248),
    (Bug::OwnClock, 8),
];
/// What takes a pause of ten minutes at one moment of a few seconds: none of the first 17,000 runs has it. It is found by a
/// scenario that tries all moments (`marks.rs`).
const BY_SCENARIO: &[Bug] = &[Bug::AgeWhenAnswered];

/// With `FERROWAL_STORE_PLANTED=1` it tells after how many runs each is found, which takes minutes.
#[test]
fn every_bug_planted_for_stores_is_found() {
    const MOST: u64 = 3_000;
    let counted = std::env::var_os("FERROWAL_STORE_PLANTED").is_some();
    let next = AtomicU64::new(0);
    let unseen = Mutex::new(Vec::new());
    let bugs: Vec<Bug> = Bug::STORES.iter().copied().filter(|bug| !BY_SCENARIO.contains(bug)).collect();
    thread::scope(|s| {
        for _ in 0..thread::available_parallelism().map_or(1, |n| n.get()) {
            s.spawn(|| {
                while let Some(bug) = bugs.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    let known = SHOWN_BY.iter().filter(|(b, _)| b == bug && !counted).map(|(_, seed)| *seed);
                    let failure = known
                        .chain(1..=MOST)
                        .find_map(|seed| simulate(seed, Some(*bug)).err().map(|e| (seed, e)));
                    match failure {
                        Some((seed, said)) => {
                            println!("{bug:?}, by seed {seed}: {}", said.lines().next().unwrap_or_default());
                        }
                        None => unseen.lock().unwrap().push(*bug),
                    }
                }
            });
        }
    });
    let unseen = unseen.into_inner().unwrap();
    assert!(unseen.is_empty(), "not found: {unseen:?}");
}
