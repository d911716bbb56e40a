//! Options, handles and reports on their way across.

use std::{collections::HashMap, time::Duration};

use jni::{
    Env,
    objects::{JLongArray, JObjectArray, JString},
};
#[cfg(feature = "cli")]
use jni::{jni_sig, jni_str, objects::JValue};
use uuid::Uuid;

#[cfg(feature = "cli")]
use super::error;
use super::error::Failure;
use crate::{
    BarrierMethod, Compression, Durability, Error, KeyRing, Options, RecordHandle, Recovery, RecoveryReport,
    Role, Takeover,
};

/// How many longs a handle is: log (2), writer (2), segment, offset, length and crc in one, version.
const HANDLE_LONGS: usize = 8;

fn config(text: String) -> Failure {
    Failure::Log(Error::Config(text))
}

/// What Java puts before the keys of a store, to tell them from options.
const STORE: &str = "store.";

/// And before the places of keys, with a number by which they are in order.
const KEY: &str = "key.";

/// Reads `key, value, key, value, …`.
pub(super) fn pairs(
    env: &mut Env<'_>,
    pairs: &JObjectArray<'_, JString<'_>>,
) -> Result<HashMap<String, String>, Failure> {
    let mut values = HashMap::new();
    for at in (0..pairs.len(env)?.saturating_sub(1)).step_by(2) {
        let key = pairs.get_element(env, at)?;
        let value = pairs.get_element(env, at + 1)?;
        values.insert(key.try_to_string(env)?, value.try_to_string(env)?);
        // A native call has few local references to give.
        env.delete_local_ref(key);
        env.delete_local_ref(value);
    }
    Ok(values)
}

/// Reads an array of strings.
pub(super) fn texts(
    env: &mut Env<'_>,
    array: &JObjectArray<'_, JString<'_>>,
) -> Result<Vec<String>, Failure> {
    let mut strings = Vec::new();
    for at in 0..array.len(env)? {
        let string = array.get_element(env, at)?;
        strings.push(string.try_to_string(env)?);
        env.delete_local_ref(string);
    }
    Ok(strings)
}

/// What Java makes of a record of Spark's driver: text for people, or why it cannot say anything.
#[cfg(feature = "cli")]
pub(super) fn readable(env: &mut Env<'_>, record: &[u8]) -> Result<Result<String, String>, Failure> {
    let Some(class) = error::native_class() else { return Err(Failure::Stale) };
    let bytes = env.byte_array_from_slice(record)?;
    let said = env
        .call_static_method(
            class,
            jni_str!("readable"),
            jni_sig!((record: [jbyte]) -> [java.lang.String]),
            &[JValue::Object(&bytes)],
        )?
        .l()?;
    let said = env.cast_local::<JObjectArray<'_, JString<'_>>>(said)?;
    let texts = texts(env, &said)?;
    env.delete_local_ref(said);
    env.delete_local_ref(bytes);
    Ok(match <[String; 2]>::try_from(texts) {
        Ok([yes, text]) if yes == "yes" => Ok(text),
        Ok([_, why]) => Err(why),
        Err(_) => Err("Java's answer has not two parts".into()),
    })
}

