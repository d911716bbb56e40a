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

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;

use super::{
    group::{Filling, Group, Placed, Seat, Stamp, large},
    pool::Pool,
    segments::{Segment, Segments, State},
};
use crate::{
    commit::{Gate, Machine, Step, Wake},
    error::{Error, Result},
    format::{Footer, FrameHeader, GROUP_HEADER, GroupHeader, Place},
    log::threshold::Thresholds,
    storage::{Poisoned, Preallocate, SegmentWrite},
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
    pub(crate) block: u32,
    pub(crate) in_flight: usize,
    pub(crate) segment_size: u64,
    pub(crate) rolling_interval: Duration,
    pub(crate) max_failures: u32,
    pub(crate) write_timeout: Duration,
    pub(crate) idle_mark: Duration,
    pub(crate) collect_every: Option<Duration>,
    pub(crate) reserve: bool,
    /// Segments are prepared ahead of need, by a housekeeper. Without: one segment of just the size needed.
    pub(crate) prepare: bool,
}

/// An operation to be carried out without the lock.
#[derive(Debug)]
pub(crate) enum Op {
    Write { group: Arc<Group>, segment: Arc<Poisoned>, stamp: Stamp },
    Create { id: u64, wish: u64, least: u64, how: Preallocate, background: bool },
    Seal { place: Place, footer: Footer },
    Delete { ids: Vec<u64> },
    Collect { threshold: i64 },
    Reserve,
}

/// How an operation went.
#[derive(Debug)]
pub(crate) enum Outcome {
    Written { sequence: u64, result: Result<(Placed, Written)> },
    Created { id: u64, background: bool, result: Result<Box<dyn SegmentWrite>> },
    Sealed { id: u64, result: Result<()> },
    Deleted { ids: Vec<u64>, result: Result<()> },
    Collected { result: Result<()> },
    Reserved { result: Result<()> },
}

/// Who asks for an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Worker {
    /// A caller that waits for the group at this address.
    Member(usize),
    Housekeeper,
    /// Whoever closes the writer.
    Closer,
}

/// What a caller gets for a record.
#[derive(Debug)]
pub(crate) enum Reserved {
    Seat(Seat),
    /// A group of its own, with two buffers to stage it in.
    Large(Arc<Group>, [BytesMut; 2]),
    /// No memory now: wait at the gate, which was `seen` so.
    Wait(Arc<Gate>, u32),
}

#[derive(Debug)]
struct Flight {
    queued: Queued,
    stamp: Stamp,
    state: FlightState,
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
    max_time: i64,
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
    error: Option<Error>,
}

