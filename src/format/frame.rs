//! Frames: one record with its header.
//!
//! ```text
//!  0 crc     u32   over payload, then bytes 4..24 of this header, then the place
//!  4 length  u32   payload bytes as stored
//!  8 kind    u8    1 record, 2 void (a reservation that was abandoned)
//!  9 codec   u8    0 plain; others are for compression and encryption
//! 10 zero    u16
//! 12 raw     u32   payload bytes before the codec; equal to length when plain
//! 16 time    i64   milliseconds, the caller's
//! ```

use crc32fast::Hasher;

use super::{Fields, Place, pad_to};

/// Bytes of a frame header.
pub(crate) const FRAME_HEADER: usize = 24;
/// Frames begin at multiples of this.
pub(crate) const FRAME_ALIGN: u64 = 8;

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
    pub(crate) length: u32,
    pub(crate) time: i64,
    pub(crate) crc: u32,
}

impl FrameHeader {
    /// Bytes that a frame of `length` payload bytes takes.
    pub(crate) fn footprint(length: u32) -> u64 {
        FRAME_HEADER as u64 + pad_to(u64::from(length), FRAME_ALIGN)
    }

    /// Encodes the header of a plain frame at `offset` of `place` and returns it with the frame's crc.
    pub(crate) fn encode(
        kind: FrameKind,
        length: u32,
        time: i64,
        payload: &Hasher,
        place: &Place,
        offset: u64,
    ) -> ([u8; FRAME_HEADER], u32) {
        let mut b = [0u8; FRAME_HEADER];
        b[4..8].copy_from_slice(&length.to_le_bytes());
        b[8] = match kind {
            FrameKind::Record => 1,
            FrameKind::Void => 2,
        };
        b[12..16].copy_from_slice(&length.to_le_bytes());
        b[16..24].copy_from_slice(&time.to_le_bytes());
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
        let length = f.u32(4);
        let plain = b[9] == 0 && b[10] == 0 && b[11] == 0 && f.u32(12) == length;
        (plain && length <= i32::MAX as u32).then(|| FrameHeader {
            kind,
            length,
            time: f.i64(16),
            crc: f.u32(0),
        })
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
