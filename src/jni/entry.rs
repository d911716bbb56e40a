//! The native methods of `org.ferrowal.Native`: thin, each a few lines over the log's own call.
//!
//! They run on Java's threads and may block for as long as the device takes. `native_method!` checks the signatures at
//! compile time, catches panics, and exports the symbols by which the JVM finds them.

// A native method has two arguments before its own.
#![allow(clippy::too_many_arguments)]

use std::time::Duration;

use jni::{
    Env, NativeMethod, native_method,
    objects::{JByteArray, JByteBuffer, JClass, JLongArray, JObjectArray, JString},
    sys::{jboolean, jint, jlong},
};

use super::{
    ABI, buffer, convert,
    error::{self, Failure, Throw},
    jobs, logging, registry,
};
use crate::{Error, Log, METRICS, RecordSource, Role};

/// Declares one static native method of `org.ferrowal.Native`.
macro_rules! native {
    ($($method:tt)*) => {
        native_method! {
            java_type = "org.ferrowal.Native",
            error_policy = Throw,
            static extern fn $($method)*,
        }
    };
}

// The constants are unused: the exported symbols are the point.
const _: &[NativeMethod<'_>] = &[
    native!(abi() -> jint),
    native!(init(level: jint)),
    native!(open(options: [JString]) -> jlong),
    native!(check(id: jlong)),
    native!(append(id: jlong, array: [jbyte], offset: jint, length: jint, time: jlong, handle: [jlong])),
    native!(append_direct(id: jlong, buffer: JByteBuffer, position: jint, length: jint, time: jlong, handle: [jlong])),
    native!(locate(id: jlong, handle: [jlong])),
    native!(read(id: jlong, handle: [jlong], into: [jbyte])),
    native!(read_direct(id: jlong, handle: [jlong], into: JByteBuffer)),
    native!(scan(id: jlong) -> jlong),
    native!(scan_next(id: jlong) -> jint),
    native!(scan_take(id: jlong, into: [jbyte])),
    native!(scan_take_direct(id: jlong, into: JByteBuffer)),
    native!(scan_close(id: jlong)),
    native!(clean(id: jlong, threshold: jlong, wait: jboolean)),
    native!(close(id: jlong)),
    native!(forget(id: jlong)),
    native!(report(id: jlong) -> [JString]),
    native!(overrides(dir: JString, store: [JString]) -> [jbyte]),
    native!(metric_list() -> [JString]),
    native!(metrics(role: jint, into: [jlong])),
    native!(set_log_level(level: jint)),
    native!(await_log(millis: jlong) -> jboolean),
    native!(take_log() -> [JString]),
    native!(tool(args: [JString]) -> jint),
    native!(serve_jobs()),
    native!(take_job(lane: jint, millis: jlong, numbers: [jlong]) -> [JString]),
    native!(job_bytes(id: jlong, at: jlong, into: [jbyte]) -> jint),
    native!(job_fill(id: jlong, at: jlong, from: [jbyte], length: jint) -> jboolean),
    native!(job_answer(id: jlong, kind: jint, message: JString, number: jlong, names: [JString]) -> jboolean),
];

type Outcome<T> = Result<T, Failure>;

fn abi<'local>(_: &mut Env<'local>, _: JClass<'local>) -> Outcome<jint> {
    Ok(ABI)
}

fn init<'local>(env: &mut Env<'local>, class: JClass<'local>, level: jint) -> Outcome<()> {
    error::remember_class(env, &class)?;
    logging::install();
    logging::set_level(level);
    Ok(())
}

fn open<'local>(
    env: &mut Env<'local>,
    _: JClass<'local>,
    options: JObjectArray<'local, JString<'local>>,
) -> Outcome<jlong> {
    registry::open(convert::options(env, &options)?)
}

fn check<'local>(_: &mut Env<'local>, _: JClass<'local>, id: jlong) -> Outcome<()> {
    registry::log(id)?.call(|log| Ok(log.check()?))
}

fn append<'local>(
    env: &mut Env<'local>,
    _: JClass<'local>,
    id: jlong,
    array: JByteArray<'local>,
    offset: jint,
    length: jint,
    time: jlong,
    handle: JLongArray<'local>,
) -> Outcome<()> {
    let source = buffer::ArraySource::new(env, &array, offset, length)?;
    append_source(env, id, source, time, &handle)
}

