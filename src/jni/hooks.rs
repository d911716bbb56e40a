//! Native methods of the tests' `org.ferrowal.TestHooks`. They are in no library that is shipped: only the feature
//! `jni-test-hooks` builds them, and the jar's library is built without it.

use jni::{
    Env, NativeMethod, jni_str, native_method,
    objects::JClass,
    sys::{jboolean, jlong},
};

use super::{
    error::{Failure, Throw},
    registry,
};

const _: &[NativeMethod<'_>] = &[
    native_method! {
        java_type = "org.ferrowal.TestHooks",
        error_policy = Throw,
        static extern fn panic_in_log(id: jlong, formatted: jboolean),
    },
    native_method! {
        java_type = "org.ferrowal.TestHooks",
        error_policy = Throw,
        static extern fn violate_jni(),
    },
];

/// Panics inside a log, with either kind of payload.
fn panic_in_log<'local>(
    _: &mut Env<'local>,
    _: JClass<'local>,
    id: jlong,
    formatted: jboolean,
) -> Result<(), Failure> {
    registry::log(id)?.call(|_| {
        if formatted {
            panic!("planted panic in log {id}");
        }
        panic!("planted panic")
    })
}

/// Breaks a rule of JNI that -Xcheck:jni reports: calls a function while an exception is pending.
fn violate_jni<'local>(env: &mut Env<'local>, _: JClass<'local>) -> Result<(), Failure> {
    let _ = env.throw_new(jni_str!("java/lang/IllegalStateException"), jni_str!("planted violation"));
    let raw = env.get_raw();
    // SAFETY: `raw` is the environment of this native call. FindClass with a pending exception is what the rules forbid;
    // the JVM only warns, under -Xcheck:jni, and answers null or a local reference that goes with this call's frame.
    unsafe {
        ((**raw).v1_1.FindClass)(raw, jni_str!("java/lang/String").as_ptr());
    }
    Ok(())
}
