//! Simulated storage, for tests: what a power cut leaves of what was written and not yet synced.
//!
//! Every file has a live and a durable image. A crash keeps an arbitrary subset of the sectors that were written since
//! the last barrier, and an arbitrary subset of the directory's changes since it was synced. Any operation can fail,
//! before or after it was done; a failed barrier marks its pages clean without having written them (what Linux does).
//! Everything is decided by one seed.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::IoSlice,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::io::Errno;
use uuid::Uuid;

use super::{
    Barrier, Claim, Header, Home, Listed, Preallocate, SegmentRead, SegmentWrite, Space, Storage, Traits,
    Which,
};
use crate::error::{Error, Result};

const SECTOR: usize = 512;

/// A small generator that is the same everywhere (xorshift64*).
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
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
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    pub(crate) write: u64,
    pub(crate) barrier: u64,
    pub(crate) create: u64,
    pub(crate) full: u64,
    pub(crate) seal: u64,
    pub(crate) delete: u64,
}

/// How often things happened.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) operations: u64,
    pub(crate) failed_barriers: u64,
    pub(crate) failed_writes: u64,
    pub(crate) full: u64,
    pub(crate) crashes_with_dirty_sectors: u64,
    pub(crate) sectors_lost: u64,
    pub(crate) names_lost: u64,
    pub(crate) deleted: u64,
    pub(crate) recycled: u64,
}

#[derive(Debug, Default)]
struct File {
    live: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
    length_dirty: bool,
}

#[derive(Debug, Clone)]
enum Change {
    Name(u64, usize),
    Remove(u64),
}

#[derive(Debug, Default)]
struct Dir {
    live: BTreeMap<u64, usize>,
    durable: BTreeMap<u64, usize>,
    changes: Vec<Change>,
}

#[derive(Debug)]
struct State {
    random: Random,
    files: Vec<File>,
    dir: Dir,
    faults: Faults,
    counts: Counts,
    in_flight: usize,
    /// Operations left before the power goes.
    power: Option<u64>,
    kept: u64,
    spares: Vec<usize>,
}

/// One simulated machine with one log on it.
#[derive(Debug, Clone)]
pub(crate) struct World {
    state: Arc<Mutex<State>>,
    log: Uuid,
}

impl World {
    pub(crate) fn new(seed: u64, in_flight: usize) -> World {
        let mut random = Random::new(seed);
        let log = Uuid::from_u64_pair(random.next(), random.next());
        let state = State {
            random,
            files: Vec::new(),
            dir: Dir::default(),
            faults: Faults::default(),
            counts: Counts::default(),
            in_flight,
            power: None,
            kept: 0,
            spares: Vec::new(),
        };
        World { state: Arc::new(Mutex::new(state)), log }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn log(&self) -> Uuid {
        self.log
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// The power goes after this many operations.
    pub(crate) fn cut_power_after(&self, operations: u64) {
        self.lock().power = Some(operations);
    }

    /// The power stays.
    pub(crate) fn keep_power(&self) {
        self.lock().power = None;
    }

    /// Whether the power is gone: nothing more is done, and everything fails.
    pub(crate) fn is_dark(&self) -> bool {
        self.lock().power == Some(0)
    }

    pub(crate) fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Copies that were kept in quarantine.
    pub(crate) fn quarantined(&self) -> u64 {
        self.lock().kept
    }

    /// The machine starts again with what became durable, and with whatever else chance kept.
    pub(crate) fn restart(&self) {
        let mut state = self.lock();
        let State { random, files, dir, counts, power, faults, spares, .. } = &mut *state;
        spares.clear();
        *power = None;
        *faults = Faults::default();
        let mut any = false;
        // All, nothing, or anything between: the extremes are likely to be interesting.
        let keep = [0, 100, 50, 90, 10][random.below(5) as usize];
        for file in files.iter_mut() {
            for sector in std::mem::take(&mut file.dirty) {
                any = true;
                if random.percent(keep) {
                    let range = file.sector(sector);
                    if file.durable.len() < range.end {
                        file.durable.resize(range.end, 0);
                    }
                    file.durable[range.clone()].copy_from_slice(&file.live[range]);
                } else {
                    counts.sectors_lost += 1;
                }
            }
            if std::mem::take(&mut file.length_dirty) && random.percent(50) {
                let length = file.live.len();
                file.durable.resize(length, 0);
            }
            file.live.clone_from(&file.durable);
        }
        for change in std::mem::take(&mut dir.changes) {
            if random.percent(keep) {
                dir.durable.apply(&change);
            } else {
                counts.names_lost += 1;
            }
        }
        dir.live = dir.durable.clone();
        for (i, file) in files.iter_mut().enumerate() {
            if !dir.live.values().any(|f| *f == i) {
                *file = File::default();
            }
        }
        counts.crashes_with_dirty_sectors += u64::from(any);
    }
}

trait Names {
    fn apply(&mut self, change: &Change);
}

impl Names for BTreeMap<u64, usize> {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Name(id, file) => drop(self.insert(*id, *file)),
            Change::Remove(id) => drop(self.remove(id)),
        }
    }
}

