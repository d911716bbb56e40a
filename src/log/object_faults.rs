//! The log in an object store that loses answers, takes requests late and twice, and lists what was there before.
//!
//! The oracle is the one of the simulator: what was acknowledged comes back, whole, once, in the order in which it was
//! acknowledged, whoever took the log over meanwhile; and nothing comes back that nobody wrote.

#![allow(clippy::unwrap_used)]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, atomic::AtomicBool},
    thread,
    time::{Duration, Instant},
};

use super::{Log, shared::Shared};
use crate::{
    Error, Options, RecordHandle, Role, Takeover,
    storage::{Home, Which, object::sim::Unruly},
};

fn options(role: Role) -> Options {
    let mut options = Options::new("s3://test/app", role);
    options.clean_grace = Duration::ZERO;
    options.lock_wait = Duration::ZERO;
    options.write_timeout = Duration::from_millis(200);
    options.takeover = Takeover::Force;
    options
}

/// A log as another process would have it.
fn open(store: &Unruly, options: Options) -> Log {
    let home = Arc::new(store.home(&options));
    log_in(options, home)
}

fn log_in(options: Options, home: Arc<dyn Home>) -> Log {
    let shared = Arc::new(Shared::with_home(options, home));
    Log {
        shared,
        closed: AtomicBool::new(false),
        used: AtomicBool::new(false),
        goes_on: AtomicBool::new(false),
    }
}

fn scanned(log: &Log) -> Vec<u64> {
    let record = |r: Result<bytes::Bytes, Error>| {
        let bytes = r.unwrap();
        assert!(bytes.len() >= 8);
        u64::from_le_bytes(bytes[..8].try_into().unwrap())
    };
    log.scan().unwrap().map(record).collect()
}

fn payload(number: u64) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(8 + (number as usize * 37) % 3000, number as u8);
    bytes
}

/// Appends until it is told to stop or fenced; gives what was acknowledged.
fn write(log: &Log, first: u64, count: u64, acknowledged: &Mutex<Vec<(u64, RecordHandle)>>) -> Option<Error> {
    for number in first..first + count {
        match log.append(&payload(number), number as i64) {
            Ok(handle) => acknowledged.lock().unwrap().push((number, handle)),
            Err(fenced @ Error::Fenced { .. }) => return Some(fenced),
            Err(_) => {}
        }
    }
    None
}

#[test]
fn drivers_that_take_over_from_each_other_lose_nothing() {
    let seed = std::env::var("FERROWAL_SEED").ok().and_then(|s| s.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0);
    for round in 0..3 {
        let seed = seed.wrapping_add(round);
        println!("FERROWAL_SEED={seed}");
        let store = Unruly::new(seed);
        let acknowledged = Mutex::new(Vec::new());
        let mut zombies: Vec<Log> = Vec::new();
        for epoch in 0..6_u64 {
            store.misbehave(false);
            let log = open(&store, options(Role::Driver));
            // As Spark does after a crash: a driver that writes first would begin a new generation.
            scanned(&log);
            store.misbehave(true);
            let first = epoch * 10_000;
            thread::scope(|s| {
                let ours = s.spawn(|| write(&log, first, 30, &acknowledged));
                // Those that were paused wake up, and write while the new one does.
                for (i, zombie) in zombies.iter().enumerate() {
                    let first = first + 1_000 * (i as u64 + 1);
                    s.spawn({
                        let acknowledged = &acknowledged;
                        move || write(zombie, first, 20, acknowledged)
                    });
                }
                ours.join().unwrap();
            });
            // Requests that are on their way land before, during and after the next take-over.
            if store.chance(2) == 0 {
                thread::sleep(Duration::from_millis(store.chance(200)));
            }
            zombies.push(log);
        }
        thread::sleep(Duration::from_millis(450));
        store.misbehave(false);
        let last = open(&store, options(Role::Driver));
        let found = scanned(&last);
        let acknowledged = acknowledged.into_inner().unwrap();
        assert!(acknowledged.len() > 20, "too little was acknowledged to prove anything");
        let at: HashMap<u64, usize> = found.iter().enumerate().map(|(i, n)| (*n, i)).collect();
        assert_eq!(at.len(), found.len(), "a record came back twice");
        for (number, handle) in &acknowledged {
            assert!(
                at.contains_key(number),
                "{number} was acknowledged and is lost; {} came back",
                found.len()
            );
            assert_eq!(last.read(handle).unwrap(), payload(*number));
        }
        // One writer's records are in its order.
        for who in acknowledged.iter().map(|(n, _)| n / 1_000).collect::<std::collections::HashSet<_>>() {
            let mine: Vec<usize> =
                acknowledged.iter().filter(|(n, _)| n / 1_000 == who).map(|(n, _)| at[n]).collect();
            assert!(mine.is_sorted(), "the records of {who} changed their order");
        }
        // Every one that was taken over learns it at its next write, and never comes back.
        last.append(&payload(99), 99).unwrap();
        // Not those that never had it, since no write of theirs succeeded: such a one takes it over when it can.
        let had = |epoch: usize| {
            let of = |n: u64| if n % 10_000 < 1_000 { n / 10_000 == epoch as u64 } else { false };
            acknowledged.iter().any(|(n, _)| of(*n))
        };
        for (_, zombie) in zombies.iter().enumerate().filter(|(epoch, _)| had(*epoch)) {
            for _ in 0..2 {
                assert!(matches!(zombie.append(b"late", 1).unwrap_err(), Error::Fenced { .. }));
            }
        }
        assert_eq!(scanned(&last).len(), found.len() + 1);
    }
}

