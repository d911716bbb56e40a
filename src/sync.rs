//! What threads of the writer meet at: the standard library's types and the kernel's futex. With `--cfg loom`
//! (`make loom`) they are models of them, and every order in which threads can run is tried.
//!
//! In such a model time stands still: a wait with an end has none, so that no timer hides a wake-up call that is missing.

use std::{
    io,
    sync::PoisonError,
    thread,
    time::{Duration, Instant, SystemTime},
};

use uuid::Uuid;

#[cfg(loom)]
pub(crate) use modelled::*;
#[cfg(not(loom))]
pub(crate) use real::*;

/// Where threads take turns in a simulation (`src/turns.rs`), this is done, and returns; elsewhere it does not exist.
macro_rules! in_turns {
    ($done:expr) => {
        #[cfg(all(test, not(loom), feature = "object-store"))]
        {
            if crate::turns::on() {
                return $done;
            }
        }
    };
}
#[cfg(any(not(loom), feature = "object-store"))]
pub(crate) use in_turns;

/// The time of day: for what other machines see, and to notice that this one stood still.
pub(crate) fn time_of_day() -> SystemTime {
    #[cfg(all(test, not(loom), feature = "object-store"))]
    if let Some(now) = crate::turns::wall() {
        return now;
    }
    SystemTime::now()
}

/// Seconds of a clock that is read in nanoseconds: for what is done about once in each.
pub(crate) fn seconds() -> u64 {
    in_turns!(0);
    let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    u64::try_from(now.tv_sec).unwrap_or(0)
}

/// A uuid that nobody else has.
pub(crate) fn new_uuid() -> Uuid {
    #[cfg(all(test, not(loom), feature = "object-store"))]
    if let Some(uuid) = crate::turns::uuid() {
        return uuid;
    }
    Uuid::new_v4()
}

/// Does nothing for a while.
#[cfg(feature = "object-store")]
pub(crate) fn pause(time: Duration) {
    in_turns!(crate::turns::pause(time));
    thread::sleep(time);
}

/// A lock that its holder keeps while it waits for storage: for what is rare, and never for a record. It is had in the order
/// in which it was asked for: who tries again and again keeps nobody else from it.
#[derive(Debug, Default)]
pub(crate) struct Patient {
    mutex: std::sync::Mutex<()>,
    line: std::sync::Mutex<Line>,
    moved: std::sync::Condvar,
}

#[derive(Debug, Default)]
struct Line {
    next: u64,
    served: u64,
}

impl Patient {
    pub(crate) fn lock(&self) -> Patiently<'_> {
        in_turns!(Patiently { waited: Duration::ZERO, lock: self, _held: crate::turns::lock(&self.mutex) });
        let began = Instant::now();
        let mut line = self.line();
        let place = line.next;
        line.next += 1;
        while line.served != place {
            line = self.moved.wait(line).unwrap_or_else(PoisonError::into_inner);
        }
        drop(line);
        let held = self.mutex.lock().unwrap_or_else(PoisonError::into_inner);
        Patiently { waited: began.elapsed(), lock: self, _held: held }
    }

    fn line(&self) -> std::sync::MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Such a lock, held.
#[derive(Debug)]
pub(crate) struct Patiently<'a> {
    /// How long others kept it. In a simulation nobody waits by a clock.
    pub(crate) waited: Duration,
    lock: &'a Patient,
    _held: std::sync::MutexGuard<'a, ()>,
}

impl Drop for Patiently<'_> {
    fn drop(&mut self) {
        // Whoever is woken has a turn only after this one's.
        in_turns!(crate::turns::wake(std::ptr::from_ref(&self.lock.mutex) as usize, true));
        self.lock.line().served += 1;
        self.lock.moved.notify_all();
    }
}

/// A thread of the log's own.
#[derive(Debug)]
pub(crate) enum Thread {
    System(thread::JoinHandle<()>),
    #[cfg(all(test, not(loom), feature = "object-store"))]
    Turns(crate::turns::Handle),
}

/// Starts a thread.
pub(crate) fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> io::Result<Thread> {
    in_turns!(crate::turns::spawn(name, work).map(Thread::Turns));
    thread::Builder::new().name(name).spawn(work).map(Thread::System)
}

impl Thread {
    /// Waits for its end; gives whether that was no panic.
    pub(crate) fn join(self) -> bool {
        match self {
            Thread::System(thread) => thread.join().is_ok(),
            #[cfg(all(test, not(loom), feature = "object-store"))]
            Thread::Turns(thread) => {
                thread.join();
                true
            }
        }
    }
}

#[cfg(not(loom))]
mod real {
    use std::{sync::atomic::Ordering, time::Duration};
    pub(crate) use std::{
        sync::{Arc, Mutex, MutexGuard, atomic::AtomicU32},
        time::Instant,
    };

    use rustix::{fs::Timespec, thread::futex};

