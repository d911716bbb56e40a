//! Logs in a real object store, with a proxy between that behaves as networks and stores do, and other processes.
#![allow(clippy::unwrap_used)]
#![cfg(feature = "object-store")]

#[path = "common/actor.rs"]
mod actor;
mod common;
#[path = "common/proxy.rs"]
mod proxy;
#[path = "common/server.rs"]
mod server;
use common::Store;

use std::{
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use actor::{Actor, Answer};
use common::{all, record};
use ferrowal::{Error, Log, Options, Role, Takeover};
use proxy::{Fault, Proxy};
use server::Server;

#[test]
#[ignore = "run by the tests below, as a process of its own"]
fn actor() {
    actor::act();
}

/// Every server has a log of another name: what is open in this process goes by it.
fn options(store: &Store, role: Role) -> Options {
    let mut options = store.options(Path::new(&store.log), role);
    options.clean_grace = Duration::ZERO;
    options.lock_wait = Duration::ZERO;
    options.linger = Duration::ZERO;
    options
}

fn scanned(store: &Store, role: Role) -> Vec<u64> {
    let log = Log::open(options(store, role)).unwrap();
    let found: Vec<Vec<u8>> = all(&log);
    found.iter().map(|r| u64::from_le_bytes(r[..8].try_into().unwrap())).collect()
}

#[test]
fn whatever_becomes_of_a_request_each_record_is_there_once() {
    let faults = [
        Fault::LoseAnswer,
        Fault::CutAnswer,
        Fault::AnswerWith(500),
        Fault::AnswerWith(503),
        Fault::AnswerWith(429),
        Fault::AnswerWith(409),
        Fault::AnswerWith(412),
        Fault::RefuseWith(500),
        Fault::RefuseWith(503),
        Fault::RefuseWith(429),
        Fault::RefuseWith(409),
        Fault::RefuseWith(412),
        Fault::Drop,
        Fault::Slow(Duration::from_millis(300)),
    ];
    for role in [Role::Driver, Role::Receivers] {
        let Some(server) = Server::start() else { return };
        let proxy = Proxy::start(server.address);
        let store = server.store(Some(proxy.endpoint()));
        let log = Log::open(options(&store, role)).unwrap();
        let mut expected = Vec::new();
        for (i, fault) in faults.into_iter().enumerate() {
            // The first attempt, and, the next time, the first two.
            for times in [1, 2] {
                let mut left = times;
                proxy.rule(move |r| {
                    let hit = r.makes_segment() && left > 0;
                    left -= usize::from(hit);
                    if hit { fault } else { Fault::None }
                });
                let number = (i * 2 + times) as u64;
                let handle = log
                    .append(&record(number, 5000), number as i64)
                    .unwrap_or_else(|e| panic!("{role:?}, {fault:?} {times} times: {e}"));
                assert_eq!(log.read(&handle).unwrap(), record(number, 5000));
                expected.push(number);
            }
        }
        proxy.rule(|_| Fault::None);
        log.close().unwrap();
        assert_eq!(scanned(&store, role), expected);
    }
}

#[test]
fn a_storm_of_refusals_costs_time_and_no_record() {
    let Some(server) = Server::start() else { return };
    let proxy = Proxy::start(server.address);
    let store = server.store(Some(proxy.endpoint()));
    let log = Log::open(options(&store, Role::Receivers)).unwrap();
    log.append(&record(0, 100), 0).unwrap();
    proxy.rule(|r| match r.number % 5 {
        0 => Fault::RefuseWith(503),
        1 => Fault::RefuseWith(429),
        2 if r.method == "PUT" => Fault::LoseAnswer,
        _ => Fault::None,
    });
    let acknowledged = Mutex::new(vec![0]);
    thread::scope(|s| {
        for t in 0..8_u64 {
            let (log, acknowledged) = (&log, &acknowledged);
            s.spawn(move || {
                for i in 0..15 {
                    let number = 1 + t * 100 + i;
                    log.append(&record(number, 2000), 1).unwrap();
                    acknowledged.lock().unwrap().push(number);
                }
            });
        }
    });
    proxy.rule(|_| Fault::None);
    log.close().unwrap();
    let mut found = scanned(&store, Role::Receivers);
    let mut expected = acknowledged.into_inner().unwrap();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn a_store_that_is_too_slow_for_a_while_costs_errors_and_no_acknowledged_record() {
    let Some(server) = Server::start() else { return };
    let proxy = Proxy::start(server.address);
    let store = server.store(Some(proxy.endpoint()));
    for role in [Role::Driver, Role::Receivers] {
        let mut opts = options(&store, role);
        opts.write_timeout = Duration::from_millis(800);
        let log = Log::open(opts).unwrap();
        let mut acknowledged = vec![1];
        log.append(&record(1, 100), 1).unwrap();
        proxy.rule(|r| if r.method == "PUT" { Fault::Slow(Duration::from_secs(3)) } else { Fault::None });
        let began = Instant::now();
        assert!(log.append(&record(2, 100), 2).is_err());
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        proxy.rule(|_| Fault::None);
        for number in 3..6 {
            log.append(&record(number, 100), number as i64).unwrap();
            acknowledged.push(number);
        }
        // What was slow has arrived by now, or has been refused.
        thread::sleep(Duration::from_secs(3));
        log.close().unwrap();
        let found = scanned(&store, role);
        assert_eq!(
            found, acknowledged,
            "{role:?}: what failed is void, since something was acknowledged after it"
        );
    }
}

#[test]
fn a_server_that_is_killed_and_comes_back_has_every_acknowledged_record() {
    let Some(mut server) = Server::start() else { return };
    let store = server.store(None);
    for role in [Role::Receivers, Role::Driver] {
        let mut opts = options(&store, role);
        opts.write_timeout = Duration::from_secs(1);
        let log = Log::open(opts).unwrap();
        let acknowledged = Mutex::new(Vec::new());
        let next = AtomicU64::new(1);
        thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| {
                    let began = Instant::now();
                    while began.elapsed() < Duration::from_secs(6) {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if log.append(&record(number, 3000), 1).is_ok() {
                            acknowledged.lock().unwrap().push(number);
                        }
                    }
                });
            }
            for _ in 0..3 {
                thread::sleep(Duration::from_millis(700));
                server.kill();
                thread::sleep(Duration::from_millis(500));
                server.restart();
            }
        });
        log.close().unwrap();
        let found: std::collections::HashSet<u64> = scanned(&store, role).into_iter().collect();
        let acknowledged = acknowledged.into_inner().unwrap();
        assert!(acknowledged.len() > 50, "{}", acknowledged.len());
        let lost: Vec<_> = acknowledged.iter().filter(|n| !found.contains(n)).collect();
        assert!(lost.is_empty(), "{role:?}: lost {lost:?}");
    }
}

