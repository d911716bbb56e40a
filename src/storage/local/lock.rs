//! The claim on a local writer: flock on its LOCK file.
//!
//! flock and not fcntl: twins of this library in one process (one per class loader) must exclude each other, and
//! closing any descriptor of a file drops its fcntl locks. The kernel lets go when the process dies, however it dies.

use std::{
    fs::{File, OpenOptions},
    io::{self, IoSlice, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::{fs::FlockOperation, io::Errno};

use super::fs;
use crate::{
    error::{Error, Result},
    storage::Claim,
};

/// How often a held lock is tried again. flock can wait by itself, but not with a bound.
const RETRY: Duration = Duration::from_millis(50);

/// Longer than a look takes: who only looks ([`await_free`]) holds a shared lock for a moment.
pub(super) const MOMENT: Duration = Duration::from_millis(100);

/// The file that is locked.
pub(super) const LOCK: &str = "LOCK";

/// A held LOCK file: closing it gives the lock back.
#[derive(Debug)]
pub(super) struct FileClaim {
    file: File,
    path: PathBuf,
}

impl Claim for FileClaim {
    /// Under another file's name nobody is kept out: whoever collects after dead writers would take this one for one.
    fn check(&self) -> Result<()> {
        let what = match std::fs::metadata(&self.path) {
            Ok(_) if same_file(&self.file, &self.path) => return Ok(()),
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("look at", self.path.display(), e));
            }
            Err(_) => format!("the lock {}", self.path.display()),
            Ok(_) => format!("the lock {} (another file has its name now)", self.path.display()),
        };
        let hint = "it was deleted while the log was open, or the directory was deleted, moved or unmounted with what was in it: stop the application; then put the directory back, or begin with another one and a new checkpoint";
        Err(Error::Missing { what, hint: hint.into() })
    }
}

/// Takes the lock of `dir`, making its file, and waits up to `wait` for another owner. `dir` must exist; where it was
/// removed meanwhile the caller makes it again (`Ok(None)`).
pub(super) fn take(dir: &Path, wait: Duration) -> Result<Option<FileClaim>> {
    let path = dir.join(LOCK);
    let began = Instant::now();
    loop {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = match fs::open_regular(&path, &mut options) {
            Ok(file) => file,
            Err(e) if e.is_not_found() => return Ok(None),
            Err(e) => return Err(e),
        };
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            // The name may have been removed, or given to another file, between the open and the lock.
            Ok(()) if same_file(&file, &path) => {
                sign(&file, &path)?;
                return Ok(Some(FileClaim { file, path }));
            }
            Ok(()) | Err(Errno::INTR) => continue,
            Err(Errno::WOULDBLOCK) => wait_or_fail(dir, &file, began, wait)?,
            Err(e) => return Err(Error::io("lock", path.display(), e.into())),
        }
    }
}

/// Waits until nobody holds the lock of `dir`. A shared lock is tried, so that two who look do not see each other.
pub(super) fn await_free(dir: &Path, wait: Duration) -> Result<()> {
    let path = dir.join(LOCK);
    let began = Instant::now();
    loop {
        let file = match fs::open_read(&path) {
            Ok(file) => file,
            Err(e) if e.is_not_found() => return Ok(()),
            Err(e) => return Err(e),
        };
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) => wait_or_fail(dir, &file, began, wait)?,
            Err(e) => return Err(Error::io("lock", path.display(), e.into())),
        }
    }
}

fn wait_or_fail(dir: &Path, file: &File, began: Instant, wait: Duration) -> Result<()> {
    let waited = began.elapsed();
    if waited >= wait {
        return Err(Error::Locked { place: dir.display().to_string(), owner: owner(file), waited });
    }
    thread::sleep(RETRY.min(wait - waited));
    Ok(())
}

fn same_file(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(ours), Ok(named)) => ours.ino() == named.ino() && ours.dev() == named.dev(),
        _ => false,
    }
}

/// Writes who holds the lock, for the message that another process prints.
fn sign(file: &File, path: &Path) -> Result<()> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let text = format!("pid {} on {host}\n", std::process::id());
    file.set_len(0).map_err(|e| Error::io("write", path.display(), e))?;
    match fs::write_at(file, path, 0, &mut [IoSlice::new(text.as_bytes())]) {
        // A full disk must not keep a log from being opened: the lock holds without its text.
        Err(e) if e.is_full() => Ok(()),
        other => other,
    }
}

fn owner(mut file: &File) -> String {
    let mut text = String::new();
    match file.read_to_string(&mut text) {
        Ok(_) if !text.trim().is_empty() => text.trim().to_owned(),
        _ => "another process".to_owned(),
    }
}
