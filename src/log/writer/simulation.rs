//! The writer on simulated storage, driven from one seeded thread: callers, workers, completions, clock and power cuts.
//!
//! `FERROWAL_SEED=<n>` replays the run of that seed; `FERROWAL_RUNS=<n>` sets how many fresh ones are tried.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use uuid::Uuid;

use super::{
    Shared, Writer,
    core::{Core, Op, Outcome, Reserved, Worker, address},
    group::{Group, Seat},
    large::{Target, write_large},
};
use crate::{
    Error, Options, RecordHandle, Recovery, Result, Role,
    commit::{Gate, Machine, Step},
    log::{
        RecordSource, Slice,
        analysis::Scope,
        read::{At, Reader},
        recover::recover,
        scan::{Scan, Source},
    },
    storage::{
        Home, Storage, Which,
        sim::{Counts, Faults, Random, World},
    },
};

/// The housekeepers among the threads; the others are named by their record.
const HOUSEKEEPER: usize = usize::MAX;
const HOUSEKEEPERS: [usize; 2] = [HOUSEKEEPER, HOUSEKEEPER - 1];

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    /// Submitted, and not answered.
    Open,
    Acknowledged(RecordHandle),
    /// Answered with an error, at this event.
    Failed(u64),
    /// Not acknowledged before a crash, and not found after it: it must never come back.
    Lost,
    /// Not acknowledged before a crash, but found after it: shown once, it must stay.
    Recovered,
}

#[derive(Debug)]
struct Record {
    bytes: Vec<u8>,
    time: i64,
    fate: Fate,
}

enum Caller {
    Copying { record: usize, seat: Seat, idle: Option<u32> },
    Waiting { record: usize, group: Arc<Group>, index: usize },
    Large { record: usize, group: Arc<Group>, buffers: Option<[BytesMut; 2]> },
}

/// What the runs did, to be printed: nothing may be zero.
#[derive(Debug, Default)]
struct Seen {
    crashes: u64,
    crashes_in_recovery: u64,
    acknowledged: u64,
    failed: u64,
    large: u64,
    torn: u64,
    cleans: u64,
    several_in_flight: u64,
    replayed_unanswered: u64,
    marks: u64,
    settled: u64,
    storage: Counts,
}

struct Run {
    seed: u64,
    random: Random,
    world: World,
    records: Vec<Record>,
    callers: Vec<Caller>,
    /// Operations that were taken and not yet carried out, each with the thread that took it.
    pending: Vec<(Op, usize)>,
    /// Threads that sleep, each until it is woken or until a time.
    parked: HashMap<usize, Option<Instant>>,
    /// How much of each gate's word was turned into wake-ups.
    delivered: HashMap<usize, u32>,
    shared: Option<Shared>,
    now: Instant,
    events: u64,
    last_ack: u64,
    clock: i64,
    asked: i64,
    faulty: bool,
    trace: Vec<String>,
}

fn options() -> Options {
    let mut options = Options::new("/simulated", Role::Driver);
    options.clean_grace = Duration::ZERO;
    options.rolling_interval = Duration::from_millis(40);
    options
}

impl Run {
    fn new(seed: u64) -> Run {
        let mut random = Random::new(seed);
        let in_flight = if random.percent(50) { 1 } else { 1 + random.below(4) as usize };
        let world = World::new(random.next(), in_flight);
        let faulty = random.percent(50);
        Run {
            seed,
            random,
            world,
            records: Vec::new(),
            callers: Vec::new(),
            pending: Vec::new(),
            parked: HashMap::new(),
            delivered: HashMap::new(),
            shared: None,
            now: Instant::now(),
            events: 0,
            last_ack: 0,
            clock: 0,
            asked: i64::MIN,
            faulty,
            trace: Vec::new(),
        }
    }

    fn say(&mut self, text: impl FnOnce() -> String) {
        if std::env::var_os("FERROWAL_SEED").is_some() {
            let text = text();
            self.trace.push(text);
        }
    }

    fn faults(&mut self) -> Faults {
        if !self.faulty {
            return Faults::default();
        }
        let mut rate = |most| self.random.below(most);
        Faults {
            write: rate(8),
            barrier: rate(12),
            create: rate(10),
            full: rate(20),
            seal: rate(30),
            delete: rate(20),
        }
    }

