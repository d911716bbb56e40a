//! When a group goes: at once if the device is idle and nobody is expected, else when those who are expected are there.
//!
//! Writers that were just answered come back within microseconds, if they come at all. A group that left with the first
//! of them would have the others wait for a whole barrier more, and the log would run in halves for ever (seen in every
//! log that lets the first writer go at once). So after an answer the next group waits for as many writers as there are
//! about, for a fraction of a barrier at most; and less each time that they did not come, down to not at all.
//!
//! A group that is large enough goes whenever the device takes another: from there on several at once cost no throughput,
//! and copying hides behind the device.

use std::time::{Duration, Instant};

use super::Core;
use crate::{commit::Manner, log::writer::group::Filling};

/// A group of this many bytes waits for nobody. On the drives at hand half of twice as much, twice at once, is as fast.
const LARGE: u64 = 256 << 10;
/// So does one of this many records: the processors have as much to do with them as the device.
const CROWD: usize = 16;
/// The longest wait is this share of a barrier, in percent,
const MOST_SHARE: u32 = 75;
/// and this long: a slow disk gains nothing from longer ones, and whoever waits holds a processor.
const MOST: Duration = Duration::from_micros(150);
/// Barriers up to this are waited for by yielding. For longer ones that was seen to slow down the device itself: its
/// interrupts want the processors, too.
const BRIEF: Duration = Duration::from_micros(160);
/// So are those up to this, if each has many small records: to wake as many threads is more work than to keep them awake.
const BRIEF_FOR_MANY: Duration = Duration::from_micros(400);
const SMALL: u64 = 64 << 10;
/// A wait below this is none.
const LEAST: Duration = Duration::from_micros(4);
/// After so many answers without waiting it is tried again.
const RETRY: u32 = 64;

/// What is known of writers that come back.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    /// The wait that is going on.
    wait: Option<Wait>,
    /// How long a barrier takes, smoothed.
    barrier: Duration,
    /// Whether the last group had many small records.
    many: bool,
    /// How long a wait may be; grows when those who were expected came.
    patience: Option<Duration>,
    idle: u32,
}

#[derive(Debug)]
struct Wait {
    /// Seats that the group had, and that it will have.
    had: usize,
    want: usize,
    until: Instant,
    /// Whether somebody who reserved a seat watches the clock, or will when its copy is done.
    watched: bool,
}

/// What a group that is filling does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Go,
    /// Until a group is answered.
    Blocked,
    /// Until others come, or until this time, which whoever asks watches.
    Watch(Instant),
}

impl Gathering {
    /// The barrier of a group of so many records and bytes took so long.
    pub(super) fn took(&mut self, time: Duration, records: u64, bytes: u64) {
        self.many = records >= CROWD as u64 && bytes <= SMALL;
        self.barrier = if self.barrier.is_zero() { time } else { (self.barrier * 7 + time) / 8 };
    }

    /// How those who wait for a group should: where barriers are short, awake, if they may.
    pub(super) fn manner(&self, spin: bool) -> Manner {
        let brief = if self.many { BRIEF_FOR_MANY } else { BRIEF };
        match spin {
            false => Manner::Sleep,
            true if self.barrier < brief => Manner::Yield,
            true => Manner::Mixed,
        }
    }

    fn most(&self) -> Duration {
        (self.barrier * MOST_SHARE / 100).min(MOST)
    }

    /// `seats` writers are about; the device is idle. Begins to wait for them.
    pub(super) fn begin(&mut self, now: Instant, had: usize, seats: usize) {
        self.wait = None;
        let most = self.most();
        let mut patience = self.patience.unwrap_or(most).min(most);
        if patience < LEAST {
            self.idle += 1;
            if self.idle < RETRY {
                return;
            }
            patience = most / 2;
        }
        self.idle = 0;
        if seats > 1 {
            self.patience = Some(patience);
            self.wait = Some(Wait { had, want: seats, until: now + patience, watched: false });
        }
    }

    /// What a group of so many seats does.
    fn verdict(&mut self, now: Instant, seats: usize) -> Verdict {
        let Some(wait) = &self.wait else { return Verdict::Go };
        let came = seats >= wait.want;
        if !came && now < wait.until {
            return Verdict::Watch(wait.until);
        }
        let (new, expected) = (seats.saturating_sub(wait.had), wait.want - wait.had);
        let most = self.most();
        let patience = self.patience.unwrap_or(most);
        // Some may be gone for good; most tell.
        self.patience = Some(match new * 4 / expected.max(1) {
            0 => patience / 2,
            1 => patience,
            _ => (patience * 2).min(most),
        });
        self.wait = None;
        Verdict::Go
    }

    /// A group went, or changed: nobody is waited for any more.
    pub(super) fn end(&mut self) {
        self.wait = None;
    }

    /// Whether a new member must watch, since nobody does.
    pub(super) fn needs_watcher(&mut self) -> bool {
        self.wait.as_mut().is_some_and(|w| !std::mem::replace(&mut w.watched, true))
    }

    /// Whoever watched may be gone.
    pub(super) fn unwatch(&mut self) {
        if let Some(wait) = &mut self.wait {
            wait.watched = false;
        }
    }
}

/// Whether a group is large enough to be at the device beside others.
pub(super) fn is_large(filling: &Filling) -> bool {
    filling.used() >= LARGE || filling.seats() >= CROWD
}

impl Core {
    /// What the group that is filling does now.
    pub(super) fn verdict(&mut self, now: Instant) -> Verdict {
        let Some(filling) = self.filling.as_ref().filter(|f| !f.is_empty()) else { return Verdict::Blocked };
        if !self.can_fly() {
            return Verdict::Blocked;
        }
        if is_large(filling) || self.closing {
            return Verdict::Go;
        }
        if !self.flying.is_empty() {
            return Verdict::Blocked;
        }
        let linger = self.config.group_linger;
        if let Some(until) = self.filling_since.map(|s| s + linger).filter(|u| !linger.is_zero() && now < *u)
        {
            return Verdict::Watch(until);
        }
        self.gathering.verdict(now, filling.seats())
    }
}
