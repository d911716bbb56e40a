//! What the logs of this process did and do, in numbers: for Spark's metrics system, the summary line, and programs.
//!
//! There is one set of numbers for each role and process, since that is what a Spark process has: a driver's log, and one
//! that its receivers share. Several directories of one role are added up. Numbers are counted from the start of the
//! process on and survive that a log is closed and opened again.
//!
//! Counting costs a write next to nothing: relaxed additions for each group, none for each record, no lock and no
//! allocation. Reading is for whoever wants to know: it takes a lock of its own, and computes the quantiles.
//!
//! [`METRICS`] is the one list of names, units and meanings; Java, the documents and the dashboard are checked against it.

mod histogram;

use std::{
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use once_cell::sync::Lazy;

use self::histogram::{Counts, Histogram, Quantiles, quantiles};
use crate::{error::Error, options::Role, report::RecoveryReport};

/// Quantiles and percentages are of the time since the beginning of the last whole stretch of this length: of one to two
/// minutes where somebody looks at least every minute, else of the time since the look before the last.
const WINDOW: Duration = Duration::from_secs(60);

/// How the values of several processes make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, from the start of the process on; added up.
    Counter,
    /// Is as it is now; added up.
    Gauge,
    /// Is as it is now, or was in the last minute or two; of several the largest counts.
    Most,
}

/// One number: what it is called and means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Words in lower case, with dots between them.
    pub name: &'static str,
    /// How the values of several processes make one.
    pub kind: Kind,
    /// "records", "bytes", "microseconds", …
    pub unit: &'static str,
    /// What is counted.
    pub help: &'static str,
}

macro_rules! counters {
    ($($field:ident: $name:literal, $kind:ident, $unit:literal, $help:literal;)*) => {
        /// The plain numbers of one role.
        #[derive(Debug)]
        pub(crate) struct Metrics {
            $(#[doc = $help] pub(crate) $field: AtomicU64,)*
            histograms: [Histogram; HISTOGRAMS.len()],
        }

        impl Metrics {
            const fn new() -> Metrics {
                Metrics { $($field: AtomicU64::new(0),)* histograms: [const { Histogram::new() }; HISTOGRAMS.len()] }
            }

            /// The plain numbers, in the order of their descriptions.
            fn plain(&self) -> [u64; PLAIN.len()] {
                [$(self.$field.load(Ordering::Relaxed),)*]
            }
        }

        const PLAIN: &[Metric] =
            &[$(Metric { name: $name, kind: Kind::$kind, unit: $unit, help: $help },)*];
    };
}

counters! {
    logs: "logs.open", Gauge, "logs", "Logs that are open for writing.";
    records: "records", Counter, "records", "Records acknowledged.";
    bytes: "bytes", Counter, "bytes", "Bytes of these records.";
    groups: "groups", Counter, "groups", "Groups acknowledged: each was made durable by one barrier.";
    marks: "marks", Counter, "groups", "Groups without records among them: each says that the one before it is durable.";
    device_bytes: "device.bytes", Counter, "bytes", "Bytes of groups written and acknowledged, headers and padding included.";
    failed: "failed", Counter, "records", "Writes that were answered with an error.";
    full: "failed.full", Counter, "records", "Writes among these that failed because the volume was full.";
    retries: "retries", Counter, "groups", "Groups sent again to a fresh segment after a failure.";
    poisonings: "poisonings", Counter, "segments", "Segments given up for ever because a write or barrier failed.";
    fences: "fences", Counter, "logs", "Logs that another writer took over from this process.";
    memory_waits: "memory.waits", Counter, "records", "Waits of a write for memory (spark.ferrowal.memory).";
    busy: "barrier.busy.micros", Counter, "microseconds", "Time in which at least one group was at the device.";
    rolls: "rolls", Counter, "segments", "Segments that writing went on to.";
    prepare_failures: "prepare.failures", Counter, "segments", "Segments that could not be prepared ahead of need.";
    live: "segments.live", Gauge, "segments", "Segments that the open logs hold.";
    spare: "segments.spare", Gauge, "segments", "Files kept to be used again as segments.";
    quarantined: "segments.quarantined", Counter, "files", "Copies of torn or damaged bytes put into quarantine.";
    cleaned: "cleaned.segments", Counter, "segments", "Segments dropped because all of their records were cleaned.";
    cleaned_writers: "cleaned.writers", Counter, "writers", "Dead executors' logs that were cleaned away.";
    reads: "reads", Counter, "records", "Records read by their handles.";
    read_bytes: "read.bytes", Counter, "bytes", "Bytes of these records.";
    damaged: "damaged", Counter, "records", "Reads that met damage: acknowledged bytes that no longer check.";
    memory_held: "memory.held", Gauge, "bytes", "Native memory held for records on their way to the device.";
    memory_used: "memory.used", Gauge, "bytes", "Native memory among this that is in use.";
    memory_limit: "memory.limit", Gauge, "bytes", "Bound on this memory (spark.ferrowal.memory, for each open log).";
    recoveries: "recovery.count", Counter, "recoveries", "Logs opened for writing.";
    recovered_segments: "recovery.segments", Counter, "segments", "Segments that recoveries found.";
    recovered_records: "recovery.records", Counter, "records", "Records that recoveries found and kept.";
    recovered_torn: "recovery.torn.bytes", Counter, "bytes", "Torn bytes that recoveries dropped: they were never acknowledged.";
    recovered_corrupt: "recovery.corrupt", Counter, "places", "Corrupt places that recoveries found.";
    recovered_set_aside: "recovery.setaside", Counter, "records", "Records of earlier generations that recoveries set aside.";
    recovered_orphans: "recovery.orphans", Counter, "writers", "Dead writers' logs that recoveries found.";
    recovery_micros: "recovery.micros", Counter, "microseconds", "Time that recoveries took.";
}

/// What is counted by size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sized {
    /// Records of a group.
    GroupRecords,
    /// Payload bytes of a group.
    GroupBytes,
    /// From a group's first record until the group is on its way to the device.
    QueueWait,
    /// From then until it is durable.
    Barrier,
    /// What writers wait for the next segment.
    RollWait,
    /// What a segment takes to be prepared.
    Prepare,
    /// What a segment's footer takes.
    Seal,
}

