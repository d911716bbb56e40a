//! The few system calls that the local home is made of, each with its error typed and placed.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, IoSlice, IoSliceMut, Read},
    num::NonZeroU64,
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt},
    path::Path,
    time::{Duration, Instant},
};

use rustix::{
    fs::{Advice, AtFlags, CWD, FallocateFlags, FileType, RenameFlags, StatxFlags},
    io::Errno,
};

use super::direct;
use crate::error::{Error, NotAFile, Result};

const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;
/// Zeros are written in pieces of this many bytes.
const ZEROS: usize = 1 << 20;

/// Makes a new file; the name must be free.
pub(super) fn create_new(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path)
        .map_err(|e| Error::io("create", path.display(), e))
}

/// Does not wait for whoever is at the other end of a pipe. A regular file is read as without `O_NONBLOCK`.
pub(super) fn open_read(path: &Path) -> Result<File> {
    open_regular(path, OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK))
}

pub(super) fn open_write(path: &Path) -> Result<File> {
    open_regular(path, OpenOptions::new().read(true).write(true))
}

/// Opens what must be a regular file. Whoever does not write must ask for `O_NONBLOCK`.
pub(super) fn open_regular(path: &Path, options: &mut OpenOptions) -> Result<File> {
    let failed = |e| Error::io("open", path.display(), e);
    let opened = match options.open(path) {
        // A file server's lease, which its holder is asked to give back: only regular files have one.
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => options.custom_flags(0).open(path),
        // A socket, or a directory that was to be written: what it is says more.
        Err(e) => {
            let odd = fs::metadata(path).ok().filter(|m| !m.is_file());
            Err(odd.map_or(e, |m| NotAFile::error(m.mode())))
        }
        opened => opened,
    };
    let file = opened.map_err(failed)?;
    let mode = mode(&file).map_err(failed)?;
    if FileType::from_raw_mode(mode) == FileType::RegularFile {
        Ok(file)
    } else {
        Err(failed(NotAFile::error(mode)))
    }
}

/// Kind and permissions of a file. For the same reason as [`links`] no times are asked for.
fn mode(file: &File) -> io::Result<u32> {
    match rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::TYPE) {
        Ok(found) => Ok(found.stx_mode.into()),
        Err(Errno::NOSYS | Errno::PERM) => file.metadata().map(|m| m.mode()),
        Err(e) => Err(e.into()),
    }
}

