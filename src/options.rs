//! How a log is opened.

use std::{fmt, time::Duration};

use crate::{
    codec::KeyRing,
    error::{Error, Result},
    location::{Location, Place, StoreProperties},
};

/// Whose records a log holds. The two never share a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// One writer at a time, taken over by a restart; `scan` gives its current generation. Whoever means to go on with the log
    /// scans it before the first append: an append to one that was not scanned is a fresh start, which sets the records before it
    /// aside; they are never scanned again, and go with the first clean that takes effect, whatever their times.
    Driver,
    /// One writer per process; `scan` gives all writers' records.
    Receivers,
}

/// What recovery does about damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Recovery {
    /// Every group of every segment is checked before a driver's log is written to and before a scan gives its first
    /// record, and any corruption stops.
    Strict,
    /// A torn tail is dropped; corruption stops, where it is met, with segment and offset.
    #[default]
    Default,
    /// Corrupt groups are skipped, and every one is reported.
    Salvage,
}

/// What a driver does about another one that lives. Only where a home has no lock: a local directory's lock is the
/// kernel's, and no other process can take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Takeover {
    /// It waits for [`Options::lock_wait`], and fails.
    #[default]
    Refuse,
    /// It takes the log over at once; the other one's next write fails with [`Error::Fenced`].
    Force,
}

/// What an acknowledged record survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Durability {
    /// A power cut: the record is on the device.
    #[default]
    Device,
    /// The death of the process, by `kill -9` too, but no power cut and no crash of the kernel: the record is in the page
    /// cache. After a power cut the log is a prefix of what was acknowledged.
    Os,
}

/// How a record is made durable on a local disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum BarrierMethod {
    /// The fastest of the others, measured for a few milliseconds at the first use of a device.
    #[default]
    Auto,
    /// Through the page cache, then `fdatasync`. Works everywhere.
    Fdatasync,
    /// Past the page cache (`O_DIRECT`), then `fdatasync`.
    Direct,
    /// Past the page cache by writes that are durable on return (`O_DIRECT`, `RWF_DSYNC`): the only one that lets several
    /// groups be at the device at once.
    Dsync,
}

impl fmt::Display for BarrierMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BarrierMethod::Auto => "auto",
            BarrierMethod::Fdatasync => "fdatasync",
            BarrierMethod::Direct => "direct",
            BarrierMethod::Dsync => "dsync",
        })
    }
}

/// How records are compressed. Each frame says how it is kept, so a log may be read, and gone on with, under any setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    /// They are kept as they are.
    #[default]
    None,
    /// LZ4: fast.
    Lz4,
    /// Zstandard, with a level of -7 (fast) to 22 (small, slow). Spark's own default is 1.
    Zstd(i32),
}

/// Options of [`Log::open`](crate::Log::open). All have defaults but the directory and the role.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// The application's directory, a path or a URI; made when first written to. A local one's parent must exist.
    pub dir: Location,
    /// Keys of the store that the directory is in: endpoints, credentials. Ignored by local directories.
    pub store: StoreProperties,
    /// Driver or receivers.
    pub role: Role,
    /// What recovery does about damage.
    pub recovery: Recovery,
    /// What an acknowledged record survives.
    pub durability: Durability,
    /// How a record is made durable on a local disk.
    pub barrier: BarrierMethod,
    /// Full size of a segment in bytes, header and footer included; the first one is small and sizes double up to this.
    /// 1 MiB to 1 TiB, default 64 MiB.
    pub segment_size: u64,
    /// A segment is left for a new one when a record's time is this far past its first record's. Record time, not wall
    /// time. Default 60 s.
    pub rolling_interval: Duration,
    /// Attempts for one group before its writers get an error. Default 3.
    pub max_failures: u32,
    /// Bound on a write that cannot proceed: a full disk, memory, failing segments. Default 3 s for a driver, 20 s for receivers.
    pub write_timeout: Duration,
    /// Record time subtracted from every clean threshold. Default 10 s; zero makes the threshold exact.
    pub clean_grace: Duration,
    /// Bound on the native memory that holds records on their way to the device, in bytes; beyond it callers wait.
    /// At least 16 MiB, default 64 MiB.
    pub memory: u64,
    /// How long `open` and `check` wait for a live owner to let go. Default 30 s.
    pub lock_wait: Duration,
    /// Whether threads that wait for a barrier of a fast device yield their processors instead of sleeping: sooner awake, at
    /// the price of processor time that nobody else wants. Default true.
    pub spin: bool,
    /// Allow directories on file systems where flock may not reach other hosts (NFS, CIFS, FUSE, 9p).
    pub allow_network_lock: bool,
    /// How long files and segments stay open after the last close, for the next instance. Default 10 s.
    pub linger: Duration,
    /// Idle time after which one group without records is written, so that the last acknowledged group lies below a
    /// durable watermark. Default 1 s.
    pub idle_mark: Duration,
    /// What a driver does about another that lives, where a home has no lock.
    pub takeover: Takeover,
    /// How long a group waits for more records before it goes to an object store, where every request is paid for.
    /// Default zero; a second at most.
    pub group_linger: Duration,
    /// The largest object that is written, in bytes: a longer record is refused. 8 MiB to 1 GiB, default 64 MiB.
    pub most_put: u64,
    /// How records are compressed, where it helps: one is kept as it is if less than a sixteenth would be saved, if it has
    /// fewer than 256 bytes, or more than 64 MiB; also while threads that compress, which hold twice their records, hold as
    /// much as [`Options::memory`] beside it. Default none.
    pub compression: Compression,
    /// The keys that records are encrypted and decrypted with, and whether anything is read without them
    /// ([`KeyRing::required`]). Default none: nothing is encrypted.
    pub keys: KeyRing,
    /// How often an open log says at INFO what it did: one line. Zero, the default, is never; else a second at least.
    pub summary: Duration,
}

