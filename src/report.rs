//! What recovery found and did: logged at the open, and readable afterwards.

use std::{fmt, time::Duration};

use uuid::Uuid;

/// One damaged or dropped place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The writer whose segment it is.
    pub writer: Uuid,
    /// The segment.
    pub segment: u64,
    /// Byte offset in the segment.
    pub offset: u64,
    /// Whether it is corruption (acknowledged bytes that no longer check); otherwise it is torn (never acknowledged).
    pub corrupt: bool,
    /// What was found, for people.
    pub detail: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.corrupt { "corrupt" } else { "torn" };
        write!(
            f,
            "{kind}: writer {} segment {} offset {}: {}",
            self.writer, self.segment, self.offset, self.detail
        )
    }
}

/// The result of recovering one writer's segments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// The directory that was recovered.
    pub place: String,
    /// Segments found.
    pub segments: u64,
    /// Segments with a valid footer.
    pub sealed: u64,
    /// Records found and kept.
    pub records: u64,
    /// Payload bytes in them; in segments that a crash left open, with the padding of their frames.
    pub bytes: u64,
    /// Torn bytes that were set aside (never acknowledged).
    pub torn_bytes: u64,
    /// Groups voided by a later segment.
    pub void_groups: u64,
    /// Corrupt places.
    pub corrupt: u64,
    /// Files copied to quarantine.
    pub quarantined: u64,
    /// Segments that an earlier writer had left open, and that were given a footer.
    pub settled: u64,
    /// Segments that keep their torn bytes and have no footer, for want of space for a copy.
    pub unsettled: u64,
    /// Segments removed: never written to, or below the low-water mark.
    pub removed: u64,
    /// Records of earlier generations, set aside.
    pub set_aside: u64,
    /// The generation that is now current.
    pub generation: u64,
    /// Other writers of the same log: executors that live or lived. Only for receivers.
    pub others: u64,
    /// Those of them that are known to be gone; what they left is cleaned once its records are old enough. Looked for
    /// only where a lock tells, which is in local directories.
    pub orphans: u64,
    /// How long it took.
    pub took: Duration,
    /// Every torn or corrupt place.
    pub findings: Vec<Finding>,
}

impl fmt::Display for RecoveryReport {
    /// A block of lines for the log: what was found, what was done, and how long it took.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "recovered {} in {:.1?}", self.place, self.took)?;
        writeln!(
            f,
            "  found: {} segments ({} sealed), {} records of {} bytes in all, generation {}",
            self.segments, self.sealed, self.records, self.bytes, self.generation
        )?;
        writeln!(
            f,
            "  damage: {} corrupt places; {} torn bytes, never acknowledged; {} void groups",
            self.corrupt, self.torn_bytes, self.void_groups
        )?;
        write!(
            f,
            "  done: {} segments sealed, {} removed, {} copies put into quarantine, {} records of earlier generations set aside",
            self.settled, self.removed, self.quarantined, self.set_aside
        )?;
        if self.others > 0 {
            write!(
                f,
                "\n  orphans: {} of {} other writers are gone; what they left is kept until its records are old enough",
                self.orphans, self.others
            )?;
        }
        Ok(())
    }
}
