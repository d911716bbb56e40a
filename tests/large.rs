//! Records that are written in pieces: every length around a piece's end, each way of writing, sources that fail.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{options, record, write_by};
use ferrowal::{Error, Log, RecordSource, Result, Role};

const MIB: usize = 1 << 20;

#[test]
fn records_of_any_length_come_back_in_every_way_of_writing() {
    for way in common::ways() {
        let dir = tempfile::tempdir().unwrap();
        let mut opts = options(dir.path(), Role::Receivers);
        write_by(&mut opts, way);
        let lengths = [4 * MIB - 200, 4 * MIB, 4 * MIB + 1, 5 * MIB - 88, 9 * MIB + 4095, 70 * MIB];
        let log = Log::open(opts.clone()).unwrap();
        let written: Vec<_> = (0..).zip(lengths).map(|(i, length)| record(i, length)).collect();
        let handles: Vec<_> = written.iter().map(|r| log.append(r, 1).unwrap()).collect();
        for (handle, record) in handles.iter().zip(&written) {
            assert!(log.read(handle).unwrap() == *record, "{way}: {} bytes by handle", record.len());
        }
        log.close().unwrap();
        let scanned: Vec<_> = Log::open(opts).unwrap().scan().unwrap().map(|r| r.unwrap()).collect();
        assert!(scanned == written, "{way}: the scan gives what was written");
    }
}

/// Gives up, or panics, at some byte.
struct Failing {
    length: usize,
    at: usize,
    panics: bool,
}

impl RecordSource for Failing {
    fn len(&self) -> usize {
        self.length
    }

    fn copy(&mut self, offset: usize, into: &mut [u8]) -> Result<()> {
        if offset + into.len() > self.at {
            assert!(!self.panics, "a source that panics");
            return Err(Error::Source("a source that fails".into()));
        }
        into.fill(1);
        Ok(())
    }
}

#[test]
fn a_source_that_fails_in_any_piece_leaves_nothing_and_the_log_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(options(dir.path(), Role::Receivers)).unwrap();
    let length = 9 * MIB;
    for at in [0, 100 << 10, MIB + 1, 5 * MIB, length - 1] {
        for panics in [false, true] {
            let failed = log.append_from(&mut Failing { length, at, panics }, 1);
            assert!(matches!(failed, Err(Error::Source(_))), "at {at}: {failed:?}");
        }
    }
    let handle = log.append(&record(1, 6 * MIB), 2).unwrap();
    assert!(log.read(&handle).unwrap() == record(1, 6 * MIB));
    log.close().unwrap();
    let all: Vec<_> = common::open(dir.path(), Role::Receivers).scan().unwrap().collect();
    assert_eq!(all.len(), 1, "of the failed ones there is nothing");
}

/// Large segments are read past the cache, a chunk at a time and ahead: with records across the ends of chunks and of segments,
/// from the cache and from the device, and with damage, behind which it goes back to look for the next record.
#[test]
fn what_is_read_ahead_is_what_was_written_and_damage_is_found_in_it() {
    if !common::local() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut opts = options(dir.path(), Role::Driver);
    opts.segment_size = 9 << 20;
    let seed = std::env::var("FERROWAL_SEED").map_or(4711, |s| s.parse().unwrap());
    let mut state: u64 = seed;
    let mut below = |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    };
    let log = Log::open(opts.clone()).unwrap();
    let lengths: Vec<usize> =
        (0..400).map(|i| if i % 8 == 0 { below(900_000) } else { below(60_000) }).collect();
    let written: Vec<_> = (0..).zip(&lengths).map(|(i, length)| record(i, *length)).collect();
    let handles: Vec<_> = written.iter().map(|r| log.append(r, 1).unwrap()).collect();
    let forget = || {
        for entry in std::fs::read_dir(dir.path().join("driver")).unwrap() {
            // What is made ahead of need changes its name.
            let Ok(file) = std::fs::File::open(entry.unwrap().path()) else { continue };
            rustix::fs::fdatasync(&file).unwrap();
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        }
    };
    let scanned = |log: &Log| -> Vec<_> { log.scan().unwrap().map(|r| r.unwrap()).collect() };
    assert!(handles.iter().map(|h| h.segment).max() > Some(2), "several segments");
    // Beside the writer, from wherever the bytes are; and when it is gone.
    forget();
    assert!(scanned(&log) == written, "FERROWAL_SEED={seed}");
    log.close().unwrap();
    for _ in 0..2 {
        let log = Log::open(opts.clone()).unwrap();
        assert!(scanned(&log) == written, "FERROWAL_SEED={seed}");
        log.close().unwrap();
    }
    // Not the last segment's: nobody can know what is missing at the very end.
    let last = handles.last().unwrap().segment;
    let before = handles.iter().filter(|h| h.segment < last).count();
    let mut bad: Vec<usize> = (0..12).map(|_| below(before)).filter(|i| lengths[*i] > 0).collect();
    bad.sort_unstable();
    bad.dedup();
    for i in &bad {
        let handle = &handles[*i];
        let path = dir.path().join("driver").join(format!("{:016}.seg", handle.segment));
        let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
        let at = handle.offset + 24 + below(lengths[*i]) as u64;
        let mut byte = [0];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut byte, at).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[byte[0] ^ 1], at).unwrap();
    }
    let good: Vec<_> =
        (0..).zip(&written).filter(|(i, _)| !bad.contains(i)).map(|(_, r)| r.clone()).collect();
    opts.recovery = ferrowal::Recovery::Salvage;
    for _ in 0..2 {
        let log = Log::open(opts.clone()).unwrap();
        let mut scan = log.scan().unwrap();
        let found: Vec<_> = scan.by_ref().map(|r| r.unwrap()).collect();
        assert!(found == good, "FERROWAL_SEED={seed}: {} of {} records", found.len(), good.len());
        assert_eq!(scan.skipped(), bad.len() as u64, "FERROWAL_SEED={seed}");
        log.close().unwrap();
        forget();
    }
}