#[test]
fn a_request_that_lands_after_the_take_over_changes_nothing() {
    let Some(server) = Server::start() else { return };
    let proxy = Proxy::start(server.address);
    let (slow, direct) = (server.store(Some(proxy.endpoint())), server.store(None));
    let mut old = Actor::start(&slow, Role::Driver, Takeover::Refuse, Duration::from_millis(400));
    assert_eq!(old.append(1), Answer::Done);
    // Everything that it sends lands two seconds later.
    proxy.rule(|r| if r.makes_segment() { Fault::Late(Duration::from_secs(2)) } else { Fault::None });
    assert!(matches!(old.append(2), Answer::Failed(_)));
    let mut new = Actor::start(&direct, Role::Driver, Takeover::Force, Duration::from_secs(5));
    assert_eq!(new.append(3), Answer::Done);
    thread::sleep(Duration::from_millis(2500));
    assert_eq!(new.append(4), Answer::Done);
    proxy.rule(|_| Fault::None);
    assert_eq!(old.append(5), Answer::Fenced);
    assert_eq!(old.append(6), Answer::Fenced, "it never takes back");
    assert_eq!(new.append(7), Answer::Done);
    assert_eq!(scanned(&direct, Role::Driver), [1, 3, 4, 7]);
}

#[test]
fn a_process_that_was_paused_while_it_was_taken_over_is_fenced() {
    let Some(server) = Server::start() else { return };
    let store = server.store(None);
    let mut old = Actor::start(&store, Role::Driver, Takeover::Refuse, Duration::from_secs(3));
    assert_eq!(old.append(1), Answer::Done);
    old.signal("-STOP");
    old.order(2);
    // Its mark grows old, and then nothing is refused: twenty seconds, here three.
    let mut new = Actor::start(&store, Role::Driver, Takeover::Refuse, Duration::from_secs(3));
    let began = Instant::now();
    let mut number = 10;
    while new.append(number) == Answer::Locked {
        assert!(began.elapsed() < Duration::from_secs(30));
        number += 1;
    }
    // Longer than a mark of a writer that is gone, and than objects are kept for its sake.
    thread::sleep(Duration::from_secs(11));
    assert_eq!(new.append(99), Answer::Done);
    old.signal("-CONT");
    assert_eq!(old.answer(), Answer::Fenced);
    assert_eq!(new.append(100), Answer::Done);
    assert_eq!(scanned(&store, Role::Driver), [1, number, 99, 100]);
}

