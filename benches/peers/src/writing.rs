//! No log: writers that do nothing but write their record's bytes to the page cache, each to the next place of one file. What
//! this has is all that a log can have that makes a call for each record and one file of them: nothing is framed, checked or
//! put in order, and nobody waits for anybody but in the kernel.

use std::{
    fs::File,
    io::Write,
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::logs::{Failure, Log, Writer};

const SPAN: u64 = 64 << 20;
/// As ferrowal fills its own files: the size of the pieces decides that of the cache's folios, and what a write costs.
const PIECE: usize = 64 << 10;

/// Writers of one file that is in the page cache.
pub struct Writing(Arc<Shared>);

struct Shared {
    file: File,
    span: u64,
    next: AtomicU64,
}

impl Writing {
    /// Puts a file into the page cache, so that no write waits for memory.
    pub fn open(dir: &Path, size: usize) -> Result<Arc<dyn Log>, Failure> {
        let mut file = File::create(dir.join("written"))?;
        let span = SPAN.max(4 * size as u64).next_multiple_of(PIECE as u64);
        for _ in 0..span / PIECE as u64 {
            file.write_all(&[0; PIECE])?;
        }
        Ok(Arc::new(Self(Arc::new(Shared { file, span, next: AtomicU64::new(0) }))))
    }
}

impl Log for Writing {
    fn writer(&self, _: usize, record: Vec<u8>) -> Box<dyn Writer + Send> {
        Box::new(WritingWriter { shared: self.0.clone(), record })
    }

    fn clean(&self) -> Result<(), Failure> {
        Ok(()) // The same bytes are written again.
    }
}

struct WritingWriter {
    shared: Arc<Shared>,
    record: Vec<u8>,
}

impl Writer for WritingWriter {
    fn write(&mut self) -> Result<(), Failure> {
        let length = self.record.len() as u64;
        let at = self.shared.next.fetch_add(length, Ordering::Relaxed) % (self.shared.span - length);
        Ok(self.shared.file.write_all_at(&self.record, at)?)
    }
}
