//! Frames: one record with its header.
//!
//! ```text
//!  0 crc     u32   over payload, then bytes 4..24 of this header, then the place
//!  4 length  u32   payload bytes as stored
//!  8 kind    u8    1 record, 2 void (a reservation that was abandoned)
//!  9 codec   u8    how the payload is kept: 0 plain, see [`Codec`]
//! 10 zero    u16
//! 12 raw     u32   the record's bytes before the codec; equal to length when plain
//! 16 time    i64   milliseconds, the caller's
//! ```
//!
//! An encrypted payload is
//!
//! ```text
//!  0 key     8 bytes   first half of the key's id
//!  8 salt    24 bytes  random, drawn for the group at each encoding
//! 32 content           in chunks of 4 MiB at most, each with 16 bytes behind it that authenticate it
//! ```

use crc32fast::Hasher;

use super::{Fields, Place, pad_to};

/// Bytes of a frame header.
pub(crate) const FRAME_HEADER: usize = 24;
/// Frames begin at multiples of this.
pub(crate) const FRAME_ALIGN: u64 = 8;

/// Bytes before the content of an encrypted payload: half of a key id, and a salt.
pub(crate) const SEAL_PREFIX: usize = 8 + 24;
/// Bytes behind each chunk that authenticate it.
pub(crate) const SEAL_TAG: usize = 16;
/// Bytes of a chunk before it is encrypted. What fits in a group's buffer is one chunk.
pub(crate) const SEAL_CHUNK: usize = 4 << 20;
/// A block of LZ4 never holds more than so many times its length: a length takes a byte for each 255.
const LZ4_MOST: u64 = 255;
/// Nor does Zstandard: a block of at most 128 KiB takes 4 bytes at least.
const ZSTD_MOST: u64 = 32 << 10;

/// How a payload was made smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    None,
    Lz4,
    Zstd,
}

impl Packing {
    /// As frames and segments name it.
    pub(crate) fn number(self) -> u8 {
        match self {
            Packing::None => 0,
            Packing::Lz4 => 1,
            Packing::Zstd => 2,
        }
    }
}

/// How a frame keeps its payload: compressed or not, then encrypted or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Codec {
    pub(crate) packing: Packing,
    pub(crate) sealed: bool,
}

impl Codec {
    pub(crate) const PLAIN: Codec = Codec { packing: Packing::None, sealed: false };
    const SEALED: u8 = 0x80;

    /// Whether the payload is the record.
    pub(crate) fn is_plain(self) -> bool {
        self == Codec::PLAIN
    }

    fn byte(self) -> u8 {
        self.packing.number() | if self.sealed { Codec::SEALED } else { 0 }
    }

    fn of(byte: u8) -> Option<Codec> {
        let packing = match byte & !Codec::SEALED {
            0 => Packing::None,
            1 => Packing::Lz4,
            2 => Packing::Zstd,
            _ => return None,
        };
        Some(Codec { packing, sealed: byte & Codec::SEALED != 0 })
    }
}

/// The lengths of a record, and how it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Coded {
    pub(crate) codec: Codec,
    /// Bytes of the record.
    pub(crate) raw: u32,
    /// Bytes of it once it is compressed: what is encrypted.
    pub(crate) content: u32,
    /// Bytes of the payload in its frame.
    pub(crate) length: u32,
}

impl Coded {
    /// A record of so many bytes that is kept as it is.
    pub(crate) fn plain(length: u32) -> Coded {
        Coded { codec: Codec::PLAIN, raw: length, content: length, length }
    }

    /// A record of `raw` bytes that was packed into `content`; encrypted, if `sealed`. `None` where that is too long for
    /// a frame.
    pub(crate) fn new(packing: Packing, raw: u32, content: u32, sealed: bool) -> Option<Coded> {
        let length = if sealed { Coded::sealed_length(content) } else { u64::from(content) };
        let length = u32::try_from(length).ok().filter(|l| *l <= i32::MAX as u32)?;
        Some(Coded { codec: Codec { packing, sealed }, raw, content, length })
    }

