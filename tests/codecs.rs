//! Compression and encryption: every record comes back, with the key and only with it, whatever it was written with.
#![cfg(all(feature = "compression", feature = "encryption"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::{fs, os::unix::fs::FileExt, path::Path, time::Duration};

use common::options;
use ferrowal::{Compression, Error, KeyRing, Log, Options, RecordHandle, Recovery, Role};

const A: &str = "hex:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const B: &str = "hex:ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";

fn keys(sources: &[&str]) -> KeyRing {
    KeyRing::read(sources).unwrap()
}

/// Text that compresses, or bytes that do not.
fn bytes(length: usize, text: bool, seed: u64) -> Vec<u8> {
    let words = include_bytes!("../docs/design.md");
    if text {
        let start = seed as usize * 997 % (words.len() / 2);
        return words[start..].iter().chain(words.iter().cycle()).take(length).copied().collect();
    }
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

fn with(dir: &Path, role: Role, compression: Compression, ring: &KeyRing) -> Options {
    let mut opts = options(dir, role);
    (opts.compression, opts.keys) = (compression, ring.clone());
    opts.linger = Duration::ZERO;
    opts
}

fn open(dir: &Path, compression: Compression, ring: &KeyRing) -> Log {
    Log::open(with(dir, Role::Receivers, compression, ring)).unwrap()
}

const ALL: [Compression; 4] =
    [Compression::None, Compression::Lz4, Compression::Zstd(1), Compression::Zstd(-5)];

#[test]
fn every_codec_gives_back_what_was_written() {
    let lengths = [0, 1, 31, 255, 256, 4_000, 65_536, 1 << 20, (4 << 20) - 300, (4 << 20) + 5, 9_000_001];
    for compression in ALL {
        for ring in [KeyRing::default(), keys(&[A])] {
            for role in [Role::Driver, Role::Receivers] {
                let dir = tempfile::tempdir().unwrap();
                let log = Log::open(with(dir.path(), role, compression, &ring)).unwrap();
                let mut written = Vec::new();
                for (i, length) in lengths.into_iter().enumerate() {
                    for text in [true, false] {
                        let record = bytes(length, text, i as u64);
                        let handle = log.append(&record, i as i64).unwrap();
                        assert_eq!(handle.length as usize, length, "the record's own length");
                        assert_eq!(log.read(&handle).unwrap(), record);
                        written.push((handle, record));
                    }
                }
                log.close().unwrap();
                // Whoever reads need not know how it was written.
                let log = Log::open(with(dir.path(), role, Compression::None, &ring.clone().for_reading()));
                let log = log.unwrap();
                for (handle, record) in &written {
                    log.locate(handle).unwrap();
                    assert!(log.read(handle).unwrap() == *record, "{compression:?} {ring:?} {handle}");
                    let shown = log.read_with(handle, |shown| shown == record).unwrap();
                    assert!(shown, "{compression:?} {ring:?} {handle}, shown");
                }
                let all: Vec<_> = log.scan().unwrap().map(Result::unwrap).collect();
                assert!(all.iter().eq(written.iter().map(|(_, r)| r)), "{compression:?} {ring:?} {role:?}");
            }
        }
    }
}

/// Bytes of all segments below a directory.
fn on_disk(dir: &Path) -> Vec<u8> {
    fn read(dir: &Path, all: &mut Vec<u8>) -> std::io::Result<()> {
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            match path.is_dir() {
                true => read(&path, all)?,
                false => all.extend(fs::read(path)?),
            }
        }
        Ok(())
    }
    // An open log prepares segments under other names: what was renamed meanwhile is looked for anew.
    for _ in 0..1000 {
        let mut all = Vec::new();
        match read(dir, &mut all) {
            Ok(()) => return all,
            Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::NotFound, "{e}"),
        }
    }
    panic!("files come and go in {}", dir.display());
}

fn holds(all: &[u8], some: &[u8]) -> bool {
    all.windows(some.len()).any(|w| w == some)
}

