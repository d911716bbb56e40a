//! A whole log whose fields are wild and whose checksums are right: no panic, no wild allocation, an end.
#![no_main]

mod common;

libfuzzer_sys::fuzz_target!(|input: &[u8]| common::run(input, true));
