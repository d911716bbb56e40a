//! One store, as the log calls it: blocking, with errors of ours, and with no secret in them.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::{
    GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    path::Path,
};

use super::{
    clock::StoreClock,
    tasks::{self, Task},
};
use crate::{
    error::{Error, Result},
    sync,
};

/// Bound on a call that reads, lists or deletes, its retries included.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// How long a small file that was read, or was not there, is taken to be so still.
const SMALL_KEPT: Duration = Duration::from_secs(30);
/// A small file is smaller than this.
const SMALL: u64 = 1 << 20;

/// Where a machine in a cloud asks for its role's credentials: nobody goes there who was given any.
const ROLES: [&str; 2] = ["169.254.169.254", "metadata.google.internal"];
const NO_CREDENTIALS: &str = "no credentials were given, neither in the environment (AWS_ACCESS_KEY_ID, …) nor by the keys of Hadoop's clients (fs.s3a.access.key, …), and this machine has no role that gives any: ";

/// A bucket or container.
pub(super) struct Bucket {
    /// For messages: no secret is in it.
    pub(super) name: String,
    /// The same with what tells one store from another of the same name.
    pub(super) identity: String,
    /// Retries by itself: for what may be done twice.
    pub(super) store: Arc<dyn ObjectStore>,
    /// Never retries: for creations, whose unsure outcomes are settled by ourselves.
    pub(super) once: Arc<dyn ObjectStore>,
    pub(super) clock: Arc<StoreClock>,
    /// What must never be shown.
    pub(super) secrets: Vec<String>,
    small: Mutex<HashMap<Path, (Option<Bytes>, Instant)>>,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").field("name", &self.name).finish_non_exhaustive()
    }
}

/// How a creation went, as far as its answer tells.
#[derive(Debug)]
pub(super) enum Created {
    /// The store took it.
    Yes,
    /// The store refused the request, whatever lies there: nothing was stored.
    Refused(Error),
    /// It may be there or not, by us or by another: "exists" is what a retry inside of the network says, too.
    Unsure(Error),
}

impl Bucket {
    pub(super) fn new(
        name: String,
        identity: String,
        store: Arc<dyn ObjectStore>,
        once: Arc<dyn ObjectStore>,
        clock: Arc<StoreClock>,
        secrets: Vec<String>,
    ) -> Bucket {
        Bucket { name, identity, store, once, clock, secrets, small: Mutex::default() }
    }

    /// Runs to its end, or to the bound.
    fn run<T>(
        &self,
        action: &'static str,
        path: &Path,
        bound: Duration,
        work: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T> {
        match tasks::run(tasks::within(bound, work))? {
            Some(Ok(value)) => Ok(value),
            Some(Err(e)) => Err(self.error(action, path, &e)),
            None => Err(self.timeout(action, path, bound)),
        }
    }

    fn timeout(&self, action: &'static str, path: &Path, bound: Duration) -> Error {
        let why = format!("no answer within {bound:?}");
        Error::io(action, self.shown(path), std::io::Error::new(std::io::ErrorKind::TimedOut, why))
    }

    /// A path for messages.
    pub(super) fn shown(&self, path: &Path) -> String {
        format!("{}/{path}", self.name)
    }

    fn error(&self, action: &'static str, path: &Path, error: &object_store::Error) -> Error {
        use std::io::ErrorKind;
        let text = self.scrubbed(error);
        let kind = match error {
            object_store::Error::NotFound { .. } if text.contains("NoSuchBucket") => ErrorKind::Other,
            object_store::Error::NotFound { .. } => ErrorKind::NotFound,
            object_store::Error::AlreadyExists { .. } => ErrorKind::AlreadyExists,
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                ErrorKind::PermissionDenied
            }
            _ => ErrorKind::Other,
        };
        Error::io(action, self.shown(path), std::io::Error::new(kind, text))
    }

