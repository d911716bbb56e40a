//! The machine alone, by hand, where a simulation would need a coincidence.

use std::{
    io::IoSlice,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use rustix::io::Errno;
use uuid::Uuid;

use super::{
    Config, Core, Fate, Op, Outcome, Reserved, Tuning, Unsealed, Worker, Written, address,
    gathering::Gathering,
};
use crate::{
    Error, Result, Role,
    commit::{Gate, Machine, Manner, Step, Wake},
    log::{
        Slice,
        threshold::Thresholds,
        writer::{
            group::{Filling, Group, Placed, PlacedFrame, Spent},
            pool::Pool,
            segments::Segments,
            staging::Staging,
            write_group,
        },
    },
    metrics::Metrics,
    storage::{Barrier, SegmentWrite},
};

fn core(group_linger: Duration) -> Core {
    let metrics = Metrics::of(Role::Receivers);
    let config = Config {
        place: "nowhere".into(),
        block: 4096,
        align: 4096,
        in_flight: 1,
        groups: u32::MAX,
        most_group: u64::MAX,
        deferred: false,
        fenced: false,
        preallocated: true,
        marks: true,
        group_linger,
        durable: true,
        segment_size: 1 << 20,
        rolling_interval: Duration::from_secs(60),
        max_failures: 3,
        write_timeout: Duration::from_secs(10),
        idle_mark: Duration::from_secs(1),
        seal_after: Duration::ZERO,
        most_unsealed: Unsealed::default(),
        collect_every: None,
        reserve: false,
        prepare: true,
        spin: true,
        tuning: Tuning::for_processors(4),
        metrics,
    };
    let segments = Segments::new(Uuid::nil(), Uuid::nil(), Vec::new(), 1, 0);
    Core::new(config, Pool::new(16 << 20, metrics), segments, 1, Thresholds::new(Duration::ZERO, i64::MIN))
}

/// Whoever opens a group that lingers watches its clock. If its copy fails it does not, and the next one must.
#[test]
fn whoever_comes_to_a_deserted_group_watches_its_clock() {
    let now = Instant::now();
    let mut core = core(Duration::from_millis(10));
    let Ok(Reserved::Seat(first, _, true)) = core.reserve(now, 10, 0) else {
        panic!("the first one watches")
    };
    let Ok(Reserved::Seat(second, _, false)) = core.reserve(now, 10, 0) else { panic!("one is enough") };
    // Both copies fail.
    drop((first, second));
    let third = core.reserve(now, 10, 0);
    assert!(matches!(third, Ok(Reserved::Seat(_, _, true))), "nobody watches: {third:?}");
}

#[derive(Debug)]
struct Nowhere;

impl SegmentWrite for Nowhere {
    fn size(&self) -> u64 {
        1 << 20
    }

    fn write(&self, _: u64, _: &mut [IoSlice<'_>], _: Barrier) -> Result<()> {
        Ok(())
    }
}

/// Carries out all that `worker` finds to do. `fails`: writes fail, and so does what is prepared ahead of need.
fn work(core: &mut Core, now: Instant, worker: Worker, fails: bool) {
    let failure = || Error::io("do", "a planned fault", Errno::IO.into());
    while let Step::Do(op) = core.step(now, worker) {
        let outcome = match op {
            Op::Create { id, space, .. } => {
                let made: Box<dyn SegmentWrite> = Box::new(Nowhere);
                let result = if fails && !space.urgent { Err(failure()) } else { Ok(made) };
                Outcome::Created { id, urgent: space.urgent, result }
            }
            Op::Write { group, segment, stamp, barrier } => {
                let written = write_group(segment.as_ref(), &group, &stamp, barrier, None);
                Outcome::Written {
                    sequence: stamp.sequence,
                    result: if fails { Err(failure()) } else { written },
                }
            }
            op => panic!("{op:?} was not expected"),
        };
        core.done(now, outcome);
    }
}

fn append(core: &mut Core, now: Instant) -> Result<PlacedFrame> {
    append_at(core, now, 0)
}

fn append_at(core: &mut Core, now: Instant, time: i64) -> Result<PlacedFrame> {
    let Reserved::Seat(seat, ..) = core.reserve(now, 10, time)? else { panic!("there is memory") };
    let (group, index): (Arc<Group>, usize) =
        seat.fill(&mut Slice(&[7; 10]), crate::format::Coded::plain(10), &Staging::new(false))?;
    work(core, now, Worker::Member(address(&group)), false);
    group.answered(index)
}

/// Found by the simulation: the next record, whenever it came, was answered with the mark's error.
#[test]
fn a_mark_that_failed_is_not_held_against_the_next_record() {
    let mut now = Instant::now();
    let mut core = core(Duration::ZERO);
    append(&mut core, now).expect("nothing fails");
    now += Duration::from_secs(2);
    work(&mut core, now, Worker::Housekeeper, true);
    now += Duration::from_secs(60);
    append(&mut core, now).expect("nothing fails any more");
}

/// How soon each segment will be needed that is prepared ahead of need, while records come one in a millisecond.
#[test]
fn a_prepared_segment_is_needed_when_the_active_one_will_be_full() {
    let mut now = Instant::now();
    let mut core = core(Duration::ZERO);
    let mut asked = Vec::new();
    for _ in 0..600 {
        now += Duration::from_millis(1);
        append(&mut core, now).expect("nothing fails");
        while let Step::Do(op) = core.step(now, Worker::Housekeeper) {
            let outcome = match op {
                Op::Create { id, space, .. } => {
                    asked.push(space.within);
                    Outcome::Created { id, urgent: false, result: Ok(Box::new(Nowhere)) }
                }
                Op::Seal { place, .. } => Outcome::Sealed { id: place.segment, result: Ok(()) },
                op => panic!("{op:?} was not expected"),
            };
            core.done(now, outcome);
        }
    }
    // A segment of 1 MiB has room for some 250 blocks of 4 KiB.
    let [first, second, third] = asked[..] else { panic!("{asked:?}") };
    assert_eq!(first, Duration::MAX, "nothing is known yet");
    for within in [second, third] {
        assert!((Duration::from_millis(240)..Duration::from_millis(270)).contains(&within), "{asked:?}");
    }
}

/// Without barriers a segment's footer is what sends it to the device: what is cleaned soon gets none.
#[test]
fn without_barriers_a_segment_is_sealed_late_or_not_at_all() {
    let begin = Instant::now();
    // What the housekeeper does in this time after four segments were filled, the first two of which may go.
    let chores = |clean: bool, later: Duration, most_unsealed: Unsealed| {
        let mut core = core(Duration::ZERO);
        let late = Duration::from_secs(10);
        (core.config.durable, core.config.seal_after, core.config.most_unsealed) =
            (false, late, most_unsealed);
        // A segment of 1 MiB has room for some 250 blocks of 4 KiB.
        for i in 0..900 {
            append_at(&mut core, begin, i).expect("nothing fails");
        }
        if clean {
            drop(core.clean(600, false));
        }
        let mut done = Vec::new();
        let mut until = None;
        loop {
            let outcome = match core.step(begin + later, Worker::Housekeeper) {
                Step::Do(Op::Create { id, .. }) => {
                    Outcome::Created { id, urgent: false, result: Ok(Box::new(Nowhere)) }
                }
                Step::Do(Op::Seal { place, .. }) => {
                    done.push(format!("seal {}", place.segment));
                    Outcome::Sealed { id: place.segment, result: Ok(()) }
                }
                Step::Do(Op::Write { segment, stamp, .. }) => {
                    drop(segment);
                    let placed = Placed { place: stamp.place, offset: stamp.offset };
                    Outcome::Written { sequence: stamp.sequence, result: Ok((placed, Written::none())) }
                }
                Step::Do(Op::Sync { id, low_water, threshold, .. }) => {
                    Outcome::Synced { id, low_water, threshold, result: Ok(()) }
                }
                Step::Do(Op::Delete { ids, .. }) => {
                    done.extend(ids.iter().map(|id| format!("delete {id}")));
                    Outcome::Deleted { ids, result: Ok(()) }
                }
                Step::Do(op) => panic!("{op:?} was not expected"),
                Step::Idle(again) => {
                    until = again.or(until);
                    break;
                }
            };
            core.done(begin + later, outcome);
        }
        (done, until)
    };
    let (soon, late) = (Duration::from_secs(1), Duration::from_secs(10));
    let any = Unsealed { bytes: u64::MAX, groups: u64::MAX, segments: u64::MAX };
    assert_eq!(chores(true, soon, any).0, ["delete 1", "delete 2"]);
    let (done, until) = chores(false, soon, any);
    assert!(done.is_empty(), "{done:?}");
    assert_eq!(until, Some(begin + late), "it looks again by itself");
    assert_eq!(chores(false, late, any).0, ["seal 1", "seal 2", "seal 3"]);
    for few in
        [Unsealed { bytes: 2 << 20, ..any }, Unsealed { groups: 600, ..any }, Unsealed { segments: 2, ..any }]
    {
        assert_eq!(chores(false, soon, few).0, ["seal 1"], "more than {few:?} do not wait");
    }
}

#[test]
fn a_close_waits_for_a_record_that_was_refused() {
    let now = Instant::now();
    let mut core = core(Duration::ZERO);
    core.config.durable = false;
    append(&mut core, now).expect("nothing fails");
    let lone = core.go_alone(now, 10, 0).expect("nobody waits");
    core.begin_close();
    let failed = Err(Error::io("do", "a planned fault", Errno::IO.into()));
    core.done(now, Outcome::Written { sequence: lone.stamp.sequence, result: failed });
    assert!(matches!(core.fate(lone.ticket), Fate::Refused));
    let step = core.step(now, Worker::Closer);
    let over = core.wakes.iter().any(|w| matches!(w, Wake::Open(gate) if Arc::ptr_eq(gate, &core.drained)));
    assert!(matches!(step, Step::Idle(_)) && !over, "it does not wait: {step:?}");
    assert!(matches!(core.rejoin(now, 10, 0), Ok(Reserved::Seat(..))));
    assert!(matches!(core.reserve(now, 10, 0), Err(Error::Closed(_))), "nobody else comes in");
}

/// Found by the simulation of object stores: a process that died while a segment was on its way left a log whose low-water mark
/// named that one, which never came to be.
#[test]
fn the_low_water_mark_names_a_segment_that_is_there() {
    let now = Instant::now();
    let mut core = core(Duration::ZERO);
    (core.config.deferred, core.config.groups, core.config.in_flight) = (true, 1, 4);
    append(&mut core, now).expect("nothing fails");
    let Ok(Reserved::Seat(seat, ..)) = core.reserve(now, 10, 0) else { panic!("there is memory") };
    let (group, _) = seat
        .fill(&mut Slice(&[7; 10]), crate::format::Coded::plain(10), &Staging::new(false))
        .expect("a copy");
    let on_its_way = loop {
        match core.step(now, Worker::Member(address(&group))) {
            Step::Do(Op::Create { id, space, .. }) => {
                core.done(now, Outcome::Created { id, urgent: space.urgent, result: Ok(Box::new(Nowhere)) });
            }
            Step::Do(op @ Op::Write { .. }) => break op,
            step => panic!("{step:?} was not expected"),
        }
    };
    drop(core.clean(100, false));
    while let Step::Do(op) = core.step(now, Worker::Housekeeper) {
        let outcome = match op {
            Op::Create { id, .. } => Outcome::Created { id, urgent: false, result: Ok(Box::new(Nowhere)) },
            Op::Seal { place, .. } => Outcome::Sealed { id: place.segment, result: Ok(()) },
            op => panic!("{op:?} was not expected"),
        };
        core.done(now, outcome);
    }
    assert_eq!(core.low_water(), 1, "the second segment may never come to be");
    drop(on_its_way);
}

#[test]
fn who_waits_yields_only_for_a_brief_barrier_and_if_it_may() {
    let after = |processors, micros, records, bytes| {
        let mut gathering = Gathering::new(Tuning::for_processors(processors));
        gathering.took(Duration::from_micros(micros), records, bytes);
        gathering.took(Duration::from_micros(micros), 0, 4096);
        [gathering.manner(true), gathering.manner(false)]
    };
    let [asleep, mixed, awake] =
        [Manner::Sleep, Manner::Mixed, Manner::Yield].map(|manner| [manner, Manner::Sleep]);
    for (processors, paired) in [(4, mixed), (2, asleep)] {
        assert_eq!(after(processors, 100, 8, 8192), awake);
        assert_eq!(after(processors, 5_000, 8, 8192), mixed);
        assert_eq!(after(processors, 100, 2, 2048), paired, "a pair");
        assert_eq!(after(processors, 2, 1, 1024), awake, "no barrier at all");
    }
    assert_eq!(after(4, 100, 1, 260 << 10), awake, "others wait for groups of their own");
    assert_eq!(after(2, 100, 1, 260 << 10), asleep, "with few processors");
}

#[test]
fn groups_that_wait_for_nobody_are_larger_with_few_processors() {
    let large = |processors, records: usize, length| {
        let mut pool = Pool::new(16 << 20, Metrics::of(Role::Receivers));
        let mut filling = Filling::new(pool.take().unwrap(), Manner::Sleep, &mut Spent::default());
        let _seats: Vec<_> = (0..records).map(|_| filling.reserve(length, 0)).collect();
        Gathering::new(Tuning::for_processors(processors)).is_large(&filling)
    };
    for (processors, records, bytes) in
        [(1, 32, 1 << 20), (2, 32, 1 << 20), (3, 16, 256 << 10), (4, 16, 256 << 10)]
    {
        assert!(!large(processors, records - 1, 10), "{processors} processors, {records} records");
        assert!(large(processors, records, 10), "{processors} processors, {records} records");
        // Headers count.
        assert!(!large(processors, 1, bytes - 1024), "{processors} processors, {bytes} bytes");
        assert!(large(processors, 1, bytes), "{processors} processors, {bytes} bytes");
    }
}

const LARGE: u32 = 5 << 20;

/// The gate of one that has to wait for memory.
fn hungry(core: &mut Core, length: u32) -> Arc<Gate> {
    match core.reserve(Instant::now(), length, 0) {
        Ok(Reserved::Wait(gate, _)) => gate,
        other => panic!("there is memory for it: {other:?}"),
    }
}

/// Whether the last calls woke only this one of those who wait for memory.
fn only_woke(core: &mut Core, gate: &Arc<Gate>) -> bool {
    let line: Vec<_> = core.hungry.iter().map(|h| Arc::as_ptr(h.gate())).collect();
    let woken: Vec<_> = std::mem::take(core.wakes())
        .into_iter()
        .map(|(Wake::Poke(g) | Wake::PokeAll(g) | Wake::Open(g))| Arc::as_ptr(&g))
        .filter(|g| line.contains(g))
        .collect();
    woken.iter().all(|g| *g == Arc::as_ptr(gate)) && !woken.is_empty()
}

/// All memory, in the hands of two large records.
fn starved() -> (Core, [[BytesMut; 2]; 2]) {
    let mut core = core(Duration::ZERO);
    let taken = [(); 2].map(|()| match core.reserve(Instant::now(), LARGE, 0) {
        Ok(Reserved::Large(_, buffers)) => buffers,
        other => panic!("not a large record: {other:?}"),
    });
    (core, taken)
}

#[test]
fn whoever_waited_longest_for_memory_is_the_next_to_have_it() {
    let now = Instant::now();
    let (mut core, [first, second]) = starved();
    let gates = [LARGE, 10, LARGE].map(|length| hungry(&mut core, length));
    core.wakes().clear();
    core.give_back(first);
    assert!(only_woke(&mut core, &gates[0]));
    // Neither one that comes now is before them, nor one behind in the line.
    let late = hungry(&mut core, 10);
    let overtakes = core.reserve_in_line(now, LARGE, 0, Some(&gates[2]));
    assert!(matches!(overtakes, Ok(Reserved::Wait(..))), "{overtakes:?}");
    let Ok(Reserved::Large(_, third)) = core.reserve_in_line(now, LARGE, 0, Some(&gates[0])) else {
        panic!("there is memory for the first one")
    };
    assert!(core.wakes().is_empty(), "there is none for another: {:?}", core.wakes());
    core.give_back(second);
    assert!(only_woke(&mut core, &gates[1]));
    let Ok(Reserved::Seat(seat, ..)) = core.reserve_in_line(now, 10, 0, Some(&gates[1])) else {
        panic!("there is memory for the second one")
    };
    core.wakes().clear();
    core.give_back(third);
    assert!(only_woke(&mut core, &gates[2]));
    // Who gives up lets the next one have it: that needs none, since there is room in a group.
    core.leave_line(&gates[2]);
    assert!(only_woke(&mut core, &late));
    let joined = core.reserve_in_line(now, 10, 0, Some(&late));
    assert!(matches!(joined, Ok(Reserved::Seat(..))), "{joined:?}");
    assert!(core.hungry.is_empty());
    drop(seat);
}

#[test]
fn all_who_wait_for_memory_hear_that_the_log_is_closed() {
    let (mut core, _taken) = starved();
    let gates = [LARGE, 10, LARGE].map(|length| hungry(&mut core, length));
    core.wakes().clear();
    core.begin_close();
    // All at once: one that panicked would tell nobody.
    assert_eq!(
        core.wakes()
            .iter()
            .filter(|w| matches!(w, Wake::Poke(g) if gates.iter().any(|gate| Arc::ptr_eq(gate, g))))
            .count(),
        3
    );
    for gate in &gates {
        let refused = core.reserve_in_line(Instant::now(), LARGE, 0, Some(gate));
        assert!(matches!(refused, Err(Error::Closed(_))), "{refused:?}");
    }
    assert!(core.hungry.is_empty());
}

/// Records whose copies fail leave groups that nobody writes.
#[test]
fn groups_that_all_have_left_do_not_keep_memory_from_others() {
    let now = Instant::now();
    let mut core = core(Duration::ZERO);
    let most = 3 << 20;
    let seats: Vec<_> = (0..4)
        .map(|_| match core.reserve(now, most, 0) {
            Ok(Reserved::Seat(seat, ..)) => seat,
            other => panic!("there is memory: {other:?}"),
        })
        .collect();
    let gate = hungry(&mut core, LARGE);
    core.wakes().clear();
    for seat in seats {
        drop(seat);
        core.look_again();
    }
    assert!(only_woke(&mut core, &gate));
    let reserved = core.reserve_in_line(now, LARGE, 0, Some(&gate));
    assert!(matches!(reserved, Ok(Reserved::Large(..))), "{reserved:?}");
}
