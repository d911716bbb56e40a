//! A store in memory for simulations whose threads take turns ([`crate::turns`]): requests take their time, are lost, land
//! long after whoever sent them gave up or was replaced, land twice; answers are lost; "it exists" is said of what does
//! not; listings are old. All of it is decided by the run's seed.

#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, UNIX_EPOCH},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{
    StreamExt,
    future::pending,
    stream::{self, BoxStream},
};
use object_store::{
    Attributes, CopyOptions, Error, Extensions, GetOptions, GetRange, GetResult, GetResultPayload,
    ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, Result, path::Path,
};

use super::{ObjectHome, bucket::Bucket, clock::StoreClock};
use crate::{
    options::Options,
    turns::{self, Delay},
};

/// What the store does of what it should not, in a thousand requests.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Misdeeds {
    /// A request that never arrives.
    pub(crate) lost: u64,
    /// One that is carried out, and nobody hears of it.
    pub(crate) unanswered: u64,
    /// One that is refused at once, or given up, and carried out long after.
    pub(crate) late: u64,
    /// One that is carried out twice.
    pub(crate) twice: u64,
    /// A creation that is refused because "it exists", whether it does or not.
    pub(crate) exists: u64,
    /// An error of the server's, with nothing done.
    pub(crate) refused: u64,
    /// A listing of what was there a moment ago.
    pub(crate) stale: u64,
}

#[derive(Debug, Clone)]
struct Object {
    bytes: Bytes,
    /// Nanoseconds since the run began.
    at: u64,
}

#[derive(Debug, Default)]
struct Contents {
    objects: BTreeMap<Path, Object>,
    /// What was there before each change, and when that was.
    before: Vec<(u64, Path, Option<Object>)>,
    misdeeds: Misdeeds,
    /// Added to the time that every request takes.
    slow: Duration,
    /// Seconds by which the store's clock differs.
    skew: i64,
    severed: BTreeSet<usize>,
    /// Receiver writers that each process was.
    writers: BTreeMap<usize, BTreeSet<String>>,
    counts: BTreeMap<&'static str, u64>,
}

impl Contents {
    fn change(&mut self, path: &Path, object: Option<Object>) {
        let before = match object {
            Some(object) => self.objects.insert(path.clone(), object),
            None => self.objects.remove(path),
        };
        self.before.push((turns::elapsed(), path.clone(), before));
    }

    fn note(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Everything as it was at a time.
    fn as_of(&self, at: u64) -> BTreeMap<Path, Object> {
        let mut objects = self.objects.clone();
        for (when, path, before) in self.before.iter().rev().take_while(|(when, ..)| *when > at) {
            debug_assert!(*when > at);
            match before {
                Some(object) => drop(objects.insert(path.clone(), object.clone())),
                None => drop(objects.remove(path)),
            }
        }
        objects
    }
}

/// The store, as one process sees it. Clones are the same store.
#[derive(Debug, Clone)]
pub(crate) struct Far {
    contents: Arc<Mutex<Contents>>,
    process: usize,
    clock: Arc<StoreClock>,
    /// Attempts at what may be done twice, as the client of real stores makes them; one for creations.
    attempts: u32,
}

impl fmt::Display for Far {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Far")
    }
}

fn unsure(why: &'static str) -> Error {
    Error::Generic { store: "Far", source: why.into() }
}

fn exists(path: &Path) -> Error {
    Error::AlreadyExists { path: path.to_string(), source: "so it says".into() }
}

fn absent(path: &Path) -> Error {
    Error::NotFound { path: path.to_string(), source: "it is not there".into() }
}

impl Far {
    pub(crate) fn new() -> Far {
        Far { contents: Arc::default(), process: 0, clock: Arc::default(), attempts: 1 }
    }

    /// A home in this store, as that process has it.
    pub(crate) fn home(&self, process: usize, options: &Options) -> ObjectHome {
        let clock = Arc::new(StoreClock::default());
        let far = |attempts| -> Arc<dyn ObjectStore> {
            Arc::new(Far { contents: self.contents.clone(), process, clock: clock.clone(), attempts })
        };
        let (store, once) = (far(8), far(1));
        let bucket = Bucket::new("s3://far".into(), "far".into(), store, once, clock, Vec::new());
        ObjectHome::within(Arc::new(bucket), "app", options).unwrap()
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn misbehave(&self, misdeeds: Misdeeds) {
        self.lock().misdeeds = misdeeds;
    }

    /// Whether listings may be of what was there a moment ago.
    pub(crate) fn lists_late(&self) -> bool {
        self.lock().misdeeds.stale > 0
    }

    /// Lets every request take so much longer.
    pub(crate) fn slow_down(&self, by: Duration) {
        self.lock().slow = by;
    }

    /// Sets the store's clock off.
    pub(crate) fn set_skew(&self, seconds: i64) {
        self.lock().skew = seconds;
    }

    /// Nothing that this process sends from here on arrives; what is on its way still does.
    pub(crate) fn sever(&self, process: usize) {
        self.lock().severed.insert(process);
    }

    /// How often the store did what.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.lock().counts.clone()
    }

