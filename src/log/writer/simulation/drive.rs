//! Driving the writer: callers, workers, completions, clock and closer, from one thread.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use uuid::Uuid;

use super::{
    super::{
        Shared, Writer,
        core::{Core, Fate as LoneFate, Lone, Op, Outcome, Reserved, Worker, Written, address},
        group::{Group, LoneGroup, Placed, PlacedFrame, Seat, Stamp},
        large::{Target, write_large},
    },
    Report,
    plan::{Act, Plan, What},
};
use crate::{
    codec::KeyRing,
    commit::{Gate, Machine, Step},
    error::{Error, Result},
    format::{BLOCK, GROUP_HEADER, Packing},
    handle::RecordHandle,
    log::{
        RecordSource, Scan, Slice,
        analysis::{Scope, analyse},
        read::Reader,
        recover::recover,
    },
    options::{Durability, Options, Role},
    planted::Guard,
    storage::{
        Home, Storage, Which,
        sim::{Faults, Random, World},
    },
    sync,
};

/// The housekeepers and the closer among the threads; the others are named by their record.
const HOUSEKEEPERS: [usize; 2] = [usize::MAX, usize::MAX - 1];
const CLOSER: usize = usize::MAX - 2;
/// The most callers at once.
const CALLERS: usize = 8;

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fate {
    /// Submitted, and not answered.
    Open,
    Acknowledged(RecordHandle),
    /// Answered with an error, at this event.
    Failed(u64),
    /// Not acknowledged before a crash, and not found after it: it must never come back.
    Lost,
    /// Not acknowledged before a crash, but found after it: shown once, it must stay.
    Recovered,
    /// Not acknowledged, and after a crash either not there or below the clean threshold.
    Hidden,
    /// Acknowledged by the operating system alone, and lost with it.
    Evaporated(Option<RecordHandle>),
}

#[derive(Debug)]
pub(super) struct Record {
    pub(super) bytes: Vec<u8>,
    pub(super) time: i64,
    pub(super) generation: u64,
    pub(super) fate: Fate,
}

pub(super) enum Caller {
    Copying {
        record: usize,
        seat: Seat,
        idle: Option<u32>,
    },
    Waiting {
        record: usize,
        group: sync::Arc<Group>,
        index: usize,
    },
    Large {
        record: usize,
        group: sync::Arc<Group>,
        buffers: Option<[BytesMut; 2]>,
    },
    /// Writes by itself,
    Lone {
        record: usize,
        lone: Lone,
    },
    /// or did, and waits at the gate, which was `seen` so, for those before it,
    Ordered {
        record: usize,
        ticket: u64,
        frame: PlacedFrame,
        gate: sync::Arc<Gate>,
        seen: u32,
    },
    /// or has to go once more, with others.
    Refused {
        record: usize,
        again: bool,
    },
}

/// One process with the log open.
pub(super) struct Life {
    pub(super) shared: Shared,
    pub(super) which: Which,
    callers: Vec<Caller>,
    /// Operations that were taken and not yet carried out, each with the thread that took it.
    pending: Vec<(Op, usize)>,
    /// Threads that sleep, each until it is woken or until a time.
    parked: HashMap<usize, Option<Instant>>,
    /// How much of each gate's word was turned into wake-ups.
    delivered: Vec<(sync::Arc<Gate>, u32)>,
    closing: bool,
    /// Whether another process has taken over.
    zombie: bool,
    /// What recovery found sealed, or sealed.
    pub(super) sealed_below: u64,
}

pub(super) struct Run {
    pub(super) random: Random,
    pub(super) world: World,
    pub(super) options: Options,
    large: bool,
    pub(super) records: Vec<Record>,
    /// Groups that were written, and are durable as far as anybody knows.
    pub(super) stamps: Vec<Stamp>,
    pub(super) life: Option<Life>,
    pub(super) now: Instant,
    wall: u64,
    pub(super) events: u64,
    pub(super) last_ack: u64,
    pub(super) clock: i64,
    /// The largest threshold that was asked for, in this generation.
    pub(super) asked: i64,
    /// Below this nothing may come back: the threshold that was durable.
    pub(super) cleaned: i64,
    /// The generation of a driver's new records, and the one on the disk when it began.
    pub(super) generation: u64,
    pub(super) base_generation: u64,
    /// Generation, `asked`, `cleaned` and clock of the generations before.
    pub(super) before: Vec<(u64, i64, i64, i64)>,
    /// Whether faults are on, so that an error is no surprise.
    pub(super) faulty: bool,
    pub(super) scan: Option<(Scan, Vec<usize>, Vec<usize>)>,
    traced: bool,
    pub(super) trace: Vec<String>,
    pub(super) seen: Report,
}

