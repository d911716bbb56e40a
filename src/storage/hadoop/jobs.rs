//! Calls of Hadoop's client, as jobs that Java threads fetch, carry out and answer.
//!
//! Native code never calls Java. A job waits in a queue until one of the JVM's own threads takes it (`Native.takeJob`),
//! and whoever asked waits for its answer, up to a bound. A job owns its bytes: a caller that gives up leaves them to the
//! Java thread that may still be at work with them. That costs one copy of a group, and is why nobody need wait for a
//! thread that hangs.
//!
//! Who gives up knows nothing of the call: it may be carried out later, when the path names another file. What follows
//! from that is each caller's to say. Who does not give up knows: a job is answered or given up, never both.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use once_cell::sync::Lazy;

use crate::error::{Error, Result};

/// What is to be done. The numbers are those of `HadoopRoot.java`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i64)]
pub(crate) enum What {
    /// Connects, and refuses a file system whose files cannot be made durable. Answers its URI.
    Connect = 1,
    /// Creates `path` exclusively, writes the bytes, syncs them, and keeps the file open. Answers its number.
    Create = 2,
    /// Appends the bytes to the open file `file` whose length must be `a`, and makes it durable (`b` is 1: on the
    /// devices; 2: in the memory of all its DataNodes; 0: not yet).
    Write = 3,
    /// Closes the open file `file`.
    Close = 4,
    /// Opens `path` for reading. Answers the file's number, and its length as its name.
    Open = 5,
    /// Reads at `a` of the open file `file`.
    Read = 6,
    /// Lists a directory: length, time of change, kind and name of each. Kind is `d`, `f`, or `w` while it is written.
    List = 7,
    /// Deletes a file, or a directory and all in it. Answers 1 if there was one.
    Delete = 8,
    /// Takes a file from whoever writes it. Answers its length.
    Recover = 9,
    /// Cuts `path` to the length `a`, appends the bytes, makes them durable, and closes it.
    Seal = 10,
    /// Writes a small file that is not there. Answers the name node's time of it.
    Put = 11,
    /// Reads a small file.
    Get = 12,
    /// Makes a directory and its parents.
    MakeDirs = 13,
    /// Gives the file `path` the name `other`, unless that is taken. Answers 1 if it was not.
    Rename = 14,
    /// The time of change of `path`.
    Time = 15,
    /// Gives `path`, which must be there, the name node's time as its time of change, and answers it.
    Renew = 16,
}

/// Who carries out a call: each kind of calls has threads of its own, since what makes one kind hang need not keep the
/// others. The numbers are those of `HadoopThreads.java`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Lane {
    /// What the name node answers, and what waits for a lease.
    Names = 0,
    /// Appends to open files: the DataNodes' work, which goes on without a name node.
    Appends = 1,
    /// Reads of open files, which ask the name node now and then.
    Reads = 2,
    /// Closes: of files that are read, which ask nobody, and of those that were written, which ask the name node.
    Closes = 3,
}

const LANES: usize = 4;

impl Lane {
    /// The lane of a number.
    #[cfg_attr(not(feature = "jni"), allow(dead_code))]
    pub(crate) fn of(number: i64) -> Option<Lane> {
        let all = [Lane::Names, Lane::Appends, Lane::Reads, Lane::Closes];
        all.into_iter().find(|lane| *lane as i64 == number)
    }
}

impl What {
    fn lane(self) -> Lane {
        match self {
            What::Write => Lane::Appends,
            What::Read => Lane::Reads,
            What::Close => Lane::Closes,
            _ => Lane::Names,
        }
    }
}

/// One call.
#[derive(Debug)]
#[cfg_attr(not(feature = "jni"), allow(dead_code))]
pub(crate) struct Call {
    pub(crate) root: i64,
    pub(crate) what: What,
    pub(crate) path: String,
    pub(crate) other: String,
    pub(crate) file: i64,
    pub(crate) a: i64,
    pub(crate) b: i64,
    /// What is written.
    pub(crate) bytes: Vec<u8>,
    /// Bytes that may be read.
    pub(crate) room: usize,
}

