//! Logs that released formats wrote are read for ever. `tests/golden/v<N>` holds one of each format version.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use common::{all, open, options, record};
use ferrowal::{Compression, Error, KeyRing, Log, RecordHandle, RecordSource, Role};

fn golden(version: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/v{version}"))
}

struct Broken;

impl RecordSource for Broken {
    fn len(&self) -> usize {
        100
    }
    fn copy(&mut self, _: usize, _: &mut [u8]) -> ferrowal::Result<()> {
        Err(Error::Source("on purpose".into()))
    }
}

fn lengths() -> impl Iterator<Item = usize> {
    [0, 1, 8, 100, 4000, 5000, 17].into_iter()
}

/// Makes the golden directory of the current format. Only for a new version: an old one is never made again.
#[test]
#[ignore = "run once for each format version"]
fn make() {
    let dir = golden(1);
    assert!(!dir.exists(), "it is there already");
    fs::create_dir_all(dir.parent().unwrap()).unwrap();
    let mut handles = String::new();
    for role in [Role::Driver, Role::Receivers] {
        // Two runs: for the driver two generations, for the receivers two writers; a roll by time in each.
        for run in 0..2u64 {
            let mut opts = options(&dir, role);
            opts.rolling_interval = Duration::from_millis(50);
            let log = Log::open(opts).unwrap();
            for (i, length) in lengths().enumerate() {
                let number = run * 100 + i as u64;
                let bytes = record(number, length.max(8));
                let h = log.append(&bytes[..length], number as i64 * 10).unwrap();
                let RecordHandle { log: l, writer, segment, offset, length, crc, .. } = h;
                writeln!(handles, "{role:?} {number} {l} {writer} {segment} {offset} {length} {crc}")
                    .unwrap();
                if i == 2 {
                    log.append_from(&mut Broken, 0).unwrap_err();
                }
            }
            log.clean(20, true).unwrap();
            log.close().unwrap();
        }
    }
    fs::write(dir.join("handles"), handles).unwrap();
}

/// Keys of the golden logs, of course no secret.
const OLD: &str = "hex:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const NEW: &str = "hex:ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";

/// What the records of version 2 are kept with, one after the other.
fn kinds() -> [(Compression, KeyRing); 6] {
    let ring = |keys: &[&str]| KeyRing::read(keys).unwrap();
    [
        (Compression::Lz4, KeyRing::default()),
        (Compression::Zstd(3), KeyRing::default()),
        (Compression::None, ring(&[OLD])),
        (Compression::Lz4, ring(&[OLD])),
        (Compression::Zstd(1), ring(&[NEW, OLD])),
        (Compression::None, KeyRing::default()),
    ]
}

/// Every other one can be compressed.
fn record_2(number: u64, length: usize) -> Vec<u8> {
    match number % 2 {
        0 => record(number, length.max(8))[..length].to_vec(),
        _ => (0..length).map(|i| (i as u64 / 7 % 11 + number) as u8).collect(),
    }
}

/// Makes the golden directory of version 2: segments of both versions, in every codec, with two keys.
#[test]
#[ignore = "run once for each format version"]
fn make_2() {
    let dir = golden(2);
    assert!(!dir.exists(), "it is there already");
    fs::create_dir_all(dir.parent().unwrap()).unwrap();
    let mut handles = String::new();
    for role in [Role::Driver, Role::Receivers] {
        for (run, (compression, keys)) in kinds().into_iter().enumerate() {
            let mut opts = options(&dir, role);
            (opts.compression, opts.keys, opts.linger) = (compression, keys, Duration::ZERO);
            let log = Log::open(opts).unwrap();
            // So that the driver goes on, and begins no generation.
            log.scan().unwrap().for_each(drop);
            for (i, length) in lengths().enumerate() {
                let number = run as u64 * 100 + i as u64;
                let h = log.append(&record_2(number, length), number as i64).unwrap();
                let RecordHandle { log: l, writer, segment, offset, length, crc, version } = h;
                writeln!(
                    handles,
                    "{role:?} {number} {l} {writer} {segment} {offset} {length} {crc} {version}"
                )
                .unwrap();
            }
            log.close().unwrap();
        }
    }
    fs::write(dir.join("handles"), handles).unwrap();
}

#[test]
#[cfg(all(feature = "compression", feature = "encryption"))]
fn version_2_is_read() {
    let dir = tempfile::tempdir().unwrap();
    copy(&golden(2), dir.path());
    let text = fs::read_to_string(dir.path().join("handles")).unwrap();
    for role in [Role::Driver, Role::Receivers] {
        let mut opts = options(dir.path(), role);
        opts.keys = KeyRing::read([OLD, NEW]).unwrap().for_reading();
        let log = Log::open(opts).unwrap();
        let mut expected = Vec::new();
        for line in text.lines() {
            let w: Vec<&str> = line.split(' ').collect();
            if w[0] != format!("{role:?}") {
                continue;
            }
            let handle = RecordHandle {
                log: w[2].parse().unwrap(),
                writer: w[3].parse().unwrap(),
                segment: w[4].parse().unwrap(),
                offset: w[5].parse().unwrap(),
                length: w[6].parse().unwrap(),
                crc: w[7].parse().unwrap(),
                version: w[8].parse().unwrap(),
            };
            let bytes = record_2(w[1].parse().unwrap(), handle.length as usize);
            assert_eq!(log.read(&handle).unwrap(), bytes, "{line}");
            expected.push(bytes);
        }
        assert_eq!(expected.len(), 6 * lengths().count());
        assert_eq!(all(&log), expected);
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy(&path, &target) } else { fs::copy(&path, &target).map(drop).unwrap() }
    }
}

#[test]
fn version_1_is_read() {
    let dir = tempfile::tempdir().unwrap();
    copy(&golden(1), dir.path());
    let text = fs::read_to_string(dir.path().join("handles")).unwrap();
    for role in [Role::Driver, Role::Receivers] {
        let log = open(dir.path(), role);
        let mut expected = Vec::new();
        for line in text.lines() {
            let w: Vec<&str> = line.split(' ').collect();
            if w[0] != format!("{role:?}") {
                continue;
            }
            let number: u64 = w[1].parse().unwrap();
            let handle = RecordHandle {
                log: w[2].parse().unwrap(),
                writer: w[3].parse().unwrap(),
                segment: w[4].parse().unwrap(),
                offset: w[5].parse().unwrap(),
                length: w[6].parse().unwrap(),
                crc: w[7].parse().unwrap(),
                version: 1,
            };
            let bytes = record(number, (handle.length as usize).max(8))[..handle.length as usize].to_vec();
            assert_eq!(log.read(&handle).unwrap(), bytes, "{line}");
            // The driver's first run is of an earlier generation; a threshold of 20 hides what lies below.
            let replayed = role == Role::Receivers || number >= 100;
            if replayed && number * 10 >= 20 {
                expected.push(bytes);
            }
        }
        assert_eq!(all(&log), expected);
        // And it can be written on.
        log.append(b"more", 5000).unwrap();
        expected.push(b"more".to_vec());
        assert_eq!(all(&log), expected);
    }
}
