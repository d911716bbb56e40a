//! What can go wrong, as types with fields: each error says what happened, where, and what to do.
//!
//! Errors are cheap to clone, because one failed barrier is the answer to every caller that waits for it.

use std::{fmt, io, sync::Arc, time::Duration};

use uuid::Uuid;

/// The result of every call of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why something that has a file's name is not opened: reading it would wait for others, or never end.
#[derive(Debug, thiserror::Error)]
#[error(
    "it is {0}, and no regular file: move it away, and put the log's own file back in its place, if there is a copy of it"
)]
pub(crate) struct NotAFile(&'static str);

impl NotAFile {
    /// For something of this mode.
    pub(crate) fn error(mode: u32) -> io::Error {
        use rustix::fs::FileType;
        io::Error::other(NotAFile(match FileType::from_raw_mode(mode) {
            FileType::Fifo => "a named pipe (FIFO)",
            FileType::Directory => "a directory",
            FileType::Socket => "a socket",
            FileType::CharacterDevice | FileType::BlockDevice => "a device",
            _ => "something else",
        }))
    }

    /// Whether this is such an error.
    #[cfg(feature = "cli")]
    pub(crate) fn is_cause(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<NotAFile>())
    }
}

/// A failure of the log.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file system or the device refused an operation. It is never taken for damage nor for absence.
    #[error("cannot {action} {place}: {source}")]
    Io {
        /// What was tried: "write", "open", …
        action: &'static str,
        /// On what: a path.
        place: String,
        /// The system's own error.
        source: Arc<io::Error>,
    },
    /// The volume is full, and waiting for `clean` to free space did not help. Nothing acknowledged is affected.
    #[error(
        "no space left for the log in {place} (waited {waited:?} for clean to free some): free space there and write again; nothing acknowledged is affected"
    )]
    StorageFull {
        /// The directory that needs space.
        place: String,
        /// How long the write waited; zero where the log could not even be opened for it.
        waited: Duration,
    },
    /// Another live process (or class loader) owns this log for writing.
    #[error(
        "the log {place} is in use by {owner} (waited {waited:?}): stop it, or give this application a directory of its own"
    )]
    Locked {
        /// The log's directory.
        place: String,
        /// What the lock's file says of its owner: host and pid.
        owner: String,
        /// How long the call waited for the lock.
        waited: Duration,
    },
    /// Another writer has taken this log over: this one will never write again. Local directories, whose lock excludes
    /// other writers, do not give it.
    #[error(
        "the log {place} was taken over by another writer: this process must not write to it any more ({detail})"
    )]
    Fenced {
        /// The log's directory.
        place: String,
        /// What was seen.
        detail: String,
    },
    /// Acknowledged bytes no longer check.
    #[error(
        "corrupt: {detail} (segment {segment} at offset {offset} of {place}); to go on without the damaged records set spark.ferrowal.recovery=salvage, in ferrowal.properties of the log's directory where the configuration is frozen in a checkpoint"
    )]
    Corrupt {
        /// The directory or file with the damage.
        place: String,
        /// The damaged segment.
        segment: u64,
        /// Byte offset in the segment, from its first byte.
        offset: u64,
        /// What does not check.
        detail: String,
    },
    /// The record was cleaned: a durable low-water mark proves it.
    #[error("the record {handle} was cleaned: {detail}")]
    Gone {
        /// The handle that was read.
        handle: String,
        /// What proves it.
        detail: String,
    },
    /// A directory or segment is not there, and nothing proves that it was cleaned.
    #[error("{what} is not there: {hint}")]
    Missing {
        /// What was looked for.
        what: String,
        /// What to check.
        hint: String,
    },
    /// The handle is of another log.
    #[error(
        "the handle belongs to log {theirs}, but {place} holds log {ours}: is the directory shared with, or mounted on, this machine?"
    )]
    Foreign {
        /// The log named by the handle.
        theirs: Uuid,
        /// The log found in the directory.
        ours: Uuid,
        /// The directory.
        place: String,
    },
    /// Records are encrypted with a key that was not given. Nothing is damaged, and no recovery policy passes over it.
    #[error(
        "{place} is encrypted with the key {key}, which was not given: name where it is in spark.ferrowal.encryption.key, or in spark.ferrowal.encryption.oldKeys if it is no longer written with; nothing is damaged"
    )]
    Key {
        /// The segment.
        place: String,
        /// The id of the key, 16 hex digits.
        key: String,
    },
    /// A record, or a segment's records, that no key of the log vouches for, where [`KeyRing::required`] asks for that. It
    /// is neither given nor taken for damage, and no recovery policy passes over it.
    ///
    /// [`KeyRing::required`]: crate::KeyRing::required
    #[error(
        "{place} is not authenticated by a key of this log ({detail}), and spark.ferrowal.encryption.required is true, so it is not read: if it is older than the encryption, set that to false until it is cleaned; otherwise somebody else wrote to the directory: find out who can, and copy what is authentic by ferrowal salvage --require-encryption"
    )]
    Unauthenticated {
        /// The record, or the segment.
        place: String,
        /// What it is instead.
        detail: String,
    },
    /// A handle whose fields cannot be those of any record.
    #[error("not a valid record handle: {0}")]
    BadHandle(String),
    /// An option or argument that makes no sense.
    #[error("{0}")]
    Config(String),
    /// The log was closed.
    #[error("the log {0} is closed")]
    Closed(String),
    /// Something that a call waits for did not come within its bound. Nothing of the record was written.
    #[error("gave up after {waited:?}: {detail}")]
    Timeout {
        /// How long the caller waited.
        waited: Duration,
        /// What it waited for.
        detail: String,
    },
    /// A defect in ferrowal: a panic was caught. The log refuses further writes, since its state is unknown.
    #[error(
        "internal error in ferrowal (please report it): {0}; the log takes no more writes until it is opened again"
    )]
    Internal(String),
    /// The source of a record's bytes failed while they were copied. Nothing of the record was kept.
    #[error("the record's bytes could not be read: {0}")]
    Source(String),
}

impl Error {
    /// Wraps a system error with what was tried and on what.
    pub(crate) fn io(action: &'static str, place: impl fmt::Display, source: io::Error) -> Error {
        Error::Io { action, place: place.to_string(), source: Arc::new(source) }
    }

    /// The system's error number, where there is one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Error::Io { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// Whether the volume, a quota or a file-size limit is exhausted: told by the error number, never by text.
    pub fn is_full(&self) -> bool {
        use rustix::io::Errno;
        match self {
            Error::StorageFull { .. } => true,
            Error::Io { .. } => self
                .errno()
                .map(Errno::from_raw_os_error)
                .is_some_and(|e| matches!(e, Errno::NOSPC | Errno::DQUOT | Errno::FBIG)),
            _ => false,
        }
    }

    /// Whether the thing asked for does not exist.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Whether a name that must be new was taken.
    pub(crate) fn is_exists(&self) -> bool {
        matches!(self, Error::Io { source, .. } if source.kind() == io::ErrorKind::AlreadyExists)
    }
}
