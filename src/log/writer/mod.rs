//! One open writer: the threads around the state machine in `core`.
//!
//! Callers carry out the writes themselves, one of each group; two housekeepers prepare segments, seals, cleans,
//! and write a mark when the log falls silent.

mod core;
mod group;
mod large;
#[cfg(all(test, loom))]
mod models;
mod pool;
pub(crate) mod segments;
#[cfg(any(test, feature = "simulation"))]
pub mod simulation;
mod staging;

use std::{
    cell::Cell,
    io::IoSlice,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::BytesMut;
use uuid::Uuid;

pub(crate) use self::core::{Config, Tuning, Unsealed};
use self::{
    core::{Core, Fate, Lone, Op, Outcome, Reserved, Worker, Written, address},
    group::{Group, LoneGroup, Placed, PlacedFrame, Seat, Stamp},
    large::{Target, write_large},
    pool::Pool,
    segments::Segments,
    staging::Staging,
};
use super::{
    RecordSource, Slice, analysis::is_simulated, collect::Remains, creation_time, read::Reader,
    recover::Recovered, threshold::Thresholds, wall_clock,
};
use crate::{
    awake::processors,
    codec::{Coder, Key},
    commit::Commit,
    error::{Error, Result},
    format::{Coded, GROUP_HEADER, Place, SegmentHeader, UNPADDED},
    handle::RecordHandle,
    metrics::{Metrics, Sized, add},
    options::{Durability, Options},
    planted::planted,
    storage::{Barrier, Claim, Home, SegmentWrite, Storage, Which},
    sync,
    turnstile::{TURN, Turnstile},
};

/// Deleting takes as long as the file system likes; meanwhile the next segment is prepared.
const HOUSEKEEPERS: usize = 2;
/// Where no barriers are asked for, sealing is what writes a segment to the device, as fast as it can. What is cleaned before
/// this time need not go there at all, and what is left the kernel writes back as it likes.
const SEAL_AFTER: Duration = Duration::from_secs(10);
/// Beyond this it begins at once. A close waits for these bytes; whoever opens the log after a kill reads them, and remembers
/// their groups (120 bytes each); and each segment is an open file.
const MOST_UNSEALED: Unsealed = Unsealed { bytes: 1 << 30, groups: 500_000, segments: 64 };
/// What simulations take for the machine's processors.
const SIMULATED_PROCESSORS: u32 = 4;

/// A log that is open for writing. Shared by all instances in the process.
#[derive(Debug)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
    housekeepers: Mutex<Vec<sync::Thread>>,
    temporary: bool,
}

#[derive(Debug)]
struct Shared {
    commit: Commit<Core>,
    home: Arc<dyn Home>,
    reader: Arc<Reader>,
    storage: Arc<dyn Storage>,
    which: Which,
    id: Identity,
    block: u32,
    align: u32,
    durable: bool,
    /// Where writes wait for no device, and for processors.
    turnstile: Option<Turnstile>,
    metrics: &'static Metrics,
    lanes: usize,
    staging: Staging,
    /// What is done to records before they are written.
    coder: Coder,
    write_timeout: Duration,
    reserve_wanted: bool,
    /// Whether these failures were already told.
    prepare_told: AtomicBool,
    reserve_told: AtomicBool,
    /// What is known of other writers that are gone.
    remains: Remains,
    /// Given back when the writer is closed.
    claim: Mutex<Option<Arc<dyn Claim>>>,
    /// When it was last looked at beside writes, by [`sync::seconds`].
    claim_looked: AtomicU64,
}

/// What a writer stamps on its segments.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity {
    pub(crate) log: Uuid,
    pub(crate) writer: Uuid,
    generation: u64,
    epoch: u64,
}

