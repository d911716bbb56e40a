//! Cleaning for the dead: nobody else removes what a killed executor left.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use uuid::Uuid;

use super::{
    analysis::{Scope, analyse},
    recover::recover,
};
use crate::{
    codec::KeyRing,
    error::Result,
    metrics::{Metrics, add},
    options::{Recovery, Role},
    planted::planted,
    storage::{Claim, Home, Which},
};

/// What is known of writers that are gone: what they left does not change, so it is looked at once.
#[derive(Debug, Default)]
pub(crate) struct Remains {
    /// The largest record time of each; none where there is damage, which stays until somebody has looked.
    newest: Mutex<HashMap<Uuid, Option<i64>>>,
}

impl Remains {
    /// Removes every other receiver writer that is gone and whose records all lie below `threshold`.
    ///
    /// A writer is gone when its claim can be taken, and the claim is held throughout. It goes as a whole: the note that
    /// it was cleaned comes first, so that a handle into it reads as gone, and never as missing.
    pub(crate) fn collect(&self, home: &dyn Home, log: Uuid, own: Uuid, threshold: i64) -> Result<()> {
        let mut first_error = None;
        for writer in home.writers()?.into_iter().filter(|w| *w != own) {
            // One writer that cannot be looked at must not keep the others.
            if let Err(e) = self.collect_one(home, log, writer, threshold) {
                log::warn!("cannot clean after the dead writer {writer}: {e}");
                first_error.get_or_insert(e);
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    fn collect_one(&self, home: &dyn Home, log: Uuid, writer: Uuid, threshold: i64) -> Result<()> {
        let known = self.newest.lock().unwrap_or_else(PoisonError::into_inner).get(&writer).copied();
        if known.is_some_and(|newest| newest.is_none_or(|t| t >= threshold)) {
            return Ok(());
        }
        let which = Which::Receiver(writer);
        let Some(claim) = home.claim_gone(which)? else { return Ok(()) };
        let storage = home.storage(which);
        let analysis = analyse(storage.as_ref(), Scope { log, writer: Some(writer), ..Scope::default() })?;
        let damaged = analysis.is_damaged();
        // What a collector left that was cut short in the middle of deleting looks damaged, and is not.
        if damaged && home.was_removed(writer)? {
            return self.remove(home, writer, claim);
        }
        let newest = analysis.segments.iter().map(|s| s.max_time()).max().unwrap_or(i64::MIN);
        let newest = (!damaged).then_some(newest);
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).insert(writer, newest);
        if damaged {
            log::warn!(
                "the dead writer {writer} left damage, and is kept: nothing of it is deleted; once no batch needs its records any more, its directory (receivers/{writer}) may be removed by hand"
            );
        }
        if newest.is_none_or(|t| t >= threshold) && !planted!(CollectTooMuch) {
            return Ok(());
        }
        if !analysis.findings.is_empty() {
            // What is torn may be an acknowledged group that rotted: a copy is kept before it goes.
            let scope = Scope { log, writer: Some(writer), ..Scope::default() };
            // What is cleaned is not read, and needs no key.
            let policy = (Recovery::Default, &KeyRing::default());
            let recovered = recover(home, storage.as_ref(), which, policy, scope, (false, None))?;
            // Without space for a copy it was left where it is.
            if recovered.report.unsettled > 0 {
                log::warn!(
                    "the dead writer {writer} is kept: there is no space for a copy of its torn bytes (see quarantine); the next cleaning tries again"
                );
                return Ok(());
            }
        }
        // A directory that never held a segment never held a record: its writer may even be about to begin.
        if analysis.newest > 0 && !planted!(CollectWithoutNote) {
            home.note_removed(writer)?;
        }
        self.remove(home, writer, claim)
    }

    /// Removes a dead writer that is noted as removed.
    fn remove(&self, home: &dyn Home, writer: Uuid, claim: Box<dyn Claim>) -> Result<()> {
        let storage = home.storage(Which::Receiver(writer));
        let ids: Vec<u64> = storage.list()?.into_iter().map(|l| l.id).collect();
        storage.delete(&ids)?;
        home.remove_writer(writer, claim)?;
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).remove(&writer);
        let metrics = Metrics::of(Role::Receivers);
        add(&metrics.cleaned, ids.len() as u64);
        add(&metrics.cleaned_writers, 1);
        log::info!("cleaned after the dead writer {writer}: {} segments", ids.len());
        Ok(())
    }
}
