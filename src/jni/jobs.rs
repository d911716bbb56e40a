//! The calls of Hadoop's client that wait for a Java thread: how that thread takes them, moves their bytes, and answers.

use std::{io, time::Duration};

use jni::{
    Env,
    objects::{JByteArray, JLongArray, JObjectArray, JString},
    sys::{jint, jlong},
};

use super::{buffer, convert, error::Failure};
use crate::{
    Error,
    storage::hadoop::jobs::{self, Answer, Lane},
};

/// Longs that describe a job: id, root, what, file, a, b, bytes to write, bytes to read.
const LONGS: usize = 8;

/// Kinds of answers, with the same numbers in `HadoopThreads.java`.
mod kind {
    pub(super) const WELL: i32 = 0;
    pub(super) const ABSENT: i32 = 1;
    pub(super) const EXISTS: i32 = 2;
    pub(super) const REFUSED: i32 = 4;
    pub(super) const QUOTA: i32 = 5;
    pub(super) const DENIED: i32 = 6;
}

/// Says that threads will take jobs.
pub(super) fn serve() {
    jobs::serve();
}

/// Takes the oldest job of a lane; null if none comes in time. Its numbers go into `numbers`; the answer is its path and
/// the other path. A job that cannot be told stays the oldest.
pub(super) fn take<'local>(
    env: &mut Env<'local>,
    lane: jint,
    millis: jlong,
    numbers: &JLongArray<'_>,
) -> Result<JObjectArray<'local, JString<'local>>, Failure> {
    let lane = Lane::of(i64::from(lane))
        .ok_or_else(|| Failure::Log(Error::Config(format!("no lane {lane} is known"))))?;
    let Some(job) = jobs::take(lane, Duration::from_millis(millis.max(0).cast_unsigned())) else {
        return Ok(JObjectArray::default());
    };
    let told = tell(env, &job, numbers);
    if told.is_err() {
        jobs::put_back(&job);
    }
    told
}

fn tell<'local>(
    env: &mut Env<'local>,
    job: &jobs::Job,
    numbers: &JLongArray<'_>,
) -> Result<JObjectArray<'local, JString<'local>>, Failure> {
    let call = &job.call;
    let size = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let longs: [i64; LONGS] = [
        job.id,
        call.root,
        call.what as i64,
        call.file,
        call.a,
        call.b,
        size(call.bytes.len()),
        size(call.room),
    ];
    numbers.set_region(env, 0, &longs)?;
    convert::strings(env, &[call.path.clone(), call.other.clone()])
}

/// Copies what a job writes, from `at` on, into an array. How many bytes; -1 if nobody waits for the job any more.
pub(super) fn bytes(env: &Env<'_>, id: jlong, at: jlong, into: &JByteArray<'_>) -> Result<jint, Failure> {
    let Some(job) = jobs::open(id) else { return Ok(-1) };
    let all = &job.call.bytes;
    let at = usize::try_from(at).unwrap_or(usize::MAX).min(all.len());
    let n = (all.len() - at).min(into.len(env)?);
    buffer::fill_start(env, into, &all[at..at + n])?;
    Ok(jint::try_from(n).unwrap_or(jint::MAX))
}

/// Copies what was read for a job. Whether somebody still waits for it.
pub(super) fn fill(
    env: &Env<'_>,
    id: jlong,
    at: jlong,
    from: &JByteArray<'_>,
    length: jint,
) -> Result<bool, Failure> {
    let Some(job) = jobs::open(id) else { return Ok(false) };
    let bytes = buffer::start_of(env, from, length)?;
    if job.fill(usize::try_from(at).unwrap_or(usize::MAX), &bytes) {
        return Ok(true);
    }
    Err(Failure::Log(Error::Config(format!("{length} bytes at {at} are not what job {id} asked for"))))
}

/// Answers a job. Whether somebody still waited.
pub(super) fn answer(
    env: &mut Env<'_>,
    id: jlong,
    kind: jint,
    message: &JString<'_>,
    number: jlong,
    names: &JObjectArray<'_, JString<'_>>,
) -> Result<bool, Failure> {
    let Some(job) = jobs::open(id) else { return Ok(false) };
    let result = if kind == kind::WELL {
        let names = if names.is_null() { Vec::new() } else { convert::texts(env, names)? };
        Ok(Answer { number, names, bytes: Vec::new() })
    } else {
        Err(error(kind, message.try_to_string(env)?, &job))
    };
    Ok(jobs::answer(id, result))
}

fn error(kind: i32, text: String, job: &jobs::Job) -> Error {
    let call = &job.call;
    let wrapped = |kind: io::ErrorKind| {
        Error::io(jobs::action(call.what), &call.path, io::Error::new(kind, text.clone()))
    };
    match kind {
        kind::ABSENT => wrapped(io::ErrorKind::NotFound),
        kind::EXISTS => wrapped(io::ErrorKind::AlreadyExists),
        kind::DENIED => wrapped(io::ErrorKind::PermissionDenied),
        kind::REFUSED => Error::Config(text),
        kind::QUOTA => {
            // The kind of error is told by its number, which leaves no room for the text.
            log::warn!("{}: {text}", call.path);
            let full = io::Error::from_raw_os_error(rustix::io::Errno::DQUOT.raw_os_error());
            Error::io(jobs::action(call.what), &call.path, full)
        }
        _ => wrapped(io::ErrorKind::Other),
    }
}