#[test]
fn a_receiver_that_was_paused_begins_anew_as_another_writer() {
    let Some(server) = Server::start() else { return };
    let store = server.store(None);
    let mut old = Actor::start(&store, Role::Receivers, Takeover::Refuse, Duration::from_secs(3));
    assert_eq!(old.append(1), Answer::Done);
    old.signal("-STOP");
    // Its mark is ten minutes old, here ten seconds: it is gone, and what it left is collected.
    thread::sleep(Duration::from_secs(12));
    let log = Log::open(options(&store, Role::Receivers)).unwrap();
    log.append(&record(2, 100), 50).unwrap();
    log.clean(40, true).unwrap();
    assert_eq!(all(&log), [record(2, 100)], "the writer that was gone was not collected");
    old.signal("-CONT");
    assert_eq!(old.append(60), Answer::Done);
    let found: Vec<Vec<u8>> = all(&log);
    assert!(found.contains(&record(60, 100)) && found.contains(&record(2, 100)) && found.len() == 2);
}

#[test]
fn of_drivers_that_race_to_open_one_writes() {
    let Some(server) = Server::start() else { return };
    let store = server.store(None);
    for (round, takeover) in [Takeover::Refuse, Takeover::Force].into_iter().enumerate() {
        let mut actors: Vec<Actor> =
            (0..4).map(|_| Actor::start(&store, Role::Driver, takeover, Duration::from_secs(5))).collect();
        let mut acknowledged = Vec::new();
        for step in 0..3 {
            let number = |i: usize| (round * 1000 + step * 100 + i) as u64;
            actors.iter_mut().enumerate().for_each(|(i, a)| a.order(number(i)));
            for (i, actor) in actors.iter_mut().enumerate() {
                match actor.answer() {
                    Answer::Done => acknowledged.push(number(i)),
                    Answer::Locked | Answer::Fenced => {}
                    Answer::Failed(why) => panic!("{why}"),
                }
            }
        }
        drop(actors);
        // Their marks grow old.
        thread::sleep(Duration::from_secs(1));
        let found = scanned(&store, Role::Driver);
        assert!(!acknowledged.is_empty(), "{takeover:?}: nobody has the log");
        for number in &acknowledged {
            assert!(
                found.contains(number),
                "{takeover:?}: {number} was acknowledged, and {found:?} is there"
            );
        }
    }
}

