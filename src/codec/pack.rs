//! Compression of single records: LZ4 blocks and Zstandard frames.
//!
//! Most of what is worth compressing shows it in a small sample, and what is not (compressed or encrypted before) must
//! cost next to nothing. So a sample is compressed first, and a record is kept as it is unless at least a sixteenth is
//! saved.

#[cfg(feature = "compression")]
use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use crate::{
    error::{Error, Result},
    format::Packing,
    log::RecordSource,
    options::Compression,
};

/// Shorter records are left alone: a frame's header and padding outweigh what could be saved.
#[cfg(feature = "compression")]
const SHORTEST: usize = 256;
/// Longer ones, too: they are staged in pieces, and would have to be held in memory twice.
#[cfg(feature = "compression")]
const LONGEST: usize = 64 << 20;
/// Records from here on are judged by a sample first.
#[cfg(feature = "compression")]
const SAMPLED: usize = 32 << 10;
/// The sample: three pieces of this length, from the beginning, the middle and the end.
#[cfg(feature = "compression")]
const SAMPLE: usize = 4 << 10;
/// What must be saved at least, as a share of the record.
#[cfg(feature = "compression")]
const LEAST_SHARE: usize = 16;
/// Contexts that are kept for the next records, and the largest buffer that is kept with one.
#[cfg(feature = "compression")]
const IDLE: usize = 8;
#[cfg(feature = "compression")]
const KEPT: usize = 4 << 20;

/// Compresses records for one writer; contexts and buffers are used again. A thread that is compressing holds about twice
/// its record's length until the record is in its group. All of them together hold no more than a bound, but for one that is
/// alone: beyond it a record is kept as it is. To wait instead would put a second queue before the writer's own.
#[derive(Debug)]
pub(crate) struct Packers {
    compression: Compression,
    #[cfg(feature = "compression")]
    most: u64,
    /// What is held now.
    #[cfg(feature = "compression")]
    held: AtomicU64,
    #[cfg(feature = "compression")]
    idle: Mutex<Vec<Packer>>,
}

impl Packers {
    /// `most` bounds the bytes that are held by threads that compress at once.
    #[cfg_attr(not(feature = "compression"), allow(unused_variables))]
    pub(crate) fn new(compression: Compression, most: u64) -> Packers {
        Packers {
            compression,
            #[cfg(feature = "compression")]
            most,
            #[cfg(feature = "compression")]
            held: AtomicU64::new(0),
            #[cfg(feature = "compression")]
            idle: Mutex::default(),
        }
    }

    pub(crate) fn compression(&self) -> Compression {
        self.compression
    }
}

#[cfg(not(feature = "compression"))]
impl Packers {
    /// Nothing: options that ask for compression are refused.
    pub(crate) fn pack(&self, _: &mut dyn RecordSource, _: u32) -> Result<Option<Packed<'_>>> {
        Ok(None)
    }
}

/// A compressed record: there is none.
#[cfg(not(feature = "compression"))]
pub(crate) struct Packed<'a>(std::convert::Infallible, std::marker::PhantomData<&'a ()>);

#[cfg(not(feature = "compression"))]
impl Packed<'_> {
    pub(crate) fn packing(&self) -> Packing {
        match self.0 {}
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match self.0 {}
    }
}

#[cfg(not(feature = "compression"))]
pub(super) fn unpack(_: Packing, _: &[u8], _: &mut [u8]) -> Result<bool> {
    Err(Error::Config("a record is compressed, and this build of ferrowal is without compression".into()))
}

#[cfg(feature = "compression")]
pub(crate) use with::Packed;
#[cfg(feature = "compression")]
pub(super) use with::unpack;

#[cfg(feature = "compression")]
mod with {
    use std::cell::RefCell;

    use lz4_flex::block;
    use zstd::bulk::{Compressor, Decompressor};

    use super::*;

    /// A context with its buffers.
    pub(super) struct Packer {
        zstd: Option<Compressor<'static>>,
        raw: Vec<u8>,
        out: Vec<u8>,
        used: usize,
    }

