//! The machine alone, by hand, where a simulation would need a coincidence.

use std::{
    io::IoSlice,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::io::Errno;
use uuid::Uuid;

use super::{Config, Core, Op, Outcome, Reserved, Worker, address, gathering::Gathering};
use crate::{
    Error, Result, Role,
    commit::{Machine, Manner, Step},
    log::{
        Slice,
        threshold::Thresholds,
        writer::{
            group::{Group, PlacedFrame},
            pool::Pool,
            segments::Segments,
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
        collect_every: None,
        reserve: false,
        prepare: true,
        spin: true,
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
    let Reserved::Seat(seat, ..) = core.reserve(now, 10, 0)? else { panic!("there is memory") };
    let (group, index): (Arc<Group>, usize) =
        seat.fill(&mut Slice(&[7; 10]), crate::format::Coded::plain(10))?;
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

/// Found by the simulation of object stores: a process that died while a segment was on its way left a log whose low-water mark
/// named that one, which never came to be.
#[test]
fn the_low_water_mark_names_a_segment_that_is_there() {
    let now = Instant::now();
    let mut core = core(Duration::ZERO);
    (core.config.deferred, core.config.groups, core.config.in_flight) = (true, 1, 4);
    append(&mut core, now).expect("nothing fails");
    let Ok(Reserved::Seat(seat, ..)) = core.reserve(now, 10, 0) else { panic!("there is memory") };
    let (group, _) = seat.fill(&mut Slice(&[7; 10]), crate::format::Coded::plain(10)).expect("a copy");
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
    let after = |barrier| {
        let mut gathering = Gathering::default();
        gathering.took(barrier, 1, 1024);
        [gathering.manner(true), gathering.manner(false)]
    };
    assert_eq!(after(Duration::from_micros(100)), [Manner::Yield, Manner::Sleep]);
    assert_eq!(after(Duration::from_millis(5)), [Manner::Mixed, Manner::Sleep]);
}
