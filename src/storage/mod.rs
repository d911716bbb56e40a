//! The seam below the log: where segments live.
//!
//! [`Home`] is one application's directory, [`Storage`] the segments of one writer in it, [`SegmentWrite`] one segment
//! being written. Every call blocks and may be made from several threads; what runs at once is the log's choice, within
//! [`Traits::in_flight`]. A storage knows nothing of frames and groups: to it a segment is a header block, bytes at
//! offsets, and a block at the end.
//!
//! What a storage promises:
//! * `create` fails if the name is taken, and the segment is durable under its name, header included, when it returns.
//! * `write` with a [`Barrier::Yes`] returns `Ok` only when these bytes, and all earlier ones of the segment, are durable.
//! * After the first failed write or barrier a segment refuses every other one ([`Poisoned`]): a barrier is never
//!   retried, since the kernel may have marked the lost pages clean.
//! * A read error is an error. It is never reported as absence, nor as zeros.

pub(crate) mod hadoop;
pub(crate) mod local;
#[cfg(feature = "object-store")]
pub(crate) mod object;
mod poison;
#[cfg(any(test, feature = "simulation"))]
pub(crate) mod sim;
pub(crate) mod times;
#[cfg(feature = "cli")]
mod view;

use std::{fmt::Debug, io::IoSlice, sync::Arc, time::Duration};

use uuid::Uuid;

use crate::{
    error::{Error, Result},
    location::Place,
    options::Options,
};

pub(crate) use local::{Chunk, HUGE, STREAMS, in_huge_pages, stream};
pub(crate) use poison::Poisoned;
#[cfg(feature = "cli")]
pub(crate) use view::View;

/// What a kind of storage can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Traits {
    /// A segment's first group begins here, and its footer is so long.
    pub(crate) block: u32,
    /// Groups are padded to multiples of this where barriers follow.
    pub(crate) pad: u32,
    /// Whether a segment has its size from the beginning. Otherwise it ends behind what was written last, and so does its
    /// footer.
    pub(crate) preallocated: bool,
    /// Groups that may be at the device at once: more than one only where each write returns its own error.
    pub(crate) in_flight: usize,
    /// Whether the device itself reads what is written, and no copy of it in the page cache.
    pub(crate) past_the_cache: bool,
    /// Pieces of one large record, for which no barrier is asked, that may be written at once.
    pub(crate) lanes: usize,
    /// Groups that one segment takes: an object takes one.
    pub(crate) groups: u32,
    /// Bytes of a group at most, header and padding included.
    pub(crate) most_group: u64,
    /// Whether a segment comes into being with its first write only: then `create` does no I/O, and there may never be
    /// such a segment.
    pub(crate) deferred: bool,
    /// Whether no lock keeps an older writer from writing: then a driver raises a fence first ([`Storage::fence`]).
    pub(crate) fenced: bool,
    /// Whether a segment may be there before its header is: then one that is shorter than a header holds nothing, and is no
    /// damage. Its writer makes it at this moment, or died in the middle of that.
    pub(crate) begins_empty: bool,
    /// Whether a scan reads ahead by threads of its own, and so opens a segment that it will open again. Where opening costs
    /// a request, there is [`Storage::expect`].
    pub(crate) fetches: bool,
    /// Whether space is kept in reserve for a full volume ([`Storage::keep_reserve`]).
    pub(crate) reserve: bool,
    /// Whether a group without records follows after a silence.
    pub(crate) idle_mark: bool,
    /// At most this often are other writers' remains looked at.
    pub(crate) collect_every: Duration,
}

impl Traits {
    /// A file on a local disk.
    pub(crate) fn local(block: u32, in_flight: usize) -> Traits {
        Traits {
            block,
            pad: block,
            preallocated: true,
            in_flight,
            past_the_cache: false,
            lanes: 1,
            groups: u32::MAX,
            most_group: u64::MAX,
            deferred: false,
            fenced: false,
            begins_empty: false,
            fetches: true,
            reserve: true,
            idle_mark: true,
            collect_every: Duration::from_secs(10),
        }
    }
}

/// The uuid that a log has; none where the first writer may make one, which it does before anything else: where there are
/// segments and no uuid it was deleted, and under a new one they would be foreign.
pub(crate) fn given_id(home: &dyn Home) -> Result<Option<Uuid>> {
    if let Some(id) = home.log_id()? {
        return Ok(Some(id));
    }
    if !has_segments(home)? {
        return Ok(None);
    }
    // Unless another process has just begun.
    home.log_id()?.map(Some).ok_or_else(|| no_id(home))
}

