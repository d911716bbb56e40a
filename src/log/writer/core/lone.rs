//! Records that go by themselves: without a barrier there is nothing to share, and a group's bookkeeping (seats, members,
//! wake-up calls) is as much work as the write itself.
//!
//! A caller stages its record first, in memory of its thread; then takes a place, if nobody waits for one; writes; and says
//! how that went. Several may be at it at once: each is answered when those before it are written. If a write fails, those
//! that were at it join a group like everybody else, and that deals with what went wrong.

use std::time::Instant;

use super::{Core, Reserved, Whose};
use crate::{
    commit::{Gate, Wake},
    error::Result,
    format::{FrameHeader, GroupHeader},
    log::writer::group::Stamp,
    planted::planted,
    storage::Poisoned,
    sync::Arc,
};

/// A place for a record that goes by itself.
#[derive(Debug)]
pub(crate) struct Lone {
    pub(crate) stamp: Stamp,
    pub(crate) segment: Arc<Poisoned>,
    pub(crate) ticket: u64,
}

/// What became of one that was written.
#[derive(Debug)]
pub(crate) enum Fate {
    Acknowledged,
    /// Others before it are not: to be asked again when the gate is no longer as it was `seen`.
    Waits(Arc<Gate>, u32),
    /// It was not written, or nothing that was written counts: it goes once more, with others.
    Refused,
}

impl Core {
    /// A place for a record of `length` bytes that its caller writes at once, without a barrier. `None`: it goes with others.
    pub(crate) fn go_alone(&mut self, now: Instant, length: u32, time: i64) -> Option<Lone> {
        let in_trouble = self.fatal.is_some() || self.closing || self.failing.is_some();
        let others = self.filling.is_some() || !self.queue.is_empty();
        if self.config.durable || in_trouble || others || !self.can_fly() {
            return None;
        }
        let footprint = GroupHeader::footprint(FrameHeader::footprint(length), self.config.align);
        if !self.segments.active()?.takes(footprint, time, &self.config) {
            return None;
        }
        let (stamp, segment) = self.stamp(footprint, time)?;
        self.ticket += 1;
        let ticket = self.ticket;
        self.fly(now, Whose::Lone { ticket, waits: false }, segment.clone(), stamp);
        Some(Lone { stamp, segment, ticket })
    }

    /// What became of the one with this ticket, which was written, or not.
    pub(crate) fn fate(&mut self, ticket: u64) -> Fate {
        if let Some(i) = self.refused.iter().position(|t| *t == ticket) {
            self.refused.swap_remove(i);
            return Fate::Refused;
        }
        for flight in &mut self.flying {
            if let Whose::Lone { ticket: theirs, waits } = &mut flight.whose
                && *theirs == ticket
                && !planted!(AnswerLoneAtOnce)
            {
                *waits = true;
                return Fate::Waits(self.order.clone(), self.order.seen());
            }
        }
        Fate::Acknowledged
    }

    /// [`Core::reserve_in_line`] for one that was refused: a close that began meanwhile waits for it, and others that wait for memory
    /// came later.
    pub(crate) fn rejoin(&mut self, now: Instant, length: u32, time: i64) -> Result<Reserved> {
        let closing = std::mem::take(&mut self.closing);
        let seat = self.seat(now, length, time, true);
        let reserved = seat.map(|seat| seat.unwrap_or_else(|| self.wait_in_line(length, None)));
        self.closing = closing;
        self.feed();
        self.returning = self.returning.saturating_sub(1);
        self.poke_waiters();
        reserved
    }

    /// It goes once more, with others.
    pub(super) fn refuse(&mut self, ticket: u64, waits: bool) {
        self.refused.push(ticket);
        self.returning += 1;
        self.let_go(waits);
    }

    /// Its caller looks again, if it is asleep.
    pub(super) fn let_go(&mut self, waits: bool) {
        if waits && !planted!(LeaveLoneAsleep) {
            self.wakes.push(Wake::PokeAll(self.order.clone()));
        }
    }
}