    /// What is there by that name.
    pub(crate) fn object(&self, name: &str) -> Option<Bytes> {
        self.lock().objects.get(&Path::from(name)).map(|o| o.bytes.clone())
    }

    /// Creates an object, as a request does that was long on its way.
    pub(crate) fn land(&self, name: &str, bytes: Bytes) {
        self.lock().change(&Path::from(name), Some(Object { bytes, at: turns::elapsed() }));
    }

    /// How many receiver writers that process was, one after another.
    pub(crate) fn writers_of(&self, process: usize) -> usize {
        self.lock().writers.get(&process).map_or(0, BTreeSet::len)
    }

    /// Names that are there.
    pub(crate) fn names(&self) -> Vec<String> {
        self.lock().objects.keys().map(Path::to_string).collect()
    }

    fn on_the_way(&self) -> Duration {
        let millis = match turns::below(100) {
            0..70 => 1 + turns::below(10),
            70..96 => 10 + turns::below(60),
            _ => 60 + turns::below(1500),
        };
        Duration::from_millis(millis) + self.lock().slow / 2
    }

    fn time(&self) -> i64 {
        let skew = self.lock().skew;
        (turns::BEGINNING + turns::elapsed() / 1_000_000_000).saturating_add_signed(skew) as i64
    }

    /// Sends a request, and sends it again where it may be done twice.
    async fn send<T: Send + 'static>(
        &self,
        create: Option<&Path>,
        carry_out: impl Fn(&mut Contents) -> Result<T> + Clone + Send + 'static,
    ) -> Result<T> {
        let mut pause = Duration::from_millis(50);
        for _ in 1..self.attempts {
            match self.send_once(create, carry_out.clone()).await {
                Err(Error::Generic { .. }) => {}
                answer => return answer,
            }
            Delay::new(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
        self.send_once(create, carry_out).await
    }

    /// Sends a request: it is carried out when it arrives, if it does, and this waits for the answer.
    async fn send_once<T: Send + 'static>(
        &self,
        create: Option<&Path>,
        carry_out: impl Fn(&mut Contents) -> Result<T> + Clone + Send + 'static,
    ) -> Result<T> {
        let (there, back) = (self.on_the_way(), self.on_the_way());
        let (severed, misdeeds) = {
            let contents = self.lock();
            (contents.severed.contains(&self.process), contents.misdeeds)
        };
        if severed {
            Delay::new(Duration::from_millis(1)).await;
            return Err(unsure("no route to host"));
        }
        let slot = Arc::new(Mutex::new(None));
        let arrive = |time: Duration| {
            let (contents, slot, carry_out) = (self.contents.clone(), slot.clone(), carry_out.clone());
            turns::after(time, move || {
                let done = carry_out(&mut contents.lock().unwrap_or_else(PoisonError::into_inner));
                slot.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(done);
            });
        };
        let mut dice = turns::below(1000);
        let mut is = |often: u64| {
            let hit = dice < often;
            dice = dice.wrapping_sub(often);
            hit
        };
        let changes = create.is_some();
        let deed = [
            ("lost requests", misdeeds.lost),
            ("lost answers", misdeeds.unanswered),
            ("late requests", misdeeds.late),
            ("double requests", misdeeds.twice),
            ("refused requests", misdeeds.refused),
            ("exists of what does not", misdeeds.exists),
        ]
        .into_iter()
        .find(|(_, often)| is(*often))
        .map(|(what, _)| what)
        .filter(|what| changes || matches!(*what, "lost requests" | "lost answers" | "refused requests"));
        if let Some(what) = deed {
            turns::trace(|| {
                format!("process {}: {what}, {}", self.process, create.map_or("no change", Path::as_ref))
            });
            self.lock().note(what);
        }
        // Whoever hears nothing either waits until it gives up, or is told that the connection is gone.
        let silence = async {
            if turns::percent(if self.attempts > 1 { 5 } else { 50 }) {
                pending::<()>().await;
            }
            Delay::new(back).await;
        };
        match deed {
            Some("lost requests") => {
                silence.await;
                return Err(unsure("connection reset"));
            }
            Some("lost answers") => {
                arrive(there);
                Delay::new(there).await;
                silence.await;
                return Err(unsure("connection reset"));
            }
            Some("late requests") => {
                let late = match turns::below(10) {
                    0..4 => turns::below(3_000),
                    4..9 => turns::below(90_000),
                    // Requests to S3 are good for a quarter of an hour.
                    _ => turns::below(900_000),
                };
                arrive(Duration::from_millis(late));
                silence.await;
                return Err(unsure("timed out"));
            }
            Some("double requests") => arrive(there + Duration::from_millis(turns::below(20_000))),
            Some("refused requests") => {
                Delay::new(there + back).await;
                return Err(unsure("503 Slow Down"));
            }
            Some("exists of what does not") => {
                Delay::new(there + back).await;
                return Err(exists(create.unwrap()));
            }
            _ => {}
        }
        arrive(there);
        Delay::new(there + back).await;
        self.clock.note(self.time());
        slot.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap()
    }

    fn meta(&self, path: &Path, object: &Object) -> ObjectMeta {
        meta(path, object, self.lock().skew)
    }

    /// What is below a prefix, or was a moment ago.
    async fn below(&self, prefix: Option<Path>) -> Result<Vec<ObjectMeta>> {
        let stale = turns::below(1000) < self.lock().misdeeds.stale;
        let age = if stale { turns::below(2_000) * 1_000_000 } else { 0 };
        if stale {
            self.lock().note("stale listings");
        }
        let begins = prefix.map_or(String::new(), |p| format!("{p}/"));
        self.send(None, move |contents| {
            let skew = contents.skew;
            let seen = |objects: &BTreeMap<Path, Object>| {
                let below = objects.iter().filter(|(path, _)| path.as_ref().starts_with(&begins));
                below.map(|(path, object)| meta(path, object, skew)).collect::<Vec<_>>()
            };
            Ok(match age {
                0 => seen(&contents.objects),
                age => seen(&contents.as_of(turns::elapsed().saturating_sub(age))),
            })
        })
        .await
    }
}

