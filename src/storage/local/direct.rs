//! What makes bytes durable on a local disk, and which way is the fastest here.
//!
//! | method | a write with a barrier is | writes at once |
//! |---|---|---|
//! | [`Fdatasync`](BarrierMethod::Fdatasync) | a write to the page cache, and `fdatasync` | 1 |
//! | [`Direct`](BarrierMethod::Direct) | a write past the page cache (`O_DIRECT`), and `fdatasync` | 1 |
//! | [`Dsync`](BarrierMethod::Dsync) | one write past the page cache that is durable on return (`RWF_DSYNC`) | several |
//!
//! The kernel reports a write-back error to one of two concurrent `fdatasync` calls, so only the last method, where each
//! write returns its own error, allows several at once. None is the fastest everywhere (drives differ by a factor of two
//! either way), so they are measured where the log lies: the precedent is Artemis' `SyncCalculation`.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, IoSlice},
    ops::{Deref, DerefMut},
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::Path,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use once_cell::sync::Lazy;
use rustix::{
    fs::{Mode, OFlags},
    io::{Errno, ReadWriteFlags},
    mm::Advice,
};

use super::fs;
use crate::{
    error::{Error, Result},
    options::BarrierMethod,
    storage::Barrier,
};

/// What direct I/O wants of memory, offsets and lengths, and more.
pub(super) const ALIGN: usize = 4096;
/// Bytes of a huge page, on x86_64 and, with pages of 4 KiB, on ARM.
pub(crate) const HUGE: usize = 2 << 20;
/// Writes that may be at the device at once, where each returns its own error. More gained nothing on the drives at
/// hand: from 256 KiB up two fill the device, and smaller groups are better gathered.
const IN_FLIGHT: usize = 4;

/// Bytes of one write of the measurement, and of the file that it overwrites.
const PROBE: usize = 64 << 10;
const PROBE_SPAN: u64 = 1 << 20;
const PROBES: usize = 12;
/// A slow device is measured by fewer writes.
const PROBE_TIME: Duration = Duration::from_millis(40);
/// What several writes at once are worth: `Dsync` is taken even where a single one is this much slower, in percent.
const WORTH: u32 = 15;

/// Chosen methods, by device: what was measured once in a process holds for it.
static CHOSEN: Lazy<Mutex<HashMap<u64, BarrierMethod>>> = Lazy::new(Mutex::default);

impl BarrierMethod {
    /// Groups that may be at the device at once.
    pub(super) fn in_flight(self) -> usize {
        match self {
            BarrierMethod::Dsync => IN_FLIGHT,
            BarrierMethod::Auto | BarrierMethod::Fdatasync | BarrierMethod::Direct => 1,
        }
    }

    /// Whether what is written goes past the page cache.
    pub(super) fn is_direct(self) -> bool {
        matches!(self, BarrierMethod::Direct | BarrierMethod::Dsync)
    }
}

/// A file that is written by one method.
#[derive(Debug)]
pub(super) struct SyncedFile {
    file: File,
    method: BarrierMethod,
}