/// Makes one directory, private to its owner, and makes its name durable. Fine if it exists: whoever made it may have
/// been killed before its name was durable.
pub(super) fn make_dir(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(DIR_MODE).create(path) {
        Ok(()) => sync_parent(path),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => match sync_parent(path) {
            // A parent that we may not even list was not made by us.
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            other => other,
        },
        Err(e) => Err(Error::io("create directory", path.display(), e)),
    }
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(path: &Path) -> Result<()> {
    let dir = File::open(path).map_err(|e| Error::io("open directory", path.display(), e))?;
    rustix::fs::fsync(&dir).map_err(|e| Error::io("sync directory", path.display(), e.into()))
}

/// Makes the name of `path` itself durable.
pub(super) fn sync_parent(path: &Path) -> Result<()> {
    path.parent().map_or(Ok(()), sync_dir)
}

pub(super) fn sync_data(file: &File, path: &Path) -> Result<()> {
    rustix::fs::fdatasync(file).map_err(|e| Error::io("sync", path.display(), e.into()))
}

/// Writes all of `bytes` at `offset`.
pub(super) fn write_at(
    file: &File,
    path: &Path,
    mut offset: u64,
    mut bytes: &mut [IoSlice<'_>],
) -> Result<()> {
    IoSlice::advance_slices(&mut bytes, 0);
    while !bytes.is_empty() {
        // Most writes are of one piece, and the plain call is the cheaper one by a tenth of a microsecond.
        let written = match bytes {
            [piece] => rustix::io::pwrite(file, piece, offset),
            _ => rustix::io::pwritev(file, bytes, offset),
        };
        match written {
            Ok(0) => return Err(Error::io("write", path.display(), io::ErrorKind::WriteZero.into())),
            Ok(n) => {
                offset += n as u64;
                IoSlice::advance_slices(&mut bytes, n);
            }
            Err(Errno::INTR) => {}
            Err(e) => return Err(Error::io("write", path.display(), e.into())),
        }
    }
    Ok(())
}

/// Reads at `offset` until `into` is full or the file ends.
pub(super) fn read_at(file: &File, path: &Path, offset: u64, into: &mut [u8]) -> Result<usize> {
    let mut done = 0;
    while done < into.len() {
        match file.read_at(&mut into[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::io("read", path.display(), e)),
        }
    }
    Ok(done)
}

/// Lets go of the cache's copy of a file that was synced, so that reads come from the device. Advice: pages that are in
/// use stay.
pub(super) fn forget_cached(file: &File, path: &Path) {
    if let Err(e) = rustix::fs::fadvise(file, 0, None, Advice::DontNeed) {
        log::debug!("cannot let go of the cached pages of {}: {e}", path.display());
    }
}

/// Tells the kernel to fetch these bytes into the page cache meanwhile. What it makes of it changes nothing but the time.
pub(super) fn expect(file: &File, offset: u64, length: u64) {
    if let Err(e) = rustix::fs::fadvise(file, offset, NonZeroU64::new(length), Advice::WillNeed) {
        log::debug!("the kernel takes no advice on reading ahead: {e}");
    }
}

/// Reads at `offset` into two places with one call, as far as the kernel gives all of it at once.
pub(super) fn read_two_at(
    file: &File,
    path: &Path,
    offset: u64,
    head: &mut [u8],
    body: &mut [u8],
) -> Result<usize> {
    let first = head.len();
    let done = loop {
        match rustix::io::preadv(file, &mut [IoSliceMut::new(head), IoSliceMut::new(body)], offset) {
            Ok(n) => break n,
            Err(Errno::INTR) => {}
            Err(e) => return Err(Error::io("read", path.display(), e.into())),
        }
    };
    if done < first {
        return Ok(done);
    }
    let rest = read_at(file, path, offset + done as u64, &mut body[done - first..])?;
    Ok(done + rest)
}

/// Writes zeros over a new file's `size` bytes, so that later overwrites move no metadata: fallocate alone leaves unwritten
/// extents, whose first write costs a journal commit in every barrier. Over the first piece only, where all of them would
/// take longer than `within`: the file must have its size already.
///
/// Past the page cache where the file system allows it: the copies of the zeros there would take memory and processor time
/// from those who write records meanwhile.
pub(super) fn zero(file: &File, path: &Path, size: u64, within: Duration) -> Result<()> {
    let (memory, skip) = direct::aligned_zeros(ZEROS);
    let zeros = &memory[skip..skip + ZEROS];
    let direct = direct::open_direct(path).ok();
    let began = Instant::now();
    let mut at = 0;
    while at < size {
        let n = (size - at).min(ZEROS as u64) as usize;
        let piece = &zeros[..n];
        let written = direct.as_ref().map(|d| write_at(d, path, at, &mut [IoSlice::new(piece)]));
        match written {
            Some(Ok(())) => {}
            Some(Err(e)) if e.is_full() => return Err(e),
            // A file system that opens a file so, and then does not write it so.
            _ => write_at(file, path, at, &mut [IoSlice::new(piece)])?,
        }
        at += n as u64;
        let pieces = u32::try_from(size / at).unwrap_or(u32::MAX);
        if began.elapsed().saturating_mul(pieces) > within {
            break;
        }
    }
    Ok(())
}

/// Puts zeros into the page cache's copy of a new file's bytes from `from` to `size`, so that records that are written there
/// find their pages. The first writer of a page waits for its memory, on a virtual machine also for the host to give it: a
/// write of 1 KiB takes half as long where that was done before, one of 64 KiB a third. Nothing is synced here: what is
/// overwritten before a sync, or before the kernel writes it back by itself, reaches the device once. Ends after `within`,
/// filled or not.
///
/// In pieces of 64 KiB, since their size decides how large the cache's folios are: in one of 1 MiB each small write goes
/// through the states of 256 blocks (2.9 instead of 1.3 microseconds), and smaller ones take longer to fill.
pub(super) fn fill_cache(file: &File, path: &Path, from: u64, size: u64, within: Duration) -> Result<()> {
    const PIECE: u64 = 64 << 10;
    // Not on the stack: it may be that of a thread of Java's, deep in a program.
    static ZEROS_TO_COPY: [u8; PIECE as usize] = [0; PIECE as usize];
    let began = Instant::now();
    let mut at = from;
    while at < size {
        let n = (PIECE - at % PIECE).min(size - at);
        write_at(file, path, at, &mut [IoSlice::new(&ZEROS_TO_COPY[..n as usize])])?;
        at += n;
        // Not by what the first pieces took: one that lost its processor would end it, and every piece is worth its while.
        if began.elapsed() > within {
            break;
        }
    }
    Ok(())
}

/// Reserves space without writing it. A file system that cannot is fine: then a full disk shows at the write.
/// Whether it could.
pub(super) fn reserve(file: &File, path: &Path, size: u64) -> Result<bool> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, size) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
        Err(e) => Err(Error::io("reserve space for", path.display(), e.into())),
    }
}