impl Run {
    pub(super) fn new(plan: &Plan, traced: bool) -> Run {
        let mut random = Random::new(plan.seed ^ 0x5eed);
        let world = World::new(random.next(), plan.in_flight);
        let world = if plan.durability == Durability::Os { world.cached() } else { world };
        let mut options = Options::new("/simulated", plan.role);
        options.clean_grace = Duration::ZERO;
        options.rolling_interval = Duration::from_millis(40);
        options.segment_size = plan.segment_size;
        options.recovery = plan.policy;
        options.durability = plan.durability;
        options.compression = plan.compression;
        if plan.encrypted {
            options.keys = KeyRing::read([format!("hex:{:064x}", plan.seed)]).expect("a key");
        }
        Run {
            random,
            world,
            options,
            large: plan.large,
            records: Vec::new(),
            stamps: Vec::new(),
            life: None,
            now: Instant::now(),
            wall: 1_000_000,
            events: 0,
            last_ack: 0,
            clock: 0,
            asked: i64::MIN,
            cleaned: i64::MIN,
            generation: 1,
            base_generation: 1,
            before: Vec::new(),
            faulty: false,
            scan: None,
            traced,
            trace: Vec::new(),
            seen: Report::default(),
        }
    }

    pub(super) fn say(&mut self, text: impl FnOnce() -> String) {
        if self.traced {
            let text = text();
            self.trace.push(text);
        }
    }

    pub(super) fn role(&self) -> Role {
        self.options.role
    }

    pub(super) fn is_durable(&self) -> bool {
        self.options.durability == Durability::Device
    }

    pub(super) fn recovery(&self) -> crate::Recovery {
        self.options.recovery
    }

    /// Some lives of one log.
    pub(super) fn go(&mut self, plan: &Plan) {
        for act in &plan.acts {
            self.act(*act);
        }
        if self.world.is_dark() {
            self.crash(true);
        } else if self.life.is_none() {
            self.open();
        }
        self.settle();
        self.check();
        let counts = self.world.counts();
        for (what, n) in [
            ("storage operations", counts.operations),
            ("failed barriers", counts.failed_barriers),
            ("failed writes", counts.failed_writes),
            ("failed reads", counts.failed_reads),
            ("full volume", counts.full),
            ("sectors lost", counts.sectors_lost),
            ("names lost", counts.names_lost),
            ("segments deleted", counts.deleted),
            ("segments recycled", counts.recycled),
            ("segments sealed", counts.sealed),
            ("jumbo segments", counts.jumbo),
            ("torn tails quarantined", counts.quarantined),
            ("orphans collected", counts.collected),
            ("zombie operations refused", counts.fenced),
        ] {
            self.seen.note(what, n);
        }
        self.seen.note("runs", 1);
    }

    fn act(&mut self, act: Act) {
        self.random = Random::new(act.seed);
        self.world.reseed(self.random.next());
        if self.world.is_dark() && act.what != What::PowerCut {
            return;
        }
        if self.life.is_none() {
            self.open();
        }
        self.events += 1;
        self.wake();
        match act.what {
            What::Begin => {
                let length = self.a_length();
                self.begin(length);
            }
            What::Fill => self.fill(),
            What::Step => self.step(),
            What::Complete => self.complete(),
            What::Clean => self.clean(),
            What::Look => self.look(),
            What::ScanBegin => self.scan_begin(),
            What::ScanOn => self.scan_on(),
            What::Wait => self.wait(),
            What::Faults => self.change_faults(),
            What::Power => {
                let after = self.random.below(25);
                self.say(|| format!("the power will go after {after} operations"));
                self.world.cut_power_after(after);
            }
            What::Rot => self.rot(),
            What::Settle => self.settle(),
            What::Close => self.close(),
            What::PowerCut => self.crash(true),
            What::Kill => self.crash(false),
            What::TakeOver => self.take_over(),
        }
        if self.life.is_some() {
            self.answers();
            self.finish_close();
        }
        if let Some(destroyed) = self.world.destroyed() {
            panic!("evidence is destroyed: {destroyed}");
        }
    }

    fn change_faults(&mut self) {
        let random = &mut self.random;
        let mut rate = |most| random.below(most);
        let faults = Faults {
            write: rate(8),
            // Without barriers, pages that the device refuses are lost with everything that was acknowledged in them.
            barrier: if self.options.durability == Durability::Os { 0 } else { rate(12) },
            create: rate(10),
            full: rate(20),
            seal: rate(30),
            delete: rate(20),
            read: 0,
        };
        self.faulty = true;
        self.world.set_faults(faults);
        self.say(|| format!("{faults:?}"));
    }

    fn wait(&mut self) {
        let millis = self.random.below(400);
        self.now += Duration::from_millis(millis);
        // The time of day is for people: it may go back as it likes.
        self.wall = if self.random.percent(10) { self.wall / 2 } else { self.wall + millis };
        Guard::set_clock(self.wall);
        self.say(|| format!("{millis} ms go by"));
    }