#[test]
fn what_is_encrypted_cannot_be_read_on_the_disk_and_the_key_is_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let record = b"planted: the secret of the seventh floor".repeat(10);
    for compression in ALL {
        let log = open(dir.path(), compression, &keys(&[A]));
        log.append(&record, 1).unwrap();
        log.close().unwrap();
    }
    let all = on_disk(dir.path());
    assert!(!holds(&all, &record[..20]));
    let digits = A.strip_prefix("hex:").unwrap();
    let raw: Vec<u8> =
        (0..64).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap()).collect();
    assert!(!holds(&all, &raw) && !holds(&all, digits.as_bytes()));
    let opts = with(dir.path(), Role::Driver, Compression::None, &keys(&[A, B]));
    assert!(!format!("{opts:?}").contains(&digits[..12]), "options show ids alone");
    // And plain records can be: the search above finds what there is.
    let plain = open(dir.path(), Compression::None, &KeyRing::default());
    plain.append(&record, 1).unwrap();
    plain.close().unwrap();
    assert!(holds(&on_disk(dir.path()), &record[..20]));
}

#[test]
fn messages_about_keys_do_not_repeat_them() {
    let secret = "0123456789abcdef0123456789abcdef";
    for source in [
        format!("hex:{secret}"),
        secret.to_owned(),
        format!("base64:{secret}"),
        format!("file:{secret}"),
        format!("env:{secret}{secret}"),
        "file:relative".into(),
    ] {
        let error = KeyRing::read([source]).unwrap_err().to_string();
        assert!(!error.contains(&secret[..8]), "{error}");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    fs::write(&path, secret).unwrap();
    let error = KeyRing::read([format!("file:{}", path.display())]).unwrap_err().to_string();
    assert!(error.contains("64 hex digits") && !error.contains(&secret[..8]), "{error}");
    fs::write(&path, format!("  {}\n", A.strip_prefix("hex:").unwrap())).unwrap();
    assert_eq!(KeyRing::read([format!("file:{}", path.display())]).unwrap(), keys(&[A]));
}

fn is_key_error(error: &Error, ring: &KeyRing) -> bool {
    matches!(error, Error::Key { key, .. } if ring.ids().contains(key))
}

#[test]
fn without_its_key_a_record_is_neither_given_nor_called_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (keys(&[A]), keys(&[B]));
    let log = open(dir.path(), Compression::Lz4, &a);
    let record = bytes(10_000, true, 1);
    let handle = log.append(&record, 5).unwrap();
    log.close().unwrap();
    for ring in [KeyRing::default(), b.clone()] {
        for policy in [Recovery::Default, Recovery::Strict, Recovery::Salvage] {
            let mut opts = with(dir.path(), Role::Receivers, Compression::None, &ring);
            opts.recovery = policy;
            let log = Log::open(opts).unwrap();
            assert!(is_key_error(&log.read(&handle).unwrap_err(), &a));
            let first = log.scan().unwrap().next().unwrap();
            assert!(is_key_error(&first.unwrap_err(), &a), "{policy:?} skips nothing for want of a key");
        }
    }
    // The log goes on with another key, and is cleaned without the old one.
    let log = open(dir.path(), Compression::None, &b);
    let other = log.append(&record, 6).unwrap();
    assert_eq!(log.read(&other).unwrap(), record);
    log.clean(6, true).unwrap();
    let all: Vec<_> = log.scan().unwrap().map(Result::unwrap).collect();
    assert_eq!(all, [record], "what was cleaned needs no key");
}

#[test]
fn keys_rotate_and_everything_mixes() {
    let dir = tempfile::tempdir().unwrap();
    let mut written: Vec<(RecordHandle, Vec<u8>)> = Vec::new();
    let rings = [keys(&[A]), keys(&[B, A]), keys(&[A, B]).for_reading(), keys(&[B])];
    for (i, ring) in rings.iter().enumerate() {
        for (j, compression) in ALL.into_iter().enumerate() {
            let log = open(dir.path(), compression, ring);
            for k in 0..3 {
                let record = bytes(20_000, k > 0, (i * 10 + j) as u64);
                written.push((log.append(&record, 1).unwrap(), record));
            }
            log.close().unwrap();
        }
    }
    let log = open(dir.path(), Compression::None, &keys(&[B, A]));
    for (handle, record) in &written {
        assert!(log.read(handle).unwrap() == *record, "{handle}");
    }
    let mut all: Vec<Vec<u8>> = log.scan().unwrap().map(|r| r.unwrap().to_vec()).collect();
    let mut expected: Vec<Vec<u8>> = written.into_iter().map(|(_, r)| r).collect();
    all.sort();
    expected.sort();
    assert!(all == expected);
}

