//! A store in memory that behaves as badly as a real one may: answers are lost, requests arrive late, and twice, "it
//! exists" is said of what does not, listings are old. Chance decides, by a seed.

#![allow(clippy::unwrap_used)]

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{StreamExt, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt as _, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    memory::InMemory, path::Path,
};

use super::{ObjectHome, bucket::Bucket, clock::StoreClock};
use crate::options::Options;

/// The store. Clones are the same store.
#[derive(Debug, Clone)]
pub(crate) struct Unruly {
    inner: Arc<InMemory>,
    faults: Arc<AtomicBool>,
    state: Arc<AtomicU64>,
    /// What an old listing does not show yet.
    recent: Arc<Mutex<Vec<Path>>>,
    /// Lets every creator win.
    careless: bool,
    /// Whether nothing that this process wants to create arrives.
    outage: Arc<AtomicBool>,
    /// Requests for each object's bytes.
    gets: Arc<Mutex<HashMap<Path, u64>>>,
    /// The last object that was created, and how many listings do not show it yet.
    last: Arc<Mutex<(Option<Path>, u32)>>,
    /// Whether deletions are never answered.
    mute: Arc<AtomicBool>,
}

impl fmt::Display for Unruly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unruly")
    }
}

fn unsure(why: &'static str) -> Error {
    Error::Generic { store: "Unruly", source: why.into() }
}

fn exists(path: &Path) -> Error {
    Error::AlreadyExists { path: path.to_string(), source: "so it says".into() }
}

impl Unruly {
    pub(crate) fn new(seed: u64) -> Unruly {
        Unruly {
            inner: Arc::default(),
            faults: Arc::new(AtomicBool::new(false)),
            state: Arc::new(AtomicU64::new(seed)),
            recent: Arc::default(),
            careless: false,
            outage: Arc::default(),
            gets: Arc::default(),
            last: Arc::default(),
            mute: Arc::default(),
        }
    }

    /// How often each object's bytes were asked for since this was asked last.
    pub(crate) fn take_gets(&self) -> HashMap<Path, u64> {
        std::mem::take(&mut *self.gets.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Answers no deletion any more.
    pub(crate) fn mute_deletions(&self) {
        self.mute.store(true, Ordering::Release);
    }

    /// The next `count` listings do not show what was created last.
    pub(crate) fn list_old(&self, count: u32) {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).1 = count;
    }

    /// One that does not heed If-None-Match.
    pub(crate) fn careless() -> Unruly {
        Unruly { careless: true, ..Unruly::new(1) }
    }

    /// What an operator may do: takes an object away, and gives its bytes.
    pub(crate) async fn take(&self, name: &str) -> PutPayload {
        let path = Path::from(format!("app/{name}"));
        let bytes = self.inner.get(&path).await.unwrap().bytes().await.unwrap();
        self.inner.delete(&path).await.unwrap();
        bytes.into()
    }

    /// And puts it back.
    pub(crate) async fn put_back(&self, name: &str, bytes: PutPayload) {
        self.inner.put(&Path::from(format!("app/{name}")), bytes).await.unwrap();
    }

    /// The same store as another process sees it.
    pub(crate) fn process(&self) -> Unruly {
        Unruly { outage: Arc::default(), ..self.clone() }
    }

    /// Lets nothing of this process arrive.
    pub(crate) fn cut_off(&self, off: bool) {
        self.outage.store(off, Ordering::Release);
    }

    pub(crate) fn misbehave(&self, on: bool) {
        self.faults.store(on, Ordering::Release);
    }

    /// A number below `n`.
    pub(crate) fn chance(&self, n: u64) -> u64 {
        let x = self.state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % n
    }

    /// A home in this store, as another process would have it.
    pub(crate) fn home(&self, options: &Options) -> ObjectHome {
        let store: Arc<dyn ObjectStore> = Arc::new(self.clone());
        let clock = Arc::new(StoreClock::default());
        let bucket = Bucket::new("s3://test".into(), "test".into(), store.clone(), store, clock, Vec::new());
        ObjectHome::within(Arc::new(bucket), "app", options).unwrap()
    }

    fn late(&self, path: Path, payload: PutPayload, options: PutOptions) {
        let (inner, pause) = (self.inner.clone(), Duration::from_millis(self.chance(400)));
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            // Whoever sent it has gone long ago.
            drop(inner.put_opts(&path, payload, options).await);
        });
    }
}

#[async_trait]
impl ObjectStore for Unruly {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        if self.outage.load(Ordering::Acquire) {
            return Err(unsure("no route to host"));
        }
        if options.mode == PutMode::Create {
            self.last.lock().unwrap_or_else(PoisonError::into_inner).0 = Some(path.clone());
        }
        if self.careless {
            return self.inner.put_opts(path, payload, PutOptions::default()).await;
        }
        if !self.faults.load(Ordering::Acquire) || options.mode != PutMode::Create {
            return self.inner.put_opts(path, payload, options).await;
        }
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).push(path.clone());
        match self.chance(16) {
            // Taken, and the answer lost, or given twice.
            0 => self.inner.put_opts(path, payload, options).await.and(Err(unsure("connection reset"))),
            1 => self.inner.put_opts(path, payload, options).await.and(Err(exists(path))),
            // Not taken.
            2 => Err(exists(path)),
            3 => Err(unsure("503 Slow Down")),
            // It will arrive, some time.
            4 | 5 => {
                self.late(path.clone(), payload, options);
                Err(unsure("timed out"))
            }
            // Twice.
            6 => {
                self.late(path.clone(), payload.clone(), options.clone());
                self.inner.put_opts(path, payload, options).await
            }
            7 => {
                tokio::time::sleep(Duration::from_millis(self.chance(30))).await;
                self.inner.put_opts(path, payload, options).await
            }
            _ => self.inner.put_opts(path, payload, options).await,
        }
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        if self.faults.load(Ordering::Acquire) && self.chance(40) == 0 {
            return Err(unsure("500 Internal Error"));
        }
        if !options.head {
            *self.gets.lock().unwrap_or_else(PoisonError::into_inner).entry(path.clone()).or_default() += 1;
        }
        self.inner.get_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        if self.mute.load(Ordering::Acquire) {
            return futures_util::stream::pending().boxed();
        }
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if self.faults.load(Ordering::Acquire) && self.chance(4) == 0 {
            // The last few are not in it yet.
            let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
            let hidden: Vec<Path> = recent.iter().rev().take(3).cloned().collect();
            let all = self.inner.list(prefix);
            return all
                .filter(move |o| {
                    let hide = o.as_ref().is_ok_and(|o| hidden.contains(&o.location));
                    std::future::ready(!hide)
                })
                .boxed();
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.1 > 0 {
            last.1 -= 1;
            let hidden = last.0.clone();
            let all = self.inner.list(prefix);
            return all
                .filter(move |o| std::future::ready(o.as_ref().ok().map(|o| &o.location) != hidden.as_ref()))
                .boxed();
        }
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
