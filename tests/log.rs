//! The log's behaviour as its callers see it: what is written comes back, in order, until it is cleaned.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{fs, sync::Arc, thread};

use common::{all, open, options, record, segment_file};
use ferrowal::{Error, Log, RecordHandle, Recovery, Role};

const ROLES: [Role; 2] = [Role::Driver, Role::Receivers];

#[test]
fn nothing_is_created_before_the_first_append() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    for role in ROLES {
        let log = open(&path, role);
        log.check().unwrap();
        assert!(all(&log).is_empty());
        log.clean(100, true).unwrap();
        log.close().unwrap();
    }
    assert!(!path.exists());
}

#[test]
fn records_of_every_size_come_back_by_handle_and_in_order() {
    for role in ROLES {
        let dir = tempfile::tempdir().unwrap();
        let log = open(dir.path(), role);
        // Empty, tiny, around the frame's and the block's alignment, around a group's buffer, longer than a segment.
        let buffer = 4 << 20;
        let mut sizes = vec![0, 1, 7, 8, 9, 4000, 4096, 65_536, 1 << 20, 3_000_001];
        sizes.extend((buffer - 130..buffer - 110).step_by(3));
        sizes.extend([buffer, buffer + 1, 2 * buffer - 120, 9_999_999, 70 << 20]);
        let records: Vec<Vec<u8>> =
            sizes.iter().enumerate().map(|(i, n)| record(i as u64, (*n).max(8))[..*n].to_vec()).collect();
        let handles: Vec<RecordHandle> =
            records.iter().enumerate().map(|(i, r)| log.append(r, i as i64).unwrap()).collect();
        for (handle, expected) in handles.iter().zip(&records) {
            assert!(log.read(handle).unwrap() == *expected, "{handle}");
        }
        assert!(all(&log) == records);
        log.close().unwrap();
        let again = open(dir.path(), role);
        assert!(all(&again) == records);
        for (handle, expected) in handles.iter().zip(&records) {
            assert!(again.read(handle).unwrap() == *expected, "{handle}");
        }
        let report = again.report().unwrap();
        assert_eq!((report.records, report.corrupt, report.torn_bytes), (records.len() as u64, 0, 0));
    }
}

#[test]
fn many_threads_write_and_each_record_comes_back_once() {
    let dir = tempfile::tempdir().unwrap();
    let log = Arc::new(open(dir.path(), Role::Receivers));
    let threads: Vec<_> = (0..32u64)
        .map(|t| {
            let log = log.clone();
            thread::spawn(move || {
                (0..100u64)
                    .map(|i| {
                        let number = t * 1000 + i;
                        let bytes = record(number, 8 + (number as usize * 37) % 9000);
                        (log.append(&bytes, i as i64).unwrap(), bytes)
                    })
                    .collect::<Vec<_>>()
            })
        })
        .collect();
    let written: Vec<_> = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
    for (handle, bytes) in &written {
        assert_eq!(log.read(handle).unwrap(), *bytes);
    }
    let mut expected: Vec<_> = written.iter().map(|(_, b)| b.clone()).collect();
    let mut found = all(&log);
    // Each thread's records are in its order.
    for t in 0..32u64 {
        let numbers: Vec<u64> = found
            .iter()
            .map(|r| u64::from_le_bytes(r[..8].try_into().unwrap()))
            .filter(|n| n / 1000 == t)
            .collect();
        assert_eq!(numbers, (t * 1000..t * 1000 + 100).collect::<Vec<_>>());
    }
    expected.sort();
    found.sort();
    assert!(found == expected);
}

#[test]
fn segments_roll_by_size_and_by_record_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut opts = options(dir.path(), Role::Receivers);
    opts.segment_size = 1 << 20;
    let log = Log::open(opts).unwrap();
    let by_size: Vec<_> = (0..40).map(|i| log.append(&record(i, 100_000), 5).unwrap()).collect();
    assert!(by_size.last().unwrap().segment >= 4);
    let before = log.append(&record(100, 10), 5).unwrap();
    let after = log.append(&record(101, 10), 5 + 60_000).unwrap();
    assert!(after.segment > before.segment, "a minute of record time passed");
    assert_eq!(all(&log).len(), 42);
}