    /// Opens the writer, as a restart does; the power may go meanwhile.
    fn open(&mut self, seen: &mut Seen) {
        loop {
            if self.random.percent(20) {
                self.world.cut_power_after(self.random.below(12));
            }
            match self.try_open() {
                Ok(shared) => {
                    self.shared = Some(shared);
                    return;
                }
                Err(e) => {
                    assert!(self.world.is_dark(), "seed {}: recovery failed: {e}", self.seed);
                    seen.crashes_in_recovery += 1;
                    self.world.restart();
                }
            }
        }
    }

    fn try_open(&mut self) -> Result<Shared> {
        let log = self.world.log();
        let storage: Arc<dyn Storage> = self.world.storage(Which::Driver);
        let scope = Scope { log, ..Scope::default() };
        let recovered =
            recover(&self.world, storage.as_ref(), Which::Driver, Recovery::Default, scope, (false, None))?;
        let writer = Uuid::from_u64_pair(self.random.next(), self.random.next());
        let claim = self.world.claim(Which::Driver, Duration::ZERO)?;
        let homes: (Arc<dyn Home>, Arc<Reader>) =
            (Arc::new(self.world.clone()), Arc::new(Reader::new(Duration::ZERO)));
        Ok(Writer::assemble(&options(), homes, Which::Driver, (log, writer), claim, recovered, true))
    }

    fn with<R>(&self, change: impl FnOnce(&mut Core) -> R) -> R {
        self.shared.as_ref().expect("open").commit.with(change)
    }

    /// One random thing happens.
    fn act(&mut self, seen: &mut Seen) {
        self.events += 1;
        self.wake();
        match self.random.below(100) {
            0..25 => self.begin(seen),
            25..45 => self.fill(),
            45..65 => self.step(seen),
            65..90 => self.complete(seen),
            90..93 => self.clean(seen),
            93 => self.look(),
            _ => self.now += Duration::from_millis(self.random.below(400)),
        }
        self.answers(seen);
    }

    fn begin(&mut self, seen: &mut Seen) {
        if self.callers.len() >= 8 {
            return;
        }
        let number = self.records.len();
        self.clock += self.random.below(10) as i64;
        // Spark's clocks go back a little, now and then.
        let time = self.clock - if self.random.percent(10) { self.random.below(20) as i64 } else { 0 };
        let length = match self.random.below(400) {
            0 => (4 << 20) + self.random.below(3000),
            1..40 => 8 + self.random.below(40_000),
            _ => 8 + self.random.below(3000),
        } as usize;
        let mut bytes = vec![number as u8; length];
        bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
        let now = self.now;
        match self.with(|core| core.reserve(now, length as u32, time)) {
            Ok(Reserved::Seat(seat, seen, look)) => {
                let idle = (!look).then_some(seen);
                self.callers.push(Caller::Copying { record: number, seat, idle });
            }
            Ok(Reserved::Large(group, buffers)) => {
                seen.large += 1;
                self.callers.push(Caller::Large { record: number, group, buffers: Some(buffers) });
            }
            Ok(Reserved::Wait(..)) => return,
            Err(e) => panic!("seed {}: {e}", self.seed),
        }
        self.say(|| format!("begin {number} of {length} bytes at time {time}"));
        self.records.push(Record { bytes, time, fate: Fate::Open });
    }

    /// A caller's copy is done (or fails).
    fn fill(&mut self) {
        let Some(i) = self.pick(|c| matches!(c, Caller::Copying { .. })) else { return };
        let Caller::Copying { record, seat, idle } = self.callers.swap_remove(i) else { return };
        if self.random.percent(3) {
            // Its source threw: the seat becomes a void frame, and the record is refused.
            drop(seat);
            self.with(Core::look_again);
            self.say(|| format!("refused {record}"));
            self.records[record].fate = Fate::Failed(0);
            return;
        }
        let filled = seat.fill(&mut crate::log::Slice(&self.records[record].bytes));
        let (group, index) = filled.expect("memory can be copied");
        self.say(|| format!("filled {record} of {}", address(&group)));
        if idle.is_some_and(|seen| group.gate.seen() == seen) {
            self.parked.insert(record, None);
        }
        self.callers.push(Caller::Waiting { record, group, index });
    }