    // ---- opening -------------------------------------------------------------------------------------------------

    /// Opens the writer, as a restart does; the power may go meanwhile, and reads may fail.
    pub(super) fn open(&mut self) {
        let fresh = self.options.role == Role::Driver && self.random.percent(12);
        for attempt in 0.. {
            if attempt < 4 && self.random.percent(20) {
                self.world.cut_power_after(self.random.below(12));
            } else if attempt < 4 && self.random.percent(15) {
                self.world.set_faults(Faults { read: 5 + self.random.below(20), ..Faults::default() });
                self.seen.note("recoveries with failing reads", 1);
            }
            let opened = self.try_open(fresh);
            self.world.set_faults(Faults::default());
            match opened {
                Ok(life) => {
                    let (generation, disk) = (self.generation, self.base_generation);
                    self.say(|| format!("open, fresh: {fresh}; generation {generation}, {disk} on disk"));
                    self.life = Some(life);
                    self.world.keep_power();
                    return;
                }
                Err(e) => {
                    self.say(|| format!("recovery: {e}"));
                    if self.world.is_dark() {
                        self.seen.note("crashes in recovery", 1);
                        self.seen.note("crashes with unsynced data", u64::from(self.world.is_dirty()));
                        self.lose_power();
                    } else {
                        assert!(attempt < 10 && is_io(&e), "recovery failed: {e}");
                    }
                }
            }
        }
    }

    fn try_open(&mut self, fresh: bool) -> Result<Life> {
        let log = self.world.make_log_id()?;
        let writer = Uuid::from_u64_pair(self.random.next(), self.random.next());
        let which = match self.options.role {
            Role::Driver => Which::Driver,
            Role::Receivers => Which::Receiver(writer),
        };
        let claim = self.world.claim(which, Duration::ZERO)?;
        let storage: Arc<dyn Storage> = self.world.storage(which);
        let scope = Scope { log, ..Scope::default() };
        let disk = if fresh { Some(analyse(storage.as_ref(), scope)?.generation) } else { None };
        let policy = (self.options.recovery, &self.options.keys);
        let recovered = recover(&self.world, storage.as_ref(), which, policy, scope, (fresh, None))?;
        assert_eq!(
            recovered.report.corrupt, 0,
            "what is whole is called corrupt: {:?}",
            recovered.report.findings
        );
        if self.options.role == Role::Driver {
            let disk = disk.unwrap_or(recovered.generation);
            self.found_generation(disk, recovered.generation, recovered.threshold);
        }
        let sealed_below = recovered.sequence;
        let homes: (Arc<dyn Home>, Arc<Reader>) =
            (Arc::new(self.world.clone()), Arc::new(Reader::new(Duration::ZERO)));
        let ids = (log, writer);
        let shared = Writer::assemble(&self.options, homes, which, ids, claim, recovered, true);
        Ok(Life {
            shared,
            which,
            callers: Vec::new(),
            pending: Vec::new(),
            parked: HashMap::new(),
            delivered: Vec::new(),
            closing: false,
            zombie: false,
            sealed_below,
        })
    }

    pub(super) fn life(&self) -> &Life {
        self.life.as_ref().expect("open")
    }

    fn life_mut(&mut self) -> &mut Life {
        self.life.as_mut().expect("open")
    }

    pub(super) fn with<R>(&self, change: impl FnOnce(&mut Core) -> R) -> R {
        self.life().shared.commit.with(change)
    }

    // ---- callers -------------------------------------------------------------------------------------------------

    fn a_length(&mut self) -> usize {
        let length = match self.random.below(400) {
            0 if self.large => (4 << 20) + self.random.below(3000),
            1..40 => 8 + self.random.below(40_000),
            _ => 8 + self.random.below(3000),
        };
        length as usize
    }

    /// Gives the record's number, if it could be begun.
    fn begin(&mut self, length: usize) -> Option<usize> {
        if self.life().callers.len() >= CALLERS {
            return None;
        }
        let number = self.records.len();
        self.clock += self.random.below(10) as i64;
        // Spark's clocks go back a little, now and then.
        let time = self.clock - if self.random.percent(10) { self.random.below(20) as i64 } else { 0 };
        let mut bytes = vec![number as u8; length];
        bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
        let now = self.now;
        let prepared = self.life().shared.coder.prepare(&mut Slice(&bytes), length as u32);
        let coded = prepared.expect("memory can be copied").coded;
        if coded.codec.packing != Packing::None {
            self.seen.note("compressed records", 1);
        }
        if coded.codec.sealed {
            self.seen.note("encrypted records", 1);
        }
        // In this order: where there are barriers a seed gives the run that it always gave.
        let small = coded.length <= LoneGroup::MOST && !coded.codec.sealed;
        let lone = if !self.is_durable() && small && self.random.percent(70) {
            self.with(|core| core.go_alone(now, coded.length, time))
        } else {
            None
        };
        let caller = match lone {
            Some(lone) => {
                self.seen.note("records that went alone", 1);
                Caller::Lone { record: number, lone }
            }
            None => match self.join(number, coded.length, time, false) {
                Ok(caller) => caller?,
                Err(Error::Closed(_)) if self.life().closing => return None,
                Err(e) => panic!("a record is refused: {e}"),
            },
        };
        self.life_mut().callers.push(caller);
        self.say(|| format!("begin {number} of {length} bytes at time {time}"));
        self.records.push(Record { bytes, time, generation: self.generation, fate: Fate::Open });
        Some(number)
    }

