//! A name node and its DataNodes in memory, with the threads that Java would have: each call is carried out, refused, lost
//! or held back as a script says.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use super::{
    HadoopHome, ROOT,
    jobs::{self, Answer, Call, Job, What},
    locked,
};
use crate::{
    error::{Error, Result},
    options::{Options, Role},
};

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// It is refused, and not carried out.
    Refuse,
    /// It is carried out, and nobody is told.
    Lose,
    /// The file comes to be, without a byte in it, and nobody is told.
    LoseEmpty,
    /// It is carried out when the test says so ([`Cluster::land`]).
    Hold,
}

#[derive(Debug)]
struct Rule {
    whats: Vec<What>,
    part: String,
    times: usize,
    then: Then,
}

#[derive(Debug, Default)]
struct File {
    bytes: Vec<u8>,
    /// The stream that has its lease.
    writer: Option<i64>,
    changed: i64,
}

#[derive(Debug, Default)]
struct Files {
    /// Numbers of files, which a rename leaves as they are.
    names: BTreeMap<String, u64>,
    files: HashMap<u64, File>,
    /// Open streams: file, and length when it was opened.
    streams: HashMap<i64, (u64, usize)>,
    last: i64,
}

#[derive(Debug, Default)]
struct State {
    files: Mutex<Files>,
    rules: Mutex<Vec<Rule>>,
    said: Mutex<Vec<(What, String)>>,
    held: Mutex<Vec<Arc<Job>>>,
    holding: Condvar,
    /// Milliseconds by which the name node's clock is ahead.
    ahead: AtomicI64,
    stop: AtomicBool,
}

/// Its threads end with it.
#[derive(Debug)]
pub(super) struct Cluster {
    root: i64,
    state: Arc<State>,
    threads: Vec<JoinHandle<()>>,
}

static LAST: AtomicI64 = AtomicI64::new(1_000);
/// How long a test waits for what must come.
const SOON: Duration = Duration::from_secs(20);

fn refused(call: &Call, kind: io::ErrorKind) -> Error {
    Error::io(jobs::action(call.what), call.path.as_str(), io::Error::new(kind, "so says the script"))
}

impl Cluster {
    pub(super) fn start() -> Cluster {
        jobs::serve();
        let root = LAST.fetch_add(1, Ordering::Relaxed);
        let state: Arc<State> = Arc::default();
        let threads = (0..4)
            .map(|_| {
                let state = state.clone();
                thread::spawn(move || {
                    while !state.stop.load(Ordering::Acquire) {
                        if let Some(job) = jobs::take_of(root, Duration::from_millis(20)) {
                            state.meet(&job);
                        }
                    }
                })
            })
            .collect();
        Cluster { root, state, threads }
    }

    /// Options of a log here. Writes wait a second, other calls 300 ms.
    pub(super) fn options(&self, role: Role) -> Options {
        let mut options = Options::new(format!("hdfs://test/app{}", self.root), role);
        options.store.set(ROOT, self.root.to_string());
        options.store.set("ferrowal.test.patience", "300");
        options.store.set("ferrowal.test.timescale", "100");
        options.write_timeout = Duration::from_secs(1);
        options.lock_wait = Duration::ZERO;
        options
    }

    /// The directory as another process would have it.
    pub(super) fn hadoop(&self, role: Role) -> HadoopHome {
        self.hadoop_with(&self.options(role))
    }

