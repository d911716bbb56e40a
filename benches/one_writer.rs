//! What a lone writer's record costs, piece by piece: `cargo bench --bench one_writer [DIR]`.
//!
//! The device's durable write of so many zeroed bytes alone; of a block more, for headers; with every byte of it set anew before,
//! and nothing else; with a copy of the record instead; with a checksum, too. No log is involved: this is what any log with
//! one copy and one checksum has at most, as long as it does one after the other. What the write itself takes is a column:
//! bytes that a processor has just changed, as those of every record are, take the device longer than bytes that it has read
//! before. Ways take turns; medians of the rounds with least and most.
//!
//! Then the device alone by a block at a time, from each processor in turn: where a device interrupts one processor only, a
//! writer on another one is woken across processors, twice for each barrier (the write, the flush).
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    fs::File,
    io::Write,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
    time::{Duration, Instant},
};

use rustix::{
    fs::OFlags,
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_millis(400);
const BLOCK: usize = 4096;
const SPAN: u64 = 512 << 20;

/// What is done for a record besides writing its bytes.
#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    block: bool,
    anew: bool,
    copy: bool,
    checksum: bool,
}

const WAYS: [Way; 5] = [
    Way { name: "the device alone", block: false, anew: false, copy: false, checksum: false },
    Way { name: "a block more", block: true, anew: false, copy: false, checksum: false },
    Way { name: "with its bytes set anew", block: true, anew: true, copy: false, checksum: false },
    Way { name: "with a copy", block: true, anew: false, copy: true, checksum: false },
    Way { name: "with a copy and a checksum", block: true, anew: false, copy: true, checksum: true },
];

fn round(file: &File, buffer: &mut [u8], records: &[Vec<u8>], way: Way) -> [f64; 3] {
    let size = records[0].len();
    let length = if way.block { size + BLOCK } else { size };
    let (mut at, mut times, mut writes, mut crc) = (0, Vec::new(), Vec::new(), 0);
    let began = Instant::now();
    while began.elapsed() < ROUND {
        let start = Instant::now();
        if way.anew {
            buffer[..size].fill(times.len() as u8);
        }
        if way.copy {
            buffer[..size].copy_from_slice(&records[times.len() % records.len()]);
        }
        if way.checksum {
            crc ^= crc32fast::hash(&buffer[..size]);
        }
        let written = Instant::now();
        file.write_all_at(&buffer[..length], at).unwrap();
        writes.push(written.elapsed().as_secs_f64() * 1e6);
        at += length as u64;
        if at + length as u64 > SPAN {
            at = 0;
        }
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    std::hint::black_box(crc);
    let rate = times.len() as f64 / began.elapsed().as_secs_f64();
    times.sort_by(f64::total_cmp);
    writes.sort_by(f64::total_cmp);
    [times[times.len() / 2], writes[writes.len() / 2], rate * size as f64 / 1e6]
}

fn show(mut figures: Vec<f64>) -> String {
    figures.sort_by(f64::total_cmp);
    let [least, median, most] = [figures[0], figures[figures.len() / 2], figures[figures.len() - 1]];
    format!("{median:.0} ({least:.0}–{most:.0})")
}

fn main() {
    // cargo itself says --bench.
    let dir = std::env::args().skip(1).find(|a| !a.starts_with("--")).unwrap_or_else(|| "target/tmp".into());
    std::fs::create_dir_all(&dir).unwrap();
    let path = Path::new(&dir).join("one-writer");
    let mut file = File::create(&path).unwrap();
    let zeros = vec![0u8; 1 << 20];
    for _ in 0..SPAN / zeros.len() as u64 {
        file.write_all(&zeros).unwrap();
    }
    file.sync_all().unwrap();
    let flags = (OFlags::DIRECT | OFlags::DSYNC).bits().cast_signed();
    let file = File::options().write(true).custom_flags(flags).open(&path).unwrap();
    let mut memory = vec![7u8; (4 << 20) + 2 * BLOCK];
    let start = memory.as_ptr().align_offset(BLOCK);
    println!("| record | what | p50, µs | of it the write | MB/s |\n|---|---|---|---|---|");
    for size in [16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20] {
        let records: Vec<Vec<u8>> = (0..32u8).map(|i| vec![i; size]).collect();
        let mut found = WAYS.map(|_| [Vec::new(), Vec::new(), Vec::new()]);
        for _ in 0..ROUNDS {
            for (way, found) in WAYS.iter().zip(&mut found) {
                let figures = round(&file, &mut memory[start..], &records, *way);
                found.iter_mut().zip(figures).for_each(|(all, figure)| all.push(figure));
            }
        }
        for (way, found) in WAYS.iter().zip(found) {
            println!("| {} KiB | {} | {} |", size >> 10, way.name, found.map(show).join(" | "));
        }
    }
    by_processor(&file, &memory[start..][..BLOCK]);
    std::fs::remove_file(path).unwrap();
}

/// The time of a durable write of one block, from each processor.
fn by_processor(file: &File, block: &[u8]) {
    let all = sched_getaffinity(None).unwrap();
    let processors: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|p| all.is_set(*p)).take(8).collect();
    let mut found = vec![Vec::new(); processors.len()];
    for _ in 0..ROUNDS {
        for (processor, found) in processors.iter().zip(&mut found) {
            let mut only = CpuSet::new();
            only.set(*processor);
            sched_setaffinity(None, &only).unwrap();
            let (mut times, began) = (Vec::new(), Instant::now());
            while began.elapsed() < ROUND {
                let start = Instant::now();
                file.write_all_at(block, (times.len() * BLOCK) as u64 % SPAN).unwrap();
                times.push(start.elapsed().as_secs_f64() * 1e6);
            }
            times.sort_by(f64::total_cmp);
            found.push(times[times.len() / 2]);
        }
    }
    sched_setaffinity(None, &all).unwrap();
    println!("\n| processor | a durable write of 4 KiB, p50, µs |\n|---|---|");
    for (processor, found) in processors.iter().zip(found) {
        println!("| {processor} | {} |", show(found));
    }
}
