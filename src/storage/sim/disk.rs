//! The simulated device: files with a live and a durable image, directories whose changes are durable once synced, faults.

use std::collections::{BTreeMap, BTreeSet};

use rustix::io::Errno;
use uuid::Uuid;

use crate::{
    error::{Error, Result},
    planted::planted,
    storage::{Header, Preallocate, Space},
};

pub(super) const SECTOR: usize = 512;
/// Segments are small, so that a run goes through many.
const SEGMENT: u64 = 64 << 10;

/// A small generator that is the same everywhere (xorshift64*).
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        // Seeds that follow each other begin alike.
        random.next();
        random.next();
        random
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n.max(1)
    }

    /// True in `percent` of a hundred cases.
    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// How often operations fail, in percent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// Writes: a part of the bytes is written, then EIO.
    pub write: u64,
    /// Barriers: some pages are lost, all are marked clean, then EIO.
    pub barrier: u64,
    /// Naming a new segment: it has its name, then EIO.
    pub create: u64,
    /// Making a segment: ENOSPC.
    pub full: u64,
    /// Sealing: EIO.
    pub seal: u64,
    /// Deleting: some are deleted, then EIO.
    pub delete: u64,
    /// Listing, opening, reading: EIO.
    pub read: u64,
}

/// How often things happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) operations: u64,
    pub(crate) failed_barriers: u64,
    pub(crate) failed_writes: u64,
    pub(crate) failed_reads: u64,
    pub(crate) full: u64,
    pub(crate) sectors_lost: u64,
    pub(crate) names_lost: u64,
    pub(crate) deleted: u64,
    pub(crate) recycled: u64,
    pub(crate) jumbo: u64,
    pub(crate) sealed: u64,
    pub(crate) quarantined: u64,
    pub(crate) collected: u64,
    pub(crate) fenced: u64,
}

#[derive(Debug, Default, Clone)]
pub(super) struct File {
    pub(super) live: Vec<u8>,
    pub(super) durable: Vec<u8>,
    pub(super) dirty: BTreeSet<usize>,
    pub(super) length_dirty: bool,
    /// Sectors that a failed barrier lost: clean, and only in the cache.
    pub(super) lost: BTreeSet<usize>,
    /// Whether it was another segment before.
    pub(super) recycled: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Change {
    Name(u64, usize),
    Remove(u64),
}

#[derive(Debug, Default, Clone)]
pub(super) struct Dir {
    pub(super) live: BTreeMap<u64, usize>,
    durable: BTreeMap<u64, usize>,
    changes: Vec<Change>,
    spares: Vec<usize>,
}

/// One writer's directory: a receiver's uuid, or none for the driver.
pub(super) type Key = Option<Uuid>;

#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) random: Random,
    pub(super) files: Vec<File>,
    pub(super) dirs: BTreeMap<Key, Dir>,
    pub(super) removed: BTreeSet<Uuid>,
    pub(super) owners: BTreeMap<Key, u64>,
    pub(super) faults: Faults,
    pub(super) counts: Counts,
    pub(super) in_flight: usize,
    /// Whether several groups in flight are copied to the page cache, and not written durably.
    pub(super) cached: bool,
    /// Whether the log's uuid was made.
    pub(super) made: bool,
    /// Operations left before the power goes; the last of them is torn.
    pub(super) power: Option<u64>,
    /// Which life of the machine this is: what an earlier one still wants is refused.
    pub(super) life: u64,
    /// Ranges of segments of which there is a copy.
    pub(super) kept: Vec<(String, u64, u64, u64)>,
    /// Bytes that were overwritten or cut off without a copy.
    pub(super) destroyed: Vec<String>,
}

fn apply(names: &mut BTreeMap<u64, usize>, change: &Change) {
    match change {
        Change::Name(id, file) => drop(names.insert(*id, *file)),
        Change::Remove(id) => drop(names.remove(id)),
    }
}

impl File {
    pub(super) fn sector(&self, sector: usize) -> std::ops::Range<usize> {
        let from = (sector * SECTOR).min(self.live.len());
        from..(from + SECTOR).min(self.live.len())
    }

