//! The decoders as the fuzz targets call them (`fuzz/`): no part of the API, and in no build but theirs.
//!
//! A fuzzer does not guess a checksum. So each decoder meets its bytes twice: as they are, and with the checksum that
//! belongs to them, which lets it go on into the fields.

use crc32fast::Hasher;
use uuid::Uuid;

use super::{
    Coded, FRAME_HEADER, Footer, FrameHeader, GROUP_HEADER, GroupHeader, Place, SegmentHeader, decode_header,
};

/// A place made of the first bytes, and the rest.
fn place(bytes: &[u8]) -> Option<(Place, u64, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<18>()?;
    let log = Uuid::from_u128(u128::from(head[0]));
    let writer = Uuid::from_u128(u128::from(head[1]));
    let segment = u64::from_le_bytes(std::array::from_fn(|i| head[2 + i]));
    let offset = u64::from_le_bytes(std::array::from_fn(|i| head[10 + i]));
    Some((Place { log, writer, segment }, offset, rest))
}

/// Header and footer: magic, length and checksum made right where there is room for them.
fn sealed(magic: &[u8; 8], bytes: &[u8], bind: impl Fn(Hasher) -> u32) -> Option<Vec<u8>> {
    let mut block = bytes.to_vec();
    let body = bytes.len().checked_sub(24)?;
    block[..8].copy_from_slice(magic);
    block[8..10].copy_from_slice(&super::VERSION.to_le_bytes());
    block[12..16].copy_from_slice(&u32::try_from(body).ok()?.to_le_bytes());
    let mut crc = Hasher::new();
    crc.update(&block[..16]);
    crc.update(&block[24..]);
    block[16..20].copy_from_slice(&bind(crc).to_le_bytes());
    Some(block)
}

/// A segment header; one that is taken comes back the same after encoding.
pub fn segment_header(bytes: &[u8]) {
    let _ = decode_header(bytes);
    let Some(block) = sealed(b"FERROWAL", bytes, Hasher::finalize) else { return };
    if let Ok(header) = decode_header(&block) {
        let again: Result<SegmentHeader, _> = decode_header(&header.encode());
        assert!(again.is_ok_and(|h| h.encode() == header.encode()));
    }
}

/// A footer; one that is taken is refused at any other place.
pub fn footer(bytes: &[u8]) {
    let Some((place, offset, rest)) = place(bytes) else { return };
    let _ = Footer::decode(rest, &place, offset);
    let Some(block) = sealed(b"FWFOOTER", rest, |crc| place.bind(crc, offset)) else { return };
    if let Some(footer) = Footer::decode(&block, &place, offset) {
        assert!(footer.end <= offset && footer.base <= footer.next);
        assert!(Footer::decode(&block, &place, offset ^ 4096).is_none());
    }
}

/// A group header; one that is taken comes back the same after encoding, and is refused at any other place.
pub fn group_header(bytes: &[u8]) {
    let Some((place, offset, rest)) = place(bytes) else { return };
    let Some(first) = rest.first_chunk::<GROUP_HEADER>() else { return };
    let _ = GroupHeader::decode(first, &place, offset);
    let mut block = *first;
    block[..4].copy_from_slice(b"FWGR");
    let mut crc = Hasher::new();
    crc.update(&block[8..]);
    block[4..8].copy_from_slice(&place.bind(crc, offset).to_le_bytes());
    let header = GroupHeader::decode(&block, &place, offset);
    assert!(header.is_some_and(|h| h.encode(&place, offset) == block));
    assert_eq!(GroupHeader::decode(&block, &place, offset ^ 4096), None);
}

/// Gives `open` a header that may be, with its payload, and memory for the record that it states: decoding is `codec`'s, which
/// this module does not know.
pub(crate) fn coded(
    bytes: &[u8],
    open: impl Fn(&FrameHeader, &[u8; FRAME_HEADER], &mut [u8], &mut [u8], &Place, u64),
) {
    let Some((place, offset, rest)) = place(bytes) else { return };
    let Some((head, payload)) = rest.split_first_chunk::<FRAME_HEADER>() else { return };
    let Ok(length) = u32::try_from(payload.len()) else { return };
    let mut head = *head;
    // The stated length of the record is the fuzzer's, within what it may have memory for.
    head[4..8].copy_from_slice(&length.to_le_bytes());
    (head[8], head[10], head[11]) = (1, 0, 0);
    head[14] &= 0x0f;
    head[15] = 0;
    let Some(header) = FrameHeader::decode(&head) else { return };
    let mut into = vec![0; header.coded.raw as usize];
    open(&header, &head, &mut payload.to_vec(), &mut into, &place, offset);
}

/// A frame; one that is taken checks at its place with its payload, and nowhere else.
pub fn frame(bytes: &[u8]) {
    let Some((place, offset, rest)) = place(bytes) else { return };
    let Some((head, payload)) = rest.split_first_chunk::<FRAME_HEADER>() else { return };
    if let Some(header) = FrameHeader::decode(head) {
        assert!(header.length <= i32::MAX as u32);
        let _ = header.check(head, payload, &place, offset);
    }
    let Ok(length) = u32::try_from(payload.len()) else { return };
    let mut crc = Hasher::new();
    crc.update(payload);
    let time = i64::from_le_bytes(std::array::from_fn(|i| head[16 + i]));
    let (encoded, _) =
        FrameHeader::encode(super::FrameKind::Record, Coded::plain(length), time, &crc, &place, offset);
    let header = FrameHeader::decode(&encoded);
    assert!(header.is_some_and(|h| h.length == length && h.time == time));
    assert!(header.is_some_and(|h| h.check(&encoded, payload, &place, offset)));
    assert!(header.is_some_and(|h| !h.check(&encoded, payload, &place, offset ^ 8)));
}

/// Makes the checksum of a group header at `offset` of a segment's bytes right again, after its fields were changed; so a
/// whole log can be read whose fields are wild. The segment's own header says which place that is.
pub fn reseal_group(segment: &mut [u8], offset: usize) {
    let Ok(header) = decode_header(&segment[..segment.len().min(4096)]) else { return };
    let Some(group) = segment.get_mut(offset..).and_then(|s| s.first_chunk_mut::<GROUP_HEADER>()) else {
        return;
    };
    let mut crc = Hasher::new();
    crc.update(&group[8..]);
    let crc = header.place().bind(crc, offset as u64);
    group[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// The same for the segment's header block.
pub fn reseal_header(segment: &mut [u8]) {
    let Some(length) =
        segment.get(12..16).map(|b| u32::from_le_bytes(std::array::from_fn(|i| b[i])) as usize)
    else {
        return;
    };
    let Some(body) = length.checked_add(24).and_then(|end| segment.get(24..end)) else { return };
    let mut crc = Hasher::new();
    crc.update(&segment[..16]);
    crc.update(body);
    let crc = crc.finalize();
    segment[16..20].copy_from_slice(&crc.to_le_bytes());
}
