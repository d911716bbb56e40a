//! How a record becomes a frame's payload and comes back: compressed, then encrypted, each if it was asked for.
//!
//! | file | idea |
//! |---|---|
//! | `pack` | compression, and when it is not worth its while |
//! | `keys` | keys: where they come from, and their ids |
//! | `seal` | encryption of payloads, bound to their place |
//! | `cipher` | what is used of *ring*, and nothing else of it |
//!
//! A plain record never comes here. No I/O but for reading keys.

mod cipher;
#[cfg(all(fuzzing, feature = "compression", feature = "encryption"))]
#[allow(clippy::expect_used)]
pub mod fuzzing;
mod keys;
mod pack;
mod seal;

use crate::{
    error::{Error, Result},
    format::{Coded, Coding, FRAME_HEADER, FrameHeader, FrameKind, Packing, Place},
    log::RecordSource,
    options::{Compression, Options},
};

pub use keys::KeyRing;
pub(crate) use keys::{Key, KeyId};
pub(crate) use pack::Packed;
pub(crate) use seal::{Frame, GroupKey, SealedSource, unseal};

/// What one writer does to its records. Shared by all threads that write.
#[derive(Debug)]
pub(crate) struct Coder {
    packers: pack::Packers,
    key: Option<Key>,
}

/// A record on its way into a group.
pub(crate) struct Prepared<'a> {
    pub(crate) coded: Coded,
    /// What takes the place of the record's own bytes, if it is compressed.
    pub(crate) packed: Option<Packed<'a>>,
}

impl Coder {
    pub(crate) fn new(options: &Options) -> Coder {
        Coder {
            packers: pack::Packers::new(options.compression, options.memory),
            key: options.keys.current().cloned(),
        }
    }

    /// What segments say of it.
    pub(crate) fn coding(&self) -> Coding {
        Coding {
            codec: match self.packers.compression() {
                Compression::None => 0,
                Compression::Lz4 => 1,
                Compression::Zstd(_) => 2,
            },
            key: self.key.as_ref().map_or([0; 16], |key| key.id().in_header()),
        }
    }

    /// The key that new records are encrypted with.
    pub(crate) fn key(&self) -> Option<&Key> {
        self.key.as_ref()
    }

    /// Decides how a record is kept, and compresses it. A plain one's source is not touched.
    ///
    /// # Errors
    /// The source's own; [`Error::Config`] for a record that is too long once it is encrypted.
    pub(crate) fn prepare(&self, source: &mut dyn RecordSource, length: u32) -> Result<Prepared<'_>> {
        let packed = self.packers.pack(source, length)?;
        if packed.is_none() && self.key.is_none() {
            return Ok(Prepared { coded: Coded::plain(length), packed });
        }
        let (packing, content) = match &packed {
            Some(packed) => (packed.packing(), packed.bytes().len() as u32),
            None => (Packing::None, length),
        };
        let coded = Coded::new(packing, length, content, self.key.is_some()).ok_or_else(|| {
            Error::Config(format!(
                "a record of {length} bytes is over the limit of 2^31-1 once it is encrypted"
            ))
        })?;
        Ok(Prepared { coded, packed })
    }
}

/// Whether a frame whose checksum was found to hold may be given at all. A checksum is no signature: where encryption is
/// required, a record that is not encrypted is anybody's.
///
/// # Errors
/// [`Error::Unauthenticated`].
pub(crate) fn admit(header: &FrameHeader, (place, offset): (&Place, u64), keys: &KeyRing) -> Result<()> {
    if keys.is_required() && header.kind == FrameKind::Record && !header.coded.codec.sealed {
        return Err(unauthenticated(place, offset, "it is not encrypted"));
    }
    Ok(())
}

fn unauthenticated(place: &Place, offset: u64, detail: &str) -> Error {
    Error::Unauthenticated {
        place: format!(
            "the record at offset {offset} of segment {} of writer {}",
            place.segment, place.writer
        ),
        detail: detail.into(),
    }
}

/// Brings a record back from its payload, whose checksum was found to hold, into `into`, which has the record's length.
/// The payload is spent. The inner error says what is wrong with bytes that check: somebody else wrote them.
///
/// # Errors
/// [`Error::Key`] where the key is not among `keys`; [`Error::Unauthenticated`] where they are required, and none
/// authenticates it; [`Error::Config`] where this build cannot do it.
pub(crate) fn decode(
    header: &FrameHeader,
    head: &[u8; FRAME_HEADER],
    payload: &mut [u8],
    into: &mut [u8],
    (place, offset): (&Place, u64),
    keys: &KeyRing,
) -> Result<std::result::Result<(), &'static str>> {
    admit(header, (place, offset), keys)?;
    let coded = header.coded;
    if payload.len() != coded.length as usize || into.len() != coded.raw as usize {
        return Err(Error::Internal("memory of another length than a record's".into()));
    }
    let content: &[u8] = if coded.codec.sealed {
        match seal::open(&Frame { head, coded, place, offset }, payload, keys)? {
            Some(content) => content,
            None if keys.is_required() => {
                return Err(unauthenticated(place, offset, "its encryption does not authenticate"));
            }
            None => {
                return Ok(Err(
                    "the record does not authenticate: it was written without its key, or elsewhere",
                ));
            }
        }
    } else {
        payload
    };
    if coded.codec.packing == Packing::None {
        into.copy_from_slice(content);
        return Ok(Ok(()));
    }
    let whole = pack::unpack(coded.codec.packing, content, into)?;
    Ok(if whole {
        Ok(())
    } else {
        Err("the record's bytes cannot be decompressed to the length that is stated")
    })
}
