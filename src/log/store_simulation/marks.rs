//! Marks, where clocks differ, processes are paused for long, and the store is slow: in simulated time.

use std::{sync::Arc, time::Duration};

use super::{Far, options};
use crate::{
    Error, Log, Options, Role, Takeover,
    planted::Bug,
    turns::{self, spawn_in},
};

const HOUR: i64 = 3600;

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A run that must go well.
fn run(work: impl FnOnce(Far) + Send + 'static) {
    turns::run(1, None, move || work(Far::new())).unwrap();
}

/// A log as that process has it.
fn open_with(far: &Far, process: usize, options: Options) -> Arc<Log> {
    let home = Arc::new(far.home(process, &options));
    Arc::new(Log::open_in(options, home).unwrap())
}

fn polite(role: Role) -> Options {
    Options { takeover: Takeover::Refuse, lock_wait: Duration::ZERO, ..options(role) }
}

/// Lets that process do something, and waits for it.
fn within<T: Send + 'static>(process: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (told, tell) = std::sync::mpsc::channel();
    let thread = spawn_in(process, "a call".into(), move || drop(told.send(work()))).unwrap();
    thread.join();
    tell.recv().unwrap()
}

fn append(process: usize, log: &Arc<Log>, text: &'static str) -> crate::Result<crate::RecordHandle> {
    let log = log.clone();
    within(process, move || log.append(text.as_bytes(), 1))
}

fn all(process: usize, log: &Arc<Log>) -> Vec<String> {
    let log = log.clone();
    within(process, move || {
        log.scan().unwrap().map(|r| String::from_utf8(r.unwrap().to_vec()).unwrap()).collect()
    })
}

fn close(process: usize, log: Arc<Log>) {
    within(process, move || drop(log));
}

#[test]
fn a_live_driver_is_waited_for_whatever_the_clocks_say() {
    for (store, first, second) in [
        (0, 0, 0),
        (0, -5 * HOUR, 5 * HOUR),
        (0, 5 * HOUR, -5 * HOUR),
        (7 * HOUR, 0, -HOUR),
        (-7 * HOUR, HOUR, 0),
    ] {
        run(move |far| {
            far.set_skew(store);
            turns::set_skew(1, first);
            turns::set_skew(2, second);
            let one = open_with(&far, 1, polite(Role::Driver));
            append(1, &one, "one").unwrap();
            // Much longer than a mark lives: it is renewed.
            turns::pause(secs(100));
            let two = open_with(&far, 2, polite(Role::Driver));
            assert_eq!(all(2, &two), ["one"]);
            let error = append(2, &two, "two").unwrap_err();
            assert!(matches!(error, Error::Locked { .. }), "{error}");
            append(1, &one, "still").unwrap();
            close(1, one);
            append(2, &two, "two").unwrap();
            assert_eq!(all(2, &two), ["one", "still", "two"]);
            close(2, two);
        });
    }
}

#[test]
fn a_dead_driver_is_replaced_after_twenty_seconds_whatever_the_clocks_say() {
    for (store, second) in [(0, 0), (0, 6 * HOUR), (0, -6 * HOUR), (9 * HOUR, 0), (-9 * HOUR, 0)] {
        run(move |far| {
            far.set_skew(store);
            turns::set_skew(2, second);
            let one = open_with(&far, 1, polite(Role::Driver));
            append(1, &one, "one").unwrap();
            far.sever(1);
            turns::stop(1, None);
            let two = open_with(&far, 2, Options { lock_wait: secs(40), ..polite(Role::Driver) });
            assert_eq!(all(2, &two), ["one"]);
            let began = turns::elapsed();
            append(2, &two, "two").unwrap();
            let waited = Duration::from_nanos(turns::elapsed() - began);
            assert!(waited > secs(10) && waited < secs(30), "it waited {waited:?}");
            turns::go_on(1);
            close(1, one);
            close(2, two);
        });
    }
}

