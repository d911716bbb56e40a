//! The writer as a state machine: which group goes where, in which order, and what happens when a write fails.
//!
//! It does no I/O, starts no thread and reads no clock: workers ask for the next operation ([`Machine::step`]), carry it
//! out without the lock, and say how it went ([`Machine::done`]). A simulator can drive it from one thread.
//!
//! Rules, each for the sake of an invariant of `docs/design.md`:
//! * a group is answered when it and every group with a smaller sequence are durable;
//! * the first failure in a segment ends that segment; the groups not yet answered are sent again, in order and with
//!   the same sequences, to a fresh one, whose first group makes what they left behind void;
//! * after `max_failures` attempts, or the write timeout, their members get the error, and the next group takes over
//!   the first of their sequences;
//! * a full volume is waited for, in bounded time, since `clean` may free space.

mod answering;
mod chores;
mod cleaning;
mod gathering;
mod lone;
mod memory;
mod placing;
#[cfg(all(test, not(loom)))]
mod tests;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::BytesMut;

pub(crate) use self::{
    gathering::Tuning,
    lone::{Fate, Lone},
};
use self::{
    gathering::{Gathering, Verdict},
    memory::Hungry,
};
use super::{
    group::{Filling, Group, Placed, Seat, Spent, Stamp, large},
    pool::Pool,
    segments::Segments,
};
use crate::{
    commit::{Gate, Machine, Manner, Step, Wake},
    error::{Error, Result},
    format::{Footer, FrameHeader, GROUP_HEADER, GroupHeader, Past, Place},
    log::threshold::Thresholds,
    metrics::{Metrics, Share, add, micros},
    storage::{Barrier, Poisoned, SegmentWrite, Space},
    sync::Arc,
};

/// How often a full volume is tried again; `clean` cuts it short.
const FULL_RETRY: Duration = Duration::from_millis(100);
/// Pause after a failed attempt, times the number of failures so far.
const FAILURE_PAUSE: Duration = Duration::from_millis(20);
/// Blocks of every segment that only marks may take: on a full volume nothing can be freed before one is written.
const MARK_ROOM: u64 = 4;
/// How long a failed preparation in the background is left alone.
const PREPARE_RETRY: Duration = Duration::from_secs(1);

/// What stays the same while a writer is open.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) place: String,
    /// Bytes of header and footer, and of a mark at most.
    pub(crate) block: u32,
    /// What groups are padded to.
    pub(crate) align: u32,
    pub(crate) in_flight: usize,
    /// Groups that a segment takes, and their bytes at most.
    pub(crate) groups: u32,
    pub(crate) most_group: u64,
    /// Whether a segment comes into being with its first group only.
    pub(crate) deferred: bool,
    /// Whether ids keep older writers out: then none may be left out.
    pub(crate) fenced: bool,
    /// Whether a segment has its size from the beginning.
    pub(crate) preallocated: bool,
    /// Whether a group without records follows after a silence.
    pub(crate) marks: bool,
    /// How long a group waits for more records.
    pub(crate) group_linger: Duration,
    /// Whether every group has a barrier; otherwise none has, and segments are synced ([`Op::Sync`], and before a footer).
    pub(crate) durable: bool,
    pub(crate) segment_size: u64,
    pub(crate) rolling_interval: Duration,
    pub(crate) max_failures: u32,
    pub(crate) write_timeout: Duration,
    pub(crate) idle_mark: Duration,
    /// How long a segment that is full stays without a footer, which makes it durable, and how many bytes may at most.
    pub(crate) seal_after: Duration,
    pub(crate) most_unsealed: Unsealed,
    pub(crate) collect_every: Option<Duration>,
    pub(crate) reserve: bool,
    /// Segments are prepared ahead of need, by a housekeeper. Without: one segment of just the size needed.
    pub(crate) prepare: bool,
    /// Whether those who wait may keep their processors awake.
    pub(crate) spin: bool,
    /// When groups go, and how they are waited for.
    pub(crate) tuning: Tuning,
    /// What is counted of this log and others of its role.
    pub(crate) metrics: &'static Metrics,
}

