//! Cleaning for the dead: nobody else removes what a killed executor left.

use uuid::Uuid;

use super::analysis::{Scope, analyse};
use crate::{
    error::Result,
    storage::{Home, Which},
};

/// Removes every other receiver writer that is gone and whose records all lie below `threshold`.
///
/// A writer is gone when its claim can be taken, and the claim is held throughout. It goes as a whole: the note that
/// it was cleaned comes first, so that a handle into it reads as gone, and never as missing.
pub(crate) fn collect(home: &dyn Home, log: Uuid, own: Uuid, threshold: i64) -> Result<()> {
    let mut first_error = None;
    for writer in home.writers()?.into_iter().filter(|w| *w != own) {
        // One writer that cannot be looked at must not keep the others.
        if let Err(e) = collect_one(home, log, writer, threshold) {
            log::warn!("cannot clean after the dead writer {writer}: {e}");
            first_error.get_or_insert(e);
        }
    }
    first_error.map_or(Ok(()), Err)
}

fn collect_one(home: &dyn Home, log: Uuid, writer: Uuid, threshold: i64) -> Result<()> {
    let which = Which::Receiver(writer);
    let Some(claim) = home.claim_gone(which)? else { return Ok(()) };
    let storage = home.storage(which);
    let analysis = analyse(storage.as_ref(), Scope { log, writer: Some(writer), ..Scope::default() })?;
    // Damage is evidence: it stays until somebody has looked.
    let damaged = analysis.findings.iter().any(|f| f.corrupt);
    if damaged || analysis.segments.iter().any(|s| s.max_time() >= threshold) {
        return Ok(());
    }
    // A directory that never held a segment never held a record: its writer may even be about to begin.
    if analysis.newest > 0 {
        home.note_removed(writer)?;
    }
    let ids: Vec<u64> = storage.list()?.into_iter().map(|l| l.id).collect();
    storage.delete(&ids)?;
    home.remove_writer(writer, claim)?;
    log::info!("cleaned after the dead writer {writer}: {} segments", ids.len());
    Ok(())
}
