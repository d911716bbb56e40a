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
