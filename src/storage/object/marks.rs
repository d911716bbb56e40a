//! Marks by which a writer shows that it lives, where no lock does.
//!
//! A driver's is an object of its own below `driver/alive/`, of a name that begins with its fence once it has the log. It is
//! written again every five seconds, and live while it is less than twenty seconds old by the store's clock. A receiver
//! writer's is `receivers/<uuid>/alive`, written again each minute, and its writer is gone when it is ten minutes old. Marks
//! only tell who should wait; what keeps an older driver out is the fence.

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
    Inner,
    bucket::{Bucket, PATIENCE},
    tasks::{self, Task},
};
use crate::{
    error::Result,
    storage::{
        Claim, Which,
        times::{Since, signature},
    },
    sync,
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
    /// Whether its writer was fenced.
    given_up: AtomicBool,
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

    fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    /// Its writer was fenced: it is renewed no more, and nobody waits for it any longer than until it is old.
    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
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
}

impl Held {
    /// Writes the mark, and keeps it new. A driver that finds its mark removed was taken over (`overdue` is none); one of a
    /// receiver writer is never renewed once it was overdue, since others may have cleaned up after it.
    pub(super) fn new(
        bucket: &Arc<Bucket>,
        path: Path,
        every: Duration,
        overdue: Option<Duration>,
    ) -> Result<Held> {
        let text = Bytes::from(signature() + "\n");
        let began = Since::now();
        bucket.put(&path, text.clone(), PATIENCE)?;
        let mark = Arc::new(Mark {
            path: path.clone(),
            renewed: Mutex::new(began),
            removed: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
            renewal: Mutex::new(Renewal::Asleep),
        });
        let (theirs, store) = (mark.clone(), bucket.store.clone());
        let name = bucket.shown(&path);
        let bound = every.clamp(LEAST, MOST);
        let task = tasks::begin(async move {
            use object_store::{ObjectStoreExt, PutPayload};
            loop {
                tasks::sleep(every).await;
                if theirs.is_given_up() || theirs.go_on(Renewal::OnItsWay) == Renewal::Over {
                    return;
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
                    if overdue.is_none() {
                        store.head(&theirs.path).await?;
                    }
                    store.put(&theirs.path, PutPayload::from_bytes(text.clone())).await
                };
                match tasks::within(bound, renewal).await {
                    Some(Ok(_)) => *theirs.renewed.lock().unwrap_or_else(PoisonError::into_inner) = began,
                    Some(Err(object_store::Error::NotFound { .. })) if overdue.is_none() => {
                        theirs.removed.store(true, Ordering::Release);
                        log::warn!("the mark {name} was removed: another driver has taken this log over");
                        return;
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
        Ok(Held { bucket: bucket.clone(), mark, task: Some(task), bound })
    }
}

impl Claim for Held {}

/// A driver's claim. Whoever takes a log over removes the marks that it saw before it raised its fence, also those of drivers
/// that raise theirs after it. If the one gave way to a fence, and the other to the loss of its mark, nobody would have the
/// log. So once its fence is there a driver has another mark, named for it: only who raises a later one removes that.
#[derive(Debug)]
pub(super) struct Driver {
    inner: Arc<Inner>,
    /// The mark with which it waited for its turn, then the other one.
    held: Mutex<Held>,
    /// Marks of those whose log this was: removed when it is ours.
    others: Vec<Path>,
}

/// The fence of the driver whose mark that is, if it is one that was made after a fence.
pub(super) fn fence_of(mark: &Path) -> Option<u64> {
    let (fence, _) = mark.filename()?.split_once('.')?;
    fence.parse().ok()
}

impl Driver {
    pub(super) fn new(inner: &Arc<Inner>, others: Vec<Path>) -> Result<Driver> {
        let held = Driver::mark(inner, sync::new_uuid().to_string())?;
        Ok(Driver { inner: inner.clone(), held: Mutex::new(held), others })
    }

    fn mark(inner: &Arc<Inner>, name: String) -> Result<Held> {
        let path = inner.alive().join(name);
        Held::new(&inner.bucket()?, path, inner.times.driver_renewed, None)
    }

    /// Where its mark is.
    pub(super) fn path(&self) -> Path {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).mark.path.clone()
    }
}

impl Claim for Driver {
    fn taken(&self) -> Result<()> {
        let fence = self.inner.lasting(Which::Driver).fence().unwrap_or_default();
        let held = Driver::mark(&self.inner, format!("{fence:016}.{}", sync::new_uuid()))?;
        self.inner.note_mark(Which::Driver, &held.mark);
        let before = std::mem::replace(&mut *self.held.lock().unwrap_or_else(PoisonError::into_inner), held);
        drop(before);
        let bucket = self.inner.bucket()?;
        // Those too that were made since, of drivers whose fences came before this one.
        let marks = bucket.list(&self.inner.alive())?.into_iter().map(|m| m.location);
        let earlier = marks.filter(|m| fence_of(m).is_some_and(|f| f < fence));
        let mut gone = self.others.clone();
        gone.extend(earlier);
        gone.sort();
        gone.dedup();
        bucket.delete(gone)
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
