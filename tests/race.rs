//! A race that is there on purpose, for `make tsan` to show that it would see one: a clean run of a tool that sees nothing
//! proves nothing.
#![allow(unsafe_code, clippy::unwrap_used)]

mod common;

use std::{cell::UnsafeCell, thread};

use common::{open, record};
use ferrowal::Role;

struct Unguarded(UnsafeCell<u64>);

// SAFETY: none. That is the test: threads change it at the same time.
unsafe impl Sync for Unguarded {}

impl Unguarded {
    fn count(&self) {
        // SAFETY: none, as above.
        unsafe { *self.0.get() += 1 };
    }
}

/// Threads that write to a log, which orders much of what they do, and count what they wrote without a lock.
#[test]
#[ignore = "a race, for ThreadSanitizer: make tsan"]
fn writers_count_without_a_lock() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), Role::Driver);
    let written = Unguarded(UnsafeCell::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for i in 0..50 {
                    written.count();
                    log.append(&record(i, 100), i as i64).unwrap();
                }
            });
        }
    });
    assert!(written.0.into_inner() <= 200);
}
