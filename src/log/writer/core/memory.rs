//! Who gets memory for a record when there is none left: whoever has waited longest.
//!
//! Each has a gate of its own, and what is given back wakes the first of them only. (When all were woken, 56 of 64 writers of
//! large records woke for each one that was written, for nothing; and who had just written one was there before them: the
//! longest wait was five times as long.) So a buffer may be free while others wait behind a record that needs two.

use std::{collections::VecDeque, mem, time::Instant};

use bytes::BytesMut;

use super::{Core, Queued, Reserved};
use crate::{
    commit::{Gate, Wake},
    error::Result,
    log::writer::group::Filling,
    metrics::add,
    sync::Arc,
};

/// A caller that waits for memory.
#[derive(Debug)]
pub(super) struct Hungry {
    gate: Arc<Gate>,
    length: u32,
}

#[cfg(all(test, not(loom)))]
impl Hungry {
    pub(super) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }
}

impl Core {
    /// Gives a record of `length` bytes a seat.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn reserve(&mut self, now: Instant, length: u32, time: i64) -> Result<Reserved> {
        self.reserve_in_line(now, length, time, None)
    }

    /// Gives a record of `length` bytes a seat. One that waited at a gate ([`Reserved::Wait`]) keeps its place in the line if it
    /// has to wait again.
    pub(crate) fn reserve_in_line(
        &mut self,
        now: Instant,
        length: u32,
        time: i64,
        gate: Option<&Arc<Gate>>,
    ) -> Result<Reserved> {
        let is_next = match (self.hungry.front(), gate) {
            (Some(first), Some(gate)) => Arc::ptr_eq(&first.gate, gate),
            (first, _) => first.is_none(),
        };
        let seat = match self.seat(now, length, time, is_next) {
            Ok(None) => return Ok(self.wait_in_line(length, gate)),
            Ok(Some(seat)) => Ok(seat),
            Err(error) => Err(error),
        };
        if let Some(gate) = gate {
            self.leave_line(gate);
        }
        seat
    }

    pub(super) fn wait_in_line(&mut self, length: u32, gate: Option<&Arc<Gate>>) -> Reserved {
        let gate = gate.cloned().unwrap_or_else(|| {
            add(&self.config.metrics.memory_waits, 1);
            let gate = Arc::new(Gate::default());
            self.hungry.push_back(Hungry { gate: gate.clone(), length });
            gate
        });
        let seen = gate.seen();
        Reserved::Wait(gate, seen)
    }

    /// Whoever waited there does not any more.
    pub(crate) fn leave_line(&mut self, gate: &Arc<Gate>) {
        self.hungry.retain(|h| !Arc::ptr_eq(&h.gate, gate));
        self.feed();
    }

    /// Takes back the buffers of a large record.
    pub(crate) fn give_back(&mut self, buffers: [BytesMut; 2]) {
        for buffer in buffers {
            self.pool.give(buffer);
        }
        self.feed();
    }

    /// Takes back the memory of groups that wait and that all have left: nobody is there who would write them.
    pub(super) fn let_go_of_abandoned(&mut self) {
        if self.filling.as_ref().is_some_and(|f| f.group().is_abandoned()) {
            self.close_filling();
        }
        let (abandoned, queue): (VecDeque<_>, _) =
            mem::take(&mut self.queue).into_iter().partition(|q| q.group.is_abandoned());
        self.queue = queue;
        for Queued { group, .. } in abandoned {
            self.release(&group);
        }
    }

    /// Wakes whoever has waited longest, if there is something for it.
    pub(super) fn feed(&mut self) {
        if self.closing || self.fatal.is_some() {
            // An error is for all of them, and one that panicked passes nothing on.
            return self.wakes.extend(self.hungry.iter().map(|h| Wake::Poke(h.gate.clone())));
        }
        let Some(Hungry { gate, length }) = self.hungry.front() else { return };
        let small = Filling::can_ever_hold(*length);
        let joins = small && self.filling.as_ref().is_some_and(|f| f.has_room(*length));
        if joins || self.pool.has(if small { 1 } else { 2 }) {
            self.wakes.push(Wake::Poke(gate.clone()));
        }
    }

    /// Two buffers that nobody else can have meanwhile.
    #[cfg(all(test, loom))]
    pub(crate) fn take_two(&mut self) -> Option<[BytesMut; 2]> {
        Some([self.pool.take()?, self.pool.take()?])
    }
}