#[test]
fn a_clean_hides_and_deletes_what_lies_below() {
    for role in ROLES {
        let dir = tempfile::tempdir().unwrap();
        let mut opts = options(dir.path(), role);
        opts.segment_size = 1 << 20;
        let log = Log::open(opts).unwrap();
        let handles: Vec<_> = (0..60).map(|t| log.append(&record(t, 100_000), t as i64).unwrap()).collect();
        log.clean(50, true).unwrap();
        let left = all(&log);
        assert_eq!(left.len(), 10);
        assert_eq!(left[0], record(50, 100_000));
        // No object goes before it is ten minutes old, and until then it can be read.
        let kept = !common::local();
        let error = if kept { None } else { log.read(&handles[0]).err() };
        assert!(kept || matches!(error, Some(Error::Gone { .. })), "{error:?}");
        assert!(!segment_file(dir.path(), role, &handles[0]).exists());
        assert_eq!(log.read(&handles[55]).unwrap(), record(55, 100_000));
        log.close().unwrap();
        // Known after a restart too.
        let again = open(dir.path(), role);
        assert_eq!(all(&again).len(), 10);
        assert!(kept || matches!(again.read(&handles[0]).unwrap_err(), Error::Gone { .. }));
    }
}

#[test]
fn a_clean_is_exact_per_record_without_grace() {
    // What Spark's JavaWriteAheadLogSuite asks of a custom log.
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), Role::Driver);
    for t in 1234..=1237 {
        log.append(format!("data{t}").as_bytes(), t).unwrap();
    }
    log.clean(1236, true).unwrap();
    assert_eq!(all(&log), [b"data1236".to_vec(), b"data1237".to_vec()]);
}

#[test]
fn with_a_grace_a_threshold_takes_effect_three_cleans_later() {
    let dir = tempfile::tempdir().unwrap();
    let mut opts = options(dir.path(), Role::Driver);
    opts.clean_grace = std::time::Duration::from_millis(5);
    let log = Log::open(opts).unwrap();
    for t in 0..100 {
        log.append(&record(t, 20), t as i64).unwrap();
    }
    for t in [10, 20, 30] {
        log.clean(t, true).unwrap();
        log.clean(t, true).unwrap();
        assert_eq!(all(&log).len(), 100, "clean({t})");
    }
    log.clean(31, true).unwrap();
    assert_eq!(all(&log).len(), 90, "the threshold of three distinct cleans ago was 10");
}

#[test]
fn a_write_after_close_is_durable_and_a_clean_after_close_does_nothing() {
    for role in ROLES {
        let dir = tempfile::tempdir().unwrap();
        let log = open(dir.path(), role);
        log.append(b"before", 1).unwrap();
        log.close().unwrap();
        log.close().unwrap();
        let handle = log.append(b"after", 2).unwrap();
        log.clean(100, true).unwrap();
        assert_eq!(log.read(&handle).unwrap(), b"after");
        let again = open(dir.path(), role);
        assert_eq!(all(&again), [b"before".to_vec(), b"after".to_vec()]);
    }
}

#[test]
fn a_fresh_start_of_the_driver_replays_nothing_old() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), Role::Driver);
    first.append(b"old", 1).unwrap();
    first.close().unwrap();
    // A restart from a checkpoint reads first, and goes on.
    let restarted = open(dir.path(), Role::Driver);
    assert_eq!(all(&restarted), [b"old".to_vec()]);
    restarted.append(b"more", 2).unwrap();
    restarted.close().unwrap();
    // A fresh start writes first.
    let fresh = open(dir.path(), Role::Driver);
    fresh.append(b"new", 3).unwrap();
    assert_eq!(all(&fresh), [b"new".to_vec()]);
    assert_eq!(fresh.report().unwrap().set_aside, 2);
    // A sibling in the same process joins it.
    let sibling = open(dir.path(), Role::Driver);
    sibling.append(b"sibling", 4).unwrap();
    fresh.close().unwrap();
    sibling.append(b"still open", 5).unwrap();
    sibling.close().unwrap();
    let after = open(dir.path(), Role::Driver);
    assert_eq!(all(&after), [b"new".to_vec(), b"sibling".to_vec(), b"still open".to_vec()]);
}

