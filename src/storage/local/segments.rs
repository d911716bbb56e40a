//! Segments as files: `<16 digits>.seg`, prepared under a temporary name and given their own when they are whole.

use std::{
    collections::HashMap,
    fs::File,
    io::IoSlice,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use once_cell::sync::OnceCell;

use super::{direct::SyncedFile, fs, lock::LOCK, reader::LocalReader};
use crate::{
    awake::{FEW, processors},
    error::{Error, Result},
    format::{BLOCK, pad_to},
    metrics::{Metrics, Share},
    options::{BarrierMethod, Role},
    storage::{Barrier, Header, Listed, Preallocate, SegmentRead, SegmentWrite, Space, Storage, Traits},
};

/// Names of files that were segments begin with this.
const SPARE: &str = "spare-";
/// Files that are kept to be used again, at least; more where more are used from one deletion to the next.
const SPARES: usize = 8;
/// Of the most segments used from one deletion to the next, this part of one more stays the measure after each.
const PACE_KEPT: usize = 15;
/// Pieces of a large record that are written at once: what fills the devices at hand.
const LANES: usize = 4;
/// Groups without barriers that are copied to the page cache at once, on few processors. The kernel lets one at a time into a
/// file; but so whoever runs goes on, and does not sleep until another one's group is over. (Two processors, eight writers of
/// 1 KiB: 251,000 instead of 181,000 records a second. On four, where others are awake, one after the other were the faster.)
const COPIES: usize = 4;
/// So many bytes of a segment are put into the page cache ahead, at most.
const MOST_FILLED: u64 = 64 << 20;
const RESERVE: &str = "reserve";
const RESERVE_BYTES: u64 = 1 << 20;
/// A volume that is nearly full still gives segments of this size.
const SMALLEST: u64 = 256 << 10;
/// So much of a volume is left by segments for records. It is for whoever begins a log anew on a volume that this log itself has
/// filled: a directory, a lock, a segment for the mark without which nothing may be cleaned, and the note of a writer that was.
const LEFT: u64 = 64 << 10;
/// One segment takes at most this share of the free space, so that a small volume holds several.
const SHARE: u64 = 4;

#[derive(Debug)]
pub(super) struct LocalStorage {
    dir: PathBuf,
    reading: Arc<Reading>,
    /// Whether groups have barriers.
    durable: bool,
    /// Held while files change from segments to spares: until that is durable none is used. Counts them.
    renaming: Mutex<Share>,
    /// Held while the reserve is made.
    reserving: Mutex<()>,
    /// The largest size that a segment was to have: a larger file was one record's, and is not used again.
    wished: AtomicU64,
    /// Segments made since the last deletion, and the most of late.
    made: AtomicUsize,
    pace: AtomicUsize,
    /// Set once there is a writer.
    method: Arc<OnceCell<BarrierMethod>>,
}

/// The files that readers of this process have open: one that is read is never written again.
#[derive(Debug, Default)]
pub(super) struct Reading(Mutex<HashMap<PathBuf, usize>>);

impl Reading {
    fn files(&self) -> MutexGuard<'_, HashMap<PathBuf, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_read(&self, path: &Path) -> bool {
        self.files().contains_key(path)
    }
}

/// One reader's hold on a file.
#[derive(Debug)]
pub(super) struct Hold(Arc<Reading>, PathBuf);

impl Hold {
    pub(super) fn on(reading: &Arc<Reading>, path: &Path) -> Hold {
        *reading.files().entry(path.to_owned()).or_insert(0) += 1;
        Hold(reading.clone(), path.to_owned())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut files = self.0.files();
        if let Some(n) = files.get_mut(&self.1) {
            *n -= 1;
            if *n == 0 {
                files.remove(&self.1);
            }
        }
    }
}

