//! Going on where the file system does not give bytes, for tools: one file that is not theirs to read, or one bad sector,
//! must not hide what all the others hold.
//!
//! What cannot be read is taken for zeros, which are never a group, and noted. Whoever looks through this must tell every
//! note: without it the storage's promise (a read error is never zeros) is broken.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustix::io::Errno;

use crate::{
    error::{Error, NotAFile, Result},
    format::BLOCK,
    storage::{SegmentRead, Storage, View},
};

/// Blocks of one read that are tried one by one: a device may take seconds over each that it cannot read.
const MOST_TRIED: usize = 16;

/// Why bytes are not given that are there, for this file or this place of it; anything else ends the command.
const CAUSES: [Errno; 9] = [
    Errno::ACCESS,
    Errno::PERM,
    Errno::IO,
    Errno::ISDIR,
    Errno::NXIO,
    Errno::BADMSG,
    Errno::NODATA,
    Errno::UCLEAN,
    Errno::REMOTEIO,
];

/// Bytes that could not be read: where they begin, and to where they go, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unread {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    pub(crate) end: u64,
    pub(crate) why: String,
}

/// By segment and offset: the end, and why.
type Noted = BTreeMap<(u64, u64), (u64, String)>;

/// What could not be read of one writer's segments.
#[derive(Debug, Clone, Default)]
pub(crate) struct Notes(Arc<Mutex<Noted>>);

impl Notes {
    /// The map is whole after any panic.
    fn locked(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, segment: u64, offset: u64, end: u64, why: &io::Error) {
        let mut noted = self.locked();
        let until = noted.entry((segment, offset)).or_insert_with(|| (end, why.to_string()));
        until.0 = until.0.max(end);
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.locked().is_empty()
    }

    /// All of them, in order; neighbours together.
    pub(crate) fn all(&self) -> Vec<Unread> {
        let mut all: Vec<Unread> = Vec::new();
        for ((segment, offset), (end, why)) in self.locked().iter() {
            match all.last_mut() {
                Some(last) if last.segment == *segment && *offset <= last.end => {
                    last.end = last.end.max(*end)
                }
                _ => all.push(Unread { segment: *segment, offset: *offset, end: *end, why: why.clone() }),
            }
        }
        all
    }
}

/// The same storage, whose segments are given as far as they can be read.
pub(crate) fn patiently(storage: Arc<dyn Storage>, notes: &Notes) -> Arc<dyn Storage> {
    let (notes, listing) = (notes.clone(), Arc::clone(&storage));
    Arc::new(View::new(storage, move |id, opened| {
        let notes = notes.clone();
        match opened {
            Ok(reader) => Ok(Arc::new(Patient { id, size: reader.size()?, reader: Some(reader), notes })),
            Err(error) => {
                let why = cause(error)?;
                let size = listing.list()?.iter().find(|l| l.id == id).map_or(0, |l| l.length);
                notes.note(id, 0, size, &why);
                Ok(Arc::new(Patient { id, size, reader: None, notes }))
            }
        }
    }))
}

/// Why bytes are not given; any other error is that.
pub(super) fn cause(error: Error) -> Result<Arc<io::Error>> {
    match &error {
        Error::Io { source, .. } if Errno::from_io_error(source).is_some_and(|e| CAUSES.contains(&e)) => {
            Ok(Arc::clone(source))
        }
        // It is to be moved away, so its name is told.
        Error::Io { source, .. } if NotAFile::is_cause(source) => {
            Ok(Arc::new(io::Error::other(error.to_string())))
        }
        _ => Err(error),
    }
}

/// A segment that is given as far as it can be read; without a reader, not at all.
#[derive(Debug)]
struct Patient {
    id: u64,
    reader: Option<Arc<dyn SegmentRead>>,
    size: u64,
    notes: Notes,
}

impl Patient {
    /// In one way, or where that gives an error block by block.
    fn read_as(
        &self,
        way: impl Fn(&dyn SegmentRead, &mut [u8]) -> Result<usize>,
        offset: u64,
        into: &mut [u8],
    ) -> Result<usize> {
        let Some(reader) = &self.reader else {
            let there = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
            let n = there.min(into.len());
            into[..n].fill(0);
            return Ok(n);
        };
        match way(reader.as_ref(), into) {
            Ok(n) => Ok(n),
            Err(error) => {
                cause(error)?;
                self.read_blocks(reader.as_ref(), offset, into)
            }
        }
    }

    /// Block by block: with zeros for those that are not given.
    fn read_blocks(&self, reader: &dyn SegmentRead, offset: u64, into: &mut [u8]) -> Result<usize> {
        let (mut done, mut tried, mut last) = (0, 0, None);
        let there = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX).min(into.len());
        while done < there {
            let at = offset + done as u64;
            let length = (u64::from(BLOCK) - at % u64::from(BLOCK)).min((there - done) as u64) as usize;
            let piece = &mut into[done..done + length];
            let why = match last.take_if(|_| tried == MOST_TRIED) {
                Some(why) => why,
                None => match reader.read(at, piece) {
                    Ok(n) if n < length => return Ok(done + n),
                    Ok(_) => {
                        done += length;
                        continue;
                    }
                    Err(error) => {
                        tried += 1;
                        cause(error)?
                    }
                },
            };
            piece.fill(0);
            self.notes.note(self.id, at, at + length as u64, &why);
            last = Some(why);
            done += length;
        }
        Ok(there)
    }
}

