//! Threads that take turns, for simulations of processes that meet in a store: one runs at a time, and who is next is
//! decided by a seed; time is a number that jumps to whatever comes next. So a run with real threads of the real log,
//! with time-outs of minutes, takes milliseconds and can be run again exactly.
//!
//! A thread gives its turn away where it would wait: at a gate ([`crate::sync::Word`]), for an answer, for a while. What is
//! between two such places happens at one instant. Processes can be paused (as by SIGSTOP) and let go on, and each has a
//! clock of its own for the time of day.
//!
//! A panic in such a thread ends the run: all others stop where they are, and so does it where it would wait next. They are
//! left behind.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
    future::Future,
    io,
    panic::Location,
    pin::{Pin, pin},
    sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError, mpsc},
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use once_cell::sync::Lazy;
use uuid::Uuid;

use crate::{
    planted::{Bug, Guard},
    storage::sim::Random,
};

/// The time of day at which runs begin, in seconds since 1970.
pub(crate) const BEGINNING: u64 = 1_700_000_000;
/// Turns that a run takes at most: more is a livelock.
const MOST_TURNS: u64 = 300_000;
/// No record of a simulation, and no segment, is longer.
const MOST_BYTES: usize = 16 << 20;

type Event = Box<dyn FnOnce() + Send>;

/// One run.
struct Inner {
    state: Mutex<State>,
    bug: Option<Bug>,
    base: Instant,
    ended: Mutex<mpsc::Sender<Result<(), String>>>,
}

struct State {
    random: Random,
    /// Nanoseconds since the run began.
    now: u64,
    threads: Vec<Thread>,
    running: usize,
    events: BTreeMap<(u64, u64), Event>,
    serial: u64,
    turns: u64,
    processes: HashMap<usize, Process>,
    failed: bool,
}

struct Thread {
    name: String,
    process: usize,
    wait: Wait,
    turn: Arc<Condvar>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Wait {
    /// It has something to do.
    Not,
    /// Until a time (`u64::MAX` is never), or until somebody wakes who sleeps at this word.
    For(u64, Option<usize>),
    /// Until another thread has ended.
    End(usize),
    Ended,
}

#[derive(Debug, Clone, Copy, Default)]
struct Process {
    /// Its threads do nothing before.
    paused: u64,
    /// Seconds by which its time of day differs.
    skew: i64,
}

#[derive(Clone)]
struct Current {
    run: Arc<Inner>,
    me: usize,
}

thread_local! {
    static CURRENT: RefCell<Option<Current>> = const { RefCell::new(None) };
    /// The next time at which what this thread waits for may be there.
    static NEXT: Cell<u64> = const { Cell::new(u64::MAX) };
}

fn current() -> Option<Current> {
    CURRENT.try_with(|c| c.borrow().clone()).ok().flatten()
}

fn here() -> Current {
    current().expect("a thread that takes turns")
}

/// Whether this thread takes turns.
pub(crate) fn on() -> bool {
    CURRENT.try_with(|c| c.borrow().is_some()).unwrap_or(false)
}

/// Runs `work` as the first thread of process 0, and whatever it starts, to the end of all.
///
/// # Errors
/// The first panic, or that all threads wait for each other.
pub(crate) fn run(seed: u64, bug: Option<Bug>, work: impl FnOnce() + Send + 'static) -> Result<(), String> {
    catch_panics();
    let (ended, end) = mpsc::channel();
    let run = Arc::new(Inner {
        state: Mutex::new(State {
            random: Random::new(seed),
            now: 0,
            threads: Vec::new(),
            running: 0,
            events: BTreeMap::new(),
            serial: 0,
            turns: 0,
            processes: HashMap::new(),
            failed: false,
        }),
        bug,
        base: Instant::now(),
        ended: Mutex::new(ended),
    });
    start(&run, 0, "the run".into(), work).expect("a thread");
    end.recv().expect("every run ends")
}

/// A panic is told to whoever began the run, and nobody has a turn any more. Its thread must not wait here: whoever replaces
/// the hook, as the tests' harness does at its end, waits for those who are in it.
fn catch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let Some(me) = current() else { return before(info) };
            let text = match (info.payload().downcast_ref::<&str>(), info.payload().downcast_ref::<String>())
            {
                (Some(text), _) => text,
                (_, Some(text)) => text.as_str(),
                _ => "a panic",
            };
            let at = info.location().map(Location::to_string).unwrap_or_default();
            me.fail(format!("{text} ({at})"));
        }));
    });
}