impl Writer {
    /// Begins to write after what recovery found. `prepare`: keep segments ready ahead of need; without it, the writer
    /// is for a single record.
    pub(crate) fn start(
        options: &Options,
        (home, reader): (Arc<dyn Home>, Arc<Reader>),
        which: Which,
        ids: (Uuid, Uuid),
        claim: Box<dyn Claim>,
        recovered: Recovered,
        prepare: bool,
    ) -> Result<Writer> {
        let shared = Arc::new(Self::assemble(options, (home, reader), which, ids, claim, recovered, prepare));
        let writer = Writer { shared, housekeepers: Mutex::default(), temporary: !prepare };
        for i in 0..if prepare { HOUSEKEEPERS } else { 0 } {
            let worker = writer.shared.clone();
            let spawned = sync::spawn(format!("ferrowal-keeper-{i}"), move || worker.keep_house())
                // What was begun is closed again on the way out.
                .map_err(|e| Error::io("start a thread for", writer.shared.storage.place(), e))?;
            writer.housekeepers.lock().unwrap_or_else(PoisonError::into_inner).push(spawned);
        }
        Ok(writer)
    }

    /// Everything but the thread.
    fn assemble(
        options: &Options,
        (home, reader): (Arc<dyn Home>, Arc<Reader>),
        which: Which,
        ids: (Uuid, Uuid),
        claim: Box<dyn Claim>,
        recovered: Recovered,
        prepare: bool,
    ) -> Shared {
        let storage = home.storage(which);
        let traits = storage.traits();
        let driver = which == Which::Driver;
        let durable = options.durability == Durability::Device;
        // One seed is one run of a simulation, on any machine.
        let processors = if is_simulated() { SIMULATED_PROCESSORS } else { processors() };
        // What no barrier follows is written again and again by the kernel as it likes: padding would gain nothing.
        let align = if durable { traits.pad } else { UNPADDED };
        let metrics = Metrics::of(options.role);
        let config = Config {
            place: storage.place(),
            block: traits.block,
            align,
            in_flight: traits.in_flight,
            groups: traits.groups,
            most_group: traits.most_group,
            deferred: traits.deferred,
            fenced: traits.fenced,
            preallocated: traits.preallocated,
            marks: traits.idle_mark,
            group_linger: if traits.deferred { options.group_linger } else { Duration::ZERO },
            durable,
            segment_size: options.segment_size,
            rolling_interval: options.rolling_interval,
            max_failures: options.max_failures,
            write_timeout: options.write_timeout,
            idle_mark: options.idle_mark,
            seal_after: if durable { Duration::ZERO } else { SEAL_AFTER.min(options.rolling_interval) },
            most_unsealed: if durable { Unsealed::default() } else { MOST_UNSEALED },
            collect_every: (!driver).then_some(traits.collect_every),
            reserve: driver && prepare && traits.reserve,
            prepare,
            spin: options.spin,
            tuning: if traits.preallocated && durable {
                Tuning::for_processors(processors)
            } else {
                Tuning::OTHERWISE
            },
            metrics,
        };
        let (log, writer) = ids;
        let id = Identity { log, writer, generation: recovered.generation, epoch: recovered.epoch };
        let segments = Segments::new(log, writer, recovered.segments, recovered.next_id, recovered.low_water);
        let thresholds = Thresholds::new(options.clean_grace, recovered.threshold);
        let mut core =
            Core::new(config, Pool::new(options.memory, metrics), segments, recovered.sequence, thresholds);
        if let Some((id, write)) = recovered.ready {
            core.begin_with(id, write);
        }
        Shared {
            commit: Commit::new(core),
            home,
            reader,
            storage,
            which,
            id,
            block: traits.block,
            align,
            durable,
            turnstile: (!durable && traits.in_flight > 1).then(|| Turnstile::new(processors, TURN)),
            metrics,
            lanes: traits.lanes,
            staging: Staging::new(durable && traits.past_the_cache),
            coder: Coder::new(options),
            write_timeout: options.write_timeout,
            reserve_wanted: driver && traits.reserve,
            prepare_told: AtomicBool::new(false),
            reserve_told: AtomicBool::new(false),
            remains: Remains::default(),
            claim: Mutex::new(Some(Arc::from(claim))),
            claim_looked: AtomicU64::new(sync::seconds()),
        }
    }