/// Gives a file its name, which must be free: never a plain rename, which would replace what is there.
pub(super) fn rename_new(from: &Path, to: &Path) -> Result<()> {
    let result = match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Not every file system has the flag; a hard link fails on a taken name too.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            rustix::fs::linkat(CWD, from, CWD, to, AtFlags::empty()).and_then(|()| rustix::fs::unlink(from))
        }
        other => other,
    };
    result.map_err(|e| Error::io("name", to.display(), e.into()))?;
    sync_parent(to)
}

/// Replaces a small file in one step, durably.
pub(super) fn replace_small(path: &Path, bytes: &[u8]) -> Result<()> {
    let temp = path.with_extension(format!("{}.tmp", uuid::Uuid::new_v4().simple()));
    let file = create_new(&temp)?;
    let written = write_at(&file, &temp, 0, &mut [IoSlice::new(bytes)])
        .and_then(|()| sync_data(&file, &temp))
        .and_then(|()| fs::rename(&temp, path).map_err(|e| Error::io("name", path.display(), e)));
    if written.is_err() {
        remove_quietly(&temp);
    }
    written.and_then(|()| sync_parent(path))
}

/// Gives the name of `file` to another, of its first `length` bytes and `tail`, in one step and durably.
pub(super) fn replace_by_head(path: &Path, file: &File, length: u64, tail: &[u8]) -> Result<()> {
    const PIECE: u64 = 1 << 20;
    let temp = path.with_extension("tmp");
    if temp.exists() {
        remove_quietly(&temp);
    }
    let made = create_new(&temp)?;
    let copy = || {
        let mut at = 0;
        while at < length {
            let mut piece = vec![0; PIECE.min(length - at) as usize];
            if read_at(file, path, at, &mut piece)? < piece.len() {
                return Err(Error::io("read", path.display(), io::ErrorKind::UnexpectedEof.into()));
            }
            write_at(&made, &temp, at, &mut [IoSlice::new(&piece)])?;
            at += piece.len() as u64;
        }
        write_at(&made, &temp, length, &mut [IoSlice::new(tail)])?;
        sync_data(&made, &temp)?;
        fs::rename(&temp, path).map_err(|e| Error::io("name", path.display(), e))
    };
    let copied = copy();
    if copied.is_err() {
        remove_quietly(&temp);
    }
    copied.and_then(|()| sync_parent(path))
}

/// The bytes of a small file; `None` if it is not there.
pub(super) fn read_small(path: &Path) -> Result<Option<Vec<u8>>> {
    const LIMIT: u64 = 1 << 20;
    let file = match open_read(path) {
        Ok(file) => file,
        Err(e) if e.is_not_found() => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut bytes = Vec::new();
    let read =
        file.take(LIMIT + 1).read_to_end(&mut bytes).map_err(|e| Error::io("read", path.display(), e))?;
    if read as u64 > LIMIT {
        return Err(Error::Config(format!(
            "{} is over 1 MiB, which none of ferrowal's small files is",
            path.display()
        )));
    }
    Ok(Some(bytes))
}

/// Removes what a failed step left. Its own failure adds nothing to the error that is on its way up.
pub(super) fn remove_quietly(path: &Path) {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => log::debug!("left {} behind: {e}", path.display()),
        _ => {}
    }
}