/// A test on a real store found it: a renewal that was on its way when its driver closed arrived after the mark was deleted.
#[test]
fn a_driver_that_closed_keeps_nobody_out_whenever_it_did() {
    run(|far| {
        for phase in 0..24 {
            let log = open_with(&far, 1, polite(Role::Driver));
            append(1, &log, "a record").unwrap();
            // What is on its way then arrives late, and what is sent after it does not.
            far.slow_down(secs(2));
            turns::pause(Duration::from_millis(4000 + 250 * phase));
            far.slow_down(Duration::ZERO);
            close(1, log);
            // Whatever was on its way has arrived.
            turns::pause(secs(10));
            let marks: Vec<_> = far.names().into_iter().filter(|n| n.contains("alive")).collect();
            assert!(marks.is_empty(), "closed in phase {phase}: {marks:?}");
        }
    });
}

#[test]
fn a_driver_that_slept_for_an_hour_is_fenced_before_it_says_anything() {
    run(|far| {
        let one = open_with(&far, 1, polite(Role::Driver));
        append(1, &one, "one").unwrap();
        turns::stop(1, None);
        turns::pause(secs(3600));
        let two = open_with(&far, 2, polite(Role::Driver));
        assert_eq!(all(2, &two), ["one"]);
        append(2, &two, "two").unwrap();
        turns::go_on(1);
        for _ in 0..2 {
            assert!(matches!(append(1, &one, "late").unwrap_err(), Error::Fenced { .. }));
        }
        assert_eq!(all(2, &two), ["one", "two"]);
        close(1, one);
        close(2, two);
    });
}

#[test]
fn a_driver_that_slept_for_an_hour_and_was_not_replaced_goes_on() {
    run(|far| {
        let one = open_with(&far, 1, polite(Role::Driver));
        append(1, &one, "one").unwrap();
        turns::stop(1, Some(secs(3600)));
        turns::pause(secs(3601));
        append(1, &one, "awake").unwrap();
        assert_eq!(all(1, &one), ["one", "awake"]);
        // It is alive again, and seen to be.
        turns::pause(secs(10));
        let two = open_with(&far, 2, polite(Role::Driver));
        assert!(matches!(append(2, &two, "two").unwrap_err(), Error::Locked { .. }));
        close(1, one);
        close(2, two);
    });
}

/// Each removes the marks that it saw, of some that raise their fences after its own.
#[test]
fn of_drivers_that_take_a_log_over_at_once_one_has_it() {
    // By the last one two drivers raise their fences before either has looked what is behind its own.
    for seed in (0..100).chain([1281]) {
        let work = || {
            let far = Far::new();
            let before = open_with(&far, 6, polite(Role::Driver));
            append(6, &before, "before").unwrap();
            close(6, before);
            // Marks are renewed while fences are raised.
            far.slow_down(secs(1));
            let force = || Options { takeover: Takeover::Force, ..options(Role::Driver) };
            let logs: Vec<_> = (1..5).map(|n| open_with(&far, n, force())).collect();
            let race = |n: usize| {
                let log = logs[n].clone();
                let (told, tell) = std::sync::mpsc::channel();
                let work = move || {
                    turns::pause(Duration::from_millis(turns::below(3_000)));
                    log.append(b"first", 1).ok();
                    turns::pause(secs(60));
                    told.send(log.append(b"last", 1).is_ok()).unwrap();
                };
                (spawn_in(n + 1, "racing".into(), work).unwrap(), tell)
            };
            let racing: Vec<_> = (0..logs.len()).map(race).collect();
            // One that has made its mark is overtaken before it raises its fence.
            turns::pause(Duration::from_millis(turns::below(8_000)));
            turns::stop(1, Some(Duration::from_millis(turns::below(8_000))));
            let answers = racing.into_iter().map(|(thread, tell)| {
                thread.join();
                tell.recv().unwrap()
            });
            let answers: Vec<bool> = answers.collect();
            assert_eq!(answers.iter().filter(|ok| **ok).count(), 1, "winners");
            // It is seen to live, and those that gave way are not.
            let polite = open_with(&far, 5, polite(Role::Driver));
            let (winner, losers): (Vec<_>, Vec<_>) =
                logs.into_iter().enumerate().partition(|(n, _)| answers[*n]);
            turns::pause(secs(60));
            // As Spark does: it goes on with what was there.
            all(5, &polite);
            assert!(matches!(append(5, &polite, "late").unwrap_err(), Error::Locked { .. }));
            winner.into_iter().for_each(|(n, log)| close(n + 1, log));
            append(5, &polite, "late").unwrap();
            assert_eq!(all(5, &polite).iter().filter(|r| *r == "last").count(), 1);
            losers.into_iter().for_each(|(n, log)| close(n + 1, log));
            close(5, polite);
        };
        turns::run(seed, None, work).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    }
}

