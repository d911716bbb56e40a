//! Bytes on disk, and nothing else: no I/O, no clock, no policy. `docs/format.md` is the specification.
//!
//! ```text
//! segment := header block | group* | footer block
//! group   := group header (96 bytes) | frame* | zeros up to the block
//! frame   := frame header (24 bytes) | payload | zeros up to 8 bytes
//! ```
//!
//! Integers are little endian. Every checksum is a CRC-32 (ISO-HDLC) that also covers the *place* of what it protects:
//! log, writer, segment and offset. One check therefore refuses a flipped bit, a stale or misplaced block and a wild
//! length. The idea is that of recyclable logs (RocksDB, ScyllaDB); here the place goes in last, so that a payload's
//! crc can be taken while it is copied and need not be taken again when a group moves to another segment.

mod block;
mod frame;
mod group;
mod segment;

use uuid::Uuid;

use crate::planted::planted;

pub(crate) use block::{is_zero, pad_to};
pub(crate) use frame::{
    Coded, FRAME_HEADER, FrameHeader, FrameKind, Packing, SEAL_CHUNK, SEAL_PREFIX, SEAL_TAG,
};
pub(crate) use group::{GROUP_HEADER, GroupHeader};
pub(crate) use segment::{Coding, Footer, HeaderError, Past, SegmentHeader, damaged_header, decode_header};

/// The format version of segments in which every frame is plain, and of every footer.
pub(crate) const VERSION: u16 = 1;

/// That of segments whose frames may be compressed or encrypted: a release before those must refuse them.
pub(crate) const VERSION_CODED: u16 = 2;

/// Bytes of header and footer, and what a group is padded to where a barrier follows, so that no acknowledged block is ever
/// written again.
pub(crate) const BLOCK: u32 = 4096;

/// What a group is padded to where no barrier follows.
pub(crate) const UNPADDED: u32 = 64;

/// The identity of a segment: what every checksum in it is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) log: Uuid,
    pub(crate) writer: Uuid,
    pub(crate) segment: u64,
}

impl Place {
    /// The place of something that begins at `offset`, as checksums and authentication cover it.
    pub(crate) fn bytes(&self, offset: u64) -> [u8; 48] {
        let mut bytes = [0u8; 48];
        bytes[..16].copy_from_slice(self.log.as_bytes());
        bytes[16..32].copy_from_slice(self.writer.as_bytes());
        bytes[32..40].copy_from_slice(&self.segment.to_le_bytes());
        bytes[40..].copy_from_slice(&offset.to_le_bytes());
        bytes
    }

    /// Goes on from `crc` over the place of something that begins at `offset`.
    fn bind(&self, crc: crc32fast::Hasher, offset: u64) -> u32 {
        let mut bytes = self.bytes(offset);
        if planted!(TrustStaleFrame) {
            bytes[32..40].fill(0);
        }
        let mut crc = crc;
        if !planted!(UnseededChecksum) {
            crc.update(&bytes);
        }
        crc.finalize()
    }
}

/// Reads little-endian fields from a slice whose length the caller has checked.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(std::array::from_fn(|i| self.0[at + i]))
    }
    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|i| self.0[at + i]))
    }
    fn i64(&self, at: usize) -> i64 {
        i64::from_le_bytes(std::array::from_fn(|i| self.0[at + i]))
    }
}

#[cfg(fuzzing)]
pub mod fuzzing;
#[cfg(test)]
mod tests;