fn start(
    run: &Arc<Inner>,
    process: usize,
    name: String,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<usize> {
    let (me, turn) = {
        let mut state = run.lock();
        let turn = Arc::new(Condvar::new());
        state.threads.push(Thread { name: name.clone(), process, wait: Wait::Not, turn: turn.clone() });
        (state.threads.len() - 1, turn)
    };
    let run = run.clone();
    thread::Builder::new().name(name).stack_size(1 << 20).spawn(move || {
        CURRENT.set(Some(Current { run: run.clone(), me }));
        let guard = Guard::new(run.bug, MOST_BYTES);
        run.await_turn(run.lock(), me, &turn);
        work();
        drop(guard);
        run.end(me);
        CURRENT.set(None);
    })?;
    Ok(me)
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn await_turn(&self, mut state: MutexGuard<'_, State>, me: usize, turn: &Condvar) {
        while state.failed || state.running != me {
            state = turn.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.threads[me].wait = Wait::Not;
        Guard::set_clock(state.wall(me).1);
    }

    /// Gives the turn away until `wait` is over.
    fn give(&self, me: usize, wait: Wait) {
        let mut state = self.lock();
        if state.failed {
            let turn = state.threads[me].turn.clone();
            return self.await_turn(state, me, &turn);
        }
        state.threads[me].wait = wait;
        let (mut state, next) = self.choose(state);
        let Some(next) = next else { return self.stuck(state) };
        let turn = state.threads[me].turn.clone();
        if next != me {
            state.running = next;
            state.threads[next].turn.notify_one();
        }
        self.await_turn(state, me, &turn);
    }

    /// Who is next; what was to happen until then happens. None if nobody ever will be.
    fn choose<'a>(&'a self, mut state: MutexGuard<'a, State>) -> (MutexGuard<'a, State>, Option<usize>) {
        loop {
            let now = state.now;
            while let Some(event) = state.events.first_entry().filter(|e| e.key().0 <= now) {
                let happens = event.remove();
                drop(state);
                happens();
                state = self.lock();
            }
            let all: Vec<(usize, u64)> = (0..state.threads.len()).map(|t| (t, state.due(t))).collect();
            let ready: Vec<usize> = all.iter().filter(|(_, at)| *at <= state.now).map(|(t, _)| *t).collect();
            if !ready.is_empty() {
                state.turns += 1;
                if state.turns > MOST_TURNS {
                    return (state, None);
                }
                let lucky = state.random.below(ready.len() as u64) as usize;
                return (state, Some(ready[lucky]));
            }
            let next = all.iter().map(|(_, at)| *at).min().unwrap_or(u64::MAX);
            let event = state.events.first_key_value().map_or(u64::MAX, |(key, _)| key.0);
            match next.min(event) {
                u64::MAX => return (state, None),
                at => state.now = at,
            }
        }
    }

    fn end(&self, me: usize) {
        let mut state = self.lock();
        state.threads[me].wait = Wait::Ended;
        if state.threads.iter().all(|t| t.wait == Wait::Ended) {
            drop(state);
            let _ = self.ended.lock().unwrap_or_else(PoisonError::into_inner).send(Ok(()));
            return;
        }
        let (mut state, next) = self.choose(state);
        match next {
            Some(next) => {
                state.running = next;
                state.threads[next].turn.notify_one();
            }
            None => self.stuck(state),
        }
    }

    /// Everybody waits, for ever, or nobody comes to an end.
    fn stuck(&self, state: MutexGuard<'_, State>) {
        let waiting = state.threads.iter().filter(|t| t.wait != Wait::Ended);
        let names: Vec<String> =
            waiting.map(|t| format!("{} of {}: {:?}", t.name, t.process, t.wait)).collect();
        let text = format!("nobody goes on after {} turns: {}", state.turns, names.join("; "));
        drop(state);
        panic!("{text}");
    }
}

impl State {
    /// When a thread has something to do.
    fn due(&self, thread: usize) -> u64 {
        let t = &self.threads[thread];
        let at = match t.wait {
            Wait::Not => 0,
            Wait::For(until, _) => until,
            Wait::End(other) => {
                if self.threads[other].wait == Wait::Ended {
                    0
                } else {
                    u64::MAX
                }
            }
            Wait::Ended => u64::MAX,
        };
        at.max(self.processes.get(&t.process).map_or(0, |p| p.paused))
    }

    /// A thread's time of day, since 1970.
    fn wall(&self, thread: usize) -> (Duration, u64) {
        let skew = self.processes.get(&self.threads[thread].process).map_or(0, |p| p.skew);
        let at = Duration::from_secs(BEGINNING.saturating_add_signed(skew)) + Duration::from_nanos(self.now);
        (at, at.as_millis() as u64)
    }
}

impl Current {
    fn fail(&self, text: String) {
        let mut state = self.run.lock();
        if !std::mem::replace(&mut state.failed, true) {
            let after = Duration::from_nanos(state.now);
            let name = &state.threads[self.me].name;
            let text = format!("{name}, after {after:?}: {text}");
            let _ = self.run.ended.lock().unwrap_or_else(PoisonError::into_inner).send(Err(text));
        }
    }

    fn sleep_until(&self, until: u64, word: Option<usize>) {
        self.run.give(self.me, Wait::For(until, word));
    }
}

// ---- what threads of the log call -----------------------------------------------------------------------------------

/// The time, if this thread takes turns.
pub(crate) fn now() -> Option<Instant> {
    let me = current()?;
    let now = me.run.lock().now;
    Some(me.run.base + Duration::from_nanos(now))
}

/// The time of day in this thread's process, if it takes turns.
pub(crate) fn wall() -> Option<SystemTime> {
    let me = current()?;
    let at = me.run.lock().wall(me.me).0;
    Some(UNIX_EPOCH + at)
}

/// A uuid, if this thread takes turns.
pub(crate) fn uuid() -> Option<Uuid> {
    let me = current()?;
    let mut state = me.run.lock();
    let (a, b) = (state.random.next(), state.random.next());
    Some(uuid::Builder::from_random_bytes(Uuid::from_u64_pair(a, b).into_bytes()).into_uuid())
}

/// A number below `n`.
pub(crate) fn below(n: u64) -> u64 {
    here().run.lock().random.below(n)
}

/// True in `percent` of a hundred cases.
pub(crate) fn percent(percent: u64) -> bool {
    below(100) < percent
}

/// Nanoseconds since the run began.
pub(crate) fn elapsed() -> u64 {
    here().run.lock().now
}

/// Waits.
pub(crate) fn pause(time: Duration) {
    let me = here();
    let until = elapsed().saturating_add(nanos(time));
    me.sleep_until(until, None);
}

/// Sleeps at a word until it is woken, or for no reason at all.
pub(crate) fn sleep(word: usize, most: Option<Duration>) {
    let until = most.map_or(u64::MAX, |most| elapsed().saturating_add(nanos(most)));
    here().sleep_until(until, Some(word));
}

/// Wakes one of those who sleep at a word, or all of them.
pub(crate) fn wake(word: usize, all: bool) {
    let me = here();
    let mut state = me.run.lock();
    let asleep = |t: &Thread| matches!(t.wait, Wait::For(_, Some(at)) if at == word);
    let mut sleepers: Vec<usize> = (0..state.threads.len()).filter(|t| asleep(&state.threads[*t])).collect();
    if !all && !sleepers.is_empty() {
        let lucky = state.random.below(sleepers.len() as u64) as usize;
        sleepers = vec![sleepers[lucky]];
    }
    for thread in sleepers {
        state.threads[thread].wait = Wait::Not;
    }
}

/// Takes a lock that others hold while they wait for something. Whoever lets go of it calls [`wake`] with its address.
pub(crate) fn lock(mutex: &Mutex<()>) -> MutexGuard<'_, ()> {
    loop {
        match mutex.try_lock() {
            Ok(guard) => return guard,
            Err(std::sync::TryLockError::Poisoned(e)) => return e.into_inner(),
            Err(std::sync::TryLockError::WouldBlock) => sleep(std::ptr::from_ref(mutex) as usize, None),
        }
    }
}

