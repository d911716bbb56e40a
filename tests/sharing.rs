//! Who may write, and what becomes of writers that are gone.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use common::{all, open, options, record};
use ferrowal::{Error, Log, RecordHandle, Role};

/// A process that opens the log, writes some records, says so, and waits to be killed or told to go on.
#[test]
#[ignore = "run by the tests below, as a process of its own"]
fn child() {
    let Ok(dir) = env::var("FERROWAL_TEST_DIR") else { return };
    let role =
        if env::var("FERROWAL_TEST_ROLE").unwrap() == "driver" { Role::Driver } else { Role::Receivers };
    let log = open(Path::new(&dir), role);
    let mut out = std::io::stderr();
    for t in 0..10 {
        let h = log.append(&record(t, 1000), t as i64).unwrap();
        let line = format!("{} {} {} {} {} {}\n", h.log, h.writer, h.segment, h.offset, h.length, h.crc);
        out.write_all(line.as_bytes()).unwrap();
    }
    out.write_all(b"ready\n").unwrap();
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    log.close().unwrap();
}

fn start(dir: &Path, role: Role) -> (Child, Vec<RecordHandle>) {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env("FERROWAL_TEST_DIR", dir)
        .env("FERROWAL_TEST_ROLE", if role == Role::Driver { "driver" } else { "receivers" })
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut handles = Vec::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        if line == "ready" {
            break;
        }
        let w: Vec<&str> = line.split(' ').collect();
        handles.push(RecordHandle {
            log: w[0].parse().unwrap(),
            writer: w[1].parse().unwrap(),
            segment: w[2].parse().unwrap(),
            offset: w[3].parse().unwrap(),
            length: w[4].parse().unwrap(),
            crc: w[5].parse().unwrap(),
            version: 1,
        });
    }
    assert_eq!(handles.len(), 10);
    (child, handles)
}

#[test]
fn a_driver_waits_for_a_live_owner_and_then_says_who_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (mut child, _) = start(dir.path(), Role::Driver);
    let mut opts = options(dir.path(), Role::Driver);
    opts.lock_wait = Duration::from_millis(200);
    let log = Log::open(opts.clone()).unwrap();
    for error in [log.check().unwrap_err(), log.append(b"x", 1).unwrap_err()] {
        let Error::Locked { owner, waited, .. } = &error else { panic!("{error}") };
        assert!(owner.starts_with(&format!("pid {} on ", child.id())), "{owner}");
        assert!(*waited >= Duration::from_millis(200));
        let text = error.to_string();
        assert!(text.ends_with("stop it, or give this application a directory of its own"), "{text}");
    }
    // A live owner that goes away within the wait is no error.
    opts.lock_wait = Duration::from_secs(60);
    opts.linger = Duration::from_millis(1);
    log.close().unwrap();
    let log = Log::open(opts).unwrap();
    let waiting = std::thread::spawn(move || {
        log.check().unwrap();
        log.append(b"x", 1).unwrap();
    });
    child.kill().unwrap();
    child.wait().unwrap();
    waiting.join().unwrap();
}

#[test]
fn receivers_write_side_by_side_and_read_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let (mut child, theirs) = start(dir.path(), Role::Receivers);
    let log = open(dir.path(), Role::Receivers);
    let ours = log.append(b"ours", 5).unwrap();
    for (t, handle) in theirs.iter().enumerate() {
        assert_eq!(log.read(handle).unwrap(), record(t as u64, 1000));
    }
    assert_eq!(log.read(&ours).unwrap(), b"ours");
    let found = all(&log);
    assert_eq!(found.len(), 11);
    assert_eq!(found[10], b"ours", "writers in the order in which they began");
    // Our clean leaves a live writer alone.
    log.clean(1000, true).unwrap();
    assert_eq!(log.read(&theirs[0]).unwrap(), record(0, 1000));
    child.stdin.take().unwrap().write_all(b"go on\n").unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_clean_collects_writers_that_are_gone_and_only_whole_ones() {
    let dir = tempfile::tempdir().unwrap();
    let (mut child, theirs) = start(dir.path(), Role::Receivers);
    child.kill().unwrap();
    child.wait().unwrap();
    let log = open(dir.path(), Role::Receivers);
    log.append(b"ours", 100).unwrap();
    let their_dir = dir.path().join("receivers").join(theirs[0].writer.to_string());
    log.clean(9, true).unwrap();
    assert!(their_dir.exists(), "their last record has time 9");
    assert_eq!(log.read(&theirs[9]).unwrap(), record(9, 1000));
    log.clean(10, true).unwrap();
    assert!(!their_dir.exists());
    // The file may still be open for readers that came before; a new one is told the truth.
    log.close().unwrap();
    let mut opts = options(dir.path(), Role::Receivers);
    opts.linger = Duration::from_secs(1);
    let again = Log::open(opts).unwrap();
    for handle in &theirs {
        assert!(matches!(again.read(handle).unwrap_err(), Error::Gone { .. }));
    }
    assert_eq!(all(&again), [b"ours".to_vec()]);
}

#[test]
fn two_ways_to_name_a_directory_are_one_log() {
    let dir = tempfile::tempdir().unwrap();
    let real = dir.path().join("real");
    let link = dir.path().join("link");
    fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let (one, two) = (open(&real, Role::Driver), open(&link, Role::Driver));
    one.append(b"one", 1).unwrap();
    two.append(b"two", 2).unwrap();
    one.close().unwrap();
    two.append(b"three", 3).unwrap();
    assert_eq!(all(&two), [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()]);
}

#[test]
fn a_directory_that_cannot_be_is_said_before_the_first_write() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let say = |path: &Path| {
        let log = open(path, Role::Driver);
        let (early, late) =
            (log.check().unwrap_err().to_string(), log.append(b"x", 1).unwrap_err().to_string());
        assert_eq!(early, late);
        early.replace(&dir.path().display().to_string(), "DIR")
    };
    assert_eq!(say(&file), "DIR/file is not a directory: name a directory for the log");
    assert_eq!(
        say(&dir.path().join("no/log")),
        "the parent of DIR/no/log does not exist: make it, or name another directory for the log"
    );
    let text = Log::open(options(Path::new("relative/log"), Role::Driver)).unwrap_err().to_string();
    assert_eq!(text, "the log's directory must be an absolute path, not \"relative/log\"");
}

#[test]
fn a_damaged_id_is_an_error_and_not_a_new_log() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path(), Role::Driver).append(b"x", 1).unwrap();
    fs::write(dir.path().join("ferrowal.id"), "garbage").unwrap();
    let moved = dir.path().with_extension("moved");
    fs::rename(dir.path(), &moved).unwrap();
    let log = open(&moved, Role::Driver);
    for error in [log.check().unwrap_err(), log.scan().unwrap_err(), log.append(b"y", 1).unwrap_err()] {
        assert!(matches!(error, Error::Missing { .. }), "{error}");
    }
    fs::remove_dir_all(moved).unwrap();
}
