//! A whole damaged log: nothing is returned that was not written, under any policy.
#![no_main]

mod common;

libfuzzer_sys::fuzz_target!(|input: &[u8]| common::run(input, false));