/// Says what happens, where `FERROWAL_STORE_TRACE` is set.
pub(crate) fn trace(what: impl FnOnce() -> String) {
    static TRACED: Lazy<bool> = Lazy::new(|| std::env::var_os("FERROWAL_STORE_TRACE").is_some());
    if *TRACED {
        eprintln!("{:>10.3} {}", elapsed() as f64 / 1e9, what());
    }
}

/// A thread that takes turns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Handle(usize);

/// Starts a thread of the same process.
pub(crate) fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> io::Result<Handle> {
    let process = process();
    spawn_in(process, name, work)
}

/// Starts a thread of that process.
pub(crate) fn spawn_in(
    process: usize,
    name: String,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<Handle> {
    start(&here().run, process, name, work).map(Handle)
}

/// This thread's process.
pub(crate) fn process() -> usize {
    let me = here();
    me.run.lock().threads[me.me].process
}

impl Handle {
    /// Waits for its end.
    pub(crate) fn join(self) {
        let me = here();
        if me.run.lock().threads[self.0].wait != Wait::Ended {
            me.run.give(me.me, Wait::End(self.0));
        }
    }

    /// Makes it look again at what it waits for.
    fn nudge(self) {
        let me = here();
        let mut state = me.run.lock();
        if let Wait::For(..) = state.threads[self.0].wait {
            state.threads[self.0].wait = Wait::Not;
        }
    }
}

// ---- processes ------------------------------------------------------------------------------------------------------

/// Stops all threads of a process for a while; `None` is for ever.
pub(crate) fn stop(process: usize, time: Option<Duration>) {
    let me = here();
    let mut state = me.run.lock();
    let until = time.map_or(u64::MAX, |time| state.now.saturating_add(nanos(time)));
    state.processes.entry(process).or_default().paused = until;
}

/// Lets a process that was stopped go on.
pub(crate) fn go_on(process: usize) {
    here().run.lock().processes.entry(process).or_default().paused = 0;
}

/// Sets the time of day in a process off by so many seconds.
pub(crate) fn set_skew(process: usize, seconds: i64) {
    here().run.lock().processes.entry(process).or_default().skew = seconds;
}

/// Lets something happen in a while, whoever is paused then.
pub(crate) fn after(time: Duration, event: impl FnOnce() + Send + 'static) {
    let me = here();
    let mut state = me.run.lock();
    let at = state.now.saturating_add(nanos(time));
    let serial = state.serial;
    state.serial += 1;
    state.events.insert((at, serial), Box::new(event));
}

// ---- futures --------------------------------------------------------------------------------------------------------

/// Is ready after a while.
pub(crate) struct Delay(u64);

impl Delay {
    pub(crate) fn new(time: Duration) -> Delay {
        Delay(elapsed().saturating_add(nanos(time)))
    }
}

impl Future for Delay {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if elapsed() >= self.0 {
            return Poll::Ready(());
        }
        NEXT.set(NEXT.get().min(self.0));
        Poll::Pending
    }
}

