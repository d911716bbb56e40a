//! Segments as files: `<16 digits>.seg`, prepared under a temporary name and given their own when they are whole.

use std::{
    fs::File,
    io::IoSlice,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::fs;
use crate::{
    error::{Error, Result},
    format::{BLOCK, pad_to},
    storage::{Barrier, Listed, Preallocate, SegmentRead, SegmentWrite, Space, Storage, Traits},
};

const RESERVE: &str = "reserve";
const RESERVE_BYTES: u64 = 1 << 20;
/// A volume that is nearly full still gives segments of this size.
const SMALLEST: u64 = 256 << 10;
/// One segment takes at most this share of the free space, so that a small volume holds several.
const SHARE: u64 = 4;

#[derive(Debug)]
pub(super) struct LocalStorage {
    dir: PathBuf,
}

impl LocalStorage {
    pub(super) fn new(dir: PathBuf) -> LocalStorage {
        LocalStorage { dir }
    }

    fn path(&self, id: u64) -> PathBuf {
        self.dir.join(format!("{id:016}.seg"))
    }

    fn reserve_path(&self) -> PathBuf {
        self.dir.join(RESERVE)
    }

    /// Makes a file of `size` bytes under a temporary name.
    fn prepare(&self, temp: &Path, size: u64, how: Preallocate) -> Result<File> {
        let file = fs::create_new(temp)?;
        match how {
            // Reserved first: a full volume shows at once.
            Preallocate::Zeroed => {
                fs::reserve(&file, temp, size).and_then(|()| fs::zero(&file, temp, size))?
            }
            Preallocate::Reserved => fs::reserve(&file, temp, size)?,
        }
        Ok(file)
    }

    /// The reserve, as a file under the temporary name, where it is large enough.
    fn take_reserve(&self, temp: &Path, least: u64) -> Result<Option<(File, u64)>> {
        let reserve = self.reserve_path();
        match std::fs::metadata(&reserve) {
            Ok(m) if m.len() >= least => {
                std::fs::rename(&reserve, temp)
                    .map_err(|e| Error::io("take the reserve of", self.dir.display(), e))?;
                Ok(Some((fs::open_write(temp)?, m.len())))
            }
            _ => Ok(None),
        }
    }
}

impl Storage for LocalStorage {
    fn traits(&self) -> Traits {
        // Buffered writes share one barrier, and the kernel reports a write-back error to only one of two concurrent
        // barriers: so one group at a time.
        Traits { block: BLOCK, in_flight: 1 }
    }

    fn place(&self) -> String {
        self.dir.display().to_string()
    }

    fn list(&self) -> Result<Vec<Listed>> {
        let entries = match std::fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::io("list", self.dir.display(), e)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| Error::io("list", self.dir.display(), e))?;
            let Some(id) = entry.file_name().to_str().and_then(segment_id) else { continue };
            match entry.metadata() {
                Ok(m) => found.push(Listed { id, length: m.len() }),
                // Deleted by its writer between the listing and here.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::io("look at", entry.path().display(), e)),
            }
        }
        found.sort_by_key(|l| l.id);
        Ok(found)
    }

    fn create(&self, id: u64, space: Space, header: &[u8]) -> Result<Box<dyn SegmentWrite>> {
        let Space { wish, least, how, urgent } = space;
        let path = self.path(id);
        let temp = self.dir.join(format!("{id:016}.tmp"));
        let size = match how {
            Preallocate::Zeroed => {
                let share = fs::available(&self.dir)? / SHARE;
                pad_to(wish.min(share.max(SMALLEST)).max(least), u64::from(BLOCK))
            }
            Preallocate::Reserved => pad_to(wish.max(least), u64::from(BLOCK)),
        };
        // What an earlier attempt left, under our lock, is nobody's.
        if temp.exists() {
            fs::remove_quietly(&temp);
        }
        let prepared = self.prepare(&temp, size, how).map(|file| (file, size)).or_else(|e| {
            fs::remove_quietly(&temp);
            match (e.is_full() && urgent).then(|| self.take_reserve(&temp, least)).transpose()? {
                Some(Some(reserve)) => Ok(reserve),
                _ => Err(e),
            }
        });
        let finished = prepared.and_then(|(file, size)| {
            fs::write_at(&file, &temp, 0, &mut [IoSlice::new(header)])?;
            fs::sync_data(&file, &temp)?;
            fs::rename_new(&temp, &path)?;
            Ok(LocalSegment { file, path: path.clone(), size })
        });
        match finished {
            Ok(segment) => Ok(Box::new(segment)),
            Err(e) => {
                fs::remove_quietly(&temp);
                Err(e)
            }
        }
    }

    fn open(&self, id: u64) -> Result<Arc<dyn SegmentRead>> {
        let path = self.path(id);
        let file = fs::open_read(&path)?;
        Ok(Arc::new(LocalSegment { file, path, size: 0 }))
    }

    fn seal(&self, id: u64, end: u64, footer: &[u8]) -> Result<()> {
        let path = self.path(id);
        let file = fs::open_write(&path)?;
        fs::write_at(&file, &path, end, &mut [IoSlice::new(footer)])?;
        fs::sync_data(&file, &path)?;
        // Only now may the tail go: a crash before leaves a footer in the place of a group, which reads the same.
        file.set_len(end + footer.len() as u64).map_err(|e| Error::io("cut", path.display(), e))?;
        rustix::fs::fsync(&file).map_err(|e| Error::io("sync", path.display(), e.into()))
    }

    fn delete(&self, ids: &[u64]) -> Result<()> {
        for id in ids {
            let path = self.path(*id);
            match std::fs::remove_file(&path) {
                Ok(()) => {}
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::io("delete", path.display(), e)),
            }
        }
        fs::sync_dir(&self.dir)
    }

    fn keep_reserve(&self) -> Result<()> {
        let path = self.reserve_path();
        if path.exists() {
            return Ok(());
        }
        let temp = self.dir.join(format!("{RESERVE}.tmp"));
        fs::remove_quietly(&temp);
        let made = self
            .prepare(&temp, RESERVE_BYTES, Preallocate::Zeroed)
            .and_then(|file| fs::sync_data(&file, &temp))
            .and_then(|()| fs::rename_new(&temp, &path));
        if made.is_err() {
            fs::remove_quietly(&temp);
        }
        made
    }
}

