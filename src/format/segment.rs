//! Segment headers and footers: one block each.
//!
//! ```text
//!  0 magic    8 bytes  "FERROWAL" (header), "FWFOOTER" (footer)
//!  8 version  u16      format version
//! 10 zero     u16
//! 12 length   u32      bytes of the body
//! 16 crc      u32      over bytes 0..16 and the body; a footer's also over its place
//! 20 zero     u32
//! 24 body              bincode 1.3.3 of the struct, fixed-width little endian
//! ```
//!
//! The crc is checked before anything is decoded. bincode is unmaintained, so no other byte depends on it, and golden
//! tests pin these.

use crc32fast::Hasher;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

use super::{BLOCK, Fields, Place, VERSION, VERSION_CODED};

const PREFIX: usize = 24;
const HEADER_MAGIC: &[u8; 8] = b"FERROWAL";
const FOOTER_MAGIC: &[u8; 8] = b"FWFOOTER";

/// What a segment says of itself in its first block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SegmentHeader {
    log: [u8; 16],
    writer: [u8; 16],
    /// Restarted by a fresh start of the driver: earlier generations are never replayed.
    pub(crate) generation: u64,
    pub(crate) segment: u64,
    /// Counts the writers that opened this log, one after the other.
    pub(crate) epoch: u64,
    /// Wall clock, milliseconds since 1970, at least one more than in the segment that its process made before: for people,
    /// and for the order in which receivers' logs are read.
    pub(crate) created: u64,
    /// Groups begin at multiples of this. Header and footer are as large, and [`BLOCK`] at least.
    pub(crate) block: u32,
    /// How its frames may be kept, and with which key.
    pub(crate) coding: Coding,
    /// 1 where the file was a segment before: what lies behind the last group may be stale, and proves nothing.
    pub(crate) recycled: u32,
    pub(crate) past: Past,
}

/// How the frames of a segment may be kept. Each frame says for itself how it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Coding {
    /// 0: none is compressed; 1: LZ4, 2: Zstandard.
    pub(crate) codec: u32,
    /// Id of the key that encrypts them; all zero: none is encrypted.
    pub(crate) key: [u8; 16],
}

impl Coding {
    /// Whether every frame is plain.
    pub(crate) fn is_plain(&self) -> bool {
        *self == Coding::default()
    }

    /// The format version of such a segment.
    pub(crate) fn version(&self) -> u16 {
        if self.is_plain() { VERSION } else { VERSION_CODED }
    }
}

/// What its writer knew when a segment was made. It stays true: a segment may be made long before its first group, and
/// what was durable then is durable for ever. So a segment that holds no group yet still proves what precedes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Past {
    /// Every group with a smaller sequence was durable.
    pub(crate) watermark: u64,
    /// Effective clean threshold, `i64::MIN` for none.
    pub(crate) threshold: i64,
    /// Segments below this number were cleaned.
    pub(crate) low_water: u64,
    /// No group with a smaller sequence counted any more; 0 if not known.
    pub(crate) first: u64,
    /// Number of the newest segment of this generation that was there; 0 for none.
    pub(crate) previous: u64,
}

impl Past {
    /// Where nothing is known.
    pub(crate) const UNKNOWN: Past =
        Past { watermark: 0, threshold: i64::MIN, low_water: 0, first: 0, previous: 0 };
}

impl SegmentHeader {
    pub(crate) fn new(
        place: &Place,
        generation: u64,
        epoch: u64,
        created: u64,
        block: u32,
        past: Past,
    ) -> SegmentHeader {
        SegmentHeader {
            log: *place.log.as_bytes(),
            writer: *place.writer.as_bytes(),
            generation,
            segment: place.segment,
            epoch,
            created,
            block,
            coding: Coding::default(),
            recycled: 0,
            past,
        }
    }

    /// The same for frames that may be kept so.
    pub(crate) fn coded(self, coding: Coding) -> SegmentHeader {
        SegmentHeader { coding, ..self }
    }

    /// The same for a file that was a segment before, or was not.
    pub(crate) fn recycled(self, recycled: bool) -> SegmentHeader {
        SegmentHeader { recycled: u32::from(recycled), ..self }
    }

    /// The identity that the checksums in this segment are bound to.
    pub(crate) fn place(&self) -> Place {
        Place {
            log: Uuid::from_bytes(self.log),
            writer: Uuid::from_bytes(self.writer),
            segment: self.segment,
        }
    }

    fn block_is_sane(&self) -> bool {
        self.block.is_power_of_two() && (64..=1 << 20).contains(&self.block)
    }

    /// Bytes of the header, and of the footer.
    pub(crate) fn ends(&self) -> u32 {
        self.block.max(BLOCK)
    }