    /// Gives the record a seat in a group; `None` if there is no memory now.
    fn join(&mut self, record: usize, length: u32, time: i64, again: bool) -> Result<Option<Caller>> {
        let now = self.now;
        let reserve = if again { Core::rejoin } else { Core::reserve };
        Ok(match self.with(|core| reserve(core, now, length, time))? {
            Reserved::Seat(seat, seen, look) => {
                Some(Caller::Copying { record, seat, idle: (!look).then_some(seen) })
            }
            Reserved::Large(group, buffers) => {
                self.seen.note("large records", 1);
                Some(Caller::Large { record, group, buffers: Some(buffers) })
            }
            Reserved::Wait(gate, _) => {
                self.with(|core| core.leave_line(&gate));
                None
            }
        })
    }

    /// Writes the record of a caller that goes by itself.
    fn write_alone(&self, record: usize, lone: &Lone) -> Result<(u32, Placed, Written)> {
        let Record { bytes, time, .. } = &self.records[record];
        let coder = &self.life().shared.coder;
        let prepared = coder.prepare(&mut Slice(bytes), bytes.len() as u32).expect("memory can be copied");
        let packed = prepared.packed.as_ref().map_or(bytes.as_slice(), |p| p.bytes());
        let mut room = vec![0; LoneGroup::ROOM];
        let group = LoneGroup::stage(&mut room, &mut Slice(packed), prepared.coded, *time);
        group.expect("memory can be copied").write(lone.segment.as_ref(), &lone.stamp)
    }

    fn complete_alone(&mut self, record: usize, lone: Lone) {
        let written = self.write_alone(record, &lone);
        self.say(|| format!("write of record {record}, alone: {:?}", written.as_ref().map(|(_, p, _)| p)));
        if self.world.is_dark() {
            return;
        }
        let Lone { stamp, ticket, .. } = lone;
        let crc = written.as_ref().map_or(0, |(crc, ..)| *crc);
        match &written {
            Ok(_) => self.stamps.push(stamp),
            Err(_) => self.seen.note("segments poisoned", 1),
        }
        let result = written.map(|(_, placed, written)| (placed, written));
        let now = self.now;
        self.with(|core| core.done(now, Outcome::Written { sequence: stamp.sequence, result }));
        let frame = PlacedFrame { place: stamp.place, offset: stamp.offset + GROUP_HEADER as u64, crc };
        self.go_on(record);
        self.ask_fate(record, ticket, frame);
    }

    fn ask_fate(&mut self, record: usize, ticket: u64, frame: PlacedFrame) {
        match self.with(|core| core.fate(ticket)) {
            LoneFate::Acknowledged => {
                let length = self.records[record].bytes.len() as u32;
                let handle = self.life().shared.handle_of(frame, length);
                self.answered(record, Ok(handle));
            }
            LoneFate::Waits(gate, seen) => {
                self.seen.note("lone records that waited", 1);
                self.life_mut().callers.push(Caller::Ordered { record, ticket, frame, gate, seen });
            }
            LoneFate::Refused => {
                self.seen.note("lone records refused", 1);
                self.life_mut().callers.push(Caller::Refused { record, again: true });
            }
        }
    }

    /// Those that wait for the ones before them look again where they were told to, and the refused go with others.
    fn look_after_lone_ones(&mut self) {
        for caller in std::mem::take(&mut self.life_mut().callers) {
            match caller {
                Caller::Ordered { record, ticket, frame, gate, seen } if gate.seen() != seen => {
                    self.ask_fate(record, ticket, frame);
                }
                other => self.life_mut().callers.push(other),
            }
        }
        for caller in std::mem::take(&mut self.life_mut().callers) {
            let Caller::Refused { record, again } = caller else {
                self.life_mut().callers.push(caller);
                continue;
            };
            let Record { bytes, time, .. } = &self.records[record];
            let (time, coder) = (*time, &self.life().shared.coder);
            let prepared = coder.prepare(&mut Slice(bytes), bytes.len() as u32);
            let length = prepared.expect("memory can be copied").coded.length;
            match self.join(record, length, time, again) {
                Ok(Some(caller)) => self.life_mut().callers.push(caller),
                Ok(None) => self.life_mut().callers.push(Caller::Refused { record, again: false }),
                Err(e) => self.answered(record, Err(e)),
            }
        }
    }

