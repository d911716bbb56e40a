//! A turnstile: lets few threads at a time into what is over sooner than a thread is woken.
//!
//! Threads that write without barriers hardly ever wait for a device, only for each other. Where there are more of them than
//! processors, those that sleep for their turn cost more than the writes: on two processors 64 threads that woke each other
//! had half the records a second of one alone. Here whoever runs goes on, and goes in again, for [`TURN`]; then it gives its
//! place to one of those outside, who is woken for that. Otherwise whoever leaves wakes nobody while others are inside: who leaves
//! mostly comes back sooner than a thread that was woken. (Java's monitors let whoever runs go on, too, with one place.) If not,
//! one of those outside, who looks once in a turn, finds the place. And after [`PATIENCE`] everybody comes in, places or not.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::{
    awake::{nanos, since_first},
    sync::{self, AtomicU32, Word},
};

/// Nobody waits outside for longer.
const PATIENCE: Duration = Duration::from_millis(50);
/// For so long the same threads go in and out while others wait.
pub(crate) const TURN: Duration = Duration::from_millis(1);

/// No time.
const NEVER: u64 = u64::MAX;

/// Places inside, and those who wait for one.
#[derive(Debug)]
pub(crate) struct Turnstile {
    places: u32,
    /// Places that are taken, those included that were handed over and not yet taken up.
    inside: AtomicU32,
    outside: AtomicU32,
    /// Places that were handed over and not yet taken up.
    handed: AtomicU32,
    /// 1 while somebody who was called is on the way: one is enough.
    called: AtomicU32,
    /// 1 while one of those outside looks by itself, once in a turn: whoever leaves while others are inside calls nobody.
    watched: AtomicU32,
    door: Word,
    turn: Duration,
    /// When a place was handed over last.
    last: AtomicU64,
}

/// A place inside, until it is dropped.
#[derive(Debug)]
pub(crate) struct Pass<'a>(Option<&'a Turnstile>);

impl Turnstile {
    pub(crate) fn new(places: u32, turn: Duration) -> Turnstile {
        Turnstile {
            places,
            inside: AtomicU32::default(),
            outside: AtomicU32::default(),
            handed: AtomicU32::default(),
            called: AtomicU32::default(),
            watched: AtomicU32::default(),
            door: Word::default(),
            turn,
            last: AtomicU64::new(NEVER),
        }
    }