impl Call {
    pub(crate) fn new(root: i64, what: What, path: impl Into<String>) -> Call {
        Call {
            root,
            what,
            path: path.into(),
            other: String::new(),
            file: 0,
            a: 0,
            b: 0,
            bytes: Vec::new(),
            room: 0,
        }
    }
}

/// What Java answers.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) number: i64,
    pub(crate) names: Vec<String>,
    pub(crate) bytes: Vec<u8>,
}

/// A call on its way.
#[derive(Debug)]
#[cfg_attr(not(feature = "jni"), allow(dead_code))]
pub(crate) struct Job {
    pub(crate) id: i64,
    pub(crate) call: Call,
    /// Whether somebody waits for its answer, or did.
    wanted: bool,
    read: Mutex<Vec<u8>>,
    answer: Mutex<Option<Result<Answer>>>,
    answered: Condvar,
}

impl Job {
    /// Bytes that Java has read, at this place of the answer. Whether they fit.
    #[cfg_attr(not(feature = "jni"), allow(dead_code))]
    pub(crate) fn fill(&self, at: usize, bytes: &[u8]) -> bool {
        let mut read = locked(&self.read);
        let fits = at == read.len() && at + bytes.len() <= self.call.room;
        if fits {
            read.extend_from_slice(bytes);
        }
        fits
    }

