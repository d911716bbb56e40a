//! What reading costs beside what the device itself does, in one run: `cargo bench --bench reading [DIR [MIB]]`.
//!
//! A log of MIB mebibytes (2048) is written by a process that is then killed, and read: opened again, scanned cold and
//! warm, and record by record through handles in no order. Cold: the kernel was told to forget the files. Rounds are
//! interleaved with the same bytes read past the log; medians are printed with their spread.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    fs::{self, File},
    hint::black_box,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use ferrowal::{Log, Options, RecordHandle, Role};

const ROUNDS: usize = 5;
const RECORD: usize = 64 << 10;
/// Reads by handle and past the log together, in each round.
const SAMPLES: usize = 4000;
const PIECE: usize = 1 << 20;
const O_DIRECT: i32 = 0o40000;

fn options(dir: &Path) -> Options {
    let mut options = Options::new(dir, Role::Driver);
    options.linger = Duration::ZERO;
    options
}

/// Writes the log and dies; the handles go to a file.
fn write(dir: &Path, bytes: usize) -> ! {
    let log = Log::open(options(dir)).unwrap();
    let record: Vec<u8> = (0..RECORD).map(|i| (i * 7 % 251) as u8).collect();
    let mut handles = String::new();
    let per_thread = bytes / RECORD / 8;
    thread::scope(|s| {
        let workers: Vec<_> = (0..8)
            .map(|_| {
                let (log, record) = (&log, &record);
                s.spawn(move || {
                    (0..per_thread).map(|i| log.append(record, i as i64).unwrap()).collect::<Vec<_>>()
                })
            })
            .collect();
        for h in workers.into_iter().flat_map(|w| w.join().unwrap()) {
            let RecordHandle { log, writer, segment, offset, length, crc, .. } = h;
            handles += &format!("{log} {writer} {segment} {offset} {length} {crc}\n");
        }
    });
    fs::write(dir.join("handles"), handles).unwrap();
    std::process::abort()
}

fn handles(dir: &Path) -> Vec<RecordHandle> {
    let text = fs::read_to_string(dir.join("handles")).unwrap();
    let handle = |line: &str| {
        let w: Vec<&str> = line.split(' ').collect();
        RecordHandle {
            log: w[0].parse().unwrap(),
            writer: w[1].parse().unwrap(),
            segment: w[2].parse().unwrap(),
            offset: w[3].parse().unwrap(),
            length: w[4].parse().unwrap(),
            crc: w[5].parse().unwrap(),
            version: 1,
        }
    };
    let mut all: Vec<_> = text.lines().map(handle).collect();
    // In an order that no read-ahead guesses.
    all.sort_by_key(|h| (h.crc.wrapping_mul(0x9e37_79b9), h.offset));
    all
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(dir.join("driver"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "seg"))
        .collect();
    found.sort();
    found
}

/// The kernel forgets what it has of the files.
fn forget(dir: &Path) {
    for path in segments(dir) {
        let file = File::open(path).unwrap();
        rustix::fs::fdatasync(&file).unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }
}

/// The segments' bytes, by one thread through the page cache.
fn buffered(dir: &Path) -> usize {
    let mut buffer = vec![0; PIECE];
    let mut total = 0;
    for path in segments(dir) {
        let file = File::open(path).unwrap();
        let mut at = 0;
        loop {
            let n = file.read_at(&mut buffer, at).unwrap();
            if n == 0 {
                break;
            }
            at += n as u64;
        }
        total += at as usize;
    }
    total
}

/// The same past the page cache, with `depth` reads of 1 MiB at the device.
fn direct(dir: &Path, depth: usize) -> usize {
    let files: Vec<(File, u64)> = segments(dir)
        .into_iter()
        .map(|p| {
            let file = File::options().read(true).custom_flags(O_DIRECT).open(p).unwrap();
            let length = file.metadata().unwrap().len();
            (file, length)
        })
        .collect();
    let pieces: Vec<(usize, u64)> = files
        .iter()
        .enumerate()
        .flat_map(|(i, (_, length))| (0..length.div_ceil(PIECE as u64)).map(move |k| (i, k * PIECE as u64)))
        .collect();
    let (next, total) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|s| {
        for _ in 0..depth {
            s.spawn(|| {
                let mut memory = vec![0u8; PIECE + 4096];
                let skip = memory.as_ptr().align_offset(4096);
                while let Some((file, at)) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let n = files[*file].0.read_at(&mut memory[skip..skip + PIECE], *at).unwrap();
                    total.fetch_add(n, Ordering::Relaxed);
                }
            });
        }
    });
    total.into_inner()
}

