//! What the housekeeper does: seal, prepare, keep a reserve, write marks; and what is left to do at the close.

use std::time::Instant;

use super::{Core, MARK_ROOM, Mark, Op, Queued, Ready, Worker};
use crate::{
    commit::{Manner, Step, Wake},
    format::GroupHeader,
    log::writer::{group::Filling, pool::for_a_mark},
};

impl Core {
    pub(super) fn next_chore(&mut self, now: Instant) -> Step<Op> {
        let mut again = Vec::new();
        // Before all else, and beside it: writers may soon wait for it.
        if self.config.prepare
            && !self.closing
            && matches!(self.ready, Ready::None)
            && self.segments.active().is_some()
        {
            match self.prepare_after {
                Some(after) if now < after => again.push(after),
                _ => {
                    let least = u64::from(self.config.block) * 4;
                    return Step::Do(self.create(least, false, false));
                }
            }
        }
        if self.busy {
            return Step::Idle(again.into_iter().min());
        }
        match self.segments.seal_due(self.config.seal_after, self.config.most_unsealed) {
            // What is left of a segment's space is given back when it is sealed.
            Some(due) if now < due && !self.closing && !self.is_full() => again.push(due),
            Some(_) => match self.seal_next() {
                Some(seal) => return Step::Do(seal),
                None if self.config.durable => {}
                None => again.push(now + self.config.seal_after),
            },
            None => {}
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
        let waiting = self.queue.iter().map(|q| &q.group).chain(self.filling.as_ref().map(Filling::group));
        let silent = self.flying.is_empty() && waiting.into_iter().all(|g| g.is_abandoned());
        if self.config.marks && self.config.durable && self.last_record >= self.covered && !self.closing {
            let since = self.last_write.into_iter().chain(self.failing.as_ref().map(|f| f.retry)).max();
            let due = since.map_or(now, |t| t + self.config.idle_mark);
            if now < due {
                again.push(due);
            } else if !silent {
                // Nobody wakes the housekeeper for the end of this: it looks again by itself.
                again.push(now + self.config.idle_mark);
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

    /// Prepares a group without records, unless one is under way.
    pub(super) fn make_mark(&mut self, frees: bool) {
        if let Some(mark) = &mut self.mark {
            mark.frees |= frees;
            return;
        }
        let group = Filling::new(for_a_mark(self.config.block), Manner::Sleep, &mut self.spent).close();
        self.mark = Some(Mark {
            queued: Queued { group, frames: 0, seats: 0, max_time: i64::MIN, since: None },
            frees,
            submitted: false,
        });
    }

    /// Submits the mark, ahead of groups that wait for a segment.
    pub(super) fn next_mark(&mut self, now: Instant) -> Step<Op> {
        let can_fly = self.can_fly();
        let Some(mark) = self.mark.as_mut().filter(|m| can_fly && !m.submitted) else {
            return Step::Idle(None);
        };
        let footprint = GroupHeader::footprint(0, self.config.align);
        let frees = mark.frees;
        let room = if frees { 0 } else { MARK_ROOM };
        let fits = self.segments.active().is_some_and(|a| a.has_room(footprint, room, &self.config));
        if !fits && let Some(step) = self.next_segment(now, footprint, frees) {
            return step;
        }
        let Some(mark) = &mut self.mark else { return Step::Idle(None) };
        mark.submitted = true;
        let Queued { group, frames, seats, max_time, since } = &mark.queued;
        let queued = Queued {
            group: group.clone(),
            frames: *frames,
            seats: *seats,
            max_time: *max_time,
            since: *since,
        };
        self.submit(now, queued, footprint, self.barrier())
    }

    pub(super) fn next_closing_step(&mut self, now: Instant) -> Step<Op> {
        match self.next_write(now, Worker::Closer) {
            Step::Idle(None) => {}
            step => return step,
        }
        let waiting = !self.queue.is_empty()
            || !self.flying.is_empty()
            || self.filling.as_ref().is_some_and(|f| !f.is_empty())
            || self.returning > 0;
        let working = self.busy || matches!(self.ready, Ready::Creating) || self.cleaning.round.is_some();
        if waiting || working {
            return if self.config.prepare { Step::Idle(None) } else { self.next_chore(now) };
        }
        self.segments.retire(now, false);
        if let Some(seal) = self.seal_next() {
            return Step::Do(seal);
        }
        let ready = std::mem::replace(&mut self.ready, Ready::None);
        if let (Ready::Segment { id, .. }, false) = (ready, self.config.deferred) {
            // Nothing was ever written to it.
            self.busy = true;
            return Step::Do(Op::Delete { ids: vec![id], tainted: Vec::new(), open: Vec::new() });
        }
        for gate in std::mem::take(&mut self.cleaning.wanted) {
            self.wakes.push(Wake::Open(gate));
        }
        self.wakes.push(Wake::Open(self.drained.clone()));
        self.wakes.push(Wake::Open(self.housekeeper.clone()));
        Step::Idle(None)
    }

    fn is_full(&self) -> bool {
        self.failing.as_ref().is_some_and(|f| f.error.is_full())
    }

    fn seal_next(&mut self) -> Option<Op> {
        let durable = self.known_durable();
        let seal = self.segments.next_to_seal(
            durable,
            self.thresholds.effective(),
            self.config.block,
            self.config.preallocated,
        )?;
        self.busy = true;
        Some(seal)
    }
}