impl File {
    fn sector(&self, sector: usize) -> std::ops::Range<usize> {
        let from = (sector * SECTOR).min(self.live.len());
        from..(from + SECTOR).min(self.live.len())
    }

    fn sync(&mut self) {
        self.durable.resize(self.live.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            let range = self.sector(sector);
            self.durable[range.clone()].copy_from_slice(&self.live[range]);
        }
        self.length_dirty = false;
    }
}

fn failure<T>(action: &'static str, errno: Errno) -> Result<T> {
    Err(Error::io(action, "simulated storage", errno.into()))
}

impl State {
    /// One operation of the machine: counts down to the end of power.
    fn tick(&mut self) -> Result<()> {
        self.counts.operations += 1;
        match &mut self.power {
            Some(0) => failure("do anything without power to", Errno::IO),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn fails(&mut self, rate: impl Fn(&Faults) -> u64) -> bool {
        let rate = rate(&self.faults);
        self.random.percent(rate)
    }

    fn write(&mut self, file: usize, offset: u64, bytes: &[u8]) -> Result<()> {
        self.tick()?;
        let fails = self.fails(|f| f.write);
        let f = &mut self.files[file];
        // A failed write may have done a part of its work.
        let done = if fails { self.random.below(bytes.len() as u64 + 1) as usize } else { bytes.len() };
        let from = offset as usize;
        if f.live.len() < from + done {
            f.live.resize(from + done, 0);
            f.length_dirty = true;
        }
        f.live[from..from + done].copy_from_slice(&bytes[..done]);
        if done > 0 {
            f.dirty.extend(from / SECTOR..=(from + done - 1) / SECTOR);
        }
        if fails {
            self.counts.failed_writes += 1;
            return failure("write", Errno::IO);
        }
        Ok(())
    }

    fn sync(&mut self, file: usize) -> Result<()> {
        self.tick()?;
        if self.fails(|f| f.barrier) {
            self.counts.failed_barriers += 1;
            // Some pages reached the device; all are clean now, and no later barrier will write the others.
            let f = &mut self.files[file];
            let dirty = std::mem::take(&mut f.dirty);
            f.durable.resize(f.live.len().max(f.durable.len()), 0);
            let keep = [0, 100, 50][self.random.below(3) as usize];
            for sector in dirty {
                if self.random.percent(keep) {
                    let range = f.sector(sector);
                    f.durable[range.clone()].copy_from_slice(&f.live[range]);
                }
            }
            return failure("sync", Errno::IO);
        }
        self.files[file].sync();
        Ok(())
    }

    fn change(&mut self, change: Change) -> Result<()> {
        self.tick()?;
        self.dir.live.apply(&change);
        self.dir.changes.push(change);
        Ok(())
    }

    fn sync_dir(&mut self) -> Result<()> {
        self.tick()?;
        for change in std::mem::take(&mut self.dir.changes) {
            self.dir.durable.apply(&change);
        }
        Ok(())
    }

    fn file(&self, id: u64) -> Result<usize> {
        self.dir.live.get(&id).copied().map_or_else(|| failure("open", Errno::NOENT), Ok)
    }
}

#[derive(Debug)]
struct SimClaim;

impl Claim for SimClaim {}

impl Home for World {
    fn place(&self) -> String {
        "simulated".into()
    }
    fn check(&self) -> Result<()> {
        Ok(())
    }
    fn log_id(&self) -> Result<Option<Uuid>> {
        Ok(Some(self.log))
    }
    fn make_log_id(&self) -> Result<Uuid> {
        Ok(self.log)
    }
    fn small_file(&self, _: &str) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }
    fn writers(&self) -> Result<Vec<Uuid>> {
        Ok(Vec::new())
    }
    fn storage(&self, _: Which) -> Arc<dyn Storage> {
        Arc::new(self.clone())
    }
    fn claim(&self, _: Which, _: Duration) -> Result<Box<dyn Claim>> {
        Ok(Box::new(SimClaim))
    }
    fn await_unclaimed(&self, _: Which, _: Duration) -> Result<()> {
        Ok(())
    }
    fn claim_gone(&self, _: Which) -> Result<Option<Box<dyn Claim>>> {
        Ok(None)
    }
    fn note_removed(&self, _: Uuid) -> Result<()> {
        Ok(())
    }
    fn remove_writer(&self, _: Uuid, _: Box<dyn Claim>) -> Result<()> {
        Ok(())
    }
    fn was_removed(&self, _: Uuid) -> Result<bool> {
        Ok(false)
    }
    fn quarantine(&self, _: &str, bytes: &mut dyn Iterator<Item = Result<Vec<u8>>>) -> Result<String> {
        for piece in bytes {
            piece?;
        }
        let mut state = self.lock();
        state.tick()?;
        state.kept += 1;
        Ok("kept".into())
    }
}

impl Storage for World {
    fn traits(&self) -> Traits {
        Traits::local(4096, self.lock().in_flight)
    }