    /// A caller's copy is done (or fails).
    fn fill(&mut self) {
        let Some(i) = self.pick(|c| matches!(c, Caller::Copying { .. })) else { return };
        let Caller::Copying { record, seat, idle } = self.life_mut().callers.swap_remove(i) else { return };
        if self.random.percent(3) {
            // Its source threw: the seat becomes a void frame, and the record is refused.
            drop(seat);
            self.with(Core::look_again);
            self.say(|| format!("refused {record}"));
            self.records[record].fate = Fate::Failed(0);
            return;
        }
        let (group, index) = {
            let bytes = &self.records[record].bytes;
            let coder = &self.life().shared.coder;
            let prepared =
                coder.prepare(&mut Slice(bytes), bytes.len() as u32).expect("memory can be copied");
            let packed = prepared.packed.as_ref().map_or(bytes.as_slice(), |p| p.bytes());
            let staging = &self.life().shared.staging;
            seat.fill(&mut Slice(packed), prepared.coded, staging).expect("memory can be copied")
        };
        self.say(|| format!("filled {record}"));
        if idle.is_some_and(|seen| group.gate.seen() == seen) {
            self.life_mut().parked.insert(record, None);
            self.say(|| format!("{} waits", name(record)));
        }
        self.life_mut().callers.push(Caller::Waiting { record, group, index });
    }

    fn pick(&mut self, which: impl Fn(&Caller) -> bool) -> Option<usize> {
        let callers = &self.life.as_ref().expect("open").callers;
        let all: Vec<usize> = (0..callers.len()).filter(|i| which(&callers[*i])).collect();
        (!all.is_empty()).then(|| all[self.random.below(all.len() as u64) as usize])
    }

    /// Callers whose group was answered go.
    fn answers(&mut self) {
        self.look_after_lone_ones();
        let mut i = 0;
        while i < self.life().callers.len() {
            let open = match &self.life().callers[i] {
                Caller::Waiting { group, .. } => group.gate.is_open(),
                // Its thread is the one that writes it: who was fenced meanwhile sees so when that is over.
                Caller::Large { group, .. } => group.gate.is_open() && !self.is_writing(group),
                _ => false,
            };
            if !open {
                i += 1;
                continue;
            }
            let life = self.life.as_mut().expect("open");
            let (record, result) = match life.callers.swap_remove(i) {
                Caller::Waiting { record, group, index } => {
                    (record, life.shared.handle(&group, index, self.records[record].bytes.len() as u32))
                }
                Caller::Large { record, group, buffers } => {
                    let result = life.shared.handle(&group, 0, self.records[record].bytes.len() as u32);
                    if let Some(buffers) = buffers {
                        life.shared.commit.with(|core| core.give_back(buffers));
                    }
                    (record, result)
                }
                _ => continue,
            };
            self.answered(record, result);
        }
    }

    fn is_writing(&self, group: &sync::Arc<Group>) -> bool {
        let is_it =
            |op: &Op| matches!(op, Op::Write { group: theirs, .. } if sync::Arc::ptr_eq(theirs, group));
        self.life().pending.iter().any(|(op, _)| is_it(op))
    }

    /// A caller has its answer.
    fn answered(&mut self, record: usize, result: Result<RecordHandle>) {
        let life = self.life_mut();
        life.parked.remove(&record);
        if life.zombie {
            assert!(result.is_err(), "a zombie acknowledged record {record} after another took over");
            self.seen.note("zombie writes refused", 1);
            return;
        }
        self.records[record].fate = match result {
            Ok(handle) => {
                self.seen.note("acknowledged", 1);
                self.last_ack = self.events;
                Fate::Acknowledged(handle)
            }
            Err(_) => {
                self.seen.note("answered with an error", 1);
                Fate::Failed(self.events)
            }
        };
        let fate = self.records[record].fate;
        self.say(|| format!("record {record}: {fate:?}"));
    }

    // ---- threads -------------------------------------------------------------------------------------------------