/// Runs a future that waits for nothing but [`Delay`]s.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    block_on_unless(work, || false).expect("nobody ends it")
}

fn block_on_unless<T>(work: impl Future<Output = T>, over: impl Fn() -> bool) -> Option<T> {
    let mut work = pin!(work);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if over() {
            return None;
        }
        NEXT.set(u64::MAX);
        if let Poll::Ready(value) = work.as_mut().poll(&mut context) {
            return Some(value);
        }
        here().sleep_until(NEXT.get(), None);
    }
}

/// A future that has a thread of its own.
#[derive(Debug)]
pub(crate) struct Task<T> {
    thread: Handle,
    slot: Arc<Mutex<(bool, Option<T>)>>,
}

/// Runs a future beside.
pub(crate) fn begin<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> io::Result<Task<T>> {
    let slot = Arc::new(Mutex::new((false, None)));
    let ours = slot.clone();
    let thread = spawn("a task".into(), move || {
        let over = || ours.lock().unwrap_or_else(PoisonError::into_inner).0;
        let result = block_on_unless(work, over);
        ours.lock().unwrap_or_else(PoisonError::into_inner).1 = result;
    })?;
    Ok(Task { thread, slot })
}

impl<T> Task<T> {
    /// Ends it where it is.
    pub(crate) fn abort(&self) {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner).0 = true;
        self.thread.nudge();
    }

    /// Waits for it. None if it was ended.
    pub(crate) fn wait(self) -> Option<T> {
        self.thread.join();
        self.slot.lock().unwrap_or_else(PoisonError::into_inner).1.take()
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync;

    /// Seed 473 was no livelock of the log's: those who waited for a lock asked for it ten thousand times a second, while its
    /// holder waited for a store that did not answer.
    #[test]
    fn whoever_waits_for_a_lock_takes_no_turns() {
        const HOUR: Duration = Duration::from_secs(3600);
        let work = || {
            let lock = Arc::new(sync::Patient::default());
            let ask = |time: Duration| {
                let lock = lock.clone();
                let work = move || {
                    let _held = lock.lock();
                    pause(time);
                };
                spawn("whoever".into(), work).unwrap()
            };
            let holder = ask(HOUR);
            pause(Duration::from_secs(1));
            let waiters = [ask(HOUR), ask(HOUR), ask(HOUR)];
            holder.join();
            waiters.into_iter().for_each(Handle::join);
            assert!(elapsed() >= 4 * nanos(HOUR), "two had it at once");
            let turns = here().run.lock().turns;
            assert!(turns < 50, "{turns} turns");
        };
        run(1, None, work).unwrap();
    }

    #[test]
    fn who_waits_for_each_other_is_told_of() {
        let told = run(1, None, || sleep(1, None)).unwrap_err();
        assert!(told.contains("nobody goes on"), "{told}");
    }
}