    /// Waits for a place, and takes it.
    pub(crate) fn enter(&self) -> Pass<'_> {
        if self.take() { Pass(Some(self)) } else { self.wait() }
    }

    fn take(&self) -> bool {
        let mut inside = self.inside.load(Ordering::SeqCst);
        while inside < self.places {
            match self.inside.compare_exchange(inside, inside + 1, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return true,
                Err(now) => inside = now,
            }
        }
        false
    }

    /// Takes up a place that was handed over.
    fn take_up(&self) -> bool {
        let mut handed = self.handed.load(Ordering::SeqCst);
        while handed > 0 {
            match self.handed.compare_exchange(handed, handed - 1, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return true,
                Err(now) => handed = now,
            }
        }
        false
    }

    #[cold]
    fn wait(&self) -> Pass<'_> {
        let deadline = sync::now() + PATIENCE;
        loop {
            self.outside.fetch_add(1, Ordering::SeqCst);
            // In this order: a call that found nobody, since whom it was for had just come in, is undone here, or seen by what
            // follows.
            let seen = self.door.load(Ordering::SeqCst);
            self.called.store(0, Ordering::SeqCst);
            let full = self.inside.load(Ordering::SeqCst) >= self.places;
            let left = deadline.saturating_duration_since(sync::now());
            // What was handed over is for those who waited then, and they are on their way; unless there is one for everybody.
            let enough = self.outside.load(Ordering::SeqCst) <= self.handed.load(Ordering::SeqCst);
            let watches = self.watched.compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst).is_ok();
            if full && !enough && !left.is_zero() {
                self.door.sleep(seen, Some(if watches { left.min(self.turn.max(TURN)) } else { left }));
            }
            if watches {
                self.watched.store(0, Ordering::SeqCst);
            }
            self.outside.fetch_sub(1, Ordering::SeqCst);
            self.called.store(0, Ordering::SeqCst);
            let inside = self.take_up() || self.take();
            if !inside && !left.is_zero() {
                continue;
            }
            // Two may have handed over their places to one.
            self.take_back();
            // Two may have left, and called one; and somebody else is to watch.
            if watches || self.inside.load(Ordering::SeqCst) < self.places {
                self.call();
            }
            return Pass(inside.then_some(self));
        }
    }

    fn call(&self) {
        if self.outside.load(Ordering::SeqCst) > 0
            && self.called.compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        {
            self.wake();
        }
    }

    fn wake(&self) {
        self.door.update(|calls| calls.wrapping_add(1));
        self.door.wake(false);
    }

    /// Frees what was handed over and is for nobody. Whoever was outside sees what was handed over, or is not outside any more
    /// for whoever did that: one comes before the other.
    fn take_back(&self) {
        while self.outside.load(Ordering::SeqCst) == 0 && self.take_up() {
            self.give_up();
        }
    }

    /// Gives up a place. Whoever is still inside will leave, too; the last one sees to it that somebody comes.
    fn give_up(&self) {
        let others = self.inside.fetch_sub(1, Ordering::SeqCst) - 1;
        if others <= self.handed.load(Ordering::SeqCst) {
            self.call();
        }
    }

    /// Whether all places are free.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.inside.load(Ordering::SeqCst) + self.handed.load(Ordering::SeqCst) == 0
    }

    /// Whether it is somebody else's turn.
    fn is_over(&self) -> bool {
        let now = since_first(sync::now());
        let last = self.last.load(Ordering::Relaxed);
        (last == NEVER || now.saturating_sub(last) >= nanos(self.turn))
            && self.last.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn leave(&self) {
        let waited_for = self.outside.load(Ordering::SeqCst) > 0;
        if waited_for && self.is_over() {
            self.handed.fetch_add(1, Ordering::SeqCst);
            self.wake();
            self.take_back();
            return;
        }
        self.give_up();
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if let Some(turnstile) = self.0 {
            turnstile.leave();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    };

    use super::*;

    #[test]
    fn as_many_are_inside_as_there_are_places_and_all_come_in() {
        let turnstile = Arc::new(Turnstile::new(2, TURN));
        let (inside, most, done) =
            (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let (turnstile, inside, most, done) =
                    (turnstile.clone(), inside.clone(), most.clone(), done.clone());
                std::thread::spawn(move || {
                    for _ in 0..2_000 {
                        let pass = turnstile.enter();
                        if pass.0.is_some() {
                            let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
                            most.fetch_max(now, Ordering::SeqCst);
                            inside.fetch_sub(1, Ordering::SeqCst);
                        }
                        drop(pass);
                        done.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|t| t.join().unwrap());
        assert_eq!(done.load(Ordering::SeqCst), 16_000);
        assert!(most.load(Ordering::SeqCst) <= 2, "{most:?} were inside");
        assert!(turnstile.is_empty(), "a place was lost: {turnstile:?}");
    }

    #[test]
    fn nobody_is_kept_out_for_ever() {
        let turnstile = Arc::new(Turnstile::new(1, TURN));
        let held = turnstile.enter();
        let came = Arc::new(AtomicBool::new(false));
        let other = std::thread::spawn({
            let (turnstile, came) = (turnstile.clone(), came.clone());
            move || {
                let _pass = turnstile.enter();
                came.store(true, Ordering::SeqCst);
            }
        });
        other.join().unwrap();
        assert!(came.load(Ordering::SeqCst), "while the only place is taken");
        drop(held);
        assert!(turnstile.is_empty(), "whoever had no place gives none back: {turnstile:?}");
    }
}