#[test]
fn receivers_beside_each_other_lose_nothing() {
    let seed: u64 = uuid::Uuid::new_v4().as_u64_pair().0;
    println!("seed {seed}");
    let store = Unruly::new(seed);
    let acknowledged = Mutex::new(Vec::new());
    let logs: Vec<Log> = (0..3).map(|_| open(&store, options(Role::Receivers))).collect();
    logs[0].append(&payload(0), 0).unwrap();
    store.misbehave(true);
    thread::scope(|s| {
        for writer in 0..18_u64 {
            let (log, acknowledged) = (&logs[writer as usize % 3], &acknowledged);
            s.spawn(move || write(log, 1_000 * (writer + 1), 25, acknowledged));
        }
    });
    thread::sleep(Duration::from_millis(450));
    store.misbehave(false);
    let reader = open(&store, options(Role::Receivers));
    let found: std::collections::HashSet<u64> = scanned(&reader).into_iter().collect();
    let acknowledged = acknowledged.into_inner().unwrap();
    assert!(acknowledged.len() > 50);
    for (number, handle) in &acknowledged {
        assert!(found.contains(number), "{number} was acknowledged and is lost");
        assert_eq!(reader.read(handle).unwrap(), payload(*number));
    }
}

#[test]
fn a_store_that_lets_two_creators_win_is_refused() {
    let store = Unruly::careless();
    for role in [Role::Driver, Role::Receivers] {
        let error = open(&store, options(role)).append(b"record", 1).unwrap_err();
        let text = error.to_string();
        assert!(
            matches!(error, Error::Config(_)) && text.contains("told 12 of them that they had"),
            "{text}"
        );
    }
}

#[test]
fn a_live_driver_is_waited_for_unless_it_is_to_be_taken_over() {
    let store = Unruly::new(1);
    let mut polite = options(Role::Driver);
    polite.takeover = Takeover::Refuse;
    let first = open(&store, polite.clone());
    first.append(b"first", 1).unwrap();
    let second = open(&store, polite.clone());
    let error = second.append(b"second", 2).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }) && error.to_string().contains("pid"), "{error}");
    assert!(matches!(second.check().unwrap_err(), Error::Locked { .. }));
    first.close().unwrap();
    second.check().unwrap();
    assert_eq!(second.scan().unwrap().count(), 1);
    second.append(b"second", 2).unwrap();
    // It dies without a word: its mark grows old. Here it lives, and is taken over.
    let third = open(&store, options(Role::Driver));
    assert_eq!(third.scan().unwrap().count(), 2);
    third.append(b"third", 3).unwrap();
    let fences = crate::metrics(Role::Driver).get("fences");
    assert!(matches!(second.append(b"late", 4).unwrap_err(), Error::Fenced { .. }));
    assert!(crate::metrics(Role::Driver).get("fences") > fences);
    // A closed instance's write would begin anew: not where the log was lost.
    second.close().unwrap();
    assert!(matches!(second.append(b"later", 4).unwrap_err(), Error::Fenced { .. }));
    assert_eq!(third.scan().unwrap().count(), 3);
}

#[test]
fn a_writer_never_goes_past_a_segment_of_which_it_does_not_know_what_became() {
    let store = Unruly::new(1);
    let mut opts = options(Role::Driver);
    opts.max_failures = 1;
    let ours = store.process();
    let old = open(&ours, opts.clone());
    old.append(b"before", 1).unwrap();
    ours.cut_off(true);
    for _ in 0..4 {
        let error = old.append(b"cut off", 2).unwrap_err();
        assert!(error.to_string().contains("no route to host"), "{error}");
    }
    // Its segments are nowhere, and the first of their numbers is the fence now.
    let new = open(&store, opts);
    assert_eq!(new.scan().unwrap().count(), 1);
    new.append(b"new", 3).unwrap();
    ours.cut_off(false);
    assert!(matches!(old.append(b"late", 4).unwrap_err(), Error::Fenced { .. }));
    let found: Vec<_> = new.scan().unwrap().map(|r| r.unwrap().to_vec()).collect();
    assert_eq!(found, [b"before".to_vec(), b"new".to_vec()]);
}