#[test]
fn a_store_that_does_not_heed_conditions_is_refused() {
    let Some(server) = Server::start() else { return };
    let proxy = Proxy::start(server.address);
    proxy.rule(|_| Fault::Unconditional);
    let store = server.store(Some(proxy.endpoint()));
    let log = Log::open(options(&store, Role::Receivers)).unwrap();
    let error = log.append(b"record", 1).unwrap_err();
    assert!(matches!(error, Error::Config(_)), "{error}");
    assert!(error.to_string().contains("is not safe for a log: when 12 created one object"), "{error}");
    // Nothing was begun there.
    assert!(!server.dir.path().join("data/bucket").join(&store.log[1..]).join("ferrowal.id").exists());
}

#[test]
fn a_store_is_reached_by_tls_unless_told_otherwise() {
    // A listener that takes whatever comes, and notes how it begins.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let begins = thread::spawn(move || {
        use std::io::Read;
        let mut first = [0; 3];
        listener.accept().unwrap().0.read_exact(&mut first).unwrap();
        first
    });
    let mut opts = Options::new("s3a://bucket/log", Role::Driver);
    for (key, value) in [
        ("fs.s3a.endpoint", address.to_string().as_str()),
        ("fs.s3a.path.style.access", "true"),
        ("fs.s3a.access.key", "key"),
        ("fs.s3a.secret.key", "secret"),
    ] {
        opts.store.set(key, value);
    }
    let error = Log::open(opts).unwrap().append(b"record", 1).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    // The first bytes of a ClientHello.
    assert_eq!(begins.join().unwrap()[..2], [0x16, 0x03]);
}

/// Every line that anybody logs.
struct Lines(Mutex<Vec<String>>);

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        self.0.lock().unwrap().push(format!("{} {}", record.target(), record.args()));
    }
    fn flush(&self) {}
}

static LINES: Lines = Lines(Mutex::new(Vec::new()));

#[test]
fn no_secret_is_ever_shown() {
    let Some(server) = Server::start() else { return };
    let _ = log::set_logger(&LINES);
    log::set_max_level(log::LevelFilter::Trace);
    let proxy = Proxy::start(server.address);
    let mut shown = Vec::new();
    for (bucket, key, fault) in [
        ("bucket", server::KEY, Fault::None),
        ("nosuchbucket", server::KEY, Fault::None),
        ("bucket", "nosuchkey", Fault::None),
        ("bucket", server::KEY, Fault::RefuseWith(403)),
        ("bucket", server::KEY, Fault::RefuseWith(400)),
        ("bucket", server::KEY, Fault::Drop),
    ] {
        proxy.rule(move |_| fault);
        let store = server.store_as(bucket, key, Some(proxy.endpoint()));
        let mut opts = options(&store, Role::Driver);
        opts.write_timeout = Duration::from_millis(300);
        opts.store.set("fs.s3a.session.token", "");
        shown.push(format!("{opts:?}"));
        let log = Log::open(opts).unwrap();
        shown.push(format!("{log:?}"));
        match log.append(b"record", 1) {
            Ok(handle) => shown.push(format!("{handle} {handle:?}")),
            Err(e) => shown.push(format!("{e} {e:?}")),
        }
        if let Err(e) = log.check() {
            shown.push(format!("{e} {e:?}"));
        }
        log.close().unwrap();
    }
    assert!(shown.iter().filter(|s| s.contains("Io {")).count() >= 4, "{shown:#?}");
    let lines = LINES.0.lock().unwrap();
    assert!(lines.iter().any(|l| l.starts_with("ferrowal")));
    let encoded = "planted%2FSecret%2B0f%3Dthe%25store";
    for text in shown.iter().chain(lines.iter()) {
        assert!(!text.contains(server::SECRET) && !text.contains(encoded), "{text}");
    }
    // Nor kept in the store.
    let mut dirs = vec![server.dir.path().join("data")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            if entry.path().is_dir() {
                dirs.push(entry.path());
                continue;
            }
            let bytes = std::fs::read(entry.path()).unwrap();
            assert!(!bytes.windows(SECRET.len()).any(|w| w == SECRET.as_bytes()), "{:?}", entry.path());
        }
    }
}

use server::SECRET;