/// Bytes in a file.
pub(super) fn length(file: &File, path: &Path) -> Result<u64> {
    file.metadata().map(|m| m.len()).map_err(|e| Error::io("look at", path.display(), e))
}

/// How many names a file has.
///
/// Asks for nothing else: since Linux 6.13 a file whose times were asked for gets new ones at its next write, to the
/// nanosecond, and a barrier then writes the inode too. One `fstat` a barrier was seen to cost half of its speed.
pub(super) fn links(file: &File, path: &Path) -> Result<u64> {
    match rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::NLINK) {
        Ok(found) => Ok(found.stx_nlink.into()),
        // Kernels before 4.11, and some sandboxes.
        Err(Errno::NOSYS | Errno::PERM) => {
            file.metadata().map(|m| m.nlink()).map_err(|e| Error::io("look at", path.display(), e))
        }
        Err(e) => Err(Error::io("look at", path.display(), e.into())),
    }
}

/// Whether a write to this file with `O_DIRECT` surely goes past the page cache. Some file systems take the flag and write
/// through the cache all the same (ext4 with `data=journal`, btrfs with checksums), and then one of two writes at once may
/// be told of the other's error. Linux 6.1 says so; before, XFS is known to do it.
pub(super) fn writes_past_the_cache(file: &Path) -> bool {
    let alignment = match rustix::fs::statx(CWD, file, AtFlags::empty(), StatxFlags::DIOALIGN) {
        Ok(found) if StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::DIOALIGN) => {
            Some(found.stx_dio_offset_align)
        }
        _ => None,
    };
    is_past_the_cache(alignment, || rustix::fs::statfs(file).map(|s| s.f_type as u64).unwrap_or(0))
}

/// The same by the alignment that direct writes to a file must have, if the kernel says one (none is 0), and else by the kind of file
/// system.
fn is_past_the_cache(alignment: Option<u32>, kind: impl FnOnce() -> u64) -> bool {
    const XFS: u64 = 0x5846_5342;
    alignment.map_or_else(|| kind() & 0xffff_ffff == XFS, |a| a > 0)
}

/// Bytes that an ordinary user may still take.
pub(super) fn available(path: &Path) -> Result<u64> {
    let s = statvfs(path)?;
    Ok(s.f_bavail.saturating_mul(s.f_frsize))
}

/// The same for this very process: root may use what is kept for root. A file system that tells no sizes has no end.
pub(super) fn available_to_us(path: &Path) -> Result<u64> {
    let s = statvfs(path)?;
    if s.f_blocks == 0 {
        return Ok(u64::MAX);
    }
    let blocks = if rustix::process::geteuid().is_root() { s.f_bfree } else { s.f_bavail };
    Ok(blocks.saturating_mul(s.f_frsize))
}

fn statvfs(path: &Path) -> Result<rustix::fs::StatVfs> {
    rustix::fs::statvfs(path).map_err(|e| Error::io("look at the file system of", path.display(), e.into()))
}

