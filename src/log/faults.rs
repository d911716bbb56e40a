//! Tests of what happens when storage fails: these need the seam, so they live inside the crate.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::HashMap,
    io::IoSlice,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use rustix::io::Errno;
use uuid::Uuid;

use super::{Log, shared::Shared};
use crate::{
    Error, Options, RecordHandle, Recovery, Result, Role,
    storage::{
        Barrier, Claim, Header, Home, Listed, SegmentRead, SegmentWrite, Space, Storage, Traits, Which,
        local::LocalHome,
    },
};

/// What is about to be done to storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Create {
        id: u64,
        background: bool,
    },
    Write {
        id: u64,
        offset: u64,
        barrier: bool,
    },
    Seal {
        id: u64,
    },
    Delete,
    /// Looks for writers; nothing is done.
    Writers,
}

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Nothing was done.
    Before(Errno),
    /// It was done, and then reported as failed: what a failed fdatasync may leave.
    After(Errno),
    Panic,
}

type Rule = Box<dyn FnMut(Event) -> Option<Fault> + Send>;

/// Decides about every operation, and remembers it.
struct Plan {
    rule: Mutex<Rule>,
    seen: Mutex<Vec<(Event, Option<Fault>)>>,
    prepares: AtomicBool,
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Plan")
    }
}

impl Plan {
    fn run<T>(&self, event: Event, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let fault = (self.rule.lock().unwrap())(event);
        self.seen.lock().unwrap().push((event, fault));
        let failed = |e: Errno| Err(Error::io("do", "a planned fault", e.into()));
        match fault {
            None => work(),
            Some(Fault::Before(e)) => failed(e),
            Some(Fault::After(e)) => work().and(failed(e)),
            Some(Fault::Panic) => panic!("a planned panic"),
        }
    }
}

#[derive(Debug)]
struct FaultyHome(LocalHome, Arc<Plan>);

impl Home for FaultyHome {
    fn place(&self) -> String {
        self.0.place()
    }
    fn check(&self) -> Result<()> {
        self.0.check()
    }
    fn log_id(&self) -> Result<Option<Uuid>> {
        self.0.log_id()
    }
    fn make_log_id(&self) -> Result<Uuid> {
        self.0.make_log_id()
    }
    fn small_file(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.0.small_file(name)
    }
    fn writers(&self) -> Result<Vec<Uuid>> {
        (self.1.rule.lock().unwrap())(Event::Writers);
        self.0.writers()
    }
    fn storage(&self, which: Which) -> Arc<dyn Storage> {
        Arc::new(FaultyStorage(self.0.storage(which), self.1.clone()))
    }
    fn claim(&self, which: Which, wait: Duration) -> Result<Box<dyn Claim>> {
        self.0.claim(which, wait)
    }
    fn await_unclaimed(&self, which: Which, wait: Duration) -> Result<()> {
        self.0.await_unclaimed(which, wait)
    }
    fn claim_gone(&self, which: Which) -> Result<Option<Box<dyn Claim>>> {
        self.0.claim_gone(which)
    }
    fn note_removed(&self, writer: Uuid) -> Result<()> {
        self.0.note_removed(writer)
    }
    fn remove_writer(&self, writer: Uuid, claim: Box<dyn Claim>) -> Result<()> {
        self.0.remove_writer(writer, claim)
    }
    fn was_removed(&self, writer: Uuid) -> Result<bool> {
        self.0.was_removed(writer)
    }
    fn quarantine(&self, label: &str, bytes: &mut dyn Iterator<Item = Result<Vec<u8>>>) -> Result<String> {
        self.0.quarantine(label, bytes)
    }
}

#[derive(Debug)]
struct FaultyStorage(Arc<dyn Storage>, Arc<Plan>);