#[test]
fn a_receiver_that_slept_begins_anew_once_others_may_think_that_it_is_gone() {
    for (asleep, anew) in [(30, false), (240, false), (400, true), (900, true)] {
        run(move |far| {
            let log = open_with(&far, 1, options(Role::Receivers));
            let before = append(1, &log, "before").unwrap();
            turns::stop(1, Some(secs(asleep)));
            turns::pause(secs(asleep) + Duration::from_millis(1));
            let after = append(1, &log, "after").unwrap();
            assert_eq!(before.writer != after.writer, anew, "after {asleep} s");
            let found = all(1, &log);
            assert!(found.contains(&"before".into()) && found.contains(&"after".into()), "{found:?}");
            close(1, log);
        });
    }
}

#[test]
fn a_receiver_lives_on_while_its_clock_goes_back_and_others_are_ahead() {
    run(|far| {
        let log = open_with(&far, 1, options(Role::Receivers));
        let before = append(1, &log, "before").unwrap();
        turns::set_skew(2, 30 * HOUR);
        let other = open_with(&far, 2, options(Role::Receivers));
        append(2, &other, "other").unwrap();
        turns::set_skew(1, -3 * HOUR);
        turns::pause(secs(700));
        // Its mark is new by the store's clock: nobody cleans after it, whatever the other's own clock says.
        let theirs = other.clone();
        within(2, move || theirs.clean(1_000, true)).unwrap();
        turns::pause(secs(120));
        let after = append(1, &log, "after").unwrap();
        assert_eq!(before.writer, after.writer, "a clock that goes back is no reason to begin anew");
        close(1, log);
        close(2, other);
    });
}

/// A clock that jumps ahead looks like a machine that was asleep.
#[test]
fn a_receiver_whose_clock_jumps_ahead_begins_anew_and_loses_nothing() {
    run(|far| {
        let log = open_with(&far, 1, options(Role::Receivers));
        let before = append(1, &log, "before").unwrap();
        turns::set_skew(1, HOUR);
        let after = append(1, &log, "after").unwrap();
        assert_ne!(before.writer, after.writer);
        let mut found = all(1, &log);
        found.sort();
        assert_eq!(found, ["after", "before"]);
        close(1, log);
    });
}

#[test]
fn a_store_that_is_slow_for_a_minute_costs_errors_and_no_owner() {
    run(|far| {
        let one = open_with(&far, 1, Options { write_timeout: secs(3), ..polite(Role::Driver) });
        append(1, &one, "one").unwrap();
        // Every request takes longer than a write may: none is acknowledged, and none is lost track of.
        far.slow_down(secs(12));
        let began = turns::elapsed();
        let error = append(1, &one, "slow").unwrap_err();
        assert!(matches!(error, Error::Io { .. } | Error::Timeout { .. }), "{error}");
        let waited = Duration::from_nanos(turns::elapsed() - began);
        assert!(waited < secs(60), "it waited {waited:?}");
        turns::pause(secs(60));
        far.slow_down(Duration::ZERO);
        turns::pause(secs(15));
        append(1, &one, "after").unwrap();
        let found = all(1, &one);
        assert_eq!(
            found,
            ["one", "after"],
            "what was refused does not come back once something was acknowledged"
        );
        let two = open_with(&far, 2, polite(Role::Driver));
        assert!(matches!(append(2, &two, "two").unwrap_err(), Error::Locked { .. }));
        close(1, one);
        close(2, two);
    });
}