    /// Makes one sector durable.
    fn keep(&mut self, sector: usize) {
        let range = self.sector(sector);
        if self.durable.len() < range.end {
            self.durable.resize(range.end, 0);
        }
        self.durable[range.clone()].copy_from_slice(&self.live[range]);
    }

    fn sync(&mut self) {
        self.durable.resize(self.live.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            self.keep(sector);
        }
        self.length_dirty = false;
    }
}

pub(super) fn failure<T>(action: &'static str, errno: Errno) -> Result<T> {
    Err(Error::io(action, "simulated storage", errno.into()))
}

impl State {
    /// One operation of the machine. `Ok(true)`: the power goes in the middle of it.
    pub(super) fn tick(&mut self) -> Result<bool> {
        self.counts.operations += 1;
        match &mut self.power {
            Some(0) => failure("do anything without power to", Errno::IO),
            Some(left) => {
                *left -= 1;
                Ok(*left == 0)
            }
            None => Ok(false),
        }
    }

    /// Refuses what an earlier life still wants to change.
    pub(super) fn fence(&mut self, life: u64) -> Result<()> {
        if life == self.life {
            return Ok(());
        }
        self.counts.fenced += 1;
        Err(Error::Fenced { place: "simulated".into(), detail: format!("life {life} is over") })
    }

    pub(super) fn fails(&mut self, rate: impl Fn(&Faults) -> u64) -> bool {
        let rate = rate(&self.faults);
        rate > 0 && self.random.percent(rate)
    }

    /// Whether a read fails.
    pub(super) fn check_read(&mut self) -> Result<()> {
        if self.power == Some(0) {
            return failure("read without power from", Errno::IO);
        }
        if self.fails(|f| f.read) {
            self.counts.failed_reads += 1;
            return failure("read", Errno::IO);
        }
        Ok(())
    }

    pub(super) fn dir(&mut self, key: Key) -> &mut Dir {
        self.dirs.entry(key).or_default()
    }

    pub(super) fn file(&self, key: Key, id: u64) -> Result<usize> {
        let found = self.dirs.get(&key).and_then(|d| d.live.get(&id)).copied();
        found.map_or_else(|| failure("open", Errno::NOENT), Ok)
    }

    pub(super) fn write(&mut self, file: usize, offset: u64, bytes: &[u8]) -> Result<()> {
        let torn = self.tick()?;
        let fails = self.fails(|f| f.write);
        let from = offset as usize;
        let f = &mut self.files[file];
        if f.live.len() < from + bytes.len() {
            f.live.resize(from + bytes.len(), 0);
            f.length_dirty = true;
        }
        let sectors = from / SECTOR..(from + bytes.len()).div_ceil(SECTOR);
        // A failed write may have done a part of its work; one that the power cut, any part.
        let upto = if fails { self.random.below(bytes.len() as u64 + 1) as usize } else { bytes.len() };
        let share = if torn { [0, 30, 70, 100][self.random.below(4) as usize] } else { 100 };
        for sector in sectors {
            let (a, b) = ((sector * SECTOR).max(from), ((sector + 1) * SECTOR).min(from + upto));
            if a < b && (share == 100 || self.random.percent(share)) {
                f.live[a..b].copy_from_slice(&bytes[a - from..b - from]);
                f.lost.remove(&sector);
                f.dirty.insert(sector);
            }
        }
        if torn || fails {
            self.counts.failed_writes += u64::from(fails);
            return failure("write", Errno::IO);
        }
        Ok(())
    }

    pub(super) fn sync(&mut self, file: usize) -> Result<()> {
        let torn = self.tick()?;
        let fails = self.fails(|f| f.barrier);
        if !torn && !fails {
            self.files[file].sync();
            return Ok(());
        }
        let keep = [0, 100, 50][self.random.below(3) as usize];
        let f = &mut self.files[file];
        let lost: Vec<usize> = f.dirty.iter().copied().collect();
        for sector in lost {
            if self.random.percent(keep) {
                f.keep(sector);
                f.dirty.remove(&sector);
            }
        }
        if fails {
            // All pages are clean now, and no later barrier will write those that were lost.
            self.counts.failed_barriers += 1;
            f.durable.resize(f.live.len().max(f.durable.len()), 0);
            f.lost.extend(std::mem::take(&mut f.dirty));
        }
        failure("sync", Errno::IO)
    }

