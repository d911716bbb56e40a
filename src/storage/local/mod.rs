//! The local home: a directory on a file system of this machine.
//!
//! ```text
//! <dir>/ferrowal.id              the log's uuid, made once, exclusively
//! <dir>/ferrowal.properties      the operator's overrides
//! <dir>/driver/                  LOCK, segments, reserve, spares
//! <dir>/receivers/<uuid>/        the same for each process that wrote
//! <dir>/receivers/removed        uuids of writers whose every segment was cleaned
//! <dir>/quarantine/              copies of damaged bytes, never deleted by us
//! ```

mod direct;
mod fs;
mod lock;
mod reader;
mod segments;

#[cfg(feature = "cli")]
pub(crate) use direct::probe;
pub(crate) use direct::{Chunk, HUGE, STREAMS, in_huge_pages, stream};

use std::{
    io::IoSlice,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use once_cell::sync::{Lazy, OnceCell};
use rustix::fs::Access;
use uuid::Uuid;

use self::{
    fs::Kind,
    segments::{LocalStorage, Reading},
};
use super::{Claim, Home, Storage, Which, given_id};
use crate::{
    error::{Error, Result},
    options::{BarrierMethod, Durability, Options, Role},
};

const ID: &str = "ferrowal.id";
const REMOVED: &str = "removed";
/// Removed writers that are remembered; a handle older than that many dead executors reads as missing, not as gone.
const REMOVED_KEPT: usize = 4096;
/// Updating the list of removed writers takes microseconds; an owner that holds it longer is stuck.
const REMOVED_WAIT: Duration = Duration::from_secs(5);

/// The files that readers have open, in the whole process: instances with other options read the same ones.
static READING: Lazy<Arc<Reading>> = Lazy::new(Arc::default);

/// One application's directory on a local file system.
#[derive(Debug)]
pub(crate) struct LocalHome {
    dir: PathBuf,
    allow_network_lock: bool,
    /// The method that was asked for, and, once there is a writer, the one that was chosen.
    barrier: BarrierMethod,
    durable: bool,
    chosen: Arc<OnceCell<BarrierMethod>>,
    warned: AtomicBool,
    reading: Arc<Reading>,
}

impl LocalHome {
    pub(crate) fn new(dir: PathBuf, options: &Options) -> LocalHome {
        LocalHome {
            dir,
            allow_network_lock: options.allow_network_lock,
            durable: options.durability == Durability::Device,
            // Nothing but marks is synced then.
            barrier: match options.durability {
                Durability::Device => options.barrier,
                Durability::Os => BarrierMethod::Fdatasync,
            },
            chosen: Arc::default(),
            warned: AtomicBool::new(false),
            reading: READING.clone(),
        }
    }

    fn writer_dir(&self, which: Which) -> PathBuf {
        match which {
            Which::Driver => self.dir.join("driver"),
            Which::Receiver(uuid) => self.receivers().join(uuid.to_string()),
        }
    }

    fn receivers(&self) -> PathBuf {
        self.dir.join("receivers")
    }

    /// Refuses a file system whose locks may not hold everywhere, and warns of one that forgets.
    fn check_kind(&self, existing: &Path) -> Result<()> {
        match fs::kind(existing)? {
            Kind::Network(name) if !self.allow_network_lock => Err(Error::Config(format!(
                "{} is on {name}, where a lock may not reach other hosts and two writers could destroy the log: use a local disk, or, if this file system's locks hold on every host, set spark.ferrowal.lock.allowNetwork=true",
                self.dir.display()
            ))),
            Kind::Volatile(name) if !self.warned.swap(true, Ordering::Relaxed) => {
                log::warn!(
                    "{} is on {name}: the log will not survive a restart of this machine or container; mount a disk there",
                    self.dir.display()
                );
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn no_directory(&self) -> Error {
        Error::Config(format!("{} is not a directory: name a directory for the log", self.dir.display()))
    }

    /// A small file of the log's directory; what is in the directory's place is named for what it is.
    fn read_small(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        fs::read_small(path).map_err(|e| if self.dir.is_file() { self.no_directory() } else { e })
    }

    /// The directory itself, or the parent in which it will be made.
    fn nearest(&self) -> Result<&Path> {
        match std::fs::metadata(&self.dir) {
            Ok(m) if m.is_dir() => Ok(&self.dir),
            Ok(_) => Err(self.no_directory()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => match self.dir.parent() {
                Some(parent) if parent.is_dir() => Ok(parent),
                _ => Err(Error::Config(format!(
                    "the parent of {} does not exist: make it, or name another directory for the log",
                    self.dir.display()
                ))),
            },
            Err(e) => Err(Error::io("look at", self.dir.display(), e)),
        }
    }

    fn make_writer_dir(&self, which: Which) -> Result<PathBuf> {
        self.check_kind(self.nearest()?)?;
        fs::make_dir(&self.dir)?;
        if let Which::Receiver(_) = which {
            fs::make_dir(&self.receivers())?;
        }
        let dir = self.writer_dir(which);
        fs::make_dir(&dir)?;
        Ok(dir)
    }

    fn read_id(&self) -> Result<Option<Uuid>> {
        let path = self.dir.join(ID);
        let Some(bytes) = self.read_small(&path)? else { return Ok(None) };
        let parsed = std::str::from_utf8(&bytes).ok().and_then(|text| Uuid::parse_str(text.trim()).ok());
        parsed.map(Some).ok_or_else(|| Error::Missing {
            what: format!("a readable uuid in {}", path.display()),
            hint: "the file is damaged; write the log's uuid into it again (every segment's header holds it, `xxd` shows it at byte 24)".into(),
        })
    }
}

impl Home for LocalHome {
    fn place(&self) -> String {
        self.dir.display().to_string()
    }

    fn check(&self) -> Result<()> {
        let existing = self.nearest()?;
        rustix::fs::access(existing, Access::WRITE_OK | Access::EXEC_OK)
            .map_err(|e| Error::io("write to", existing.display(), e.into()))?;
        self.check_kind(existing)?;
        self.read_id().map(drop)
    }

    fn log_id(&self) -> Result<Option<Uuid>> {
        self.read_id()
    }

    fn make_log_id(&self) -> Result<Uuid> {
        self.check_kind(self.nearest()?)?;
        fs::make_dir(&self.dir)?;
        if let Some(id) = given_id(self)? {
            return Ok(id);
        }
        let id = Uuid::new_v4();
        let temp = self.dir.join(format!("{ID}.{}.tmp", id.simple()));
        let file = fs::create_new(&temp)?;
        let made = fs::write_at(&file, &temp, 0, &mut [IoSlice::new(format!("{id}\n").as_bytes())])
            .and_then(|()| fs::sync_data(&file, &temp))
            .and_then(|()| fs::rename_new(&temp, &self.dir.join(ID)));
        match made {
            Ok(()) => Ok(id),
            Err(e) => {
                fs::remove_quietly(&temp);
                // Another process was first: its id counts.
                if !e.is_exists() {
                    return Err(e);
                }
                self.read_id()?.ok_or(e)
            }
        }
    }

    fn small_file(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.read_small(&self.dir.join(name))
    }

    fn writers(&self) -> Result<Vec<Uuid>> {
        let dir = self.receivers();
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::io("list", dir.display(), e)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| Error::io("list", dir.display(), e))?;
            if let Some(uuid) = entry.file_name().to_str().and_then(|n| Uuid::parse_str(n).ok()) {
                found.push(uuid);
            }
        }
        Ok(found)
    }

    fn storage(&self, which: Which) -> Arc<dyn Storage> {
        Arc::new(LocalStorage::new(
            self.writer_dir(which),
            self.reading.clone(),
            self.chosen.clone(),
            self.durable,
            match which {
                Which::Driver => Role::Driver,
                Which::Receiver(_) => Role::Receivers,
            },
        ))
    }

    fn claim(&self, which: Which, wait: Duration) -> Result<Box<dyn Claim>> {
        loop {
            let dir = self.make_writer_dir(which)?;
            if let Some(claim) = lock::take(&dir, wait.max(lock::MOMENT))? {
                segments::sweep(&dir)?;
                // Only who writes needs it, and may make files.
                self.chosen.get_or_try_init(|| direct::choose(&dir, self.barrier))?;
                return Ok(Box::new(claim));
            }
        }
    }

    fn await_unclaimed(&self, which: Which, wait: Duration) -> Result<()> {
        lock::await_free(&self.writer_dir(which), wait)
    }

    fn claim_gone(&self, which: Which) -> Result<Option<Box<dyn Claim>>> {
        let dir = self.writer_dir(which);
        match lock::take(&dir, Duration::ZERO) {
            Ok(taken) => Ok(taken.map(|claim| Box::new(claim) as Box<dyn Claim>)),
            Err(Error::Locked { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn note_removed(&self, writer: Uuid) -> Result<()> {
        // Two collectors may have a note to add at the same time.
        let Some(_list) = lock::take(&self.receivers(), REMOVED_WAIT)? else { return Ok(()) };
        let mut removed = self.removed()?;
        if removed.contains(&writer) {
            return Ok(());
        }
        removed.push(writer);
        let from = removed.len().saturating_sub(REMOVED_KEPT);
        let text: String = removed[from..].iter().map(|u| format!("{u}\n")).collect();
        fs::replace_small(&self.receivers().join(REMOVED), text.as_bytes())
    }

    fn remove_writer(&self, writer: Uuid, claim: Box<dyn Claim>) -> Result<()> {
        let dir = self.writer_dir(Which::Receiver(writer));
        segments::sweep_empty(&dir)?;
        std::fs::remove_dir(&dir).map_err(|e| Error::io("remove", dir.display(), e))?;
        drop(claim);
        fs::sync_parent(&dir)
    }

    fn was_removed(&self, writer: Uuid) -> Result<bool> {
        Ok(self.removed()?.contains(&writer))
    }

    fn quarantine(&self, label: &str, bytes: &mut dyn Iterator<Item = Result<Vec<u8>>>) -> Result<String> {
        let dir = self.dir.join("quarantine");
        fs::make_dir(&dir)?;
        // Under its own name only when it is whole: a copy that is there need not be made again.
        let path = dir.join(label);
        if path.exists() {
            return Ok(path.display().to_string());
        }
        let temp = dir.join(format!("{label}.{}.tmp", Uuid::new_v4().simple()));
        let copied = copy_to(&temp, bytes).and_then(|()| fs::rename_new(&temp, &path));
        if let Err(e) = copied {
            fs::remove_quietly(&temp);
            return Err(e);
        }
        Ok(path.display().to_string())
    }

    fn quarantine_whole(&self, which: Which, id: u64, label: &str) -> Result<Option<String>> {
        let dir = self.dir.join("quarantine");
        fs::make_dir(&dir)?;
        let path = dir.join(label);
        let segment = segments::path_in(&self.writer_dir(which), id);
        if let Err(e) = std::fs::hard_link(&segment, &path) {
            let file = |path: &Path| std::fs::metadata(path).map(|m| (m.dev(), m.ino())).ok();
            // A recovery that was cut short has made it. Otherwise: not every file system has links.
            if file(&path).is_none() || file(&path) != file(&segment) {
                log::debug!("segment {id} is copied to quarantine, since it cannot be linked: {e}");
                return Ok(None);
            }
        }
        fs::sync_dir(&dir)?;
        Ok(Some(path.display().to_string()))
    }
}

/// Writes a new file, durably.
fn copy_to(path: &Path, bytes: &mut dyn Iterator<Item = Result<Vec<u8>>>) -> Result<()> {
    let file = fs::create_new(path)?;
    let mut at = 0;
    for piece in bytes {
        let piece = piece?;
        fs::write_at(&file, path, at, &mut [IoSlice::new(&piece)])?;
        at += piece.len() as u64;
    }
    fs::sync_data(&file, path)
}

impl LocalHome {
    fn removed(&self) -> Result<Vec<Uuid>> {
        let bytes = fs::read_small(&self.receivers().join(REMOVED))?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes).lines().filter_map(|l| Uuid::parse_str(l.trim()).ok()).collect())
    }
}