#[test]
fn handles_that_cannot_be_are_refused_before_anything_is_allocated() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), Role::Receivers);
    let good = log.append(b"x", 1).unwrap();
    let refused = |change: &dyn Fn(&mut RecordHandle)| {
        let mut handle = good;
        change(&mut handle);
        log.locate(&handle).and_then(|()| log.read(&handle).map(drop)).unwrap_err()
    };
    assert!(matches!(refused(&|h| h.version = 9), Error::BadHandle(_)));
    assert!(matches!(refused(&|h| h.length = u32::MAX), Error::BadHandle(_)));
    assert!(matches!(refused(&|h| h.segment = 0), Error::BadHandle(_)));
    assert!(matches!(refused(&|h| h.segment = u64::MAX), Error::BadHandle(_)));
    assert!(matches!(refused(&|h| h.offset = 7), Error::BadHandle(_)));
    assert!(matches!(refused(&|h| h.offset = i64::MAX as u64 - 7), Error::Corrupt { .. }));
    assert!(matches!(refused(&|h| h.length = i32::MAX as u32), Error::Corrupt { .. }));
    // Of a newer version the frame's header is read first, if it can be there.
    let newer = |offset| move |h: &mut RecordHandle| (h.version, h.offset) = (2, offset);
    for offset in [i64::MAX as u64 - 7, i64::MAX as u64 - 4095, 1 << 40] {
        assert!(matches!(refused(&newer(offset)), Error::Corrupt { .. }));
    }
    assert!(matches!(refused(&|h| h.offset += 8), Error::Corrupt { .. }));
    assert!(matches!(refused(&|h| h.crc ^= 1), Error::Corrupt { .. }));
    assert!(matches!(refused(&|h| h.segment += 100), Error::Missing { .. }));
    assert!(matches!(refused(&|h| h.writer = uuid::Uuid::nil()), Error::Missing { .. }));
    assert!(matches!(refused(&|h| h.log = uuid::Uuid::nil()), Error::Foreign { .. }));
    let elsewhere = tempfile::tempdir().unwrap();
    let other = open(elsewhere.path(), Role::Receivers);
    assert!(matches!(other.read(&good).unwrap_err(), Error::Missing { .. }));
}

#[test]
fn a_source_that_fails_leaves_a_void_and_harms_nobody() {
    struct Broken(usize, usize);
    impl ferrowal::RecordSource for Broken {
        fn len(&self) -> usize {
            self.0
        }
        fn copy(&mut self, offset: usize, into: &mut [u8]) -> ferrowal::Result<()> {
            into.fill(7);
            if offset >= self.1 { Err(Error::Source("it broke".into())) } else { Ok(()) }
        }
    }
    for way in common::ways() {
        println!("{way}");
        let dir = tempfile::tempdir().unwrap();
        let mut opts = options(dir.path(), Role::Receivers);
        common::write_by(&mut opts, way);
        let log = Log::open(opts).unwrap();
        log.append(b"first", 1).unwrap();
        // At once, and after some megabytes of a record that is staged in pieces.
        for (length, good) in [(100, 0), (20 << 20, 0), (20 << 20, 10 << 20)] {
            assert!(matches!(log.append_from(&mut Broken(length, good), 2).unwrap_err(), Error::Source(_)));
            log.append(b"next", 3).unwrap();
        }
        let expected = [b"first".to_vec(), b"next".to_vec(), b"next".to_vec(), b"next".to_vec()];
        assert_eq!(all(&log), expected);
        log.close().unwrap();
        assert_eq!(all(&open(dir.path(), Role::Receivers)), expected);
    }
}

