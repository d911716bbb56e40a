//! Waiting without sleeping, where that is for the best.
//!
//! A processor that sleeps is woken late, on a virtual machine by tens of microseconds: as long as a barrier of a fast device.
//! So brief waits are spent yielding, which lets whoever has work by. That is the fastest way to wait on a machine with idle
//! processors, and the slowest on one where others compute: they keep what is yielded to them for milliseconds, while a
//! sleeper that is woken is put before them. (Eight writers of 1 KiB beside four threads that compute, on four cores: 3,500
//! records a second by yielding, 35,000 by sleeping.) So whoever meets somebody who computes tells all others, and nobody
//! yields for a while.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use once_cell::sync::Lazy;

/// Whoever yields a processor for longer had better sleep: as many who wait as there may be have their turns in half of this.
const CROWDED: Duration = Duration::from_micros(400);
/// For longer, and somebody computes on it: that keeps a processor for milliseconds.
const COMPUTED: Duration = Duration::from_millis(2);
/// The first pause after meeting somebody who computes. One that follows soon upon another is twice as long,
const PAUSE: Duration = Duration::from_millis(4);
/// up to this.
const LONGEST_PAUSE: Duration = Duration::from_millis(512);
/// Soon: so long after the end of the last pause. Whoever computes is met again with one of the next yields; what is met later
/// is something else, such as a housekeeper that gives a large file back. (Counted in pauses, as it once was, a few dozen of
/// those in a second made pauses as long as they get.)
const SOON: Duration = Duration::from_millis(8);

/// Those who yield in [`stay_awake_with_few`], in the whole process.
static YIELDERS: AtomicU32 = AtomicU32::new(0);
/// At most as many, on any number of processors: to wake those that sleep takes longer than the barrier that they waited for,
/// and who yields to the others costs them little.
const MOST_YIELDERS: u32 = 64;
/// Whether a quota of processor time (a control group's) is below the processors that there are. There those who yield do so
/// side by side, and not in turn: they would use up what the quota has, and all of the process would stand still for the rest
/// of its period.
static QUOTA: Lazy<bool> = Lazy::new(|| {
    let there = rustix::thread::sched_getaffinity(None).map_or(0, |set| set.count());
    processors() < there
});
/// On so few processors other things suit.
pub(crate) const FEW: u32 = 2;
static CROWD: Crowd = Crowd::new();

/// Processors that this process may use.
pub(crate) fn processors() -> u32 {
    static PROCESSORS: Lazy<u32> = Lazy::new(|| {
        thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX))
    });
    *PROCESSORS
}

/// How a wait without sleeping ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Awake {
    /// With what was waited for.
    Over,
    /// It was not there in time.
    Late,
    /// Others have use for the processor.
    Crowded,
}

/// Waits until `over`, for `most` at most, unless others want the processors.
pub(crate) fn stay_awake(most: Duration, over: impl Fn() -> bool) -> Awake {
    let began = Instant::now();
    if CROWD.is_about(began) {
        return Awake::Crowded;
    }
    let mut last = began;
    while !over() {
        if last - began >= most {
            return Awake::Late;
        }
        thread::yield_now();
        let now = Instant::now();
        if now - last > CROWDED {
            if now - last > COMPUTED {
                CROWD.met(now);
            }
            return if over() { Awake::Over } else { Awake::Crowded };
        }
        last = now;
    }
    Awake::Over
}

/// The same, unless as many as there may be are at it already.
pub(crate) fn stay_awake_with_few(most: Duration, over: impl Fn() -> bool) -> Awake {
    let result = match YIELDERS.fetch_add(1, Ordering::Relaxed) < MOST_YIELDERS && !*QUOTA {
        true => stay_awake(most, over),
        false => Awake::Crowded,
    };
    YIELDERS.fetch_sub(1, Ordering::Relaxed);
    result
}

/// Whether others compute on this machine's processors, as far as those who yielded met them.
#[derive(Debug)]
struct Crowd {
    /// Until when nobody yields, and for how long that was: in nanoseconds since the first look.
    until: AtomicU64,
    pause: AtomicU64,
}

impl Crowd {
    const fn new() -> Crowd {
        Crowd { until: AtomicU64::new(0), pause: AtomicU64::new(0) }
    }

    fn is_about(&self, now: Instant) -> bool {
        let until = self.until.load(Ordering::Relaxed);
        until > 0 && since_first(now) < until
    }

    fn met(&self, now: Instant) {
        // Of several who meet the same, one tells.
        if self.is_about(now) {
            return;
        }
        let (now, until) = (since_first(now), self.until.load(Ordering::Relaxed));
        let last = self.pause.load(Ordering::Relaxed);
        let soon = last > 0 && now < until.saturating_add(nanos(SOON));
        let pause = if soon { (last * 2).min(nanos(LONGEST_PAUSE)) } else { nanos(PAUSE) };
        self.pause.store(pause, Ordering::Relaxed);
        self.until.store(now.saturating_add(pause), Ordering::Relaxed);
    }
}

pub(crate) fn since_first(now: Instant) -> u64 {
    static FIRST: Lazy<Instant> = Lazy::new(Instant::now);
    nanos(now.saturating_duration_since(*FIRST))
}

pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_computes_is_left_alone_for_longer_each_time() {
        // Time is counted from the first look.
        since_first(Instant::now());
        let (crowd, start) = (Crowd::new(), Instant::now());
        assert!(!crowd.is_about(start));
        let mut now = start;
        for doubled in [1, 2, 4, 8, 16, 32, 64, 128, 128] {
            crowd.met(now);
            // Others who meet the same at once make it no longer.
            crowd.met(now + PAUSE / 2);
            let end = now + PAUSE * doubled;
            assert!(crowd.is_about(end - Duration::from_micros(1)), "{doubled} pauses");
            assert!(!crowd.is_about(end), "{doubled} pauses");
            now = end + Duration::from_millis(1);
        }
        now += LONGEST_PAUSE + SOON;
        crowd.met(now);
        assert!(!crowd.is_about(now + PAUSE), "after a long time it begins anew");
    }

    #[test]
    fn a_wait_ends_with_what_is_waited_for_or_in_time() {
        assert_eq!(stay_awake(Duration::MAX, || true), Awake::Over);
        let late = stay_awake(Duration::from_micros(50), || false);
        assert_ne!(late, Awake::Over);
    }
}
