//! Which group goes where: the next write, and the segment it needs.

use std::time::{Duration, Instant};

use super::{
    Config, Core, Flight, FlightState, MARK_ROOM, Op, PREPARE_RETRY, Queued, Ready, Verdict, Whose, Worker,
    address,
};
use crate::{
    commit::{Step, Wake},
    error::{Error, Result},
    format::{GroupHeader, Past},
    log::writer::{
        group::Stamp,
        segments::{Segment, State},
    },
    metrics::{Sized, add},
    planted::planted,
    storage::{Barrier, Poisoned, Preallocate, SegmentWrite, Space},
    sync::Arc,
};

/// For whoever waits for a segment, zeros take half of this at most.
const URGENT: Duration = Duration::from_millis(8);

impl Core {
    /// The next write, or what must happen before it.
    pub(super) fn next_write(&mut self, now: Instant, worker: Worker) -> Step<Op> {
        if !self.can_fly() {
            return Step::Idle(None);
        }
        if self.queue.is_empty() {
            match self.verdict(now) {
                Verdict::Go => self.close_filling(),
                Verdict::Watch(until) => return Step::Idle(Some(until)),
                Verdict::Blocked => {}
            }
        }
        let Some(head) = self.queue.front() else { return Step::Idle(None) };
        if head.group.large.is_some() && worker != Worker::Member(address(&head.group)) {
            self.wakes.push(Wake::Poke(head.group.gate.clone()));
            return Step::Idle(None);
        }
        let footprint = GroupHeader::footprint(head.frames, self.config.align);
        let max_time = head.max_time;
        let fits = self.segments.active().is_some_and(|a| a.takes(footprint, max_time, &self.config));
        match if fits { None } else { self.next_segment(now, footprint, false) } {
            Some(step) => step,
            None => match self.queue.pop_front() {
                Some(head) => self.submit(now, head, footprint, self.barrier()),
                None => Step::Idle(None),
            },
        }
    }

    /// The next write, if there is nothing to be done before it, for whoever has just done one. Where none has a barrier it is
    /// over long before one of those who wait for it has a processor.
    pub(super) fn another_write(&mut self, now: Instant) -> Option<Op> {
        if !self.can_fly() {
            return None;
        }
        if self.queue.is_empty() && self.verdict(now) == Verdict::Go {
            self.close_filling();
        }
        let head = self.queue.front().filter(|q| q.group.large.is_none())?;
        let footprint = GroupHeader::footprint(head.frames, self.config.align);
        if !self.segments.active().is_some_and(|a| a.takes(footprint, head.max_time, &self.config)) {
            self.poke_waiters();
            return None;
        }
        let head = self.queue.pop_front()?;
        // Nobody needs to look for it any more.
        self.wakes.retain(|w| !matches!(w, Wake::Poke(gate) if Arc::ptr_eq(gate, &head.group.gate)));
        match self.submit(now, head, footprint, self.barrier()) {
            Step::Do(op) => Some(op),
            Step::Idle(_) => None,
        }
    }

    /// Whether a group may be submitted now.
    pub(super) fn can_fly(&self) -> bool {
        let in_trouble = self.flying.iter().any(|f| f.state == FlightState::Failed);
        !in_trouble && self.flying.len() < self.config.in_flight
    }

    /// Makes another segment active, in which a group of this size fits; gives a step if that needs one. The one that is
    /// active stays until there is another: on a full volume it takes the mark that lets space be freed. `frees`: the group is
    /// such a mark.
    pub(super) fn next_segment(&mut self, now: Instant, footprint: u64, frees: bool) -> Option<Step<Op>> {
        let block = u64::from(self.config.block);
        let least = footprint + (2 + MARK_ROOM) * block;
        if !matches!(&self.ready, Ready::Segment { write, .. } if write.size() >= least) {
            self.segment_wanted.get_or_insert(now);
        }
        match &self.ready {
            Ready::Creating => return Some(Step::Idle(None)),
            Ready::Segment { write, .. } if write.size() >= least => {
                self.activate_ready(now, footprint);
                // Most of the time it was ready before anybody wanted it.
                let waited = self.segment_wanted.take().map(|since| now.saturating_duration_since(since));
                self.config.metrics.time(Sized::RollWait, waited.unwrap_or_default());
                return None;
            }
            Ready::Segment { .. } | Ready::None => {}
        }
        match &self.failing {
            Some(f) if now >= f.since + self.config.write_timeout || f.count >= self.config.max_failures => {
                self.give_up(now);
                return Some(Step::Idle(None));
            }
            // What is ready and too small stays ready: used up now, it would only be prepared again and again.
            Some(f) if now < f.retry => return Some(Step::Idle(Some(f.retry))),
            _ => {}
        }
        // Too small for this group, but it has an id: it takes its place, empty but for marks.
        self.activate_ready(now, footprint);
        Some(Step::Do(self.create(least, true, frees)))
    }

    /// Leaves the active segment for the one that is ready, if there is one, for the sake of a group of this size.
    fn activate_ready(&mut self, now: Instant, footprint: u64) {
        if let Ready::Segment { id, write } = std::mem::replace(&mut self.ready, Ready::None) {
            let full =
                self.segments.active().is_some_and(|a| !a.has_room(footprint, MARK_ROOM, &self.config));
            if let Some(rolled) = self.rolled.replace(now) {
                self.segments.note_pace(now.saturating_duration_since(rolled));
            }
            self.segments.retire(now, full);
            self.segments.activate(id, write, u64::from(self.config.block));
            self.live[0].set(self.segments.count());
            add(&self.config.metrics.rolls, 1);
            self.wake_housekeeper();
        }
    }