fn append_direct<'local>(
    env: &mut Env<'local>,
    _: JClass<'local>,
    id: jlong,
    buffer: JByteBuffer<'local>,
    position: jint,
    length: jint,
    time: jlong,
    handle: JLongArray<'local>,
) -> Outcome<()> {
    let source = buffer::DirectSource::new(env, &buffer, position, length)?;
    append_source(env, id, source, time, &handle)
}

fn append_source(
    env: &Env<'_>,
    id: jlong,
    mut source: impl RecordSource,
    time: jlong,
    handle: &JLongArray<'_>,
) -> Outcome<()> {
    let appended = registry::log(id)?.write(|log| Ok(log.append_from(&mut source, time)?))?;
    convert::put_handle(env, &appended, handle)
}

fn locate<'local>(
    env: &mut Env<'local>,
    _: JClass<'local>,
    id: jlong,
    handle: JLongArray<'local>,
) -> Outcome<()> {
    let handle = convert::handle(env, &handle)?;
    registry::log(id)?.call(|log| Ok(log.locate(&handle)?))
}

fn read<'local>(
    env: &mut Env<'local>,
    _: JClass<'local>,
    id: jlong,
    handle: JLongArray<'local>,
    into: JByteArray<'local>,
) -> Outcome<()> {
    let handle = convert::handle(env, &handle)?;
    registry::log(id)?.call(|log| log.read_with(&handle, |record| buffer::fill_array(env, &into, record))?)
}

fn read_direct<'local>(
    env: &mut Env<'local>,
    _: JClass<'local>,
    id: jlong,
    handle: JLongArray<'local>,
    into: JByteBuffer<'local>,
) -> Outcome<()> {
    let handle = convert::handle(env, &handle)?;
    let log = registry::log(id)?;
    buffer::fill_direct(env, &into, handle.length as usize, |into| {
        log.call(|log| Ok(log.read_into(&handle, into)?))
    })
}

fn scan<'local>(_: &mut Env<'local>, _: JClass<'local>, id: jlong) -> Outcome<jlong> {
    registry::open_scan(id)
}

/// The next record's length, -1 at the end.
fn scan_next<'local>(_: &mut Env<'local>, _: JClass<'local>, id: jlong) -> Outcome<jint> {
    let Some(length) = registry::scan(id)?.advance()? else { return Ok(-1) };
    jint::try_from(length)
        .map_err(|_| Failure::Log(Error::Internal(format!("a scan gave a record of {length} bytes"))))
}

fn scan_take<'local>(
    env: &mut Env<'local>,
    _: JClass<'local>,
    id: jlong,
    into: JByteArray<'local>,
) -> Outcome<()> {
    registry::scan(id)?.take(|record| buffer::fill_array(env, &into, record))
}

fn scan_take_direct<'local>(
    env: &mut Env<'local>,
    _: JClass<'local>,
    id: jlong,
    into: JByteBuffer<'local>,
) -> Outcome<()> {
    registry::scan(id)?.take(|record| {
        buffer::fill_direct(env, &into, record.len(), |into| {
            into.copy_from_slice(record);
            Ok(())
        })
    })
}

/// No error when it is closed already.
fn scan_close<'local>(_: &mut Env<'local>, _: JClass<'local>, id: jlong) -> Outcome<()> {
    registry::forget_scan(id);
    Ok(())
}

fn clean<'local>(
    _: &mut Env<'local>,
    _: JClass<'local>,
    id: jlong,
    threshold: jlong,
    wait: jboolean,
) -> Outcome<()> {
    registry::log(id)?.call(|log| Ok(log.clean(threshold, wait)?))
}

/// Closes the log and keeps its number: a write that comes after the close still finds it.
fn close<'local>(_: &mut Env<'local>, _: JClass<'local>, id: jlong) -> Outcome<()> {
    registry::log(id)?.close()
}

/// No error when it is forgotten already.
fn forget<'local>(_: &mut Env<'local>, _: JClass<'local>, id: jlong) -> Outcome<()> {
    registry::forget(id);
    Ok(())
}

/// Null before the log's first use.
fn report<'local>(
    env: &mut Env<'local>,
    _: JClass<'local>,
    id: jlong,
) -> Outcome<JObjectArray<'local, JString<'local>>> {
    match registry::log(id)?.call(|log| Ok(log.report()))? {
        Some(report) => convert::strings(env, &convert::report(&report)),
        None => Ok(JObjectArray::default()),
    }
}