/// What segments that are full and have no footer come to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Unsealed {
    pub(crate) bytes: u64,
    pub(crate) groups: u64,
    pub(crate) segments: u64,
}

/// An operation to be carried out without the lock.
#[derive(Debug)]
pub(crate) enum Op {
    Write {
        group: Arc<Group>,
        segment: Arc<Poisoned>,
        stamp: Stamp,
        barrier: Barrier,
    },
    Create {
        id: u64,
        space: Space,
        past: Past,
    },
    Seal {
        place: Place,
        footer: Footer,
        at: u64,
        /// What was written there, to be synced first where there are no barriers.
        segment: Option<Arc<Poisoned>>,
    },
    /// Makes durable what was written to a segment without a barrier, beside other writes to it.
    Sync {
        segment: Arc<Poisoned>,
        id: u64,
        low_water: u64,
        threshold: i64,
    },
    /// Of these, the tainted ones are not to be used again: writing to them failed.
    Delete {
        ids: Vec<u64>,
        tainted: Vec<u64>,
        /// Files among these that are still open.
        open: Vec<Arc<Poisoned>>,
    },
    Collect {
        threshold: i64,
    },
    Reserve,
}

/// How an operation went.
#[derive(Debug)]
pub(crate) enum Outcome {
    Written { sequence: u64, result: Result<(Placed, Written)> },
    Created { id: u64, urgent: bool, result: Result<Box<dyn SegmentWrite>> },
    Sealed { id: u64, result: Result<()> },
    Synced { id: u64, low_water: u64, threshold: i64, result: Result<()> },
    Deleted { ids: Vec<u64>, result: Result<()> },
    Collected { result: Result<()> },
    Reserved { result: Result<()> },
}

/// Who asks for an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Worker {
    /// A caller that waits for the group at this address.
    Member(usize),
    /// A caller whose record goes by itself.
    Lone,
    Housekeeper,
    /// Whoever closes the writer.
    Closer,
}

/// What a caller gets for a record.
#[derive(Debug)]
pub(crate) enum Reserved {
    /// With what the group's gate was seen like, and whether to look for work before waiting there.
    Seat(Seat, u32, bool),
    /// A group of its own, with two buffers to stage it in.
    Large(Arc<Group>, [BytesMut; 2]),
    /// No memory now: wait at the gate, which was `seen` so, and come again with it ([`Core::reserve_in_line`]), or give the
    /// place up ([`Core::leave_line`]): others wait behind.
    Wait(Arc<Gate>, u32),
}

#[derive(Debug)]
struct Flight {
    whose: Whose,
    segment: Arc<Poisoned>,
    stamp: Stamp,
    submitted: Instant,
    state: FlightState,
}

/// Who waits for a group that is at the device.
#[derive(Debug)]
enum Whose {
    Group(Queued),
    /// The caller of a record that goes by itself: its ticket, and whether it waits for those before it.
    Lone {
        ticket: u64,
        waits: bool,
    },
}

/// What a durable group turned out to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) records: u64,
    /// Payload bytes.
    pub(crate) bytes: u64,
    pub(crate) min_time: i64,
    pub(crate) max_time: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FlightState {
    Writing,
    Durable(Written),
    Failed,
}

/// Groups that are not yet submitted, with what their placement needs.
#[derive(Debug)]
struct Queued {
    group: Arc<Group>,
    frames: u64,
    seats: usize,
    max_time: i64,
    /// When it was begun; not for marks.
    since: Option<Instant>,
}

#[derive(Debug)]
enum Ready {
    None,
    Creating,
    Segment { id: u64, write: Arc<Poisoned> },
}

#[derive(Debug)]
struct Failing {
    count: u32,
    since: Instant,
    retry: Instant,
    error: Error,
}

/// A group without records, for what its header says. It has no members: the housekeeper sees to it.
#[derive(Debug)]
struct Mark {
    queued: Queued,
    /// Whether it lets space be freed: then it may take the room that segments keep for that.
    frees: bool,
    submitted: bool,
}