#[test]
fn a_receiver_whose_store_was_slow_for_a_minute_keeps_its_name() {
    run(|far| {
        let log = open_with(&far, 1, options(Role::Receivers));
        let before = append(1, &log, "before").unwrap();
        far.slow_down(secs(20));
        turns::pause(secs(60));
        far.slow_down(Duration::ZERO);
        turns::pause(secs(1));
        let after = append(1, &log, "after").unwrap();
        assert_eq!(before.writer, after.writer);
        assert_eq!(all(1, &log), ["before", "after"]);
        close(1, log);
    });
}

/// A collector that was cut short, or a request that landed very late: what is left of a writer that others took for gone
/// lacks its newest segment, and that is no listing of what was there before.
#[test]
fn what_is_left_of_a_writer_that_slept_and_was_collected_stops_no_scan() {
    run(|far| {
        let log = open_with(&far, 1, options(Role::Receivers));
        let before = append(1, &log, "one").unwrap();
        append(1, &log, "two").unwrap();
        turns::stop(1, None);
        turns::pause(secs(700));
        let folder = format!("receivers/{}/", before.writer);
        let left = far.names().into_iter().find(|n| n.contains(&folder) && n.ends_with(".seg")).unwrap();
        let bytes = far.object(&left).unwrap();
        let other = open_with(&far, 2, options(Role::Receivers));
        append(2, &other, "other").unwrap();
        let theirs = other.clone();
        within(2, move || theirs.clean(1_000, true)).unwrap();
        turns::pause(secs(120));
        assert!(far.names().iter().all(|n| !n.contains(&folder)), "not collected: {:?}", far.names());
        far.land(&left, bytes);
        turns::go_on(1);
        let ours = log.clone();
        within(1, move || ours.append(b"awake", 5_000)).unwrap();
        let began = turns::elapsed();
        assert!(all(1, &log).contains(&"awake".into()));
        let took = Duration::from_nanos(turns::elapsed() - began);
        assert!(took < secs(10), "the scan took {took:?}");
        close(1, log);
        close(2, other);
    });
}

/// A collector that is paused between its question and the answer, wherever it is just then.
#[test]
fn a_collector_that_slept_takes_nobody_for_gone_who_lived_meanwhile() {
    let paused_after = |millis: u64, bug: Option<Bug>| {
        let work = move || {
            let far = Far::new();
            let one = open_with(&far, 1, options(Role::Receivers));
            let before = append(1, &one, "one").unwrap();
            let two = open_with(&far, 2, options(Role::Receivers));
            append(2, &two, "two").unwrap();
            turns::pause(secs(61));
            far.slow_down(secs(1));
            let theirs = two.clone();
            let cleaning = spawn_in(2, "cleaning".into(), move || drop(theirs.clean(1_000, true))).unwrap();
            turns::pause(Duration::from_millis(millis));
            turns::stop(2, Some(secs(700)));
            turns::pause(secs(705));
            far.slow_down(Duration::ZERO);
            cleaning.join();
            let note = format!("receivers/removed/{}", before.writer);
            assert!(!far.names().iter().any(|n| n.ends_with(&note)), "it took a live writer for gone");
            let after = append(1, &one, "still").unwrap();
            assert_eq!(before.writer, after.writer);
            close(1, one);
            close(2, two);
        };
        turns::run(1, bug, work).map_err(|e| format!("paused after {millis} ms: {e}"))
    };
    let steps = || (0..60).map(|n| 250 * n);
    steps().for_each(|millis| paused_after(millis, None).unwrap());
    let found = steps().find_map(|millis| paused_after(millis, Some(Bug::AgeWhenAnswered)).err());
    assert!(found.is_some_and(|said| said.contains("live writer")), "what is planted is not found");
}
