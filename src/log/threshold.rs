//! The effective clean threshold.
//!
//! Spark's threshold is unsafe after failed allocations: it can pass blocks that a later batch still needs. So what is
//! dropped, and hidden from a scan, lies below both the threshold less a grace and the threshold of three distinct
//! cleans ago. A grace of zero makes the threshold exact.

use std::{collections::VecDeque, time::Duration};

/// Distinct thresholds that must follow one before it takes effect.
pub(crate) const LAG: usize = 3;

#[derive(Debug, Clone)]
pub(crate) struct Thresholds {
    grace: i64,
    recent: VecDeque<i64>,
    effective: i64,
}

impl Thresholds {
    /// Starts from the effective threshold that the log carries.
    pub(crate) fn new(grace: Duration, carried: i64) -> Thresholds {
        let grace = i64::try_from(grace.as_millis()).unwrap_or(i64::MAX);
        Thresholds { grace, recent: VecDeque::with_capacity(LAG + 1), effective: carried }
    }

    /// Takes in a threshold that the caller asks for. Going back changes nothing.
    pub(crate) fn note(&mut self, asked: i64) {
        let next = if self.grace == 0 {
            asked
        } else {
            if self.recent.back().is_none_or(|last| asked > *last) {
                self.recent.push_back(asked);
                while self.recent.len() > LAG + 1 {
                    self.recent.pop_front();
                }
            }
            let lagged = if self.recent.len() > LAG { self.recent[0] } else { i64::MIN };
            lagged.min(asked.saturating_sub(self.grace))
        };
        self.effective = self.effective.max(next);
    }

    /// Records below this are dropped; `i64::MIN` for none.
    pub(crate) fn effective(&self) -> i64 {
        self.effective
    }
}