impl Storage for FaultyStorage {
    fn traits(&self) -> Traits {
        self.0.traits()
    }
    fn place(&self) -> String {
        self.0.place()
    }
    fn list(&self) -> Result<Vec<Listed>> {
        self.0.list()
    }
    fn create(&self, id: u64, space: Space, header: &Header<'_>) -> Result<Box<dyn SegmentWrite>> {
        let background = thread::current().name().is_some_and(|n| n.starts_with("ferrowal-keeper"));
        if background && !self.1.prepares.load(Ordering::Relaxed) {
            return Err(Error::io("prepare", "nothing in this test", Errno::AGAIN.into()));
        }
        let small = Space { wish: space.wish.min(1 << 20).max(space.least), ..space };
        let made = self.1.run(Event::Create { id, background }, || self.0.create(id, small, header))?;
        Ok(Box::new(FaultySegment(made, self.1.clone(), id)))
    }
    fn open(&self, id: u64) -> Result<Arc<dyn SegmentRead>> {
        self.0.open(id)
    }
    fn seal(&self, id: u64, end: u64, footer: &[u8]) -> Result<()> {
        self.1.run(Event::Seal { id }, || self.0.seal(id, end, footer))
    }
    fn delete(&self, ids: &[u64]) -> Result<()> {
        self.1.run(Event::Delete, || self.0.delete(ids))
    }
    fn drop_spares(&self) -> Result<()> {
        self.0.drop_spares()
    }
    fn keep_reserve(&self) -> Result<()> {
        self.0.keep_reserve()
    }
}

#[derive(Debug)]
struct FaultySegment(Box<dyn SegmentWrite>, Arc<Plan>, u64);

impl SegmentWrite for FaultySegment {
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn write(&self, offset: u64, bytes: &mut [IoSlice<'_>], barrier: Barrier) -> Result<()> {
        let event = Event::Write { id: self.2, offset, barrier: barrier == Barrier::Yes };
        self.1.run(event, || self.0.write(offset, bytes, barrier))
    }
}

/// A log whose storage does what a plan says.
struct Bench {
    dir: tempfile::TempDir,
    plan: Arc<Plan>,
}

impl Bench {
    fn new() -> Bench {
        let plan = Plan {
            rule: Mutex::new(Box::new(|_| None)),
            seen: Mutex::default(),
            prepares: AtomicBool::new(false),
        };
        Bench { dir: tempfile::tempdir().unwrap(), plan: Arc::new(plan) }
    }

    fn options(&self) -> Options {
        let mut options = Options::new(self.dir.path(), Role::Driver);
        options.write_timeout = Duration::from_secs(5);
        options.clean_grace = Duration::ZERO;
        options.idle_mark = Duration::from_secs(3600);
        options
    }

    fn open(&self) -> Log {
        self.open_with(self.options())
    }

    fn open_with(&self, options: Options) -> Log {
        let home = FaultyHome(
            LocalHome::new(self.dir.path().into(), &Options::new(self.dir.path(), Role::Driver)),
            self.plan.clone(),
        );
        let shared = Arc::new(Shared::with_home(options, Arc::new(home)));
        Log {
            shared,
            closed: AtomicBool::new(false),
            used: AtomicBool::new(false),
            goes_on: AtomicBool::new(false),
        }
    }

    fn rule(&self, rule: impl FnMut(Event) -> Option<Fault> + Send + 'static) {
        *self.plan.rule.lock().unwrap() = Box::new(rule);
        self.plan.seen.lock().unwrap().clear();
    }

    fn seen(&self) -> Vec<(Event, Option<Fault>)> {
        self.plan.seen.lock().unwrap().clone()
    }

    /// After a failure a segment sees neither a write nor a barrier nor a footer from the same writer.
    fn nothing_is_retried(&self) {
        // Groups that were on their way at the same time may be seen after the first that failed; none is seen twice.
        const AT_ONCE: usize = 4;
        let mut poisoned: HashMap<u64, Vec<u64>> = HashMap::new();
        for (event, fault) in self.seen() {
            match event {
                Event::Seal { id } if poisoned.contains_key(&id) => panic!("{event:?} after a failure there"),
                Event::Write { id, offset, .. } => match poisoned.get_mut(&id) {
                    Some(offsets) if offsets.contains(&offset) || offsets.len() == AT_ONCE => {
                        panic!("{event:?} after a failure there")
                    }
                    Some(offsets) => offsets.push(offset),
                    None if fault.is_some() => drop(poisoned.insert(id, vec![offset])),
                    None => {}
                },
                _ => {}
            }
        }
        assert!(!poisoned.is_empty());
    }

    /// What a restart finds.
    fn recovered(&self) -> Vec<Vec<u8>> {
        self.rule(|_| None);
        let log = self.open();
        log.scan().unwrap().map(|r| r.unwrap().to_vec()).collect()
    }
}

/// Fails the first `n` durable writes.
fn first_barriers(n: usize, fault: Fault) -> impl FnMut(Event) -> Option<Fault> + Send + 'static {
    let mut left = n;
    move |event| match event {
        Event::Write { barrier: true, .. } if left > 0 => {
            left -= 1;
            Some(fault)
        }
        _ => None,
    }
}