    /// A write that is durable by itself, or failed by itself (`O_DIRECT`, `RWF_DSYNC`).
    pub(super) fn write_durably(&mut self, file: usize, offset: u64, bytes: &[u8]) -> Result<()> {
        self.write(file, offset, bytes)?;
        let torn = self.tick()?;
        if torn || self.fails(|f| f.barrier) {
            self.counts.failed_barriers += u64::from(!torn);
            return failure("write", Errno::IO);
        }
        let f = &mut self.files[file];
        f.durable.resize(f.live.len().max(f.durable.len()), 0);
        for sector in offset as usize / SECTOR..(offset as usize + bytes.len()).div_ceil(SECTOR) {
            f.keep(sector);
            f.dirty.remove(&sector);
        }
        Ok(())
    }

    pub(super) fn change(&mut self, key: Key, change: Change) -> Result<()> {
        let torn = self.tick()?;
        let dir = self.dir(key);
        apply(&mut dir.live, &change);
        dir.changes.push(change);
        if torn { failure("change", Errno::IO) } else { Ok(()) }
    }

    pub(super) fn sync_dir(&mut self, key: Key) -> Result<()> {
        if self.tick()? {
            return failure("sync the directory of", Errno::IO);
        }
        let dir = self.dir(key);
        for change in std::mem::take(&mut dir.changes) {
            apply(&mut dir.durable, &change);
        }
        Ok(())
    }

    /// Makes a segment the way local storage does: space, header, barrier, name, directory.
    pub(super) fn create(
        &mut self,
        key: Key,
        id: u64,
        space: Space,
        header: &Header<'_>,
    ) -> Result<(usize, u64)> {
        if self.fails(|f| f.full) {
            self.counts.full += 1;
            return failure("create", Errno::NOSPC);
        }
        if self.dir(key).live.contains_key(&id) {
            return failure("create", Errno::EXIST);
        }
        let size = SEGMENT.min(space.wish).max(space.least).next_multiple_of(4096);
        self.counts.jumbo += u64::from(space.how == Preallocate::Reserved && space.least > SEGMENT);
        // A file that was a segment before is used as it is, with everything that it held.
        let zeroed = space.how == Preallocate::Zeroed;
        let files = &self.files;
        let dir = self.dirs.entry(key).or_default();
        let fits = |f: &usize| files[*f].live.len() as u64 >= space.least;
        let spare = dir.spares.iter().position(fits).filter(|_| zeroed);
        let file = match spare {
            Some(i) => {
                self.counts.recycled += 1;
                let file = dir.spares.swap_remove(i);
                self.files[file].recycled = true;
                file
            }
            None => {
                let zeros = vec![0; size as usize];
                self.files.push(File { live: zeros.clone(), durable: zeros, ..File::default() });
                self.files.len() - 1
            }
        };
        let early = planted!(NameBeforeHeader);
        if early {
            self.change(key, Change::Name(id, file))?;
            self.sync_dir(key)?;
        }
        self.write(file, 0, &header(spare.is_some()))?;
        self.sync(file)?;
        let fails = self.fails(|f| f.create);
        if !early {
            self.change(key, Change::Name(id, file))?;
        }
        if fails {
            return failure("name", Errno::IO);
        }
        if !planted!(SkipDirectorySync) {
            self.sync_dir(key)?;
        }
        Ok((file, self.files[file].live.len() as u64))
    }

    pub(super) fn seal(&mut self, key: Key, id: u64, at: u64, footer: &[u8]) -> Result<()> {
        let file = self.file(key, id)?;
        if self.fails(|f| f.seal) {
            return failure("seal", Errno::IO);
        }
        self.look_for_evidence(key, id, file, at);
        self.write(file, at, footer)?;
        self.sync(file)?;
        let torn = self.tick()?;
        let f = &mut self.files[file];
        f.live.truncate(at as usize + footer.len());
        f.dirty.retain(|s| s * SECTOR < f.live.len());
        f.length_dirty = true;
        self.counts.sealed += 1;
        if torn { failure("cut", Errno::IO) } else { self.sync(file) }
    }