/// One round of cleaning: make the mark durable, delete, collect, tell who waits.
#[derive(Debug, Default)]
struct Cleaning {
    wanted: Vec<Arc<Gate>>,
    round: Option<Round>,
    again: bool,
    insist: bool,
    last_collected: Option<Instant>,
    /// Rounds that failed, by the gates of those who wait.
    failed: Vec<(Arc<Gate>, Error)>,
}

/// A group that was written without a barrier.
#[derive(Debug)]
struct Unsynced {
    segment: Arc<Poisoned>,
    id: u64,
    low_water: u64,
    threshold: i64,
}

#[derive(Debug)]
struct Round {
    gates: Vec<Arc<Gate>>,
    phase: Phase,
    insist: bool,
    frees: bool,
    /// Whether other writers were looked after already, and how that failed.
    collected: Option<Result<()>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Until a group that carries the new low-water mark is acknowledged.
    Marking,
    /// Until that group, which had no barrier, is durable.
    Syncing,
    Delete,
    Deleting,
    Collect,
    Collecting,
}

/// The state of one open writer.
#[derive(Debug)]
pub(crate) struct Core {
    config: Config,
    pool: Pool,
    spent: Spent,
    /// Those who wait for memory, in order.
    hungry: VecDeque<Hungry>,
    filling: Option<Filling>,
    /// When the group that is filling was begun.
    filling_since: Option<Instant>,
    queue: VecDeque<Queued>,
    flying: VecDeque<Flight>,
    /// The next group's sequence.
    sequence: u64,
    /// Every smaller sequence is durable and answered.
    acked: u64,
    /// The watermark in the last group that was acknowledged.
    covered: u64,
    last_record: u64,
    last_write: Option<Instant>,
    segments: Segments,
    ready: Ready,
    /// Since when writers wait for a segment.
    segment_wanted: Option<Instant>,
    /// When the last segment began to be filled.
    rolled: Option<Instant>,
    /// Since when a group is at the device.
    device_since: Option<Instant>,
    /// Segments that are there, for the metrics.
    live: [Share; 2],
    prepare_after: Option<Instant>,
    reserve_after: Option<Instant>,
    reserve_kept: bool,
    failing: Option<Failing>,
    gathering: Gathering,
    thresholds: Thresholds,
    cleaning: Cleaning,
    /// The last ticket of a record that went by itself, and those that have to go once more, with others.
    ticket: u64,
    refused: Vec<u64>,
    /// Those of them whose callers have not come back yet: a close waits for them.
    returning: usize,
    /// Where those wait whose records are written, but not the ones before.
    order: Arc<Gate>,
    mark: Option<Mark>,
    /// Why the last mark could not be written, for the round of cleaning that waits for it.
    mark_failed: Option<Error>,
    /// What the last acknowledged groups carry.
    durable_low_water: u64,
    durable_threshold: i64,
    /// The last acknowledged group that had no barrier: its segment, low-water mark and threshold.
    unsynced: Option<Unsynced>,
    busy: bool,
    closing: bool,
    fatal: Option<Error>,
    pub(crate) housekeeper: Arc<Gate>,
    pub(crate) drained: Arc<Gate>,
    wakes: Vec<Wake>,
}

impl Core {
    /// A writer that goes on at `sequence` after the segments that recovery found.
    pub(crate) fn new(
        config: Config,
        pool: Pool,
        segments: Segments,
        sequence: u64,
        thresholds: Thresholds,
    ) -> Core {
        let mut live = [&config.metrics.live, &config.metrics.logs].map(Share::new);
        live[1].set(u64::from(config.prepare));
        let gathering = Gathering::new(config.tuning);
        let order = Arc::new(Gate::new(if config.spin { Manner::Yield } else { Manner::Sleep }));
        Core {
            config,
            pool,
            spent: Spent::default(),
            hungry: VecDeque::new(),
            filling: None,
            filling_since: None,
            queue: VecDeque::new(),
            flying: VecDeque::new(),
            sequence,
            acked: sequence,
            covered: 1,
            last_record: 0,
            last_write: None,
            segments,
            ready: Ready::None,
            segment_wanted: None,
            rolled: None,
            device_since: None,
            live,
            prepare_after: None,
            reserve_after: None,
            reserve_kept: false,
            failing: None,
            gathering,
            thresholds,
            cleaning: Cleaning::default(),
            ticket: 0,
            refused: Vec::new(),
            returning: 0,
            order,
            mark: None,
            mark_failed: None,
            durable_low_water: 0,
            durable_threshold: i64::MIN,
            unsynced: None,
            busy: false,
            closing: false,
            fatal: None,
            housekeeper: Arc::default(),
            drained: Arc::default(),
            wakes: Vec::new(),
        }
    }

