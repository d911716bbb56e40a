//! Errors and panics on their way to Java: one policy for all native methods.
//!
//! The exceptions are made by Java (`Native.failure`), from a kind, a message and two numbers; so the classes need not be
//! looked up here, and cannot be missed under any class loader.

use std::{any::Any, sync::OnceLock};

use jni::{
    Env,
    errors::ErrorPolicy,
    jni_sig, jni_str,
    objects::{JClass, JString, JThrowable, JValue},
    refs::Global,
};

use crate::Error;

/// Why a native method failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The log said no.
    Log(Error),
    /// The JVM said no; the exception is mostly pending already.
    Jni(jni::errors::Error),
    /// The id is of no open log or scan.
    Stale,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Log(error)
    }
}

impl From<jni::errors::Error> for Failure {
    fn from(error: jni::errors::Error) -> Failure {
        Failure::Jni(error)
    }
}

/// The kinds that `Native.failure` knows, with the same numbers there.
mod kind {
    pub(super) const IO: i32 = 1;
    pub(super) const FULL: i32 = 2;
    pub(super) const LOCKED: i32 = 3;
    pub(super) const FENCED: i32 = 4;
    pub(super) const CORRUPT: i32 = 5;
    pub(super) const GONE: i32 = 6;
    pub(super) const MISSING: i32 = 7;
    pub(super) const FOREIGN: i32 = 8;
    pub(super) const ARGUMENT: i32 = 9;
    pub(super) const CLOSED: i32 = 10;
    pub(super) const TIMEOUT: i32 = 11;
    pub(super) const INTERNAL: i32 = 12;
    pub(super) const SOURCE: i32 = 13;
    pub(super) const KEY: i32 = 14;
    pub(super) const UNAUTHENTICATED: i32 = 15;
}

impl Failure {
    /// Kind, message, and two numbers that are the segment and offset of damage, and otherwise 0.
    fn parts(&self) -> (i32, String, i64, i64) {
        match self {
            Failure::Stale => (kind::CLOSED, "the log or scan is closed".into(), 0, 0),
            Failure::Jni(error) => (kind::INTERNAL, format!("the JVM refused a call: {error}"), 0, 0),
            Failure::Log(error) => {
                let text = error.to_string();
                match error {
                    Error::Io { .. } => (kind::IO, text, 0, 0),
                    Error::StorageFull { .. } => (kind::FULL, text, 0, 0),
                    Error::Locked { .. } => (kind::LOCKED, text, 0, 0),
                    Error::Fenced { .. } => (kind::FENCED, text, 0, 0),
                    Error::Corrupt { segment, offset, .. } => {
                        (kind::CORRUPT, text, segment.cast_signed(), offset.cast_signed())
                    }
                    Error::Gone { .. } => (kind::GONE, text, 0, 0),
                    Error::Missing { .. } => (kind::MISSING, text, 0, 0),
                    Error::Foreign { .. } => (kind::FOREIGN, text, 0, 0),
                    Error::BadHandle(_) | Error::Config(_) => (kind::ARGUMENT, text, 0, 0),
                    Error::Closed(_) => (kind::CLOSED, text, 0, 0),
                    Error::Timeout { .. } => (kind::TIMEOUT, text, 0, 0),
                    Error::Internal(_) => (kind::INTERNAL, text, 0, 0),
                    Error::Key { .. } => (kind::KEY, text, 0, 0),
                    Error::Unauthenticated { .. } => (kind::UNAUTHENTICATED, text, 0, 0),
                    Error::Source(_) => (kind::SOURCE, text, 0, 0),
                }
            }
        }
    }
}

/// `org.ferrowal.Native`, as `init` was given it.
static NATIVE: OnceLock<Global<JClass<'static>>> = OnceLock::new();

/// Remembers the class that makes the exceptions. The first call counts.
pub(super) fn remember_class(env: &Env<'_>, class: &JClass<'_>) -> Result<(), Failure> {
    if NATIVE.get().is_none() {
        let global = env.new_global_ref(class)?;
        // Two threads may come here at once; one reference is kept and the other is dropped.
        let _ = NATIVE.set(global);
    }
    Ok(())
}

/// The class as it was given: calls of other native methods go to it, too.
#[cfg(feature = "cli")]
pub(super) fn native_class() -> Option<&'static Global<JClass<'static>>> {
    NATIVE.get()
}

/// The text of a panic: `panic!("text")` carries a `&str` and `panic!("{}", x)` a `String`.
pub(super) fn panic_text(payload: Box<dyn Any + Send>) -> String {
    let payload = match payload.downcast::<&'static str>() {
        Ok(text) => return (*text).to_string(),
        Err(payload) => payload,
    };
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => {
            // Dropping a foreign payload could panic again; losing a few bytes once cannot.
            std::mem::forget(payload);
            "a panic without a text".to_string()
        }
    }
}

/// Makes an exception pending, unless one already is: the first is the cause.
fn throw(env: &mut Env<'_>, failure: &Failure) -> jni::errors::Result<()> {
    if env.exception_check() {
        return Ok(());
    }
    let (kind, text, first, second) = failure.parts();
    let Some(class) = NATIVE.get() else {
        // Only `abi` and `init` can run before the class is known. Throwing answers "an exception is pending".
        let text = jni::strings::JNIString::new(&text);
        return pending(env.throw_new(jni_str!("java/lang/IllegalStateException"), text));
    };
    let message = JString::from_str(env, &text)?;
    let made = env
        .call_static_method(
            class,
            jni_str!("failure"),
            jni_sig!((kind: jint, message: JString, first: jlong, second: jlong) -> java.lang.RuntimeException),
            &[JValue::Int(kind), JValue::Object(&message), JValue::Long(first), JValue::Long(second)],
        )?
        .l()?;
    let exception = env.cast_local::<JThrowable<'_>>(made)?;
    pending(env.throw(exception))
}

/// A throw that worked answers `JavaException`.
fn pending(thrown: jni::errors::Result<()>) -> jni::errors::Result<()> {
    match thrown {
        Err(jni::errors::Error::JavaException) => Ok(()),
        other => other,
    }
}

/// The policy of every native method: an exception is pending, and Java gets a zero or null that it never sees.
#[derive(Debug)]
pub(super) struct Throw;

impl<T: Default> ErrorPolicy<T, Failure> for Throw {
    type Captures<'unowned: 'method, 'method> = ();

    fn on_error<'unowned: 'method, 'method>(
        env: &mut Env<'unowned>,
        _: &mut (),
        failure: Failure,
    ) -> jni::errors::Result<T> {
        throw(env, &failure)?;
        Ok(T::default())
    }

    fn on_panic<'unowned: 'method, 'method>(
        env: &mut Env<'unowned>,
        _: &mut (),
        payload: Box<dyn Any + Send + 'static>,
    ) -> jni::errors::Result<T> {
        throw(env, &Failure::Log(Error::Internal(panic_text(payload))))?;
        Ok(T::default())
    }
}
