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

/// A mark that is renewed.
#[derive(Debug)]
pub(super) struct Mark {
    pub(super) path: Path,
    /// When the last renewal that worked was begun.
    renewed: Mutex<Since>,
    /// Whether somebody removed it, and so has taken the log over, or may have.
    removed: AtomicBool,
}

impl Mark {
    /// How long ago the mark was renewed.
    pub(super) fn age(&self) -> Duration {
        self.renewed.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    pub(super) fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }
}

/// A claim: a mark, and the task that renews it until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    bucket: Arc<Bucket>,
    pub(super) mark: Arc<Mark>,
    task: Task<()>,
    /// Marks of those whose log this was: removed when it is ours.
    others: Vec<Path>,
}

impl Held {
    /// Writes the mark, and keeps it new. A driver that finds its mark removed was taken over (`overdue` is none); one of a
    /// receiver writer is never renewed once it was overdue, since others may have cleaned up after it.
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
        });
        let (theirs, store) = (mark.clone(), bucket.store.clone());
        let name = bucket.shown(&path);
        let task = tasks::begin(async move {
            use object_store::{ObjectStoreExt, PutPayload};
            loop {
                tasks::sleep(every).await;
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
                match tasks::within(every.max(Duration::from_secs(5)), renewal).await {
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
            }
        })?;
        Ok(Held { bucket: bucket.clone(), mark, task, others })
    }
}

impl Claim for Held {
    fn taken(&self) -> Result<()> {
        self.bucket.delete(self.others.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.task.abort();
        if self.mark.is_removed() {
            return;
        }
        // Whoever comes next need not wait for it to grow old.
        if let Err(e) = self.bucket.delete(vec![self.mark.path.clone()]) {
            log::debug!("a mark stays until it is old: {e}");
        }
    }
}

/// A claim on what nobody can write to any more.
#[derive(Debug)]
pub(super) struct Gone;

impl Claim for Gone {}
