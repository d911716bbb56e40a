//! Copying a record to where the device takes it from.
//!
//! On a virtual machine the device is a thread of the host, and what it has read lies in the cache of the processor that it
//! ran on. Where that is a distant one, storing to the same memory again waits for every line to come back: a copy was seen
//! to take 20 times as long, for seconds, until the host moved that thread. Stores past the caches do not wait, and are slower
//! at all other times: then the device has to fetch the bytes from memory. So both ways are timed all the while, and one is
//! used.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU32, Ordering},
    time::Instant,
};

use crc32fast::Hasher;

use crate::{
    error::Result,
    log::RecordSource,
    storage::{STREAMS, stream},
};

/// Bytes that are copied before their checksum is taken: they are still in the processor's cache then.
const CHECKED_PIECE: usize = 32 << 10;
/// The same where they come by way of memory that stays in the cache.
const BY_WAY: usize = 16 << 10;
/// A shorter copy is no matter, and says little of what one costs.
const LEAST: usize = 8 << 10;
/// One copy of so many is made the other way, to know what that would cost. Prime: records are copied in pieces, and a number
/// that theirs divides would always try the same one.
const TRIED: u32 = 61;
/// What streaming costs the device is not seen in the copy: it pays only where a plain copy takes so many times as long.
const WORTH: u32 = 2;
/// An estimate moves by this part of itself with each copy: towards the median, which a thread that lost its processor in the
/// middle of a copy does not move more than any other.
const STEP: u32 = 8;
/// What is taken for the cost before anything was measured, in picoseconds a byte.
const FIRST: u32 = 100;

/// How a record's bytes are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Copied once, to where they are written from.
    Plain,
    /// Copied to memory that stays in the cache, checksummed there, and stored past the caches.
    Streamed,
}

/// How one writer's records are staged. Shared by its callers.
#[derive(Debug)]
pub(crate) struct Staging {
    streams: bool,
    turn: AtomicU32,
    /// Picoseconds a byte: of plain copies, and of streamed ones.
    costs: [AtomicU32; 2],
}

impl Staging {
    /// `past_the_cache`: whether the device itself reads what is staged. (What the kernel copies to its page cache had better
    /// be in the processor's.)
    pub(crate) fn new(past_the_cache: bool) -> Staging {
        Staging {
            streams: STREAMS && past_the_cache,
            turn: AtomicU32::new(0),
            costs: [AtomicU32::new(FIRST), AtomicU32::new(FIRST)],
        }
    }

    /// Copies the source's bytes from `from` on into all of `into`, and adds them to the checksum.
    ///
    /// # Errors
    /// The source's.
    pub(crate) fn copy(
        &self,
        source: &mut dyn RecordSource,
        from: usize,
        into: &mut [u8],
        checksum: &mut Hasher,
    ) -> Result<()> {
        if !self.streams || into.len() < LEAST {
            return plain(source, from, into, checksum);
        }
        let way = self.way();
        let (length, began) = (into.len(), Instant::now());
        match way {
            Way::Plain => plain(source, from, into, checksum),
            Way::Streamed => streamed(source, from, into, checksum),
        }?;
        let cost = began.elapsed().as_nanos() * 1000 / length as u128;
        self.learn(way, u32::try_from(cost).unwrap_or(u32::MAX));
        Ok(())
    }

    fn way(&self) -> Way {
        let [plain, streamed] = self.costs.each_ref().map(|c| c.load(Ordering::Relaxed));
        let pays = plain > streamed.saturating_mul(WORTH);
        let tried = self.turn.fetch_add(1, Ordering::Relaxed).is_multiple_of(TRIED);
        if pays == tried { Way::Plain } else { Way::Streamed }
    }

    fn learn(&self, way: Way, cost: u32) {
        let estimate = &self.costs[way as usize];
        let was = estimate.load(Ordering::Relaxed);
        let step = was / STEP + 1;
        let is = if cost > was { was.saturating_add(step) } else { was.saturating_sub(step) };
        // Of two at once one may be lost: there are many.
        estimate.store(is, Ordering::Relaxed);
    }
}

fn plain(source: &mut dyn RecordSource, from: usize, into: &mut [u8], checksum: &mut Hasher) -> Result<()> {
    let mut done = from;
    for piece in into.chunks_mut(CHECKED_PIECE) {
        source.copy(done, piece)?;
        checksum.update(piece);
        done += piece.len();
    }
    Ok(())
}

fn streamed(
    source: &mut dyn RecordSource,
    from: usize,
    into: &mut [u8],
    checksum: &mut Hasher,
) -> Result<()> {
    // A thread that ends has no such memory any more; one that writes a record while it stages one, neither.
    let mut by_way = BETWEEN.try_with(Cell::take).unwrap_or_default();
    by_way.resize(BY_WAY, 0);
    let mut done = from;
    let copied = into.chunks_mut(BY_WAY).try_for_each(|piece| {
        let bytes = &mut by_way[..piece.len()];
        source.copy(done, bytes)?;
        // Of the copy, not of the source: that may change meanwhile.
        checksum.update(bytes);
        stream(bytes, piece);
        done += piece.len();
        Ok(())
    });
    let _gone = BETWEEN.try_with(|spare| spare.set(by_way));
    copied
}