    /// Turns what gates were told into wake-ups: a poke wakes one of those who sleep there, whoever that is.
    fn wake(&mut self) {
        let life = self.life.as_mut().expect("open");
        let mut gates: Vec<(sync::Arc<Gate>, Vec<usize>)> = Vec::new();
        for caller in &life.callers {
            if let Caller::Waiting { record, group, .. } | Caller::Large { record, group, .. } = caller {
                match gates.iter_mut().find(|(g, _)| sync::Arc::ptr_eq(g, &group.gate)) {
                    Some((_, threads)) => threads.push(*record),
                    None => gates.push((group.gate.clone(), vec![*record])),
                }
            }
        }
        let (keepers, drained) = life.shared.commit.with(|c| (c.housekeeper.clone(), c.drained.clone()));
        gates.push((keepers, HOUSEKEEPERS.to_vec()));
        gates.push((drained, vec![CLOSER]));
        let before = std::mem::take(&mut life.delivered);
        for (gate, threads) in gates {
            let now = gate.seen();
            let last = before.iter().find(|(g, _)| sync::Arc::ptr_eq(g, &gate)).map_or(0, |(_, n)| *n);
            for _ in last..now.min(last.saturating_add(64)) {
                let asleep: Vec<usize> =
                    threads.iter().copied().filter(|t| life.parked.contains_key(t)).collect();
                if !asleep.is_empty() {
                    let lucky = asleep[self.random.below(asleep.len() as u64) as usize];
                    life.parked.remove(&lucky);
                }
            }
            life.delivered.push((gate, now));
        }
    }

    /// Threads that are awake and not at the device.
    fn awake(&self) -> Vec<(usize, Worker)> {
        let life = self.life();
        let callers = life.callers.iter().filter_map(|c| match c {
            Caller::Waiting { record, group, .. } | Caller::Large { record, group, .. } => {
                Some((*record, Worker::Member(address(group))))
            }
            _ => None,
        });
        let (kept, drained) = life.shared.commit.with(|c| (c.housekeeper.is_open(), c.drained.is_open()));
        let keepers = HOUSEKEEPERS.into_iter().filter(|_| !kept).map(|h| (h, Worker::Housekeeper));
        let closer = (life.closing && !drained).then_some((CLOSER, Worker::Closer));
        let free = |thread: usize| {
            let sleeps = life.parked.get(&thread).is_some_and(|until| until.is_none_or(|t| t > self.now));
            !sleeps && life.pending.iter().all(|(_, by)| *by != thread)
        };
        callers.chain(keepers).chain(closer).filter(|(thread, _)| free(*thread)).collect()
    }

    /// A thread that is awake asks for something to do, and sleeps if there is nothing.
    fn step(&mut self) {
        let awake = self.awake();
        if awake.is_empty() {
            return;
        }
        let (thread, worker) = awake[self.random.below(awake.len() as u64) as usize];
        let now = self.now;
        match self.with(|core| core.step(now, worker)) {
            Step::Do(op) => {
                self.say(|| format!("{} takes {}", name(thread), brief(&op)));
                if worker == Worker::Housekeeper && matches!(op, Op::Write { .. }) {
                    self.seen.note("marks", 1);
                }
                let life = self.life_mut();
                life.parked.remove(&thread);
                life.pending.push((op, thread));
                let writes = life.pending.iter().filter(|(op, _)| matches!(op, Op::Write { .. })).count();
                self.seen.note("several in flight", u64::from(writes > 1));
            }
            Step::Idle(until) => {
                let for_long = until.map(|t| t.saturating_duration_since(now));
                self.say(|| format!("{} finds nothing to do, and sleeps {for_long:?}", name(thread)));
                self.life_mut().parked.insert(thread, until);
            }
        }
    }

    /// An operation that was taken is carried out, in no order, and its outcome told.
    fn complete(&mut self) {
        let pending = &self.life().pending;
        let ready: Vec<usize> = (0..pending.len()).filter(|i| !waits_for_copies(&pending[*i].0)).collect();
        let lone = self.lone_ones() as u64;
        if lone > 0 && self.random.below(ready.len() as u64 + lone) < lone {
            let i = self.pick(|c| matches!(c, Caller::Lone { .. })).expect("there is one");
            let Caller::Lone { record, lone } = self.life_mut().callers.swap_remove(i) else { return };
            return self.complete_alone(record, lone);
        }
        if ready.is_empty() {
            return;
        }
        let i = ready[self.random.below(ready.len() as u64) as usize];
        let (op, by) = self.life_mut().pending.swap_remove(i);
        let text = brief(&op);
        if let Op::Delete { open, .. } = &op {
            self.seen.note("segments cleaned without a footer", open.len() as u64);
        }
        let stamp = match &op {
            Op::Write { stamp, .. } => Some(*stamp),
            _ => None,
        };
        let outcome = self.carry_out(op);
        self.say(|| format!("{text}: {}", how(&outcome)));
        // What failed for want of power is told to nobody: the machine is dark.
        if self.world.is_dark() {
            return;
        }
        if let (Outcome::Written { result, .. }, Some(stamp)) = (&outcome, stamp) {
            match result {
                Ok(_) => self.stamps.push(stamp),
                Err(_) => self.seen.note("segments poisoned", 1),
            }
        }
        let now = self.now;
        self.with(|core| core.done(now, outcome));
        if stamp.is_some() {
            self.go_on(by);
        }
    }

