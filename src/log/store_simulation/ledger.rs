//! What was promised in a simulated store, and whether it is kept.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{Error, RecordHandle, Role, storage::object::far::Far, turns};

/// One record, whatever became of it.
#[derive(Debug)]
struct Record {
    process: usize,
    /// Which of the times that this process opened the log.
    instance: u64,
    bytes: Vec<u8>,
    time: i64,
    begun: u64,
    /// When it was answered, and how.
    answered: Option<(u64, Option<RecordHandle>)>,
    /// Whether an owner of the log has seen it.
    shown: bool,
}

#[derive(Debug, Default)]
struct Books {
    records: Vec<Record>,
    /// Numbers what happens: one thread runs at a time.
    events: u64,
    /// How often each process opened the log.
    instances: HashMap<usize, u64>,
    /// The largest threshold that anybody asked for.
    asked: i64,
    /// The first segment of each driver that acknowledged something, and when that was.
    owners: HashMap<usize, (u64, u64)>,
    seen: BTreeMap<&'static str, u64>,
}

/// All records of a run.
#[derive(Debug, Clone)]
pub(super) struct Ledger {
    books: Arc<Mutex<Books>>,
    role: Role,
}

impl Ledger {
    pub(super) fn new(role: Role) -> Ledger {
        Ledger { books: Arc::new(Mutex::new(Books { asked: i64::MIN, ..Books::default() })), role }
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note(&self, what: &'static str) {
        *self.lock().seen.entry(what).or_default() += 1;
    }

    pub(super) fn seen(&self) -> BTreeMap<&'static str, u64> {
        self.lock().seen.clone()
    }

    /// Milliseconds, as record times are told in.
    pub(super) fn time() -> i64 {
        (turns::elapsed() / 1_000_000) as i64
    }

    /// A process opens the log anew: what its last instance was refused may have been recovered by this one.
    pub(super) fn opens(&self, process: usize) {
        *self.lock().instances.entry(process).or_default() += 1;
    }

    /// A record is about to be written.
    pub(super) fn begin(&self, process: usize) -> (usize, Vec<u8>, i64) {
        let time = Self::time() - turns::below(50) as i64;
        let length = 8 + turns::below(if turns::percent(5) { 60_000 } else { 2_000 }) as usize;
        let mut books = self.lock();
        let number = books.records.len();
        let mut bytes = vec![number as u8; length];
        bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
        books.events += 1;
        let begun = books.events;
        let instance = books.instances.get(&process).copied().unwrap_or(0);
        let record =
            Record { process, instance, bytes: bytes.clone(), time, begun, answered: None, shown: false };
        books.records.push(record);
        (number, bytes, time)
    }

    /// It was answered.
    pub(super) fn answer(&self, number: usize, result: &Result<RecordHandle, Error>) {
        let mut books = self.lock();
        books.events += 1;
        let now = books.events;
        books.records[number].answered = Some((now, result.as_ref().ok().copied()));
        let (process, begun) = (books.records[number].process, books.records[number].begun);
        turns::trace(|| {
            let said = result.as_ref().map_or_else(ToString::to_string, ToString::to_string);
            format!("process {process}, record {number}: {said}")
        });
        let Ok(handle) = result else {
            *books.seen.entry("answered with an error").or_default() += 1;
            return;
        };
        *books.seen.entry("acknowledged").or_default() += 1;
        if self.role == Role::Driver {
            let (first, _) = *books.owners.entry(process).or_insert((handle.segment, now));
            // Who took the log over later has a later fence, and so later segments.
            let newer = books.owners.iter().find(|(_, (segment, when))| *segment > first && *when < begun);
            assert!(
                newer.is_none(),
                "process {process} acknowledged record {number}, begun after {newer:?} had taken the log over"
            );
        }
        let place = |h: &RecordHandle| (h.writer, h.segment, h.offset);
        let taken = |r: &Record| r.answered.and_then(|(_, h)| h).is_some_and(|h| place(&h) == place(handle));
        let twice = books.records.iter().filter(|r| taken(r)).count();
        assert_eq!(twice, 1, "a place was acknowledged twice: {handle}");
    }

    /// Everything below this may go from here on.
    pub(super) fn clean(&self, threshold: i64) {
        let mut books = self.lock();
        books.asked = books.asked.max(threshold);
        *books.seen.entry("cleans").or_default() += 1;
    }

    /// Whether this driver ever acknowledged anything.
    pub(super) fn owned(&self, process: usize) -> bool {
        self.lock().owners.contains_key(&process)
    }

    /// What happened so far; for [`Ledger::check`].
    pub(super) fn now(&self) -> u64 {
        self.lock().events
    }