impl LocalStorage {
    pub(super) fn new(
        dir: PathBuf,
        reading: Arc<Reading>,
        method: Arc<OnceCell<BarrierMethod>>,
        durable: bool,
        role: Role,
    ) -> LocalStorage {
        LocalStorage {
            dir,
            reading,
            durable,
            renaming: Mutex::new(Share::new(&Metrics::of(role).spare)),
            reserving: Mutex::default(),
            wished: AtomicU64::new(0),
            made: AtomicUsize::new(0),
            pace: AtomicUsize::new(0),
            method,
        }
    }

    fn method(&self) -> BarrierMethod {
        self.method.get().copied().unwrap_or(BarrierMethod::Fdatasync)
    }

    /// Groups that may be at the device at once: one, unless each write surely returns its own error.
    fn in_flight(&self) -> usize {
        if !self.durable {
            // Each returns what became of its own copy to the page cache.
            return if processors() > FEW { 1 } else { COPIES };
        }
        let several = self.method().in_flight();
        if several > 1 && fs::writes_past_the_cache(&self.dir.join(LOCK)) { several } else { 1 }
    }

    fn path(&self, id: u64) -> PathBuf {
        path_in(&self.dir, id)
    }

    fn reserve_path(&self) -> PathBuf {
        self.dir.join(RESERVE)
    }

    /// Makes a file of `size` bytes under a temporary name; one that is to be zeroed, if that can be done `within` twice the time.
    fn prepare(&self, temp: &Path, size: u64, how: Preallocate, within: Duration) -> Result<File> {
        let file = fs::create_new(temp)?;
        match how {
            // Reserved first: a full volume shows at once.
            Preallocate::Zeroed => {
                let reserved = fs::reserve(&file, temp, size)?;
                // Writers who fill segments faster than that are held up by the zeros, which take as much of the device as they
                // do. Theirs are large writes, for which the metadata of a barrier is little: measured, from 600 MB/s on.
                fs::zero(&file, temp, size, if reserved { within / 2 } else { Duration::MAX })?
            }
            Preallocate::Reserved => drop(fs::reserve(&file, temp, size)?),
        }
        Ok(file)
    }

    /// Fails as on a full volume where a file of this size would not leave [`LEFT`].
    fn leave_some(&self, size: u64, temp: &Path) -> Result<()> {
        if fs::available_to_us(&self.dir)?.saturating_sub(LEFT) < size {
            return Err(Error::io("reserve space for", temp.display(), rustix::io::Errno::NOSPC.into()));
        }
        Ok(())
    }

