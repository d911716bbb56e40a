//! The log in a simulated store: processes that take a driver's log over from each other while older ones are paused, go on,
//! or die with requests on their way, and receivers beside each other that die and are collected. All threads of all of them
//! take turns ([`crate::turns`]), so one seed decides everything, and replays it; the store is [`Far`], and everything above
//! it is the log itself.

// A simulation that meets what cannot be is to stop, there and then.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod ledger;
#[cfg(test)]
mod marks;
mod tests;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use self::ledger::Ledger;
use super::Log;
use crate::{
    Error, Options, Role, Takeover,
    planted::Bug,
    storage::object::far::{Far, Misdeeds},
    turns::{self, Handle},
};

/// How often something happened.
type Report = BTreeMap<&'static str, u64>;

/// One run.
///
/// # Errors
/// What was lost, altered, out of order, or hung.
fn simulate(seed: u64, bug: Option<Bug>) -> Result<Report, String> {
    let report = Arc::new(Mutex::new(Report::new()));
    let ours = report.clone();
    turns::run(seed, bug, move || {
        let mut run = Run::new();
        match run.ledger_role() {
            Role::Driver => run.drivers(),
            Role::Receivers => run.receivers(),
        }
        run.bury();
        let mut report = ours.lock().unwrap_or_else(PoisonError::into_inner);
        report.extend(run.far.counts());
        report.extend(run.ledger.seen());
        report.insert("seconds", turns::elapsed() / 1_000_000_000);
    })
    .map_err(|e| {
        format!("{e}\nreplay with: FERROWAL_STORE_SEED={seed} cargo test --lib one_store_seed -- --nocapture")
    })?;
    Ok(std::mem::take(&mut *report.lock().unwrap_or_else(PoisonError::into_inner)))
}

fn options(role: Role) -> Options {
    let mut options = Options::new("s3://far/app", role);
    options.clean_grace = Duration::ZERO;
    options.lock_wait = Duration::from_secs(40);
    options.linger = Duration::ZERO;
    options.write_timeout = Duration::from_secs(4);
    options
}

/// A process with the log open.
struct Process {
    id: usize,
    log: Arc<Log>,
    stop: Arc<AtomicBool>,
    threads: Vec<Handle>,
    dead: bool,
}

struct Run {
    far: Far,
    ledger: Ledger,
    role: Role,
    processes: Vec<Process>,
    next: usize,
}

impl Run {
    fn new() -> Run {
        let role = if turns::percent(60) { Role::Driver } else { Role::Receivers };
        let far = Far::new();
        if turns::percent(50) {
            far.set_skew(turns::below(20_000) as i64 - 10_000);
        }
        Run { far, ledger: Ledger::new(role), role, processes: Vec::new(), next: 1 }
    }

    fn ledger_role(&self) -> Role {
        self.role
    }

    fn misbehave(&self) {
        let rate = |most: u64| if turns::percent(60) { turns::below(most) } else { 0 };
        let misdeeds = Misdeeds {
            lost: rate(60),
            unanswered: rate(60),
            late: rate(80),
            twice: rate(60),
            exists: rate(60),
            refused: rate(80),
            stale: rate(300),
        };
        self.far.misbehave(misdeeds);
        let slow = if turns::percent(10) { turns::below(2_000) } else { 0 };
        self.far.slow_down(Duration::from_millis(slow));
    }

    fn behave(&self) {
        self.far.misbehave(Misdeeds::default());
        self.far.slow_down(Duration::ZERO);
    }

    /// Begins a process that has the log open, as a restart does: it tries until it has it.
    fn open(&mut self, force: bool) -> usize {
        let id = self.next;
        self.next += 1;
        if turns::percent(40) {
            turns::set_skew(id, turns::below(40_000) as i64 - 20_000);
        }
        let slot = Arc::new(Mutex::new(None));
        let (far, ledger, role, opened) = (self.far.clone(), self.ledger.clone(), self.role, slot.clone());
        let opener = turns::spawn_in(id, "opening".into(), move || {
            let log = open(&far, &ledger, role, id, force);
            *opened.lock().unwrap_or_else(PoisonError::into_inner) = Some(log);
        });
        opener.expect("a thread").join();
        let log = slot.lock().unwrap_or_else(PoisonError::into_inner).take().expect("opened");
        self.processes.push(Process { id, log, stop: Arc::default(), threads: Vec::new(), dead: false });
        self.processes.len() - 1
    }

