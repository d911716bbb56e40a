//! ferrowal is a write-ahead log for Spark Streaming, and for any program that must not lose a record.
//!
//! When [`Log::append`] returns, the record survives a power cut; it comes back unaltered by handle ([`Log::read`]) and
//! in write order ([`Log::scan`]) until it is cleaned ([`Log::clean`]); damage is never returned as data and never
//! passed over in silence.
//!
//! ```no_run
//! use ferrowal::{Log, Options, Role};
//!
//! let log = Log::open(Options::new("/var/lib/my-app/log", Role::Receivers))?;
//! let handle = log.append(b"hello", 1_000)?; // durable from here on
//! assert_eq!(log.read(&handle)?, b"hello");
//! for record in log.scan()? {
//!     println!("{} bytes", record?.len());
//! }
//! log.close()?;
//! # Ok::<(), ferrowal::Error>(())
//! ```
//!
//! `docs/design.md` tells how it is built and `docs/format.md` what lies on disk.

mod awake;
#[cfg(feature = "cli")]
pub mod cli;
mod codec;
mod commit;
mod error;
mod format;
mod handle;
#[cfg(feature = "jni")]
mod jni;
mod location;
mod log;
mod metrics;
mod options;
mod planted;
mod report;
mod storage;
mod sync;
#[cfg(all(test, not(loom), feature = "object-store"))]
mod turns;
mod turnstile;

#[cfg(fuzzing)]
#[doc(hidden)]
pub use format::fuzzing;

#[cfg(all(fuzzing, feature = "compression", feature = "encryption"))]
#[doc(hidden)]
pub use codec::fuzzing::payload as fuzz_payload;

#[cfg(any(test, feature = "simulation"))]
pub use log::simulation;

pub use codec::KeyRing;
pub use error::{Error, Result};
pub use handle::RecordHandle;
pub use location::{Location, StoreProperties};
pub use log::{Log, RecordSource, Scan};
pub use metrics::{Kind, METRICS, Metric, MetricsSnapshot, metrics};
pub use options::{BarrierMethod, Compression, Durability, Options, Recovery, Role, Takeover};
pub use report::{Finding, RecoveryReport};