    /// There is a segment already, for the first group.
    pub(crate) fn begin_with(&mut self, id: u64, write: Box<dyn SegmentWrite>) {
        self.ready = Ready::Segment { id, write: Arc::new(Poisoned::new(write)) };
    }

    /// Every group with a smaller sequence is acknowledged.
    pub(crate) fn acked(&self) -> u64 {
        self.acked
    }

    /// Segments with a smaller number were cleaned.
    pub(crate) fn low_water(&self) -> u64 {
        self.segments.low_water()
    }

    /// What keeps the machine from going on, for a test that fails.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn trouble(&self) -> String {
        format!(
            "failing {:?}, queue {}, flying {}, mark {:?}, filling {}, round {:?}",
            self.failing,
            self.queue.len(),
            self.flying.len(),
            self.mark.as_ref().map(|m| (m.submitted, m.frees)),
            self.filling.is_some(),
            self.cleaning.round
        )
    }

    /// Whether nothing says yet that the last record's group was durable.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn is_uncovered(&self) -> bool {
        self.last_record >= self.covered
    }

    /// Whether somebody waits for a round of cleaning.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn is_cleaning(&self) -> bool {
        self.cleaning.round.is_some() || !self.cleaning.wanted.is_empty()
    }

    /// The clean threshold that is durable.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn durable_threshold(&self) -> i64 {
        self.durable_threshold
    }

    #[cfg(test)]
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let filled = self.filling.as_ref().is_some_and(|f| !f.is_empty() && !f.group().copies.any());
        (self.queue.len() + usize::from(filled), self.cleaning.wanted.len())
    }

    /// The effective clean threshold.
    pub(crate) fn threshold(&self) -> i64 {
        self.thresholds.effective()
    }

    /// Gives a record of `length` bytes a seat; `None` if there is no memory for it, or if it `may` not `take` any before others.
    fn seat(&mut self, now: Instant, length: u32, time: i64, may_take: bool) -> Result<Option<Reserved>> {
        if let Some(error) = &self.fatal {
            return Err(error.clone());
        }
        if self.closing {
            return Err(Error::Closed(self.config.place.clone()));
        }
        if !Filling::can_ever_hold(length) {
            let footprint = GroupHeader::footprint(FrameHeader::footprint(length), self.config.align);
            if footprint > self.config.most_group {
                return Err(Error::Config(format!(
                    "a record of {length} bytes does not fit in one object: {} bytes, headers included, do (spark.ferrowal.object.maxPut)",
                    self.config.most_group
                )));
            }
            return Ok(self.seat_of_large(now, length, time, may_take));
        }
        if self.filling.as_ref().is_some_and(|f| !f.has_room(length)) {
            self.close_filling();
        }
        if self.filling.is_none() {
            let Some(buffer) = may_take.then(|| self.pool.take()).flatten() else { return Ok(None) };
            self.filling =
                Some(Filling::new(buffer, self.gathering.manner(self.config.spin), &mut self.spent));
            self.filling_since = Some(now);
        }
        match &mut self.filling {
            Some(filling) => {
                // Nobody else in it will look for work: those before left without.
                let deserted = filling.is_empty() || filling.group().is_abandoned();
                let seat = filling.reserve(length, time);
                let seen = seat.group.gate.seen();
                // Most need not look: whoever completes a group, or ends what it waits for, will.
                let look = match self.verdict(now) {
                    Verdict::Go => true,
                    // Who opens a group that lingers watches its clock.
                    Verdict::Watch(_) => self.gathering.needs_watcher() || deserted,
                    Verdict::Blocked => false,
                };
                Ok(Some(Reserved::Seat(seat, seen, look)))
            }
            None => Ok(None),
        }
    }

    fn seat_of_large(&mut self, now: Instant, length: u32, time: i64, may_take: bool) -> Option<Reserved> {
        if !may_take || !self.pool.has(2) {
            return None;
        }
        let (first, second) = (self.pool.take()?, self.pool.take()?);
        self.close_filling();
        let manner = if self.config.spin { Manner::Mixed } else { Manner::Sleep };
        let group = large(length, time, manner);
        let frames = FrameHeader::footprint(length);
        self.queue.push_back(Queued {
            group: group.clone(),
            frames,
            seats: 1,
            max_time: time,
            since: Some(now),
        });
        Some(Reserved::Large(group, [first, second]))
    }

    fn close_filling(&mut self) {
        if let Some(filling) = self.filling.take() {
            let (frames, max_time) = (filling.used() - GROUP_HEADER as u64, filling.max_time);
            let seats = filling.seats();
            let since = self.filling_since;
            self.queue.push_back(Queued { group: filling.close(), frames, seats, max_time, since });
            self.gathering.end();
        }
    }

    /// No record is taken from here on; [`Core::drained`] opens when everything is answered, sealed and let go.
    pub(crate) fn begin_close(&mut self) {
        self.closing = true;
        self.feed();
        self.wake_housekeeper();
        self.poke_waiters();
    }

    fn wake_housekeeper(&mut self) {
        self.wakes.push(Wake::Poke(self.housekeeper.clone()));
    }

    /// A caller left without having looked for work.
    pub(crate) fn look_again(&mut self) {
        self.let_go_of_abandoned();
        self.poke_waiters();
    }

    /// Pokes a waiter that can carry on: one of the first group that waits, and the housekeeper for a mark.
    fn poke_waiters(&mut self) {
        // A group whose every seat was abandoned has nobody to poke, so the ones behind it are poked too.
        self.gathering.unwatch();
        let filling = self
            .filling
            .as_ref()
            .filter(|f| self.flying.is_empty() || self.gathering.is_large(f) || self.closing);
        let groups = self.queue.iter().map(|q| &q.group).chain(filling.map(Filling::group));
        self.wakes.extend(groups.map(|g| Wake::Poke(g.gate.clone())));
        if self.mark.is_some() {
            self.wake_housekeeper();
        }
        if self.closing {
            self.wakes.push(Wake::PokeAll(self.drained.clone()));
        }
    }
}

