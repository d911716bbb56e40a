//! Review: the mark that covers the last acknowledged group must come after any load, not only after a lone record.
#![allow(clippy::unwrap_used)]
mod common;
use common::{options, record, segment_file};
use ferrowal::{Log, Role};
use std::{
    fs,
    sync::Mutex,
    time::{Duration, Instant},
};

#[test]
fn the_mark_comes_after_a_load() {
    let mut never = 0;
    for round in 0..10u64 {
        let dir = tempfile::tempdir().unwrap();
        let mut opts = options(dir.path(), Role::Driver);
        opts.idle_mark = Duration::from_millis(100);
        let log = Log::open(opts).unwrap();
        let last = Mutex::new(Vec::new());
        std::thread::scope(|s| {
            for t in 0..4 {
                let (log, last) = (&log, &last);
                s.spawn(move || {
                    let began = Instant::now();
                    while began.elapsed() < Duration::from_millis(500) {
                        let h = log.append(&record(t, 1000), 1).unwrap();
                        last.lock().unwrap().push((h.segment, h.offset, h));
                    }
                });
            }
        });
        let h = last.into_inner().unwrap().into_iter().max_by_key(|(s, o, _)| (*s, *o)).unwrap().2;
        std::thread::sleep(Duration::from_secs(2));
        let b = fs::read(segment_file(dir.path(), Role::Driver, &h)).unwrap();
        let last = (1..b.len() / 4096).filter(|i| &b[i * 4096..][..4] == b"FWGR").max().unwrap() * 4096;
        let records = u32::from_le_bytes(b[last + 24..last + 28].try_into().unwrap());
        println!("round {round}: last group at {last} has {records} records");
        never += u32::from(records != 0);
    }
    assert_eq!(never, 0, "of 10 silent logs, so many have an uncovered last group");
}