/// A segment's file, open.
#[derive(Debug)]
struct LocalSegment {
    file: File,
    path: PathBuf,
    size: u64,
}

impl SegmentWrite for LocalSegment {
    fn size(&self) -> u64 {
        self.size
    }

    fn write(&self, offset: u64, bytes: &mut [IoSlice<'_>], barrier: Barrier) -> Result<()> {
        fs::write_at(&self.file, &self.path, offset, bytes)?;
        match barrier {
            Barrier::Yes => fs::sync_data(&self.file, &self.path),
            Barrier::No => Ok(()),
        }
    }
}

impl SegmentRead for LocalSegment {
    fn size(&self) -> Result<u64> {
        self.file.metadata().map(|m| m.len()).map_err(|e| Error::io("look at", self.path.display(), e))
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Result<usize> {
        fs::read_at(&self.file, &self.path, offset, into)
    }

    fn read_two(&self, offset: u64, head: &mut [u8], body: &mut [u8]) -> Result<usize> {
        fs::read_two_at(&self.file, &self.path, offset, head, body)
    }

    fn settle(&self) -> Result<()> {
        fs::sync_data(&self.file, &self.path)
    }
}

fn segment_id(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    (digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
}

/// Removes what a crash left unfinished in a writer's directory. Only under its lock.
pub(super) fn sweep(dir: &Path) -> Result<()> {
    remove_where(dir, |name| name.ends_with(".tmp"))
}

/// The same for a directory that is about to go.
pub(super) fn sweep_empty(dir: &Path) -> Result<()> {
    remove_where(dir, |name| name.ends_with(".tmp") || name == RESERVE || name == "LOCK")
}

fn remove_where(dir: &Path, doomed: impl Fn(&str) -> bool) -> Result<()> {
    let entries = std::fs::read_dir(dir).map_err(|e| Error::io("list", dir.display(), e))?;
    for entry in entries {
        let entry = entry.map_err(|e| Error::io("list", dir.display(), e))?;
        if entry.file_name().to_str().is_some_and(&doomed) {
            std::fs::remove_file(entry.path()).map_err(|e| Error::io("remove", entry.path().display(), e))?;
        }
    }
    Ok(())
}