#[test]
fn compression_saves_space_and_leaves_alone_what_it_cannot_make_smaller() {
    let size = |compression, text| {
        let dir = tempfile::tempdir().unwrap();
        let log = open(dir.path(), compression, &KeyRing::default());
        for i in 0..20 {
            log.append(&bytes(100_000, text, i), 1).unwrap();
        }
        log.close().unwrap();
        on_disk(dir.path()).len()
    };
    let plain = size(Compression::None, true);
    for compression in [Compression::Lz4, Compression::Zstd(1)] {
        assert!(size(compression, true) < plain * 7 / 10, "{compression:?}");
        assert_eq!(size(compression, false), plain, "{compression:?}: incompressible");
    }
}

fn the_segment(dir: &Path, handle: &RecordHandle) -> fs::File {
    let path = dir.join(format!("receivers/{}/{:016}.seg", handle.writer, handle.segment));
    fs::File::options().read(true).write(true).open(path).unwrap()
}

#[test]
fn a_flipped_bit_is_damage_in_every_codec() {
    for compression in ALL {
        for ring in [KeyRing::default(), keys(&[A])] {
            let dir = tempfile::tempdir().unwrap();
            let log = open(dir.path(), compression, &ring);
            let handle = log.append(&bytes(5_000, true, 3), 1).unwrap();
            log.append(b"another", 2).unwrap();
            log.close().unwrap();
            let file = the_segment(dir.path(), &handle);
            for at in [4, 9, 12, 16, 24, 30, 60, 300] {
                let mut byte = [0];
                file.read_exact_at(&mut byte, handle.offset + at).unwrap();
                file.write_all_at(&[byte[0] ^ 4], handle.offset + at).unwrap();
                let log = open(dir.path(), Compression::None, &ring);
                let error = log.read(&handle).unwrap_err();
                assert!(matches!(error, Error::Corrupt { .. }), "{compression:?} byte {at}: {error}");
                file.write_all_at(&byte, handle.offset + at).unwrap();
            }
            let log = open(dir.path(), Compression::None, &ring);
            assert_eq!(log.read(&handle).unwrap(), bytes(5_000, true, 3));
        }
    }
}

/// Someone who can write the disk makes checksums that hold, and no authentication: an encrypted record that was put in the
/// place of another is refused, though every checksum is made right.
#[test]
fn a_record_that_was_moved_does_not_authenticate() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), Compression::None, &keys(&[A]));
    let one = log.append(b"the first record", 1).unwrap();
    let two = log.append(b"the other record", 1).unwrap();
    log.close().unwrap();
    let file = the_segment(dir.path(), &one);
    let length = 24 + 32 + 16 + 16;
    let mut frame = vec![0; length];
    file.read_exact_at(&mut frame, two.offset).unwrap();
    let mut crc = crc32fast::Hasher::new();
    crc.update(&frame[24..]);
    crc.update(&frame[4..24]);
    crc.update(one.log.as_bytes());
    crc.update(one.writer.as_bytes());
    crc.update(&one.segment.to_le_bytes());
    crc.update(&one.offset.to_le_bytes());
    let crc = crc.finalize();
    frame[..4].copy_from_slice(&crc.to_le_bytes());
    file.write_all_at(&frame, one.offset).unwrap();
    let log = open(dir.path(), Compression::None, &keys(&[A]));
    let forged = RecordHandle { crc, ..one };
    let error = log.read(&forged).unwrap_err();
    assert!(
        matches!(&error, Error::Corrupt { detail, .. } if detail.contains("does not authenticate")),
        "{error}"
    );
    let first = log.scan().unwrap().next().unwrap().unwrap_err();
    assert!(matches!(first, Error::Corrupt { .. }), "{first}");
    assert_eq!(log.read(&two).unwrap(), b"the other record");
}

