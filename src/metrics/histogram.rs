//! Counting values by size: eight buckets for each doubling, so that a quantile is right to an eighth.
//!
//! A value costs one relaxed addition and nothing else: no lock, no allocation, no clock. What a reader sees of values
//! that are being counted at the same moment may be off by those.

use std::sync::atomic::{AtomicU64, Ordering};

/// Buckets that a doubling is divided into, as a power of two.
const PARTS: u32 = 3;
/// Values of this many bits and more are counted as the largest of fewer: 2^40 microseconds are twelve days.
const BITS: u32 = 40;
/// Number of buckets.
pub(super) const BUCKETS: usize = ((BITS - PARTS + 1) << PARTS) as usize;

/// How often each bucket's values came, at one time.
pub(super) type Counts = [u64; BUCKETS];

/// Counts values from the start of the process on.
#[derive(Debug)]
pub(crate) struct Histogram {
    counts: [AtomicU64; BUCKETS],
}

impl Histogram {
    pub(super) const fn new() -> Histogram {
        Histogram { counts: [const { AtomicU64::new(0) }; BUCKETS] }
    }

    /// One more value.
    pub(crate) fn note(&self, value: u64) {
        self.counts[bucket(value)].fetch_add(1, Ordering::Relaxed);
    }

    /// The counts now.
    pub(super) fn counts(&self) -> Counts {
        std::array::from_fn(|i| self.counts[i].load(Ordering::Relaxed))
    }
}

/// Where a value is counted: those below 2^PARTS each for themselves, and then by the leading bits.
fn bucket(value: u64) -> usize {
    let value = value.min((1 << BITS) - 1);
    if value < 1 << PARTS {
        return value as usize;
    }
    let doubling = u64::BITS - 1 - value.leading_zeros() - PARTS;
    let part = (value >> doubling) as usize & ((1 << PARTS) - 1);
    ((doubling as usize + 1) << PARTS) + part
}

/// The largest value that is counted in a bucket.
fn bound(bucket: usize) -> u64 {
    if bucket < 1 << PARTS {
        return bucket as u64;
    }
    let doubling = (bucket >> PARTS) - 1;
    let part = (bucket & ((1 << PARTS) - 1)) as u64;
    (((1 << PARTS) + part + 1) << doubling) - 1
}

/// What is said of a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Quantiles {
    pub(super) p50: u64,
    pub(super) p99: u64,
    pub(super) max: u64,
}

/// The quantiles of what was counted between two times; zeros if nothing was. Each is the upper end of its bucket: no
/// less than the truth, and an eighth more at most.
pub(super) fn quantiles(from: &Counts, to: &Counts) -> Quantiles {
    let between = |i: usize| to[i].saturating_sub(from[i]);
    let total: u64 = (0..BUCKETS).map(between).sum();
    let at = |share: f64| {
        // The smallest value that at least this share of all values does not exceed.
        let rank = ((total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let found = (0..BUCKETS).find(|i| {
            seen += between(*i);
            seen >= rank
        });
        found.map_or(0, bound)
    };
    if total == 0 {
        return Quantiles::default();
    }
    Quantiles {
        p50: at(0.5),
        p99: at(0.99),
        max: (0..BUCKETS).rev().find(|i| between(*i) > 0).map_or(0, bound),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket_and_buckets_follow_each_other() {
        let mut last = None;
        for i in 0..BUCKETS {
            let lowest = last.map_or(0, |l| l + 1);
            assert_eq!((bucket(lowest), bucket(bound(i))), (i, i), "bucket {i}");
            assert!(bound(i) - lowest <= lowest / 8, "bucket {i} is wider than an eighth");
            last = Some(bound(i));
        }
        assert_eq!(last, Some((1 << BITS) - 1));
        assert_eq!(bucket(u64::MAX), BUCKETS - 1, "what is too large is the largest");
    }

    #[test]
    fn quantiles_are_of_what_came_between_two_times() {
        let histogram = Histogram::new();
        histogram.note(1 << 30);
        let from = histogram.counts();
        assert_eq!(quantiles(&from, &histogram.counts()), Quantiles::default());
        (1..=1000).for_each(|value| histogram.note(value));
        let Quantiles { p50, p99, max } = quantiles(&from, &histogram.counts());
        for (said, truth) in [(p50, 500), (p99, 990), (max, 1000)] {
            assert!(said >= truth && said <= truth + truth / 8, "{said} for {truth}");
        }
    }
}
