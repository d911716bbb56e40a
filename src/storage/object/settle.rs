//! Creating an object that must not be there yet, and knowing how it went.
//!
//! No answer of a store proves anything but success. A connection that was closed, a time-out, a 500: the object may be
//! there, or come to be there later. "It exists": it may be our own, after a retry that nobody told us of, and a store
//! that is busy says so of what does not exist. So the object is read back: if it is what we sent, we made it; if it is
//! another, somebody else did; if there is none, the very same name is tried again, until the time is up.

use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path;

use super::bucket::{Bucket, Created};
use crate::{
    error::{Error, Result},
    planted::planted,
    sync,
};

/// Bytes that tell one object of ours from another: a segment's header, and its group's.
const HEAD: u64 = 8192;
/// Pause before the first retry; doubled for each, up to the last.
const PAUSE: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(2);
/// A single attempt is given this much at least, however little is left.
const LEAST: Duration = Duration::from_millis(500);

/// What is there now.
#[derive(Debug)]
pub(super) enum Settled {
    /// What we sent, and nobody can make it otherwise any more.
    Ours,
    /// Another object, that begins so.
    Theirs(Bytes),
}

/// Creates `path`, for up to `bound`.
///
/// # Errors
/// The store's last answer. The object may still come to be there.
pub(super) fn create(bucket: &Bucket, path: &Path, body: &Bytes, bound: Duration) -> Result<Settled> {
    let until = sync::now() + bound;
    let left = || until.saturating_duration_since(sync::now()).max(LEAST);
    let mut pause = PAUSE;
    loop {
        let attempt = bucket.create(path, body.clone(), left())?;
        let mut last = match attempt {
            Created::Yes => return Ok(Settled::Ours),
            Created::Refused(error) => return Err(error),
            Created::Unsure(error) => error,
        };
        if planted!(UnsureIsDone) {
            return Ok(Settled::Ours);
        }
        log::debug!("{last}; looking whether it is there");
        match bucket.get(path, 0..HEAD, left()) {
            Ok((found, size)) => {
                let sent = body.slice(..body.len().min(HEAD as usize));
                let ours = found == sent && size == body.len() as u64;
                return Ok(if ours || planted!(TheirsIsOurs) {
                    Settled::Ours
                } else {
                    Settled::Theirs(found)
                });
            }
            Err(e) if e.is_not_found() => {}
            Err(e) => last = e,
        }
        if sync::now() + pause >= until {
            return Err(last);
        }
        // Between attempts of a bounded number; whoever waits for the record waits for this.
        sync::pause(pause);
        pause = (pause * 2).min(LONGEST);
    }
}

/// Rounds of the race test, and creators in each.
const ROUNDS: usize = 4;
const CREATORS: usize = 12;

/// Lets many create one object at once. The log's fences stand on there being one winner; many a store that calls itself
/// compatible has several.
///
/// # Errors
/// [`Error::Config`], with what the store did; the store's own error where the test could not be made.
pub(super) fn race(bucket: &Bucket, below: &Path) -> Result<()> {
    let mut made = Vec::new();
    let result = (0..ROUNDS).try_for_each(|round| {
        let path = below.clone().join(format!("{}-{round}", sync::new_uuid().simple()));
        made.push(path.clone());
        race_once(bucket, &path)
    });
    let cleaned = bucket.delete(made);
    result?;
    cleaned
}

fn race_once(bucket: &Bucket, path: &Path) -> Result<()> {
    let bodies: Vec<Bytes> = (0..CREATORS).map(|i| Bytes::from(format!("creator {i}"))).collect();
    let answers = bucket.create_at_once(path, bodies.clone())?;
    let winners: Vec<usize> = (0..CREATORS).filter(|i| answers[*i].is_ok()).collect();
    let unsafe_ = |what: String| {
        Err(Error::Config(format!(
            "{} is not safe for a log: {what}. The log needs a store that creates an object only if there is none (If-None-Match: *), and refuses everybody else",
            bucket.name
        )))
    };
    if winners.len() > 1 {
        return unsafe_(format!(
            "when {CREATORS} created one object at the same time, it told {} of them that they had",
            winners.len()
        ));
    }
    // An answer may have been lost, so nobody need know that he won; but there must be one object, and the winner's.
    let there = match bucket.get(path, 0..HEAD, super::bucket::PATIENCE) {
        Ok((bytes, _)) => bytes,
        Err(e) if e.is_not_found() && winners.is_empty() => {
            let why = answers.into_iter().find_map(std::result::Result::err);
            let why = why.map_or_else(|| "no answer".to_owned(), |e| bucket.scrubbed(&e));
            return Err(Error::io("create", bucket.shown(path), std::io::Error::other(why)));
        }
        Err(e) if e.is_not_found() => {
            return unsafe_("an object that it had just taken was not there".into());
        }
        Err(e) => return Err(e),
    };
    if let [winner] = winners[..]
        && there != bodies[winner]
    {
        return unsafe_("it told one creator of an object that he had won, and kept another's bytes".into());
    }
    match bucket.create(path, Bytes::from_static(b"late"), super::bucket::PATIENCE)? {
        Created::Yes => unsafe_("it let an object be created that was there already".into()),
        Created::Refused(e) => Err(e),
        Created::Unsure(_) => {
            let (now, _) = bucket.get(path, 0..HEAD, super::bucket::PATIENCE)?;
            if now == there { Ok(()) } else { unsafe_("it replaced an object that was there already".into()) }
        }
    }
}