fn has_segments(home: &dyn Home) -> Result<bool> {
    let has_any = |which| home.storage(which).list().map(|found| !found.is_empty());
    if has_any(Which::Driver)? {
        return Ok(true);
    }
    // What is left of a writer may be an empty directory, or a mark.
    for writer in home.writers()? {
        if has_any(Which::Receiver(writer))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// That a log has segments and no uuid.
pub(crate) fn no_id(home: &dyn Home) -> Error {
    Error::Missing {
        what: format!("the log's uuid (ferrowal.id) in {}", home.place()),
        hint: "there are segments; write the uuid into it again (every segment's header holds it)".into(),
    }
}

/// The home that `options.dir` names. Looks at nothing and starts nothing.
///
/// # Errors
/// [`Error::Config`] for a location that makes no sense, or whose kind this build does not have.
pub(crate) fn home(options: &Options) -> Result<Arc<dyn Home>> {
    match options.dir.place()? {
        Place::Local(dir) => Ok(Arc::new(local::LocalHome::new(dir, options))),
        #[cfg(feature = "object-store")]
        Place::Object(remote) => Ok(Arc::new(object::ObjectHome::new(remote, options)?)),
        #[cfg(not(feature = "object-store"))]
        Place::Object(remote) => Err(absent(&remote.scheme, "was built without object stores")),
        Place::Hadoop(remote) => Ok(Arc::new(hadoop::HadoopHome::new(remote, options))),
    }
}

#[cfg(not(feature = "object-store"))]
fn absent(scheme: &str, why: &str) -> Error {
    Error::Config(format!(
        "{scheme}: this ferrowal {why}; give a path, a file: URI, or, where it has them, s3a:, gs: or abfss:"
    ))
}

/// Which writer's segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Which {
    /// The driver's log.
    Driver,
    /// The log of one receiver writer.
    Receiver(Uuid),
}

/// Whether a write must be durable when it returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Barrier {
    No,
    Yes,
}

/// How a segment's space is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Preallocate {
    /// Written with zeros, so that a later barrier moves no metadata, as far as there is time for it. The size is a wish: a
    /// nearly full volume gives less.
    Zeroed,
    /// Reserved without being written: for one record of exactly this size.
    Reserved,
}

/// The space that a new segment is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Space {
    /// About this many bytes,
    pub(crate) wish: u64,
    /// and not fewer than these.
    pub(crate) least: u64,
    pub(crate) how: Preallocate,
    /// When it will be needed, as far as is known.
    pub(crate) within: Duration,
    /// Whether somebody waits for it: then the reserve may be used.
    pub(crate) urgent: bool,
    /// Whether it is for the mark after which space can be freed: then the last bytes of a full volume may be used.
    pub(crate) frees: bool,
}

/// Gives a new segment's header block, for a file that was a segment before (`true`) or was not.
pub(crate) type Header<'a> = dyn Fn(bool) -> Vec<u8> + 'a;

/// A segment that a listing found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) id: u64,
    /// Bytes, preallocated space included.
    pub(crate) length: u64,
}

/// The right to write one writer's segments; given back when dropped.
pub(crate) trait Claim: Send + Sync + Debug {
    /// The log is ours now: older writers are fenced. What still shows that they live may go.
    fn taken(&self) -> Result<()> {
        Ok(())
    }

    /// Looks whether it still keeps others out, before a file is made, changed or removed by its name. Homes that fence find
    /// out when they make a segment.
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// One application's directory.
pub(crate) trait Home: Send + Sync + Debug {
    /// The directory, for messages.
    fn place(&self) -> String;

    /// Looks, without creating anything, at what would make the first write fail.
    fn check(&self) -> Result<()>;

    /// The log's uuid, if there is a log.
    fn log_id(&self) -> Result<Option<Uuid>>;

    /// The log's uuid, made once and exclusively.
    fn make_log_id(&self) -> Result<Uuid>;

    /// A small file's bytes, if it is there.
    fn small_file(&self, name: &str) -> Result<Option<Vec<u8>>>;

    /// Every receiver writer that has a directory, in no order.
    fn writers(&self) -> Result<Vec<Uuid>>;

    /// The segments of `which`. Creates nothing.
    fn storage(&self, which: Which) -> Arc<dyn Storage>;

    /// Claims the right to write, making the writer's directory, and waits for a live owner up to `wait`.
    fn claim(&self, which: Which, wait: Duration) -> Result<Box<dyn Claim>>;

    /// Waits up to `wait` until no live owner holds the claim; creates nothing and claims nothing.
    fn await_unclaimed(&self, which: Which, wait: Duration) -> Result<()>;

    /// Claims a writer that is gone; `None` while it lives or when there is none.
    fn claim_gone(&self, which: Which) -> Result<Option<Box<dyn Claim>>>;

    /// Remembers, durably, that a receiver writer was cleaned as a whole.
    fn note_removed(&self, writer: Uuid) -> Result<()>;

    /// Removes a receiver writer's directory, which must hold no segment any more.
    fn remove_writer(&self, writer: Uuid, claim: Box<dyn Claim>) -> Result<()>;

    /// Whether a record of an absent writer was cleaned: only a durable note proves it.
    fn was_removed(&self, writer: Uuid) -> Result<bool>;