    /// Whether this writer was opened for a record that came after the close.
    pub(crate) fn is_temporary(&self) -> bool {
        self.temporary
    }

    /// Whose segments it writes.
    pub(crate) fn which(&self) -> Which {
        self.shared.which
    }

    pub(crate) fn identity(&self) -> Identity {
        self.shared.id
    }

    /// Appends one record; durable on return.
    pub(crate) fn append(&self, source: &mut dyn RecordSource, time: i64) -> Result<RecordHandle> {
        let length = source.len();
        let length =
            u32::try_from(length).ok().filter(|l| *l <= RecordHandle::MAX_LENGTH).ok_or_else(|| {
                Error::Config(format!("a record of {length} bytes is over the limit of 2^31-1"))
            })?;
        let prepared = self.shared.coder.prepare(source, length)?;
        let coded = prepared.coded;
        let mut packed;
        let source: &mut dyn RecordSource = match &prepared.packed {
            Some(bytes) => {
                packed = Slice(bytes.bytes());
                &mut packed
            }
            None => source,
        };
        let _pass = self.shared.turnstile.as_ref().map(Turnstile::enter);
        let mut alone = Alone::Not;
        if !self.shared.durable && coded.length <= LoneGroup::MOST && !coded.codec.sealed {
            alone = self.shared.append_alone(coded, source, time)?;
        }
        if let Alone::Acknowledged(handle) = alone {
            return Ok(handle);
        }
        let (mut deadline, mut place) = (None, None);
        // One that was refused after it went alone comes in even while the log is being closed.
        let mut again = alone == Alone::Refused;
        loop {
            // The clock is read under the lock: nobody's time is before that of whoever came first.
            match self.shared.commit.with(|core| {
                let now = sync::now();
                if std::mem::take(&mut again) {
                    core.rejoin(now, coded.length, time)
                } else {
                    core.reserve_in_line(now, coded.length, time, place.as_ref())
                }
            })? {
                Reserved::Seat(seat, seen, look) => {
                    return self.shared.append_seat(seat, (!look).then_some(seen), coded, source);
                }
                Reserved::Large(group, buffers) => {
                    return self.shared.append_large(&group, buffers, coded, source);
                }
                Reserved::Wait(gate, seen) => {
                    // From here on: most never wait, and need no look at the clock.
                    let now = sync::now();
                    let deadline = *deadline.get_or_insert(now + self.shared.write_timeout);
                    if now >= deadline {
                        self.shared.commit.with(|core| core.leave_line(&gate));
                        return Err(Error::Timeout {
                            waited: self.shared.write_timeout,
                            detail: "all memory for records on their way to the device is taken (spark.ferrowal.memory)".into(),
                        });
                    }
                    gate.wait(seen, Some(deadline));
                    place = Some(gate);
                }
            }
        }
    }

    /// Looks whether others are still kept out of what it writes to.
    pub(crate) fn check_claim(&self) -> Result<()> {
        self.shared.check_claim()
    }

    /// Drops what lies below the threshold; returns at once unless `wait`.
    pub(crate) fn clean(&self, threshold: i64, wait: bool) -> Result<()> {
        let gate = self.shared.commit.with(|core| core.clean(threshold, wait));
        if !wait {
            return Ok(());
        }
        gate.await_open();
        self.shared.commit.with(|core| core.take_clean_error(&gate)).map_or(Ok(()), Err)
    }

    /// Every group with a smaller sequence is acknowledged.
    pub(crate) fn acked(&self) -> u64 {
        self.shared.commit.with(|core| core.acked())
    }

    /// The effective clean threshold.
    pub(crate) fn threshold(&self) -> i64 {
        self.shared.commit.with(|core| core.threshold())
    }

    #[cfg(test)]
    pub(crate) fn waiting(&self) -> (usize, usize) {
        self.shared.commit.with(|core| core.waiting())
    }

    /// Segments below this number were cleaned.
    pub(crate) fn low_water(&self) -> u64 {
        self.shared.commit.with(|core| core.low_water())
    }

