//! What the log does beside what the device itself does, in one run: `cargo bench --bench throughput [DIR]`.
//!
//! The device's row is one overwrite of zeroed blocks and one fdatasync for as many records as there are threads, with
//! no software at all: an ideal group commit. Rounds are interleaved; the medians are printed with their spread.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    fs::File,
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use ferrowal::{Log, Options, Role};

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_millis(1000);

/// Records a second of the ideal group commit.
fn device(dir: &Path, size: usize, threads: usize) -> f64 {
    let path = dir.join("device");
    let mut file = File::options().create(true).truncate(true).read(true).write(true).open(&path).unwrap();
    let group = size * threads;
    let span = (64usize << 20).max(group) / group * group;
    let bytes = vec![7u8; group];
    // In pieces: a file zeroed by one write of 64 MiB was seen to be overwritten at half the rate, probably since the size
    // of the writes decides how large the page cache's folios are.
    let zeros = vec![0u8; 1 << 20];
    for at in (0..span).step_by(zeros.len()) {
        file.write_all(&zeros[..zeros.len().min(span - at)]).unwrap();
    }
    file.sync_all().unwrap();
    let began = Instant::now();
    let (mut at, mut groups) = (0, 0);
    while began.elapsed() < ROUND {
        file.write_all_at(&bytes, at as u64).unwrap();
        file.sync_data().unwrap();
        at = (at + group) % span;
        groups += 1;
    }
    (groups * threads) as f64 / began.elapsed().as_secs_f64()
}

/// Records a second of the log, cleaned as it goes.
fn ferrowal(dir: &Path, size: usize, threads: usize) -> f64 {
    let path = dir.join("log");
    let mut options = Options::new(&path, Role::Receivers);
    options.clean_grace = Duration::ZERO;
    options.linger = Duration::ZERO;
    let log = Arc::new(Log::open(options).unwrap());
    log.append(&vec![0; size], 0).unwrap();
    let start = Arc::new(Barrier::new(threads + 1));
    let workers: Vec<_> = (0..threads)
        .map(|_| {
            let (log, start) = (log.clone(), start.clone());
            thread::spawn(move || {
                let record = vec![9u8; size];
                start.wait();
                let began = Instant::now();
                let mut n = 0u64;
                while began.elapsed() < ROUND {
                    let time = began.elapsed().as_millis() as i64;
                    log.append(&record, time).unwrap();
                    n += 1;
                    if n.is_multiple_of(64) {
                        log.clean(time - 100, false).unwrap();
                    }
                }
                n as f64 / began.elapsed().as_secs_f64()
            })
        })
        .collect();
    start.wait();
    let rate = workers.into_iter().map(|w| w.join().unwrap()).sum();
    log.close().unwrap();
    std::fs::remove_dir_all(path).unwrap();
    rate
}

/// Threads that compute, as Spark's tasks do, until they are dropped.
struct Busy {
    stop: Arc<AtomicBool>,
    tasks: Arc<AtomicU64>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Busy {
    fn begin() -> Busy {
        let (stop, tasks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let processors = thread::available_parallelism().map_or(1, |n| n.get());
        let threads = (0..processors).map(|_| {
            let (stop, tasks) = (stop.clone(), tasks.clone());
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let task =
                        (0..200_000u64).fold(1u64, |x, i| std::hint::black_box(x.wrapping_mul(31) ^ i));
                    std::hint::black_box(task);
                    tasks.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        let threads = threads.collect();
        Busy { stop, tasks, threads }
    }

    /// Tasks a second while `work` goes on, and what it gives.
    fn beside<T>(&self, work: impl FnOnce() -> T) -> (f64, T) {
        let (began, before) = (Instant::now(), self.tasks.load(Ordering::Relaxed));
        let result = work();
        let tasks = self.tasks.load(Ordering::Relaxed) - before;
        (tasks as f64 / began.elapsed().as_secs_f64(), result)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|t| t.join().unwrap());
    }
}

fn median(mut figures: Vec<f64>) -> (f64, f64, f64) {
    figures.sort_by(f64::total_cmp);
    (figures[figures.len() / 2], figures[0], figures[figures.len() - 1])
}

fn main() {
    let dir = std::env::args()
        .nth(1)
        .filter(|a| !a.starts_with("--"))
        .map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let dir = dir.canonicalize().unwrap().join(format!("bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    println!("| records | threads | device, records/s | ferrowal, records/s | share of the device |");
    println!("|---|---|---|---|---|");
    for (size, threads) in
        [(1 << 10, 1), (1 << 10, 8), (1 << 10, 64), (64 << 10, 1), (64 << 10, 8), (1 << 20, 8)]
    {
        let (mut ideal, mut ours, mut share) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (d, f) = (device(&dir, size, threads), ferrowal(&dir, size, threads));
            ideal.push(d);
            ours.push(f);
            share.push(f / d);
        }
        let show = |(m, lo, hi): (f64, f64, f64)| format!("{m:.0} ({lo:.0}–{hi:.0})");
        let (m, lo, hi) = median(share);
        println!(
            "| {size} B | {threads} | {} | {} | {m:.2} ({lo:.2}–{hi:.2}) |",
            show(median(ideal)),
            show(median(ours))
        );
    }
    println!("\nBeside as many threads that compute as there are processors:\n");
    println!("| records | threads | ferrowal, records/s | their tasks/s, share of what they do alone |");
    println!("|---|---|---|---|");
    for (size, threads) in [(1 << 10, 8), (1 << 10, 64)] {
        let (mut ours, mut share) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let busy = Busy::begin();
            let (alone, ()) = busy.beside(|| thread::sleep(ROUND));
            let (tasks, rate) = busy.beside(|| ferrowal(&dir, size, threads));
            ours.push(rate);
            share.push(tasks / alone);
        }
        let ((o, ol, oh), (m, lo, hi)) = (median(ours), median(share));
        println!("| {size} B | {threads} | {o:.0} ({ol:.0}–{oh:.0}) | {m:.2} ({lo:.2}–{hi:.2}) |");
    }
    std::fs::remove_dir_all(dir).unwrap();
}
