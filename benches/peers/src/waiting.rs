//! No log: writers that do nothing but wait for each other, and one of them for the device. What this has of the ideal is
//! all that a group commit can have of it on this machine, whatever its code does.

use std::{
    fs::File,
    io::Write,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use crate::logs::{Failure, Log, Writer};

/// Past the page cache wants it of memory, offsets and lengths.
const BLOCK: usize = 4096;
const SPAN: usize = 64 << 20;
const ZEROS: usize = 1 << 20;

/// Writers that wait, asleep or awake.
pub struct Waiting(Arc<Shared>);

struct Shared {
    awake: bool,
    group: usize,
    file: File,
    state: Mutex<State>,
    changed: Condvar,
    /// Groups that are on the device.
    done: AtomicU64,
}

struct State {
    writers: usize,
    arrived: usize,
    leading: bool,
    offset: usize,
    bytes: Aligned,
}

/// Bytes where the device wants them, the same ones for every group.
struct Aligned {
    memory: Vec<u8>,
    from: usize,
    length: usize,
}

impl Aligned {
    fn new(length: usize) -> Aligned {
        let memory = vec![7; length + BLOCK];
        let from = memory.as_ptr().align_offset(BLOCK);
        Aligned { memory, from, length }
    }

    fn bytes(&self) -> &[u8] {
        &self.memory[self.from..self.from + self.length]
    }
}

impl Waiting {
    /// Zeroes a file, as a log prepares its own, and opens it for durable overwrites.
    pub fn open(dir: &Path, size: usize, threads: usize, awake: bool) -> Result<Arc<dyn Log>, Failure> {
        let path = dir.join("zeroed");
        let group = (size * threads).next_multiple_of(BLOCK);
        let mut file = File::create(&path)?;
        let zeros = vec![0; ZEROS];
        for _ in 0..SPAN.max(2 * group).div_ceil(ZEROS) {
            file.write_all(&zeros)?;
        }
        file.sync_all()?;
        let file = File::options().write(true).custom_flags(libc::O_DIRECT | libc::O_DSYNC).open(&path)?;
        let bytes = Aligned::new(group);
        let state = State { writers: 0, arrived: 0, leading: false, offset: 0, bytes };
        let shared = Shared {
            awake,
            group,
            file,
            state: Mutex::new(state),
            changed: Condvar::new(),
            done: AtomicU64::new(0),
        };
        Ok(Arc::new(Self(Arc::new(shared))))
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> Result<(), Failure> {
        let mut state = self.state();
        let mine = self.done.load(Ordering::SeqCst);
        state.arrived += 1;
        while self.done.load(Ordering::SeqCst) == mine {
            if state.arrived >= state.writers && !state.leading {
                state.leading = true;
                // Nobody else gets here before the group is done.
                self.file.write_all_at(state.bytes.bytes(), state.offset as u64)?;
                state.offset += self.group;
                if state.offset + self.group > SPAN.max(2 * self.group) {
                    state.offset = 0;
                }
                state.arrived = 0;
                state.leading = false;
                self.done.fetch_add(1, Ordering::SeqCst);
                drop(state);
                self.changed.notify_all();
                return Ok(());
            }
            if self.awake {
                drop(state);
                while self.done.load(Ordering::SeqCst) == mine {
                    thread::yield_now();
                }
                return Ok(());
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }
}

impl Log for Waiting {
    fn writer(&self, _: usize, _: Vec<u8>) -> Box<dyn Writer + Send> {
        self.0.state().writers += 1;
        Box::new(WaitingWriter(self.0.clone()))
    }

    fn clean(&self) -> Result<(), Failure> {
        Ok(()) // There is nothing to drop.
    }
}

struct WaitingWriter(Arc<Shared>);

impl Writer for WaitingWriter {
    fn write(&mut self) -> Result<(), Failure> {
        self.0.write()
    }
}

impl Drop for WaitingWriter {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.writers -= 1;
        let complete = state.arrived > 0 && state.arrived >= state.writers && !state.leading;
        if complete {
            // The round is over for this writer; the others, who wait for it, are let go.
            state.arrived = 0;
            self.0.done.fetch_add(1, Ordering::SeqCst);
        }
        drop(state);
        self.0.changed.notify_all();
    }
}