    fn pick(&mut self, which: impl Fn(&Caller) -> bool) -> Option<usize> {
        let all: Vec<usize> = (0..self.callers.len()).filter(|i| which(&self.callers[*i])).collect();
        (!all.is_empty()).then(|| all[self.random.below(all.len() as u64) as usize])
    }

    /// Turns what gates were told into wake-ups: a poke wakes one of those who sleep there, whoever that is.
    fn wake(&mut self) {
        let mut gates: Vec<(usize, Arc<Gate>, Vec<usize>)> = Vec::new();
        for caller in &self.callers {
            if let Caller::Waiting { record, group, .. } | Caller::Large { record, group, .. } = caller {
                match gates.iter_mut().find(|(a, ..)| *a == address(group)) {
                    Some((_, _, threads)) => threads.push(*record),
                    None => gates.push((address(group), group.gate.clone(), vec![*record])),
                }
            }
        }
        gates.push((HOUSEKEEPER, self.with(|core| core.housekeeper.clone()), HOUSEKEEPERS.to_vec()));
        // Another group may come to lie where one was.
        self.delivered.retain(|gate, _| gates.iter().any(|(a, ..)| a == gate));
        for (gate, word, threads) in gates {
            let now = word.seen();
            let before = self.delivered.insert(gate, now).unwrap_or(0);
            for _ in before..now.min(before + 64) {
                let asleep: Vec<usize> =
                    threads.iter().copied().filter(|t| self.parked.contains_key(t)).collect();
                if !asleep.is_empty() {
                    let lucky = asleep[self.random.below(asleep.len() as u64) as usize];
                    self.parked.remove(&lucky);
                }
            }
        }
    }

    /// Threads that are awake and not at the device.
    fn awake(&self) -> Vec<(usize, Worker)> {
        let callers = self.callers.iter().filter_map(|c| match c {
            Caller::Waiting { record, group, .. } | Caller::Large { record, group, .. } => {
                Some((*record, Worker::Member(address(group))))
            }
            Caller::Copying { .. } => None,
        });
        let all = callers.chain(HOUSEKEEPERS.map(|h| (h, Worker::Housekeeper)));
        let free = |thread: usize| {
            let sleeps = self.parked.get(&thread).is_some_and(|until| until.is_none_or(|t| t > self.now));
            !sleeps && self.pending.iter().all(|(_, by)| *by != thread)
        };
        all.filter(|(thread, _)| free(*thread)).collect()
    }

    /// A thread that is awake asks for something to do, and sleeps if there is nothing.
    fn step(&mut self, seen: &mut Seen) {
        let awake = self.awake();
        if awake.is_empty() {
            return;
        }
        let (thread, worker) = awake[self.random.below(awake.len() as u64) as usize];
        let now = self.now;
        match self.with(|core| core.step(now, worker)) {
            Step::Do(op) => {
                self.say(|| format!("{worker:?} takes {}", brief(&op)));
                if worker == Worker::Housekeeper && matches!(op, Op::Write { .. }) {
                    seen.marks += 1;
                }
                self.parked.remove(&thread);
                self.pending.push((op, thread));
                let writes = self.pending.iter().filter(|(op, _)| matches!(op, Op::Write { .. })).count();
                seen.several_in_flight += u64::from(writes > 1);
            }
            Step::Idle(until) => {
                self.say(|| format!("{worker:?} ({thread}) sleeps {}", until.is_some()));
                self.parked.insert(thread, until);
            }
        }
    }

    /// Nothing fails and nothing new comes: everybody is answered, and then the log falls silent and says so. Threads are
    /// woken only by what the machine wakes, so a lost wake-up is a hang here.
    fn settle(&mut self, seen: &mut Seen) {
        self.world.set_faults(Faults::default());
        self.world.keep_power();
        let until = self.now + Duration::from_secs(30);
        for _ in 0..100_000 {
            self.wake();
            self.fill();
            self.answers(seen);
            if self.pending.iter().any(|(op, _)| !waits_for_copies(op)) {
                self.complete(seen);
            } else if !self.awake().is_empty() {
                self.step(seen);
            } else {
                let next = self.parked.values().flatten().filter(|t| **t > self.now).min().copied();
                match next {
                    // A copy that takes its time keeps others asleep; it ends without anybody's help.
                    _ if self.callers.iter().any(|c| matches!(c, Caller::Copying { .. })) => {}
                    Some(t) if t < until => self.now = t,
                    _ => break,
                }
            }
        }
        let left = self.callers.len();
        assert!(left == 0, "seed {}: {left} callers hang", self.seed);
        assert!(
            !self.with(|core| core.is_uncovered()),
            "seed {}: silence, and no mark: {}",
            self.seed,
            self.with(|core| core.trouble())
        );
        seen.settled += 1;
    }

