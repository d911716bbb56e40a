//! Group commit: callers put their work into a shared state machine under a short lock, and one of those who wait
//! carries out what the machine wants done, outside of the lock, while the next group fills.
//!
//! This file knows no storage and no format (the idea of raft-engine's `write_barrier.rs`). It promises:
//! * no lock is held while work is carried out;
//! * nobody waits for a timer when there is work: a waiter always asks the machine before it parks, and whoever
//!   finishes a piece of work pokes a waiter of the next one;
//! * one call wakes all who wait for a group when it is answered, however many they are;
//! * if whoever carries out work panics, everybody who waits gets an error ([`Machine::crash`]).

use std::{
    cell::Cell,
    hint,
    sync::{PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use once_cell::sync::Lazy;

use crate::{
    awake::{Awake, FEW, processors, stay_awake, stay_awake_with_few},
    sync::{self, Arc, AtomicU32, Mutex, MutexGuard, Word},
};

const OPEN: u32 = 1 << 31;
/// A wait with an end this near is spent yielding.
const YIELDS: Duration = Duration::from_micros(200);
/// Copies are waited for without sleeping for so long.
const COPYING: Duration = Duration::from_micros(20);
/// Waits that are spent yielding last so long at most: for the group before, and for one's own.
const AWAKE: Duration = Duration::from_micros(400);
/// Polls before a waiter yields or parks: a microsecond, which is less than a wake-up call costs. On few processors fewer:
/// it is the one that whoever is waited for needs.
static SPINS: Lazy<u32> = Lazy::new(|| if processors() <= FEW { 6 } else { 30 });
/// Pieces of work that one worker does before it looks whether its own wait is over, at most.
const IN_A_ROW: u32 = 16;

/// How those who wait spend the time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Asleep.
    Sleep,
    /// Asleep, but yielding where an end is near and known.
    #[default]
    Mixed,
    /// Yielding: the wait will be so short that a processor should not be given up for it.
    Yield,
}

/// Where the members of a group wait: closed, then open for ever. A poke wakes one waiter to look for work.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    word: Word,
    parked: AtomicU32,
    manner: Manner,
}

impl Gate {
    /// A gate where one waits in this manner.
    pub(crate) fn new(manner: Manner) -> Gate {
        Gate { manner, ..Gate::default() }
    }

    /// Closes the gate again, for a group of others; nobody knows it.
    pub(crate) fn renew(&mut self, manner: Manner) {
        *self = Gate::new(manner);
    }

    /// Whether the wait is over.
    pub(crate) fn is_open(&self) -> bool {
        self.word.load(Ordering::Acquire) & OPEN != 0
    }

    /// A value that changes with every poke, to be read before looking for work.
    pub(crate) fn seen(&self) -> u32 {
        self.word.load(Ordering::Acquire)
    }

    /// Ends the wait for everybody.
    pub(crate) fn open(&self) {
        self.word.fetch_or(OPEN);
        self.wake(true);
    }

    /// Makes one waiter look again.
    pub(crate) fn poke(&self) {
        self.bump();
        self.wake(false);
    }

    /// Makes every waiter look again.
    pub(crate) fn poke_all(&self) {
        self.bump();
        self.wake(true);
    }

    fn bump(&self) {
        // The counter wraps below the flag.
        self.word.update(|w| (w & OPEN) | (w.wrapping_add(1) & !OPEN));
    }

    fn wake(&self, all: bool) {
        if self.parked.load(Ordering::SeqCst) > 0 {
            self.word.wake(all);
        }
    }

    /// Waits until the gate opens.
    pub(crate) fn await_open(&self) {
        loop {
            // Read before the look: an opening in between makes the wait return at once.
            let seen = self.seen();
            if self.is_open() {
                return;
            }
            self.wait(seen, None);
        }
    }

    /// Waits until the word is no longer `seen`, or until `deadline`.
    pub(crate) fn wait(&self, seen: u32, deadline: Option<Instant>) {
        if sync::polls() && self.poll(seen, deadline) {
            return;
        }
        self.parked.fetch_add(1, Ordering::SeqCst);
        while self.word.load(Ordering::SeqCst) == seen {
            let left = match deadline.map(|d| d.saturating_duration_since(sync::now())) {
                Some(Duration::ZERO) => break,
                left => left,
            };
            self.word.sleep(seen, left);
        }
        self.parked.fetch_sub(1, Ordering::SeqCst);
    }

