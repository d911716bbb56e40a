//! What is said of a key's file. A program of its own: the logger is the process's.
#![cfg(feature = "encryption")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{fs, io::Write, os::unix::fs::PermissionsExt, sync::Mutex};

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

#[test]
fn a_key_comes_through_a_pipe_that_somebody_writes_to_and_no_other_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let read = |path: std::path::PathBuf| {
        let (told, tells) = std::sync::mpsc::channel();
        std::thread::spawn(move || told.send(KeyRing::read([format!("file:{}", path.display())])));
        tells.recv_timeout(std::time::Duration::from_secs(30)).expect("it is waited for")
    };
    let error = read(path.clone()).unwrap_err().to_string();
    assert!(error.contains("must hold a key"), "{error}");
    let (reading, mut writing) = std::io::pipe().unwrap();
    let shown = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reading));
    writing.write_all("5a".repeat(32).as_bytes()).unwrap();
    drop(writing);
    read(shown.into()).unwrap();
}
