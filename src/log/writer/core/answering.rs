//! How writes went: who is answered, and what happens to groups whose segment failed.

use std::time::Instant;

use super::{Core, FAILURE_PAUSE, FULL_RETRY, Failing, Flight, FlightState, Phase, Unsynced, Whose, Written};
use crate::{
    commit::Wake,
    error::{Error, Result},
    log::writer::group::{Filling, Group, Placed, Stamp},
    metrics::{Sized, add},
    planted::planted,
    sync::Arc,
};

impl Core {
    pub(super) fn written(&mut self, now: Instant, sequence: u64, result: Result<(Placed, Written)>) {
        // Another writer has the log now: nothing that is not answered yet may be acknowledged any more.
        if let Err(error @ Error::Fenced { .. }) = result {
            return self.stop(error);
        }
        let Some(flight) = self.flying.iter_mut().find(|f| f.stamp.sequence == sequence) else { return };
        match result {
            Ok((placed, written)) => {
                let took = now.saturating_duration_since(flight.submitted);
                self.config.metrics.time(Sized::Barrier, took);
                flight.state = FlightState::Durable(written);
                if let Whose::Group(queued) = &flight.whose {
                    self.gathering.took(took, written.records, flight.stamp.footprint);
                    queued.group.answer(Ok(placed));
                }
            }
            Err(error) => {
                flight.state = FlightState::Failed;
                let segment = flight.stamp.place.segment;
                // Others that were on their way to the same segment fail with it: that is one attempt, not several.
                let submitted = flight.submitted;
                // Unless that was a sync beside them: then nothing was noted yet.
                if self.poison(segment) || self.failing.is_none() {
                    self.note_failure(now, error);
                    // A store was asked again and again meanwhile: that time counts.
                    if let (true, Some(failing)) = (self.config.deferred, &mut self.failing) {
                        failing.since = failing.since.min(submitted);
                    }
                }
            }
        }
        self.count_device_time(now);
        self.settle(now);
    }

    /// Answers what is durable in sequence; once a failure is the oldest and nothing is at the device, sends again.
    pub(super) fn settle(&mut self, now: Instant) {
        let mut released = 0;
        if planted!(AcknowledgeOutOfOrder)
            && let Some(i) = self.flying.iter().position(|f| matches!(f.state, FlightState::Durable(_)))
        {
            self.flying.swap(0, i);
        }
        while let Some(Flight { state: FlightState::Durable(written), .. }) = self.flying.front() {
            let written = *written;
            let Some(Flight { whose, segment, stamp, submitted, .. }) = self.flying.pop_front() else {
                break;
            };
            self.count(&whose, &stamp, &written, submitted);
            self.acked = stamp.sequence + 1;
            // A failure that is still to be dealt with is not forgotten for the success of an older group.
            if self.flying.iter().all(|f| f.state != FlightState::Failed) {
                self.failing = None;
            }
            self.segments.acknowledge(stamp.place.segment, stamp.sequence, &written);
            let Stamp { low_water, threshold, .. } = stamp;
            if self.config.durable {
                self.durable_low_water = self.durable_low_water.max(low_water);
                self.durable_threshold = self.durable_threshold.max(threshold);
            } else {
                self.unsynced = Some(Unsynced { segment, id: stamp.place.segment, low_water, threshold });
            }
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
            match whose {
                Whose::Group(queued) => {
                    released += queued.seats;
                    self.release(&queued.group);
                }
                Whose::Lone { waits, .. } => self.let_go(waits),
            }
        }
        if released > 0 && self.flying.is_empty() && self.queue.is_empty() {
            let waiting = self.filling.as_ref().map_or(0, Filling::seats);
            self.gathering.begin(now, waiting, released + waiting);
        }
        let broken = self.flying.iter().any(|f| f.state == FlightState::Failed);
        if broken && self.flying.iter().all(|f| f.state != FlightState::Writing) {
            self.send_again(now);
        }
        self.poke_waiters();
    }