macro_rules! histograms {
    ($($name:literal, $unit:literal, $help:literal;)*) => {
        const HISTOGRAMS: &[&str] = &[$($name,)*];
        const DERIVED: &[Metric] = &[
            $(
                Metric { name: concat!($name, ".p50"), kind: Kind::Most, unit: $unit, help: concat!($help, " Half of them are no larger.") },
                Metric { name: concat!($name, ".p99"), kind: Kind::Most, unit: $unit, help: concat!($help, " 99 of 100 are no larger.") },
                Metric { name: concat!($name, ".max"), kind: Kind::Most, unit: $unit, help: concat!($help, " The largest.") },
            )*
            Metric { name: "barrier.busy.percent", kind: Kind::Most, unit: "percent", help: "Share of the time in which at least one group was at the device." },
        ];
    };
}

// In the order of `Sized`.
histograms! {
    "group.records", "records", "Records of a group.";
    "group.bytes", "bytes", "Bytes of the records of a group.";
    "queue.wait.micros", "microseconds", "Time from a group's first record until the group is on its way to the device.";
    "barrier.micros", "microseconds", "Time from then until the group is durable.";
    "roll.wait.micros", "microseconds", "Time that writers waited for the next segment; 0 where one was ready.";
    "prepare.micros", "microseconds", "Time that a segment took to be prepared ahead of need.";
    "seal.micros", "microseconds", "Time that a segment took to be sealed.";
}

/// Number of values in a snapshot.
const VALUES: usize = PLAIN.len() + DERIVED.len();

/// Every metric, in the order of [`MetricsSnapshot::values`].
pub static METRICS: [Metric; VALUES] = {
    let mut all = [PLAIN[0]; VALUES];
    let mut i = 0;
    while i < VALUES {
        all[i] = if i < PLAIN.len() { PLAIN[i] } else { DERIVED[i - PLAIN.len()] };
        i += 1;
    }
    all
};

static DRIVER: Metrics = Metrics::new();
static RECEIVERS: Metrics = Metrics::new();

impl Metrics {
    /// Those of a role, in this process.
    pub(crate) fn of(role: Role) -> &'static Metrics {
        match role {
            Role::Driver => &DRIVER,
            Role::Receivers => &RECEIVERS,
        }
    }

    /// Counts a value by its size.
    pub(crate) fn size(&self, what: Sized, value: u64) {
        self.histograms[what as usize].note(value);
    }

    /// Counts a time by its length.
    pub(crate) fn time(&self, what: Sized, time: Duration) {
        self.size(what, micros(time));
    }

    /// A write was answered with an error.
    pub(crate) fn refused(&self, error: &Error) {
        add(&self.failed, 1);
        add(&self.full, u64::from(error.is_full()));
    }

    /// A read was answered.
    pub(crate) fn read<T>(&self, length: u64, result: &Result<T, Error>) {
        match result {
            Ok(_) => {
                add(&self.reads, 1);
                add(&self.read_bytes, length);
            }
            Err(Error::Corrupt { .. }) => add(&self.damaged, 1),
            Err(_) => {}
        }
    }

    /// A log was opened for writing.
    pub(crate) fn recovered(&self, report: &RecoveryReport) {
        add(&self.recoveries, 1);
        add(&self.recovered_segments, report.segments);
        add(&self.recovered_records, report.records);
        add(&self.recovered_torn, report.torn_bytes);
        add(&self.recovered_corrupt, report.corrupt);
        add(&self.recovered_set_aside, report.set_aside);
        add(&self.recovered_orphans, report.orphans);
        add(&self.recovery_micros, micros(report.took));
    }
}