    /// Waits for a little while without sleeping; gives whether the wait is over.
    fn poll(&self, seen: u32, deadline: Option<Instant>) -> bool {
        for _ in 0..*SPINS {
            if self.word.load(Ordering::Acquire) != seen {
                return true;
            }
            hint::spin_loop();
        }
        let changed = || self.word.load(Ordering::Acquire) != seen;
        let Some(deadline) = deadline else {
            return self.manner == Manner::Yield && stay_awake_with_few(AWAKE, changed) == Awake::Over;
        };
        if self.manner == Manner::Sleep {
            return false;
        }
        // A timer is no use for so short a wait; those who are waited for may need the processor.
        let left = deadline.saturating_duration_since(Instant::now());
        left < YIELDS && stay_awake(left, changed) != Awake::Crowded
    }
}

/// Counts the copies that are still going into a group. The last one lets the group go.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    pending: AtomicU32,
    done: Gate,
}

impl Copies {
    /// None yet; they are waited for in this manner.
    pub(crate) fn new(manner: Manner) -> Copies {
        Copies { done: Gate::new(manner), ..Copies::default() }
    }

    /// One more copy; only while the group can still be joined.
    pub(crate) fn begin(&self) {
        self.pending.fetch_add(1, Ordering::SeqCst);
    }

    /// One copy is in its place.
    pub(crate) fn end(&self) {
        if self.pending.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.done.poke_all();
        }
    }

    /// Whether one is still going on.
    pub(crate) fn any(&self) -> bool {
        self.pending.load(Ordering::SeqCst) > 0
    }

    /// Waits for all of them. Copies take microseconds, so this yields before it parks.
    pub(crate) fn await_all(&self) {
        if !self.any() {
            return;
        }
        if sync::polls()
            && self.done.manner != Manner::Sleep
            && stay_awake(COPYING, || !self.any()) == Awake::Over
        {
            return;
        }
        loop {
            let seen = self.done.seen();
            if self.pending.load(Ordering::SeqCst) == 0 {
                return;
            }
            self.done.wait(seen, None);
        }
    }
}

/// Somebody to wake once the lock is released.
#[derive(Debug)]
pub(crate) enum Wake {
    /// The group is answered.
    Open(Arc<Gate>),
    /// One waiter should look for work.
    Poke(Arc<Gate>),
    /// Every waiter should look again.
    PokeAll(Arc<Gate>),
}

/// What the machine wants of a worker.
#[derive(Debug)]
pub(crate) enum Step<Op> {
    /// Carry this out, and say how it went.
    Do(Op),
    /// Nothing for you now; look again when poked, or at this time.
    Idle(Option<Instant>),
}

/// A state machine driven by those who wait for it. It does no I/O, starts no thread and reads no clock.
pub(crate) trait Machine {
    /// Work to be carried out without the lock.
    type Op;
    /// How it went.
    type Outcome;
    /// Who asks for work.
    type Worker: Copy;

    /// The next piece of work for `worker`.
    fn step(&mut self, now: Instant, worker: Self::Worker) -> Step<Self::Op>;
    /// Takes in how a piece of work went.
    fn done(&mut self, now: Instant, outcome: Self::Outcome);
    /// The next piece of work for whoever has just done one, even if that was all it waited for: where a piece is done sooner
    /// than another would be there to take over.
    fn go_on(&mut self, _now: Instant, _worker: Self::Worker) -> Option<Self::Op> {
        None
    }
    /// A worker panicked: answer everybody who waits with an error.
    fn crash(&mut self);
    /// Whom the last calls want woken.
    fn wakes(&mut self) -> &mut Vec<Wake>;
}

/// The machine with its lock.
#[derive(Debug)]
pub(crate) struct Commit<M> {
    machine: Mutex<M>,
}

impl<M: Machine> Commit<M> {
    pub(crate) fn new(machine: M) -> Commit<M> {
        Commit { machine: Mutex::new(machine) }
    }

