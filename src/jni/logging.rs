//! Log lines on their way to SLF4J.
//!
//! A line waits in a bounded queue until a Java thread fetches it: no native thread calls Java. When the queue is full,
//! lines are dropped and counted, and the count is the next line that is fetched; nothing that logs ever waits for Java.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ::log::{Level, LevelFilter, Metadata, Record};

/// Lines that may wait.
const CAPACITY: usize = 4096;

/// Characters of a line that are kept.
const LINE: usize = 16 << 10;

/// A line that waits: its level (1 is ERROR, 5 is TRACE) and text.
pub(super) struct Line {
    pub(super) level: i32,
    pub(super) text: String,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Line>,
    dropped: u64,
}

struct Sink {
    queue: Mutex<Queue>,
    filled: Condvar,
}

static SINK: Sink =
    Sink { queue: Mutex::new(Queue { lines: VecDeque::new(), dropped: 0 }), filled: Condvar::new() };

impl Sink {
    fn locked(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ::log::Log for Sink {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Dependencies speak only where something is wrong.
        metadata.target().starts_with("ferrowal") || metadata.level() <= Level::Warn
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut text = record.args().to_string();
        if text.len() > LINE {
            let end = (0..=LINE).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
            text.truncate(end);
            text.push('…');
        }
        let mut queue = self.locked();
        if queue.lines.len() == CAPACITY {
            queue.dropped += 1;
        } else {
            queue.lines.push_back(Line { level: record.level() as i32, text });
            drop(queue);
            self.filled.notify_one();
        }
    }

    fn flush(&self) {}
}

/// Makes this the process's (that is, this copy of the library's) logger. Again is no error.
pub(super) fn install() {
    // The only failure is that a logger is there already, and in a library of our own it is this one.
    let _ = ::log::set_logger(&SINK);
}

/// Sets the finest level that is kept: 0 is off, 1 ERROR, 2 WARN, 3 INFO, 4 DEBUG, 5 TRACE.
pub(super) fn set_level(level: i32) {
    ::log::set_max_level(match level {
        i32::MIN..=0 => LevelFilter::Off,
        1 => LevelFilter::Error,
        2 => LevelFilter::Warn,
        3 => LevelFilter::Info,
        4 => LevelFilter::Debug,
        5.. => LevelFilter::Trace,
    });
}

/// Waits until there is a line, at most for `bound`. Whether there is one.
pub(super) fn wait(bound: Duration) -> bool {
    let until = Instant::now() + bound;
    let mut queue = SINK.locked();
    loop {
        if !queue.lines.is_empty() {
            return true;
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        queue = SINK.filled.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// Takes the oldest line.
pub(super) fn take() -> Option<Line> {
    let mut queue = SINK.locked();
    if queue.dropped > 0 {
        let text =
            format!("{} log lines were dropped: they came faster than Java fetched them", queue.dropped);
        queue.dropped = 0;
        return Some(Line { level: Level::Warn as i32, text });
    }
    queue.lines.pop_front()
}
