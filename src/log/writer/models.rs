//! `make loom`: the writer's threads, in every order in which they can run, up to a number of preemptions.
//!
//! The machine, the gates and the storage are the real ones, the last one simulated. loom says so if a thread sleeps for
//! ever: there are no timers here that would wake it (`crate::sync`). That it sees is shown as for the simulation, by
//! bugs that are planted; where those are is `src/planted.rs`.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use loom::thread;
use uuid::Uuid;

use super::{
    Writer,
    core::{Core, Op, Outcome, Reserved, Worker, address},
    staging::Staging,
};
use crate::{
    Options, Role,
    error::{Error, Result},
    format::Coded,
    handle::RecordHandle,
    log::{RecordSource, Slice, read::Reader, recover::Recovered},
    options::Durability,
    planted::{Bug, Guard},
    report::RecoveryReport,
    storage::{Home, Which, sim::World},
    sync,
    turnstile::Turnstile,
};

/// Tries all orders with so many preemptions at most. FERROWAL_BUG names a bug to be planted in all of them.
fn every_order(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let bug = std::env::var("FERROWAL_BUG").ok();
    let bug = bug.map(|name| {
        *Bug::ALL
            .iter()
            .find(|b| format!("{b:?}") == name)
            .unwrap_or_else(|| panic!("there is no bug {name}"))
    });
    let _guard = Guard::new(bug, usize::MAX);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 10_000;
    let tried = Arc::new(AtomicUsize::new(0));
    let count = tried.clone();
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        model();
    });
    println!("{} orders", tried.load(Ordering::Relaxed));
}

/// A writer on a fresh log, without threads of its own. `keep`: segments are to be made ahead of need, by a housekeeper.
fn writer(in_flight: usize, keep: bool) -> Arc<Writer> {
    writer_with(in_flight, keep, Durability::Device)
}

fn writer_with(in_flight: usize, keep: bool, durability: Durability) -> Arc<Writer> {
    let mut options = Options::new("/modelled", Role::Receivers);
    options.durability = durability;
    writer_of(in_flight, keep, options)
}

fn writer_of(in_flight: usize, keep: bool, mut options: Options) -> Arc<Writer> {
    let world = World::new(1, in_flight);
    options.clean_grace = Duration::ZERO;
    let ids = (world.log(), Uuid::from_u128(7));
    let which = Which::Receiver(ids.1);
    let claim = world.claim(which, Duration::ZERO).expect("free");
    let recovered = Recovered {
        segments: Vec::new(),
        next_id: 1,
        sequence: 1,
        generation: 1,
        epoch: 1,
        threshold: i64::MIN,
        low_water: 0,
        ready: None,
        report: RecoveryReport::default(),
    };
    let homes: (Arc<dyn Home>, Arc<Reader>) = (Arc::new(world), Arc::new(Reader::new(Duration::ZERO)));
    let shared = Writer::assemble(&options, homes, which, ids, claim, recovered, keep);
    Arc::new(Writer { shared: Arc::new(shared), housekeepers: Mutex::default(), temporary: !keep })
}

/// Appends, and notes which groups it made durable. When it is answered, all that is acknowledged is durable.
fn append_noting(writer: &Writer, length: usize, durable: &Mutex<BTreeSet<u64>>) -> Result<()> {
    let shared = &writer.shared;
    let reserved = shared.commit.with(|core| core.reserve(sync::now(), length as u32, 0))?;
    let Reserved::Seat(seat, seen, look) = reserved else {
        panic!("there is memory, and the record is small")
    };
    let (group, index) =
        seat.fill(&mut Slice(&vec![7; length]), Coded::plain(length as u32), &Staging::new(false))?;
    let worker = Worker::Member(address(&group));
    shared.commit.drive_after(worker, &group.gate, (!look).then_some(seen), |op| {
        let outcome = shared.carry_out(op);
        if let Outcome::Written { sequence, result: Ok(_) } = &outcome {
            durable.lock().expect("no panic").insert(*sequence);
        }
        outcome
    });
    let handle = shared.handle(&group, index, length as u32);
    let (acked, durable) = (writer.acked(), durable.lock().expect("no panic"));
    assert!((1..acked).all(|s| durable.contains(&s)), "below {acked} only {durable:?} are durable");
    handle.map(drop)
}

fn append(writer: &Writer, n: u8) -> Result<RecordHandle> {
    writer.append(&mut Slice(&[n; 10]), i64::from(n))
}

/// A record that cannot be copied.
struct Broken;

impl RecordSource for Broken {
    fn len(&self) -> usize {
        10
    }

    fn copy(&mut self, _: usize, _: &mut [u8]) -> Result<()> {
        Err(Error::Internal("this record cannot be copied".into()))
    }
}