    fn place(&self) -> String {
        "simulated".into()
    }

    fn list(&self) -> Result<Vec<Listed>> {
        let state = self.lock();
        let listed = state.dir.live.iter();
        Ok(listed
            .map(|(id, file)| Listed { id: *id, length: state.files[*file].live.len() as u64 })
            .collect())
    }

    fn create(&self, id: u64, space: Space, header: &Header<'_>) -> Result<Box<dyn SegmentWrite>> {
        let mut state = self.lock();
        state.tick()?;
        if state.fails(|f| f.full) {
            state.counts.full += 1;
            return failure("create", Errno::NOSPC);
        }
        if state.dir.live.contains_key(&id) {
            return failure("create", Errno::EXIST);
        }
        // Small, so that a run goes through many.
        let size = (64 << 10).min(space.wish).max(space.least).next_multiple_of(4096);
        // A file that was a segment before is used as it is, with everything that it held.
        let fits = |f: &usize| state.files[*f].live.len() as u64 >= space.least;
        let spare = state.spares.iter().position(fits).filter(|_| space.how == Preallocate::Zeroed);
        let file = match spare {
            Some(i) => {
                state.counts.recycled += 1;
                state.spares.swap_remove(i)
            }
            None => {
                let zeros = vec![0; size as usize];
                state.files.push(File { live: zeros.clone(), durable: zeros, ..File::default() });
                state.files.len() - 1
            }
        };
        state.write(file, 0, &header(spare.is_some()))?;
        state.sync(file)?;
        let fails = state.fails(|f| f.create);
        state.change(Change::Name(id, file))?;
        if fails {
            return failure("name", Errno::IO);
        }
        state.sync_dir()?;
        Ok(Box::new(SimSegment { world: self.clone(), file }))
    }