/// Null where there is no such file.
fn overrides<'local>(
    env: &mut Env<'local>,
    _: JClass<'local>,
    dir: JString<'local>,
    store: JObjectArray<'local, JString<'local>>,
) -> Outcome<JByteArray<'local>> {
    let store = convert::pairs(env, &store)?.into_iter().collect();
    match Log::overrides(dir.try_to_string(env)?, store)? {
        Some(bytes) => Ok(env.byte_array_from_slice(&bytes)?),
        None => Ok(JByteArray::default()),
    }
}

/// Name, kind, unit and meaning of each metric, in turn.
fn metric_list<'local>(
    env: &mut Env<'local>,
    _: JClass<'local>,
) -> Outcome<JObjectArray<'local, JString<'local>>> {
    let texts =
        METRICS.iter().flat_map(|m| [m.name.into(), format!("{:?}", m.kind), m.unit.into(), m.help.into()]);
    convert::strings(env, &texts.collect::<Vec<String>>())
}

/// The values of a role's metrics, in the order of the list. An array of another length is an exception.
fn metrics<'local>(
    env: &mut Env<'local>,
    _: JClass<'local>,
    role: jint,
    into: JLongArray<'local>,
) -> Outcome<()> {
    let role = if role == 0 { Role::Driver } else { Role::Receivers };
    let values: Vec<jlong> = crate::metrics(role).values().iter().map(|v| v.cast_signed()).collect();
    Ok(into.set_region(env, 0, &values)?)
}

fn set_log_level<'local>(_: &mut Env<'local>, _: JClass<'local>, level: jint) -> Outcome<()> {
    logging::set_level(level);
    Ok(())
}

fn await_log<'local>(_: &mut Env<'local>, _: JClass<'local>, millis: jlong) -> Outcome<jboolean> {
    Ok(logging::wait(Duration::from_millis(millis.max(0).cast_unsigned())))
}

/// Runs the program; its output goes to the process's own standard output and error.
#[cfg(feature = "cli")]
fn tool<'local>(
    env: &mut Env<'local>,
    _: JClass<'local>,
    args: JObjectArray<'local, JString<'local>>,
) -> Outcome<jint> {
    let args = convert::texts(env, &args)?.into_iter().map(std::ffi::OsString::from);
    let name = std::ffi::OsString::from("ferrowal");
    // On this thread, which is Java's: the program asks for one record after the other.
    let readable = &mut |record: &[u8]| {
        convert::readable(env, record).unwrap_or_else(|e| Err(format!("Java cannot read a record: {e:?}")))
    };
    Ok(crate::cli::code(std::iter::once(name).chain(args), readable).into())
}

#[cfg(not(feature = "cli"))]
fn tool<'local>(
    _: &mut Env<'local>,
    _: JClass<'local>,
    _: JObjectArray<'local, JString<'local>>,
) -> Outcome<jint> {
    Err(Failure::Log(Error::Config("this native library was built without the tool".into())))
}

fn serve_jobs<'local>(_: &mut Env<'local>, _: JClass<'local>) -> Outcome<()> {
    jobs::serve();
    Ok(())
}

fn take_job<'local>(
    env: &mut Env<'local>,
    _: JClass<'local>,
    lane: jint,
    millis: jlong,
    numbers: JLongArray<'local>,
) -> Outcome<JObjectArray<'local, JString<'local>>> {
    jobs::take(env, lane, millis, &numbers)
}

fn job_bytes<'local>(
    env: &mut Env<'local>,
    _: JClass<'local>,
    id: jlong,
    at: jlong,
    into: JByteArray<'local>,
) -> Outcome<jint> {
    jobs::bytes(env, id, at, &into)
}

fn job_fill<'local>(
    env: &mut Env<'local>,
    _: JClass<'local>,
    id: jlong,
    at: jlong,
    from: JByteArray<'local>,
    length: jint,
) -> Outcome<jboolean> {
    jobs::fill(env, id, at, &from, length)
}

fn job_answer<'local>(
    env: &mut Env<'local>,
    _: JClass<'local>,
    id: jlong,
    kind: jint,
    message: JString<'local>,
    number: jlong,
    names: JObjectArray<'local, JString<'local>>,
) -> Outcome<jboolean> {
    jobs::answer(env, id, kind, &message, number, &names)
}

/// Level and text of the oldest line; null where there is none.
fn take_log<'local>(
    env: &mut Env<'local>,
    _: JClass<'local>,
) -> Outcome<JObjectArray<'local, JString<'local>>> {
    match logging::take() {
        Some(line) => convert::strings(env, &[line.level.to_string(), line.text]),
        None => Ok(JObjectArray::default()),
    }
}