    /// A record that was acknowledged, by chance.
    pub(super) fn any(&self) -> Option<(usize, RecordHandle)> {
        let acknowledged: Vec<(usize, RecordHandle)> = {
            let books = self.lock();
            let handle = |(i, r): (usize, &Record)| r.answered.and_then(|(_, h)| h).map(|h| (i, h));
            books.records.iter().enumerate().filter_map(handle).collect()
        };
        let n = acknowledged.len() as u64;
        (n > 0).then(|| acknowledged[turns::below(n) as usize])
    }

    /// What reading it by its handle gave.
    pub(super) fn read(&self, number: usize, result: Result<Vec<u8>, Error>) {
        let books = self.lock();
        let record = &books.records[number];
        match result {
            Ok(bytes) => assert!(bytes == record.bytes, "record {number} was altered"),
            Err(Error::Io { .. }) if !result_is_absence(&result) => {}
            Err(Error::Gone { .. } | Error::Missing { .. }) if record.time < books.asked => {}
            Err(e) => panic!("record {number}, which was acknowledged: {e}"),
        }
    }

    /// The numbers of records that a scan gave, in its order.
    pub(super) fn number_of(&self, bytes: &[u8]) -> usize {
        let number = bytes.first_chunk().map_or(usize::MAX, |b| u64::from_le_bytes(*b) as usize);
        let books = self.lock();
        let known = books.records.get(number).is_some_and(|r| r.bytes == bytes);
        assert!(known, "a record of {} bytes comes back that was never written so ({number})", bytes.len());
        number
    }

    /// A whole scan by an owner of the log, begun after `since`, met no error.
    pub(super) fn check(&self, found: &[usize], since: u64, who: usize, far: &Far) {
        let mut books = self.lock();
        let mut times: HashMap<usize, usize> = HashMap::new();
        found.iter().for_each(|i| *times.entry(*i).or_default() += 1);
        for (i, n) in &times {
            // A receiver that was paused for long begins anew as another writer, and sends what was on its way once more.
            let process = books.records[*i].process;
            let most = if self.role == Role::Driver { 1 } else { far.writers_of(process) };
            assert!(*n <= most, "record {i} came back {n} times, and {process} was {most} writers");
        }
        let set: HashSet<usize> = times.keys().copied().collect();
        let asked = books.asked;
        // What another executor wrote a moment ago need not be found where listings are old (docs/reliability.md). Of a
        // driver's log everything is: no listing counts that lacks its fence.
        let all = self.role == Role::Driver || !far.lists_late();
        for (i, record) in books.records.iter().enumerate() {
            let due = all && record.time >= asked && !set.contains(&i);
            match record.answered {
                Some((at, Some(handle))) if at <= since => {
                    assert!(
                        !due,
                        "record {i} of {} was acknowledged as {handle}, and is lost to {who}",
                        record.process
                    );
                }
                _ => assert!(!due || !record.shown, "record {i} was shown to an owner, and is lost to {who}"),
            }
            // Refused, and then something else of the same writer was acknowledged.
            if let (Some((at, None)), Role::Driver) = (record.answered, self.role) {
                let later = books.records.iter().any(|r| {
                    (r.process, r.instance) == (record.process, record.instance)
                        && r.begun > at
                        && matches!(r.answered, Some((_, Some(_))))
                });
                assert!(!later || !set.contains(&i), "record {i} was refused, and came back");
            }
        }
        if self.role == Role::Driver {
            // Nothing comes before what was acknowledged before it was begun.
            let mut earliest = (u64::MAX, 0);
            for i in found.iter().rev() {
                let record = &books.records[*i];
                let (answered, later) = earliest;
                assert!(answered >= record.begun, "record {i} comes before {later}, which was there first");
                if let Some((at, Some(_))) = record.answered {
                    earliest = earliest.min((at, *i));
                }
            }
            found.iter().for_each(|i| books.records[*i].shown = true);
        } else if all {
            let mut places = HashMap::new();
            // Of one that is there twice nobody can tell here which of the two was acknowledged; nor of one that was cleaned
            // under one of its writer's names.
            let once = |i: &&usize| times[i] == 1 && books.records[**i].time >= asked;
            for i in found.iter().filter(once) {
                if let Some((_, Some(h))) = books.records[*i].answered {
                    let before = places.insert(h.writer, (h.segment, h.offset));
                    assert!(before.is_none_or(|b| b < (h.segment, h.offset)), "out of order at record {i}");
                }
            }
        }
        *books.seen.entry("checks").or_default() += 1;
    }
}

fn result_is_absence(result: &Result<Vec<u8>, Error>) -> bool {
    result.as_ref().is_err_and(Error::is_not_found)
}