    /// An operation that was taken is carried out, in no order, and its outcome told.
    fn complete(&mut self, _: &mut Seen) {
        let ready: Vec<usize> =
            (0..self.pending.len()).filter(|i| !waits_for_copies(&self.pending[*i].0)).collect();
        if ready.is_empty() {
            return;
        }
        let (op, _) = self.pending.swap_remove(ready[self.random.below(ready.len() as u64) as usize]);
        let text = brief(&op);
        let outcome = self.carry_out(op);
        self.say(|| format!("{text}: {}", how(&outcome)));
        // What failed for want of power is told to nobody: the machine is dark.
        if !self.world.is_dark() {
            let now = self.now;
            self.with(|core| core.done(now, outcome));
        }
    }

    fn carry_out(&mut self, op: Op) -> Outcome {
        let shared = self.shared.as_ref().expect("open");
        match op {
            Op::Write { group, segment, stamp, barrier } if group.large.is_some() => {
                let caller = self.callers.iter_mut().find_map(|c| match c {
                    Caller::Large { record, group: theirs, buffers } if Arc::ptr_eq(theirs, &group) => {
                        Some((*record, buffers.as_mut()?))
                    }
                    _ => None,
                });
                let (record, buffers) = caller.expect("a large record's owner waits for it");
                let mut source = Slice(&self.records[record].bytes);
                assert!(!source.is_empty());
                let large = group.large.expect("large");
                // One lane: with threads a seed would not replay.
                let segment = segment.as_ref();
                let target = Target { segment, stamp: &stamp, barrier, align: 4096, lanes: 1 };
                let result = write_large(&target, large, buffers, &mut source);
                let result = result.map(|large| {
                    group.note_frame(large.frame);
                    (large.placed, large.written)
                });
                Outcome::Written { sequence: stamp.sequence, result }
            }
            op => shared.carry_out(op),
        }
    }

    fn clean(&mut self, seen: &mut Seen) {
        let threshold = self.clock - 30 - self.random.below(100) as i64;
        if threshold > self.asked {
            self.asked = threshold;
            seen.cleans += 1;
            let insist = self.random.percent(30);
            self.with(|core| core.clean(threshold, insist));
            self.say(|| format!("clean({threshold})"));
        }
    }

    /// A reader comes by while the log is written.
    fn look(&self) {
        if self.world.is_dark() {
            return;
        }
        let found: HashSet<usize> = self.scan().into_iter().collect();
        for (i, record) in self.records.iter().enumerate() {
            let there = found.contains(&i);
            match record.fate {
                Fate::Acknowledged(handle) => {
                    assert!(there || record.time < self.asked, "seed {}: record {i} is not there", self.seed);
                    self.check_handle(i, &handle, record);
                }
                Fate::Recovered => assert!(there || record.time < self.asked, "seed {}: {i}", self.seed),
                // Durable, and its caller has not looked yet.
                Fate::Open => {}
                Fate::Failed(_) | Fate::Lost => assert!(!there, "seed {}: record {i} is there", self.seed),
            }
        }
    }

    /// Callers whose group was answered go.
    fn answers(&mut self, seen: &mut Seen) {
        let mut i = 0;
        while i < self.callers.len() {
            let open = match &self.callers[i] {
                Caller::Copying { .. } => false,
                Caller::Waiting { group, .. } | Caller::Large { group, .. } => group.gate.is_open(),
            };
            if !open {
                i += 1;
                continue;
            }
            let shared = self.shared.as_ref().expect("open");
            let (record, result) = match self.callers.swap_remove(i) {
                Caller::Waiting { record, group, index } => {
                    (record, shared.handle(&group, index, self.records[record].bytes.len() as u32))
                }
                Caller::Large { record, group, buffers } => {
                    let result = shared.handle(&group, 0, self.records[record].bytes.len() as u32);
                    if let Some(buffers) = buffers {
                        shared.commit.with(|core| core.give_back(buffers));
                    }
                    (record, result)
                }
                Caller::Copying { .. } => continue,
            };
            self.records[record].fate = match result {
                Ok(handle) => {
                    seen.acknowledged += 1;
                    self.last_ack = self.events;
                    Fate::Acknowledged(handle)
                }
                Err(_) => {
                    seen.failed += 1;
                    Fate::Failed(self.events)
                }
            };
            let fate = self.records[record].fate;
            self.say(|| format!("record {record}: {fate:?}"));
        }
    }