    /// What a footer covers, or cuts off, and is neither zero nor stale, must have been copied before.
    fn look_for_evidence(&mut self, key: Key, id: u64, file: usize, at: u64) {
        let f = &self.files[file];
        let from = (at as usize).min(f.live.len());
        if f.recycled || f.live[from..].starts_with(b"FWFOOTER") {
            return;
        }
        let Some(first) = f.live[from..].iter().position(|b| *b != 0) else { return };
        let name = key.map_or("driver".to_owned(), |w| w.to_string());
        let first = (from + first) as u64;
        let kept =
            |(n, i, a, b): &(String, u64, u64, u64)| *n == name && *i == id && *a <= first && first < *b;
        if !self.kept.iter().any(kept) {
            self.destroyed
                .push(format!("segment {id} is sealed at {at}, and no copy is kept of byte {first}"));
        }
    }

    pub(super) fn delete(&mut self, key: Key, ids: &[u64]) -> Result<()> {
        let mut files = Vec::new();
        for id in ids {
            if self.fails(|f| f.delete) {
                return failure("delete", Errno::IO);
            }
            if let Some(file) = self.dir(key).live.get(id).copied() {
                self.change(key, Change::Remove(*id))?;
                self.counts.deleted += 1;
                files.push(file);
            }
        }
        // Only what is durably without a name may be written again.
        if !planted!(ReuseBeforeDirectorySync) {
            self.sync_dir(key)?;
        }
        // One that is as large as its one record is not kept.
        let files = files.into_iter().filter(|f| (1..=SEGMENT as usize).contains(&self.files[*f].live.len()));
        let files: Vec<usize> = files.collect();
        self.dir(key).spares.extend(files);
        Ok(())
    }

    pub(super) fn drop_spares(&mut self, key: Key) {
        self.dir(key).spares.clear();
    }

    /// Whether anything is not yet durable.
    pub(super) fn is_dirty(&self) -> bool {
        self.files.iter().any(|f| !f.dirty.is_empty() || f.length_dirty)
            || self.dirs.values().any(|d| !d.changes.is_empty())
    }

    /// The process is dead; what it wrote is in the kernel's cache, or on the device.
    pub(super) fn end_life(&mut self) {
        self.life += 1;
        self.power = None;
        self.faults = Faults::default();
        self.owners.clear();
        self.dirs.values_mut().for_each(|d| d.spares.clear());
    }

    /// Makes a file durable, and looks at what is on the device from here on.
    pub(super) fn settle(&mut self, file: usize) -> Result<()> {
        self.sync(file)?;
        if planted!(TrustCacheAfterFailure) {
            return Ok(());
        }
        let f = &mut self.files[file];
        for sector in std::mem::take(&mut f.lost) {
            let range = f.sector(sector);
            if range.end <= f.durable.len() {
                let File { live, durable, .. } = f;
                live[range.clone()].copy_from_slice(&durable[range]);
            }
        }
        Ok(())
    }

    /// The power went: what is left is what was durable, and whatever else chance kept.
    pub(super) fn lose_cache(&mut self) {
        let State { random, files, dirs, counts, .. } = self;
        // All, nothing, or anything between: the extremes are likely to be interesting.
        let keep = [0, 100, 50, 90, 10][random.below(5) as usize];
        for file in files.iter_mut() {
            for sector in std::mem::take(&mut file.dirty) {
                if random.percent(keep) {
                    file.keep(sector);
                } else {
                    counts.sectors_lost += 1;
                }
            }
            if std::mem::take(&mut file.length_dirty) && random.percent(50) {
                let length = file.live.len();
                file.durable.resize(length, 0);
            }
            file.live.clone_from(&file.durable);
            file.lost.clear();
        }
        for dir in dirs.values_mut() {
            for change in std::mem::take(&mut dir.changes) {
                if random.percent(keep) {
                    apply(&mut dir.durable, &change);
                } else {
                    counts.names_lost += 1;
                }
            }
            dir.live = dir.durable.clone();
        }
        for (i, file) in files.iter_mut().enumerate() {
            if !dirs.values().any(|d| d.live.values().any(|f| *f == i)) {
                *file = File::default();
            }
        }
    }
}