    /// Starts those who write, clean and read in a process.
    fn work(&mut self, process: usize, records: u64) {
        let writers = 1 + turns::below(3);
        let p = &mut self.processes[process];
        for _ in 0..writers {
            let (log, ledger, stop, id) = (p.log.clone(), self.ledger.clone(), p.stop.clone(), p.id);
            let work = move || write(&log, &ledger, id, records, &stop);
            p.threads.push(turns::spawn_in(id, "a writer".into(), work).expect("a thread"));
        }
        if turns::percent(60) {
            let (log, ledger, stop, id) = (p.log.clone(), self.ledger.clone(), p.stop.clone(), p.id);
            let work = move || clean_and_read(&log, &ledger, &stop);
            p.threads.push(turns::spawn_in(id, "a cleaner".into(), work).expect("a thread"));
        }
    }

    /// What becomes of a process while another is about to begin.
    fn part(&mut self, process: usize) {
        match turns::below(100) {
            0..30 => self.kill(process),
            30..60 => {
                self.ledger.note("paused processes");
                turns::stop(self.processes[process].id, None);
            }
            60..75 => self.close(process),
            _ => self.ledger.note("processes that go on beside the next"),
        }
    }

    fn kill(&mut self, process: usize) {
        self.ledger.note("killed processes");
        let p = &mut self.processes[process];
        self.far.sever(p.id);
        turns::stop(p.id, None);
        p.dead = true;
    }

    fn close(&mut self, process: usize) {
        self.ledger.note("closed");
        let p = &mut self.processes[process];
        p.stop.store(true, Ordering::Release);
        p.threads.drain(..).for_each(Handle::join);
        let log = p.log.clone();
        turns::spawn_in(p.id, "closing".into(), move || drop(log.close())).expect("a thread").join();
    }

    fn wait(&self) {
        let time = match turns::below(100) {
            0..50 => turns::below(3_000),
            50..85 => turns::below(40_000),
            _ => {
                self.ledger.note("long waits");
                600_000 + turns::below(300_000)
            }
        };
        turns::pause(Duration::from_millis(time));
    }

    /// Drivers that take the log over from each other.
    fn drivers(&mut self) {
        for _ in 0..2 + turns::below(4) {
            if turns::percent(75) {
                self.misbehave();
            } else {
                self.behave();
            }
            let force = turns::percent(70);
            let last = self.open(force);
            self.work(last, 3 + turns::below(12));
            if turns::percent(15) {
                self.race();
            }
            self.wait();
            // One that was paused wakes up, while the next one writes, or is about to.
            if turns::percent(50) && last > 0 {
                let other = &self.processes[turns::below(last as u64) as usize];
                if !other.dead {
                    self.ledger.note("paused processes that woke up");
                    turns::go_on(other.id);
                }
            }
            self.wait();
            if turns::percent(70) {
                self.part(last);
            }
        }
        self.quieten();
        let last = self.open(true);
        self.check_owner(last);
        // Whoever had it before learns it, and never comes back. One that was closed in good order may: a late record of
        // its takes the log over, as another start would.
        let closed = |p: &Process| p.stop.load(Ordering::Acquire);
        for p in self.processes[..last].iter().filter(|p| !p.dead && !closed(p) && self.ledger.owned(p.id)) {
            let (log, ledger, id) = (p.log.clone(), self.ledger.clone(), p.id);
            let late = turns::spawn_in(id, "late".into(), move || {
                let (number, bytes, time) = ledger.begin(id);
                let result = log.append(&bytes, time);
                ledger.answer(number, &result);
                assert!(
                    matches!(result, Err(Error::Fenced { .. })),
                    "process {id} is not fenced: {result:?}"
                );
                ledger.note("fenced");
            });
            late.expect("a thread").join();
        }
        let last = self.open(true);
        self.check_owner(last);
    }

