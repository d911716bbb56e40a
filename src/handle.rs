//! Where a record lies: what `append` returns and `read` takes.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Error, Result};

/// The place of one acknowledged record. Small, plain data, meaningful in every process that can reach the log's
/// directory; it holds uuids and numbers and never a path, so that a hostile one can point nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RecordHandle {
    /// The log (one directory).
    pub log: Uuid,
    /// The writer within the log.
    pub writer: Uuid,
    /// The segment's number.
    pub segment: u64,
    /// Byte offset of the record's frame in the segment.
    pub offset: u64,
    /// Bytes of the record, 0 to 2^31-1; its frame may hold fewer, or more, where it is compressed or encrypted.
    pub length: u32,
    /// The frame's checksum: crc-32 over payload, frame header and place.
    pub crc: u32,
    /// Format version of the segment: 1 where every frame is plain, 2 otherwise.
    pub version: u16,
}

impl RecordHandle {
    /// The longest record, in bytes: the longest `ByteBuffer`.
    pub const MAX_LENGTH: u32 = i32::MAX as u32;

    /// Checks what can be checked without looking at the log.
    ///
    /// # Errors
    /// [`Error::BadHandle`] when a field is outside of what any record can have.
    pub fn validate(&self) -> Result<()> {
        let bad = |what: String| Err(Error::BadHandle(what));
        use crate::format::{VERSION, VERSION_CODED};
        if !(VERSION..=VERSION_CODED).contains(&self.version) {
            return bad(format!("format version {} is not known to this release", self.version));
        }
        if self.length > Self::MAX_LENGTH {
            return bad(format!("length {} is over 2^31-1", self.length));
        }
        if self.segment == 0 || self.segment > i64::MAX as u64 {
            return bad(format!("segment {} is not a segment number", self.segment));
        }
        if self.offset == 0 || self.offset > i64::MAX as u64 || !self.offset.is_multiple_of(8) {
            return bad(format!("offset {} is not the place of a frame", self.offset));
        }
        Ok(())
    }
}

impl fmt::Display for RecordHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let writer = self.writer.simple().to_string();
        write!(f, "{}/{}@{}+{}", &writer[..8], self.segment, self.offset, self.length)
    }
}