impl Machine for Core {
    type Op = Op;
    type Outcome = Outcome;
    type Worker = Worker;

    fn step(&mut self, now: Instant, worker: Worker) -> Step<Op> {
        if self.fatal.is_some() {
            self.wakes.push(Wake::Open(self.drained.clone()));
            self.wakes.push(Wake::Open(self.housekeeper.clone()));
            return Step::Idle(None);
        }
        match worker {
            Worker::Member(_) | Worker::Lone => self.next_write(now, worker),
            Worker::Housekeeper => {
                let step = self.next_chore(now);
                // What else is to do, and the clock, are the other one's while this one is at work.
                if matches!(step, Step::Do(_)) {
                    self.wake_housekeeper();
                }
                step
            }
            Worker::Closer => self.next_closing_step(now),
        }
    }

    fn done(&mut self, now: Instant, outcome: Outcome) {
        match outcome {
            Outcome::Written { sequence, result } => self.written(now, sequence, result),
            Outcome::Created { id, urgent, result } => self.created(now, id, urgent, result),
            Outcome::Sealed { id, result } => {
                self.busy = false;
                self.segments.sealed(id, result.is_ok());
                self.poke_waiters();
            }
            Outcome::Synced { id, low_water, threshold, result } => {
                self.busy = false;
                match result {
                    Ok(()) => {
                        self.durable_low_water = self.durable_low_water.max(low_water);
                        self.durable_threshold = self.durable_threshold.max(threshold);
                        if let Some(round) = &mut self.cleaning.round {
                            round.phase = Phase::Marking;
                        }
                    }
                    Err(error) => {
                        self.poison(id);
                        self.end_round(Some(error));
                    }
                }
                self.poke_waiters();
                self.wake_housekeeper();
            }
            Outcome::Deleted { ids, result } => {
                let cleaning = self.cleaning.round.as_ref().is_some_and(|r| r.phase == Phase::Deleting);
                // A round's deleting goes on beside the chores, and ends none of them.
                if !cleaning {
                    self.busy = false;
                }
                if result.is_ok() {
                    self.segments.deleted(&ids);
                    self.live[0].set(self.segments.count());
                    add(&self.config.metrics.cleaned, if cleaning { ids.len() as u64 } else { 0 });
                    // There is space again: for the reserve, too.
                    self.reserve_after = None;
                }
                match self.cleaning.round.as_mut() {
                    Some(round) if round.phase == Phase::Deleting => match result {
                        Ok(()) => round.phase = Phase::Collect,
                        Err(error) => self.end_round(Some(error)),
                    },
                    _ => {}
                }
                if let Some(failing) = &mut self.failing {
                    failing.retry = now;
                }
                self.poke_waiters();
            }
            Outcome::Collected { result } => self.collected(result),
            Outcome::Reserved { result } => {
                self.busy = false;
                self.reserve_kept = result.is_ok();
                self.reserve_after = Some(now + PREPARE_RETRY * 10);
                self.poke_waiters();
            }
        }
    }