    fn open(&self, id: u64) -> Result<Arc<dyn SegmentRead>> {
        let file = self.lock().file(id)?;
        Ok(Arc::new(SimSegment { world: self.clone(), file }))
    }

    fn seal(&self, id: u64, at: u64, footer: &[u8]) -> Result<()> {
        let mut state = self.lock();
        let file = state.file(id)?;
        if state.fails(|f| f.seal) {
            return failure("seal", Errno::IO);
        }
        state.write(file, at, footer)?;
        state.sync(file)?;
        state.tick()?;
        let length = at as usize + footer.len();
        state.files[file].live.truncate(length);
        state.files[file].length_dirty = true;
        state.sync(file)
    }

    fn delete(&self, ids: &[u64]) -> Result<()> {
        let mut state = self.lock();
        for id in ids {
            if state.fails(|f| f.delete) {
                return failure("delete", Errno::IO);
            }
            if state.dir.live.contains_key(id) {
                state.change(Change::Remove(*id))?;
                state.counts.deleted += 1;
            }
        }
        let files: Vec<usize> = ids.iter().filter_map(|id| state.dir.durable.get(id).copied()).collect();
        state.sync_dir()?;
        // Only what is durably without a name may be written again.
        state.spares.extend(files);
        Ok(())
    }

    fn drop_spares(&self) -> Result<()> {
        self.lock().spares.clear();
        Ok(())
    }

    fn keep_reserve(&self) -> Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct SimSegment {
    world: World,
    file: usize,
}

impl SegmentWrite for SimSegment {
    fn size(&self) -> u64 {
        self.world.lock().files[self.file].live.len() as u64
    }

    fn write(&self, offset: u64, bytes: &mut [IoSlice<'_>], barrier: Barrier) -> Result<()> {
        let mut state = self.world.lock();
        let all: Vec<u8> = bytes.iter().flat_map(|b| b.iter().copied()).collect();
        if state.in_flight > 1 {
            // Several at once: each write is durable by itself, or failed by itself (O_DIRECT|O_DSYNC).
            state.write(self.file, offset, &all)?;
            let sectors: Vec<usize> =
                (offset as usize / SECTOR..=(offset as usize + all.len() - 1) / SECTOR).collect();
            state.tick()?;
            if barrier == Barrier::Yes && state.fails(|f| f.barrier) {
                state.counts.failed_barriers += 1;
                return failure("write", Errno::IO);
            }
            let file = &mut state.files[self.file];
            file.durable.resize(file.live.len().max(file.durable.len()), 0);
            for sector in sectors {
                file.dirty.remove(&sector);
                let range = file.sector(sector);
                file.durable[range.clone()].copy_from_slice(&file.live[range]);
            }
            return Ok(());
        }
        state.write(self.file, offset, &all)?;
        if barrier == Barrier::Yes { state.sync(self.file) } else { Ok(()) }
    }
}

impl SegmentRead for SimSegment {
    fn size(&self) -> Result<u64> {
        Ok(self.world.lock().files[self.file].live.len() as u64)
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Result<usize> {
        let state = self.world.lock();
        let live = &state.files[self.file].live;
        let from = (offset as usize).min(live.len());
        let n = into.len().min(live.len() - from);
        into[..n].copy_from_slice(&live[from..from + n]);
        Ok(n)
    }

    fn read_two(&self, offset: u64, head: &mut [u8], body: &mut [u8]) -> Result<usize> {
        let n = self.read(offset, head)?;
        Ok(n + self.read(offset + n as u64, body)?)
    }

    fn settle(&self) -> Result<()> {
        self.world.lock().sync(self.file)
    }
}
