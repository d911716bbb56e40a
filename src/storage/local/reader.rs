//! Reading a segment's file: through the page cache, or past it where that is sooner.

use std::{
    fs::File,
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use once_cell::sync::{Lazy, OnceCell};

use super::{
    direct::{self, ALIGN},
    fs,
    segments::Hold,
};
use crate::{awake::processors, error::Result, storage::SegmentRead};

/// Records from this length on are read past the page cache where it does not have them: no pages are to be found for them.
/// (`make bench BENCH_ARGS=read` has them beside a bare read through the cache.) The cache is good for shorter ones, whose neighbours
/// come with them,
const LEAST: usize = 16 << 10;
/// and for longer ones, of which several requests at once are on their way.
const MOST: usize = 512 << 10;
/// A record that begins so near behind the one that was read last is read in its turn: there the kernel reads ahead.
const NEXT: u64 = 256 << 10;
/// Memory for such reads that is kept for the next ones: a piece for each processor, up to so many.
const MOST_KEPT: usize = 4;
static KEPT: Lazy<usize> = Lazy::new(|| MOST_KEPT.min(processors() as usize));
/// Bytes of one that is kept: `MOST`, and what reading whole blocks adds.
const PIECE: usize = MOST + 2 * ALIGN;

/// Memory that direct I/O takes.
static SCRATCH: Mutex<Vec<(Vec<u8>, usize)>> = Mutex::new(Vec::new());

/// A segment's file, open for reading.
#[derive(Debug)]
pub(super) struct LocalReader {
    file: File,
    /// The same past the page cache, once it was asked for; none where it cannot be had.
    direct: OnceCell<Option<File>>,
    path: PathBuf,
    /// Where the record ends that was read last.
    last: AtomicU64,
    _hold: Hold,
}

impl LocalReader {
    pub(super) fn new(file: File, path: PathBuf, hold: Hold) -> LocalReader {
        LocalReader { file, direct: OnceCell::new(), path, last: AtomicU64::new(0), _hold: hold }
    }

    fn direct(&self) -> Option<&File> {
        self.direct.get_or_init(|| direct::reopen_direct(&self.file)).as_ref()
    }
}

/// At least `length` bytes behind the offset.
fn take_scratch(length: usize) -> (Vec<u8>, usize) {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    let kept = SCRATCH.lock().unwrap_or_else(PoisonError::into_inner).pop();
    kept.unwrap_or_else(|| {
        // Those who come while all that is kept is lent get as much as they need, for once.
        let first = MADE.fetch_add(1, Ordering::Relaxed) < *KEPT;
        direct::aligned_zeros(if first { PIECE } else { length })
    })
}

fn keep_scratch(memory: (Vec<u8>, usize)) {
    let mut kept = SCRATCH.lock().unwrap_or_else(PoisonError::into_inner);
    if memory.0.len() > PIECE && kept.len() < *KEPT {
        kept.push(memory);
    }
}

impl SegmentRead for LocalReader {
    fn size(&self) -> Result<u64> {
        fs::length(&self.file, &self.path)
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Result<usize> {
        fs::read_at(&self.file, &self.path, offset, into)
    }

    fn read_two(&self, offset: u64, head: &mut [u8], body: &mut [u8]) -> Result<usize> {
        let mut read = 0;
        let lent = self.lend(offset, head.len() + body.len(), &mut |got| {
            let (first, rest) = got.split_at(got.len().min(head.len()));
            head[..first.len()].copy_from_slice(first);
            body[..rest.len()].copy_from_slice(rest);
            read = got.len();
        });
        if lent { Ok(read) } else { fs::read_two_at(&self.file, &self.path, offset, head, body) }
    }

    /// Past the page cache.
    fn lend(&self, offset: u64, length: usize, take: &mut dyn FnMut(&[u8])) -> bool {
        let end = offset.saturating_add(length as u64);
        let last = self.last.swap(end, Ordering::Relaxed);
        // The same one again is one that was looked at here before, and could not be taken.
        let in_turn = last == end || (last..last.saturating_add(NEXT)).contains(&offset);
        if in_turn || !(LEAST..=MOST).contains(&length) {
            return false;
        }
        let Some(direct) = self.direct() else { return false };
        if direct::is_cached(&self.file, offset, length as u64) != Some(false) {
            return false;
        }
        let skip = (offset % ALIGN as u64) as usize;
        let mut memory = take_scratch((skip + length).next_multiple_of(ALIGN));
        let from = memory.1;
        let whole = &mut memory.0[from..from + (skip + length).next_multiple_of(ALIGN)];
        // What a direct read cannot do, or says of the device, the other way may do, and says again.
        let read = fs::read_at(direct, &self.path, offset - skip as u64, whole);
        if let Ok(read) = &read {
            take(&whole[skip.min(*read)..(skip + length).min(*read)]);
        }
        keep_scratch(memory);
        read.is_ok()
    }

    fn read_through(&self, offset: u64, into: &mut [u8]) -> Result<usize> {
        match self.direct() {
            Some(direct) if direct::is_cached(&self.file, offset, into.len() as u64) != Some(true) => {
                fs::read_at(direct, &self.path, offset, into).or_else(|_| self.read(offset, into))
            }
            _ => self.read(offset, into),
        }
    }

    fn in_parallel(&self) -> bool {
        true
    }

    fn expect(&self, offset: u64, length: u64) {
        fs::expect(&self.file, offset, length);
    }

    fn settle(&self) -> Result<()> {
        fs::sync_data(&self.file, &self.path)?;
        // A barrier of the writer before may have failed: then the kernel called pages clean that the device never got, and
        // this one found nothing to do. What is trusted from here on is what the device has.
        fs::forget_cached(&self.file, &self.path);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::storage::local::segments::Reading;

    #[test]
    fn past_the_cache_or_through_it_the_same_bytes_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let bytes: Vec<u8> = (0..3u32 << 18).flat_map(u32::to_le_bytes).collect();
        std::fs::write(&path, &bytes).unwrap();
        let file = File::open(&path).unwrap();
        file.sync_all().unwrap();
        let hold = Hold::on(&Arc::new(Reading::default()), &path);
        let reader = LocalReader::new(file, path, hold);
        let mut past = 0;
        for length in [0, 100, LEAST - 1, LEAST, 64 << 10, MOST, MOST + 1] {
            for offset in
                [0, 1, 4072, 4095, 4096, 1 << 20, (1 << 20) + 8, (3 << 20) - 4096, (3 << 20) - 8, 3 << 20]
            {
                let expected = &bytes[offset..bytes.len().min(offset + length)];
                let cold = || {
                    // Nobody else is near, so that nothing is in its turn.
                    reader.last.store(u64::MAX, Ordering::Relaxed);
                    fs::forget_cached(&reader.file, &reader.path);
                };
                cold();
                let lent = reader.lend(offset as u64, length, &mut |got| {
                    assert!(got == expected, "{length} bytes at {offset}, lent");
                });
                past += usize::from(lent);
                cold();
                let (mut head, mut body) = (vec![0; length.min(24)], vec![0; length - length.min(24)]);
                let read = reader.read_two(offset as u64, &mut head, &mut body).unwrap();
                head.append(&mut body);
                assert!(head[..read] == *expected, "{length} bytes at {offset}");
            }
        }
        if reader.direct().is_none() || direct::is_cached(&reader.file, 0, 4096).is_none() {
            println!("not tested: reads past the page cache, or what it has, cannot be had here");
        } else {
            assert!(past >= 20, "{past} reads went past the page cache");
        }
    }

    #[test]
    fn what_is_cached_or_comes_in_its_turn_is_read_through_the_cache() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, vec![7; 1 << 20]).unwrap();
        let file = File::open(&path).unwrap();
        let hold = Hold::on(&Arc::new(Reading::default()), &path);
        let reader = LocalReader::new(file, path, hold);
        let lent = |offset| reader.lend(offset, 64 << 10, &mut |_| {});
        assert!(!lent(500_000), "it was just written");
        reader.file.sync_all().unwrap();
        fs::forget_cached(&reader.file, &reader.path);
        reader.last.store(500_000, Ordering::Relaxed);
        assert!(!lent(500_008), "it is the next one");
        if reader.direct().is_some() && direct::is_cached(&reader.file, 0, 4096).is_some() {
            reader.last.store(500_000, Ordering::Relaxed);
            assert!(lent(900_000), "it is elsewhere");
            assert!(!lent(900_000), "it was lent, and is wanted in another way");
        }
    }
}