thread_local! {
    /// Where this thread's bytes are between their source and the memory past the caches.
    static BETWEEN: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{error::Error, log::Slice};

    fn cost(staging: &Staging, way: Way) -> u32 {
        staging.costs[way as usize].load(Ordering::Relaxed)
    }

    /// What `n` copies are that cost so much, in turn: how many of them were streamed.
    fn streamed_of(staging: &Staging, n: u32, costs: [u32; 2]) -> u32 {
        (0..n)
            .filter(|_| {
                let way = staging.way();
                staging.learn(way, costs[way as usize]);
                way == Way::Streamed
            })
            .count() as u32
    }

    #[test]
    fn bytes_and_checksum_are_the_same_either_way_at_any_place() {
        let record: Vec<u8> = (0..100_000u32).map(|i| (i * 7 + i / 251) as u8).collect();
        for (skip, from, length) in [
            (0, 0, 100_000),
            (120, 5, 65_416),
            (1, 0, 4096),
            (63, 77, 16_385),
            (64, 1, 63),
            (7, 3, 0),
            (33, 9, 1),
        ] {
            let mut memory = vec![0xeeu8; skip + length + 100];
            let mut sums = [Hasher::new(), Hasher::new()];
            let mut found = Vec::new();
            for (way, sum) in [plain, streamed].into_iter().zip(&mut sums) {
                memory.fill(0xee);
                way(&mut Slice(&record), from, &mut memory[skip..skip + length], sum).unwrap();
                found.push(memory.clone());
            }
            assert_eq!(found[0], found[1], "{skip} {from} {length}");
            assert_eq!(found[1][skip..skip + length], record[from..from + length]);
            assert!(found[1][..skip].iter().chain(&found[1][skip + length..]).all(|b| *b == 0xee));
            let [a, b] = sums.map(Hasher::finalize);
            assert_eq!((a, b), (crc32fast::hash(&record[from..from + length]), a));
        }
    }

    #[test]
    fn what_changes_while_it_is_copied_is_checksummed_as_it_is_written() {
        struct Changing(u8);
        impl RecordSource for Changing {
            fn len(&self) -> usize {
                1 << 20
            }
            fn copy(&mut self, _: usize, into: &mut [u8]) -> Result<()> {
                self.0 += 1;
                into.fill(self.0);
                Ok(())
            }
        }
        for way in [plain, streamed] {
            let mut memory = vec![0; 100_000];
            let mut sum = Hasher::new();
            way(&mut Changing(0), 0, &mut memory, &mut sum).unwrap();
            assert_eq!(sum.finalize(), crc32fast::hash(&memory));
        }
    }

    #[test]
    fn a_source_that_fails_fails_either_way() {
        struct Failing;
        impl RecordSource for Failing {
            fn len(&self) -> usize {
                1 << 20
            }
            fn copy(&mut self, from: usize, _: &mut [u8]) -> Result<()> {
                if from < 40_000 { Ok(()) } else { Err(Error::Source("gone".into())) }
            }
        }
        for way in [plain, streamed] {
            let failed = way(&mut Failing, 0, &mut vec![0; 1 << 20], &mut Hasher::new());
            assert!(matches!(failed, Err(Error::Source(_))), "{failed:?}");
        }
    }

    #[test]
    fn bytes_are_streamed_while_storing_them_plainly_is_slow() {
        let staging = Staging { streams: true, ..Staging::new(true) };
        let (usual, slow) = ([60, 120], [450, 120]);
        assert_eq!(streamed_of(&staging, TRIED * 8, usual), 8, "one of so many is tried");
        let streamed = streamed_of(&staging, TRIED * 10, slow);
        assert!(streamed > TRIED * 9, "{streamed}");
        assert_eq!(streamed_of(&staging, TRIED * 10, slow), TRIED * 10 - 10, "one of so many is tried");
        // Noticed by those that are tried, so it takes longer.
        streamed_of(&staging, TRIED * 20, usual);
        assert_eq!(streamed_of(&staging, TRIED * 10, usual), 10);
    }

    #[test]
    fn a_copy_that_lost_its_processor_changes_nothing() {
        let staging = Staging { streams: true, ..Staging::new(true) };
        streamed_of(&staging, TRIED * 8, [60, 120]);
        for _ in 0..100 {
            staging.learn(Way::Plain, 50_000);
            (0..4).for_each(|_| staging.learn(Way::Plain, 60));
        }
        assert!(cost(&staging, Way::Plain) < 120, "{staging:?}");
    }

    #[test]
    fn what_the_page_cache_takes_is_not_streamed() {
        let staging = Staging::new(false);
        let mut into = vec![0; 64 << 10];
        for _ in 0..100 {
            staging.copy(&mut Slice(&[3; 64 << 10]), 0, &mut into, &mut Hasher::new()).unwrap();
        }
        assert_eq!(staging.turn.load(Ordering::Relaxed), 0);
        assert_eq!(BETWEEN.take().len(), 0);
    }
}