    /// Waits for every write, seals, and lets go of everything. Later calls find nothing to do.
    pub(crate) fn close(&self) {
        let shared = &self.shared;
        shared.commit.with(Core::begin_close);
        let drained = shared.commit.with(|core| core.drained.clone());
        shared.commit.drive(Worker::Closer, &drained, |op| shared.carry_out(op));
        let threads = std::mem::take(&mut *self.housekeepers.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if !thread.join() {
                log::error!("{}: a housekeeper of the log panicked", shared.storage.place());
            }
        }
        // Once: without the claim what is there is another's.
        let Some(claim) = shared.claim.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let spares = claim.check().and_then(|()| shared.storage.drop_spares());
        shared.say(&spares);
        drop(claim);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

/// How it went for a record that may go by itself.
#[derive(Debug, PartialEq, Eq)]
enum Alone {
    Acknowledged(RecordHandle),
    /// Others were before it.
    Not,
    /// It was not written, and goes with others.
    Refused,
}

/// Makes others look for work when a caller leaves without having looked.
struct Successor<'a>(&'a Shared);

impl Drop for Successor<'_> {
    fn drop(&mut self) {
        self.0.commit.with(Core::look_again);
    }
}

impl Shared {
    fn keep_house(&self) {
        let gate = self.commit.with(|core| core.housekeeper.clone());
        self.commit.drive(Worker::Housekeeper, &gate, |op| self.carry_out(op));
    }

    /// Writes a record by itself, if nobody waits; otherwise it goes with others.
    fn append_alone(&self, coded: Coded, source: &mut dyn RecordSource, time: i64) -> Result<Alone> {
        let mut room = ROOM.try_with(Cell::take).unwrap_or_default();
        room.resize(LoneGroup::ROOM, 0);
        let result = LoneGroup::stage(&mut room, source, coded, time).map(|group| self.write_alone(group));
        let _gone = ROOM.try_with(|spare| spare.set(room));
        result
    }

    fn write_alone(&self, group: LoneGroup<'_>) -> Alone {
        let (length, raw, time) = group.sizes();
        let Some(Lone { stamp, segment, ticket }) =
            self.commit.with(|core| core.go_alone(sync::now(), length, time))
        else {
            return Alone::Not;
        };
        let written = self.commit.guarded(|| {
            let written = self.check_claim_at_times().and_then(|()| group.write(segment.as_ref(), &stamp));
            self.say(&written);
            written
        });
        let crc = written.as_ref().map_or(0, |(crc, ..)| *crc);
        let outcome = Outcome::Written {
            sequence: stamp.sequence,
            result: written.map(|(_, placed, written)| (placed, written)),
        };
        let mut fate =
            self.commit.finish(Worker::Lone, outcome, |core| core.fate(ticket), |op| self.carry_out(op));
        loop {
            match fate {
                Fate::Acknowledged => {
                    let frame =
                        PlacedFrame { place: stamp.place, offset: stamp.offset + GROUP_HEADER as u64, crc };
                    return Alone::Acknowledged(self.handle_of(frame, raw));
                }
                Fate::Waits(gate, seen) => gate.wait(seen, None),
                Fate::Refused => return Alone::Refused,
            }
            fate = self.commit.with(|core| core.fate(ticket));
        }
    }

    fn append_seat(
        &self,
        seat: Seat,
        idle: Option<u32>,
        coded: Coded,
        source: &mut dyn RecordSource,
    ) -> Result<RecordHandle> {
        // Others may rely on this caller to look for work; if its copy fails, or panics, one of them must.
        let successor = Successor(self);
        let (group, index) = seat.fill(source, coded, &self.staging)?;
        std::mem::forget(successor);
        let worker = Worker::Member(address(&group));
        self.commit.drive_after(worker, &group.gate, idle, |op| self.carry_out(op));
        self.handle(&group, index, coded.raw)
    }

