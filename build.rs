//! Link arguments of the native library.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        // Unloading a Rust library is unsound while threads hold thread-local destructors of it, and a class loader
        // that is collected would unload us: so we are never unmapped.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}
