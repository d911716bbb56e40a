//! Rows of `make bench` that are written in Rust: one process opens one log, keeps it open, and runs a round each time it
//! is told to, so that its rounds interleave with those of the rows in the JVM.
//!
//! ```text
//! peers LOG DIRECTORY SIZE THREADS     LOG: raft-engine, okaywal, ferrowal-os, waiting, waiting-awake
//!                                      or writing;
//!                                      SIZE in bytes; an existing empty directory
//! ```
//!
//! It says `ready`, and then answers each line of its standard input with one line:
//!
//! ```text
//! round RAMP SECONDS    all threads write; writes that return within SECONDS after RAMP count
//!                       → round RECORDS CPU_MICROS HISTOGRAM (nanoseconds; HdrHistogram V2, base64)
//! write RECORDS         one thread writes so many records, one after the other → written
//! ```
//!
//! At the end of its input it exits at once, closing nothing. A failure ends it with a message and exit code 1.

mod logs;
#[cfg(feature = "others")]
mod others;
mod waiting;
mod writing;

use std::{
    io::{BufRead, Write},
    path::Path,
    process::ExitCode,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hdrhistogram::{
    Histogram,
    serialization::{Serializer, V2Serializer},
};
use logs::{Failure, Log};

/// As the rows in the JVM: cleaned once a second.
const BATCH: Duration = Duration::from_secs(1);
/// The kernel's unit of CPU time in `/proc/self/stat`: 100 a second on every Linux that Rust's std runs on.
const TICK_MICROS: u64 = 10_000;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [log, dir, size, threads] = args.as_slice() else {
        return Err(
            "usage: peers raft-engine|okaywal|ferrowal-os|waiting|waiting-awake|writing DIRECTORY SIZE THREADS"
                .into(),
        );
    };
    let (size, threads): (usize, usize) = (size.parse()?, threads.parse()?);
    let log = logs::open(log, Path::new(dir), size, threads)?;
    say("ready")?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["round", ramp, seconds] => {
                say(&round(&log, size, threads, span(ramp)?, span(seconds)?)?)?;
            }
            ["write", records] => {
                let mut writer = log.writer(0, record(size, 0));
                for _ in 0..records.parse::<u64>()? {
                    writer.write()?;
                }
                say("written")?;
            }
            _ => return Err(format!("not understood: {line}").into()),
        }
    }
    // No destructor may sync, checkpoint or wait.
    std::process::exit(0);
}

fn span(text: &str) -> Result<Duration, Failure> {
    Ok(Duration::try_from_secs_f64(text.parse()?)?)
}

fn say(line: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Random bytes (xorshift), so that no layer below can make them smaller; the writers' differ.
fn record(size: usize, writer: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15 ^ ((writer as u64 + 1) << 17);
    (0..size)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as u8
        })
        .collect()
}

fn round(
    log: &Arc<dyn Log>,
    size: usize,
    threads: usize,
    ramp: Duration,
    seconds: Duration,
) -> Result<String, Failure> {
    let start = Barrier::new(threads + 2);
    let failed = AtomicBool::new(false);
    let (times, cpu) = thread::scope(|scope| {
        let writers: Vec<_> = (0..threads)
            .map(|i| {
                let (start, failed) = (&start, &failed);
                let mut writer = log.writer(i, record(size, i));
                scope.spawn(move || -> Result<Histogram<u64>, Failure> {
                    let mut times = histogram();
                    start.wait();
                    let count_from = Instant::now() + ramp;
                    let end = count_from + seconds;
                    let mut before = Instant::now();
                    while before < end && !failed.load(Ordering::Relaxed) {
                        writer.write().inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
                        let after = Instant::now();
                        if after >= count_from && after <= end {
                            times.saturating_record((after - before).as_nanos() as u64);
                        }
                        before = after;
                    }
                    Ok(times)
                })
            })
            .collect();
        let cleaner = {
            let (start, failed) = (&start, &failed);
            scope.spawn(move || -> Result<(), Failure> {
                start.wait();
                let end = Instant::now() + ramp + seconds;
                let mut next = Instant::now();
                while next < end && !failed.load(Ordering::Relaxed) {
                    thread::sleep(next.saturating_duration_since(Instant::now()));
                    log.clean()?;
                    next += BATCH;
                }
                Ok(())
            })
        };
        start.wait();
        thread::sleep(ramp);
        let before = cpu_micros();
        thread::sleep(seconds);
        let cpu = cpu_micros() - before;
        let mut times = histogram();
        for writer in writers {
            let own = writer.join().map_err(|_| "a writer panicked")??;
            times.add(own)?;
        }
        cleaner.join().map_err(|_| "the cleaner panicked")??;
        Ok::<_, Failure>((times, cpu))
    })?;
    let mut bytes = Vec::new();
    V2Serializer::new().serialize(&times, &mut bytes).map_err(|e| format!("{e:?}"))?;
    Ok(format!("round {} {cpu} {}", times.len(), STANDARD.encode(bytes)))
}

/// As the JVM's: up to an hour, to a part in a thousand.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000_000, 3).expect("the bounds are constants")
}

/// CPU time of this process so far, user and system.
fn cpu_micros() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is the program's name in parentheses; user and system time are the 14th and 15th.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
    (ticks(11) + ticks(12)) * TICK_MICROS
}
