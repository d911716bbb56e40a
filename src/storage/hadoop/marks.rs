//! Marks by which a writer shows that it lives: empty files that are touched, so that the name node's clock tells how old
//! they are. They tell who should wait; what keeps an older driver out is the fence.
//!
//! But a fence is cleaned some day, and then its id is free again: from there on it is the older driver's mark that keeps it
//! out, by its absence. So a mark is made once, under a name that nobody had, and never again: a renewal (an append of
//! nothing) touches what is there and makes nothing, whenever it lands. A removal is final.

use std::{
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::Inner;
use crate::{
    error::{Error, Result},
    storage::{Claim, Which, times::Since},
};

/// The name node's clock, in milliseconds since 1970, read from the times that it gives to files.
#[derive(Debug, Default)]
pub(super) struct NameNodeClock(Mutex<Option<(i64, Instant)>>);

/// A reading is used for so long.
const FRESH: Duration = Duration::from_secs(60);

impl NameNodeClock {
    pub(super) fn note(&self, millis: i64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((millis, Instant::now()));
    }

    /// What it says now, if it was read lately.
    pub(super) fn now(&self) -> Option<i64> {
        let said = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (millis, when) = said.filter(|(_, when)| when.elapsed() < FRESH)?;
        Some(millis.saturating_add_unsigned(when.elapsed().as_millis() as u64))
    }
}

/// A mark that is renewed.
#[derive(Debug)]
pub(super) struct Mark {
    pub(super) path: String,
    /// When the last renewal that worked was begun.
    renewed: Mutex<Since>,
    /// Whether somebody removed it, and so has taken the log over, or may have.
    removed: AtomicBool,
    /// Whether a request of this writer may still be carried out that gives a segment another name.
    unsure: AtomicBool,
}

impl Mark {
    pub(super) fn age(&self) -> Duration {
        self.renewed.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    pub(super) fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    pub(super) fn note_removed(&self) {
        self.removed.store(true, Ordering::Release);
    }

    pub(super) fn is_unsure(&self) -> bool {
        self.unsure.load(Ordering::Acquire)
    }

    pub(super) fn note_unsure(&self) {
        self.unsure.store(true, Ordering::Release);
    }
}

/// Wakes the thread that renews a mark when its claim goes.
type Stop = Arc<(Mutex<bool>, Condvar)>;

/// A claim: a mark, and the thread that renews it until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    inner: Arc<Inner>,
    which: Which,
    pub(super) mark: Arc<Mark>,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
    /// Marks of those whose log this was: removed when it is ours.
    others: Vec<String>,
}

impl Held {
    /// Makes the mark, which nobody had before, and keeps it new. A driver that finds its mark removed was taken over, a
    /// receiver writer was cleaned; its mark is never renewed once it was overdue, since others may have done that.
    pub(super) fn new(inner: &Arc<Inner>, which: Which, path: String, others: Vec<String>) -> Result<Held> {
        let began = Since::now();
        inner.clock.note(inner.put(&path, Vec::new())?);
        let mark = Arc::new(Mark {
            path,
            renewed: Mutex::new(began),
            removed: AtomicBool::new(false),
            unsure: AtomicBool::new(false),
        });
        let stop: Stop = Arc::default();
        let (ours, theirs, halt) = (inner.clone(), mark.clone(), stop.clone());
        let (ready, begun) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("ferrowal-mark".into())
            .spawn(move || {
                let _ = ready.send(());
                renew(&ours, which, &theirs, &halt);
            })
            .map_err(|e| Error::io("start a thread for", mark.path.clone(), e))?;
        let _ = begun.recv();
        Ok(Held { inner: inner.clone(), which, mark, stop, thread: Some(thread), others })
    }
}

fn renew(inner: &Inner, which: Which, mark: &Mark, stop: &Stop) {
    let driver = which == Which::Driver;
    let every = if driver { inner.times.driver_renewed } else { inner.times.writer_renewed };
    loop {
        {
            let stopped = stop.0.lock().unwrap_or_else(PoisonError::into_inner);
            let (stopped, _) = stop
                .1
                .wait_timeout_while(stopped, every, |stopped| !*stopped)
                .unwrap_or_else(PoisonError::into_inner);
            if *stopped {
                return;
            }
        }
        let began = Since::now();
        if !driver && mark.age() > inner.times.overdue {
            mark.note_removed();
            log::warn!(
                "the mark {} was not renewed in time: others may think that this writer is gone",
                mark.path
            );
            return;
        }
        match inner.renew(&mark.path) {
            Ok(None) => {
                mark.note_removed();
                if driver {
                    log::warn!("the mark {} was removed: another driver has taken this log over", mark.path);
                } else {
                    log::warn!("the mark {} was removed: others think that this writer is gone", mark.path);
                }
                return;
            }
            Ok(Some(time)) => {
                inner.clock.note(time);
                *mark.renewed.lock().unwrap_or_else(PoisonError::into_inner) = began;
            }
            // It is tried again; if it stays so, the mark is overdue.
            Err(e) => log::debug!("cannot renew {}: {e}", mark.path),
        }
    }
}

impl Claim for Held {
    fn taken(&self) -> Result<()> {
        self.others.iter().try_for_each(|mark| self.inner.delete(mark).map(drop))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        *self.stop.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.1.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the thread that renews {} panicked", self.mark.path);
        }
        self.inner.let_go_of_writing(self.which);
        // Whoever comes next need not wait for it to grow old.
        if !self.mark.is_removed()
            && let Err(e) = self.inner.delete_within(&self.mark.path, self.inner.patience / 6)
        {
            log::debug!("a mark stays until it is old: {e}");
        }
    }
}

/// A claim on what nobody can write to any more.
#[derive(Debug)]
pub(super) struct Gone;

impl Claim for Gone {}