impl Options {
    /// The defaults for `role` in `dir`.
    pub fn new(dir: impl Into<Location>, role: Role) -> Options {
        Options {
            dir: dir.into(),
            store: StoreProperties::default(),
            role,
            recovery: Recovery::Default,
            durability: Durability::Device,
            barrier: BarrierMethod::Auto,
            segment_size: 64 << 20,
            rolling_interval: Duration::from_secs(60),
            max_failures: 3,
            write_timeout: match role {
                Role::Driver => Duration::from_secs(3),
                Role::Receivers => Duration::from_secs(20),
            },
            clean_grace: Duration::from_secs(10),
            memory: 64 << 20,
            lock_wait: Duration::from_secs(30),
            spin: true,
            allow_network_lock: false,
            linger: Duration::from_secs(10),
            idle_mark: Duration::from_secs(1),
            takeover: Takeover::Refuse,
            group_linger: Duration::ZERO,
            most_put: 64 << 20,
            compression: Compression::None,
            keys: KeyRing::default(),
            summary: Duration::ZERO,
        }
    }

    /// Checks that the values make sense together.
    ///
    /// # Errors
    /// [`Error::Config`], naming the option and its range.
    pub fn validate(&self) -> Result<()> {
        let bad = |text: String| Err(Error::Config(text));
        let place = self.dir.place()?;
        if self.durability == Durability::Os && !matches!(place, Place::Local(_)) {
            return bad(format!("durability=os is for local directories: {} knows no such thing", self.dir));
        }
        if self.group_linger > Duration::from_secs(1) {
            return bad(format!("a group may linger for a second at most, not {:?}", self.group_linger));
        }
        if !self.summary.is_zero() && self.summary < Duration::from_secs(1) {
            return bad(format!("a summary may come every second at most, not every {:?}", self.summary));
        }
        if !(8 << 20..=1 << 30).contains(&self.most_put) {
            return bad(format!("the largest object must be 8 MiB to 1 GiB, not {} bytes", self.most_put));
        }
        if !(1 << 20..=1 << 40).contains(&self.segment_size) {
            return bad(format!("the segment size must be 1 MiB to 1 TiB, not {} bytes", self.segment_size));
        }
        if self.memory < 16 << 20 {
            return bad(format!("the memory bound must be 16 MiB at least, not {} bytes", self.memory));
        }
        const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
        for (name, value) in [
            ("rolling interval", self.rolling_interval),
            ("write timeout", self.write_timeout),
            ("wait for the lock", self.lock_wait),
            ("time to linger", self.linger),
            ("silence before a mark", self.idle_mark),
            ("time from summary to summary", self.summary),
        ] {
            if value > YEAR {
                return bad(format!("the {name} must be a year at most, not {value:?}"));
            }
        }
        if self.compression != Compression::None && !cfg!(feature = "compression") {
            return bad("this build of ferrowal is without compression".into());
        }
        if let Compression::Zstd(level) = self.compression
            && !(-7..=22).contains(&level)
        {
            return bad(format!("the level of zstd must be -7 to 22, not {level}"));
        }
        if self.keys.is_required() && self.keys.current().is_none() {
            return bad("spark.ferrowal.encryption.required is true, and there is no key to write with: name where it is in spark.ferrowal.encryption.key".into());
        }
        if self.max_failures == 0 {
            return bad("the number of attempts (maxFailures) must be 1 at least".into());
        }
        Ok(())
    }
}