    /// Waits for the answer until `until`, or for as long as it takes.
    fn wait(&self, until: Option<Instant>) -> Option<Result<Answer>> {
        let mut answer = locked(&self.answer);
        loop {
            if let Some(answer) = answer.take() {
                return Some(answer);
            }
            let Some(until) = until else {
                answer = self.answered.wait(answer).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            answer = self.answered.wait_timeout(answer, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Ends the wait: from here on Java is told that nobody waits, and closes what it opened. If it answers at this moment,
    /// and was told that somebody does wait, that is the answer.
    fn give_up(&self) -> Option<Result<Answer>> {
        if locked(&QUEUE.open).remove(&self.id).is_none() {
            return self.wait(None);
        }
        locked(&QUEUE.waiting)[self.call.what.lane() as usize].retain(|j| j.id != self.id);
        None
    }
}

#[derive(Default)]
struct Queue {
    /// By lane.
    waiting: Mutex<[VecDeque<Arc<Job>>; LANES]>,
    filled: [Condvar; LANES],
    /// For those that look into every lane.
    #[cfg(test)]
    any: Condvar,
    /// Those that are not answered.
    open: Mutex<HashMap<i64, Arc<Job>>>,
    last: AtomicI64,
    served: AtomicBool,
}

static QUEUE: Lazy<Queue> = Lazy::new(Queue::default);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn enqueue(call: Call, wanted: bool) -> Arc<Job> {
    let id = QUEUE.last.fetch_add(1, Ordering::Relaxed) + 1;
    let room = call.room;
    let job = Arc::new(Job {
        id,
        call,
        wanted,
        read: Mutex::new(Vec::with_capacity(room)),
        answer: Mutex::default(),
        answered: Condvar::new(),
    });
    if wanted {
        locked(&QUEUE.open).insert(id, job.clone());
    }
    place(&job, false);
    job
}

fn place(job: &Arc<Job>, first: bool) {
    let lane = job.call.what.lane() as usize;
    let mut waiting = locked(&QUEUE.waiting);
    if first {
        waiting[lane].push_front(job.clone());
    } else {
        waiting[lane].push_back(job.clone());
    }
    QUEUE.filled[lane].notify_one();
    #[cfg(test)]
    QUEUE.any.notify_all();
}

/// Has a call carried out, and waits for its answer for up to `bound`.
///
/// # Errors
/// What Java says; an [`Error::Io`] of the kind `TimedOut` when it says nothing in time: then the call may still be carried
/// out. [`Error::Config`] in a process without a JVM.
pub(crate) fn call(call: Call, bound: Duration) -> Result<Answer> {
    if !QUEUE.served.load(Ordering::Acquire) {
        return Err(Error::Config(
            "hdfs: is reached through the JVM's Hadoop client: open this log from Java, with that client on the class path".into(),
        ));
    }
    let (what, path) = (call.what, call.path.clone());
    let job = enqueue(call, true);
    let Some(answer) = job.wait(Some(Instant::now() + bound)).or_else(|| job.give_up()) else {
        let late = format!("no answer of Hadoop's client within {bound:?}");
        return Err(Error::io(action(what), path, std::io::Error::new(std::io::ErrorKind::TimedOut, late)));
    };
    answer.map(|a| Answer { bytes: std::mem::take(&mut *locked(&job.read)), ..a })
}

/// Has a call carried out some time, whatever becomes of it.
pub(crate) fn post(call: Call) {
    enqueue(call, false);
}

/// What a call does, for messages.
pub(crate) fn action(what: What) -> &'static str {
    match what {
        What::Connect => "connect to",
        What::Create | What::MakeDirs | What::Rename => "create",
        What::Write | What::Put => "write",
        What::Close => "close",
        What::Open => "open",
        What::Read | What::Get => "read",
        What::List => "list",
        What::Delete => "delete",
        What::Recover => "take over",
        What::Seal => "seal",
        What::Time => "look at",
        What::Renew => "renew",
    }
}

/// Takes the oldest job of a lane, waiting for one for up to `bound`. Called by Java's threads.
#[cfg_attr(not(feature = "jni"), allow(dead_code))]
pub(crate) fn take(lane: Lane, bound: Duration) -> Option<Arc<Job>> {
    let until = Instant::now() + bound;
    let lane = lane as usize;
    let mut waiting = locked(&QUEUE.waiting);
    loop {
        if let Some(job) = waiting[lane].pop_front() {
            return Some(job);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        waiting = QUEUE.filled[lane].wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// Gives a job back that was taken and could not be told to Java: another thread takes it, if anybody still waits for it.
#[cfg_attr(not(feature = "jni"), allow(dead_code))]
pub(crate) fn put_back(job: &Arc<Job>) {
    // Under this lock nobody gives up meanwhile: he would find nothing to take out of the queue.
    let open = locked(&QUEUE.open);
    if !job.wanted || open.contains_key(&job.id) {
        place(job, true);
    }
}

/// Takes the oldest job of a test's own root, of whatever lane.
#[cfg(test)]
pub(crate) fn take_of(root: i64, bound: Duration) -> Option<Arc<Job>> {
    let until = Instant::now() + bound;
    let mut waiting = locked(&QUEUE.waiting);
    loop {
        let ours = waiting.iter().flatten().filter(|j| j.call.root == root).min_by_key(|j| j.id).cloned();
        if let Some(job) = ours {
            waiting[job.call.what.lane() as usize].retain(|j| j.id != job.id);
            return Some(job);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        waiting = QUEUE.any.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// Says that Java's threads are there, or about to be.
#[cfg_attr(not(feature = "jni"), allow(dead_code))]
pub(crate) fn serve() {
    QUEUE.served.store(true, Ordering::Release);
}

/// A job that somebody still waits for.
#[cfg_attr(not(feature = "jni"), allow(dead_code))]
pub(crate) fn open(id: i64) -> Option<Arc<Job>> {
    locked(&QUEUE.open).get(&id).cloned()
}

/// Answers a job. Whether anybody waited for it.
#[cfg_attr(not(feature = "jni"), allow(dead_code))]
pub(crate) fn answer(id: i64, answer: Result<Answer>) -> bool {
    let Some(job) = locked(&QUEUE.open).remove(&id) else { return false };
    *locked(&job.answer) = Some(answer);
    job.answered.notify_all();
    true
}

#[cfg(test)]
#[allow(clippy::expect_used)]
mod tests {
    use std::thread;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn a_call_is_answered_and_a_late_answer_is_nobodys() {
        serve();
        let root = 77;
        let java = thread::spawn(move || {
            take_of(root, SOON).is_some_and(|job| {
                assert!(job.fill(0, b"ab") && job.fill(2, b"c") && !job.fill(3, b"more"));
                answer(job.id, Ok(Answer { number: 5, ..Answer::default() }))
            })
        });
        let asked = Call { room: 3, ..Call::new(root, What::Get, "/x") };
        let found = call(asked, SOON).expect("an answer");
        assert_eq!((found.number, found.bytes.as_slice()), (5, b"abc".as_slice()));
        assert!(java.join().expect("joined"));

        let late = call(Call::new(root, What::Get, "/y"), Duration::from_millis(20));
        assert!(matches!(late, Err(Error::Io { .. })), "{late:?}");
        assert!(take_of(root, Duration::ZERO).is_none(), "a job whose caller gave up is not carried out");
        assert!(!answer(12345, Ok(Answer::default())));
    }

    /// Else a stream would stay open that nobody knows of, and keep its lease.
    #[test]
    fn who_is_told_that_somebody_waited_was_heard() {
        serve();
        let root = 78;
        let bound = Duration::from_millis(1);
        let rounds = 500;
        let java = thread::spawn(move || {
            let mut heard = Vec::new();
            while let Some(job) = take_of(root, Duration::from_secs(1)) {
                // As near to the end of the caller's patience as can be.
                let until = Instant::now() + bound;
                while Instant::now() < until {
                    std::hint::spin_loop();
                }
                if answer(job.id, Ok(Answer { number: job.id, ..Answer::default() })) {
                    heard.push(job.id);
                }
            }
            heard
        });
        let answered: Vec<i64> = (0..rounds)
            .filter_map(|_| call(Call::new(root, What::Create, "/x"), bound).ok().map(|a| a.number))
            .collect();
        assert_eq!(java.join().expect("joined"), answered);

        // The same in the one order that matters: the answer comes after the bound, and before the caller gives up.
        let job = enqueue(Call::new(root, What::Create, "/x"), true);
        assert!(job.wait(Some(Instant::now())).is_none());
        assert!(answer(job.id, Ok(Answer { number: 9, ..Answer::default() })));
        assert_eq!(job.give_up().expect("the answer").expect("a good one").number, 9);
    }

    #[test]
    fn a_job_that_could_not_be_told_is_taken_by_another_thread() {
        serve();
        let root = 79;
        let first = enqueue(Call::new(root, What::Get, "/x"), true);
        let second = enqueue(Call::new(root, What::Get, "/y"), true);
        let taken = take_of(root, SOON).expect("a job");
        assert_eq!(taken.id, first.id);
        put_back(&taken);
        let taken = take_of(root, SOON).expect("a job");
        assert_eq!(taken.id, first.id, "it is the oldest still");
        // Its caller gives up while it is told.
        assert!(first.give_up().is_none());
        put_back(&taken);
        assert_eq!(take_of(root, SOON).expect("a job").id, second.id, "nobody waits for the other one");
        assert!(second.give_up().is_none());
    }

    #[test]
    fn an_append_waits_for_no_name_node() {
        let lanes = |what: What| Call::new(80, what, "").what.lane();
        for (what, lane) in [
            (What::Write, Lane::Appends),
            (What::Read, Lane::Reads),
            (What::Close, Lane::Closes),
            (What::Create, Lane::Names),
            (What::Recover, Lane::Names),
            (What::Open, Lane::Names),
        ] {
            assert_eq!((lanes(what), Lane::of(lane as i64)), (lane, Some(lane)));
        }
        assert_eq!(Lane::of(4), None);
    }
}
