//! Simulated storage: what a power cut leaves of what was written and not yet synced.
//!
//! Every file has a live and a durable image. A crash keeps an arbitrary subset of the sectors that were written since
//! the last barrier, and an arbitrary subset of the directory's changes since it was synced; the operation that was going
//! on is done in part. Any operation can fail, before or after it was done; a failed barrier marks its pages clean
//! without having written them (what Linux does). Everything is decided by one seed.

mod disk;

use std::{
    io::IoSlice,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::io::Errno;
use uuid::Uuid;

pub use self::disk::Faults;
pub(crate) use self::disk::{Counts, Random};
use self::disk::{Key, State, failure};
use super::{Barrier, Claim, Header, Home, Listed, SegmentRead, SegmentWrite, Space, Storage, Traits, Which};
use crate::error::{Error, Result};

/// One simulated machine with one application's directory, as one of its processes sees it.
#[derive(Clone)]
pub(crate) struct World {
    state: Arc<Mutex<State>>,
    log: Uuid,
    life: u64,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "World(life {})", self.life)
    }
}

impl World {
    pub(crate) fn new(seed: u64, in_flight: usize) -> World {
        let mut random = Random::new(seed);
        let log = Uuid::from_u64_pair(random.next(), random.next());
        let state = State {
            random,
            files: Vec::new(),
            dirs: Default::default(),
            removed: Default::default(),
            owners: Default::default(),
            faults: Faults::default(),
            counts: Counts::default(),
            in_flight,
            cached: false,
            made: false,
            power: None,
            life: 0,
            kept: Vec::new(),
            destroyed: Vec::new(),
        };
        World { state: Arc::new(Mutex::new(state)), log, life: 0 }
    }

    /// The same for logs without barriers: what is in flight goes to the page cache.
    pub(crate) fn cached(self) -> World {
        self.lock().cached = true;
        self
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn log(&self) -> Uuid {
        self.log
    }

    /// What is decided from here on follows from this seed.
    pub(crate) fn reseed(&self, seed: u64) {
        self.lock().random = Random::new(seed);
    }

    /// Gives the faults of before.
    pub(crate) fn set_faults(&self, faults: Faults) -> Faults {
        std::mem::replace(&mut self.lock().faults, faults)
    }

    /// The power goes in the middle of the operation after this many.
    pub(crate) fn cut_power_after(&self, operations: u64) {
        self.lock().power = Some(operations + 1);
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

    /// Whether anything is not yet durable.
    pub(crate) fn is_dirty(&self) -> bool {
        self.lock().is_dirty()
    }

    /// What was destroyed without a copy, if anything was.
    pub(crate) fn destroyed(&self) -> Option<String> {
        self.lock().destroyed.first().cloned()
    }

    /// The machine starts again with what became durable, and with whatever else chance kept. Processes of before are
    /// refused whatever they still want to change.
    pub(crate) fn restart(&mut self) {
        let mut state = self.lock();
        state.end_life();
        state.lose_cache();
        let life = state.life;
        drop(state);
        self.life = life;
    }

    /// Another process takes over; what the one before wrote is still in the cache.
    pub(crate) fn take_over(&mut self) {
        let mut state = self.lock();
        state.end_life();
        let life = state.life;
        drop(state);
        self.life = life;
    }

    /// A copy of the whole machine, which goes its own way.
    pub(crate) fn fork(&self) -> World {
        let mut copy = self.lock().clone();
        copy.end_life();
        let life = copy.life;
        World { state: Arc::new(Mutex::new(copy)), log: self.log, life }
    }

    /// Changes the bytes of a segment behind everybody's back, as rot does.
    pub(crate) fn rot(&self, which: Which, id: u64, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut state = self.lock();
        let Ok(file) = state.file(key(which), id) else { return false };
        let f = &mut state.files[file];
        change(&mut f.live);
        f.durable.clone_from(&f.live);
        f.dirty.clear();
        f.length_dirty = false;
        true
    }
}

fn key(which: Which) -> Key {
    match which {
        Which::Driver => None,
        Which::Receiver(uuid) => Some(uuid),
    }
}

/// Given back when dropped, unless its life is over.
#[derive(Debug)]
struct SimClaim(World, Key);

impl Claim for SimClaim {}

impl Drop for SimClaim {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if state.owners.get(&self.1) == Some(&self.0.life) {
            state.owners.remove(&self.1);
        }
    }
}

impl Home for World {
    fn place(&self) -> String {
        "simulated".into()
    }
    fn check(&self) -> Result<()> {
        Ok(())
    }
    fn log_id(&self) -> Result<Option<Uuid>> {
        Ok(self.lock().made.then_some(self.log))
    }
    fn make_log_id(&self) -> Result<Uuid> {
        self.lock().made = true;
        Ok(self.log)
    }
    fn small_file(&self, _: &str) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }
    fn writers(&self) -> Result<Vec<Uuid>> {
        let mut state = self.lock();
        state.check_read()?;
        Ok(state.dirs.keys().filter_map(|k| *k).collect())
    }
    fn storage(&self, which: Which) -> Arc<dyn Storage> {
        Arc::new(SimStorage { world: self.clone(), key: key(which) })
    }
    fn claim(&self, which: Which, _: Duration) -> Result<Box<dyn Claim>> {
        self.claim_gone(which)?.ok_or_else(|| Error::Locked {
            place: "simulated".into(),
            owner: "somebody who lives".into(),
            waited: Duration::ZERO,
        })
    }
    fn await_unclaimed(&self, _: Which, _: Duration) -> Result<()> {
        Ok(())
    }
    fn claim_gone(&self, which: Which) -> Result<Option<Box<dyn Claim>>> {
        let mut state = self.lock();
        state.fence(self.life)?;
        let key = key(which);
        if state.owners.contains_key(&key) {
            return Ok(None);
        }
        state.owners.insert(key, self.life);
        state.dir(key);
        drop(state);
        Ok(Some(Box::new(SimClaim(self.clone(), key))))
    }
    fn note_removed(&self, writer: Uuid) -> Result<()> {
        let mut state = self.lock();
        state.fence(self.life)?;
        if state.tick()? {
            return failure("note", Errno::IO);
        }
        state.removed.insert(writer);
        Ok(())
    }
    fn remove_writer(&self, writer: Uuid, claim: Box<dyn Claim>) -> Result<()> {
        let mut state = self.lock();
        state.fence(self.life)?;
        if state.tick()? || state.dirs.get(&Some(writer)).is_some_and(|d| !d.live.is_empty()) {
            return failure("remove", Errno::NOTEMPTY);
        }
        state.dirs.remove(&Some(writer));
        state.counts.collected += 1;
        drop(state);
        drop(claim);
        Ok(())
    }
    fn was_removed(&self, writer: Uuid) -> Result<bool> {
        Ok(self.lock().removed.contains(&writer))
    }
    fn quarantine(&self, label: &str, bytes: &mut dyn Iterator<Item = Result<Vec<u8>>>) -> Result<String> {
        for piece in bytes {
            piece?;
        }
        let mut state = self.lock();
        state.fence(self.life)?;
        if state.tick()? {
            return failure("keep", Errno::IO);
        }
        let mut parts = label.rsplit('-');
        let mut number = || parts.next().and_then(|p| p.parse::<u64>().ok()).unwrap_or(0);
        let (to, from) = (number(), number());
        parts.next();
        let id = parts.next().and_then(|p| p.parse::<u64>().ok()).unwrap_or(0);
        let name = label.split("-segment-").next().unwrap_or_default().to_owned();
        state.kept.push((name, id, from, to));
        state.counts.quarantined += 1;
        Ok("kept".into())
    }
}

