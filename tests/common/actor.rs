//! Another process with a log of its own, that does as it is told: it can be paused, and killed.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use ferrowal::{Error, Log, Role, Takeover};

use crate::common::{Store, record};

/// What an actor answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Done,
    Fenced,
    Locked,
    Failed(String),
}

/// The other process.
pub struct Actor {
    pub child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Actor {
    /// Starts this test program again; it runs its test `actor`, which must call [`act`].
    pub fn start(store: &Store, role: Role, takeover: Takeover, timeout: Duration) -> Actor {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "actor", "--ignored", "--nocapture", "--quiet"])
            .env("FERROWAL_TEST_STORE", store.said())
            .env("FERROWAL_TEST_ACTOR", &store.log)
            .env("FERROWAL_TEST_ROLE", if role == Role::Driver { "driver" } else { "receivers" })
            .env("FERROWAL_TEST_TAKEOVER", if takeover == Takeover::Force { "force" } else { "refuse" })
            .env("FERROWAL_TEST_TIMEOUT", timeout.as_millis().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Actor { child, orders, answers }
    }

    /// Tells it to append a record, without waiting.
    pub fn order(&mut self, number: u64) {
        writeln!(self.orders, "{number}").unwrap();
        self.orders.flush().unwrap();
    }

    pub fn answer(&mut self) -> Answer {
        loop {
            let mut line = String::new();
            assert!(self.answers.read_line(&mut line).unwrap() > 0, "the actor has died");
            // The test harness speaks, too.
            if let Some(answer) = line.trim().split("@@").nth(1) {
                return match answer {
                    "done" => Answer::Done,
                    "fenced" => Answer::Fenced,
                    "locked" => Answer::Locked,
                    other => Answer::Failed(other.into()),
                };
            }
        }
    }

    pub fn append(&mut self, number: u64) -> Answer {
        self.order(number);
        self.answer()
    }

    /// Sends a signal; with `-STOP`, returns once every thread has stopped. `kill` alone returns before that, and a thread
    /// that is not yet scheduled to see the signal could still do what it is ordered next.
    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        let began = Instant::now();
        while signal == "-STOP" && !stopped(&pid) {
            assert!(began.elapsed() < Duration::from_secs(10), "{pid} does not stop");
            std::thread::yield_now();
        }
    }
}

/// Whether every thread of a process is stopped, by what the kernel says of each.
fn stopped(pid: &str) -> bool {
    std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().all(|task| {
        let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
        // The state follows the name, which stands in parentheses and may hold any character.
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    })
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the other process does.
pub fn act() {
    let Ok(dir) = env::var("FERROWAL_TEST_ACTOR") else { return };
    let role =
        if env::var("FERROWAL_TEST_ROLE").unwrap() == "driver" { Role::Driver } else { Role::Receivers };
    let mut options = crate::common::options(Path::new(&dir), role);
    if env::var("FERROWAL_TEST_TAKEOVER").unwrap() == "force" {
        options.takeover = Takeover::Force;
    }
    options.write_timeout =
        Duration::from_millis(env::var("FERROWAL_TEST_TIMEOUT").unwrap().parse().unwrap());
    let log = Log::open(options).unwrap();
    let mut looked = false;
    for line in std::io::stdin().lines() {
        let number: u64 = line.unwrap().parse().unwrap();
        // As Spark does after a crash: a driver that writes first would begin a new generation.
        let first = !std::mem::replace(&mut looked, true);
        if first
            && role == Role::Driver
            && let Ok(scan) = log.scan()
        {
            scan.for_each(drop);
        }
        let answer = match log.append(&record(number, 100), number as i64) {
            Ok(_) => "done".to_owned(),
            Err(Error::Fenced { .. }) => "fenced".to_owned(),
            Err(Error::Locked { .. }) => "locked".to_owned(),
            Err(e) => e.to_string().replace('\n', " "),
        };
        println!("@@{answer}@@");
    }
}