fn scan(dir: &Path) -> usize {
    let log = Log::open(options(dir)).unwrap();
    let total = log.scan().unwrap().map(|r| r.unwrap().len()).sum();
    log.close().unwrap();
    total
}

/// Bytes a second, in mebibytes.
fn rate(work: impl FnOnce() -> usize) -> f64 {
    let began = Instant::now();
    let bytes = work();
    bytes as f64 / f64::from(1 << 20) / began.elapsed().as_secs_f64()
}

fn row(name: &str, mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let median = values[values.len() / 2];
    println!("{name:<44} {median:>10.1}   ({:.1} to {:.1})", values[0], values[values.len() - 1]);
    median
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let dir = args.first().map_or_else(|| std::env::temp_dir().join("ferrowal-reading"), PathBuf::from);
    let mib = args.get(1).map_or(2048, |m| m.parse().unwrap());
    if std::env::var_os("FERROWAL_WRITE").is_some() {
        write(&dir, mib << 20);
    }
    if !dir.exists() {
        let me = std::env::current_exe().unwrap();
        let died = Command::new(me)
            .env("FERROWAL_WRITE", "1")
            .args([dir.to_str().unwrap(), &mib.to_string()])
            .status()
            .unwrap();
        assert!(!died.success());
    }
    let handles = handles(&dir);
    // The first look after the crash; nothing is changed by it.
    forget(&dir);
    let began = Instant::now();
    let log = Log::open(options(&dir)).unwrap();
    log.check().unwrap();
    println!(
        "{} segments, {} records; looked at after a kill, cold: {:?}",
        segments(&dir).len(),
        handles.len(),
        began.elapsed()
    );
    let began = Instant::now();
    // It goes on with what is there, and does not begin anew.
    drop(log.scan().unwrap());
    black_box(log.append(b"goes on", 1 << 40).unwrap());
    println!("{:<44} {:>10.1?}", "opened for writing, with the first record", began.elapsed());
    log.close().unwrap();
    let mut rows: [Vec<f64>; 8] = Default::default();
    for _ in 0..ROUNDS {
        forget(&dir);
        rows[0].push(rate(|| buffered(&dir)));
        forget(&dir);
        rows[1].push(rate(|| direct(&dir, 4)));
        forget(&dir);
        rows[2].push(rate(|| scan(&dir)));
        rows[3].push(rate(|| buffered(&dir)));
        rows[4].push(rate(|| scan(&dir)));
        let files: Vec<(PathBuf, File)> =
            segments(&dir).into_iter().map(|p| (p.clone(), File::open(p).unwrap())).collect();
        let log = Log::open(options(&dir)).unwrap();
        forget(&dir);
        // Turn by turn, so that both meet the same device.
        let mut times = [Vec::new(), Vec::new()];
        for (i, h) in handles.iter().take(SAMPLES).enumerate() {
            let began = Instant::now();
            if i % 2 == 0 {
                let name = format!("{:016}.seg", h.segment);
                let file = &files.iter().find(|(p, _)| p.ends_with(&name)).unwrap().1;
                let mut bytes = vec![0; h.length as usize + 24];
                file.read_exact_at(&mut bytes, h.offset).unwrap();
                black_box(bytes);
            } else {
                black_box(log.read(h).unwrap());
            }
            times[i % 2].push(began.elapsed().as_secs_f64() * 1e6);
        }
        for (i, mut t) in times.into_iter().enumerate() {
            t.sort_by(f64::total_cmp);
            rows[5 + i].push(t[t.len() / 2]);
        }
        log.close().unwrap();
        forget(&dir);
        let began = Instant::now();
        let log = Log::open(options(&dir)).unwrap();
        log.check().unwrap();
        rows[7].push(began.elapsed().as_secs_f64() * 1e3);
        log.close().unwrap();
    }
    let [a, b, c, d, e, f, g, h] = rows;
    let a = row("MiB/s cold: one reader, page cache", a);
    let b = row("MiB/s cold: 4 reads of 1 MiB, O_DIRECT", b);
    let c = row("MiB/s cold: scan", c);
    row("MiB/s warm: one reader, no checksum", d);
    row("MiB/s warm: scan", e);
    let f = row("us cold: one pread of 64 KiB", f);
    let g = row("us cold: read(handle) of 64 KiB", g);
    row("ms cold: look at a log that was closed", h);
    println!("scan / device: {:.2} of the page cache's way, {:.2} of the direct way", c / a, c / b);
    println!("read(handle) / pread: {:.2}", g / f);
    if args.is_empty() {
        fs::remove_dir_all(&dir).unwrap();
    }
}