    /// Without barriers whoever has just written goes on with what others wait for, now and then.
    fn go_on(&mut self, by: usize) {
        if self.is_durable() || self.life().closing || self.random.percent(50) {
            return;
        }
        let now = self.now;
        if let Some(op) = self.with(|core| core.go_on(now, Worker::Lone)) {
            self.say(|| format!("{} goes on with {}", name(by), brief(&op)));
            self.seen.note("went on for others", 1);
            self.life_mut().pending.push((op, by));
        }
    }

    /// Callers that write by themselves.
    fn lone_ones(&self) -> usize {
        self.life().callers.iter().filter(|c| matches!(c, Caller::Lone { .. })).count()
    }

    fn carry_out(&mut self, op: Op) -> Outcome {
        let life = self.life.as_mut().expect("open");
        match op {
            Op::Write { group, segment, stamp, barrier } if group.large.is_some() => {
                let align = life.shared.align;
                let caller = life.callers.iter_mut().find_map(|c| match c {
                    Caller::Large { record, group: theirs, buffers } if sync::Arc::ptr_eq(theirs, &group) => {
                        Some((*record, buffers.as_mut()?))
                    }
                    _ => None,
                });
                let (record, buffers) = caller.expect("a large record's owner waits for it");
                let bytes = &self.records[record].bytes;
                let coder = &life.shared.coder;
                let prepared = coder.prepare(&mut Slice(bytes), bytes.len() as u32);
                let prepared = prepared.expect("memory can be copied");
                let packed = prepared.packed.as_ref().map_or(bytes.as_slice(), |p| p.bytes());
                let (coded, key) = (prepared.coded, coder.key());
                let mut source = Slice(packed);
                assert!(!source.is_empty());
                let large = group.large.expect("large");
                // One lane: with threads a seed would not replay.
                let (segment, stamp, staging) = (segment.as_ref(), &stamp, &life.shared.staging);
                let target = Target { segment, stamp, barrier, align, coded, key, lanes: 1, staging };
                let result = write_large(&target, large, buffers, &mut source);
                let result = result.map(|large| {
                    group.note_frame(large.frame);
                    (large.placed, large.written)
                });
                Outcome::Written { sequence: stamp.sequence, result }
            }
            op => life.shared.carry_out(op),
        }
    }

    /// Nothing fails and nothing new comes: everybody is answered, and then the log falls silent and says so. Threads are
    /// woken only by what the machine wakes, so a lost wake-up is a hang here.
    pub(super) fn settle(&mut self) {
        self.world.set_faults(Faults::default());
        self.world.keep_power();
        self.faulty = false;
        self.drain();
        let left = self.life().callers.len();
        assert!(left == 0, "{left} callers hang: {}", self.with(|core| core.trouble()));
        if self.life().closing {
            assert!(self.with(|c| c.drained.is_open()), "the closer hangs: {}", self.with(|c| c.trouble()));
            self.finish_close();
            return;
        }
        if self.is_durable() {
            let uncovered = self.with(|core| core.is_uncovered());
            assert!(!uncovered, "silence, and no mark: {}", self.with(|core| core.trouble()));
        }
        assert!(!self.with(|c| c.is_cleaning()), "a clean hangs: {}", self.with(|core| core.trouble()));
        // Whatever happened before, it works again.
        let last = self.begin(8).expect("room for one");
        self.drain();
        let fate = self.records[last].fate;
        assert!(
            matches!(fate, Fate::Acknowledged(_) | Fate::Failed(0)),
            "nothing fails any more, but a record is answered with an error"
        );
        self.seen.note("settled", 1);
    }

    fn drain(&mut self) {
        let until = self.now + Duration::from_secs(30);
        for _ in 0..20_000 {
            self.fill();
            self.answers();
            self.wake();
            if self.lone_ones() > 0 || self.life().pending.iter().any(|(op, _)| !waits_for_copies(op)) {
                self.complete();
            } else if !self.awake().is_empty() {
                self.step();
            } else {
                let parked = self.life().parked.values().flatten();
                let next = parked.filter(|t| **t > self.now).min().copied();
                match next {
                    // A copy that takes its time keeps others asleep; it ends without anybody's help.
                    _ if self.life().callers.iter().any(|c| matches!(c, Caller::Copying { .. })) => {}
                    Some(t) if t < until => self.now = t,
                    _ => break,
                }
            }
        }
    }

    fn clean(&mut self) {
        let threshold = self.clock - 30 - self.random.below(100) as i64;
        if threshold > self.asked {
            self.asked = threshold;
            self.seen.note("cleans", 1);
            let insist = self.random.percent(30);
            self.with(|core| core.clean(threshold, insist));
            self.say(|| format!("clean({threshold}), insist: {insist}"));
        }
    }

    // ---- ends ----------------------------------------------------------------------------------------------------

