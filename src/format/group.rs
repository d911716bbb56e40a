//! Group headers: what one barrier makes durable, and what was known at its submission.
//!
//! ```text
//!  0 magic      u32   "FWGR"
//!  4 crc        u32   over bytes 8..96, then the place
//!  8 length     u64   bytes of the frames, without this header and without padding
//! 16 sequence   u64   1 for the writer's first group
//! 24 records    u32   frames of kind record
//! 28 frames     u32   all frames
//! 32 min time   i64   of the records; 0 where there are none
//! 40 max time   i64
//! 48 running    i64   largest record time in this segment so far, i64::MIN where there is none
//! 56 watermark  u64   every group with a smaller sequence was durable when this one was submitted
//! 64 threshold  i64   effective clean threshold, i64::MIN for none
//! 72 low water  u64   segments below this number were cleaned
//! 80 base       u64   sequence of the first group that was submitted to this segment
//! 88 first      u64   sequence of the oldest group that was neither cleaned nor of an earlier generation
//! ```

use crc32fast::Hasher;

use super::{Fields, Place, pad_to};

/// Bytes of a group header.
pub(crate) const GROUP_HEADER: usize = 96;
const MAGIC: u32 = u32::from_le_bytes(*b"FWGR");

/// A group header that checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GroupHeader {
    pub(crate) length: u64,
    pub(crate) sequence: u64,
    pub(crate) records: u32,
    pub(crate) frames: u32,
    pub(crate) min_time: i64,
    pub(crate) max_time: i64,
    pub(crate) running_max: i64,
    pub(crate) watermark: u64,
    pub(crate) threshold: i64,
    pub(crate) low_water: u64,
    pub(crate) base: u64,
    pub(crate) first: u64,
}

impl GroupHeader {
    /// Bytes that a group with `frames` bytes of frames takes in blocks of `block` bytes.
    pub(crate) fn footprint(frames: u64, block: u32) -> u64 {
        pad_to(GROUP_HEADER as u64 + frames, u64::from(block))
    }

    /// Encodes the header of a group at `offset` of `place`.
    pub(crate) fn encode(&self, place: &Place, offset: u64) -> [u8; GROUP_HEADER] {
        let mut b = [0u8; GROUP_HEADER];
        b[..4].copy_from_slice(&MAGIC.to_le_bytes());
        b[8..16].copy_from_slice(&self.length.to_le_bytes());
        b[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        b[24..28].copy_from_slice(&self.records.to_le_bytes());
        b[28..32].copy_from_slice(&self.frames.to_le_bytes());
        b[32..40].copy_from_slice(&self.min_time.to_le_bytes());
        b[40..48].copy_from_slice(&self.max_time.to_le_bytes());
        b[48..56].copy_from_slice(&self.running_max.to_le_bytes());
        b[56..64].copy_from_slice(&self.watermark.to_le_bytes());
        b[64..72].copy_from_slice(&self.threshold.to_le_bytes());
        b[72..80].copy_from_slice(&self.low_water.to_le_bytes());
        b[80..88].copy_from_slice(&self.base.to_le_bytes());
        b[88..96].copy_from_slice(&self.first.to_le_bytes());
        let crc = Self::crc(&b, place, offset);
        b[4..8].copy_from_slice(&crc.to_le_bytes());
        b
    }

    fn crc(b: &[u8; GROUP_HEADER], place: &Place, offset: u64) -> u32 {
        let mut crc = Hasher::new();
        crc.update(&b[8..]);
        place.bind(crc, offset)
    }

    /// Reads a group header; `None` unless it was written at exactly this place.
    pub(crate) fn decode(b: &[u8; GROUP_HEADER], place: &Place, offset: u64) -> Option<GroupHeader> {
        let f = Fields(b);
        if f.u32(0) != MAGIC || f.u32(4) != Self::crc(b, place, offset) {
            return None;
        }
        Some(GroupHeader {
            length: f.u64(8),
            sequence: f.u64(16),
            records: f.u32(24),
            frames: f.u32(28),
            min_time: f.i64(32),
            max_time: f.i64(40),
            running_max: f.i64(48),
            watermark: f.u64(56),
            threshold: f.i64(64),
            low_water: f.u64(72),
            base: f.u64(80),
            first: f.u64(88),
        })
    }
}
