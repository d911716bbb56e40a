//! The bytes themselves, pinned: a change here is a new format version.
#![allow(clippy::unwrap_used)]

use crc32fast::Hasher;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn place() -> Place {
    Place { log: Uuid::from_u128(1), writer: Uuid::from_u128(2), segment: 3 }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn group() -> GroupHeader {
    GroupHeader {
        length: 4000,
        sequence: 7,
        records: 2,
        frames: 3,
        min_time: -5,
        max_time: 1_700_000_000_000,
        running_max: 1_700_000_000_001,
        watermark: 6,
        threshold: i64::MIN,
        low_water: 2,
        base: 5,
        first: 4,
    }
}

fn footer() -> Footer {
    Footer {
        end: 8192,
        groups: 1,
        records: 2,
        bytes: 3,
        base: 5,
        next: 6,
        min_time: -7,
        max_time: 8,
        watermark: 9,
        threshold: 10,
        low_water: 11,
        first: 12,
        sealed: 13,
    }
}

fn past() -> Past {
    Past { watermark: 6, threshold: -7, low_water: 2, first: 4, previous: 1 }
}

#[test]
fn a_frame_is_these_bytes() {
    let mut payload = Hasher::new();
    payload.update(b"hello");
    let (bytes, crc) =
        FrameHeader::encode(FrameKind::Record, Coded::plain(5), 1_000, &payload, &place(), 4192);
    assert_eq!(hex(&bytes), FRAME);
    // The definition, spelled out: payload, header without its crc, place.
    let spelled = [
        b"hello",
        &bytes[4..],
        &1u128.to_be_bytes(),
        &2u128.to_be_bytes(),
        &3u64.to_le_bytes(),
        &4192u64.to_le_bytes(),
    ]
    .concat();
    assert_eq!(crc, crc32fast::hash(&spelled));
}
const FRAME: &str = "a7d5b366050000000100000005000000e803000000000000";

#[test]
fn a_group_header_is_these_bytes() {
    assert_eq!(hex(&group().encode(&place(), 8192)), GROUP);
}
const GROUP: &str = concat!(
    "465747528f1edc1ca00f00000000000007000000000000000200000003000000fbffffffffffffff0068e5cf8b010000",
    "0168e5cf8b01000006000000000000000000000000000080020000000000000005000000000000000400000000000000"
);

#[test]
fn a_segment_header_is_these_bytes_and_zeros() {
    let bytes = SegmentHeader::new(&place(), 4, 5, 1_700_000_000_000, 4096, past()).encode();
    assert_eq!(bytes.len(), 4096);
    assert_eq!(hex(&bytes[..156]), HEADER);
    assert!(is_zero(&bytes[156..]));
}
const HEADER: &str = concat!(
    "464552524f57414c01000000840000009460c1f300000000000000000000000000000000000000010000000000000000",
    "00000000000000020400000000000000030000000000000005000000000000000068e5cf8b0100000010000000000000",
    "00000000000000000000000000000000000000000600000000000000f9ffffffffffffff020000000000000004000000",
    "000000000100000000000000"
);

#[test]
fn a_footer_is_these_bytes_and_zeros() {
    let bytes = footer().encode(&place(), 8192, 4096);
    assert_eq!(bytes.len(), 4096);
    assert_eq!(hex(&bytes[..128]), FOOTER);
    assert!(is_zero(&bytes[128..]));
}
const FOOTER: &str = concat!(
    "4657464f4f5445520100000068000000ac829b1300000000002000000000000001000000000000000200000000000000",
    "030000000000000005000000000000000600000000000000f9ffffffffffffff08000000000000000900000000000000",
    "0a000000000000000b000000000000000c000000000000000d00000000000000"
);

#[test]
fn a_newer_version_is_told_from_damage() {
    let mut bytes = SegmentHeader::new(&place(), 4, 5, 6, 4096, past()).encode();
    bytes[8] = 3;
    assert_eq!(decode_header(&bytes), Err(HeaderError::Damaged), "its checksum covers the version");
    let body = bytes[12..16].try_into().map(u32::from_le_bytes).unwrap() as usize;
    let mut crc = Hasher::new();
    crc.update(&bytes[..16]);
    crc.update(&bytes[24..24 + body]);
    bytes[16..20].copy_from_slice(&crc.finalize().to_le_bytes());
    assert_eq!(decode_header(&bytes), Err(HeaderError::Version(3)));
}

proptest! {
    /// Whatever the bytes, decoding gives an answer, and what it gives checks.
    #[test]
    fn decoders_survive_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300), offset: u64) {
        let _ = decode_header(&bytes);
        prop_assert_eq!(Footer::decode(&bytes, &place(), offset), None);
        if let Some(b) = bytes.first_chunk() {
            prop_assert_eq!(GroupHeader::decode(b, &place(), offset), None);
        }
        if let Some(frame) = bytes.first_chunk().and_then(FrameHeader::decode) {
            prop_assert!(frame.length <= i32::MAX as u32);
        }
    }

    /// What was written at one place checks there, and nowhere else.
    #[test]
    fn a_frame_belongs_to_its_place(
        payload in proptest::collection::vec(any::<u8>(), 0..200),
        time: i64,
        offset in 0u64..1 << 40,
        log: u128, writer: u128, segment: u64,
        flip in 0usize..24 * 8,
    ) {
        let at = Place { log: Uuid::from_u128(log), writer: Uuid::from_u128(writer), segment };
        let mut crc = Hasher::new();
        crc.update(&payload);
        let (bytes, _) = FrameHeader::encode(FrameKind::Record, Coded::plain(payload.len() as u32), time, &crc, &at, offset);
        let header = FrameHeader::decode(&bytes).unwrap();
        prop_assert_eq!((header.length as usize, header.time), (payload.len(), time));
        prop_assert!(header.check(&bytes, &payload, &at, offset));
        prop_assert!(!header.check(&bytes, &payload, &at, offset + 8));
        let elsewhere = [
            Place { segment: segment ^ 1, ..at },
            Place { writer: Uuid::from_u128(writer ^ 1), ..at },
            Place { log: Uuid::from_u128(log ^ 1), ..at },
        ];
        for other in elsewhere {
            prop_assert!(!header.check(&bytes, &payload, &other, offset));
        }
        let mut flipped = bytes;
        flipped[flip / 8] ^= 1 << (flip % 8);
        let decoded = FrameHeader::decode(&flipped);
        prop_assert!(decoded.is_none_or(|h| !h.check(&flipped, &payload, &at, offset)));
    }

    #[test]
    fn a_group_header_comes_back_from_its_place_only(
        sequence: u64, watermark: u64, threshold: i64, offset in 0u64..1 << 40, flip in 0usize..GROUP_HEADER * 8,
    ) {
        let header = GroupHeader { sequence, watermark, threshold, ..group() };
        let bytes = header.encode(&place(), offset);
        prop_assert_eq!(GroupHeader::decode(&bytes, &place(), offset), Some(header));
        prop_assert_eq!(GroupHeader::decode(&bytes, &place(), offset + 4096), None);
        let mut flipped = bytes;
        flipped[flip / 8] ^= 1 << (flip % 8);
        prop_assert_eq!(GroupHeader::decode(&flipped, &place(), offset), None);
    }
}