#[test]
fn a_log_that_comes_to_be_while_somebody_looks_for_it_is_whole() {
    let bench = Bench::new();
    let mut options = bench.options();
    options.role = Role::Receivers;
    let log = bench.open_with(options.clone());
    // There was no uuid yet. Now there is, and a segment.
    let mut first = true;
    bench.rule(move |event| {
        if event == Event::Writers && std::mem::take(&mut first) {
            Log::open(options.clone()).unwrap().append(b"the first record", 1).unwrap();
        }
        None
    });
    let found: Vec<_> = log.scan().unwrap().map(|r| r.unwrap()).collect();
    assert_eq!(found, [b"the first record".as_slice()]);
}

#[test]
fn a_failed_barrier_is_never_retried_and_the_group_goes_to_a_fresh_segment() {
    for fault in [Fault::Before(Errno::IO), Fault::After(Errno::IO)] {
        for failures in [1, 2] {
            let bench = Bench::new();
            let log = bench.open();
            let before = log.append(b"before", 1).unwrap();
            let counted = crate::metrics(bench.options().role);
            bench.rule(first_barriers(failures, fault));
            let moved = log.append(b"moved", 2).unwrap();
            assert!(moved.segment > before.segment);
            let after = log.append(b"after", 3).unwrap();
            assert_eq!(after.segment, moved.segment);
            // Others count beside this test.
            let more = crate::metrics(bench.options().role);
            for name in ["retries", "poisonings"] {
                assert!(more.get(name) >= counted.get(name).map(|n| n + failures as u64), "{name}");
            }
            bench.nothing_is_retried();
            for (handle, expected) in [(before, &b"before"[..]), (moved, b"moved"), (after, b"after")] {
                assert_eq!(log.read(&handle).unwrap(), expected);
            }
            log.close().unwrap();
            bench.nothing_is_retried();
            assert_eq!(bench.recovered(), [b"before".to_vec(), b"moved".to_vec(), b"after".to_vec()]);
        }
    }
}

#[test]
fn a_large_record_whose_piece_fails_goes_to_a_fresh_segment_as_a_whole() {
    let record: Vec<u8> = (0..9_000_000_u32).map(|i| (i >> 7) as u8).collect();
    // A write that fails, one that is done and fails, and a panic in one of the threads.
    for fault in [Fault::Before(Errno::IO), Fault::After(Errno::IO), Fault::Panic] {
        for failing in [0, 1, 4, 7] {
            let bench = Bench::new();
            let log = bench.open();
            let before = log.append(b"before", 1).unwrap();
            let mut piece = 0;
            bench.rule(move |event| match event {
                // The caller writes one itself: a panic there ends the log, which is tested elsewhere.
                Event::Write { barrier: false, .. } if thread::current().name() == Some("ferrowal-piece") => {
                    piece += 1;
                    (piece == failing + 1).then_some(fault)
                }
                _ => None,
            });
            let moved = log.append(&record, 2).unwrap();
            assert!(moved.segment > before.segment, "piece {failing}");
            assert!(log.read(&moved).unwrap() == record);
            log.close().unwrap();
            assert!(bench.recovered() == [b"before".to_vec(), record.clone()], "piece {failing}");
        }
    }
}

#[test]
fn a_write_that_was_answered_with_an_error_is_void_once_another_is_acknowledged() {
    let bench = Bench::new();
    let log = bench.open();
    log.append(b"before", 1).unwrap();
    // The bytes of the failed attempts are all on the device.
    bench.rule(first_barriers(3, Fault::After(Errno::IO)));
    let error = log.append(b"failed", 2).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::IO.raw_os_error()));
    log.append(b"after", 3).unwrap();
    bench.nothing_is_retried();
    let expected = [b"before".to_vec(), b"after".to_vec()];
    let live: Vec<_> = log.scan().unwrap().map(|r| r.unwrap().to_vec()).collect();
    assert_eq!(live, expected);
    log.close().unwrap();
    assert_eq!(bench.recovered(), expected);
}