    /// Whether a waiter looks a few times more before it sleeps.
    pub(crate) fn polls() -> bool {
        super::in_turns!(false);
        true
    }

    /// What time it is.
    pub(crate) fn now() -> Instant {
        #[cfg(all(test, feature = "object-store"))]
        if let Some(now) = crate::turns::now() {
            return now;
        }
        Instant::now()
    }

    /// A number that threads can sleep at until it changes.
    #[derive(Debug, Default)]
    pub(crate) struct Word(AtomicU32);

    impl Word {
        pub(crate) fn load(&self, order: Ordering) -> u32 {
            self.0.load(order)
        }

        pub(crate) fn fetch_or(&self, bits: u32) {
            self.0.fetch_or(bits, Ordering::SeqCst);
        }

        /// Replaces the number by what `change` makes of it.
        pub(crate) fn update(&self, change: impl Fn(u32) -> u32) {
            let _always_some =
                self.0.fetch_update(Ordering::SeqCst, Ordering::Relaxed, |word| Some(change(word)));
        }

        /// Sleeps unless the number is no longer `seen`; may return early, for no reason at all.
        pub(crate) fn sleep(&self, seen: u32, most: Option<Duration>) {
            super::in_turns!(if self.load(Ordering::SeqCst) == seen {
                crate::turns::sleep(&raw const self.0 as usize, most);
            });
            let timeout = most.map(|d| Timespec {
                tv_sec: i64::try_from(d.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: d.subsec_nanos().into(),
            });
            // Every way in which this returns leads to looking at the number and the clock again.
            let _ = futex::wait(&self.0, futex::Flags::PRIVATE, seen, timeout.as_ref());
        }

        /// Wakes one of those who sleep, or all of them.
        pub(crate) fn wake(&self, all: bool) {
            super::in_turns!(crate::turns::wake(&raw const self.0 as usize, all));
            // Waking nobody is no failure, and the call has no other.
            let _ = futex::wake(&self.0, futex::Flags::PRIVATE, if all { u32::MAX >> 1 } else { 1 });
        }
    }
}

#[cfg(loom)]
mod modelled {
    pub(crate) use std::time::Instant;
    use std::{
        sync::{OnceLock, PoisonError, atomic::Ordering},
        time::Duration,
    };

    pub(crate) use loom::sync::{Arc, Mutex, MutexGuard};
    use loom::sync::{Condvar, atomic, atomic::fence};

    pub(crate) fn polls() -> bool {
        false
    }

    pub(crate) fn now() -> Instant {
        static START: OnceLock<Instant> = OnceLock::new();
        *START.get_or_init(Instant::now)
    }

    /// loom knows sequential consistency of fences, and not quite of atomics: each access has a fence beside it.
    #[derive(Debug, Default)]
    pub(crate) struct AtomicU32(atomic::AtomicU32);

    impl AtomicU32 {
        pub(crate) fn load(&self, order: Ordering) -> u32 {
            if order == Ordering::SeqCst {
                fence(order);
            }
            self.0.load(Ordering::Acquire)
        }

        pub(crate) fn fetch_add(&self, n: u32, order: Ordering) -> u32 {
            let before = self.0.fetch_add(n, Ordering::AcqRel);
            fence(order);
            before
        }

        pub(crate) fn fetch_sub(&self, n: u32, order: Ordering) -> u32 {
            self.fetch_add(n.wrapping_neg(), order)
        }

        pub(crate) fn store(&self, n: u32, order: Ordering) {
            self.0.store(n, Ordering::Release);
            fence(order);
        }

        pub(crate) fn compare_exchange(
            &self,
            from: u32,
            to: u32,
            order: Ordering,
            _: Ordering,
        ) -> Result<u32, u32> {
            let before = self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
            fence(order);
            before
        }
    }

    /// The futex: what the kernel does under the lock of its own queue is done under `queue` here.
    #[derive(Debug, Default)]
    pub(crate) struct Word {
        number: AtomicU32,
        queue: Mutex<()>,
        asleep: Condvar,
    }

    impl Word {
        pub(crate) fn load(&self, order: Ordering) -> u32 {
            self.number.load(order)
        }

        pub(crate) fn fetch_or(&self, bits: u32) {
            self.number.0.fetch_or(bits, Ordering::AcqRel);
            fence(Ordering::SeqCst);
        }

        pub(crate) fn update(&self, change: impl Fn(u32) -> u32) {
            let _always_some =
                self.number.0.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |word| Some(change(word)));
            fence(Ordering::SeqCst);
        }

        pub(crate) fn sleep(&self, seen: u32, _most: Option<Duration>) {
            let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            if self.number.load(Ordering::SeqCst) == seen {
                drop(self.asleep.wait(queue));
            }
        }

        pub(crate) fn wake(&self, all: bool) {
            let _queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            if all {
                self.asleep.notify_all();
            } else {
                self.asleep.notify_one();
            }
        }
    }
}
