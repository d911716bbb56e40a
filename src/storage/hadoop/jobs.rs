//! Calls of Hadoop's client, as jobs that Java threads fetch, carry out and answer.
//!
//! Native code never calls Java. A job waits in a queue until one of the JVM's own threads takes it (`Native.takeJob`),
//! and whoever asked waits for its answer, up to a bound. A job owns its bytes: a caller that gives up leaves them to the
//! Java thread that may still be at work with them. That costs one copy of a group, and is why nobody need wait for a
//! thread that hangs.

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
    /// Writes a small file, over what is there. Answers the name node's time of it.
    Put = 11,
    /// Reads a small file.
    Get = 12,
    /// Makes a directory and its parents.
    MakeDirs = 13,
    /// Gives the file `path` the name `other`, unless that is taken. Answers 1 if it was not.
    Rename = 14,
    /// The time of change of `path`.
    Time = 15,
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
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<VecDeque<Arc<Job>>>,
    filled: Condvar,
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
        read: Mutex::new(Vec::with_capacity(room)),
        answer: Mutex::default(),
        answered: Condvar::new(),
    });
    if wanted {
        locked(&QUEUE.open).insert(id, job.clone());
    }
    locked(&QUEUE.waiting).push_back(job.clone());
    QUEUE.filled.notify_one();
    job
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
    let until = Instant::now() + bound;
    let mut answer = locked(&job.answer);
    loop {
        if let Some(answer) = answer.take() {
            drop(locked(&QUEUE.open).remove(&job.id));
            return answer.map(|a| Answer { bytes: std::mem::take(&mut *locked(&job.read)), ..a });
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        answer = job.answered.wait_timeout(answer, left).unwrap_or_else(PoisonError::into_inner).0;
    }
    drop(answer);
    // Who answers now is told that nobody waits, and closes what it opened.
    locked(&QUEUE.open).remove(&job.id);
    locked(&QUEUE.waiting).retain(|j| j.id != job.id);
    let late = format!("no answer of Hadoop's client within {bound:?}");
    Err(Error::io(action(what), path, std::io::Error::new(std::io::ErrorKind::TimedOut, late)))
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
    }
}

/// Takes the oldest job, waiting for one for up to `bound`. Called by Java's threads.
#[cfg_attr(not(feature = "jni"), allow(dead_code))]
pub(crate) fn take(bound: Duration) -> Option<Arc<Job>> {
    QUEUE.served.store(true, Ordering::Release);
    let until = Instant::now() + bound;
    let mut waiting = locked(&QUEUE.waiting);
    loop {
        if let Some(job) = waiting.pop_front() {
            return Some(job);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        waiting = QUEUE.filled.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
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

    #[test]
    fn a_call_is_answered_and_a_late_answer_is_nobodys() {
        serve();
        let root = 77;
        let java = thread::spawn(move || {
            // Another test's job may be there; ours is the one with this root.
            let job = take(Duration::from_secs(20)).filter(|j| j.call.root == root);
            let job = job.map(|job| {
                assert!(job.fill(0, b"ab") && job.fill(2, b"c") && !job.fill(3, b"more"));
                job.id
            });
            job.is_some_and(|id| answer(id, Ok(Answer { number: 5, ..Answer::default() })))
        });
        let asked = Call { room: 3, ..Call::new(root, What::Get, "/x") };
        let found = call(asked, Duration::from_secs(20)).expect("an answer");
        assert_eq!((found.number, found.bytes.as_slice()), (5, b"abc".as_slice()));
        assert!(java.join().expect("joined"));

        let late = call(Call::new(root, What::Get, "/y"), Duration::from_millis(20));
        assert!(matches!(late, Err(Error::Io { .. })), "{late:?}");
        assert!(take(Duration::ZERO).is_none(), "a job whose caller gave up is not carried out");
        assert!(!answer(12345, Ok(Answer::default())));
    }
}