/// The receiver writer whose object that is.
fn receiver(path: &Path) -> Option<String> {
    let mut parts = path.parts().skip_while(|p| p.as_ref() != "receivers").skip(1);
    let writer = parts.next()?;
    (parts.next().is_some() && writer.as_ref() != "removed").then(|| writer.as_ref().to_owned())
}

fn meta(path: &Path, object: &Object, skew: i64) -> ObjectMeta {
    let at =
        Duration::from_secs(turns::BEGINNING.saturating_add_signed(skew)) + Duration::from_nanos(object.at);
    ObjectMeta {
        location: path.clone(),
        last_modified: (UNIX_EPOCH + at).into(),
        size: object.bytes.len() as u64,
        e_tag: None,
        version: None,
    }
}

#[async_trait]
impl ObjectStore for Far {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let (path, bytes): (Path, Bytes) = (path.clone(), payload.into());
        let ours = path.clone();
        if let Some(writer) = receiver(&path) {
            self.lock().writers.entry(self.process).or_default().insert(writer);
        }
        self.send(Some(&path), move |contents| {
            if options.mode == PutMode::Create && contents.objects.contains_key(&ours) {
                return Err(exists(&ours));
            }
            let at = turns::elapsed();
            turns::trace(|| format!("{ours} is there, {} bytes", bytes.len()));
            contents.change(&ours, Some(Object { bytes: bytes.clone(), at }));
            Ok(PutResult { e_tag: None, version: None, extensions: Extensions::default() })
        })
        .await
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(Error::NotImplemented { operation: "multipart".into(), implementer: "Far".into() })
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let ours = path.clone();
        let object = self
            .send(None, move |contents| contents.objects.get(&ours).cloned().ok_or_else(|| absent(&ours)))
            .await?;
        let size = object.bytes.len() as u64;
        let range = match options.range {
            Some(GetRange::Bounded(range)) if range.start < size || options.head => {
                range.start..range.end.min(size)
            }
            None => 0..size,
            Some(_) => return Err(unsure("416 Range Not Satisfiable")),
        };
        let bytes = if options.head {
            Bytes::new()
        } else {
            object.bytes.slice(range.start as usize..range.end as usize)
        };
        Ok(GetResult {
            payload: GetResultPayload::Stream(stream::once(async { Ok(bytes) }).boxed()),
            meta: self.meta(path, &object),
            range,
            attributes: Attributes::default(),
            extensions: Extensions::default(),
        })
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let far = self.clone();
        let each = move |path: Result<Path>| {
            let far = far.clone();
            async move {
                let path = path?;
                let ours = path.clone();
                let deleted = far.send(Some(&path), move |contents| {
                    if contents.objects.contains_key(&ours) {
                        contents.note("objects deleted");
                        turns::trace(|| format!("{ours} is gone"));
                        contents.change(&ours, None);
                    }
                    Ok(())
                });
                deleted.await.map(|()| path.clone())
            }
        };
        paths.then(each).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (far, prefix) = (self.clone(), prefix.cloned());
        let all = async move {
            match far.below(prefix).await {
                Ok(found) => stream::iter(found.into_iter().map(Ok)).boxed(),
                Err(e) => stream::once(async { Err(e) }).boxed(),
            }
        };
        stream::once(all).flatten().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let depth = prefix.map_or(0, |p| p.parts().count());
        let mut common = BTreeSet::new();
        let mut objects = Vec::new();
        for object in self.below(prefix.cloned()).await? {
            let mut parts = object.location.parts();
            match object.location.parts().count() - depth {
                1 => objects.push(object),
                _ => drop(common.insert(Path::from_iter(parts.by_ref().take(depth + 1)))),
            }
        }
        let common_prefixes = common.into_iter().collect();
        Ok(ListResult { common_prefixes, objects, extensions: Extensions::default() })
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(Error::NotImplemented { operation: "copy".into(), implementer: "Far".into() })
    }
}