    /// What the store says, without secrets, and without the rest of its page about it.
    pub(super) fn scrubbed(&self, error: &object_store::Error) -> String {
        const MOST: usize = 600;
        let mut text = error.to_string();
        for secret in &self.secrets {
            text = text.replace(secret, "***");
        }
        explain(&mut text);
        if text.len() > MOST {
            let end = (0..=MOST).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
            text.truncate(end);
            text.push('…');
        }
        text
    }

    /// One attempt to make an object that must not be there yet.
    pub(super) fn create(&self, path: &Path, bytes: Bytes, bound: Duration) -> Result<Created> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let work = self.once.put_opts(path, PutPayload::from_bytes(bytes), options);
        Ok(match tasks::run(tasks::within(bound, work))? {
            Some(Ok(_)) => Created::Yes,
            Some(Err(e)) => {
                let ours = self.error("create", path, &e);
                match e {
                    object_store::Error::PermissionDenied { .. }
                    | object_store::Error::Unauthenticated { .. }
                    | object_store::Error::NotSupported { .. }
                    | object_store::Error::NotImplemented { .. }
                    | object_store::Error::InvalidPath { .. } => Created::Refused(ours),
                    _ => Created::Unsure(ours),
                }
            }
            None => Created::Unsure(self.timeout("create", path, bound)),
        })
    }

    /// Many attempts at once, for the race test.
    pub(super) fn create_at_once(
        &self,
        path: &Path,
        bodies: Vec<Bytes>,
    ) -> Result<Vec<object_store::Result<()>>> {
        let attempts = bodies.into_iter().map(|body| {
            let (store, path) = (self.once.clone(), path.clone());
            async move {
                let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
                store.put_opts(&path, PutPayload::from_bytes(body), options).await.map(drop)
            }
        });
        let all = futures_util::future::join_all(attempts);
        self.run("test", path, PATIENCE, async { Ok(all.await) })
    }

    /// Writes an object, over what is there.
    pub(super) fn put(&self, path: &Path, bytes: Bytes, bound: Duration) -> Result<()> {
        self.small.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
        let work = self.store.put_opts(path, PutPayload::from_bytes(bytes), PutOptions::default());
        self.run("write", path, bound, work).map(drop)
    }

    /// An object's bytes in `range`, as far as it goes, and its whole size. An object that ends before the range begins
    /// gives no bytes.
    pub(super) fn get(&self, path: &Path, range: Range<u64>, bound: Duration) -> Result<(Bytes, u64)> {
        let started = sync::now();
        match self.run("read", path, bound, get(self.store.clone(), path.clone(), range.clone())) {
            Err(e) if !e.is_not_found() && range.start > 0 => {
                // Stores answer a range behind the end with an error, each with one of its own.
                let size = self
                    .head(path, bound.saturating_sub(sync::now().saturating_duration_since(started)))?
                    .size;
                if size <= range.start { Ok((Bytes::new(), size)) } else { Err(e) }
            }
            other => other,
        }
    }

    /// The same by a task of its own: to be waited for later.
    pub(super) fn begin_get(
        self: &Arc<Self>,
        path: Path,
        range: Range<u64>,
    ) -> Result<Task<Result<(Bytes, u64)>>> {
        let bucket = self.clone();
        tasks::begin(async move {
            let work = get(bucket.store.clone(), path.clone(), range);
            match tasks::within(PATIENCE, work).await {
                Some(result) => result.map_err(|e| bucket.error("read", &path, &e)),
                None => Err(bucket.timeout("read", &path, PATIENCE)),
            }
        })
    }

    pub(super) fn head(&self, path: &Path, bound: Duration) -> Result<ObjectMeta> {
        self.run("look at", path, bound, self.store.head(path))
    }

    /// The time by the store's clock, before something is asked for whose age matters. A store that has said nothing yet is
    /// asked for `path` first.
    pub(super) fn asked(&self, path: &Path) -> Result<i64> {
        if !self.clock.is_told() {
            match self.head(path, PATIENCE) {
                Err(e) if !e.is_not_found() => return Err(e),
                _ => {}
            }
        }
        Ok(self.clock.now())
    }

    /// A small file, if it is there. What was read lately is not asked for again.
    pub(super) fn small(&self, path: &Path) -> Result<Option<Bytes>> {
        {
            let small = self.small.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((bytes, _)) = small.get(path).filter(|(_, at)| is_recent(*at)) {
                return Ok(bytes.clone());
            }
        }
        let found = match self.get(path, 0..SMALL, PATIENCE) {
            Ok((bytes, _)) => Some(bytes),
            Err(e) if e.is_not_found() => None,
            Err(e) => return Err(e),
        };
        let mut small = self.small.lock().unwrap_or_else(PoisonError::into_inner);
        small.retain(|_, (_, at)| is_recent(*at));
        small.insert(path.clone(), (found.clone(), sync::now()));
        Ok(found)
    }

    /// Every object below a prefix, in no order.
    pub(super) fn list(&self, prefix: &Path) -> Result<Vec<ObjectMeta>> {
        self.run("list", prefix, PATIENCE * 4, self.store.list(Some(prefix)).try_collect())
    }

    /// Those whose names come after `after`.
    pub(super) fn list_after(&self, prefix: &Path, after: &Path) -> Result<Vec<ObjectMeta>> {
        self.run("list", prefix, PATIENCE, self.store.list_with_offset(Some(prefix), after).try_collect())
    }

    /// The names directly below a prefix that have objects below them.
    pub(super) fn folders(&self, prefix: &Path) -> Result<Vec<String>> {
        let found = self.run("list", prefix, PATIENCE * 4, self.store.list_with_delimiter(Some(prefix)))?;
        Ok(found.common_prefixes.iter().filter_map(|p| p.filename().map(str::to_owned)).collect())
    }

    /// Deletes objects, in bulk where the store can. What is absent is fine.
    pub(super) fn delete(&self, paths: Vec<Path>) -> Result<()> {
        self.delete_within(paths, PATIENCE * 4)
    }

    /// The same, if it is done within `bound`.
    pub(super) fn delete_within(&self, paths: Vec<Path>, bound: Duration) -> Result<()> {
        let Some(first) = paths.first().cloned() else { return Ok(()) };
        {
            let mut small = self.small.lock().unwrap_or_else(PoisonError::into_inner);
            paths.iter().for_each(|p| drop(small.remove(p)));
        }
        let work = async {
            let mut results = self.store.delete_stream(stream::iter(paths.into_iter().map(Ok)).boxed());
            while let Some(result) = results.next().await {
                match result {
                    Ok(_) => {}
                    Err(e) if is_gone(&e) => {}
                    Err(e) => return Err(e),
                }
            }
            Ok(())
        };
        self.run("delete", &first, bound, work)
    }
}

