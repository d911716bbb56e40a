//! Bytes on disk.
/// The format version this release writes.
pub(crate) const VERSION: u16 = 1;