#[test]
fn whoever_waits_is_answered() {
    every_order(2, || {
        let writer = writer(1, false);
        let others = [1, 2].map(|n| {
            let writer = writer.clone();
            thread::spawn(move || append(&writer, n).expect("acknowledged"))
        });
        let mut places = vec![append(&writer, 0).expect("acknowledged")];
        places.extend(others.map(|t| t.join().expect("no panic")));
        places.sort_by_key(|h| (h.segment, h.offset));
        places.dedup_by_key(|h| (h.segment, h.offset));
        assert_eq!(places.len(), 3, "two records have one place");
    });
}

/// The second round goes through the first one's groups and gates again.
#[test]
fn whoever_comes_back_is_answered() {
    every_order(2, || {
        let writer = writer(1, false);
        let other = writer.clone();
        let other = thread::spawn(move || {
            for n in 0..2 {
                append(&other, n).expect("acknowledged");
            }
        });
        for n in 0..2 {
            append(&writer, n).expect("acknowledged");
        }
        other.join().expect("no panic");
    });
}

#[test]
fn acknowledgement_is_in_sequence_with_two_groups_in_flight() {
    every_order(3, || {
        let writer = writer(2, false);
        let durable = Arc::new(Mutex::new(BTreeSet::new()));
        // Large enough not to wait for the device to be idle.
        let other = (writer.clone(), durable.clone());
        let other = thread::spawn(move || append_noting(&other.0, 270_000, &other.1).expect("acknowledged"));
        append_noting(&writer, 270_000, &durable).expect("acknowledged");
        other.join().expect("no panic");
    });
}

/// Without barriers, records that go by themselves are answered in order, and nobody stays asleep over that.
#[test]
fn records_that_go_alone_are_answered() {
    every_order(2, || {
        let writer = writer_with(2, false, Durability::Os);
        // Makes the segment, and goes with nobody.
        let mut places = vec![append(&writer, 0).expect("acknowledged")];
        let other = writer.clone();
        let other = thread::spawn(move || [1, 2].map(|n| append(&other, n).expect("acknowledged")));
        places.push(append(&writer, 3).expect("acknowledged"));
        places.extend(other.join().expect("no panic"));
        places.sort_by_key(|h| (h.segment, h.offset));
        places.dedup_by_key(|h| (h.segment, h.offset));
        assert_eq!(places.len(), 4, "two records have one place");
        assert_eq!(writer.acked(), 5, "a group is lost");
    });
}

/// Others that left looking for work to this caller go on without it.
#[test]
fn a_copy_that_fails_leaves_nobody_behind() {
    every_order(4, || {
        let writer = writer(1, false);
        let other = writer.clone();
        let other = thread::spawn(move || append(&other, 1).expect("acknowledged"));
        let broken = writer.append(&mut Broken, 0).expect_err("it was not copied");
        assert!(matches!(broken, Error::Internal(_)), "{broken}");
        other.join().expect("no panic");
    });
}

#[test]
fn a_worker_that_panics_leaves_nobody_waiting() {
    every_order(2, || {
        let writer = writer(1, false);
        let panicked = Arc::new(AtomicBool::new(false));
        let callers = [1u8, 2].map(|n| {
            let (writer, panicked) = (writer.clone(), panicked.clone());
            thread::spawn(move || {
                let _may_panic = catch_unwind(AssertUnwindSafe(|| append_or_panic(&writer, n, &panicked)));
            })
        });
        for caller in callers {
            caller.join().expect("caught");
        }
        assert!(panicked.load(Ordering::Relaxed));
        let error = append(&writer, 3).expect_err("the log is over");
        assert!(error.to_string().contains("panic"), "{error}");
    });
}

/// Panics in the first write. Whoever else waits gets the error.
fn append_or_panic(writer: &Writer, n: u8, panicked: &AtomicBool) {
    let shared = &writer.shared;
    let reserved = match shared.commit.with(|core| core.reserve(sync::now(), 1, 0)) {
        Ok(reserved) => reserved,
        Err(error) => return assert!(panicked.load(Ordering::Relaxed), "{error}"),
    };
    let Reserved::Seat(seat, seen, look) = reserved else {
        panic!("there is memory, and the record is small")
    };
    let (group, index) = seat.fill(&mut Slice(&[n]), Coded::plain(1), &Staging::new(false)).expect("copied");
    let worker = Worker::Member(address(&group));
    shared.commit.drive_after(worker, &group.gate, (!look).then_some(seen), |op| {
        if matches!(op, Op::Write { .. }) {
            panicked.store(true, Ordering::Relaxed);
            resume_unwind(Box::new("planned"));
        }
        shared.carry_out(op)
    });
    shared.handle(&group, index, 1).expect_err("nothing was ever written");
}