/// Reads options. Every key must be known and every one must be there: Java sends all. Those that begin with `store.`
/// are for the store.
pub(super) fn options(
    env: &mut Env<'_>,
    pairs_of_all: &JObjectArray<'_, JString<'_>>,
) -> Result<Options, Failure> {
    let (store, mut values): (HashMap<_, _>, HashMap<_, _>) =
        pairs(env, pairs_of_all)?.into_iter().partition(|(key, _)| key.starts_with(STORE));
    let mut sources: Vec<(String, String)> = Vec::new();
    values.retain(|key, value| {
        let is_key = key.starts_with(KEY);
        if is_key {
            sources.push((key.clone(), std::mem::take(value)));
        }
        !is_key
    });
    sources.sort();
    let mut text =
        |key: &str| values.remove(key).ok_or_else(|| config(format!("the option {key} is missing")));
    let role = match text("role")?.as_str() {
        "driver" => Role::Driver,
        "receivers" => Role::Receivers,
        other => return Err(config(format!("{other:?} is not a role: driver or receivers"))),
    };
    let mut options = Options::new(text("dir")?, role);
    options.recovery = match text("recovery")?.as_str() {
        "strict" => Recovery::Strict,
        "default" => Recovery::Default,
        "salvage" => Recovery::Salvage,
        other => {
            return Err(config(format!("{other:?} is not a recovery policy: strict, default or salvage")));
        }
    };
    options.durability = match text("durability")?.as_str() {
        "device" => Durability::Device,
        "os" => Durability::Os,
        other => return Err(config(format!("{other:?} is not a durability: device or os"))),
    };
    options.barrier = match text("barrier")?.as_str() {
        "auto" => BarrierMethod::Auto,
        "fdatasync" => BarrierMethod::Fdatasync,
        "direct" => BarrierMethod::Direct,
        "dsync" => BarrierMethod::Dsync,
        other => {
            return Err(config(format!("{other:?} is not a barrier: auto, fdatasync, direct or dsync")));
        }
    };
    options.store = store.iter().map(|(key, value)| (&key[STORE.len()..], value.as_str())).collect();
    options.takeover = match text("takeover")?.as_str() {
        "refuse" => Takeover::Refuse,
        "force" => Takeover::Force,
        other => return Err(config(format!("{other:?} is not a take-over policy: refuse or force"))),
    };
    options.spin = match text("spin")?.as_str() {
        "true" => true,
        "false" => false,
        other => return Err(config(format!("spin must be true or false, not {other:?}"))),
    };
    options.allow_network_lock = match text("allowNetworkLock")?.as_str() {
        "true" => true,
        "false" => false,
        other => return Err(config(format!("allowNetworkLock must be true or false, not {other:?}"))),
    };
    let keys = KeyRing::read(sources.iter().map(|(_, source)| source))?;
    options.keys = match text("encrypts")?.as_str() {
        "true" => keys,
        "false" => keys.for_reading(),
        other => return Err(config(format!("encrypts must be true or false, not {other:?}"))),
    };
    options.keys = match text("encryptionRequired")?.as_str() {
        "true" => options.keys.required(),
        "false" => options.keys,
        other => return Err(config(format!("encryptionRequired must be true or false, not {other:?}"))),
    };
    let level = text("zstdLevel")?;
    let level = level.parse().map_err(|_| config(format!("zstdLevel must be a number, not {level:?}")))?;
    options.compression = match text("compression")?.as_str() {
        "none" => Compression::None,
        "lz4" => Compression::Lz4,
        "zstd" => Compression::Zstd(level),
        other => return Err(config(format!("{other:?} is not a compression: none, lz4 or zstd"))),
    };
    let mut number = |key: &str| -> Result<u64, Failure> {
        let text = text(key)?;
        text.parse().map_err(|_| config(format!("the option {key} must be a number from 0 on, not {text:?}")))
    };
    options.segment_size = number("segmentSize")?;
    options.memory = number("memory")?;
    options.max_failures = u32::try_from(number("maxFailures")?)
        .map_err(|_| config("the option maxFailures is too large".to_string()))?;
    options.rolling_interval = Duration::from_millis(number("rollingInterval")?);
    options.write_timeout = Duration::from_millis(number("writeTimeout")?);
    options.clean_grace = Duration::from_millis(number("cleanGrace")?);
    options.lock_wait = Duration::from_millis(number("lockWait")?);
    options.linger = Duration::from_millis(number("linger")?);
    options.idle_mark = Duration::from_millis(number("idleMark")?);
    options.group_linger = Duration::from_millis(number("groupLinger")?);
    options.most_put = number("mostPut")?;
    options.summary = Duration::from_millis(number("summary")?);
    match values.keys().next() {
        Some(key) => Err(config(format!("there is no option {key}"))),
        None => Ok(options),
    }
}

/// Writes a handle into the caller's array.
pub(super) fn put_handle(env: &Env<'_>, handle: &RecordHandle, into: &JLongArray<'_>) -> Result<(), Failure> {
    let (log_high, log_low) = handle.log.as_u64_pair();
    let (writer_high, writer_low) = handle.writer.as_u64_pair();
    let longs: [i64; HANDLE_LONGS] = [
        log_high.cast_signed(),
        log_low.cast_signed(),
        writer_high.cast_signed(),
        writer_low.cast_signed(),
        handle.segment.cast_signed(),
        handle.offset.cast_signed(),
        (u64::from(handle.length) << 32 | u64::from(handle.crc)).cast_signed(),
        i64::from(handle.version),
    ];
    Ok(into.set_region(env, 0, &longs)?)
}

/// Reads and checks a handle.
pub(super) fn handle(env: &Env<'_>, longs: &JLongArray<'_>) -> Result<RecordHandle, Failure> {
    let mut from = [0_i64; HANDLE_LONGS];
    longs.get_region(env, 0, &mut from)?;
    let [log_high, log_low, writer_high, writer_low, segment, offset, length_crc, version] =
        from.map(i64::cast_unsigned);
    let version = u16::try_from(version)
        .map_err(|_| Error::BadHandle(format!("format version {version} is not known to this release")))?;
    let handle = RecordHandle {
        log: Uuid::from_u64_pair(log_high, log_low),
        writer: Uuid::from_u64_pair(writer_high, writer_low),
        segment,
        offset,
        length: (length_crc >> 32) as u32,
        crc: length_crc as u32,
        version,
    };
    handle.validate()?;
    Ok(handle)
}

/// A report as strings: the place and fifteen numbers, then five strings for each finding. Java reads them in this order.
pub(super) fn report(report: &RecoveryReport) -> Vec<String> {
    let mut strings = vec![report.place.clone()];
    let numbers = [
        report.segments,
        report.sealed,
        report.records,
        report.bytes,
        report.torn_bytes,
        report.void_groups,
        report.corrupt,
        report.quarantined,
        report.settled,
        report.removed,
        report.set_aside,
        report.others,
        report.orphans,
        report.generation,
        u64::try_from(report.took.as_nanos()).unwrap_or(u64::MAX >> 1),
    ];
    strings.extend(numbers.map(|number| number.to_string()));
    for finding in &report.findings {
        strings.push(finding.writer.to_string());
        strings.push(finding.segment.to_string());
        strings.push(finding.offset.to_string());
        strings.push(finding.corrupt.to_string());
        strings.push(finding.detail.clone());
    }
    strings
}

/// A Java array of strings.
pub(super) fn strings<'local>(
    env: &mut Env<'local>,
    from: &[String],
) -> Result<JObjectArray<'local, JString<'local>>, Failure> {
    let array = JObjectArray::<JString<'_>>::new(env, from.len(), JString::default())?;
    for (at, text) in from.iter().enumerate() {
        let text = JString::from_str(env, text)?;
        array.set_element(env, at, &text)?;
        env.delete_local_ref(text);
    }
    Ok(array)
}