    fn go_on(&mut self, now: Instant, worker: Worker) -> Option<Op> {
        match worker {
            Worker::Member(_) | Worker::Lone if !self.config.durable && self.fatal.is_none() => {
                self.another_write(now)
            }
            _ => None,
        }
    }

    fn crash(&mut self) {
        self.stop(Error::Internal("a panic while the log was writing".into()));
    }

    fn wakes(&mut self) -> &mut Vec<Wake> {
        &mut self.wakes
    }
}

impl Core {
    /// Nothing is written to a segment any more. Gives whether that is new.
    pub(super) fn poison(&mut self, id: u64) -> bool {
        let new = self.segments.poison(id);
        add(&self.config.metrics.poisonings, u64::from(new));
        new
    }

    /// Counts the time in which groups were at the device, when the first of them goes there and the last one is back.
    pub(super) fn count_device_time(&mut self, now: Instant) {
        let at_work = self.flying.iter().any(|f| f.state == FlightState::Writing);
        match (self.device_since, at_work) {
            (None, true) => self.device_since = Some(now),
            (Some(since), false) => {
                self.device_since = None;
                add(&self.config.metrics.busy, micros(now.saturating_duration_since(since)));
            }
            _ => {}
        }
    }

    /// Ends everything: whoever waits, and whoever comes, gets the error.
    pub(super) fn stop(&mut self, error: Error) {
        let fenced = self.fatal.is_none() && matches!(error, Error::Fenced { .. });
        add(&self.config.metrics.fences, u64::from(fenced));
        self.device_since = None;
        self.fatal = Some(error.clone());
        self.close_filling();
        let queued = self.queue.drain(..).map(|q| q.group);
        let mut groups: Vec<Arc<Group>> = queued.collect();
        for Flight { whose, .. } in std::mem::take(&mut self.flying) {
            match whose {
                Whose::Group(queued) => groups.push(queued.group),
                Whose::Lone { ticket, waits } => self.refuse(ticket, waits),
            }
        }
        for group in groups {
            group.answer(Err(error.clone()));
            self.wakes.push(Wake::Open(group.gate.clone()));
        }
        self.end_round(Some(error));
        self.wakes.extend(std::mem::take(&mut self.cleaning.wanted).into_iter().map(Wake::Open));
        self.feed();
        self.wakes.push(Wake::Open(self.drained.clone()));
        self.wakes.push(Wake::Open(self.housekeeper.clone()));
    }
}

/// A group's identity while it is alive.
pub(crate) fn address(group: &Arc<Group>) -> usize {
    Arc::as_ptr(group) as usize
}