    /// Files that were segments, with their sizes.
    fn spares(&self) -> Result<Vec<(PathBuf, u64)>> {
        let mut found = Vec::new();
        let entries = match std::fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(found),
            Err(e) => return Err(Error::io("list", self.dir.display(), e)),
        };
        for entry in entries {
            let entry = entry.map_err(|e| Error::io("list", self.dir.display(), e))?;
            if entry.file_name().to_str().is_some_and(|n| n.starts_with(SPARE)) {
                let length =
                    entry.metadata().map_err(|e| Error::io("look at", entry.path().display(), e))?.len();
                found.push((entry.path(), length));
            }
        }
        Ok(found)
    }

    /// Gives all spares back to a full volume, on which none of them helps. Whether there were any.
    fn give_up_spares(&self) -> Result<bool> {
        let mut renaming = self.renaming.lock().unwrap_or_else(PoisonError::into_inner);
        let spares = self.spares()?;
        renaming.set(0);
        spares.iter().try_for_each(|(path, _)| remove(path))?;
        if !spares.is_empty() {
            fs::sync_dir(&self.dir)?;
        }
        Ok(!spares.is_empty())
    }

    /// The largest spare of at least this size, as a file under the temporary name.
    fn take_spare(&self, temp: &Path, least: u64) -> Result<Option<(File, u64)>> {
        let mut renaming = self.renaming.lock().unwrap_or_else(PoisonError::into_inner);
        let mut spares = self.spares()?;
        let all = spares.len() as u64;
        spares.retain(|(_, length)| *length >= least);
        spares.sort_by_key(|(_, length)| *length);
        while let Some((path, length)) = spares.pop() {
            match std::fs::rename(&path, temp) {
                Ok(()) => {
                    renaming.set(all - 1);
                    return Ok(Some((fs::open_write(temp)?, length)));
                }
                // Given up meanwhile for a larger one.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::io("use again", path.display(), e)),
            }
        }
        Ok(None)
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
        let past_the_cache = self.method().is_direct() && fs::writes_past_the_cache(&self.dir.join(LOCK));
        Traits { lanes: LANES, past_the_cache, ..Traits::local(BLOCK, self.in_flight()) }
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

    fn create(&self, id: u64, space: Space, header: &Header<'_>) -> Result<Box<dyn SegmentWrite>> {
        let Space { wish, least, how, within, urgent, frees } = space;
        let path = self.path(id);
        let temp = self.dir.join(format!("{id:016}.tmp"));
        let size = match how {
            Preallocate::Zeroed => {
                let share = fs::available(&self.dir)? / SHARE;
                pad_to(wish.min(share.max(SMALLEST)).max(least), u64::from(BLOCK))
            }
            Preallocate::Reserved => pad_to(wish.max(least), u64::from(BLOCK)),
        };
        // Zeros on the device, or an older segment's bytes, would have to be read back for every page that a group fills in
        // part. Without barriers those in the page cache are enough. What of them is not written over before a sync goes to
        // the device, as every zero does where there are barriers.
        let stubbed = cfg!(feature = "stubbed-storage") && !self.durable;
        let mut fill = how == Preallocate::Zeroed && !self.durable && !urgent && !stubbed;
        let how = if self.durable { how } else { Preallocate::Reserved };
        // What an earlier attempt left, under our lock, is nobody's.
        if temp.exists() {
            fs::remove_quietly(&temp);
        }
        // A file that was a segment before is written already: using it again costs no zeroing, and no second write of
        // every byte. One of half the size that is wished for will do.
        let spare = match how {
            Preallocate::Zeroed => {
                self.wished.fetch_max(wish.max(least), Ordering::Relaxed);
                self.take_spare(&temp, least.max(wish / 2))?
            }
            Preallocate::Reserved => None,
        };
        let recycled = spare.is_some();
        let prepare = |size: u64| {
            if !frees {
                self.leave_some(size, &temp)?;
            }
            self.prepare(&temp, size, how, within).map(|file| (file, size))
        };
        let made = spare.map_or_else(|| prepare(size), Ok);
        let made = made.map(|(file, size)| (file, size, recycled)).or_else(|e| {
            fill = false;
            fs::remove_quietly(&temp);
            if !e.is_full() {
                return Err(e);
            }
            // Any spare is better than a full volume, and so is a small segment; the reserve is for those who wait.
            if let Some((file, size)) = self.take_spare(&temp, least)? {
                return Ok((file, size, true));
            }
            let given_up = self.give_up_spares()?;
            let smaller = |least: u64| pad_to(least, u64::from(BLOCK)).min(size);
            let smallest = [Some(smaller(least.max(SMALLEST))), frees.then(|| smaller(least))];
            for small in smallest.into_iter().flatten().filter(|small| given_up || *small < size) {
                match prepare(small) {
                    Ok((file, size)) => return Ok((file, size, false)),
                    Err(again) => {
                        fs::remove_quietly(&temp);
                        if !again.is_full() {
                            return Err(again);
                        }
                    }
                }
            }
            let reserve = if urgent { self.take_reserve(&temp, least)? } else { None };
            reserve.map(|(file, size)| (file, size, false)).ok_or(e)
        });
        let mut named = false;
        let finished = made.and_then(|(file, size, recycled)| {
            fs::write_at(&file, &temp, 0, &mut [IoSlice::new(&header(recycled))])?;
            fs::sync_data(&file, &temp)?;
            if fill {
                let most = size.min(MOST_FILLED);
                if let Err(e) = fs::fill_cache(&file, &temp, u64::from(BLOCK), most, within / 2) {
                    // It saves time and nothing else: what is wrong with the file is met again by whoever needs it.
                    log::debug!("the page cache is not filled ahead: {e}");
                }
            }
            let file = SyncedFile::open(&temp, self.method())?;
            named = true;
            fs::rename_new(&temp, &path)?;
            self.made.fetch_add(1, Ordering::Relaxed);
            Ok(LocalSegment { file, path: path.clone(), size, stubbed })
        });
        match finished {
            Ok(segment) => Ok(Box::new(segment)),
            Err(e) => {
                // Named, but not durably: nobody will ever know of it.
                if named && !e.is_exists() && !temp.exists() {
                    fs::remove_quietly(&path);
                }
                fs::remove_quietly(&temp);
                Err(e)
            }
        }
    }

    fn open(&self, id: u64) -> Result<Arc<dyn SegmentRead>> {
        let path = self.path(id);
        // Held before it is opened: from here on the writer leaves it alone. A writer that was faster is met by the
        // checksums, and by looking for the name again.
        let hold = Hold::on(&self.reading, &path);
        let file = fs::open_read(&path)?;
        Ok(Arc::new(LocalReader::new(file, path, hold)))
    }

    fn seal(&self, id: u64, at: u64, footer: &[u8]) -> Result<()> {
        let path = self.path(id);
        let file = fs::open_write(&path)?;
        if fs::links(&file, &path)? > 1 {
            // In quarantine, or in a backup: that one stays as it is.
            return fs::replace_by_head(&path, &file, at, footer);
        }
        fs::write_at(&file, &path, at, &mut [IoSlice::new(footer)])?;
        fs::sync_data(&file, &path)?;
        // Only now may the tail go: a crash before leaves a footer in the place of a group, which reads the same.
        let length = at + footer.len() as u64;
        if fs::length(&file, &path)? == length {
            return Ok(());
        }
        file.set_len(length).map_err(|e| Error::io("cut", path.display(), e))?;
        rustix::fs::fsync(&file).map_err(|e| Error::io("sync", path.display(), e.into()))
    }

    fn delete(&self, ids: &[u64]) -> Result<()> {
        let mut spares = self.spares()?;
        // A log that is cleaned once a second gives back what it wrote in a second, and will soon need as much.
        let made = self.made.swap(0, Ordering::Relaxed);
        let pace = made.max(self.pace.load(Ordering::Relaxed) * PACE_KEPT / (PACE_KEPT + 1));
        self.pace.store(pace, Ordering::Relaxed);
        let most = if self.durable { SPARES.max(2 * pace) } else { 0 };
        // A burst's files are given back, over the next dozens of deletions: receivers write in bursts, and every file that
        // is not there again is a file whose bytes are written twice.
        while spares.len() > most {
            let smallest = spares.iter().enumerate().min_by_key(|(_, (_, l))| *l).map(|(i, _)| i);
            let Some(i) = smallest else { break };
            remove(&spares.swap_remove(i).0)?;
        }
        // One record's own file: larger than any segment, and its space may never have been written.
        let largest = self.wished.load(Ordering::Relaxed).saturating_mul(2);
        let mut kept: Vec<(PathBuf, PathBuf)> = Vec::new();
        for id in ids {
            let path = self.path(*id);
            let (length, names) = match std::fs::metadata(&path) {
                Ok(m) => (m.len(), m.nlink()),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                Err(e) => return Err(Error::io("look at", path.display(), e)),
            };
            // The largest files are kept, as long as the volume has room for several; never one that is still read, or has
            // a name in quarantine or in a backup, too.
            let smallest = spares.iter().enumerate().min_by_key(|(_, (_, l))| *l).map(|(i, (_, l))| (i, *l));
            let larger = spares.len() < most || smallest.is_some_and(|(_, l)| l < length);
            let free = fs::available(&self.dir)?;
            let room = length <= free / SHARE && spares.iter().map(|(_, l)| *l).sum::<u64>() <= free;
            let ours = names == 1 && !self.reading.is_read(&path);
            if larger && room && length <= largest && ours {
                if let (true, Some((i, _))) = (spares.len() >= most, smallest) {
                    let gone = spares.swap_remove(i).0;
                    match kept.iter().position(|(_, spare)| *spare == gone) {
                        Some(i) => remove(&kept.swap_remove(i).0)?,
                        None => remove(&gone)?,
                    }
                }
                let spare = self.dir.join(format!("{SPARE}{id:016}"));
                spares.push((spare.clone(), length));
                kept.push((path, spare));
            } else {
                remove(&path)?;
            }
        }
        // No file is written again before its old name is durably gone.
        let mut renaming = self.renaming.lock().unwrap_or_else(PoisonError::into_inner);
        renaming.set(spares.len() as u64);
        for (path, spare) in kept {
            std::fs::rename(&path, &spare).map_err(|e| Error::io("keep", path.display(), e))?;
        }
        fs::sync_dir(&self.dir)
    }

    fn discard(&self, ids: &[u64]) -> Result<()> {
        ids.iter().try_for_each(|id| remove(&self.path(*id)))?;
        fs::sync_dir(&self.dir)
    }

    fn drop_spares(&self) -> Result<()> {
        self.give_up_spares().map(drop)
    }

    fn keep_reserve(&self) -> Result<()> {
        let _reserving = self.reserving.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.reserve_path();
        if path.exists() {
            return Ok(());
        }
        let temp = self.dir.join(format!("{RESERVE}.tmp"));
        fs::remove_quietly(&temp);
        let made = self
            .leave_some(RESERVE_BYTES, &temp)
            .and_then(|()| self.prepare(&temp, RESERVE_BYTES, Preallocate::Zeroed, Duration::MAX))
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
    file: SyncedFile,
    path: PathBuf,
    size: u64,
    /// Whether what is written without a barrier goes nowhere (the feature `stubbed-storage`).
    stubbed: bool,
}

impl SegmentWrite for LocalSegment {
    fn size(&self) -> u64 {
        self.size
    }

    fn write(&self, offset: u64, bytes: &mut [IoSlice<'_>], barrier: Barrier) -> Result<()> {
        if self.stubbed && barrier == Barrier::No {
            return Ok(());
        }
        self.file.write(&self.path, offset, bytes, barrier)?;
        match barrier {
            Barrier::Yes => self.still_named(),
            Barrier::No => Ok(()),
        }
    }
}

impl LocalSegment {
    /// A file that was deleted under the log takes writes and barriers, and keeps nothing.
    fn still_named(&self) -> Result<()> {
        if fs::links(self.file.file(), &self.path)? > 0 {
            return Ok(());
        }
        let why = "the file was deleted while the log was open, and what was in it is lost";
        Err(Error::io("write to", self.path.display(), std::io::Error::other(why)))
    }
}

/// Removes a file; fine if it is not there.
fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::io("delete", path.display(), e)),
    }
}

fn segment_id(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    (digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
}

/// A segment's file.
pub(super) fn path_in(dir: &Path, id: u64) -> PathBuf {
    dir.join(format!("{id:016}.seg"))
}

/// Removes what a crash left unfinished in a writer's directory. Only under its lock.
pub(super) fn sweep(dir: &Path) -> Result<()> {
    remove_where(dir, |name| name.ends_with(".tmp") || name.starts_with(SPARE))
}

/// The same for a directory that is about to go.
pub(super) fn sweep_empty(dir: &Path) -> Result<()> {
    remove_where(dir, |name| {
        name.ends_with(".tmp") || name.starts_with(SPARE) || name == RESERVE || name == "LOCK"
    })
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
