//! kill -9 at random moments: every record that was acknowledged comes back, by handle and in order, whatever the barrier,
//! and without one too (`durability=os`).
//!
//! The test runs itself again as the process to be killed. What was acknowledged is told through a pipe, so it is
//! known outside of the process and outside of the log.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    collections::{HashMap, HashSet},
    env,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use common::{options, record, ways, write_by};
use ferrowal::{Log, RecordHandle, Role};

const CYCLES: u64 = 20;
const THREADS: u64 = 4;

/// Length of record `number`: mostly small, sometimes larger than a group's buffer.
fn length(number: u64) -> usize {
    match number % 97 {
        0 => 5 << 20,
        1..=10 => 100_000 + (number as usize * 31) % 50_000,
        _ => 8 + (number as usize * 131) % 5000,
    }
}

fn opened(dir: &Path, role: Role, way: &str) -> Log {
    let mut options = options(dir, role);
    write_by(&mut options, way);
    options.segment_size = 16 << 20;
    options.lock_wait = Duration::from_secs(10);
    Log::open(options).unwrap()
}

/// The process that is killed: writes for ever, and says what it is about to write and what was acknowledged.
#[test]
#[ignore = "run by the tests below, as a process of its own"]
fn child() {
    let (Ok(dir), Ok(first)) = (env::var("FERROWAL_TEST_DIR"), env::var("FERROWAL_TEST_FIRST")) else {
        return;
    };
    let role =
        if env::var("FERROWAL_TEST_ROLE").unwrap() == "driver" { Role::Driver } else { Role::Receivers };
    let way = env::var("FERROWAL_TEST_WAY").unwrap();
    let log = Arc::new(opened(Path::new(&dir), role, &way));
    if role == Role::Driver {
        // As Spark does after a crash: a driver that writes first would begin a new generation.
        log.scan().unwrap().for_each(|r| drop(r.unwrap()));
    }
    let first: u64 = first.parse().unwrap();
    let threads: Vec<_> = (0..THREADS)
        .map(|t| {
            let log = log.clone();
            thread::spawn(move || {
                for i in 0.. {
                    let number = first + i * THREADS + t;
                    say(format!("S {number}\n"));
                    let h = log.append(&record(number, length(number)), number as i64).unwrap();
                    say(format!(
                        "A {number} {} {} {} {} {} {}\n",
                        h.log, h.writer, h.segment, h.offset, h.length, h.crc
                    ));
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
}

fn say(line: String) {
    // One write call a line: a kill never tears one.
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

fn spawn(dir: &Path, role: Role, way: &str, first: u64) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env("FERROWAL_TEST_DIR", dir)
        .env("FERROWAL_TEST_FIRST", first.to_string())
        .env("FERROWAL_TEST_ROLE", if role == Role::Driver { "driver" } else { "receivers" })
        .env("FERROWAL_TEST_WAY", way)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What the killed processes said.
#[derive(Default)]
struct Told {
    submitted: HashSet<u64>,
    acknowledged: HashMap<u64, RecordHandle>,
}

impl Told {
    fn hear(&mut self, line: &str) {
        let mut words = line.split(' ');
        match words.next() {
            Some("S") => drop(self.submitted.insert(words.next().unwrap().parse().unwrap())),
            Some("A") => {
                let w: Vec<&str> = words.collect();
                let handle = RecordHandle {
                    log: w[1].parse().unwrap(),
                    writer: w[2].parse().unwrap(),
                    segment: w[3].parse().unwrap(),
                    offset: w[4].parse().unwrap(),
                    length: w[5].parse().unwrap(),
                    crc: w[6].parse().unwrap(),
                    version: 1,
                };
                self.acknowledged.insert(w[0].parse().unwrap(), handle);
            }
            _ => panic!("the process that writes said: {line}"),
        }
    }
}

fn kill_and_recover(role: Role, seed: u64) {
    println!("seed {seed}: FERROWAL_SEED={seed} replays the kill times");
    let dir = tempfile::tempdir().unwrap();
    let mut told = Told::default();
    let mut random = seed;
    let mut in_flight = 0;
    // By turns, in one directory: a log is not bound to the way in which it was written.
    let ways = ways();
    for cycle in 0..CYCLES {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let acks_before_kill = (random >> 33) % 200;
        let mut child = spawn(dir.path(), role, ways[cycle as usize % ways.len()], cycle * 1_000_000);
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let began = Instant::now();
        let (mut acks, mut this) = (0, Told::default());
        while acks < acks_before_kill {
            assert!(began.elapsed() < Duration::from_secs(60), "too few acknowledgements");
            let line = lines.next().expect("the process ended by itself").unwrap();
            acks += u64::from(line.starts_with('A'));
            this.hear(&line);
        }
        child.kill().unwrap();
        for line in lines {
            this.hear(&line.unwrap());
        }
        child.wait().unwrap();
        in_flight += u64::from(this.submitted.len() > this.acknowledged.len());
        told.submitted.extend(this.submitted);
        told.acknowledged.extend(this.acknowledged);
        if role == Role::Driver || cycle % 5 == 4 {
            verify(dir.path(), role, &told, cycle);
        }
    }
    println!(
        "{in_flight} of {CYCLES} kills with a write in flight, {} records acknowledged",
        told.acknowledged.len()
    );
    assert!(in_flight * 2 >= CYCLES, "only {in_flight} kills hit a write in flight");
}

fn verify(dir: &Path, role: Role, told: &Told, cycle: u64) {
    let log = opened(dir, role, "auto");
    for (number, handle) in &told.acknowledged {
        assert!(
            log.read(handle).unwrap() == record(*number, length(*number)),
            "record {number}, cycle {cycle}"
        );
    }
    let mut found = HashSet::new();
    let mut last: HashMap<(u64, u64), u64> = HashMap::new();
    for bytes in log.scan().unwrap() {
        let bytes = bytes.unwrap();
        let number = u64::from_le_bytes(bytes[..8].try_into().unwrap());
        assert!(bytes == record(number, length(number)), "record {number} was altered");
        assert!(told.submitted.contains(&number), "record {number} was never written");
        assert!(found.insert(number), "record {number} twice");
        // Each thread of each process wrote in the order of its numbers.
        let before = last.insert((number / 1_000_000, number % THREADS), number);
        assert!(before.is_none_or(|b| b < number), "record {number} out of order");
    }
    let lost: Vec<_> = told.acknowledged.keys().filter(|n| !found.contains(n)).collect();
    assert!(lost.is_empty(), "cycle {cycle}: acknowledged and lost: {lost:?}");
    log.close().unwrap();
}

fn seed() -> u64 {
    env::var("FERROWAL_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(|| {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64
    })
}

#[test]
fn a_killed_driver_loses_nothing() {
    kill_and_recover(Role::Driver, seed());
}

#[test]
fn killed_receivers_lose_nothing() {
    kill_and_recover(Role::Receivers, seed());
}
