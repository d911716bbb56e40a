//! What the tests share: directories, options, records that can be recognised.
#![allow(dead_code, clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use ferrowal::{Log, Options, RecordHandle, Role};

/// Options for a test: no grace, small segments where asked.
pub fn options(dir: &Path, role: Role) -> Options {
    let mut options = Options::new(dir, role);
    options.clean_grace = std::time::Duration::ZERO;
    options.lock_wait = std::time::Duration::ZERO;
    options
}

pub fn open(dir: &Path, role: Role) -> Log {
    Log::open(options(dir, role)).unwrap()
}

/// A record that says which one it is, of the given length (at least 8).
pub fn record(number: u64, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(&number.to_le_bytes());
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Every record of the log, in order.
pub fn all(log: &Log) -> Vec<Vec<u8>> {
    log.scan().unwrap().map(|r| r.unwrap().to_vec()).collect()
}

/// The file of a record's segment.
pub fn segment_file(dir: &Path, role: Role, handle: &RecordHandle) -> PathBuf {
    let name = format!("{:016}.seg", handle.segment);
    match role {
        Role::Driver => dir.join("driver").join(name),
        Role::Receivers => dir.join("receivers").join(handle.writer.to_string()).join(name),
    }
}