/// Two writers, and all memory in the hands of another, which gives it back.
fn without_memory(
    meanwhile: impl Fn(&Writer),
    answer: impl Fn(Result<RecordHandle>) + Copy + Send + 'static,
) {
    let mut options = Options::new("/modelled", Role::Receivers);
    // Two buffers.
    options.memory = 8 << 20;
    let writer = writer_of(1, false, options);
    let all = writer.shared.commit.with(|core| core.take_two()).expect("nobody else has any");
    let others = [1, 2].map(|n| {
        let writer = writer.clone();
        thread::spawn(move || answer(append(&writer, n)))
    });
    meanwhile(&writer);
    writer.shared.commit.with(|core| core.give_back(all));
    others.into_iter().for_each(|t| t.join().expect("no panic"));
}

#[test]
fn whoever_waits_for_memory_has_it_when_it_is_given_back() {
    every_order(2, || without_memory(|_| (), |result| assert!(result.is_ok(), "{result:?}")));
}

#[test]
fn whoever_waits_for_memory_hears_of_a_close() {
    every_order(2, || {
        without_memory(
            |writer| writer.shared.commit.with(Core::begin_close),
            |result| assert!(matches!(result, Ok(_) | Err(Error::Closed(_))), "{result:?}"),
        );
    });
}

#[test]
fn a_close_beside_writes_ends_and_answers_them() {
    every_order(4, || {
        let writer = writer(1, false);
        let other = writer.clone();
        let other = thread::spawn(move || match append(&other, 1) {
            Ok(_) | Err(Error::Closed(_)) => {}
            Err(e) => panic!("{e}"),
        });
        writer.close();
        other.join().expect("no panic");
    });
}

/// The housekeeper makes the next segment while a caller needs it, and whoever is second waits for the other.
#[test]
fn a_segment_that_another_thread_makes_is_waited_for() {
    every_order(2, || {
        let writer = writer(1, true);
        let shared = writer.shared.clone();
        let housekeeper = thread::spawn(move || shared.keep_house());
        // The first segment has room for one of these.
        let durable = Mutex::new(BTreeSet::new());
        for _ in 0..2 {
            append_noting(&writer, 600_000, &durable).expect("acknowledged");
        }
        writer.close();
        housekeeper.join().expect("no panic");
    });
}

/// Whoever finds no place at the turnstile is called when there is one, whoever else comes and goes,
#[test]
fn whoever_waits_at_the_turnstile_comes_in() {
    every_order(3, || all_come_in(1, Duration::MAX, [1, 2]));
}

/// or is given one.
#[test]
fn whoever_waits_at_the_turnstile_is_given_a_place() {
    every_order(3, || all_come_in(1, Duration::ZERO, [1, 2]));
}

/// Where two leave and call one, that one calls the other.
#[test]
fn whoever_waits_at_a_turnstile_of_two_places_comes_in() {
    every_order(2, || all_come_in(2, Duration::MAX, [1, 1, 1]));
}

#[test]
fn whoever_waits_at_a_turnstile_of_two_places_is_given_one() {
    every_order(2, || all_come_in(2, Duration::ZERO, [1, 1, 1]));
}

/// The first who leaves hands its place over, and nobody else does.
#[test]
fn whoever_waits_at_a_turnstile_comes_in_with_or_without_being_given_a_place() {
    every_order(2, || all_come_in(2, Duration::from_nanos(1), [1, 1, 1]));
    every_order(2, || all_come_in(1, Duration::from_nanos(1), [1, 2]));
}

fn all_come_in<const OTHERS: usize>(places: u32, turn: Duration, times: [u32; OTHERS]) {
    let turnstile = Arc::new(Turnstile::new(places, turn));
    let others = times.map(|times| {
        let turnstile = turnstile.clone();
        thread::spawn(move || (0..times).for_each(|_| drop(turnstile.enter())))
    });
    drop(turnstile.enter());
    others.into_iter().for_each(|t| t.join().expect("no panic"));
    assert!(turnstile.is_empty(), "a place was lost");
}

/// A missing wake-up call is seen, and so is an answer too early.
#[test]
fn what_is_planted_is_found() {
    for (bug, model, says) in [
        ("WakeOnlyLeader", "whoever_waits_is_answered", "deadlock"),
        ("LeaveLoneAsleep", "records_that_go_alone_are_answered", "deadlock"),
        ("LostWakeUp", "a_segment_that_another_thread_makes_is_waited_for", "deadlock"),
        ("AcknowledgeOutOfOrder", "acknowledgement_is_in_sequence_with_two_groups_in_flight", "are durable"),
    ] {
        // A process of its own: what a model that failed leaves cannot be dropped.
        let name = format!("log::writer::models::{model}");
        let mut child = Command::new(std::env::current_exe().expect("a test"));
        let child = child.args(["--exact", &name, "--nocapture"]).env("FERROWAL_BUG", bug);
        let output = child.output().expect("started");
        let text = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success() && text.contains(says), "{bug} was not found by {model}: {text}");
    }
}
