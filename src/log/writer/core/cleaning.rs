//! Rounds of cleaning: make the low-water mark durable, delete, look after dead writers, tell who waits.

use std::time::Instant;

use super::{Core, Op, Phase, Round, Unsynced};
use crate::{
    commit::{Gate, Step, Wake},
    error::Error,
    planted::planted,
    sync::Arc,
};

impl Core {
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

    /// Why the round of cleaning that opened `gate` failed, if it did.
    pub(crate) fn take_clean_error(&mut self, gate: &Arc<Gate>) -> Option<Error> {
        let i = self.cleaning.failed.iter().position(|(g, _)| Arc::ptr_eq(g, gate))?;
        Some(self.cleaning.failed.swap_remove(i).1)
    }

    pub(super) fn next_clean_step(&mut self, now: Instant) -> Option<Step<Op>> {
        if self.cleaning.round.is_none() && std::mem::take(&mut self.cleaning.again) {
            let insist = std::mem::take(&mut self.cleaning.insist);
            let gates = std::mem::take(&mut self.cleaning.wanted);
            let (threshold, unsealed) = (self.thresholds.effective(), !self.config.durable);
            let doomed = self.segments.doom(threshold, self.config.deferred, unsealed);
            let phase = if doomed || insist { Phase::Marking } else { Phase::Collect };
            self.mark_failed = None;
            self.cleaning.round = Some(Round { gates, phase, insist, frees: doomed, collected: None });
        }
        let round = self.cleaning.round.as_mut()?;
        match round.phase {
            // The low-water mark is durable before what lies below it goes, so that absence is always explained. Any
            // group carries it; only a silent log needs a mark of its own.
            Phase::Marking => {
                let threshold = if round.insist { self.thresholds.effective() } else { i64::MIN };
                let low_water = self.durable_low_water >= self.segments.low_water();
                if (low_water && self.durable_threshold >= threshold) || planted!(DeleteBeforeMark) {
                    round.phase = Phase::Delete;
                    return self.next_clean_step(now);
                }
                // Without barriers writers go on while the segment is synced.
                let written = self
                    .unsynced
                    .take_if(|u| u.low_water >= self.segments.low_water() && u.threshold >= threshold);
                if let Some(Unsynced { segment, id, low_water, threshold }) = written {
                    round.phase = Phase::Syncing;
                    self.busy = true;
                    return Some(Step::Do(Op::Sync { segment, id, low_water, threshold }));
                }
                if let Some(error) = self.mark_failed.take() {
                    // It has nothing of its own to drop. What others left may be dropped without this mark, and make room for it.
                    if error.is_full()
                        && !round.frees
                        && round.collected.is_none()
                        && self.config.collect_every.is_some()
                    {
                        round.phase = Phase::Collect;
                        return self.next_clean_step(now);
                    }
                    self.end_round(Some(error));
                    return None;
                }
                let frees = round.frees;
                self.make_mark(frees);
                None
            }
            Phase::Syncing | Phase::Deleting | Phase::Collecting => None,
            Phase::Delete => {
                let (ids, tainted) = (self.segments.doomed(), self.segments.tainted());
                if ids.is_empty() {
                    round.phase = Phase::Collect;
                    return self.next_clean_step(now);
                }
                round.phase = Phase::Deleting;
                Some(Step::Do(Op::Delete { ids, tainted, open: self.segments.let_go() }))
            }
            Phase::Collect => {
                let due = self.config.collect_every.is_some_and(|every| {
                    round.insist || self.cleaning.last_collected.is_none_or(|t| now >= t + every)
                });
                if let Some(result) = round.collected.take() {
                    self.end_round(result.err());
                    return None;
                }
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

    /// Other writers were looked after. Who insists has the threshold itself made durable, too, if that was not done before.
    pub(super) fn collected(&mut self, result: Result<(), Error>) {
        let marked = self.durable_threshold >= self.thresholds.effective();
        match &mut self.cleaning.round {
            Some(round) if round.insist && !marked => {
                round.collected = Some(result);
                round.phase = Phase::Marking;
                self.space_may_be_free();
            }
            _ => self.end_round(result.err()),
        }
    }

    pub(super) fn end_round(&mut self, error: Option<Error>) {
        if let Some(round) = self.cleaning.round.take() {
            if let Some(error) = error {
                // Only those who wait will ask.
                let waited = round.gates.iter().filter(|gate| Arc::strong_count(gate) > 1);
                self.cleaning.failed.extend(waited.map(|gate| (gate.clone(), error.clone())));
            }
            self.wakes.extend(round.gates.into_iter().map(Wake::Open));
        }
        self.space_may_be_free();
    }

    /// Whoever waits for some need not wait for its clock.
    fn space_may_be_free(&mut self) {
        if let Some(failing) = &mut self.failing {
            failing.retry = failing.since;
        }
        self.poke_waiters();
        self.wake_housekeeper();
    }
}