    /// The power goes, or the process is killed with everything written: what must be there is there.
    fn crash_and_check(&mut self, seen: &mut Seen) {
        self.say(|| "crash".into());
        self.callers.clear();
        self.pending.clear();
        self.parked.clear();
        self.delivered.clear();
        self.shared = None;
        self.world.restart();
        seen.crashes += 1;
        self.open(seen);
        self.world.set_faults(Faults::default());
        self.check(seen);
    }

    fn scan(&self) -> Vec<usize> {
        let storage: Arc<dyn Storage> = self.world.storage(Which::Driver);
        let (limit, threshold) = self.with(|core| (core.acked(), core.threshold()));
        let source = Source {
            storage,
            scope: Scope { log: self.world.log(), limit: Some(limit), ..Scope::default() },
            threshold,
            removed: Box::new(|| Ok(false)),
            report: Arc::new(Mutex::new(None)),
        };
        Scan::new(vec![source], Recovery::Default)
            .map(|item| {
                let bytes = item.unwrap_or_else(|e| panic!("seed {}: a scan met {e}", self.seed));
                let number = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
                assert!(
                    bytes == self.records[number].bytes,
                    "seed {}: record {number} was altered",
                    self.seed
                );
                number
            })
            .collect()
    }

    fn check(&mut self, seen: &mut Seen) {
        let seed = self.seed;
        let found = self.scan();
        let set: HashSet<usize> = found.iter().copied().collect();
        assert_eq!(set.len(), found.len(), "seed {seed}: a record came back twice");
        // (2) acknowledged records are there, in the order of their places.
        let mut by_place = BTreeMap::new();
        for (i, record) in self.records.iter().enumerate() {
            if let Fate::Acknowledged(h) = record.fate {
                let visible = set.contains(&i);
                assert!(
                    visible || record.time < self.asked,
                    "seed {seed}: record {i} was acknowledged and is lost"
                );
                // (4) no place is acknowledged twice.
                let place = (h.segment, h.offset);
                assert!(by_place.insert(place, i).is_none(), "seed {seed}: a place was acknowledged twice");
                self.check_handle(i, &h, record);
            }
        }
        let expected: Vec<usize> = by_place.into_values().filter(|i| set.contains(i)).collect();
        let order: Vec<usize> = found
            .iter()
            .copied()
            .filter(|i| matches!(self.records[*i].fate, Fate::Acknowledged(_)))
            .collect();
        assert_eq!(order, expected, "seed {seed}: out of order");
        // What else is there was submitted, and not refused before something else was acknowledged.
        for i in &found {
            match self.records[*i].fate {
                Fate::Acknowledged(_) | Fate::Recovered => {}
                Fate::Open => seen.replayed_unanswered += 1,
                Fate::Failed(at) => {
                    assert!(at >= self.last_ack, "seed {seed}: record {i} was refused, and came back");
                }
                Fate::Lost => panic!("seed {seed}: record {i} was gone after a crash, and came back"),
            }
        }
        for (i, record) in self.records.iter_mut().enumerate() {
            let there = set.contains(&i);
            match record.fate {
                Fate::Acknowledged(_) => {}
                Fate::Recovered => {
                    assert!(
                        there || record.time < self.asked,
                        "seed {seed}: record {i} was recovered, and is lost"
                    );
                }
                _ => record.fate = if there { Fate::Recovered } else { Fate::Lost },
            }
        }
    }

    fn check_handle(&self, i: usize, handle: &RecordHandle, record: &Record) {
        let storage = self.world.storage(Which::Driver);
        let at = At {
            handle,
            home: &self.world,
            storage: storage.as_ref(),
            which: Which::Driver,
            low_water: &|| 0,
        };
        let mut bytes = vec![0; record.bytes.len()];
        match Reader::new(Duration::ZERO).read(&at, &mut bytes) {
            Ok(()) => assert!(bytes == record.bytes, "seed {}: {handle} was altered", self.seed),
            Err(Error::Gone { .. }) => {
                assert!(record.time < self.asked, "seed {}: record {i} is gone", self.seed);
            }
            Err(e) => panic!("seed {}: record {i}: {e}", self.seed),
        }
    }