    fn lock(&self) -> MutexGuard<'_, M> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `change` under the lock, which must be short, then wakes whom it wants woken.
    pub(crate) fn with<R>(&self, change: impl FnOnce(&mut M) -> R) -> R {
        let mut machine = self.lock();
        let mut fuse = Fuse { machine: &mut *machine, whole: false };
        let result = change(fuse.machine);
        fuse.whole = true;
        drop(fuse);
        // Gone while a thread ends: a log may be closed even then.
        let mut wakes = SPARE_WAKES.try_with(Cell::take).unwrap_or_default();
        std::mem::swap(&mut wakes, machine.wakes());
        drop(machine);
        wake_all(&mut wakes);
        let _gone = SPARE_WAKES.try_with(|spare| spare.set(wakes));
        result
    }

    /// Carries out work as `worker` until `gate` opens.
    pub(crate) fn drive(&self, worker: M::Worker, gate: &Gate, carry_out: impl FnMut(M::Op) -> M::Outcome) {
        self.drive_after(worker, gate, None, carry_out);
    }

    /// The same; waits first, unless the gate's word is no longer what it was when there was nothing to do.
    pub(crate) fn drive_after(
        &self,
        worker: M::Worker,
        gate: &Gate,
        idle: Option<u32>,
        mut carry_out: impl FnMut(M::Op) -> M::Outcome,
    ) {
        if let Some(seen) = idle {
            gate.wait(seen, None);
        }
        loop {
            let seen = gate.seen();
            if gate.is_open() {
                return;
            }
            match self.with(|m| m.step(sync::now(), worker)) {
                Step::Do(op) => {
                    let outcome = self.guarded(|| carry_out(op));
                    self.finish(worker, outcome, |_| (), &mut carry_out);
                }
                Step::Idle(again) => gate.wait(seen, again),
            }
        }
    }

    /// Does a piece of work; if it panics, everybody who waits gets an error.
    pub(crate) fn guarded<T>(&self, work: impl FnOnce() -> T) -> T {
        let alarm = Alarm(self);
        let result = work();
        std::mem::forget(alarm);
        result
    }

    /// Says how a piece of work went, and goes on while the machine has more for whoever did it; then asks it something.
    pub(crate) fn finish<R>(
        &self,
        worker: M::Worker,
        mut outcome: M::Outcome,
        ask: impl Fn(&mut M) -> R,
        mut carry_out: impl FnMut(M::Op) -> M::Outcome,
    ) -> R {
        let mut left = IN_A_ROW;
        loop {
            left -= 1;
            let next = self.with(|m| {
                let now = sync::now();
                m.done(now, outcome);
                let more = if left > 0 { m.go_on(now, worker) } else { None };
                more.map_or_else(|| Err(ask(m)), Ok)
            });
            match next {
                Ok(op) => outcome = self.guarded(|| carry_out(op)),
                Err(answer) => return answer,
            }
        }
    }
}

thread_local! {
    /// An empty list that goes to and fro between a thread and the machine, so that none is allocated for a wake-up.
    static SPARE_WAKES: Cell<Vec<Wake>> = const { Cell::new(Vec::new()) };
}

fn wake_all(wakes: &mut Vec<Wake>) {
    for wake in wakes.drain(..) {
        match wake {
            Wake::Open(gate) => gate.open(),
            Wake::Poke(gate) => gate.poke(),
            Wake::PokeAll(gate) => gate.poke_all(),
        }
    }
}

/// Blows when the machine itself panics: nobody knows its state then, and nobody may wait for it.
struct Fuse<'a, M: Machine> {
    machine: &'a mut M,
    whole: bool,
}

impl<M: Machine> Drop for Fuse<'_, M> {
    fn drop(&mut self) {
        if !self.whole {
            self.machine.crash();
            wake_all(&mut std::mem::take(self.machine.wakes()));
        }
    }
}

/// Rings when work is left by a panic.
struct Alarm<'a, M: Machine>(&'a Commit<M>);

impl<M: Machine> Drop for Alarm<'_, M> {
    fn drop(&mut self) {
        self.0.with(Machine::crash);
    }
}