impl SegmentRead for Patient {
    fn size(&self) -> Result<u64> {
        self.reader.as_ref().map_or(Ok(self.size), |reader| reader.size())
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Result<usize> {
        self.read_as(|reader, into| reader.read(offset, into), offset, into)
    }

    fn read_through(&self, offset: u64, into: &mut [u8]) -> Result<usize> {
        self.read_as(|reader, into| reader.read_through(offset, into), offset, into)
    }

    fn in_parallel(&self) -> bool {
        self.reader.as_ref().is_some_and(|reader| reader.in_parallel())
    }

    fn read_two(&self, offset: u64, head: &mut [u8], body: &mut [u8]) -> Result<usize> {
        let n = self.read(offset, head)?;
        if n < head.len() {
            return Ok(n);
        }
        Ok(n + self.read(offset + n as u64, body)?)
    }

    fn expect(&self, offset: u64, length: u64) {
        if let Some(reader) = &self.reader {
            reader.expect(offset, length);
        }
    }

    fn settle(&self) -> Result<()> {
        self.reader.as_ref().map_or(Ok(()), |reader| reader.settle())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that are their block's number, of which some blocks are not given.
    #[derive(Debug)]
    struct Rotten {
        size: u64,
        bad: Vec<u64>,
        error: Errno,
    }

    impl SegmentRead for Rotten {
        fn size(&self) -> Result<u64> {
            Ok(self.size)
        }
        fn read(&self, offset: u64, into: &mut [u8]) -> Result<usize> {
            let block = u64::from(BLOCK);
            let n = (self.size.saturating_sub(offset) as usize).min(into.len());
            for (i, byte) in into[..n].iter_mut().enumerate() {
                let of = (offset + i as u64) / block;
                if self.bad.contains(&of) {
                    return Err(Error::io("read", "a segment", self.error.into()));
                }
                *byte = of as u8 + 1;
            }
            Ok(n)
        }
        fn read_two(&self, _: u64, _: &mut [u8], _: &mut [u8]) -> Result<usize> {
            Err(Error::Internal("nobody asks for it".into()))
        }
        fn settle(&self) -> Result<()> {
            Ok(())
        }
    }

    fn patient(size: u64, bad: Vec<u64>, error: Errno) -> (Patient, Notes) {
        let notes = Notes::default();
        let reader: Arc<dyn SegmentRead> = Arc::new(Rotten { size, bad, error });
        (Patient { id: 7, reader: Some(reader), size, notes: notes.clone() }, notes)
    }

    #[test]
    fn what_is_around_bad_blocks_is_given_and_they_are_noted() -> Result<()> {
        let block = u64::from(BLOCK);
        let (patient, notes) = patient(10 * block + 100, vec![3, 4, 8], Errno::IO);
        let mut into = vec![0xff; 12 * BLOCK as usize];
        assert_eq!(patient.read(50, &mut into)?, 10 * BLOCK as usize + 50);
        for (i, byte) in into[..10 * BLOCK as usize + 50].iter().enumerate() {
            let of = (i as u64 + 50) / block;
            assert_eq!(*byte, if [3, 4, 8].contains(&of) { 0 } else { of as u8 + 1 }, "at {i}");
        }
        // Read again, and in two parts: it is told once.
        assert_eq!(
            patient.read_two(3 * block, &mut [0; 24], &mut vec![0; BLOCK as usize])?,
            24 + BLOCK as usize
        );
        let told: Vec<_> = notes.all().into_iter().map(|u| (u.segment, u.offset, u.end)).collect();
        assert_eq!(told, [(7, 3 * block, 5 * block), (7, 8 * block, 9 * block)]);
        assert!(notes.all()[0].why.contains("os error 5"), "{:?}", notes.all());
        Ok(())
    }

    #[test]
    fn a_device_that_gives_nothing_is_not_asked_for_every_block() -> Result<()> {
        let (patient, notes) = patient(1 << 20, (0..256).collect(), Errno::IO);
        let mut into = vec![0xff; 1 << 20];
        assert_eq!(patient.read(0, &mut into)?, 1 << 20);
        assert!(into.iter().all(|b| *b == 0));
        let all = notes.all();
        assert_eq!((all.len(), all[0].offset, all[0].end), (1, 0, 1 << 20));
        Ok(())
    }

    #[test]
    fn an_error_that_says_nothing_of_the_bytes_is_an_error() {
        let (patient, notes) = patient(1 << 20, vec![0], Errno::MFILE);
        assert!(matches!(patient.read(0, &mut [0; 100]), Err(Error::Io { .. })));
        assert!(notes.all().is_empty());
    }
}
