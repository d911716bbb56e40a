//! Fetching what a scan will read before it asks.
//!
//! One thread that reads, checks and hands out records has at most one request of its own at the device, and asking the
//! kernel to read ahead is work, too: pages are found for the data and requests are made, by whoever asks. So a few threads
//! ask, each for a piece at a time, and the scan meets most bytes in memory. They read nothing themselves: what is wrong
//! with a place is met by the scan, in order.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use crate::storage::SegmentRead;

/// Threads that ask: what takes the most of a device that serves several large requests at once.
const THREADS: usize = 4;
/// Bytes that are asked for at once.
const PIECE: u64 = 1 << 20;
/// Less than this is asked for by the scan itself: a short log starts no thread.
const LITTLE: u64 = 4 << 20;

/// Bytes of a segment.
type Piece = (Arc<dyn SegmentRead>, u64, u64);

#[derive(Debug, Default)]
struct Queue {
    pieces: VecDeque<Piece>,
    closed: bool,
}

#[derive(Debug, Default)]
struct Pool {
    queue: Mutex<Queue>,
    changed: Condvar,
}

impl Pool {
    /// The queue is whole after any panic.
    fn locked(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut queue = self.locked();
        while !queue.closed {
            let Some((reader, offset, length)) = queue.pieces.pop_front() else {
                queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(queue);
            reader.expect(offset, length);
            drop(reader);
            queue = self.locked();
        }
    }
}

/// The threads that fetch ahead for one scan. They start with the first large request and end with this.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    pool: Arc<Pool>,
    threads: Mutex<Option<Vec<JoinHandle<()>>>>,
}

impl Ahead {
    /// Sees to it that these bytes will be in memory soon. A hint.
    pub(super) fn fetch(&self, reader: &Arc<dyn SegmentRead>, offset: u64, length: u64) {
        if !self.is_up(length) {
            reader.expect(offset, length);
            return;
        }
        let mut queue = self.pool.locked();
        let end = offset + length;
        let mut at = offset;
        while at < end {
            let piece = PIECE.min(end - at);
            queue.pieces.push_back((reader.clone(), at, piece));
            at += piece;
        }
        drop(queue);
        self.pool.changed.notify_all();
    }

    /// Whether there is a thread to ask; for many bytes they are started.
    fn is_up(&self, length: u64) -> bool {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        if threads.is_none() && length < LITTLE {
            return false;
        }
        let threads = threads.get_or_insert_with(|| {
            let start = |_| {
                let pool = Arc::clone(&self.pool);
                let thread = thread::Builder::new().name("ferrowal-ahead".into());
                thread.spawn(move || pool.work()).inspect_err(|e| {
                    log::debug!("cannot start a thread to read ahead: {e}");
                })
            };
            (0..THREADS).filter_map(|i| start(i).ok()).collect()
        });
        !threads.is_empty()
    }
}

impl Drop for Ahead {
    /// Nothing of a segment is open when this returns: its file may be used again.
    fn drop(&mut self) {
        let mut queue = self.pool.locked();
        queue.closed = true;
        queue.pieces.clear();
        drop(queue);
        self.pool.changed.notify_all();
        let threads = self.threads.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        for thread in threads.into_iter().flatten() {
            if thread.join().is_err() {
                log::debug!("a thread that read ahead panicked");
            }
        }
    }
}