#[test]
fn a_writer_that_was_cut_off_for_a_while_goes_on() {
    for role in [Role::Driver, Role::Receivers] {
        let store = Unruly::new(1);
        let ours = store.process();
        let log = open(&ours, options(role));
        let before = log.append(b"before", 1).unwrap();
        ours.cut_off(true);
        for _ in 0..3 {
            assert!(log.append(b"lost", 2).is_err());
        }
        ours.cut_off(false);
        let after = log.append(b"after", 3).unwrap();
        assert!(after.segment > before.segment);
        log.close().unwrap();
        let again = open(&store, options(role));
        let found: Vec<_> = again.scan().unwrap().map(|r| r.unwrap().to_vec()).collect();
        assert_eq!(found, [b"before".to_vec(), b"after".to_vec()], "{role:?}");
        assert_eq!(again.report().map(|r| r.findings.len()), Some(0));
    }
}

#[test]
fn a_record_above_the_largest_object_is_refused_and_one_below_is_not() {
    let store = Unruly::new(1);
    let mut small = options(Role::Receivers);
    small.most_put = 8 << 20;
    small.write_timeout = Duration::from_secs(20);
    let log = open(&store, small);
    let handle = log.append(&vec![7; (8 << 20) - 10_000], 1).unwrap();
    let error = log.append(&vec![7; 8 << 20], 1).unwrap_err();
    assert!(matches!(error, Error::Config(_)) && error.to_string().contains("maxPut"), "{error}");
    assert_eq!(log.read(&handle).unwrap().len(), (8 << 20) - 10_000);
}

#[test]
fn a_replay_asks_for_no_object_more_often_than_looking_at_it_and_reading_it_take() {
    let store = Unruly::new(1);
    let log = open(&store, options(Role::Receivers));
    for number in 0..20 {
        log.append(&payload(number), number as i64).unwrap();
    }
    log.close().unwrap();
    let again = open(&store, options(Role::Receivers));
    store.take_gets();
    assert_eq!(scanned(&again).len(), 20);
    let mut gets: Vec<_> =
        store.take_gets().into_iter().filter(|(path, _)| path.as_ref().ends_with(".seg")).collect();
    gets.sort();
    // The first one also tells when its writer began.
    let often: Vec<_> = gets.iter().skip(1).filter(|(_, gets)| *gets > 2).collect();
    assert!(gets.len() >= 20 && often.is_empty(), "asked for too often: {often:?}");
}

#[test]
fn what_a_closed_writer_has_written_is_read_though_a_listing_is_old() {
    let store = Unruly::new(1);
    let home = Arc::new(store.home(&options(Role::Receivers)));
    let log = log_in(options(Role::Receivers), home.clone());
    let mut writer = None;
    for number in 0..3 {
        writer = Some(log.append(&payload(number), number as i64).unwrap().writer);
    }
    log.close().unwrap();
    store.list_old(20);
    // The task that renewed the mark is let go of beside.
    let until = Instant::now() + Duration::from_secs(30);
    while home.has_mark(Which::Receiver(writer.unwrap())) {
        assert!(Instant::now() < until, "the mark is held for ever");
        thread::yield_now();
    }
    // As the next instance in this process does, a moment later.
    let found = log.shared.scan().unwrap().map(Result::unwrap).count();
    assert_eq!(found, 3, "what was acknowledged is not passed over in silence");
}

#[test]
fn a_close_does_not_wait_longer_for_its_mark_to_go_than_that_would_live() {
    let store = Unruly::new(1);
    let log = open(&store, options(Role::Driver));
    log.append(b"before", 1).unwrap();
    store.mute_deletions();
    let began = Instant::now();
    log.close().unwrap();
    // A driver's mark counts for 20 s.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

/// In memory several of them begin within one millisecond.
#[test]
fn receivers_that_followed_each_other_are_read_in_their_order() {
    let store = Unruly::new(1);
    for number in 0..24 {
        let log = open(&store, options(Role::Receivers));
        log.append(&payload(number), 1).unwrap();
        log.close().unwrap();
    }
    assert_eq!(scanned(&open(&store, options(Role::Receivers))), (0..24).collect::<Vec<_>>());
}

#[test]
fn a_log_whose_uuid_was_deleted_gets_no_other_one() {
    for role in [Role::Driver, Role::Receivers] {
        let store = Unruly::new(1);
        let log = open(&store, options(role));
        log.append(&payload(1), 1).unwrap();
        log.close().unwrap();
        let id = futures_util::FutureExt::now_or_never(store.take("ferrowal.id")).unwrap();
        // Whoever writes first.
        for writes in [Role::Driver, Role::Receivers] {
            let log = open(&store, options(writes));
            let refused = log.append(&payload(2), 2);
            assert!(matches!(refused, Err(Error::Missing { .. })), "{writes:?} beside {role:?}: {refused:?}");
            log.close().unwrap();
        }
        futures_util::FutureExt::now_or_never(store.put_back("ferrowal.id", id)).unwrap();
        let log = open(&store, options(role));
        assert_eq!(scanned(&log), [1]);
        log.append(&payload(3), 3).unwrap();
        assert_eq!(scanned(&log), [1, 3]);
    }
}