impl SyncedFile {
    /// Opens an existing file, whose header is durable, to be overwritten.
    pub(super) fn open(path: &Path, method: BarrierMethod) -> Result<SyncedFile> {
        let file = if method.is_direct() { open_direct(path)? } else { fs::open_write(path)? };
        Ok(SyncedFile { file, method })
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Writes all of `bytes`; with a barrier, durably, and with them everything that was written before.
    pub(super) fn write(
        &self,
        path: &Path,
        offset: u64,
        bytes: &mut [IoSlice<'_>],
        barrier: Barrier,
    ) -> Result<()> {
        if self.method == BarrierMethod::Dsync {
            // Pieces that no barrier was asked for, too: where the device takes durable writes (FUA), a later one says
            // nothing of what its cache still holds of earlier ones.
            return write_durably(&self.file, path, offset, bytes);
        }
        fs::write_at(&self.file, path, offset, bytes)?;
        match barrier {
            Barrier::Yes => fs::sync_data(&self.file, path),
            Barrier::No => Ok(()),
        }
    }
}

/// Opens a file past the page cache.
pub(super) fn open_direct(path: &Path) -> Result<File> {
    rustix::fs::open(path, OFlags::RDWR | OFlags::DIRECT | OFlags::CLOEXEC, Mode::empty())
        .map(File::from)
        .map_err(|e| Error::io("open for direct I/O", path.display(), e.into()))
}

/// Writes all of `bytes` at `offset`, each part of them durable when its call returns.
fn write_durably(file: &File, path: &Path, mut offset: u64, mut bytes: &mut [IoSlice<'_>]) -> Result<()> {
    IoSlice::advance_slices(&mut bytes, 0);
    while !bytes.is_empty() {
        match rustix::io::pwritev2(file, bytes, offset, ReadWriteFlags::DSYNC) {
            Ok(0) => return Err(Error::io("write", path.display(), io::ErrorKind::WriteZero.into())),
            Ok(n) => {
                offset += n as u64;
                IoSlice::advance_slices(&mut bytes, n);
            }
            Err(Errno::INTR) => {}
            Err(e) => return Err(Error::io("durably write", path.display(), e.into())),
        }
    }
    Ok(())
}

/// Puts memory that holds zeros, and begins at a multiple of [`HUGE`], into huge pages where they can be had. It holds zeros
/// afterwards.
///
/// A read or write past the page cache is described to the device page by page, as they lie in its memory, and a driver, or
/// the host of a virtual machine, takes its time for each: in huge pages 1 MiB is one range and not 256.
#[allow(unsafe_code)]
pub(crate) fn in_huge_pages(memory: &mut [u8]) {
    let whole = memory.len() / HUGE * HUGE;
    if !memory.as_ptr().addr().is_multiple_of(HUGE) || whole == 0 {
        return;
    }
    // What the allocator had touched before would keep its small pages: so they are let go of first.
    for advice in [Advice::LinuxHugepage, Advice::LinuxDontNeed] {
        // SAFETY: the range is whole pages of private memory that is borrowed here, mutably, and holds zeros. The first
        // advice changes which pages the kernel finds for it; after the second it holds zeros again when it is touched.
        let advised = unsafe { rustix::mm::madvise(memory.as_mut_ptr().cast(), whole, advice) };
        if let Err(e) = advised {
            log::debug!("no huge pages: {e}");
            return;
        }
    }
}

/// Whether [`stream`] is anything but a copy.
pub(crate) const STREAMS: bool = cfg!(target_arch = "x86_64");

/// Copies `from` into all of `into`, which is as long, by stores that go past the processor's caches.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
pub(crate) fn stream(from: &[u8], into: &mut [u8]) {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si128};

    /// What caches hold at once: a part of one would be fetched to be completed.
    #[repr(align(64))]
    struct Line([__m128i; 4]);

    // SAFETY: any bytes are a valid `Line`, which has no padding; bytes of a `Line` are valid as bytes, too.
    let (head, lines, tail) = unsafe { into.align_to_mut::<Line>() };
    let (start, rest) = from.split_at(head.len());
    let (middle, end) = rest.split_at(size_of_val(lines));
    // First: a panic, for lengths that differ, would otherwise be before the fence.
    head.copy_from_slice(start);
    tail.copy_from_slice(end);
    for (line, bytes) in lines.iter_mut().zip(middle.chunks_exact(size_of::<Line>())) {
        for (part, bytes) in line.0.iter_mut().zip(bytes.chunks_exact(size_of::<__m128i>())) {
            // SAFETY: both are 16 bytes that are borrowed here, those stored to exclusively and aligned, as a `Line` is. Every
            // x86_64 has SSE2. Nothing refers to the bytes before the fence below.
            unsafe { _mm_stream_si128(part, _mm_loadu_si128(bytes.as_ptr().cast())) };
        }
    }
    // SAFETY: every x86_64 has it. From here on those stores are before all later ones, as others are.
    unsafe { _mm_sfence() };
}

/// Copies `from` into all of `into`, which is as long.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn stream(from: &[u8], into: &mut [u8]) {
    into.copy_from_slice(from);
}

/// Memory for one large read: [`Chunk::LENGTH`] bytes, of one huge page where that can be had.
#[derive(Debug)]
pub(crate) struct Chunk {
    memory: Vec<u8>,
    skip: usize,
}

impl Chunk {
    /// Bytes.
    pub(crate) const LENGTH: usize = HUGE;

