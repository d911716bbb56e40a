//! Staging memory: block-aligned buffers of one size, made when needed, kept for reuse, bounded in number.

use bytes::BytesMut;

use crate::{
    metrics::{Metrics, Share},
    storage::{HUGE, in_huge_pages},
};

/// Bytes of a buffer: what one group holds at most, header and padding included.
pub(crate) const BUFFER: usize = 4 << 20;
/// What is written begins at a multiple of this in memory, as direct I/O wants.
const ALIGN: usize = 4096;

/// The buffers of one writer.
#[derive(Debug)]
pub(crate) struct Pool {
    free: Vec<BytesMut>,
    lent: usize,
    limit: usize,
    /// Buffers that there are, those that are lent, and those that there may be: in bytes.
    shares: [Share; 3],
}

impl Pool {
    /// A pool of at most `memory` bytes, and two buffers at least: one record is staged while another is written.
    pub(crate) fn new(memory: u64, metrics: &'static Metrics) -> Pool {
        let limit = usize::try_from(memory).unwrap_or(usize::MAX) / BUFFER;
        let shares = [&metrics.memory_held, &metrics.memory_used, &metrics.memory_limit].map(Share::new);
        let mut pool = Pool { free: Vec::new(), lent: 0, limit: limit.max(2), shares };
        pool.tell();
        pool
    }

    /// A buffer of exactly [`BUFFER`] bytes with stale contents, or `None` at the bound.
    pub(crate) fn take(&mut self) -> Option<BytesMut> {
        if self.lent == self.limit {
            return None;
        }
        self.lent += 1;
        let buffer = self.free.pop().unwrap_or_else(|| {
            let mut buffer = aligned(BUFFER, HUGE);
            in_huge_pages(&mut buffer);
            buffer
        });
        self.tell();
        Some(buffer)
    }

    /// Takes a buffer back, whole.
    pub(crate) fn give(&mut self, buffer: BytesMut) {
        self.lent = self.lent.saturating_sub(1);
        // One that lost a part (its group's worker panicked) is not used again.
        if buffer.len() == BUFFER {
            self.free.push(buffer);
        }
        self.tell();
    }

    /// Whether `n` buffers could be taken.
    pub(crate) fn has(&self, n: usize) -> bool {
        self.limit - self.lent >= n
    }

    /// Lets go of all free buffers but one.
    pub(crate) fn trim(&mut self) {
        self.free.truncate(1);
        self.tell();
    }

    fn tell(&mut self) {
        let bytes = |buffers: usize| (buffers * BUFFER) as u64;
        let [held, used, limit] = &mut self.shares;
        held.set(bytes(self.free.len() + self.lent));
        used.set(bytes(self.lent));
        limit.set(bytes(self.limit));
    }
}

/// Aligned memory for one block: a mark must not wait for the memory that those hold who wait for the mark.
pub(crate) fn for_a_mark(block: u32) -> BytesMut {
    aligned(block as usize, ALIGN)
}

/// Zeros at a multiple of `align` in memory. What is large is mapped by the allocator, and not touched until it is used.
fn aligned(length: usize, align: usize) -> BytesMut {
    let mut buffer = BytesMut::zeroed(length + align);
    let skip = buffer.as_ptr().align_offset(align).min(align);
    let mut aligned = buffer.split_off(skip);
    aligned.truncate(length);
    aligned
}
