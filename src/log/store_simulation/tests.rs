//! The runs of `make check`, and the planted bugs.
//!
//! `FERROWAL_STORE_SEED=<n>` replays one run; `FERROWAL_STORE_RUNS=<n>` and `FERROWAL_FIRST_SEED=<n>` say how many are made,
//! and from where.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use super::{Report, simulate};
use crate::planted::Bug;

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
    for seed in 1..=20 {
        assert_eq!(simulate(seed, None), simulate(seed, None), "seed {seed}");
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
    let runs = number("FERROWAL_STORE_RUNS").unwrap_or(400);
    let first = number("FERROWAL_FIRST_SEED").unwrap_or(1);
    let (next, total) = (AtomicU64::new(first), Mutex::new(Report::new()));
    let failure = Mutex::new(None);
    let began = Instant::now();
    let threads = thread::available_parallelism().map_or(1, |n| n.get());
    thread::scope(|s| {
        for _ in 0..threads {
            s.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + runs || failure.lock().unwrap().is_some() {
                        return;
                    }
                    match simulate(seed, None) {
                        Ok(report) => {
                            let mut total = total.lock().unwrap();
                            report.iter().for_each(|(what, n)| *total.entry(what).or_default() += n);
                        }
                        Err(f) => drop(failure.lock().unwrap().get_or_insert(f)),
                    }
                }
            });
        }
    });
    let total = total.into_inner().unwrap();
    println!("seeds {first} to {}, {:?}:\n{}", first + runs - 1, began.elapsed(), told(&total));
    if let Some(failure) = failure.into_inner().unwrap() {
        panic!("{failure}");
    }
    if runs >= 300 {
        for what in FEATURES {
            assert!(total.get(what).is_some_and(|n| *n > 0), "{what}: never happened");
        }
    }
}

#[test]
fn every_bug_planted_for_stores_is_found() {
    const MOST: u64 = 1_500;
    let next = AtomicU64::new(0);
    let found = Mutex::new(Vec::new());
    thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| {
                while let Some(bug) = Bug::STORES.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    let failure =
                        (1..=MOST).find_map(|seed| simulate(seed, Some(*bug)).err().map(|e| (seed, e)));
                    found.lock().unwrap().push((*bug, failure));
                }
            });
        }
    });
    let mut unseen = Vec::new();
    for (bug, failure) in found.into_inner().unwrap() {
        match failure {
            Some((runs, said)) => {
                println!("{bug:?}, after {runs} runs: {}", said.lines().next().unwrap_or_default())
            }
            None => unseen.push(bug),
        }
    }
    assert!(unseen.is_empty(), "not found: {unseen:?}");
}
