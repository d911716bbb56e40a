//! Java's bytes: arrays by region, direct buffers by address.
//!
//! Either way one copy is all there is: from Java's memory into the group that goes to the device (by way of 16 KiB that stay
//! in the processor's cache, where that is faster), or from where a record was read to Java's array. (A direct buffer is
//! read to.) What Java says about positions and lengths is checked against what the JVM says about the array or buffer, so
//! a mistake there is an exception and not a stray read.

use jni::{
    Env,
    objects::{JByteArray, JByteBuffer},
    sys::jbyte,
};

use super::error::Failure;
use crate::{Error, RecordSource, Result, log::COPY_PIECE};

/// A stretch of `len` bytes from `offset` on that must lie within `size` bytes.
fn stretch(offset: i32, len: i32, size: usize) -> std::result::Result<(usize, usize), Failure> {
    let bad = || {
        Failure::Log(Error::Config(format!(
            "{len} bytes from {offset} on do not lie within a buffer of {size} bytes"
        )))
    };
    let offset = usize::try_from(offset).map_err(|_| bad())?;
    let len = usize::try_from(len).map_err(|_| bad())?;
    if offset.checked_add(len).is_none_or(|end| end > size) { Err(bad()) } else { Ok((offset, len)) }
}

/// Bytes as Java's array calls want them.
fn signed(bytes: &[u8]) -> &[jbyte] {
    // SAFETY: u8 and i8 have the same size, alignment and valid values; the lifetime and length are kept.
    unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len()) }
}

/// As [`signed`], to write to.
fn signed_mut(bytes: &mut [u8]) -> &mut [jbyte] {
    // SAFETY: as in `signed`; the borrow of `bytes` is exclusive for as long as the result lives.
    unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len()) }
}

/// A record in a stretch of a `byte[]`.
pub(super) struct ArraySource<'a, 'local> {
    env: &'a Env<'local>,
    array: &'a JByteArray<'local>,
    offset: usize,
    len: usize,
}

impl<'a, 'local> ArraySource<'a, 'local> {
    pub(super) fn new(
        env: &'a Env<'local>,
        array: &'a JByteArray<'local>,
        offset: i32,
        len: i32,
    ) -> std::result::Result<Self, Failure> {
        let (offset, len) = stretch(offset, len, array.len(env)?)?;
        Ok(ArraySource { env, array, offset, len })
    }
}

impl RecordSource for ArraySource<'_, '_> {
    fn len(&self) -> usize {
        self.len
    }

    fn copy(&mut self, offset: usize, into: &mut [u8]) -> Result<()> {
        let start = i32::try_from(self.offset + offset)
            .map_err(|_| Error::Source("an array has no byte beyond 2^31-1".to_string()))?;
        self.array
            .get_region(self.env, start, signed_mut(into))
            .map_err(|error| Error::Source(format!("the JVM refused to copy an array: {error}")))
    }
}

/// A record in a stretch of a direct buffer. The buffer object is an argument of the native call that makes this, so its
/// memory stays for as long as the call runs.
pub(super) struct DirectSource<'a> {
    start: *const u8,
    len: usize,
    _buffer: &'a JByteBuffer<'a>,
}

impl<'a> DirectSource<'a> {
    pub(super) fn new(
        env: &Env<'_>,
        buffer: &'a JByteBuffer<'_>,
        position: i32,
        len: i32,
    ) -> std::result::Result<Self, Failure> {
        let (position, len) = stretch(position, len, env.get_direct_buffer_capacity(buffer)?)?;
        let address = env.get_direct_buffer_address(buffer)?;
        // SAFETY: `position` is within the buffer's capacity, which was just asked for.
        let start = unsafe { address.add(position) }.cast_const();
        Ok(DirectSource { start, len, _buffer: buffer })
    }
}

impl RecordSource for DirectSource<'_> {
    fn len(&self) -> usize {
        self.len
    }

    fn copy(&mut self, offset: usize, into: &mut [u8]) -> Result<()> {
        if offset.checked_add(into.len()).is_none_or(|end| end > self.len) {
            return Err(Error::Source(format!(
                "{} bytes from {offset} on of {} bytes",
                into.len(),
                self.len
            )));
        }
        // SAFETY: the stretch lies within the buffer (checked above and in `new`); the buffer is an argument of the
        // running native call, so it is not collected; `into` is ours, so the two do not overlap. No reference to the
        // buffer's bytes is made: Java code may change them meanwhile, and then the copy, which is what the checksum
        // covers, holds either value.
        unsafe {
            let mut from = self.start.add(offset);
            for piece in into.chunks_mut(COPY_PIECE) {
                std::ptr::copy_nonoverlapping(from, piece.as_mut_ptr(), piece.len());
                from = from.add(piece.len());
            }
        }
        Ok(())
    }
}

/// Copies a record into an array that has exactly its length.
pub(super) fn fill_array(
    env: &Env<'_>,
    array: &JByteArray<'_>,
    record: &[u8],
) -> std::result::Result<(), Failure> {
    exactly(record.len(), array.len(env)?)?;
    Ok(array.set_region(env, 0, signed(record))?)
}

/// The memory of a direct buffer that has exactly `len` bytes, for `fill` to write a record to.
pub(super) fn fill_direct(
    env: &Env<'_>,
    buffer: &JByteBuffer<'_>,
    len: usize,
    fill: impl FnOnce(&mut [u8]) -> std::result::Result<(), Failure>,
) -> std::result::Result<(), Failure> {
    exactly(len, env.get_direct_buffer_capacity(buffer)?)?;
    if len == 0 {
        return fill(&mut []);
    }
    let address = env.get_direct_buffer_address(buffer)?;
    // SAFETY: the capacity was just checked, and the memory was zeroed by Java when it was allocated. The buffer was
    // made by org.ferrowal for this one call and is not yet known to anybody else, so the borrow is exclusive; it is an
    // argument of the running native call, so it is not collected.
    let bytes = unsafe { std::slice::from_raw_parts_mut(address, len) };
    fill(bytes)
}

/// Copies bytes to the beginning of an array, which must have room for them.
pub(super) fn fill_start(
    env: &Env<'_>,
    array: &JByteArray<'_>,
    bytes: &[u8],
) -> std::result::Result<(), Failure> {
    Ok(array.set_region(env, 0, signed(bytes))?)
}

/// The first `len` bytes of an array.
pub(super) fn start_of(
    env: &Env<'_>,
    array: &JByteArray<'_>,
    len: i32,
) -> std::result::Result<Vec<u8>, Failure> {
    let (_, len) = stretch(0, len, array.len(env)?)?;
    let mut bytes = vec![0; len];
    array.get_region(env, 0, signed_mut(&mut bytes))?;
    Ok(bytes)
}

fn exactly(len: usize, size: usize) -> std::result::Result<(), Failure> {
    if len == size {
        Ok(())
    } else {
        Err(Failure::Log(Error::Config(format!(
            "a record of {len} bytes does not fit a buffer of {size} bytes"
        ))))
    }
}