    fn close(&mut self) {
        if !self.life().closing {
            self.say(|| "close".into());
            self.with(Core::begin_close);
            self.life_mut().closing = true;
        }
    }

    /// Once everything is sealed and let go, the next open begins where it ended.
    fn finish_close(&mut self) {
        let life = self.life();
        let done = life.closing
            && life.callers.is_empty()
            && life.pending.is_empty()
            && self.with(|c| c.drained.is_open());
        if done {
            self.note_cleaned();
            let life = self.life.take().expect("open");
            let _ = life.shared.storage.drop_spares();
            drop(life);
            self.scan = None;
            self.world.set_faults(Faults::default());
            self.faulty = false;
            self.say(|| "closed".into());
            self.seen.note("closed", 1);
            self.open();
            self.check();
        }
    }

    /// Operations at the device when the end comes: each was done, or not, or in part.
    fn tear(&mut self) {
        if self.world.is_dark() {
            return;
        }
        self.world.set_faults(Faults::default());
        for (op, _) in std::mem::take(&mut self.life_mut().pending) {
            if !waits_for_copies(&op) {
                self.tear_one(|run| drop(run.carry_out(op)));
            }
        }
        for caller in std::mem::take(&mut self.life_mut().callers) {
            if let Caller::Lone { record, lone } = &caller {
                self.tear_one(|run| drop(run.write_alone(*record, lone)));
            }
            self.life_mut().callers.push(caller);
        }
    }

    fn tear_one(&mut self, carry_out: impl FnOnce(&mut Run)) {
        match self.random.below(4) {
            0 => {}
            1 => carry_out(self),
            _ => {
                self.world.cut_power_after(self.random.below(3) / 2);
                carry_out(self);
                self.world.keep_power();
            }
        }
    }

    fn note_cleaned(&mut self) {
        if self.is_durable() {
            self.cleaned = self.cleaned.max(self.with(|c| c.durable_threshold()));
        }
    }

    /// The power goes, or the process is killed with everything that it wrote in the cache: what must be there is there.
    fn crash(&mut self, power: bool) {
        self.say(|| if power { "the power goes".into() } else { "kill -9".to_owned() });
        self.note_cleaned();
        self.tear();
        self.scan = None;
        self.faulty = false;
        self.life = None;
        self.seen.note("crashes", 1);
        if power {
            self.seen.note("crashes with unsynced data", u64::from(self.world.is_dirty()));
            self.lose_power();
        } else {
            self.seen.note("killed processes", 1);
            self.world.take_over();
        }
        self.open();
        self.check();
    }

    fn lose_power(&mut self) {
        if !self.is_durable() {
            self.seen.note("power cuts with durability=os", 1);
            self.stamps.clear();
            self.evaporate();
        }
        self.world.restart();
    }

    /// Another process takes over while this one goes on: whatever it still does is refused, and it answers everybody.
    fn take_over(&mut self) {
        if self.role() == Role::Receivers {
            return self.crash(false);
        }
        self.say(|| "another process takes over".into());
        self.note_cleaned();
        self.scan = None;
        self.faulty = false;
        let mut old = self.life.take().expect("open");
        self.world.take_over();
        self.open();
        self.check();
        old.zombie = true;
        let new = self.life.replace(old);
        self.now += Duration::from_secs(1);
        self.drain();
        let left = self.life().callers.len();
        assert!(left == 0, "{left} callers of a zombie hang: {}", self.with(|core| core.trouble()));
        self.life = new;
        self.seen.note("take-overs from a zombie", 1);
        self.check();
    }
}

pub(super) fn is_io(e: &Error) -> bool {
    matches!(e, Error::Io { .. } | Error::StorageFull { .. }) && !e.is_not_found()
}

/// Whether it must not be carried out yet: whoever does would sleep until the copies are done.
fn waits_for_copies(op: &Op) -> bool {
    matches!(op, Op::Write { group, .. } if group.copies.any())
}

fn name(thread: usize) -> String {
    match thread {
        CLOSER => "the closer".into(),
        t if HOUSEKEEPERS.contains(&t) => format!("housekeeper {}", usize::MAX - t),
        record => format!("the writer of {record}"),
    }
}

fn brief(op: &Op) -> String {
    match op {
        Op::Write { stamp, .. } => format!(
            "write of group {} to segment {} at {}, {} bytes, watermark {}",
            stamp.sequence,
            stamp.place.segment,
            stamp.offset / u64::from(BLOCK) * u64::from(BLOCK),
            stamp.footprint,
            stamp.watermark
        ),
        other => format!("{other:?}"),
    }
}

fn how(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Written { result: Ok(_), .. } | Outcome::Created { result: Ok(_), .. } => "well".into(),
        Outcome::Written { result: Err(e), .. } => e.to_string(),
        other => format!("{other:?}"),
    }
}
