//! Payloads under every codec: any bytes, and what was encoded.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ferrowal::fuzz_payload(bytes));