    /// Two begin at the same time.
    fn race(&mut self) {
        self.ledger.note("drivers that race");
        let (first, second) = (self.next, self.next + 1);
        self.next += 2;
        let slots: Vec<_> = [first, second]
            .into_iter()
            .map(|id| {
                let slot = Arc::new(Mutex::new(None));
                let (far, ledger, role, opened) =
                    (self.far.clone(), self.ledger.clone(), self.role, slot.clone());
                let opener = turns::spawn_in(id, "racing".into(), move || {
                    let log = open(&far, &ledger, role, id, true);
                    *opened.lock().unwrap_or_else(PoisonError::into_inner) = Some(log);
                });
                (id, opener.expect("a thread"), slot)
            })
            .collect();
        for (id, opener, slot) in slots {
            opener.join();
            let log = slot.lock().unwrap_or_else(PoisonError::into_inner).take().expect("opened");
            let process = Process { id, log, stop: Arc::default(), threads: Vec::new(), dead: false };
            self.processes.push(process);
        }
        for process in [self.processes.len() - 2, self.processes.len() - 1] {
            self.work(process, 3);
        }
    }

    /// Executors beside each other.
    fn receivers(&mut self) {
        for round in 0..2 + turns::below(3) {
            if turns::percent(75) && round > 0 {
                self.misbehave();
            } else {
                self.behave();
            }
            for _ in 0..1 + turns::below(2) {
                let new = self.open(false);
                self.work(new, 3 + turns::below(10));
            }
            self.wait();
            for process in 0..self.processes.len() {
                if self.processes[process].dead || turns::percent(50) {
                    continue;
                }
                match turns::below(100) {
                    0..30 => self.kill(process),
                    30..70 => {
                        self.ledger.note("paused processes");
                        let time = 1_000 + turns::below(if turns::percent(60) { 1_500_000 } else { 5_000 });
                        turns::stop(self.processes[process].id, Some(Duration::from_millis(time)));
                    }
                    _ => {}
                }
            }
            self.wait();
            let alive: Vec<usize> = (0..self.processes.len()).filter(|p| !self.processes[*p].dead).collect();
            for process in alive {
                self.work(process, 2 + turns::below(5));
            }
        }
        self.quieten();
        let last = self.open(false);
        self.check_owner(last);
    }

    /// Everything that is on its way lands, and everybody who lives is answered.
    fn quieten(&mut self) {
        self.behave();
        for p in self.processes.iter().filter(|p| !p.dead) {
            turns::go_on(p.id);
        }
        turns::pause(Duration::from_secs(1_000));
        for p in self.processes.iter_mut().filter(|p| !p.dead) {
            p.threads.drain(..).for_each(Handle::join);
        }
        let left = self.far.names();
        let removed = left.iter().filter(|n| n.contains("receivers/removed/")).count();
        (0..removed).for_each(|_| self.ledger.note("dead writers collected"));
    }

    fn check_owner(&self, process: usize) {
        let p = &self.processes[process];
        let (log, ledger, far, id) = (p.log.clone(), self.ledger.clone(), self.far.clone(), p.id);
        let check = move || {
            let since = ledger.now();
            let found =
                scan(&log, &ledger).unwrap_or_else(|e| panic!("nothing fails any more, but a scan: {e}"));
            ledger.check(&found, since, id, &far);
            for _ in 0..10 {
                if let Some((number, handle)) = ledger.any() {
                    ledger.read(number, log.read(&handle));
                }
            }
        };
        turns::spawn_in(id, "checking".into(), check).expect("a thread").join();
    }

    /// Lets go of everything, so that every thread comes to its end.
    fn bury(&mut self) {
        for p in self.processes.drain(..) {
            p.stop.store(true, Ordering::Release);
            turns::go_on(p.id);
            let Process { id, log, threads, .. } = p;
            threads.into_iter().for_each(Handle::join);
            turns::spawn_in(id, "closing".into(), move || drop(log)).expect("a thread").join();
        }
    }
}

/// What may go wrong while the store misbehaves: an error of the network, and nothing else.
fn is_io(e: &Error) -> bool {
    matches!(e, Error::Io { .. }) && !e.is_not_found()
}