    fn append_large(
        &self,
        group: &sync::Arc<Group>,
        mut buffers: [BytesMut; 2],
        coded: Coded,
        source: &mut dyn RecordSource,
    ) -> Result<RecordHandle> {
        let Some(large) = group.large else { return Err(Error::Internal("not a large record".into())) };
        let mut failure = None;
        self.commit.drive(Worker::Member(address(group)), &group.gate, |op| match op {
            Op::Write { group: theirs, segment, stamp, barrier } if sync::Arc::ptr_eq(&theirs, group) => {
                let (segment, lanes) = (segment.as_ref(), self.lanes);
                let key = self.coder.key();
                let (stamp, staging, align) = (&stamp, &self.staging, self.align);
                let target = Target { segment, stamp, barrier, align, coded, key, lanes, staging };
                let result = self
                    .check_claim_at_times()
                    .and_then(|()| write_large(&target, large, &mut buffers, source));
                self.say(&result);
                let result = result.map(|large| {
                    failure = large.failure;
                    group.note_frame(large.frame);
                    (large.placed, large.written)
                });
                Outcome::Written { sequence: stamp.sequence, result }
            }
            op => self.carry_out(op),
        });
        self.commit.with(|core| core.give_back(buffers));
        if let Some(error) = failure {
            return Err(error);
        }
        self.handle(group, 0, coded.raw)
    }

    fn handle(&self, group: &Group, index: usize, length: u32) -> Result<RecordHandle> {
        Ok(self.handle_of(group.answered(index)?, length))
    }

    fn handle_of(&self, placed: PlacedFrame, length: u32) -> RecordHandle {
        RecordHandle {
            log: placed.place.log,
            writer: placed.place.writer,
            segment: placed.place.segment,
            offset: placed.offset,
            length,
            crc: placed.crc,
            version: self.coder.coding().version(),
        }
    }

    /// Before anything is done to a file by its name: in a directory that is another one now it may be another log's.
    fn check_claim(&self) -> Result<()> {
        // Not under the lock: a file system may hang.
        let claim = self.claim.lock().unwrap_or_else(PoisonError::into_inner).clone();
        claim.map_or(Ok(()), |claim| claim.check())
    }

    /// The same beside writes, now and then: what is written while others are not kept out is lost to whoever opens the log
    /// meanwhile. To look takes a microsecond or two.
    fn check_claim_at_times(&self) -> Result<()> {
        if is_simulated() {
            return Ok(());
        }
        let now = sync::seconds();
        if self.claim_looked.load(Ordering::Relaxed) == now {
            return Ok(());
        }
        self.claim_looked.store(now, Ordering::Relaxed);
        self.check_claim().inspect_err(|_| {
            // What is sent again may find a segment that was made before, and must not go there either.
            self.claim_looked.store(u64::MAX, Ordering::Relaxed);
        })
    }