    /// Some lives of one log.
    fn go(&mut self, seen: &mut Seen) {
        self.open(seen);
        for _ in 0..4 {
            let faults = self.faults();
            self.world.set_faults(faults);
            let acts = self.random.below(150);
            if self.random.percent(70) {
                // In the middle of something.
                self.world.cut_power_after(self.random.below(60));
            }
            for _ in 0..acts {
                self.act(seen);
                if self.world.is_dark() {
                    break;
                }
            }
            if !self.world.is_dark() && self.random.percent(60) {
                self.settle(seen);
            }
            self.crash_and_check(seen);
        }
        let quarantined = self.world.quarantined();
        seen.torn += quarantined;
        let counts = self.world.counts();
        let total = &mut seen.storage;
        total.operations += counts.operations;
        total.failed_barriers += counts.failed_barriers;
        total.failed_writes += counts.failed_writes;
        total.full += counts.full;
        total.crashes_with_dirty_sectors += counts.crashes_with_dirty_sectors;
        total.sectors_lost += counts.sectors_lost;
        total.names_lost += counts.names_lost;
        total.deleted += counts.deleted;
        total.recycled += counts.recycled;
    }
}

/// Whether it must not be carried out yet: whoever does would sleep until the copies are done.
fn waits_for_copies(op: &Op) -> bool {
    matches!(op, Op::Write { group, .. } if group.copies.any())
}

fn brief(op: &Op) -> String {
    match op {
        Op::Write { stamp, .. } => format!(
            "write of group {} to segment {} at {}, {} bytes, watermark {}",
            stamp.sequence, stamp.place.segment, stamp.offset, stamp.footprint, stamp.watermark
        ),
        other => format!("{other:?}"),
    }
}

fn how(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Written { result: Ok(_), .. } => "well".into(),
        Outcome::Written { result: Err(e), .. } => e.to_string(),
        Outcome::Created { result: Ok(_), .. } => "well".into(),
        other => format!("{other:?}"),
    }
}

#[test]
fn whatever_a_power_cut_keeps_nothing_acknowledged_is_lost() {
    let number = |name: &str| std::env::var(name).ok().and_then(|s| s.parse::<u64>().ok());
    let mut seen = Seen::default();
    if let Some(seed) = number("FERROWAL_SEED") {
        let mut run = Run::new(seed);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run.go(&mut seen)));
        for line in &run.trace {
            println!("{line}");
        }
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
        return;
    }
    let began = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let first = number("FERROWAL_FIRST_SEED").unwrap_or(began >> 8);
    let runs = number("FERROWAL_RUNS").unwrap_or(500);
    for seed in first..first + runs {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| Run::new(seed).go(&mut seen)));
        if let Err(panic) = result {
            println!(
                "replay with: FERROWAL_SEED={seed} cargo test --lib whatever_a_power_cut -- --nocapture"
            );
            std::panic::resume_unwind(panic);
        }
    }
    println!("{runs} runs from seed {first}: {seen:#?}");
    let s = &seen;
    for (what, count) in [
        ("crashes", s.crashes),
        ("crashes in recovery", s.crashes_in_recovery),
        ("acknowledged", s.acknowledged),
        ("failed", s.failed),
        ("large records", s.large),
        ("torn", s.torn),
        ("cleans", s.cleans),
        ("several in flight", s.several_in_flight),
        ("marks", s.marks),
        ("settled", s.settled),
        ("replayed without an answer", s.replayed_unanswered),
        ("failed barriers", s.storage.failed_barriers),
        ("failed writes", s.storage.failed_writes),
        ("full", s.storage.full),
        ("crashes with unsynced data", s.storage.crashes_with_dirty_sectors),
        ("sectors lost", s.storage.sectors_lost),
        ("names lost", s.storage.names_lost),
        ("segments deleted", s.storage.deleted),
        ("segments used again", s.storage.recycled),
    ] {
        assert!(count > 0 || runs < 500, "{what} never happened");
    }
}