fn open(far: &Far, ledger: &Ledger, role: Role, id: usize, force: bool) -> Arc<Log> {
    let mut said = None::<String>;
    for attempt in 0.. {
        let mut options = options(role);
        options.takeover = if force || attempt > 4 { Takeover::Force } else { Takeover::Refuse };
        let log = Arc::new(Log::open_in(options.clone(), Arc::new(far.home(id, &options))).expect("options"));
        ledger.opens(id);
        if attempt == 12 {
            far.misbehave(Misdeeds::default());
            far.slow_down(Duration::ZERO);
        }
        assert!(
            attempt < 40,
            "process {id} cannot open the log, however often it tries: {}",
            said.unwrap_or_default()
        );
        // As Spark does after a crash: a driver that writes first would begin a new generation.
        let read = scan(&log, ledger);
        if let Err(e) = read {
            assert!(is_io(&e), "process {id} begins with a scan: {e}");
            said = Some(e.to_string());
            continue;
        }
        let (number, bytes, time) = ledger.begin(id);
        let result = log.append(&bytes, time);
        ledger.answer(number, &result);
        if let Err(e) = &result {
            said = Some(e.to_string());
        }
        match result {
            Ok(_) => {}
            Err(Error::Locked { .. }) => {
                ledger.note("waits for a live driver");
                continue;
            }
            Err(Error::Fenced { .. }) => {
                ledger.note("fenced at once");
                continue;
            }
            Err(e) => {
                assert!(is_io(&e), "process {id} cannot write: {e}");
                continue;
            }
        }
        let since = ledger.now();
        match scan(&log, ledger) {
            Ok(found) if role == Role::Driver => {
                // Another may have taken it over meanwhile: then this was no owner's view.
                let (number, bytes, time) = ledger.begin(id);
                let result = log.append(&bytes, time);
                ledger.answer(number, &result);
                if result.is_ok() {
                    ledger.check(&found, since, id, far);
                }
            }
            Ok(found) => ledger.check(&found, since, id, far),
            Err(e) => {
                assert!(is_io(&e), "process {id} reads what it has: {e}");
            }
        }
        return log;
    }
    unreachable!("it tries until it panics")
}

fn scan(log: &Log, ledger: &Ledger) -> Result<Vec<usize>, Error> {
    log.scan()?.map(|r| r.map(|bytes| ledger.number_of(&bytes))).collect()
}

fn write(log: &Log, ledger: &Ledger, id: usize, records: u64, stop: &AtomicBool) {
    for _ in 0..records {
        if stop.load(Ordering::Acquire) {
            return;
        }
        let (number, bytes, time) = ledger.begin(id);
        let result = log.append(&bytes, time);
        ledger.answer(number, &result);
        match result {
            Err(Error::Fenced { .. }) => return ledger.note("fenced"),
            Err(e) => assert!(is_io(&e) || matches!(e, Error::Timeout { .. }), "{e}"),
            Ok(_) => {}
        }
        let most = if turns::percent(10) { 20_000 } else { 100 };
        turns::pause(Duration::from_millis(turns::below(most)));
    }
}

fn clean_and_read(log: &Log, ledger: &Ledger, stop: &AtomicBool) {
    for _ in 0..1 + turns::below(5) {
        if stop.load(Ordering::Acquire) {
            return;
        }
        if turns::percent(60) {
            let age = match turns::below(3) {
                0 => turns::below(500),
                1 => turns::below(20_000),
                _ => turns::below(900_000),
            };
            let threshold = Ledger::time() - age as i64;
            ledger.clean(threshold);
            turns::trace(|| format!("process {}: clean below {threshold}", turns::process()));
            // What it answers is a matter of the store; that nothing goes which must stay is checked.
            drop(log.clean(threshold, turns::percent(20)));
        }
        if let (Some((number, handle)), true) = (ledger.any(), turns::percent(60)) {
            ledger.note("reads beside");
            ledger.read(number, log.read(&handle));
        }
        turns::pause(Duration::from_millis(turns::below(if turns::percent(20) { 300_000 } else { 3_000 })));
    }
}