    /// The same with other options.
    pub(super) fn hadoop_with(&self, options: &Options) -> HadoopHome {
        match crate::location::Location::from(format!("hdfs://test/app{}", self.root)).place() {
            Ok(crate::location::Place::Hadoop(remote)) => HadoopHome::new(remote, options),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn path(&self, name: &str) -> String {
        format!("/app{}/{name}", self.root)
    }

    /// What becomes of the next so many calls of these kinds whose path has this part.
    pub(super) fn script(&self, whats: &[What], part: &str, times: usize, then: Then) {
        let rule = Rule { whats: whats.to_vec(), part: part.into(), times, then };
        locked(&self.state.rules).push(rule);
    }

    /// Waits until so many calls are held back.
    pub(super) fn await_held(&self, count: usize) {
        let until = Instant::now() + SOON;
        let mut held = locked(&self.state.held);
        while held.len() < count {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{} calls are held back, not {count}", held.len());
            held = self.state.holding.wait_timeout(held, left).expect("no poison").0;
        }
    }

    /// So much time passes for the name node at once.
    pub(super) fn pass(&self, time: Duration) {
        self.state.ahead.fetch_add(time.as_millis() as i64, Ordering::AcqRel);
    }

    /// Carries out what was held back.
    pub(super) fn land(&self) -> usize {
        let held = std::mem::take(&mut *locked(&self.state.held));
        held.iter().for_each(|job| self.state.answer(job));
        held.len()
    }

    /// Calls of this kind so far, by path.
    pub(super) fn said(&self, what: What) -> Vec<String> {
        locked(&self.state.said).iter().filter(|(w, _)| *w == what).map(|(_, path)| path.clone()).collect()
    }

    /// A file's bytes, if it is there.
    pub(super) fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let files = locked(&self.state.files);
        let number = files.names.get(&self.path(name))?;
        files.files.get(number).map(|f| f.bytes.clone())
    }

    /// Whether somebody has it open for writing.
    pub(super) fn is_written(&self, name: &str) -> bool {
        let files = locked(&self.state.files);
        files.names.get(&self.path(name)).and_then(|n| files.files.get(n)).is_some_and(|f| f.writer.is_some())
    }

    /// What others do: makes a file that somebody still writes, removes one, tells their names.
    pub(super) fn plant(&self, name: &str, bytes: &[u8]) {
        let mut files = locked(&self.state.files);
        let writer = Some(files.next());
        files.make(&self.path(name), File { bytes: bytes.to_vec(), writer, changed: self.state.millis() });
    }

    pub(super) fn remove(&self, name: &str) -> bool {
        locked(&self.state.files).names.remove(&self.path(name)).is_some()
    }

    pub(super) fn names(&self, part: &str) -> Vec<String> {
        let files = locked(&self.state.files);
        let below = self.path("");
        files.names.keys().filter(|n| n.contains(part)).map(|n| n[below.len()..].to_owned()).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            assert!(thread.join().is_ok() || thread::panicking(), "a thread of the cluster panicked");
        }
    }
}

impl State {
    fn millis(&self) -> i64 {
        let now =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
        now + self.ahead.load(Ordering::Acquire)
    }

    fn meet(&self, job: &Arc<Job>) {
        locked(&self.said).push((job.call.what, job.call.path.clone()));
        let then = {
            let mut rules = locked(&self.rules);
            let fits = |r: &&mut Rule| {
                r.times > 0 && r.whats.contains(&job.call.what) && job.call.path.contains(&r.part)
            };
            rules.iter_mut().find(fits).map(|rule| {
                rule.times -= 1;
                rule.then
            })
        };
        match then {
            None => self.answer(job),
            Some(Then::Refuse) => drop(jobs::answer(job.id, Err(refused(&job.call, io::ErrorKind::Other)))),
            Some(Then::Lose) => drop(self.carry_out(job)),
            Some(Then::LoseEmpty) => {
                locked(&self.files).make(&job.call.path, File { changed: self.millis(), ..File::default() });
            }
            Some(Then::Hold) => {
                locked(&self.held).push(job.clone());
                self.holding.notify_all();
            }
        }
    }

    fn answer(&self, job: &Arc<Job>) {
        let answer = self.carry_out(job);
        // As Java does: what was opened for nobody is closed.
        let opened = matches!(job.call.what, What::Create | What::Open)
            .then(|| answer.as_ref().ok().map(|a| a.number))
            .flatten();
        if !jobs::answer(job.id, answer)
            && let Some(stream) = opened
        {
            locked(&self.files).close(stream);
        }
    }

