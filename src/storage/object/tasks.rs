//! Requests that wait: the threads that carry them, bounds on them, and those that go on beside. In a simulation all of it
//! takes turns with everything else.

use std::{future::Future, time::Duration};

use once_cell::sync::{Lazy, OnceCell};
use tokio::runtime::Runtime;

use crate::{
    error::{Error, Result},
    sync::in_turns,
};

/// Threads that carry requests; they wait for sockets most of the time.
const THREADS: usize = 2;

/// The threads of all stores, started with the first of them. They belong to the process: no home waits for them to end.
static RUNTIME: Lazy<OnceCell<Runtime>> = Lazy::new(OnceCell::new);

fn runtime() -> Result<&'static Runtime> {
    RUNTIME.get_or_try_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("ferrowal-store")
            .enable_all()
            .build()
            .map_err(no_thread)
    })
}

fn no_thread(error: std::io::Error) -> Error {
    Error::io("start threads for", "object stores", error)
}

/// Runs `work` to its end, while this thread waits.
pub(super) fn run<T>(work: impl Future<Output = T>) -> Result<T> {
    in_turns!(Ok(crate::turns::block_on(work)));
    Ok(runtime()?.block_on(work))
}

/// What `work` gives, if it does within `bound`.
pub(super) async fn within<T>(bound: Duration, work: impl Future<Output = T>) -> Option<T> {
    #[cfg(all(test, not(loom)))]
    if crate::turns::on() {
        let (work, bound) = (std::pin::pin!(work), crate::turns::Delay::new(bound));
        return match futures_util::future::select(work, bound).await {
            futures_util::future::Either::Left((value, _)) => Some(value),
            futures_util::future::Either::Right(_) => None,
        };
    }
    tokio::time::timeout(bound, work).await.ok()
}

/// Waits.
pub(super) async fn sleep(time: Duration) {
    in_turns!(crate::turns::Delay::new(time).await);
    tokio::time::sleep(time).await;
}

/// Work that goes on beside. It goes on also when this is dropped.
#[derive(Debug)]
pub(super) enum Task<T> {
    Tokio(tokio::task::JoinHandle<T>),
    #[cfg(all(test, not(loom)))]
    Turns(crate::turns::Task<T>),
}

/// Begins work that goes on beside.
pub(super) fn begin<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<Task<T>> {
    in_turns!(crate::turns::begin(work).map(Task::Turns).map_err(no_thread));
    Ok(Task::Tokio(runtime()?.spawn(work)))
}

impl<T> Task<T> {
    /// Ends it, where it waits next.
    pub(super) fn abort(&self) {
        match self {
            Task::Tokio(task) => task.abort(),
            #[cfg(all(test, not(loom)))]
            Task::Turns(task) => task.abort(),
        }
    }

    /// Waits for what it gives.
    pub(super) fn wait(self) -> Result<T> {
        let ended = || Error::Internal("a task beside the log panicked, or was ended".into());
        match self {
            Task::Tokio(task) => runtime()?.block_on(task).map_err(|_| ended()),
            #[cfg(all(test, not(loom)))]
            Task::Turns(task) => task.wait().ok_or_else(ended),
        }
    }
}
