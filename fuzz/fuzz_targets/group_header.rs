//! The decoder of group headers: any bytes, with and without the checksum that belongs to them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ferrowal::fuzzing::group_header(bytes));
