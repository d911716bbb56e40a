//! Handles of any fields: a typed error, or the record that was written; no memory for a length that is only claimed.
#![no_main]

#[allow(dead_code)]
mod common;

use std::{fs, sync::OnceLock};

use ferrowal::{Log, RecordHandle, Recovery, Role};
use uuid::Uuid;

fn log() -> &'static (tempfile::TempDir, Log) {
    static LOG: OnceLock<(tempfile::TempDir, Log)> = OnceLock::new();
    LOG.get_or_init(|| {
        let dir = common::scratch();
        for (name, bytes) in &common::bases()[1].files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("below")).expect("make");
            fs::write(path, bytes).expect("write");
        }
        let log = Log::open(common::options(dir.path(), Role::Receivers, Recovery::Default)).expect("open");
        (dir, log)
    })
}

libfuzzer_sys::fuzz_target!(|input: [u8; 64]| {
    let records = &common::bases()[1].records;
    let (real, bytes) = &records[usize::from(input[0]) % records.len()];
    let mut handle: RecordHandle = *real;
    // Each bit lets one field be wild.
    let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| input[at + i]));
    let wild = |bit: u8| input[1] & (1 << bit) != 0;
    if wild(0) {
        handle.segment = number(2);
    }
    if wild(1) {
        handle.offset = number(10);
    }
    if wild(2) {
        handle.length = number(18) as u32;
    }
    if wild(3) {
        handle.crc = number(22) as u32;
    }
    if wild(4) {
        handle.version = number(26) as u16;
    }
    if wild(5) {
        handle.writer = Uuid::from_u64_pair(number(28), number(36));
    }
    if wild(6) {
        handle.log = Uuid::from_u64_pair(number(44), number(52));
    }
    let log = &log().1;
    let located = log.locate(&handle);
    let _ = handle.to_string();
    if let Ok(back) = log.read(&handle) {
        assert!(located.is_ok());
        assert!(handle == *real && back == *bytes || records.iter().any(|(h, b)| *h == handle && *b == back));
    }
});