#[test]
fn a_failure_wakes_every_waiter() {
    let bench = Bench::new();
    let log = Arc::new(bench.open());
    log.append(b"first", 0).unwrap();
    let failing = Arc::new(AtomicBool::new(true));
    let switch = failing.clone();
    bench.rule(move |event| match event {
        Event::Write { .. } if switch.load(Ordering::SeqCst) => Some(Fault::After(Errno::IO)),
        _ => None,
    });
    let (told, heard) = mpsc::channel();
    for t in 0..64u64 {
        let (log, told) = (log.clone(), told.clone());
        thread::spawn(move || told.send((t, log.append(&t.to_le_bytes(), t as i64))).unwrap());
    }
    for _ in 0..64 {
        let (_, result) = heard.recv_timeout(Duration::from_secs(60)).expect("a waiter hangs");
        result.unwrap_err();
    }
    failing.store(false, Ordering::SeqCst);
    log.append(b"works again", 100).unwrap();
    bench.nothing_is_retried();
    log.close().unwrap();
    assert_eq!(bench.recovered(), [b"first".to_vec(), b"works again".to_vec()]);
}

#[test]
fn failures_at_random_lose_nothing_that_was_acknowledged() {
    let seed: u64 = std::env::var("FERROWAL_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(|| {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64
    });
    println!("FERROWAL_SEED={seed} chooses the same faults");
    for round in 0..20 {
        let bench = Bench::new();
        bench.plan.prepares.store(round % 2 == 0, Ordering::Relaxed);
        let mut options = bench.options();
        options.segment_size = 1 << 20;
        let log = Arc::new(bench.open_with(options));
        let mut random = seed.wrapping_add(round) | 1;
        bench.rule(move |event| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            match (event, random % 100) {
                (Event::Write { .. }, 0..8) => Some(Fault::Before(Errno::IO)),
                (Event::Write { .. }, 8..16) => Some(Fault::After(Errno::IO)),
                (Event::Create { .. }, 0..5) => Some(Fault::After(Errno::IO)),
                (Event::Create { .. }, 5..10) => Some(Fault::Before(Errno::NOSPC)),
                (Event::Seal { .. }, 0..20) => Some(Fault::After(Errno::IO)),
                _ => None,
            }
        });
        let threads: Vec<_> = (0..8u64)
            .map(|t| {
                let log = log.clone();
                thread::spawn(move || {
                    let mut acknowledged = Vec::new();
                    for i in 0..40u64 {
                        let length =
                            if i == 20 && t == 0 { 6 << 20 } else { 16 + (i as usize * 977) % 30_000 };
                        let mut bytes = vec![t as u8; length];
                        bytes[..8].copy_from_slice(&(t * 100 + i).to_le_bytes());
                        if let Ok(handle) = log.append(&bytes, i as i64) {
                            acknowledged.push((handle, bytes));
                        }
                    }
                    acknowledged
                })
            })
            .collect();
        let acknowledged: Vec<(RecordHandle, Vec<u8>)> =
            threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
        for (handle, bytes) in &acknowledged {
            assert!(log.read(handle).unwrap() == *bytes, "seed {seed}, round {round}: {handle}");
        }
        // The last word is an acknowledgement, so nothing that failed may come back.
        *bench.plan.rule.lock().unwrap() = Box::new(|_| None);
        log.append(b"the last", 100).unwrap();
        log.close().unwrap();
        let mut found = bench.recovered();
        assert_eq!(found.pop().unwrap(), b"the last");
        let mut expected: Vec<_> = acknowledged.into_iter().map(|(_, bytes)| bytes).collect();
        found.sort();
        expected.sort();
        assert_eq!(found.len(), expected.len(), "seed {seed}, round {round}");
        assert!(found == expected, "seed {seed}, round {round}");
    }
}

#[test]
fn a_panic_at_the_device_answers_everybody_and_ends_writing() {
    let bench = Bench::new();
    let log = Arc::new(bench.open());
    let first = log.append(b"first", 0).unwrap();
    bench.rule(|event| matches!(event, Event::Write { .. }).then_some(Fault::Panic));
    let (told, heard) = mpsc::channel();
    for t in 0..16u64 {
        let (log, told) = (log.clone(), told.clone());
        thread::spawn(move || {
            let caught =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| log.append(&t.to_le_bytes(), 1)));
            told.send(caught).unwrap();
        });
    }
    let mut panics = 0;
    for _ in 0..16 {
        match heard.recv_timeout(Duration::from_secs(60)).expect("a waiter hangs") {
            Ok(result) => assert!(matches!(result, Err(Error::Internal(_))), "{result:?}"),
            Err(_) => panics += 1,
        }
    }
    assert_eq!(panics, 1, "only whoever was at the device sees the panic itself");
    bench.rule(|_| None);
    assert!(matches!(log.append(b"x", 1), Err(Error::Internal(_))), "its state is not known");
    assert_eq!(log.read(&first).unwrap(), b"first", "it can still be read");
    log.close().unwrap();
    assert_eq!(bench.recovered()[0], b"first");
}