#[derive(Debug)]
struct Round {
    gates: Vec<Arc<Gate>>,
    phase: Phase,
    insist: bool,
    frees: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Until a group that carries the new low-water mark is acknowledged.
    Marking,
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
    space: Arc<Gate>,
    starved: bool,
    filling: Option<Filling>,
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
    prepare_after: Option<Instant>,
    reserve_after: Option<Instant>,
    reserve_kept: bool,
    failing: Option<Failing>,
    thresholds: Thresholds,
    cleaning: Cleaning,
    mark: Option<Mark>,
    mark_failed: bool,
    /// What the last acknowledged groups carry.
    durable_low_water: u64,
    durable_threshold: i64,
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
        Core {
            config,
            pool,
            space: Arc::default(),
            starved: false,
            filling: None,
            queue: VecDeque::new(),
            flying: VecDeque::new(),
            sequence,
            acked: sequence,
            covered: 1,
            last_record: 0,
            last_write: None,
            segments,
            ready: Ready::None,
            prepare_after: None,
            reserve_after: None,
            reserve_kept: false,
            failing: None,
            thresholds,
            cleaning: Cleaning::default(),
            mark: None,
            mark_failed: false,
            durable_low_water: 0,
            durable_threshold: i64::MIN,
            busy: false,
            closing: false,
            fatal: None,
            housekeeper: Arc::default(),
            drained: Arc::default(),
            wakes: Vec::new(),
        }
    }

    /// Every group with a smaller sequence is acknowledged.
    pub(crate) fn acked(&self) -> u64 {
        self.acked
    }

    /// Segments with a smaller number were cleaned.
    pub(crate) fn low_water(&self) -> u64 {
        self.segments.low_water()
    }

    /// The effective clean threshold.
    pub(crate) fn threshold(&self) -> i64 {
        self.thresholds.effective()
    }

    /// Gives a record of `length` bytes a seat.
    pub(crate) fn reserve(&mut self, length: u32, time: i64) -> Result<Reserved> {
        if let Some(error) = &self.fatal {
            return Err(error.clone());
        }
        if self.closing {
            return Err(Error::Closed(self.config.place.clone()));
        }
        if !Filling::can_ever_hold(length) {
            return Ok(self.reserve_large(length, time));
        }
        if self.filling.as_ref().is_some_and(|f| !f.has_room(length)) {
            self.close_filling();
        }
        if self.filling.is_none() {
            let Some(buffer) = self.pool.take() else { return Ok(self.starve()) };
            self.filling = Some(Filling::new(buffer));
        }
        match &mut self.filling {
            Some(filling) => Ok(Reserved::Seat(filling.reserve(length, time))),
            None => Ok(self.starve()),
        }
    }

    fn reserve_large(&mut self, length: u32, time: i64) -> Reserved {
        if !self.pool.has(2) {
            return self.starve();
        }
        let (Some(first), Some(second)) = (self.pool.take(), self.pool.take()) else { return self.starve() };
        self.close_filling();
        let group = large(length, time);
        let frames = FrameHeader::footprint(length);
        self.queue.push_back(Queued { group: group.clone(), frames, max_time: time });
        Reserved::Large(group, [first, second])
    }

    /// Takes back the buffers of a large record.
    pub(crate) fn give_back(&mut self, buffers: [BytesMut; 2]) {
        for buffer in buffers {
            self.pool.give(buffer);
        }
        self.feed();
    }

    fn starve(&mut self) -> Reserved {
        self.starved = true;
        Reserved::Wait(self.space.clone(), self.space.seen())
    }

    fn feed(&mut self) {
        if std::mem::take(&mut self.starved) {
            self.wakes.push(Wake::PokeAll(self.space.clone()));
        }
    }

    fn close_filling(&mut self) {
        if let Some(filling) = self.filling.take() {
            let (frames, max_time) = (filling.used() - GROUP_HEADER as u64, filling.max_time);
            self.queue.push_back(Queued { group: filling.close(), frames, max_time });
        }
    }

    /// Asks for everything below `asked` to be dropped. Gives a gate that opens when that is done; with `insist` the
    /// threshold itself is made durable and other writers are looked after, whenever that was last done.
    pub(crate) fn clean(&mut self, asked: i64, insist: bool) -> Arc<Gate> {
        self.thresholds.note(asked);
        let gate = Arc::new(Gate::default());
        if self.closing || self.fatal.is_some() || !self.config.prepare {
            gate.open();
            return gate;
        }
        self.cleaning.wanted.push(gate.clone());
        self.cleaning.again = true;
        self.cleaning.insist |= insist;
        self.wake_housekeeper();
        gate
    }

    /// The error of the last round of cleaning, once.
    pub(crate) fn take_clean_error(&mut self) -> Option<Error> {
        self.cleaning.error.take()
    }

    /// No record is taken from here on; [`Core::drained`] opens when everything is answered, sealed and let go.
    pub(crate) fn begin_close(&mut self) {
        self.closing = true;
        self.wake_housekeeper();
        self.poke_waiters();
    }

    fn wake_housekeeper(&mut self) {
        self.wakes.push(Wake::Poke(self.housekeeper.clone()));
    }

    /// Pokes a waiter that can carry on: one of the first group that waits, and the housekeeper for a mark.
    fn poke_waiters(&mut self) {
        let first = self.queue.front().map(|q| &q.group).or(self.filling.as_ref().map(Filling::group));
        if let Some(group) = first {
            self.wakes.push(Wake::Poke(group.gate.clone()));
        }
        if self.mark.is_some() {
            self.wake_housekeeper();
        }
        if self.closing {
            self.wakes.push(Wake::PokeAll(self.drained.clone()));
        }
    }

    // ---- placing groups ------------------------------------------------------------------------------------------

    /// The next write, or what must happen before it.
    fn next_write(&mut self, now: Instant, worker: Worker) -> Step<Op> {
        if !self.can_fly() {
            return Step::Idle(None);
        }
        if self.queue.is_empty() && self.filling.as_ref().is_some_and(|f| !f.is_empty()) {
            self.close_filling();
        }
        let Some(head) = self.queue.front() else { return Step::Idle(None) };
        if head.group.large.is_some() && worker != Worker::Member(address(&head.group)) {
            self.wakes.push(Wake::Poke(head.group.gate.clone()));
            return Step::Idle(None);
        }
        let footprint = GroupHeader::footprint(head.frames, self.config.block);
        let max_time = head.max_time;
        let fits = self.segments.active().is_some_and(|a| a.takes(footprint, max_time, &self.config));
        match if fits { None } else { self.next_segment(now, footprint) } {
            Some(step) => step,
            None => match self.queue.pop_front() {
                Some(head) => self.submit(now, head, footprint),
                None => Step::Idle(None),
            },
        }
    }

    /// Whether a group may be submitted now.
    fn can_fly(&self) -> bool {
        let in_trouble = self.flying.iter().any(|f| f.state == FlightState::Failed);
        !in_trouble && self.flying.len() < self.config.in_flight
    }

    /// Makes another segment active, in which a group of this size fits; gives a step if that needs one. The one that is
    /// active stays until there is another: on a full volume it takes the mark that lets space be freed.
    fn next_segment(&mut self, now: Instant, footprint: u64) -> Option<Step<Op>> {
        let block = u64::from(self.config.block);
        let least = footprint + (2 + MARK_ROOM) * block;
        match std::mem::replace(&mut self.ready, Ready::None) {
            Ready::Creating => {
                self.ready = Ready::Creating;
                return Some(Step::Idle(None));
            }
            Ready::Segment { id, write } => {
                let fits = write.size() >= least;
                self.segments.retire();
                self.segments.activate(id, write, block);
                self.wake_housekeeper();
                if fits {
                    return None;
                }
                // Too small for this group, but it has an id: it stays in its place, empty but for marks.
            }
            Ready::None => {}
        }
        match &self.failing {
            Some(f) if now >= f.since + self.config.write_timeout || f.count >= self.config.max_failures => {
                self.give_up(now);
                Some(Step::Idle(None))
            }
            Some(f) if now < f.retry => Some(Step::Idle(Some(f.retry))),
            _ => Some(Step::Do(self.create(least, false))),
        }
    }

    fn create(&mut self, least: u64, background: bool) -> Op {
        self.ready = Ready::Creating;
        let jumbo = least > self.config.segment_size;
        let (wish, how) = if jumbo || !self.config.prepare {
            (least, Preallocate::Reserved)
        } else {
            (self.segments.wish(self.config.segment_size).max(least), Preallocate::Zeroed)
        };
        Op::Create { id: self.segments.take_id(), wish, least, how, background }
    }

    fn submit(&mut self, now: Instant, queued: Queued, footprint: u64) -> Step<Op> {
        let (watermark, threshold, low_water) =
            (self.acked, self.thresholds.effective(), self.segments.low_water());
        let (sequence, first) = (self.sequence, self.segments.first_sequence());
        let Some((active, write)) = self.segments.active_mut().and_then(|a| a.write.clone().map(|w| (a, w)))
        else {
            self.queue.push_front(queued);
            return Step::Idle(None);
        };
        let offset = active.place_group(sequence, footprint, queued.max_time);
        let stamp = Stamp {
            place: active.place,
            offset,
            sequence,
            running_max: active.running_max,
            watermark,
            threshold,
            low_water,
            base: active.base,
            first: first.unwrap_or(active.base),
            footprint,
        };
        let group = queued.group.clone();
        self.flying.push_back(Flight { queued, stamp, state: FlightState::Writing });
        self.sequence += 1;
        self.last_write = Some(now);
        Step::Do(Op::Write { group, segment: write, stamp })
    }

    // ---- how writes went -----------------------------------------------------------------------------------------

    fn written(&mut self, now: Instant, sequence: u64, result: Result<(Placed, Written)>) {
        let Some(flight) = self.flying.iter_mut().find(|f| f.stamp.sequence == sequence) else { return };
        match result {
            Ok((placed, written)) => {
                flight.state = FlightState::Durable(written);
                flight.queued.group.answer(Ok(placed));
            }
            Err(error) => {
                flight.state = FlightState::Failed;
                let segment = flight.stamp.place.segment;
                self.segments.poison(segment);
                self.note_failure(now, error);
            }
        }
        self.settle(now);
    }

    /// Answers what is durable in sequence; once a failure is the oldest and nothing is at the device, sends again.
    fn settle(&mut self, now: Instant) {
        while let Some(Flight { state: FlightState::Durable(written), .. }) = self.flying.front() {
            let written = *written;
            let Some(Flight { queued, stamp, .. }) = self.flying.pop_front() else { break };
            self.acked = stamp.sequence + 1;
            self.failing = None;
            self.segments.acknowledge(stamp.place.segment, stamp.sequence, &written);
            self.durable_low_water = self.durable_low_water.max(stamp.low_water);
            self.durable_threshold = self.durable_threshold.max(stamp.threshold);
            let all_covered = self.last_record < self.covered;
            self.covered = stamp.watermark;
            if written.records > 0 {
                self.last_record = stamp.sequence;
                // The housekeeper sets its clock by the first record that is not covered; after that it looks by itself.
                if all_covered {
                    self.wake_housekeeper();
                }
            }
            // A round of cleaning may have waited for just this.
            if self.cleaning.round.as_ref().is_some_and(|r| r.phase == Phase::Marking) {
                self.wake_housekeeper();
            }
            self.release(&queued.group);
        }
        let broken = self.flying.iter().any(|f| f.state == FlightState::Failed);
        if broken && self.flying.iter().all(|f| f.state != FlightState::Writing) {
            self.send_again(now);
        }
        self.poke_waiters();
    }

    /// The group is answered: its buffer is free and its members may go.
    fn release(&mut self, group: &Arc<Group>) {
        if let Some(buffer) = group.reclaim() {
            self.pool.give(buffer);
            self.feed();
        }
        if self.mark.as_ref().is_some_and(|m| Arc::ptr_eq(&m.queued.group, group)) {
            self.mark = None;
            self.wake_housekeeper();
        }
        self.wakes.push(Wake::Open(group.gate.clone()));
    }

    /// Everything from the first failure on goes to a fresh segment, or, if that was tried often enough, is answered
    /// with the error. Either way the first of their sequences is used again, and void in the segments left behind.
    fn send_again(&mut self, now: Instant) {
        let flights: Vec<Flight> = self.flying.drain(..).collect();
        self.sequence = flights.first().map_or(self.sequence, |f| f.stamp.sequence);
        for flight in &flights {
            self.segments.poison(flight.stamp.place.segment);
        }
        let over = self.failing.as_ref().is_none_or(|f| {
            f.count >= self.config.max_failures || now >= f.since + self.config.write_timeout
        });
        let error = self.failing.as_ref().map(|f| f.error.clone());
        let error = error.unwrap_or_else(|| Error::Internal("a write failed without an error".into()));
        if over {
            self.failing = None;
        }
        for Flight { queued, .. } in flights.into_iter().rev() {
            let is_mark = self.mark.as_ref().is_some_and(|m| Arc::ptr_eq(&m.queued.group, &queued.group));
            if over || is_mark {
                self.mark_failed |= is_mark;
                queued.group.answer(Err(error.clone()));
                self.release(&queued.group);
            } else {
                self.queue.push_front(queued);
            }
        }
    }

    fn note_failure(&mut self, now: Instant, error: Error) {
        let full = error.is_full();
        let failing =
            self.failing.get_or_insert(Failing { count: 0, since: now, retry: now, error: error.clone() });
        // A full volume is waited for; anything else is an attempt that counts.
        failing.count += u32::from(!full);
        failing.retry = now + if full { FULL_RETRY } else { FAILURE_PAUSE * failing.count };
        failing.error = error;
    }

    /// Answers everything that waits with the reason why no segment can be had.
    fn give_up(&mut self, now: Instant) {
        self.close_filling();
        let Some(failing) = self.failing.take() else { return };
        let error = if failing.error.is_full() {
            Error::StorageFull { place: self.config.place.clone(), waited: now - failing.since }
        } else {
            failing.error
        };
        let mark = self.mark.take_if(|m| !m.submitted).map(|m| m.queued);
        self.mark_failed |= mark.is_some();
        for queued in std::mem::take(&mut self.queue).into_iter().chain(mark) {
            queued.group.answer(Err(error.clone()));
            self.release(&queued.group);
        }
        self.last_write = Some(now);
        self.poke_waiters();
    }

    // ---- the housekeeper's work ----------------------------------------------------------------------------------

    fn next_chore(&mut self, now: Instant) -> Step<Op> {
        if self.busy {
            return Step::Idle(None);
        }
        if let Some((place, footer)) = self.segments.next_to_seal(self.acked, self.thresholds.effective()) {
            self.busy = true;
            return Step::Do(Op::Seal { place, footer });
        }
        let mut again = Vec::new();
        if self.config.prepare
            && !self.closing
            && matches!(self.ready, Ready::None)
            && self.segments.active().is_some()
        {
            match self.prepare_after {
                Some(after) if now < after => again.push(after),
                _ => {
                    let least = u64::from(self.config.block) * 4;
                    return Step::Do(self.create(least, true));
                }
            }
        }
        if let Some(step) = self.next_clean_step(now) {
            return step;
        }
        if self.config.reserve && !self.reserve_kept && !self.closing {
            match self.reserve_after {
                Some(after) if now < after => again.push(after),
                _ => {
                    self.busy = true;
                    return Step::Do(Op::Reserve);
                }
            }
        }
        // The last record's group is durable, but nothing after it says so yet.
        let silent = self.queue.is_empty() && self.flying.is_empty() && self.filling.is_none();
        if self.last_record >= self.covered && silent && !self.closing && self.failing.is_none() {
            let due = self.last_write.map_or(now, |t| t + self.config.idle_mark);
            if now < due {
                again.push(due);
            } else {
                self.pool.trim();
                self.make_mark(false);
            }
        }
        match self.next_mark(now) {
            Step::Idle(at) => Step::Idle(at.into_iter().chain(again).min()),
            step => step,
        }
    }

    /// Prepares a group without records, unless one is under way or there is no memory now.
    fn make_mark(&mut self, frees: bool) {
        if let Some(mark) = &mut self.mark {
            mark.frees |= frees;
            return;
        }
        if let Some(buffer) = self.pool.take() {
            let group = Filling::new(buffer).close();
            self.mark = Some(Mark {
                queued: Queued { group, frames: 0, max_time: i64::MIN },
                frees,
                submitted: false,
            });
        }
    }

    /// Submits the mark, ahead of groups that wait for a segment.
    fn next_mark(&mut self, now: Instant) -> Step<Op> {
        let can_fly = self.can_fly();
        let Some(mark) = self.mark.as_mut().filter(|m| can_fly && !m.submitted) else {
            return Step::Idle(None);
        };
        let footprint = GroupHeader::footprint(0, self.config.block);
        let room = if mark.frees { 0 } else { MARK_ROOM };
        let fits = self.segments.active().is_some_and(|a| a.has_room(footprint, room, &self.config));
        if !fits && let Some(step) = self.next_segment(now, footprint) {
            return step;
        }
        let Some(mark) = &mut self.mark else { return Step::Idle(None) };
        mark.submitted = true;
        let Queued { group, frames, max_time } = &mark.queued;
        let queued = Queued { group: group.clone(), frames: *frames, max_time: *max_time };
        self.submit(now, queued, footprint)
    }

    fn next_clean_step(&mut self, now: Instant) -> Option<Step<Op>> {
        if self.cleaning.round.is_none() && std::mem::take(&mut self.cleaning.again) {
            let insist = std::mem::take(&mut self.cleaning.insist);
            let gates = std::mem::take(&mut self.cleaning.wanted);
            let doomed = self.segments.doom(self.thresholds.effective());
            let phase = if doomed || insist { Phase::Marking } else { Phase::Collect };
            self.mark_failed = false;
            self.cleaning.round = Some(Round { gates, phase, insist, frees: doomed });
        }
        let round = self.cleaning.round.as_mut()?;
        match round.phase {
            // The low-water mark is durable before what lies below it goes, so that absence is always explained. Any
            // group carries it; only a silent log needs a mark of its own.
            Phase::Marking => {
                let threshold = if round.insist { self.thresholds.effective() } else { i64::MIN };
                if self.durable_low_water >= self.segments.low_water() && self.durable_threshold >= threshold
                {
                    round.phase = Phase::Delete;
                    return self.next_clean_step(now);
                }
                if std::mem::take(&mut self.mark_failed) {
                    let why = "the mark that must precede it could not be written".to_owned();
                    self.end_round(Some(Error::Timeout { waited: self.config.write_timeout, detail: why }));
                    return None;
                }
                let frees = round.frees;
                self.make_mark(frees);
                None
            }
            Phase::Deleting | Phase::Collecting => None,
            Phase::Delete => {
                let ids = self.segments.doomed();
                if ids.is_empty() {
                    round.phase = Phase::Collect;
                    return self.next_clean_step(now);
                }
                round.phase = Phase::Deleting;
                Some(Step::Do(Op::Delete { ids }))
            }
            Phase::Collect => {
                let due = self.config.collect_every.is_some_and(|every| {
                    round.insist || self.cleaning.last_collected.is_none_or(|t| now >= t + every)
                });
                if !due || self.thresholds.effective() == i64::MIN {
                    self.end_round(None);
                    return None;
                }
                round.phase = Phase::Collecting;
                self.cleaning.last_collected = Some(now);
                Some(Step::Do(Op::Collect { threshold: self.thresholds.effective() }))
            }
        }
    }

    fn end_round(&mut self, error: Option<Error>) {
        if let Some(round) = self.cleaning.round.take() {
            self.wakes.extend(round.gates.into_iter().map(Wake::Open));
        }
        if error.is_some() {
            self.cleaning.error = error;
        }
        // Space may have been freed: whoever waits for some need not wait for its clock.
        if let Some(failing) = &mut self.failing {
            failing.retry = failing.since;
        }
        self.poke_waiters();
        self.wake_housekeeper();
    }

    // ---- closing -------------------------------------------------------------------------------------------------

    fn next_closing_step(&mut self, now: Instant) -> Step<Op> {
        match self.next_write(now, Worker::Closer) {
            Step::Idle(None) => {}
            step => return step,
        }
        let waiting = !self.queue.is_empty()
            || !self.flying.is_empty()
            || self.filling.as_ref().is_some_and(|f| !f.is_empty());
        let working = self.busy || matches!(self.ready, Ready::Creating) || self.cleaning.round.is_some();
        if waiting || working {
            return if self.config.prepare { Step::Idle(None) } else { self.next_chore(now) };
        }
        self.segments.retire();
        if let Some((place, footer)) = self.segments.next_to_seal(self.acked, self.thresholds.effective()) {
            self.busy = true;
            return Step::Do(Op::Seal { place, footer });
        }
        if let Ready::Segment { id, .. } = std::mem::replace(&mut self.ready, Ready::None) {
            // Nothing was ever written to it.
            self.busy = true;
            return Step::Do(Op::Delete { ids: vec![id] });
        }
        for gate in std::mem::take(&mut self.cleaning.wanted) {
            self.wakes.push(Wake::Open(gate));
        }
        self.wakes.push(Wake::Open(self.drained.clone()));
        self.wakes.push(Wake::Open(self.housekeeper.clone()));
        Step::Idle(None)
    }

    fn created(&mut self, now: Instant, id: u64, background: bool, result: Result<Box<dyn SegmentWrite>>) {
        self.ready = Ready::None;
        match result {
            Ok(write) => {
                self.ready = Ready::Segment { id, write: Arc::new(Poisoned::new(write)) };
                self.prepare_after = None;
            }
            Err(_) if background => self.prepare_after = Some(now + PREPARE_RETRY),
            Err(error) => self.note_failure(now, error),
        }
        self.reserve_kept &= self.failing.is_none();
        self.poke_waiters();
        self.wake_housekeeper();
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
            Worker::Member(_) => self.next_write(now, worker),
            Worker::Housekeeper => self.next_chore(now),
            Worker::Closer => self.next_closing_step(now),
        }
    }

    fn done(&mut self, now: Instant, outcome: Outcome) {
        match outcome {
            Outcome::Written { sequence, result } => self.written(now, sequence, result),
            Outcome::Created { id, background, result } => self.created(now, id, background, result),
            Outcome::Sealed { id, result } => {
                self.busy = false;
                self.segments.sealed(id, result.is_ok());
                self.poke_waiters();
            }
            Outcome::Deleted { ids, result } => {
                self.busy = false;
                if result.is_ok() {
                    self.segments.deleted(&ids);
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
            Outcome::Collected { result } => self.end_round(result.err()),
            Outcome::Reserved { result } => {
                self.busy = false;
                self.reserve_kept = result.is_ok();
                self.reserve_after = Some(now + PREPARE_RETRY * 10);
                self.poke_waiters();
            }
        }
    }

    fn crash(&mut self) {
        let error = Error::Internal("a panic while the log was writing".into());
        self.fatal = Some(error.clone());
        self.close_filling();
        let queued = self.queue.drain(..).map(|q| q.group);
        let groups: Vec<Arc<Group>> = queued.chain(self.flying.drain(..).map(|f| f.queued.group)).collect();
        for group in groups {
            group.answer(Err(error.clone()));
            self.wakes.push(Wake::Open(group.gate.clone()));
        }
        self.end_round(Some(error));
        self.starved = true;
        self.feed();
        self.wakes.push(Wake::Open(self.drained.clone()));
        self.wakes.push(Wake::Open(self.housekeeper.clone()));
    }

    fn wakes(&mut self) -> &mut Vec<Wake> {
        &mut self.wakes
    }
}

/// A group's identity while it is alive.
pub(crate) fn address(group: &Arc<Group>) -> usize {
    Arc::as_ptr(group) as usize
}

impl Segment {
    /// Whether a group goes into this segment: there is room for it, and its time is near enough.
    fn takes(&self, footprint: u64, max_time: i64, config: &Config) -> bool {
        let interval = i64::try_from(config.rolling_interval.as_millis()).unwrap_or(i64::MAX);
        let young =
            max_time == i64::MIN || self.first_time.is_none_or(|t| max_time.saturating_sub(t) < interval);
        self.has_room(footprint, MARK_ROOM, config) && young
    }

    /// Whether there is room for a group, for `marks` marks, and for the footer.
    fn has_room(&self, footprint: u64, marks: u64, config: &Config) -> bool {
        self.state == State::Active
            && self.end + footprint + (1 + marks) * u64::from(config.block) <= self.size
    }
}
