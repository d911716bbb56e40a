//! `ferrowal bench`.

use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::{
        Barrier,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use serde_json::json;

use super::{Failure, WELL, count};
use crate::{
    error::Error,
    log::Log,
    options::{Options, Role},
    storage::local::probe,
};

/// Measures how often the device makes an overwrite durable, and what the log makes of it with 1, 8 and 64 writers. Needs
/// a gigabyte in DIR, and about half a minute; what it writes is deleted at the end. The whole comparison, with other
/// logs, is the project's `make bench`.
#[derive(Args)]
pub(super) struct Bench {
    /// A directory on the device.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Seconds for each figure.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Rounds of which the median counts.
const ROUNDS: usize = 3;
const CELLS: [(usize, usize); 6] =
    [(1 << 10, 1), (1 << 10, 8), (1 << 10, 64), (64 << 10, 1), (64 << 10, 8), (64 << 10, 64)];
const BAR: usize = 40;

impl Bench {
    pub(super) fn run(&self, out: &mut dyn Write) -> Result<u8, Failure> {
        if !(0.05..=60.0).contains(&self.seconds) {
            return Err(Failure::Say("--seconds is from 0.05 to 60".into()));
        }
        let dir = std::path::absolute(&self.dir)?.join(format!("ferrowal-bench-{}", std::process::id()));
        std::fs::create_dir(&dir).map_err(|e| Error::io("create", dir.display(), e))?;
        let result = self.measure(out, &dir);
        let removed = std::fs::remove_dir_all(&dir).map_err(|e| Error::io("delete", dir.display(), e));
        let rows = result?;
        removed?;
        if self.json {
            writeln!(out, "{:#}", json!({ "rounds": ROUNDS, "seconds": self.seconds, "cells": rows }))?;
        }
        Ok(WELL)
    }

    fn measure(&self, out: &mut dyn Write, dir: &Path) -> Result<Vec<serde_json::Value>, Failure> {
        let span = Duration::from_secs_f64(self.seconds);
        let mut rows = Vec::new();
        if !self.json {
            writeln!(
                out,
                "The device: one durable overwrite of all writers' records at a time, by the best barrier. The log: the same records through it."
            )?;
        }
        for (size, writers) in CELLS {
            let file = dir.join("device");
            let at = dir.join("log");
            let mut options = Options::new(at.as_path(), Role::Receivers);
            options.clean_grace = Duration::ZERO;
            options.linger = Duration::ZERO;
            let log = Log::open(options)?;
            let clock = AtomicU64::new(0);
            append(&log, size, writers, span, &clock)?;
            let mut rounds = Vec::new();
            for _ in 0..ROUNDS {
                let (barrier, rate) = probe(&file, size * writers, span)?;
                let device = rate * writers as f64;
                rounds.push((append(&log, size, writers, span, &clock)? / device, device, barrier));
            }
            log.close()?;
            std::fs::remove_dir_all(&at).map_err(|e| Error::io("delete", at.display(), e))?;
            rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
            let (share, device, barrier) = rounds[ROUNDS / 2];
            let (least, most) = (rounds[0].0, rounds[ROUNDS - 1].0);
            rows.push(json!({
                "bytes": size, "writers": writers, "barrier": barrier.to_string(), "deviceRecordsPerSecond": device,
                "recordsPerSecond": device * share, "share": share, "shareLeast": least, "shareMost": most,
            }));
            if !self.json {
                let filled = ((share * BAR as f64) as usize).min(BAR);
                writeln!(
                    out,
                    "{:>6} B x {writers:<2}  device {:>9}/s ({barrier}), log {:>9}/s  {}{} {:>3.0} % ({:.0}-{:.0})",
                    size,
                    count(device as u64),
                    count((device * share) as u64),
                    "#".repeat(filled),
                    ".".repeat(BAR - filled),
                    share * 100.0,
                    least * 100.0,
                    most * 100.0,
                )?;
                out.flush()?;
            }
        }
        Ok(rows)
    }
}

/// Records a second that `writers` threads append, each waiting for its own.
fn append(log: &Log, size: usize, writers: usize, span: Duration, clock: &AtomicU64) -> Result<f64, Failure> {
    let start = Barrier::new(writers);
    let record = vec![0x5a; size];
    let results = thread::scope(|scope| {
        let writers: Vec<_> = (0..writers)
            .map(|i| {
                let (start, record) = (&start, &record);
                scope.spawn(move || -> Result<(u64, f64), Error> {
                    start.wait();
                    let began = Instant::now();
                    let mut n = 0;
                    while began.elapsed() < span {
                        let time = clock.fetch_add(1, Ordering::Relaxed) as i64;
                        log.append(record, time)?;
                        n += 1;
                        // As an application would: old records go, and their files are used again.
                        if i == 0 && n % 1000 == 0 {
                            log.clean(time, false)?;
                        }
                    }
                    Ok((n, began.elapsed().as_secs_f64()))
                })
            })
            .collect();
        writers.into_iter().map(|w| w.join()).collect::<Vec<_>>()
    });
    let mut rate = 0.0;
    for result in results {
        let (n, took) = result.map_err(|_| Failure::Say("a writer of the benchmark panicked".into()))??;
        rate += n as f64 / took;
    }
    Ok(rate)
}