#[test]
fn a_full_volume_is_waited_for_in_bounded_time() {
    let bench = Bench::new();
    let mut options = bench.options();
    options.write_timeout = Duration::from_millis(400);
    let log = bench.open_with(options);
    bench.rule(|event| matches!(event, Event::Create { .. }).then_some(Fault::Before(Errno::NOSPC)));
    let began = Instant::now();
    let error = log.append(b"x", 1).unwrap_err();
    assert!(matches!(error, Error::StorageFull { .. }), "{error}");
    assert!(error.is_full());
    assert!((Duration::from_millis(400)..Duration::from_secs(10)).contains(&began.elapsed()));
    // Space again, while a write waits for it.
    let mut left = 2;
    bench.rule(move |event| {
        let full = matches!(event, Event::Create { .. }) && left > 0;
        left -= i32::from(full);
        full.then_some(Fault::Before(Errno::NOSPC))
    });
    log.append(b"fits", 1).unwrap();
    log.close().unwrap();
    assert_eq!(bench.recovered(), [b"fits".to_vec()]);
}

#[test]
fn nothing_is_deleted_before_the_mark_that_says_so_is_durable() {
    let bench = Bench::new();
    bench.plan.prepares.store(true, Ordering::Relaxed);
    let mut options = bench.options();
    options.segment_size = 1 << 20;
    let log = bench.open_with(options);
    for t in 0..30 {
        log.append(&vec![1; 100_000], t).unwrap();
    }
    bench.rule(|event| matches!(event, Event::Write { .. }).then_some(Fault::Before(Errno::IO)));
    log.clean(20, true).unwrap_err();
    assert!(!bench.seen().iter().any(|(e, _)| *e == Event::Delete));
    bench.rule(|_| None);
    log.clean(20, true).unwrap();
    let seen = bench.seen();
    let mark = seen.iter().position(|(e, _)| matches!(e, Event::Write { .. })).unwrap();
    let delete = seen.iter().position(|(e, _)| *e == Event::Delete).unwrap();
    assert!(mark < delete, "{seen:?}");
    log.close().unwrap();
    assert_eq!(bench.recovered().len(), 10);
}

#[test]
fn a_footer_that_cannot_be_written_harms_nothing() {
    let bench = Bench::new();
    let mut options = bench.options();
    options.recovery = Recovery::Strict;
    let log = bench.open_with(options);
    bench.rule(|event| matches!(event, Event::Seal { .. }).then_some(Fault::Before(Errno::IO)));
    let handle = log.append(b"whole", 1).unwrap();
    log.close().unwrap();
    assert_eq!(log.read(&handle).unwrap(), b"whole");
    assert_eq!(bench.recovered(), [b"whole".to_vec()]);
}

/// Waits until so many groups wait for the device, and so many cleans for their turn.
fn await_waiting(log: &Log, enough: impl Fn(usize, usize) -> bool) {
    let began = Instant::now();
    while !log.shared.waiting().is_some_and(|(groups, cleans)| enough(groups, cleans)) {
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", log.shared.waiting());
        thread::yield_now();
    }
}

struct Broken(usize);

impl super::RecordSource for Broken {
    fn len(&self) -> usize {
        self.0
    }
    fn copy(&mut self, _: usize, _: &mut [u8]) -> Result<()> {
        Err(Error::Source("it broke".into()))
    }
}

#[test]
fn a_group_that_nobody_waits_for_does_not_swallow_a_wake_up() {
    let bench = Bench::new();
    let log = Arc::new(bench.open());
    log.append(b"first", 0).unwrap();
    let (go, gone) = mpsc::channel::<()>();
    let (at_device, there) = mpsc::channel();
    let mut once = Some(gone);
    bench.rule(move |event| {
        if let (Event::Write { .. }, Some(wait)) = (event, once.take()) {
            at_device.send(()).unwrap();
            wait.recv().unwrap();
        }
        None
    });
    let slow = thread::spawn({
        let log = log.clone();
        move || log.append(b"slow", 1).unwrap()
    });
    there.recv().unwrap();
    log.append_from(&mut Broken(3 << 20), 2).unwrap_err();
    let (told, heard) = mpsc::channel();
    thread::spawn({
        let log = log.clone();
        move || told.send(log.append(&vec![1; 2 << 20], 3)).unwrap()
    });
    // The group of the one that broke is gone.
    await_waiting(&log, |groups, _| groups == 1);
    go.send(()).unwrap();
    slow.join().unwrap();
    let answer = heard.recv_timeout(Duration::from_secs(10));
    if answer.is_err() {
        std::mem::forget(log);
        panic!("the writer hangs");
    }
}