#[derive(Debug)]
struct SimStorage {
    world: World,
    key: Key,
}

impl SimStorage {
    /// The machine's state, for an operation that changes something.
    fn change(&self) -> Result<MutexGuard<'_, State>> {
        let mut state = self.world.lock();
        state.fence(self.world.life)?;
        Ok(state)
    }
}

impl Storage for SimStorage {
    fn traits(&self) -> Traits {
        // So that records are staged in every way.
        Traits { past_the_cache: true, ..Traits::local(4096, self.world.lock().in_flight) }
    }

    fn place(&self) -> String {
        "simulated".into()
    }

    fn list(&self) -> Result<Vec<Listed>> {
        let mut state = self.world.lock();
        state.check_read()?;
        let Some(dir) = state.dirs.get(&self.key) else { return Ok(Vec::new()) };
        let length = |file: &usize| state.files[*file].live.len() as u64;
        Ok(dir.live.iter().map(|(id, file)| Listed { id: *id, length: length(file) }).collect())
    }

    fn create(&self, id: u64, space: Space, header: &Header<'_>) -> Result<Box<dyn SegmentWrite>> {
        let (file, size) = self.change()?.create(self.key, id, space, header)?;
        Ok(Box::new(SimSegment { world: self.world.clone(), file, size }))
    }

    fn open(&self, id: u64) -> Result<Arc<dyn SegmentRead>> {
        let mut state = self.world.lock();
        state.check_read()?;
        let file = state.file(self.key, id)?;
        let size = state.files[file].live.len() as u64;
        drop(state);
        Ok(Arc::new(SimSegment { world: self.world.clone(), file, size }))
    }

    fn seal(&self, id: u64, at: u64, footer: &[u8]) -> Result<()> {
        self.change()?.seal(self.key, id, at, footer)
    }

    fn delete(&self, ids: &[u64]) -> Result<()> {
        self.change()?.delete(self.key, ids)
    }

    fn drop_spares(&self) -> Result<()> {
        self.change()?.drop_spares(self.key);
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
    size: u64,
}

impl SegmentWrite for SimSegment {
    fn size(&self) -> u64 {
        self.size
    }

    fn write(&self, offset: u64, bytes: &mut [IoSlice<'_>], barrier: Barrier) -> Result<()> {
        let all: Vec<u8> = bytes.iter().flat_map(|b| b.iter().copied()).collect();
        let mut state = self.world.lock();
        state.fence(self.world.life)?;
        if state.in_flight > 1 && !state.cached && !all.is_empty() {
            return state.write_durably(self.file, offset, &all);
        }
        if !all.is_empty() {
            state.write(self.file, offset, &all)?;
        }
        if barrier == Barrier::Yes { state.sync(self.file) } else { Ok(()) }
    }
}

impl SegmentRead for SimSegment {
    fn size(&self) -> Result<u64> {
        Ok(self.world.lock().files[self.file].live.len() as u64)
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Result<usize> {
        let mut state = self.world.lock();
        state.check_read()?;
        let live = &state.files[self.file].live;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(live.len());
        let n = into.len().min(live.len() - from);
        into[..n].copy_from_slice(&live[from..from + n]);
        Ok(n)
    }

    fn read_two(&self, offset: u64, head: &mut [u8], body: &mut [u8]) -> Result<usize> {
        let n = self.read(offset, head)?;
        Ok(n + self.read(offset + n as u64, body)?)
    }

    fn settle(&self) -> Result<()> {
        let mut state = self.world.lock();
        state.fence(self.world.life)?;
        state.settle(self.file)
    }
}