    /// What a frame header says, if it makes sense: nothing is allocated for a length that cannot be true.
    fn of(codec: Codec, raw: u32, length: u32) -> Option<Coded> {
        let content = if codec.sealed { Coded::content_length(length)? } else { length };
        let (raw64, content64) = (u64::from(raw), u64::from(content));
        let fits = match codec.packing {
            Packing::None => raw == content,
            Packing::Lz4 => content < raw && raw64 <= content64 * LZ4_MOST,
            Packing::Zstd => content < raw && raw64 <= content64 * ZSTD_MOST,
        };
        (fits && length <= i32::MAX as u32 && raw <= i32::MAX as u32).then_some(Coded {
            codec,
            raw,
            content,
            length,
        })
    }

    fn chunks(content: u64) -> u64 {
        content.div_ceil(SEAL_CHUNK as u64).max(1)
    }

    fn sealed_length(content: u32) -> u64 {
        let content = u64::from(content);
        SEAL_PREFIX as u64 + content + Coded::chunks(content) * SEAL_TAG as u64
    }

    fn content_length(length: u32) -> Option<u32> {
        let body = u64::from(length).checked_sub(SEAL_PREFIX as u64)?;
        let chunks = body.div_ceil((SEAL_CHUNK + SEAL_TAG) as u64).max(1);
        let content = u32::try_from(body.checked_sub(chunks * SEAL_TAG as u64)?).ok()?;
        (Coded::sealed_length(content) == u64::from(length)).then_some(content)
    }
}

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameKind {
    Record,
    Void,
}

/// A decoded frame header. Whether it is true is known only after [`FrameHeader::check`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) kind: FrameKind,
    /// Bytes of the payload.
    pub(crate) length: u32,
    /// How it is kept, and the record's own length.
    pub(crate) coded: Coded,
    pub(crate) time: i64,
    pub(crate) crc: u32,
}

impl FrameHeader {
    /// Bytes that a frame of `length` payload bytes takes.
    pub(crate) fn footprint(length: u32) -> u64 {
        FRAME_HEADER as u64 + pad_to(u64::from(length), FRAME_ALIGN)
    }

    /// The header of a frame, without its crc.
    pub(crate) fn bare(kind: FrameKind, coded: Coded, time: i64) -> [u8; FRAME_HEADER] {
        let mut b = [0u8; FRAME_HEADER];
        b[4..8].copy_from_slice(&coded.length.to_le_bytes());
        b[8] = match kind {
            FrameKind::Record => 1,
            FrameKind::Void => 2,
        };
        b[9] = coded.codec.byte();
        b[12..16].copy_from_slice(&coded.raw.to_le_bytes());
        b[16..24].copy_from_slice(&time.to_le_bytes());
        b
    }

    /// Encodes the header of a frame at `offset` of `place` and returns it with the frame's crc.
    pub(crate) fn encode(
        kind: FrameKind,
        coded: Coded,
        time: i64,
        payload: &Hasher,
        place: &Place,
        offset: u64,
    ) -> ([u8; FRAME_HEADER], u32) {
        let mut b = FrameHeader::bare(kind, coded, time);
        let mut crc = payload.clone();
        crc.update(&b[4..]);
        let crc = place.bind(crc, offset);
        b[..4].copy_from_slice(&crc.to_le_bytes());
        (b, crc)
    }

    /// Reads a header from its 24 bytes; `None` when no frame of this format can look like that.
    pub(crate) fn decode(b: &[u8; FRAME_HEADER]) -> Option<FrameHeader> {
        let f = Fields(b);
        let kind = match b[8] {
            1 => FrameKind::Record,
            2 => FrameKind::Void,
            _ => return None,
        };
        let coded = Coded::of(Codec::of(b[9])?, f.u32(12), f.u32(4))?;
        let known = b[10] == 0 && b[11] == 0 && (kind == FrameKind::Record || coded.codec.is_plain());
        known.then(|| FrameHeader { kind, length: coded.length, coded, time: f.i64(16), crc: f.u32(0) })
    }

    /// Whether header and payload are what was written at this place.
    pub(crate) fn check(
        &self,
        header: &[u8; FRAME_HEADER],
        payload: &[u8],
        place: &Place,
        offset: u64,
    ) -> bool {
        let mut crc = Hasher::new();
        crc.update(payload);
        self.check_hashed(header, crc, place, offset)
    }

    /// The same, with the payload's crc already taken.
    pub(crate) fn check_hashed(
        &self,
        header: &[u8; FRAME_HEADER],
        payload: Hasher,
        place: &Place,
        offset: u64,
    ) -> bool {
        let mut crc = payload;
        crc.update(&header[4..]);
        place.bind(crc, offset) == self.crc
    }
}