/// Whether what was to be deleted was not there. Of one in many some servers say so by a code of S3's, where others say nothing:
/// the client has no kind of error for that.
fn is_gone(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::NotFound { .. }) || error.to_string().contains("(code: NoSuchKey)")
}

fn is_recent(at: Instant) -> bool {
    sync::now().saturating_duration_since(at) < SMALL_KEPT
}

async fn get(
    store: Arc<dyn ObjectStore>,
    path: Path,
    range: Range<u64>,
) -> object_store::Result<(Bytes, u64)> {
    let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
    let result = store.get_opts(&path, options).await?;
    let size = result.meta.size;
    Ok((result.bytes().await?, size))
}

/// Says what is missing where a store's words only tell of the machine's own address for it.
fn explain(text: &mut String) {
    if ROLES.iter().any(|role| text.contains(role)) {
        text.insert_str(0, NO_CREDENTIALS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gave_no_credentials_is_told_so() {
        let mut text =
            "Error performing PUT http://169.254.169.254/latest/api/token: 403 Forbidden".to_owned();
        explain(&mut text);
        assert!(text.starts_with("no credentials were given"), "{text}");
        assert!(text.ends_with("403 Forbidden"), "{text}");
        let mut other = "Error performing GET https://store/bucket/x: 403 Forbidden".to_owned();
        explain(&mut other);
        assert!(other.starts_with("Error performing"), "{other}");
    }
}