#[test]
fn a_panic_answers_a_clean_that_has_not_begun() {
    let bench = Bench::new();
    bench.plan.prepares.store(true, Ordering::Relaxed);
    let mut options = bench.options();
    options.segment_size = 1 << 20;
    let log = Arc::new(bench.open_with(options));
    for t in 0..30 {
        log.append(&vec![1; 100_000], t).unwrap();
    }
    let (go, gone) = mpsc::channel::<()>();
    let (at_device, there) = mpsc::channel();
    let mut once = Some(gone);
    bench.rule(move |event| match (event, once.take()) {
        (Event::Delete, Some(wait)) => {
            at_device.send(()).unwrap();
            wait.recv().unwrap();
            Some(Fault::Panic)
        }
        (_, back) => {
            once = back;
            None
        }
    });
    let first = thread::spawn({
        let log = log.clone();
        move || log.clean(15, true)
    });
    there.recv().unwrap();
    let (told, heard) = mpsc::channel();
    thread::spawn({
        let log = log.clone();
        move || told.send(log.clean(20, true)).unwrap()
    });
    await_waiting(&log, |_, cleans| cleans == 1);
    go.send(()).unwrap();
    let _ = first.join().unwrap();
    let answer = heard.recv_timeout(Duration::from_secs(10));
    if answer.is_err() {
        std::mem::forget(log);
        panic!("the clean hangs");
    }
}

#[test]
fn a_clean_frees_space_though_waiting_writes_took_all_memory() {
    let bench = Bench::new();
    bench.plan.prepares.store(true, Ordering::Relaxed);
    let mut options = bench.options();
    options.segment_size = 1 << 20;
    options.memory = 16 << 20;
    options.write_timeout = Duration::from_secs(8);
    let log = Arc::new(bench.open_with(options));
    for t in 0..30 {
        log.append(&vec![1; 100_000], t).unwrap();
    }
    let mut deleted = false;
    bench.rule(move |event| {
        deleted |= event == Event::Delete;
        (matches!(event, Event::Create { .. }) && !deleted).then_some(Fault::Before(Errno::NOSPC))
    });
    let writers: Vec<_> = (0..2)
        .map(|_| {
            let log = log.clone();
            thread::spawn(move || log.append(&vec![2; 5 << 20], 31).map(drop))
        })
        .collect();
    await_waiting(&log, |groups, _| groups == 2);
    let cleaned = log.clean(20, true);
    drop(cleaned);
    for w in writers {
        let result = w.join().unwrap();
        assert!(result.is_ok(), "the clean could not write its mark");
    }
}

#[test]
fn invariant_6_no_lock_is_held_while_storage_works() {
    let bench = Bench::new();
    bench.plan.prepares.store(true, Ordering::Relaxed);
    let mut options = bench.options();
    options.segment_size = 1 << 20;
    let log = Arc::new(bench.open_with(options));
    log.append(b"first", 0).unwrap();
    let (seen, asked) = (Arc::new(Mutex::new(Vec::new())), Arc::downgrade(&log));
    let kinds = seen.clone();
    bench.rule(move |event| {
        // Whoever asks the machine something while storage works is answered.
        if let Some(log) = asked.upgrade() {
            let (told, heard) = mpsc::channel();
            thread::spawn(move || told.send(log.shared.waiting().is_some()));
            let answered = heard.recv_timeout(Duration::from_secs(20));
            kinds.lock().unwrap().push((std::mem::discriminant(&event), answered.is_ok()));
        }
        None
    });
    for t in 0..40 {
        log.append(&vec![1; 100_000], t).unwrap();
    }
    log.append(&vec![2; 5 << 20], 41).unwrap();
    log.clean(20, true).unwrap();
    let seen = seen.lock().unwrap();
    assert!(seen.iter().all(|(_, answered)| *answered), "the lock is held while storage works");
    let kinds: std::collections::HashSet<_> = seen.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds.len(), 4, "create, write, seal and delete");
}
