//! The log itself (being built: the signatures below are the ones to program against).

use bytes::Bytes;

use crate::{Error, Options, RecordHandle, RecoveryReport, Result};

/// Where a record's bytes come from, when they are not a slice: a Java array is copied piece by piece.
pub trait RecordSource {
    /// The record's length in bytes.
    fn len(&self) -> usize;
    /// Whether there are no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Copies the bytes from `offset` on into all of `into`.
    ///
    /// # Errors
    /// Any error makes the append fail and leaves nothing of the record.
    fn copy(&mut self, offset: usize, into: &mut [u8]) -> Result<()>;
}

/// One open log. Cheap to make: nothing is created until the first append. Instances of one directory and role in one
/// process share what is open.
#[derive(Debug)]
pub struct Log;

/// Records in write order.
#[derive(Debug)]
pub struct Scan;

impl Iterator for Scan {
    type Item = Result<Bytes>;
    fn next(&mut self) -> Option<Self::Item> {
        None
    }
}

impl Log {
    /// Checks the options and looks at nothing else.
    pub fn open(options: Options) -> Result<Log> {
        options.validate()?;
        Ok(Log)
    }
    /// Looks at what can be known early, and creates nothing.
    pub fn check(&self) -> Result<()> {
        Ok(())
    }
    /// Appends one record; durable on return.
    pub fn append(&self, _record: &[u8], _time: i64) -> Result<RecordHandle> {
        Err(Error::Internal("not built yet".into()))
    }
    /// Appends one record whose bytes are copied from `source`.
    pub fn append_from(&self, _source: &mut dyn RecordSource, _time: i64) -> Result<RecordHandle> {
        Err(Error::Internal("not built yet".into()))
    }
    /// Checks that a record's place can be reached and that its length is possible, before a caller allocates for it.
    pub fn locate(&self, _handle: &RecordHandle) -> Result<()> {
        Err(Error::Internal("not built yet".into()))
    }
    /// Reads one record.
    pub fn read(&self, _handle: &RecordHandle) -> Result<Vec<u8>> {
        Err(Error::Internal("not built yet".into()))
    }
    /// Reads one record into memory of exactly its length.
    pub fn read_into(&self, _handle: &RecordHandle, _into: &mut [u8]) -> Result<()> {
        Err(Error::Internal("not built yet".into()))
    }
    /// All records written and not cleaned, in write order, read lazily.
    pub fn scan(&self) -> Result<Scan> {
        Ok(Scan)
    }
    /// Drops what lies below `threshold` (less the grace).
    pub fn clean(&self, _threshold: i64, _wait: bool) -> Result<()> {
        Ok(())
    }
    /// Idempotent.
    pub fn close(&self) -> Result<()> {
        Ok(())
    }
    /// What recovery found when the log was opened; none before the first use.
    pub fn report(&self) -> Option<RecoveryReport> {
        None
    }
    /// The operator's overrides: the bytes of `ferrowal.properties` in `dir`, if there is one. Changes nothing.
    pub fn overrides(_dir: &std::path::Path) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }
}