/// Group headers carry checksums alone. One that says that its records were cleaned, and lies, must not turn them into
/// empty ones.
#[test]
fn a_group_header_that_lies_about_times_gives_no_empty_record() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), Compression::None, &keys(&[A]));
    let handle = log.append(b"the record", 10).unwrap();
    log.clean(5, true).unwrap();
    log.close().unwrap();
    let (file, at) = (the_segment(dir.path(), &handle), handle.offset - 96);
    let mut header = [0; 96];
    file.read_exact_at(&mut header, at).unwrap();
    assert_eq!(header[40..48], 10_i64.to_le_bytes());
    header[40..48].copy_from_slice(&1_i64.to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(&header[8..]);
    crc.update(handle.log.as_bytes());
    crc.update(handle.writer.as_bytes());
    crc.update(&handle.segment.to_le_bytes());
    crc.update(&at.to_le_bytes());
    header[4..8].copy_from_slice(&crc.finalize().to_le_bytes());
    file.write_all_at(&header, at).unwrap();
    let log = open(dir.path(), Compression::None, &keys(&[A]));
    let first = log.scan().unwrap().next().unwrap();
    assert!(matches!(&first, Err(Error::Corrupt { offset, .. }) if *offset == handle.offset), "{first:?}");
    assert_eq!(log.read(&handle).unwrap(), b"the record");
}

/// Instances of a process share what the first one opened: one that is to encrypt must not write through one that does not.
#[test]
fn an_instance_that_is_to_encrypt_does_not_share_one_that_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let plain = open(dir.path(), Compression::None, &keys(&[A]).for_reading());
    let refused = Log::open(with(dir.path(), Role::Receivers, Compression::None, &keys(&[A])));
    assert!(matches!(&refused, Err(Error::Config(text)) if text.contains("not encrypted")), "{refused:?}");
    plain.append(b"the other's", 1).unwrap();
    plain.close().unwrap();
    let log = open(dir.path(), Compression::None, &keys(&[A]));
    let handle = log.append(b"planted secret", 1).unwrap();
    // Those that read with the same key, and those that encrypt with another, are as good as before.
    let other = open(dir.path(), Compression::None, &keys(&[A]).for_reading());
    assert_eq!(other.read(&handle).unwrap(), b"planted secret");
    let third = open(dir.path(), Compression::None, &keys(&[B, A]));
    third.append(b"planted secret", 1).unwrap();
    assert!(!holds(&on_disk(dir.path()), b"planted secret"));
}

#[test]
fn salts_are_never_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let mut salts = Vec::new();
    for _ in 0..3 {
        let log = open(dir.path(), Compression::None, &keys(&[A]));
        for _ in 0..20 {
            let handle = log.append(b"always the same", 1).unwrap();
            let mut prefix = [0; 32];
            the_segment(dir.path(), &handle).read_exact_at(&mut prefix, handle.offset + 24).unwrap();
            salts.push(prefix[8..].to_vec());
        }
        log.close().unwrap();
    }
    let count = salts.len();
    salts.sort();
    salts.dedup();
    assert_eq!(salts.len(), count, "each was a group of its own");
}

#[test]
fn a_plain_log_is_of_version_1_and_any_other_of_version_2() {
    for (compression, ring, version) in [
        (Compression::None, KeyRing::default(), 1),
        (Compression::None, keys(&[A]).for_reading(), 1),
        (Compression::Lz4, KeyRing::default(), 2),
        (Compression::None, keys(&[A]), 2),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let log = open(dir.path(), compression, &ring);
        let handle = log.append(b"x", 1).unwrap();
        assert_eq!(handle.version, version);
        let mut header = [0; 10];
        the_segment(dir.path(), &handle).read_exact_at(&mut header, 0).unwrap();
        assert_eq!(header[8..], version.to_le_bytes());
    }
}

