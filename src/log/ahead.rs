//! Reading ahead what a scan will ask for.
//!
//! One thread that reads, checks and hands out records has one request of its own at the device, and waits for it. So a few
//! threads read for it, a chunk at a time and in its order, over the ends of segments, and it finds most bytes in memory.
//! What is wrong with a place they leave to the scan, which reads it again and meets that in its turn.

use std::{
    collections::VecDeque,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use crate::storage::{Chunk, SegmentRead};

/// Threads that read: as many large requests at once fill a device, and one more is being handed over.
const THREADS: usize = 3;
/// Chunks that there are at most.
const CHUNKS: usize = 4;
/// Bytes ahead of what is read that are asked for.
pub(super) const DISTANCE: u64 = (CHUNKS * Chunk::LENGTH) as u64;

/// A stream's number, and an offset in it. Streams are numbered in the order in which they are read.
type Key = (u64, u64);

#[derive(Debug, Default)]
struct Queue {
    wanted: VecDeque<(Key, Arc<dyn SegmentRead>)>,
    busy: Vec<Key>,
    /// What was read, and how many bytes; none where that failed.
    ready: Vec<(Key, Chunk, Option<usize>)>,
    free: Vec<Chunk>,
    made: usize,
    /// What lies before this is not asked for any more.
    floor: Key,
    streams: u64,
    closed: bool,
}

impl Queue {
    /// A chunk for the next read, and what is to be read; none while there is nothing to do or nowhere to put it.
    fn next(&mut self) -> Option<(Key, Arc<dyn SegmentRead>, Chunk)> {
        if self.wanted.is_empty() || (self.free.is_empty() && self.made == CHUNKS) {
            return None;
        }
        let (key, reader) = self.wanted.pop_front()?;
        let chunk = self.free.pop().unwrap_or_else(|| {
            self.made += 1;
            Chunk::new()
        });
        self.busy.push(key);
        Some((key, reader, chunk))
    }

    fn pass_by(&mut self, key: Key) {
        self.floor = key;
        self.wanted.retain(|(k, _)| *k >= key);
        let (gone, kept) = std::mem::take(&mut self.ready).into_iter().partition(|(k, ..)| *k < key);
        self.ready = kept;
        let gone: Vec<(Key, Chunk, Option<usize>)> = gone;
        self.free.extend(gone.into_iter().map(|(_, chunk, _)| chunk));
    }
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

    fn wait<'a>(&self, queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
        self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut queue = self.locked();
        while !queue.closed {
            let Some((key, reader, mut chunk)) = queue.next() else {
                queue = self.wait(queue);
                continue;
            };
            drop(queue);
            // Whoever waits for it is not left alone by a panic.
            let read = catch_unwind(AssertUnwindSafe(|| reader.read_through(key.1, &mut chunk).ok()));
            let read = read.unwrap_or(None);
            drop(reader);
            queue = self.locked();
            queue.busy.retain(|k| *k != key);
            if key < queue.floor {
                queue.free.push(chunk);
            } else {
                queue.ready.push((key, chunk, read));
            }
            self.changed.notify_all();
        }
    }
}

/// The threads that read ahead for one scan. They start with the first stream that is long enough and end with this.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    pool: Arc<Pool>,
    threads: Mutex<Option<Vec<JoinHandle<()>>>>,
}

impl Ahead {
    /// The number of a stream that is read after all others.
    pub(super) fn stream(&self) -> u64 {
        let mut queue = self.pool.locked();
        queue.streams += 1;
        queue.streams
    }

    /// Has the chunks read that begin in `range`; gives where the next one begins. They are asked for in the order in which
    /// they will be taken.
    pub(super) fn want(&self, stream: u64, reader: &Arc<dyn SegmentRead>, range: Range<u64>) -> u64 {
        let length = Chunk::LENGTH as u64;
        let mut next = range.start.next_multiple_of(length);
        if next >= range.end {
            return range.start;
        }
        self.begin();
        let mut queue = self.pool.locked();
        while next < range.end {
            queue.wanted.push_back(((stream, next), Arc::clone(reader)));
            next += length;
        }
        drop(queue);
        self.pool.changed.notify_all();
        next
    }

    /// Starts the threads, once. Without any the scan reads by itself.
    fn begin(&self) {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        if threads.is_some() {
            return;
        }
        let start = |_| {
            let pool = Arc::clone(&self.pool);
            let thread = thread::Builder::new().name("ferrowal-ahead".into());
            thread.spawn(move || pool.work()).inspect_err(|e| {
                log::debug!("cannot start a thread to read ahead: {e}");
            })
        };
        let started: Vec<JoinHandle<()>> = (0..THREADS).filter_map(|i| start(i).ok()).collect();
        self.pool.locked().closed = started.is_empty();
        *threads = Some(started);
    }

    /// The chunk at `offset`, and how many bytes of it there are: in place of `old`, which is used again. None if it is not
    /// being read, or could not be; what comes before it is not read any more.
    pub(super) fn take(&self, stream: u64, offset: u64, old: &mut Chunk) -> Option<usize> {
        let key = (stream, offset);
        let mut queue = self.pool.locked();
        if queue.closed {
            return None;
        }
        queue.pass_by(key);
        self.pool.changed.notify_all();
        loop {
            if let Some(i) = queue.ready.iter().position(|(k, ..)| *k == key) {
                let (_, chunk, read) = queue.ready.swap_remove(i);
                queue.free.push(std::mem::replace(old, chunk));
                self.pool.changed.notify_all();
                return read;
            }
            if !queue.busy.contains(&key) && !queue.wanted.iter().any(|(k, _)| *k == key) {
                return None;
            }
            queue = self.pool.wait(queue);
        }
    }
}

impl Drop for Ahead {
    /// Nothing of a segment is open when this returns: its file may be used again.
    fn drop(&mut self) {
        let mut queue = self.pool.locked();
        queue.closed = true;
        queue.wanted.clear();
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
