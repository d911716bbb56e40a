//! What is said of a key's file. A program of its own: the logger is the process's.
#![cfg(feature = "encryption")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{fs, os::unix::fs::PermissionsExt, sync::Mutex};

use ferrowal::KeyRing;

struct Lines(Mutex<Vec<String>>);

static LINES: Lines = Lines(Mutex::new(Vec::new()));

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        self.0.lock().unwrap().push(record.args().to_string());
    }

    fn flush(&self) {}
}

#[test]
fn that_others_can_read_a_key_is_said_once_for_each_file() {
    log::set_logger(&LINES).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    let dir = tempfile::tempdir().unwrap();
    for (name, mode, times) in [("open", 0o644, 1), ("wide", 0o660, 1), ("closed", 0o600, 0)] {
        let path = dir.path().join(name);
        fs::write(&path, "5a".repeat(32)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        for _ in 0..3 {
            KeyRing::read([format!("file:{}", path.display())]).unwrap();
        }
        let said =
            format!("the key in {} can be read by others than its owner: chmod 600 it", path.display());
        let lines = LINES.0.lock().unwrap();
        assert_eq!(lines.iter().filter(|line| **line == said).count(), times, "{lines:?}");
    }
}