    /// The header's block.
    pub(crate) fn encode(&self) -> Vec<u8> {
        seal(HEADER_MAGIC, self.coding.version(), self, self.ends(), |crc| crc.finalize())
    }
}

/// Why a header block is not one that this release can read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HeaderError {
    /// It does not check.
    Damaged,
    /// It is of another release's format.
    Version(u16),
}

/// Reads a header from the segment's first bytes.
pub(crate) fn decode_header(block: &[u8]) -> Result<SegmentHeader, HeaderError> {
    let header: SegmentHeader = open(HEADER_MAGIC, VERSION_CODED, block, |crc| crc.finalize())?;
    // A checksum says that these bytes were written, not by whom: no value may lead to a division by zero later.
    if header.block_is_sane() { Ok(header) } else { Err(HeaderError::Damaged) }
}

/// What a header that does not check seems to say. Nothing of it is proven: only what fits with checksums elsewhere may
/// be believed.
pub(crate) fn damaged_header(block: &[u8]) -> Option<SegmentHeader> {
    let header: SegmentHeader = bincode::deserialize(block.get(PREFIX..)?).ok()?;
    let block = if header.block_is_sane() { header.block } else { BLOCK };
    Some(SegmentHeader { block, ..header })
}

/// What is known of a segment once its length is fixed for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Footer {
    /// Where the last group's blocks end. The footer stands there, or in the file's last block.
    pub(crate) end: u64,
    pub(crate) groups: u64,
    pub(crate) records: u64,
    /// Payload bytes; where recovery wrote the footer, the padding of frames included.
    pub(crate) bytes: u64,
    /// Sequence of the first group that was submitted to this segment: makes every group from it on void in earlier
    /// segments. Equal to `next` where there is none.
    pub(crate) base: u64,
    /// One past the sequence of the last group.
    pub(crate) next: u64,
    pub(crate) min_time: i64,
    pub(crate) max_time: i64,
    pub(crate) watermark: u64,
    pub(crate) threshold: i64,
    pub(crate) low_water: u64,
    /// Sequence of the oldest group that was neither cleaned nor of an earlier generation; 0 if not known.
    pub(crate) first: u64,
    /// Wall clock, milliseconds since 1970: for people only.
    pub(crate) sealed: u64,
}

impl Footer {
    /// The footer's block, for `offset` of `place`.
    pub(crate) fn encode(&self, place: &Place, offset: u64, block: u32) -> Vec<u8> {
        seal(FOOTER_MAGIC, VERSION, self, block, |crc| place.bind(crc, offset))
    }

    /// Reads a footer; `None` unless it was written at exactly this place.
    pub(crate) fn decode(block: &[u8], place: &Place, offset: u64) -> Option<Footer> {
        let footer: Footer = open(FOOTER_MAGIC, VERSION, block, |crc| place.bind(crc, offset)).ok()?;
        (footer.end <= offset && footer.base <= footer.next).then_some(footer)
    }
}

fn seal(
    magic: &[u8; 8],
    version: u16,
    body: &impl Serialize,
    block: u32,
    bind: impl Fn(Hasher) -> u32,
) -> Vec<u8> {
    // A struct of integers and arrays always serializes; an empty body would fail its own check when read.
    let body = bincode::serialize(body).unwrap_or_default();
    let mut b = vec![0u8; (PREFIX + body.len()).max(block as usize)];
    b[..8].copy_from_slice(magic);
    b[8..10].copy_from_slice(&version.to_le_bytes());
    b[12..16].copy_from_slice(&(body.len() as u32).to_le_bytes());
    b[PREFIX..PREFIX + body.len()].copy_from_slice(&body);
    let crc = bind(hash(&b, body.len()));
    b[16..20].copy_from_slice(&crc.to_le_bytes());
    b
}

fn open<T: DeserializeOwned>(
    magic: &[u8; 8],
    newest: u16,
    block: &[u8],
    bind: impl Fn(Hasher) -> u32,
) -> Result<T, HeaderError> {
    if block.len() < PREFIX || &block[..8] != magic {
        return Err(HeaderError::Damaged);
    }
    let fields = Fields(block);
    let length = fields.u32(12) as usize;
    if length > block.len() - PREFIX || bind(hash(block, length)) != fields.u32(16) {
        return Err(HeaderError::Damaged);
    }
    let version = u16::from_le_bytes([block[8], block[9]]);
    if !(VERSION..=newest).contains(&version) {
        return Err(HeaderError::Version(version));
    }
    bincode::deserialize(&block[PREFIX..PREFIX + length]).map_err(|_| HeaderError::Damaged)
}

fn hash(block: &[u8], body: usize) -> Hasher {
    let mut crc = Hasher::new();
    crc.update(&block[..16]);
    crc.update(&block[PREFIX..PREFIX + body]);
    crc
}