    impl std::fmt::Debug for Packer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_struct("Packer").field("raw", &self.raw.len()).finish_non_exhaustive()
        }
    }

    /// A compressed record. Its memory goes back when it is dropped.
    pub(crate) struct Packed<'a> {
        packers: &'a Packers,
        packer: Option<Packer>,
        /// Before it is dropped, what it holds is free to nobody.
        _share: Share<'a>,
    }

    /// What one thread may hold.
    #[derive(Debug)]
    struct Share<'a> {
        packers: &'a Packers,
        bytes: u64,
    }

    impl Drop for Share<'_> {
        fn drop(&mut self) {
            self.packers.held.fetch_sub(self.bytes, Ordering::AcqRel);
        }
    }

    impl Packed<'_> {
        pub(crate) fn packing(&self) -> Packing {
            match self.packers.compression {
                Compression::None => Packing::None,
                Compression::Lz4 => Packing::Lz4,
                Compression::Zstd(_) => Packing::Zstd,
            }
        }

        pub(crate) fn bytes(&self) -> &[u8] {
            self.packer.as_ref().map_or(&[], |p| &p.out[..p.used])
        }
    }

    impl Drop for Packed<'_> {
        fn drop(&mut self) {
            let Some(mut packer) = self.packer.take() else { return };
            if packer.raw.capacity().max(packer.out.capacity()) > KEPT {
                (packer.raw, packer.out) = (Vec::new(), Vec::new());
            }
            let mut idle = self.packers.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < IDLE {
                idle.push(packer);
            }
        }
    }

    impl Packers {
        /// Room for a record and what it is compressed to, if there is any.
        fn share(&self, length: usize) -> Option<Share<'_>> {
            let bytes = 2 * length as u64;
            let more = |held: u64| {
                let sum = held.saturating_add(bytes);
                (held == 0 || sum <= self.most).then_some(sum)
            };
            let taken = self.held.fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
            taken.ok().map(|_| Share { packers: self, bytes })
        }

        /// The compressed record, if that is worth its while.
        pub(crate) fn pack(&self, source: &mut dyn RecordSource, length: u32) -> Result<Option<Packed<'_>>> {
            let length = length as usize;
            if self.compression == Compression::None || !(SHORTEST..=LONGEST).contains(&length) {
                return Ok(None);
            }
            let Some(share) = self.share(length) else { return Ok(None) };
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let packer = match idle {
                Some(packer) => packer,
                None => Packer::new(self.compression)?,
            };
            let mut packed = Packed { packers: self, packer: Some(packer), _share: share };
            let Some(packer) = &mut packed.packer else { return Ok(None) };
            if length >= SAMPLED {
                packer.take(3 * SAMPLE)?;
                let starts = [0, (length - SAMPLE) / 2, length - SAMPLE];
                for (piece, start) in packer.raw.chunks_exact_mut(SAMPLE).zip(starts) {
                    source.copy(start, piece)?;
                }
                if !packer.pack(self.compression) {
                    return Ok(None);
                }
            }
            packer.take(length)?;
            source.copy(0, &mut packer.raw)?;
            Ok(packer.pack(self.compression).then_some(packed))
        }
    }

    impl Packer {
        fn new(compression: Compression) -> Result<Packer> {
            let zstd = match compression {
                Compression::Zstd(level) => Some(
                    Compressor::new(level)
                        .map_err(|e| Error::io("find memory for", "a context of Zstandard", e))?,
                ),
                _ => None,
            };
            Ok(Packer { zstd, raw: Vec::new(), out: Vec::new(), used: 0 })
        }

        /// Room for `length` bytes in `raw`.
        fn take(&mut self, length: usize) -> Result<()> {
            let more = length.saturating_sub(self.raw.len());
            let got = self.raw.try_reserve_exact(more);
            got.map_err(|_| {
                Error::io("find memory for", "a record", std::io::ErrorKind::OutOfMemory.into())
            })?;
            self.raw.resize(length, 0);
            Ok(())
        }

        /// Compresses `raw` into `out`; whether that saved enough.
        fn pack(&mut self, compression: Compression) -> bool {
            let most = self.raw.len() - self.raw.len() / LEAST_SHARE;
            // LZ4 wants room for the worst case; Zstandard gives up where there is not enough.
            let room = match compression {
                Compression::Lz4 => block::get_maximum_output_size(self.raw.len()),
                _ => most,
            };
            if self.out.len() < room {
                let more = room - self.out.len();
                if self.out.try_reserve_exact(more).is_err() {
                    return false;
                }
                self.out.resize(room, 0);
            }
            let used = match &mut self.zstd {
                Some(zstd) => zstd.compress_to_buffer(&self.raw, &mut self.out[..room]).ok(),
                None => block::compress_into(&self.raw, &mut self.out[..room]).ok(),
            };
            self.used = used.unwrap_or(usize::MAX);
            self.used <= most
        }
    }

    thread_local! {
        static UNPACKER: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
    }

    /// Decompresses `content` into all of `into`; false where it does not give exactly that many bytes.
    pub(in crate::codec) fn unpack(packing: Packing, content: &[u8], into: &mut [u8]) -> Result<bool> {
        let given = match packing {
            Packing::None => return Ok(false),
            Packing::Lz4 => block::decompress_into(content, into).ok(),
            Packing::Zstd => UNPACKER.with_borrow_mut(|unpacker| {
                let unpacker = match unpacker {
                    Some(unpacker) => unpacker,
                    None => unpacker.insert(
                        Decompressor::new()
                            .map_err(|e| Error::io("find memory for", "a context of Zstandard", e))?,
                    ),
                };
                Ok::<_, Error>(unpacker.decompress_to_buffer(content, into).ok())
            })?,
        };
        Ok(given == Some(into.len()))
    }
}

#[cfg(feature = "compression")]
use with::Packer;

#[cfg(all(test, feature = "compression"))]
mod tests {
    use super::*;

    struct Zeros(usize);

    impl RecordSource for Zeros {
        fn len(&self) -> usize {
            self.0
        }

        fn copy(&mut self, _: usize, into: &mut [u8]) -> Result<()> {
            into.fill(0);
            Ok(())
        }
    }

    #[test]
    fn threads_that_compress_hold_no_more_than_a_bound_together() {
        let packers = Packers::new(Compression::Lz4, 10_000);
        let pack = |length: u32| packers.pack(&mut Zeros(length as usize), length).expect("memory");
        let alone = pack(1 << 20);
        assert!(alone.is_some(), "one that is alone, however long");
        assert!(pack(300).is_none(), "what it holds is held");
        drop(alone);
        let (one, two) = (pack(2_000), pack(3_000));
        assert!(one.is_some() && two.is_some(), "up to the bound");
        assert!(pack(300).is_none());
        drop(one);
        assert!(pack(300).is_some(), "as soon as there is room");
        drop(two);
        assert_eq!(packers.held.load(Ordering::Acquire), 0);
    }
}