/// Puts a frame with a checksum that holds in the place of a record: what anybody can do who can write the directory.
/// `codec` and `payload` are as long as the record's own payload. Gives the handle that would name it.
fn forge(file: &fs::File, at: &RecordHandle, codec: u8, raw: u32, payload: &[u8]) -> RecordHandle {
    let mut frame = vec![0; 24];
    file.read_exact_at(&mut frame, at.offset).unwrap();
    assert_eq!(frame[4..8], (payload.len() as u32).to_le_bytes(), "the next frame stays where it is");
    frame[9] = codec;
    frame[12..16].copy_from_slice(&raw.to_le_bytes());
    frame.extend(payload);
    let mut crc = crc32fast::Hasher::new();
    crc.update(&frame[24..]);
    crc.update(&frame[4..24]);
    crc.update(at.log.as_bytes());
    crc.update(at.writer.as_bytes());
    crc.update(&at.segment.to_le_bytes());
    crc.update(&at.offset.to_le_bytes());
    let crc = crc.finalize();
    frame[..4].copy_from_slice(&crc.to_le_bytes());
    file.write_all_at(&frame, at.offset).unwrap();
    RecordHandle { crc, length: raw, ..*at }
}

const POLICIES: [Recovery; 3] = [Recovery::Default, Recovery::Strict, Recovery::Salvage];

#[test]
fn what_no_key_authenticates_is_refused_where_encryption_is_required() {
    let sealed = 32 + 16 + 16;
    // A plain record, and one that says that it is encrypted with the key.
    for codec in [0, 0x80] {
        for role in [Role::Receivers, Role::Driver] {
            let dir = tempfile::tempdir().unwrap();
            let open = |policy, ring: KeyRing| {
                let mut opts = with(dir.path(), role, Compression::None, &ring);
                opts.recovery = policy;
                Log::open(opts).unwrap()
            };
            let log = open(Recovery::Default, keys(&[A]).required());
            let one = log.append(&[7; 16], 1).unwrap();
            let two = log.append(&[8; 16], 1).unwrap();
            log.close().unwrap();
            let path = common::segment_file(dir.path(), role, &one);
            let file = fs::File::options().read(true).write(true).open(path).unwrap();
            let mut payload = vec![b'F'; sealed];
            let raw = if codec == 0 { sealed as u32 } else { 16 };
            if codec != 0 {
                file.read_exact_at(&mut payload[..32], one.offset + 24).unwrap();
            }
            let forged = forge(&file, &one, codec, raw, &payload);
            for policy in POLICIES {
                let log = open(policy, keys(&[A]).required());
                let refused =
                    |e: Error| assert!(matches!(e, Error::Unauthenticated { .. }), "{policy:?} {e}");
                let mut into = vec![1; raw as usize];
                refused(log.read_into(&forged, &mut into).unwrap_err());
                assert!(into.iter().all(|b| *b == 0), "nothing of it is given");
                refused(log.scan().unwrap().next().unwrap().unwrap_err());
                assert_eq!(log.read(&two).unwrap(), [8; 16], "the others are as good as before");
                if role == Role::Driver && (policy, codec) == (Recovery::Strict, 0) {
                    refused(log.append(b"more", 2).unwrap_err());
                }
            }
            // Otherwise a plain record is anybody's.
            let log = open(Recovery::Default, keys(&[A]));
            match codec {
                0 => assert_eq!(log.read(&forged).unwrap(), payload),
                _ => assert!(matches!(log.read(&forged), Err(Error::Corrupt { .. }))),
            }
        }
    }
}

#[test]
fn records_of_before_are_refused_until_they_are_set_aside_or_cleaned() {
    let dir = tempfile::tempdir().unwrap();
    let open = |ring: KeyRing| Log::open(with(dir.path(), Role::Driver, Compression::None, &ring)).unwrap();
    let plain = open(KeyRing::default());
    let before = plain.append(b"from before", 1).unwrap();
    plain.close().unwrap();
    let log = open(keys(&[A]).required());
    let refused = |e: Error| {
        let text = e.to_string();
        assert!(matches!(e, Error::Unauthenticated { .. }) && text.contains("encryption.required"), "{text}");
    };
    refused(log.scan().unwrap().next().unwrap().unwrap_err());
    // A driver that goes on with the log does not write behind what it could not read.
    refused(log.append(b"more", 2).unwrap_err());
    refused(log.read(&before).unwrap_err());
    assert!(!dir.path().join("quarantine").exists(), "nothing is treated as damage");
    log.close().unwrap();
    // A fresh start sets them aside, and they are never read again.
    let log = open(keys(&[A]).required());
    log.append(b"anew", 3).unwrap();
    let all: Vec<_> = log.scan().unwrap().map(Result::unwrap).collect();
    assert_eq!(all, [&b"anew"[..]]);
    log.close().unwrap();
    // A key that is not known is named.
    let other = open(keys(&[B]).required());
    assert!(is_key_error(&other.scan().unwrap().next().unwrap().unwrap_err(), &keys(&[A])));
    assert!(is_key_error(&other.append(b"more", 4).unwrap_err(), &keys(&[A])));
}

