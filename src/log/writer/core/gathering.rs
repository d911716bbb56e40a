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
use crate::{awake::FEW, commit::Manner, log::writer::group::Filling};

/// The longest wait is this share of a barrier, in percent,
const MOST_SHARE: u32 = 75;
/// and this long: a slow disk gains nothing from longer ones, and whoever waits holds a processor.
const MOST: Duration = Duration::from_micros(150);
/// Barriers up to this are waited for by yielding if each has many small records, however many processors there are: to wake
/// as many threads is more work than to keep them awake.
const BRIEF_FOR_MANY: Duration = Duration::from_micros(400);
const MANY: u64 = 16;
const SMALL: u64 = 64 << 10;
/// Whoever waits for a group of one or two records, and so with one other at most, does not yield through a barrier of this
/// length or more: to wake one takes no longer than the other one's next record, and yielding took twice the processor time
/// for no more records.
const PAIR: Duration = Duration::from_micros(40);
/// A wait below this is none.
const LEAST: Duration = Duration::from_micros(4);
/// After so many answers without waiting it is tried again.
const RETRY: u32 = 64;

/// What suits so many processors as there are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tuning {
    /// A group of this many bytes waits for nobody.
    large: u64,
    /// So does one of this many records: the processors have as much to do with them as the device.
    crowd: usize,
    /// Barriers up to this are waited for by yielding. For longer ones that was seen to slow down the device itself: its
    /// interrupts want the processors, too.
    brief: Duration,
    /// What a group of one or two records has at most that is waited for like a pair,
    pair: u64,
    /// and how.
    paired: Manner,
}

impl Tuning {
    /// Where groups go elsewhere, or no barrier follows.
    pub(crate) const OTHERWISE: Tuning = Tuning {
        large: 256 << 10,
        crowd: 16,
        brief: Duration::from_micros(160),
        pair: SMALL,
        paired: Manner::Mixed,
    };

    /// For so many processors, where groups go to this machine's device.
    ///
    /// On four, groups of more than 256 KiB or 16 records had no more of the device than two of them at once. On one or two
    /// there is nobody to fill the next one meanwhile, and the larger one costs a write and its wake-up calls once; and whoever
    /// watches for the other one of a pair has the processor that the other one needs. (docs/benchmarks.md, on two processors.)
    pub(crate) fn for_processors(processors: u32) -> Tuning {
        if processors > FEW {
            return Tuning::OTHERWISE;
        }
        Tuning {
            large: 1 << 20,
            crowd: 32,
            brief: Duration::from_micros(200),
            pair: u64::MAX,
            paired: Manner::Sleep,
        }
    }
}

/// What is known of writers that come back.
#[derive(Debug)]
pub(super) struct Gathering {
    tuning: Tuning,
    /// The wait that is going on.
    wait: Option<Wait>,
    /// How long a barrier takes, smoothed.
    barrier: Duration,
    /// Whether the last group had many small records.
    many: bool,
    /// Whether the last one with records was one of a pair: where several groups of one large record each are at the device, as
    /// many writers wait.
    few: bool,
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
    pub(super) fn new(tuning: Tuning) -> Gathering {
        Gathering {
            tuning,
            wait: None,
            barrier: Duration::ZERO,
            many: false,
            few: false,
            patience: None,
            idle: 0,
        }
    }

    /// Whether a group is large enough to be at the device beside others.
    pub(super) fn is_large(&self, filling: &Filling) -> bool {
        filling.used() >= self.tuning.large || filling.seats() >= self.tuning.crowd
    }

    /// The barrier of a group of so many records and bytes took so long.
    pub(super) fn took(&mut self, time: Duration, records: u64, bytes: u64) {
        self.many = records >= MANY && bytes <= SMALL;
        if records > 0 {
            self.few = records <= 2 && bytes <= self.tuning.pair;
        }
        self.barrier = if self.barrier.is_zero() { time } else { (self.barrier * 7 + time) / 8 };
    }

    /// How those who wait for a group should: where barriers are short, awake, if they may.
    pub(super) fn manner(&self, spin: bool) -> Manner {
        let brief = if self.many { BRIEF_FOR_MANY } else { self.tuning.brief };
        match spin {
            false => Manner::Sleep,
            true if self.few && self.barrier >= PAIR => self.tuning.paired,
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

impl Core {
    /// What the group that is filling does now.
    pub(super) fn verdict(&mut self, now: Instant) -> Verdict {
        let Some(filling) = self.filling.as_ref().filter(|f| !f.is_empty()) else { return Verdict::Blocked };
        if !self.can_fly() {
            return Verdict::Blocked;
        }
        // Without a barrier there is nothing to share.
        if self.gathering.is_large(filling) || self.closing || !self.config.durable {
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