    /// Carries out one operation. Failures go back to the machine, which decides; here they are only told.
    fn carry_out(&self, op: Op) -> Outcome {
        match op {
            Op::Write { group, segment, stamp, barrier } => {
                let sequence = stamp.sequence;
                let result = self
                    .check_claim_at_times()
                    .and_then(|()| write_group(segment.as_ref(), &group, &stamp, barrier, self.coder.key()));
                self.say(&result);
                Outcome::Written { sequence, result }
            }
            Op::Create { id, space, past } => {
                let place = Place { log: self.id.log, writer: self.id.writer, segment: id };
                let header = SegmentHeader::new(
                    &place,
                    self.id.generation,
                    self.id.epoch,
                    creation_time(),
                    self.align,
                    past,
                )
                .coded(self.coder.coding());
                let header = |recycled| header.recycled(recycled).encode();
                let began = Instant::now();
                let result = self.check_claim().and_then(|()| self.storage.create(id, space, &header));
                if !space.urgent {
                    self.metrics.time(Sized::Prepare, began.elapsed());
                    add(&self.metrics.prepare_failures, u64::from(result.is_err()));
                    self.say_once(
                        &self.prepare_told,
                        &result,
                        "cannot prepare a segment ahead of need; the log goes on",
                    );
                }
                Outcome::Created { id, urgent: space.urgent, result }
            }
            Op::Seal { place, mut footer, at, segment } => {
                footer.sealed = wall_clock();
                let bytes = footer.encode(&place, at, self.block);
                let began = Instant::now();
                // A footer says that the groups before it are durable. Without barriers they are not yet, and a power cut while
                // both are written might keep the footer alone. By the file that they were written to: the kernel tells it of
                // everything that failed since.
                let unsynced = segment.filter(|_| !self.durable && !planted!(SealUnsynced));
                let synced = unsynced.map_or(Ok(()), |s| s.write(0, &mut [], Barrier::Yes));
                self.say(&synced);
                let ours = synced.and_then(|()| {
                    let ours = self.check_claim();
                    self.say(&ours);
                    ours
                });
                let result = ours.and_then(|()| {
                    let sealed = self.storage.seal(place.segment, at, &bytes);
                    if let Err(e) = &sealed {
                        log::warn!("a segment stays without a footer; nothing in it is affected: {e}");
                    }
                    sealed
                });
                self.metrics.time(Sized::Seal, began.elapsed());
                Outcome::Sealed { id: place.segment, result }
            }
            Op::Sync { segment, id, low_water, threshold } => {
                let result = segment.write(0, &mut [], Barrier::Yes);
                self.say(&result);
                Outcome::Synced { id, low_water, threshold, result }
            }
            Op::Delete { ids, tainted, open } => {
                drop(open);
                // In order, oldest first.
                let mut runs = ids.chunk_by(|a, b| tainted.contains(a) == tainted.contains(b));
                let result = self.check_claim().and_then(|()| {
                    runs.try_for_each(|run| match run.first().is_some_and(|id| tainted.contains(id)) {
                        true => self.storage.discard(run),
                        false => self.storage.delete(run),
                    })
                });
                // A file that a reader holds open keeps its space.
                self.reader.let_go_of(&ids);
                self.say(&result);
                Outcome::Deleted { ids, result }
            }
            Op::Collect { threshold } => {
                let result = self.check_claim().and_then(|()| match self.which {
                    Which::Receiver(own) => {
                        self.remains.collect(self.home.as_ref(), self.id.log, own, threshold)
                    }
                    Which::Driver => Ok(()),
                });
                self.say(&result);
                Outcome::Collected { result }
            }
            Op::Reserve => {
                let keep = || if self.reserve_wanted { self.storage.keep_reserve() } else { Ok(()) };
                let result = self.check_claim().and_then(|()| keep());
                self.say_once(&self.reserve_told, &result, "cannot keep space in reserve for a full volume");
                Outcome::Reserved { result }
            }
        }
    }

    /// Tells of a failure that comes again and again only when it begins.
    fn say_once<T>(&self, told: &AtomicBool, result: &Result<T>, what: &str) {
        let failed = result.is_err();
        if let (Err(e), false) = (result, told.swap(failed, Ordering::Relaxed)) {
            log::warn!("{what}: {e}");
        }
    }

    fn say<T>(&self, result: &Result<T>) {
        if let Err(e) = result {
            log::warn!("{}: {e}", self.storage.place());
        }
    }
}

thread_local! {
    /// Where this thread's records are staged that go by themselves.
    static ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Encodes a group for its place and makes it durable.
fn write_group(
    segment: &dyn SegmentWrite,
    group: &Group,
    stamp: &Stamp,
    barrier: Barrier,
    key: Option<&Key>,
) -> Result<(Placed, Written)> {
    group.copies.await_all();
    let mut bytes = group.take_bytes();
    let placed = match bytes.encode(stamp, key) {
        Ok(placed) => placed,
        Err(e) => {
            group.put_bytes(bytes);
            return Err(e);
        }
    };
    let barrier = if planted!(AcknowledgeBeforeBarrier) { Barrier::No } else { barrier };
    let written = segment.write(stamp.offset, &mut [IoSlice::new(bytes.encoded(stamp.footprint))], barrier);
    group.put_bytes(bytes);
    written.map(|()| placed)
}