    fn carry_out(&self, job: &Job) -> Result<Answer> {
        let call = &job.call;
        let mut files = locked(&self.files);
        let absent = || refused(call, io::ErrorKind::NotFound);
        let number = files.names.get(&call.path).copied();
        let mut answer = Answer::default();
        match call.what {
            What::Connect | What::MakeDirs => {}
            What::Create | What::Put => {
                if number.is_some() {
                    return Err(refused(call, io::ErrorKind::AlreadyExists));
                }
                let stream = files.next();
                let writer = (call.what == What::Create).then_some(stream);
                let made = File { bytes: call.bytes.clone(), writer, changed: self.millis() };
                let file = files.make(&call.path, made);
                if writer.is_some() {
                    files.streams.insert(stream, (file, 0));
                }
                answer.number = if writer.is_some() { stream } else { self.millis() };
            }
            What::Write => {
                let file = files.streams.get(&call.file).map(|s| s.0);
                let there = file.is_some_and(|f| files.names.values().any(|n| *n == f));
                let file = file.filter(|_| there).and_then(|f| files.files.get_mut(&f));
                let file = file.filter(|f| f.writer == Some(call.file) && f.bytes.len() as i64 == call.a);
                let file = file.ok_or_else(|| refused(call, io::ErrorKind::Other))?;
                file.bytes.extend_from_slice(&call.bytes);
            }
            What::Close => files.close(call.file),
            What::Open => {
                let number = number.ok_or_else(absent)?;
                let length = files.files.get(&number).map_or(0, |f| f.bytes.len());
                answer.number = files.next();
                answer.names = vec![length.to_string()];
                files.streams.insert(answer.number, (number, length));
            }
            What::Read | What::Get => {
                let (number, length) = match call.what {
                    What::Get => (number.ok_or_else(absent)?, usize::MAX),
                    _ => *files.streams.get(&call.file).ok_or_else(|| refused(call, io::ErrorKind::Other))?,
                };
                let bytes = files.files.get(&number).map(|f| f.bytes.as_slice()).unwrap_or_default();
                let end = bytes.len().min(length);
                let from = (call.a as usize).min(end);
                job.fill(0, &bytes[from..end.min(from + call.room)]);
            }
            What::List => {
                let below = format!("{}/", call.path);
                let mut names = BTreeMap::new();
                for (path, number) in files.names.iter().filter(|(p, _)| p.starts_with(&below)) {
                    let name = &path[below.len()..];
                    let file = &files.files[number];
                    let kind = if file.writer.is_some() { "w" } else { "f" };
                    match name.split_once('/') {
                        Some((dir, _)) => names.insert(dir, format!("0 {} d {dir}", file.changed)),
                        None => {
                            names.insert(name, format!("{} {} {kind} {name}", file.bytes.len(), file.changed))
                        }
                    };
                }
                answer.names = names.into_values().collect();
            }
            What::Delete => {
                let below = format!("{}/", call.path);
                let before = files.names.len();
                files.names.retain(|path, _| *path != call.path && !path.starts_with(&below));
                answer.number = i64::from(files.names.len() < before);
            }
            What::Recover | What::Seal | What::Time | What::Renew => {
                let file = files.files.get_mut(&number.ok_or_else(absent)?).ok_or_else(absent)?;
                match call.what {
                    What::Time => {}
                    What::Renew => file.changed = self.millis(),
                    _ => file.writer = None,
                }
                if call.what == What::Seal {
                    file.bytes.truncate(call.a as usize);
                    file.bytes.extend_from_slice(&call.bytes);
                }
                let recovered = call.what == What::Recover;
                answer.number = if recovered { file.bytes.len() as i64 } else { file.changed };
            }
            What::Rename => {
                if let Some(number) = number.filter(|_| !files.names.contains_key(&call.other)) {
                    files.names.remove(&call.path);
                    files.names.insert(call.other.clone(), number);
                    answer.number = 1;
                }
            }
        }
        Ok(answer)
    }
}

impl Files {
    fn next(&mut self) -> i64 {
        self.last += 1;
        self.last
    }

    fn make(&mut self, path: &str, file: File) -> u64 {
        let number = self.next().cast_unsigned();
        self.files.insert(number, file);
        self.names.insert(path.into(), number);
        number
    }

    fn close(&mut self, stream: i64) {
        if let Some((number, _)) = self.streams.remove(&stream)
            && let Some(file) = self.files.get_mut(&number)
            && file.writer == Some(stream)
        {
            file.writer = None;
        }
    }
}