/// Adds to a number, without any order among numbers.
pub(crate) fn add(to: &AtomicU64, value: u64) {
    if value > 0 {
        to.fetch_add(value, Ordering::Relaxed);
    }
}

/// A time in whole microseconds.
pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// One log's share of a number that is as it is now; given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    of: &'static AtomicU64,
    value: u64,
}

impl Share {
    /// A share that is zero.
    pub(crate) fn new(of: &'static AtomicU64) -> Share {
        Share { of, value: 0 }
    }

    /// What the share is from now on.
    pub(crate) fn set(&mut self, value: u64) {
        if value != self.value {
            // Wraps where it shrinks, as two's complement does.
            self.of.fetch_add(value.wrapping_sub(self.value), Ordering::Relaxed);
            self.value = value;
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Values at one time. See [`metrics`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsSnapshot {
    values: [u64; VALUES],
}

impl MetricsSnapshot {
    /// All values, in the order of [`METRICS`].
    pub fn values(&self) -> &[u64] {
        &self.values
    }

    /// The value of that name, if there is one.
    pub fn get(&self, name: &str) -> Option<u64> {
        METRICS.iter().position(|m| m.name == name).map(|i| self.values[i])
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        METRICS.iter().map(|m| m.name).zip(self.values.iter().copied())
    }
}

impl fmt::Display for MetricsSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|(name, value)| writeln!(f, "{name} {value}"))
    }
}

/// What was counted up to some time.
#[derive(Debug)]
struct Frame {
    at: Instant,
    busy: u64,
    counts: Box<[Counts]>,
}

impl Frame {
    fn of(metrics: &Metrics) -> Frame {
        Frame {
            at: Instant::now(),
            busy: metrics.busy.load(Ordering::Relaxed),
            counts: metrics.histograms.iter().map(Histogram::counts).collect(),
        }
    }
}

/// From when on quantiles are.
#[derive(Debug)]
struct Since {
    base: Frame,
    next: Option<Frame>,
}

impl Since {
    /// Takes a new base once the one that follows is old enough.
    fn turn(&mut self, now: Instant) -> bool {
        let newest = self.next.as_ref().map_or(self.base.at, |next| next.at);
        now.saturating_duration_since(newest) >= WINDOW
    }
}

static SINCE: Lazy<[Mutex<Since>; 2]> = Lazy::new(|| {
    [&DRIVER, &RECEIVERS].map(|metrics| {
        let base = Frame {
            busy: 0,
            counts: vec![[0; histogram::BUCKETS]; HISTOGRAMS.len()].into(),
            ..Frame::of(metrics)
        };
        Mutex::new(Since { base, next: None })
    })
});

/// What the logs of `role` in this process did and do: the values of [`METRICS`].
///
/// May be called from any thread, as often as somebody wants to know; it takes some microseconds.
pub fn metrics(role: Role) -> MetricsSnapshot {
    let metrics = Metrics::of(role);
    let mut since = SINCE[role as usize].lock().unwrap_or_else(PoisonError::into_inner);
    let now = Frame::of(metrics);
    let mut values = [0; VALUES];
    values[..PLAIN.len()].copy_from_slice(&metrics.plain());
    let mut at = PLAIN.len();
    for (from, to) in since.base.counts.iter().zip(now.counts.iter()) {
        let Quantiles { p50, p99, max } = quantiles(from, to);
        values[at..at + 3].copy_from_slice(&[p50, p99, max]);
        at += 3;
    }
    let passed = micros(now.at.saturating_duration_since(since.base.at)).max(1);
    let busy = now.busy.saturating_sub(since.base.busy);
    // Several logs of one role are busy side by side.
    values[at] = (busy.saturating_mul(100) / passed).min(100);
    if since.turn(now.at) {
        let next = since.next.replace(now);
        if let Some(next) = next {
            since.base = next;
        }
    }
    MetricsSnapshot { values }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_words_in_lower_case_and_each_is_there_once() {
        let names: HashSet<_> = METRICS.iter().map(|m| m.name).collect();
        assert_eq!(names.len(), METRICS.len());
        for metric in &METRICS {
            assert!(
                metric.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.'),
                "{metric:?}"
            );
            assert!(metric.help.ends_with('.'), "{metric:?}");
        }
        assert_eq!(HISTOGRAMS[Sized::Seal as usize], "seal.micros");
        assert_eq!(HISTOGRAMS[Sized::Barrier as usize], "barrier.micros");
    }

    #[test]
    fn a_share_is_given_back() {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let mut one = Share::new(&NUMBER);
        let mut two = Share::new(&NUMBER);
        one.set(5);
        two.set(7);
        one.set(2);
        assert_eq!(NUMBER.load(Ordering::Relaxed), 9);
        drop(two);
        assert_eq!(NUMBER.load(Ordering::Relaxed), 2);
        drop(one);
        assert_eq!(NUMBER.load(Ordering::Relaxed), 0);
    }
}
