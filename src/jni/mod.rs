//! The boundary to the JVM: the only module that knows of it.
//!
//! Java's `org.ferrowal.Native` declares the methods that [`entry`] implements. What crosses is small: ids, numbers,
//! strings, and buffers whose bytes are copied before the call returns.
//!
//! The rules, and why:
//! - **Ids, never pointers.** A Java object holds the number under which [`registry`] knows a log or a scan. A stale
//!   number is a clean error; a call in progress keeps what it uses alive while another thread closes it.
//! - **No panic and no Rust error leaves as such.** [`error`] turns both into exceptions, by kind. After a panic the log
//!   takes no more writes, since what it was doing is unknown.
//! - **No critical arrays.** They stop the garbage collector for as long as the device takes; `GetByteArrayRegion` is as
//!   fast.
//! - **No native thread is ever attached.** An attached thread keeps the JVM from exiting and sees none of Spark's class
//!   loaders. Log lines wait in a bounded queue until a Java thread fetches them ([`logging`]), and so do the calls of
//!   Hadoop's client ([`jobs`]).
//! - **`unsafe` lives here**, each block with its reason.

#![allow(unsafe_code)]

mod buffer;
mod convert;
mod entry;
mod error;
#[cfg(feature = "jni-test-hooks")]
mod hooks;
mod jobs;
mod logging;
mod registry;

/// What Java must find before it calls anything else: raised whenever a native method's signature or the meaning of a
/// number that crosses the boundary changes.
const ABI: i32 = 4;