    /// Counts a group that is acknowledged.
    fn count(&self, whose: &Whose, stamp: &Stamp, written: &Written, submitted: Instant) {
        let metrics = self.config.metrics;
        add(&metrics.groups, 1);
        add(&metrics.device_bytes, stamp.footprint);
        add(&metrics.records, written.records);
        add(&metrics.bytes, written.bytes);
        add(&metrics.marks, u64::from(written.records == 0));
        if written.records > 0 {
            metrics.size(Sized::GroupRecords, written.records);
            metrics.size(Sized::GroupBytes, written.bytes);
        }
        let since = match whose {
            Whose::Group(queued) => queued.since,
            Whose::Lone { .. } => Some(submitted),
        };
        if let Some(since) = since {
            metrics.time(Sized::QueueWait, submitted.saturating_duration_since(since));
        }
    }

    /// The group is answered: its buffer is free and its members may go.
    pub(super) fn release(&mut self, group: &Arc<Group>) {
        let is_mark = self.mark.as_ref().is_some_and(|m| Arc::ptr_eq(&m.queued.group, group));
        if let Some(buffer) = group.reclaim().filter(|_| !is_mark) {
            self.pool.give(buffer);
            self.feed();
            self.spent.keep(group);
        }
        if is_mark {
            self.mark = None;
            self.wake_housekeeper();
        }
        self.wakes.push(if planted!(WakeOnlyLeader) {
            Wake::Poke(group.gate.clone())
        } else {
            Wake::Open(group.gate.clone())
        });
    }

    /// Everything from the first failure on goes to a fresh segment, or, if that was tried often enough, is answered
    /// with the error. Either way the first of their sequences is used again, and void in the segments left behind.
    pub(super) fn send_again(&mut self, now: Instant) {
        let flights: Vec<Flight> = self.flying.drain(..).collect();
        let first = flights.first().filter(|_| !planted!(SkipSequence));
        self.sequence = first.map_or(self.sequence, |f| f.stamp.sequence);
        for flight in &flights {
            self.poison(flight.stamp.place.segment);
        }
        let over = self.failing.as_ref().is_none_or(|f| {
            f.count >= self.config.max_failures || now >= f.since + self.config.write_timeout
        });
        let error = self.failing.as_ref().map(|f| f.error.clone());
        let error = error.unwrap_or_else(|| Error::Internal("a write failed without an error".into()));
        if over {
            self.failing = None;
        }
        for Flight { whose, .. } in flights.into_iter().rev() {
            let queued = match whose {
                Whose::Group(queued) => queued,
                Whose::Lone { ticket, waits } => {
                    add(&self.config.metrics.retries, 1);
                    self.refuse(ticket, waits);
                    continue;
                }
            };
            let is_mark = self.mark.as_ref().is_some_and(|m| Arc::ptr_eq(&m.queued.group, &queued.group));
            if over || is_mark {
                if is_mark {
                    self.mark_failed = Some(error.clone());
                }
                queued.group.answer(Err(error.clone()));
                self.release(&queued.group);
            } else {
                add(&self.config.metrics.retries, 1);
                self.queue.push_front(queued);
            }
        }
        // Nobody tries again for a mark: whoever comes next begins anew, however long ago this was.
        if self.queue.is_empty() {
            self.failing = None;
        }
    }

    pub(super) fn note_failure(&mut self, now: Instant, error: Error) {
        let full = error.is_full();
        let failing =
            self.failing.get_or_insert(Failing { count: 0, since: now, retry: now, error: error.clone() });
        // A full volume is waited for; anything else is an attempt that counts.
        failing.count += u32::from(!full);
        failing.retry = now + if full { FULL_RETRY } else { FAILURE_PAUSE * failing.count };
        failing.error = error;
    }

    /// Answers everything that waits with the reason why no segment can be had.
    pub(super) fn give_up(&mut self, now: Instant) {
        self.close_filling();
        let Some(failing) = self.failing.take() else { return };
        let error = if failing.error.is_full() {
            Error::StorageFull { place: self.config.place.clone(), waited: now - failing.since }
        } else {
            failing.error
        };
        for queued in std::mem::take(&mut self.queue) {
            queued.group.answer(Err(error.clone()));
            self.release(&queued.group);
        }
        // Nobody waits for a mark but a round of cleaning, which sees that it failed.
        if self.mark.take_if(|m| !m.submitted).is_some() {
            self.mark_failed = Some(error);
        }
        self.last_write = Some(now);
        self.poke_waiters();
    }
}