#[test]
fn files_are_private_to_their_owner() {
    if !common::local() {
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    fn check(path: &std::path::Path) {
        let mode = fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
        if path.is_dir() {
            fs::read_dir(path).unwrap().for_each(|e| check(&e.unwrap().path()));
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    for role in ROLES {
        open(&path, role).append(b"x", 1).unwrap();
    }
    check(&path);
}

#[test]
fn an_option_out_of_range_says_what_the_range_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut small = options(dir.path(), Role::Driver);
    small.segment_size = 1000;
    let text = Log::open(small).unwrap_err().to_string();
    assert_eq!(text, "the segment size must be 1 MiB to 1 TiB, not 1000 bytes");
    let mut strict = options(dir.path(), Role::Driver);
    strict.recovery = Recovery::Strict;
    strict.max_failures = 0;
    let text = Log::open(strict).unwrap_err().to_string();
    assert_eq!(text, "the number of attempts (maxFailures) must be 1 at least");
}

#[test]
fn padding_is_zeros_and_never_what_a_buffer_held_before() {
    if !common::local() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), Role::Receivers);
    log.append(&[0xff; 3500], 1).unwrap();
    let small = log.append(&[1; 13], 2).unwrap();
    let bytes = fs::read(segment_file(dir.path(), Role::Receivers, &small)).unwrap();
    let end = small.offset as usize + 24 + 13;
    assert!(bytes[end..end.next_multiple_of(4096)].iter().all(|b| *b == 0));
}

#[test]
fn a_clean_before_the_first_write_counts_too() {
    for role in ROLES {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path(), role);
        let handles: Vec<_> = (0..10).map(|t| first.append(&record(t, 100), t as i64).unwrap()).collect();
        first.close().unwrap();
        let log = open(dir.path(), role);
        log.clean(5, false).unwrap();
        assert_eq!(all(&log).len(), 5, "at once in this process");
        log.clean(100, true).unwrap();
        assert!(all(&log).is_empty());
        if role == Role::Receivers && common::local() {
            assert!(
                matches!(log.read(&handles[0]).unwrap_err(), Error::Gone { .. }),
                "the dead writer was collected"
            );
        }
    }
}

#[test]
fn strict_refuses_to_begin_a_scan_of_a_damaged_log() {
    if !common::local() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), Role::Receivers);
    let handles: Vec<_> = (0..5).map(|t| log.append(&record(t, 5000), t as i64).unwrap()).collect();
    log.close().unwrap();
    let path = segment_file(dir.path(), Role::Receivers, &handles[3]);
    let mut bytes = fs::read(&path).unwrap();
    bytes[handles[3].offset as usize + 1000] ^= 1;
    fs::write(&path, bytes).unwrap();
    let scan = |recovery| {
        let mut opts = options(dir.path(), Role::Receivers);
        opts.recovery = recovery;
        Log::open(opts).unwrap().scan().unwrap().map(|r| r.is_ok()).collect::<Vec<_>>()
    };
    assert_eq!(scan(Recovery::Strict), [false]);
    assert_eq!(scan(Recovery::Default), [true, true, true, false]);
    assert_eq!(scan(Recovery::Salvage), [true; 4]);
}

#[test]
fn a_closed_instance_writes_through_whoever_is_open_now() {
    let dir = tempfile::tempdir().unwrap();
    let mut opts = options(dir.path(), Role::Driver);
    opts.linger = std::time::Duration::ZERO;
    let old = Log::open(opts.clone()).unwrap();
    old.append(b"one", 1).unwrap();
    old.close().unwrap();
    // Let go of altogether, and opened again with other options: the old instance has nothing in common with it.
    opts.idle_mark = std::time::Duration::from_secs(5);
    let new = Log::open(opts).unwrap();
    assert_eq!(all(&new), [b"one".to_vec()]);
    new.append(b"two", 2).unwrap();
    old.append(b"three", 3).unwrap();
    assert_eq!(all(&new), [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()]);
}