/// What kind of file system holds `path`, as far as it matters for a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// flock may not reach other hosts.
    Network(&'static str),
    /// Gone with the machine or the container.
    Volatile(&'static str),
    Local,
}

pub(super) fn kind(path: &Path) -> Result<Kind> {
    let s = rustix::fs::statfs(path)
        .map_err(|e| Error::io("look at the file system of", path.display(), e.into()))?;
    Ok(match s.f_type as u64 & 0xffff_ffff {
        0x6969 => Kind::Network("NFS"),
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => Kind::Network("CIFS"),
        0x6573_5546 => Kind::Network("FUSE"),
        0x0102_1997 => Kind::Network("9p"),
        0x0102_1994 => Kind::Volatile("tmpfs"),
        0x8584_58f6 => Kind::Volatile("ramfs"),
        0x794c_7630 => Kind::Volatile("overlay"),
        _ => Kind::Local,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use once_cell::sync::OnceCell;

    use super::{super::segments::LocalStorage, *};
    use crate::{
        options::{BarrierMethod, Role},
        storage::Storage,
    };

    /// Groups at the device at once, of a log whose writes are direct and durable by themselves.
    fn in_flight(dir: &Path) -> usize {
        File::create(dir.join("LOCK")).unwrap();
        let method = Arc::new(OnceCell::with_value(BarrierMethod::Dsync));
        LocalStorage::new(dir.to_path_buf(), Arc::default(), method, true, Role::Driver).traits().in_flight
    }

    /// tmpfs takes `O_DIRECT`, and has nothing but the page cache: two writes at once could be told of each other's errors.
    #[test]
    fn direct_writes_that_go_through_the_cache_are_known_and_go_one_by_one() {
        const TMPFS: u64 = 0x0102_1994;
        let shm = Path::new("/dev/shm");
        if !rustix::fs::statfs(shm).is_ok_and(|s| s.f_type as u64 == TMPFS) {
            return println!("skipped: {} is no tmpfs here", shm.display());
        }
        let dir = tempfile::tempdir_in(shm).unwrap();
        assert_eq!(in_flight(dir.path()), 1);
        assert!(!writes_past_the_cache(&dir.path().join("LOCK")));
        assert!(!writes_past_the_cache(&dir.path().join("not there")));
    }

    #[test]
    fn a_file_system_without_direct_writes_says_so_by_an_alignment_of_zero() {
        let (xfs, ext4) = (0x5846_5342, 0xef53);
        for (alignment, kind, past) in [
            (Some(512), ext4, true),
            (Some(0), ext4, false),
            (Some(0), xfs, false),
            (None, xfs, true),
            (None, 0xffff_ffff_0000_0000 | xfs, true),
            (None, ext4, false),
        ] {
            assert_eq!(is_past_the_cache(alignment, || kind), past, "{alignment:?} on {kind:#x}");
        }
    }

    #[test]
    fn several_direct_writes_go_at_once_where_they_are_direct() {
        let dir = tempfile::tempdir().unwrap();
        let several = in_flight(dir.path()) > 1;
        assert_eq!(several, writes_past_the_cache(&dir.path().join("LOCK")));
    }

    #[test]
    fn zeros_are_left_out_that_would_come_too_late() {
        let file = tempfile::NamedTempFile::new_in(".").unwrap();
        let size = 4 * ZEROS as u64;
        for (within, written) in [(Duration::ZERO, ZEROS as u64), (Duration::MAX, size)] {
            file.as_file().set_len(0).unwrap();
            file.as_file().set_len(size).unwrap();
            zero(file.as_file(), file.path(), size, within).unwrap();
            file.as_file().sync_all().unwrap();
            let meta = file.as_file().metadata().unwrap();
            assert_eq!((meta.blocks() * 512, meta.len()), (written, size), "{within:?}");
        }
    }

    #[test]
    fn the_cache_is_filled_with_zeros_as_far_as_there_is_time() {
        let file = tempfile::NamedTempFile::new_in(".").unwrap();
        let (block, size) = (4096, 1 << 20);
        for (within, to) in [(Duration::ZERO, 64 << 10), (Duration::MAX, size)] {
            file.as_file().set_len(0).unwrap();
            write_at(file.as_file(), file.path(), 0, &mut [IoSlice::new(&[7; 4096])]).unwrap();
            file.as_file().set_len(size).unwrap();
            fill_cache(file.as_file(), file.path(), block, size, within).unwrap();
            let cached = |from, to| direct::is_cached(file.as_file(), from, to - from) == Some(true);
            // Where the kernel does not tell, nothing is there.
            if cached(0, block) {
                assert!(cached(block, to), "{within:?}");
                assert!(to == size || !cached(to, size), "{within:?}");
            }
            let mut bytes = vec![1; size as usize];
            assert_eq!(read_at(file.as_file(), file.path(), 0, &mut bytes).unwrap(), bytes.len());
            assert!(bytes[..4096].iter().all(|b| *b == 7), "the header stays as it is");
            assert!(bytes[4096..].iter().all(|b| *b == 0));
        }
    }
}
