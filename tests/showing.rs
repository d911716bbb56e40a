//! What is shown where it was read (`Log::read_with`, `Scan::lend`) is what is read into memory of the caller's own. Java
//! reads by nothing else.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{fs::OpenOptions, os::unix::fs::FileExt};

use common::{options, record, segment_file, write_by};
use ferrowal::{Error, Log, RecordHandle, Role};

/// Some are read through the page cache and some past it, some are longer than what is lent at once.
const LENGTHS: [usize; 9] = [0, 100, 1 << 10, 16 << 10, 64 << 10, 65_000, 300 << 10, 600 << 10, 5 << 20];

/// Each length a few times, in an order in which neighbours differ.
fn written(log: &Log) -> Vec<(RecordHandle, Vec<u8>)> {
    (0..4 * LENGTHS.len())
        .map(|i| {
            let bytes = match LENGTHS[i * 5 % LENGTHS.len()] {
                short @ 0..8 => vec![7; short],
                length => record(i as u64, length),
            };
            (log.append(&bytes, i as i64).unwrap(), bytes)
        })
        .collect()
}

/// All of a scan, as Java takes it.
fn shown(log: &Log) -> Result<Vec<Vec<u8>>, Error> {
    let mut scan = log.scan()?;
    let mut all = Vec::new();
    while let Some(length) = scan.lend()? {
        let record = scan.show(<[u8]>::to_vec)?.expect("lent");
        assert_eq!(record.len(), length);
        assert!(scan.show(|_| ())?.is_none(), "once");
        all.push(record);
    }
    assert!(scan.show(|_| ())?.is_none(), "at the end");
    Ok(all)
}

#[test]
fn what_is_shown_is_what_was_written() {
    for way in common::ways() {
        let dir = tempfile::tempdir().unwrap();
        let mut opts = options(dir.path(), Role::Receivers);
        write_by(&mut opts, way);
        let log = Log::open(opts).unwrap();
        let written = written(&log);
        // Backwards, so that no record is in its turn; then forwards.
        for (handle, record) in written.iter().rev().chain(&written) {
            let same = log.read_with(handle, |shown| shown == record).unwrap();
            assert!(same, "{way}: {handle}");
        }
        let all = shown(&log).unwrap();
        assert!(all.iter().eq(written.iter().map(|(_, record)| record)), "{way}");
        log.close().unwrap();
    }
}

#[test]
fn what_is_damaged_is_shown_to_nobody() {
    if !common::local() {
        return;
    }
    // Without barriers, damage behind the last sealed segment reads as torn.
    for way in common::ways().into_iter().filter(|way| *way != "os") {
        let dir = tempfile::tempdir().unwrap();
        let mut opts = options(dir.path(), Role::Receivers);
        write_by(&mut opts, way);
        let log = Log::open(opts).unwrap();
        let written = written(&log);
        // Nothing on the disk says yet that the last one was whole: damaged it is torn.
        for (handle, record) in written.iter().rev().skip(1).filter(|(_, record)| record.len() >= 100) {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .open(segment_file(dir.path(), Role::Receivers, handle))
                .unwrap();
            // Its last byte: behind the frame's header of 24 bytes.
            let at = handle.offset + 24 + record.len() as u64 - 1;
            let flip = || {
                let mut byte = [0];
                file.read_exact_at(&mut byte, at).unwrap();
                file.write_all_at(&[byte[0] ^ 1], at).unwrap();
            };
            flip();
            let met = log.read_with(handle, |_| ());
            assert!(matches!(met, Err(Error::Corrupt { .. })), "{way}: {handle}: {met:?}");
            let met = shown(&log).map(|all| all.len());
            assert!(matches!(met, Err(Error::Corrupt { .. })), "{way}: {handle}: {met:?}");
            flip();
            assert!(log.read_with(handle, |shown| shown == record).unwrap(), "{way}: {handle}");
        }
        log.close().unwrap();
    }
}