#[test]
fn nothing_is_written_without_a_key_where_encryption_is_required() {
    let dir = tempfile::tempdir().unwrap();
    for ring in [KeyRing::default(), keys(&[A]).for_reading()] {
        let refused = Log::open(with(dir.path(), Role::Receivers, Compression::None, &ring.required()));
        assert!(matches!(&refused, Err(Error::Config(text)) if text.contains("no key to write with")));
    }
    // Nor through an instance that would read what it must not.
    let lax = open(dir.path(), Compression::None, &keys(&[A]));
    let refused = Log::open(with(dir.path(), Role::Receivers, Compression::None, &keys(&[A]).required()));
    assert!(
        matches!(&refused, Err(Error::Config(text)) if text.contains("encryption.required")),
        "{refused:?}"
    );
    lax.close().unwrap();
}

/// Little that says that it is much: memory is taken for it only once its header's checksum holds, and nothing is given that
/// does not come to exactly that length.
#[test]
fn a_forged_length_is_believed_only_under_a_checksum() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), Compression::Zstd(1), &KeyRing::default());
    let record = bytes(40_000, false, 1);
    let handle = log.append(&record, 1).unwrap();
    assert_eq!(handle.version, 2);
    log.close().unwrap();
    let file = the_segment(dir.path(), &handle);
    for codec in [1, 2] {
        // Far more than the segment has, and no more than this codec could hold.
        let raw = 40_000 * 200;
        assert!(u64::from(raw) > file.metadata().unwrap().len());
        let forged = forge(&file, &handle, codec, raw, &record);
        let log = open(dir.path(), Compression::None, &KeyRing::default());
        log.locate(&forged).unwrap();
        let refused = log.read(&forged).unwrap_err();
        assert!(
            matches!(&refused, Error::Corrupt { detail, .. } if detail.contains("decompressed")),
            "{refused}"
        );
        file.write_all_at(&[record[100] ^ 1], handle.offset + 24 + 100).unwrap();
        let refused = log.locate(&forged).unwrap_err();
        assert!(
            matches!(&refused, Error::Corrupt { detail, .. } if detail.contains("does not check")),
            "{refused}"
        );
        log.close().unwrap();
    }
    // What no codec could hold is the header of no frame.
    let forged = forge(&file, &handle, 1, 40_000 * 256, &record);
    let refused = open(dir.path(), Compression::None, &KeyRing::default()).locate(&forged).unwrap_err();
    assert!(matches!(&refused, Error::Corrupt { detail, .. } if detail.contains("beyond")), "{refused}");
}

/// A bomb under a key and a checksum: what is decompressed never gets longer than what is stated.
#[test]
fn a_record_that_decompresses_to_more_than_it_says_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    for compression in [Compression::Lz4, Compression::Zstd(1)] {
        let log = open(dir.path(), compression, &KeyRing::default());
        let handle = log.append(&vec![7; 1 << 20], 1).unwrap();
        log.close().unwrap();
        let file = the_segment(dir.path(), &handle);
        let mut head = [0; 24];
        file.read_exact_at(&mut head, handle.offset).unwrap();
        let mut payload = vec![0; u32::from_le_bytes(head[4..8].try_into().unwrap()) as usize];
        file.read_exact_at(&mut payload, handle.offset + 24).unwrap();
        for raw in [payload.len() as u32 + 1, (1 << 20) - 1, (1 << 20) + 1] {
            let forged = forge(&file, &handle, head[9], raw, &payload);
            let log = open(dir.path(), Compression::None, &KeyRing::default());
            let refused = log.read(&forged).unwrap_err();
            assert!(matches!(refused, Error::Corrupt { .. }), "{compression:?} {raw}: {refused}");
        }
    }
}