    /// Keeps a copy of `bytes` aside, durably, under the name `label`, unless there is one; gives the whole name.
    fn quarantine(&self, label: &str, bytes: &mut dyn Iterator<Item = Result<Vec<u8>>>) -> Result<String>;

    /// The same for a segment as a whole, and without a copy: whatever [`Storage::seal`] or [`Storage::delete`] does to it
    /// afterwards, its bytes stay under the other name. `None` where there is no such thing.
    fn quarantine_whole(&self, _which: Which, _id: u64, _label: &str) -> Result<Option<String>> {
        Ok(None)
    }
}

/// The segments of one writer.
pub(crate) trait Storage: Send + Sync + Debug {
    /// What this storage can do.
    fn traits(&self) -> Traits;

    /// The directory, for messages.
    fn place(&self) -> String;

    /// All segments, by id. Empty where there is no directory.
    fn list(&self) -> Result<Vec<Listed>>;

    /// Makes segment `id`, exclusively, beginning with `header`. Durable under its name on return.
    fn create(&self, id: u64, space: Space, header: &Header<'_>) -> Result<Box<dyn SegmentWrite>>;

    /// Where [`Traits::fenced`]: makes segment `id`, exclusively and durably, and sees to it that no older writer can
    /// write to an older segment any more. Gives the segment if groups may be written to it. An id that is taken is
    /// [`Error::is_exists`]: then somebody else was faster, or an older writer is still at it.
    fn fence(&self, id: u64, _space: Space, _header: &Header<'_>) -> Result<Option<Box<dyn SegmentWrite>>> {
        Err(Error::Internal(format!("segment {id} cannot be a fence: {} has a lock", self.place())))
    }

    /// Opens a segment for reading.
    fn open(&self, id: u64) -> Result<Arc<dyn SegmentRead>>;

    /// The same for somebody who will read these bytes, and perhaps nothing else.
    fn open_for(&self, id: u64, _offset: u64, _length: u64) -> Result<Arc<dyn SegmentRead>> {
        self.open(id)
    }

    /// Says that these segments will soon be opened, in this order. A hint.
    fn expect(&self, _ids: &[u64]) {}

    /// Fixes the segment's length: writes `footer` at `at`, makes it durable, and gives back what lies behind it.
    fn seal(&self, id: u64, at: u64, footer: &[u8]) -> Result<()>;

    /// Deletes segments, in this order, or keeps their files to be used again by `create`. What is absent is fine.
    /// Durable on return, as is every name in the directory: also without any ids.
    fn delete(&self, ids: &[u64]) -> Result<()>;

    /// The same for segments to which a write or barrier failed: their files are never used again.
    fn discard(&self, ids: &[u64]) -> Result<()> {
        self.delete(ids)
    }

    /// Lets go of files that were kept to be used again.
    fn drop_spares(&self) -> Result<()>;

    /// Keeps a small segment in reserve for a full volume, so that a log that must write in order to be cleaned can.
    fn keep_reserve(&self) -> Result<()>;
}

/// A segment being written.
pub(crate) trait SegmentWrite: Send + Sync + Debug {
    /// Bytes, header and footer blocks included.
    fn size(&self) -> u64;

    /// Writes all of `bytes` at `offset`; with a barrier, durably.
    fn write(&self, offset: u64, bytes: &mut [IoSlice<'_>], barrier: Barrier) -> Result<()>;
}

/// A segment being read.
pub(crate) trait SegmentRead: Send + Sync + Debug {
    /// Bytes now, preallocated space included.
    fn size(&self) -> Result<u64>;

    /// Reads at `offset`; fewer bytes than asked only at the end.
    fn read(&self, offset: u64, into: &mut [u8]) -> Result<usize>;

    /// Reads at `offset` into `head` and then `body`, in one call to the device.
    fn read_two(&self, offset: u64, head: &mut [u8], body: &mut [u8]) -> Result<usize>;

    /// Reads `length` bytes at `offset`, or fewer at the end, into memory of its own, and shows them to `take`: where the
    /// device would not write to a caller's, and they come sooner that way. Otherwise does nothing, and says so.
    fn lend(&self, _offset: u64, _length: usize, _take: &mut dyn FnMut(&[u8])) -> bool {
        false
    }

    /// As `read`, for much that is read once and in order, into memory of [`Chunk`]: past the cache where that is faster and
    /// the cache does not have it. At a multiple of [`BLOCK`](crate::format::BLOCK).
    fn read_through(&self, offset: u64, into: &mut [u8]) -> Result<usize> {
        self.read(offset, into)
    }

    /// Whether several such reads at once are faster than one after the other.
    fn in_parallel(&self) -> bool {
        false
    }

    /// Says that these bytes will be read soon. A hint: where they cannot be fetched ahead, nothing happens.
    fn expect(&self, _offset: u64, _length: u64) {}

    /// Makes what was read durable, before it is trusted: a killed writer's last bytes may be in the cache alone.
    fn settle(&self) -> Result<()>;
}