    /// Zeros. They are mapped, and not touched before they are advised.
    pub(crate) fn new() -> Chunk {
        let memory = vec![0; 2 * HUGE];
        let skip = memory.as_ptr().align_offset(HUGE).min(HUGE);
        let mut chunk = Chunk { memory, skip };
        in_huge_pages(&mut chunk);
        chunk
    }
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.skip..self.skip + HUGE]
    }
}

impl DerefMut for Chunk {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.skip..self.skip + HUGE]
    }
}

/// The same file, opened to be read past the page cache; none where the file system has no such reads.
pub(super) fn reopen_direct(file: &File) -> Option<File> {
    let same = format!("/proc/self/fd/{}", file.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC;
    rustix::fs::open(same, flags, Mode::empty()).map(File::from).ok()
}

/// Whether the page cache has most of these bytes; none where the kernel does not tell (`cachestat`, Linux 6.5).
///
/// `preadv2` with `RWF_NOWAIT` tells, too, but has the kernel fetch what is not there, beside whoever then reads it directly.
#[allow(unsafe_code)]
pub(super) fn is_cached(file: &File, offset: u64, length: u64) -> Option<bool> {
    /// The same on every architecture.
    const CACHESTAT: libc::c_long = 451;
    const PAGE: u64 = 4096;
    let range = [offset, length];
    // Pages that are there, dirty, being written, and two counts of evictions.
    let mut counts = [0u64; 5];
    // SAFETY: the call reads two and writes five numbers of 64 bits, which is what these arrays are; both, and the file, live
    // until it returns. It changes nothing else.
    let done = unsafe { libc::syscall(CACHESTAT, file.as_raw_fd(), range.as_ptr(), counts.as_mut_ptr(), 0) };
    (done == 0).then(|| counts[0].saturating_mul(PAGE) >= length / 2)
}

/// Memory that direct I/O takes: `length` bytes, found in the vector behind the offset.
pub(super) fn aligned_zeros(length: usize) -> (Vec<u8>, usize) {
    let memory = vec![0u8; length + ALIGN];
    let skip = memory.as_ptr().align_offset(ALIGN).min(ALIGN);
    (memory, skip)
}

/// The method to be used in `dir`: the one that was asked for, if it works there, or the best one.
pub(super) fn choose(dir: &Path, asked: BarrierMethod) -> Result<BarrierMethod> {
    let device =
        std::fs::metadata(dir).map_err(|e| Error::io("look at", dir.display(), e)).map(|m| m.dev())?;
    let known = CHOSEN.lock().unwrap_or_else(PoisonError::into_inner).get(&device).copied();
    match (asked, known) {
        (BarrierMethod::Fdatasync, _) => return Ok(asked),
        (BarrierMethod::Auto, Some(method)) => return Ok(method),
        (asked, Some(method)) if asked == method => return Ok(asked),
        _ => {}
    }
    // Under the writer's lock; what a crash leaves is swept away.
    let path = dir.join("probe.tmp");
    fs::remove_quietly(&path);
    let result = if asked == BarrierMethod::Auto {
        measure(dir, &path)
    } else {
        make_probe(&path).and_then(|()| time(&path, asked, 1)).map(|_| asked).or_else(|e| {
            // A full volume says nothing of barriers; its segments may be there already.
            if e.is_full() {
                return Ok(asked);
            }
            Err(Error::Config(format!(
                "spark.ferrowal.barrier={asked} does not work in {}: {e}; leave the key out, and what works is measured",
                dir.display()
            )))
        })
    };
    fs::remove_quietly(&path);
    let method = match result {
        Ok(method) => method,
        // A volume that is full, or read-only, shows that where a segment is made; there is a barrier that always works.
        Err(e) if asked == BarrierMethod::Auto => {
            log::debug!("cannot measure barriers in {}: {e}", dir.display());
            return Ok(BarrierMethod::Fdatasync);
        }
        Err(e) => return Err(e),
    };
    if asked == BarrierMethod::Auto {
        CHOSEN.lock().unwrap_or_else(PoisonError::into_inner).insert(device, method);
    }
    Ok(method)
}

fn make_probe(path: &Path) -> Result<()> {
    let file = fs::create_new(path)?;
    fs::reserve(&file, path, PROBE_SPAN)?;
    fs::zero(&file, path, PROBE_SPAN, Duration::MAX)?;
    fs::sync_data(&file, path)
}

fn measure(dir: &Path, path: &Path) -> Result<BarrierMethod> {
    make_probe(path)?;
    let buffered = time(path, BarrierMethod::Fdatasync, PROBES)?;
    let mut best = (BarrierMethod::Fdatasync, buffered);
    let mut told = format!("fdatasync {buffered:?}");
    for method in [BarrierMethod::Direct, BarrierMethod::Dsync] {
        match time(path, method, PROBES) {
            Ok(took) => {
                told += &format!(", {method} {took:?}");
                let worth = if method == BarrierMethod::Dsync { WORTH } else { 0 };
                if took * 100 < best.1 * (100 + worth) {
                    best = (method, took);
                }
            }
            Err(e) => told += &format!(", {method} not possible ({e})"),
        }
    }
    log::info!(
        "{}: barriers of {} KiB take {told}; using {} (spark.ferrowal.barrier sets another)",
        dir.display(),
        PROBE >> 10,
        best.0
    );
    Ok(best.0)
}

/// The median time of a durable overwrite.
fn time(path: &Path, method: BarrierMethod, most: usize) -> Result<Duration> {
    let file = SyncedFile::open(path, method)?;
    let (memory, skip) = aligned_zeros(PROBE);
    let bytes = &memory[skip..skip + PROBE];
    let began = Instant::now();
    let mut times = Vec::with_capacity(most);
    for i in 0..most as u64 {
        let offset = i * PROBE as u64 % PROBE_SPAN;
        let before = Instant::now();
        file.write(path, offset, &mut [IoSlice::new(bytes)], Barrier::Yes)?;
        times.push(before.elapsed());
        if began.elapsed() > PROBE_TIME {
            break;
        }
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

/// The fastest barrier for overwrites of `bytes` bytes in the file at `path`, which is made if it is not there, and how many
/// of them are durable in a second, one after the other. Each method has a third of `span`.
#[cfg(feature = "cli")]
pub(crate) fn probe(path: &Path, bytes: usize, span: Duration) -> Result<(BarrierMethod, f64)> {
    /// Larger than what a device's cache takes.
    const SPAN: u64 = 256 << 20;
    if !path.exists() {
        let file = fs::create_new(path)?;
        fs::reserve(&file, path, SPAN)?;
        fs::zero(&file, path, SPAN, Duration::MAX)?;
        fs::sync_data(&file, path)?;
    }
    let length = bytes.next_multiple_of(ALIGN);
    let (memory, skip) = aligned_zeros(length);
    let slots = (SPAN / length as u64).max(1);
    let mut best = None;
    for method in [BarrierMethod::Fdatasync, BarrierMethod::Direct, BarrierMethod::Dsync] {
        let Ok(file) = SyncedFile::open(path, method) else { continue };
        let (began, mut n) = (Instant::now(), 0);
        while began.elapsed() < span / 3 {
            let at = n % slots * length as u64;
            file.write(path, at, &mut [IoSlice::new(&memory[skip..skip + length])], Barrier::Yes)?;
            n += 1;
        }
        let rate = n as f64 / began.elapsed().as_secs_f64();
        if best.is_none_or(|(_, r)| rate > r) {
            best = Some((method, rate));
        }
    }
    best.ok_or_else(|| Error::Internal("no barrier works in this directory".into()))
}