    pub(super) fn create(&mut self, least: u64, urgent: bool, frees: bool) -> Op {
        self.ready = Ready::Creating;
        let jumbo = least > self.config.segment_size;
        let (wish, how) = if jumbo || !self.config.prepare {
            (least, Preallocate::Reserved)
        } else {
            (self.segments.wish(self.config.segment_size).max(least), Preallocate::Zeroed)
        };
        // Whoever waits would wait for the zeros.
        let within = if urgent { URGENT } else { self.segments.within() };
        let past = Past {
            watermark: self.known_durable(),
            threshold: self.thresholds.effective(),
            low_water: self.segments.low_water(),
            // Groups that are to be sent again are nowhere yet, and none of them is acknowledged.
            first: self.segments.first_sequence().map_or(self.acked, |f| f.min(self.acked)),
            previous: self.segments.newest_of_generation(self.config.deferred),
        };
        Op::Create {
            id: self.segments.take_id(),
            space: Space { wish, least, how, within, urgent, frees },
            past,
        }
    }

    pub(super) fn barrier(&self) -> Barrier {
        if self.config.durable { Barrier::Yes } else { Barrier::No }
    }

    /// Every group with a smaller sequence is durable: without barriers, only what lies in sealed segments.
    pub(super) fn known_durable(&mut self) -> u64 {
        if self.config.durable { self.acked } else { self.segments.synced(self.acked) }
    }

    pub(super) fn submit(
        &mut self,
        now: Instant,
        queued: Queued,
        footprint: u64,
        barrier: Barrier,
    ) -> Step<Op> {
        let Some((stamp, segment)) = self.stamp(footprint, queued.max_time) else {
            self.queue.push_front(queued);
            return Step::Idle(None);
        };
        let group = queued.group.clone();
        self.fly(now, Whose::Group(queued), segment.clone(), stamp);
        Step::Do(Op::Write { group, segment, stamp, barrier })
    }

    /// The next place in the active segment, for a group of so many bytes.
    pub(super) fn stamp(&mut self, footprint: u64, max_time: i64) -> Option<(Stamp, Arc<Poisoned>)> {
        let write = self.segments.active()?.write.clone()?;
        let (watermark, threshold, low_water) =
            (self.known_durable(), self.thresholds.effective(), self.segments.low_water());
        let watermark = if planted!(WrongWatermark) { self.sequence } else { watermark };
        let (sequence, first) = (self.sequence, self.segments.first_sequence());
        let (active, offset) = self.segments.place_group(sequence, footprint, max_time)?;
        let stamp = Stamp {
            place: active.place,
            offset,
            sequence,
            running_max: active.running_max,
            watermark,
            threshold,
            low_water,
            base: active.base,
            first: first.map_or(active.base, |f| f.min(active.base)),
            footprint,
        };
        Some((stamp, write))
    }

    /// From here on a group is at the device.
    pub(super) fn fly(&mut self, now: Instant, whose: Whose, segment: Arc<Poisoned>, stamp: Stamp) {
        let state = FlightState::Writing;
        self.flying.push_back(Flight { whose, segment, stamp, submitted: now, state });
        self.count_device_time(now);
        self.sequence += 1;
        self.last_write = Some(now);
    }

    pub(super) fn created(
        &mut self,
        now: Instant,
        id: u64,
        urgent: bool,
        result: Result<Box<dyn SegmentWrite>>,
    ) {
        self.ready = Ready::None;
        #[cfg(any(test, feature = "simulation"))]
        if planted!(ReuseId) && result.is_err() {
            self.segments.give_back(id);
        }
        match result {
            Ok(write) => {
                self.ready = Ready::Segment { id, write: Arc::new(Poisoned::new(write)) };
                self.prepare_after = None;
            }
            // Nothing was made, or what was made goes before the id is tried again: it is still free. Where there is no lock,
            // an id that is left out would be one by which nobody can be kept out.
            Err(error)
                if (self.config.deferred || self.config.fenced) && !matches!(error, Error::Fenced { .. }) =>
            {
                self.segments.give_back(id);
                if urgent {
                    self.note_failure(now, error);
                } else {
                    self.prepare_after = Some(now + PREPARE_RETRY);
                }
            }
            Err(error @ Error::Fenced { .. }) => return self.stop(error),
            Err(_) if !urgent => self.prepare_after = Some(now + PREPARE_RETRY),
            Err(error) => self.note_failure(now, error),
        }
        // An urgent one may have used the reserve.
        self.reserve_kept &= !urgent;
        if planted!(LostWakeUp) {
            return;
        }
        self.poke_waiters();
        self.wake_housekeeper();
    }
}

impl Segment {
    /// Whether a group goes into this segment: there is room for it, and its time is near enough.
    pub(super) fn takes(&self, footprint: u64, max_time: i64, config: &Config) -> bool {
        let interval = i64::try_from(config.rolling_interval.as_millis()).unwrap_or(i64::MAX);
        let young =
            max_time == i64::MIN || self.first_time.is_none_or(|t| max_time.saturating_sub(t) < interval);
        self.has_room(footprint, MARK_ROOM, config) && young
    }

    /// Whether there is room for a group, for `marks` marks, and for the footer.
    pub(super) fn has_room(&self, footprint: u64, marks: u64, config: &Config) -> bool {
        self.state == State::Active
            && self.submitted < config.groups
            && self.end + footprint + (1 + marks) * u64::from(config.block) <= self.size
    }
}
