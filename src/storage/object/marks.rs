//! Marks by which a writer shows that it lives, where no lock does.
//!
//! A driver's is an object of its own below `driver/alive/`, written again every five seconds, and live while it is less
//! than twenty seconds old by the store's clock. A receiver writer's is `receivers/<uuid>/alive`, written again each
//! minute, and its writer is gone when it is ten minutes old. Marks only tell who should wait; what keeps an older driver
//! out is the fence.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use object_store::path::Path;

use super::{
    bucket::{Bucket, PATIENCE},
    tasks::{self, Task},
};
use crate::{
    error::Result,
    storage::{
        Claim,
        times::{Since, signature},
    },
};

/// Bounds on one renewal; between them it may take as long as there is until the next.
const LEAST: Duration = Duration::from_secs(5);
const MOST: Duration = Duration::from_secs(20);

/// A mark that is renewed.
#[derive(Debug)]
pub(super) struct Mark {
    pub(super) path: Path,
    /// When the last renewal that worked was begun.
    renewed: Mutex<Since>,
    /// Whether somebody removed it, and so has taken the log over, or may have.
    removed: AtomicBool,
    /// Whether it is to be made again at the next renewal, though it is not there.
    again: AtomicBool,
    renewal: Mutex<Renewal>,
}

/// What the task that renews a mark is at. It is ended only where it sleeps: a renewal that is on its way when the mark is
/// deleted would arrive after that, and keep the next driver out until it is old.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Renewal {
    Asleep,
    OnItsWay,
    Over,
}

impl Mark {
    /// How long ago the mark was renewed.
    pub(super) fn age(&self) -> Duration {
        self.renewed.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    pub(super) fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    /// Has it made again, since nobody has the log who removed it.
    pub(super) fn make_again(&self) {
        self.again.store(true, Ordering::Release);
        self.removed.store(false, Ordering::Release);
    }

    /// Goes on to `next`, unless it is over. Gives what it was at.
    fn go_on(&self, next: Renewal) -> Renewal {
        let mut renewal = self.renewal.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *renewal;
        if before != Renewal::Over {
            *renewal = next;
        }
        before
    }
}

/// A claim: a mark, and the task that renews it until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    bucket: Arc<Bucket>,
    pub(super) mark: Arc<Mark>,
    task: Option<Task<()>>,
    /// Bound on a renewal, and on the mark's deletion: whoever closes a log waits for both.
    bound: Duration,
    /// Marks of those whose log this was: removed when it is ours.
    others: Vec<Path>,
}

impl Held {
    /// Writes the mark, and keeps it new. A driver that finds its mark removed (`overdue` is none) was taken over, or raised
    /// its own fence after the one of whoever removed it, and has the mark made again; one of a receiver writer is never renewed once it was overdue, since others may have cleaned up after it.
    pub(super) fn new(
        bucket: &Arc<Bucket>,
        path: Path,
        every: Duration,
        overdue: Option<Duration>,
        others: Vec<Path>,
    ) -> Result<Held> {
        let text = Bytes::from(signature() + "\n");
        let began = Since::now();
        bucket.put(&path, text.clone(), PATIENCE)?;
        let mark = Arc::new(Mark {
            path: path.clone(),
            renewed: Mutex::new(began),
            removed: AtomicBool::new(false),
            again: AtomicBool::new(false),
            renewal: Mutex::new(Renewal::Asleep),
        });
        let (theirs, store) = (mark.clone(), bucket.store.clone());
        let name = bucket.shown(&path);
        let bound = every.clamp(LEAST, MOST);
        let task = tasks::begin(async move {
            use object_store::{ObjectStoreExt, PutPayload};
            loop {
                tasks::sleep(every).await;
                if theirs.go_on(Renewal::OnItsWay) == Renewal::Over {
                    return;
                }
                // Whether it is to be made again is for the writer to say, when it looks for a fence.
                if theirs.is_removed() {
                    if theirs.go_on(Renewal::Asleep) == Renewal::Over {
                        return;
                    }
                    continue;
                }
                let began = Since::now();
                if overdue.is_some_and(|limit| theirs.age() > limit) {
                    theirs.removed.store(true, Ordering::Release);
                    log::warn!(
                        "the mark {name} was not renewed in time: others may think that this writer is gone"
                    );
                    return;
                }
                let renewal = async {
                    if overdue.is_none() && !theirs.again.swap(false, Ordering::AcqRel) {
                        store.head(&theirs.path).await?;
                    }
                    store.put(&theirs.path, PutPayload::from_bytes(text.clone())).await
                };
                match tasks::within(bound, renewal).await {
                    Some(Ok(_)) => *theirs.renewed.lock().unwrap_or_else(PoisonError::into_inner) = began,
                    Some(Err(object_store::Error::NotFound { .. })) if overdue.is_none() => {
                        theirs.removed.store(true, Ordering::Release);
                        log::warn!("the mark {name} was removed, as by a driver that takes this log over");
                    }
                    // It is tried again; if it stays so, the mark is overdue.
                    Some(Err(e)) => log::debug!("cannot renew {name}: {e}"),
                    None => log::debug!("cannot renew {name} in time"),
                }
                if theirs.go_on(Renewal::Asleep) == Renewal::Over {
                    return;
                }
            }
        })?;
        Ok(Held { bucket: bucket.clone(), mark, task: Some(task), bound, others })
    }
}

impl Claim for Held {
    fn taken(&self) -> Result<()> {
        self.bucket.delete(self.others.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            match self.mark.go_on(Renewal::Over) {
                Renewal::OnItsWay => {
                    if task.wait().is_err() {
                        log::error!("the thread that renews {} panicked", self.mark.path);
                    }
                }
                _ => task.abort(),
            }
        }
        if self.mark.is_removed() {
            return;
        }
        // Whoever comes next need not wait for it to grow old. No longer is waited here than that takes.
        if let Err(e) = self.bucket.delete_within(vec![self.mark.path.clone()], self.bound) {
            log::debug!("a mark stays until it is old: {e}");
        }
    }
}

/// A claim on what nobody can write to any more.
#[derive(Debug)]
pub(super) struct Gone;

impl Claim for Gone {}
