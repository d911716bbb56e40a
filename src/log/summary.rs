//! One line a minute, or however often is wished, about what the logs of a role in this process did: for those who have
//! no metrics system. The numbers are those of [`crate::metrics`].

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    error::{Error, Result},
    metrics::{MetricsSnapshot, metrics},
    options::Role,
};

/// A thread that says the line; it ends when this is dropped, and says a last one then.
#[derive(Debug)]
pub(crate) struct Summary {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Summary {
    /// Begins to tell of the log in `place` every `every`.
    ///
    /// # Errors
    /// If no thread can be started.
    pub(crate) fn start(place: String, role: Role, every: Duration) -> Result<Summary> {
        let stop = Arc::new(Stop::default());
        let (seen, name) = (stop.clone(), place.clone());
        let thread = thread::Builder::new()
            .name("ferrowal-summary".into())
            .spawn(move || tell(&name, role, every, &seen))
            .map_err(|e| Error::io("start a thread for", &place, e))?;
        Ok(Summary { stop, thread: Some(thread) })
    }
}

impl Drop for Summary {
    fn drop(&mut self) {
        *self.stop.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.changed.notify_all();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("the thread of the summary panicked");
        }
    }
}

fn tell(place: &str, role: Role, every: Duration, stop: &Stop) {
    let (mut last, mut at) = (metrics(role), Instant::now());
    let mut stopped = stop.stopped.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let due = at + every;
        while !*stopped {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            stopped = stop.changed.wait_timeout(stopped, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let (now, passed) = (metrics(role), at.elapsed());
        log::info!("{place}: {}", line(&last, &now, passed));
        if *stopped {
            return;
        }
        (last, at) = (now, Instant::now());
    }
}

/// What happened between two looks, and how things are now.
fn line(last: &MetricsSnapshot, now: &MetricsSnapshot, passed: Duration) -> String {
    let is = |name: &str| now.get(name).unwrap_or(0);
    let more = |name: &str| is(name).saturating_sub(last.get(name).unwrap_or(0));
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let millis = |name: &str| is(name) as f64 / 1e3;
    let groups = more("groups") - more("marks").min(more("groups"));
    let each = more("records") as f64 / groups.max(1) as f64;
    format!(
        "in {passed:.0?} {} records, {:.1} MiB, in {groups} groups of {each:.1}; queue wait p99 {:.1} ms, barrier p50 {:.1} p99 {:.1} max {:.1} ms, at the barrier {} % of the time; {} segments, {} spare, {} cleaned; {} writes failed, {} groups sent again, {} segments poisoned; memory {:.0} MiB",
        more("records"),
        mib(more("bytes")),
        millis("queue.wait.micros.p99"),
        millis("barrier.micros.p50"),
        millis("barrier.micros.p99"),
        millis("barrier.micros.max"),
        is("barrier.busy.percent"),
        is("segments.live"),
        is("segments.spare"),
        more("cleaned.segments"),
        more("failed"),
        more("retries"),
        more("poisonings"),
        mib(is("memory.held")),
    )
}
