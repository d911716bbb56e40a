//! What a machine does to a log: locks of others, files that vanish, refusals, clocks, many segments, many dead writers.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    collections::HashSet,
    env, fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    time::{Duration, Instant},
};

use common::{all, open, options, record, segment_file};
use ferrowal::{Durability, Error, Log, Role};

/// Fails where nobody reads what is printed; says it elsewhere.
fn skip(why: &str) {
    assert!(env::var_os("CI").is_none(), "cannot be tested here: {why}");
    println!("skipped: {why}");
}

/// Another process that holds the flock of a file until it is told to let go.
struct Holder {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Holder {
    fn of(lock: &Path) -> Holder {
        let mut child = Command::new("flock")
            .args(["--exclusive", "--no-fork"])
            .arg(lock)
            .args(["sh", "-c", "echo held; read line"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("util-linux's flock");
        let stdin = child.stdin.take();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "held\n");
        Holder { child, stdin }
    }

    fn let_go(mut self) {
        drop(self.stdin.take());
        self.child.wait().unwrap();
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn a_lock_of_another_process_is_waited_for_and_named_and_falls_with_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    let mut opts = options(dir.path(), Role::Driver);
    opts.lock_wait = Duration::from_millis(300);
    opts.linger = Duration::ZERO;
    let log = Log::open(opts.clone()).unwrap();
    log.append(b"before", 1).unwrap();
    log.close().unwrap();
    drop(log);
    let lock = dir.path().join("driver/LOCK");
    for kill in [false, true] {
        let holder = Holder::of(&lock);
        let log = Log::open(opts.clone()).unwrap();
        // Reading needs no lock; and so this instance goes on with what is there.
        let before = all(&log).len();
        let began = Instant::now();
        let refused = log.append(b"refused", 2);
        let Err(Error::Locked { place, waited, .. }) = refused else { panic!("{refused:?}") };
        assert!(place.contains("driver"), "{place}");
        assert!(waited >= Duration::from_millis(300), "{waited:?}");
        assert!(began.elapsed() < Duration::from_secs(20), "bounded");
        assert!(matches!(log.check(), Err(Error::Locked { .. })), "known early");
        if kill {
            holder.kill()
        } else {
            holder.let_go()
        }
        log.append(b"after", 3).unwrap();
        assert_eq!(all(&log).len(), before + 1, "what was refused is not in the log");
        log.close().unwrap();
    }
}

/// One after the other they would be told after 1, 2, 3 and at last 60 seconds; or, each asking once more, after 1 to 7.
#[test]
fn all_who_wait_for_a_lock_at_once_are_told_in_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut opts = options(dir.path(), Role::Driver);
    opts.lock_wait = Duration::from_secs(1);
    std::fs::create_dir_all(dir.path().join("driver")).unwrap();
    let holder = Holder::of(&dir.path().join("driver/LOCK"));
    let log = Log::open(opts).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..60 {
            scope.spawn(|| {
                let refused = log.append(b"refused", 1);
                let Err(Error::Locked { waited, .. }) = refused else { panic!("{refused:?}") };
                assert!(waited >= Duration::from_millis(800), "{waited:?}");
                assert!(waited < Duration::from_secs(4), "{waited:?}");
            });
        }
    });
    // Nor does one that tries again at once keep the others waiting.
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..3 {
                    let Err(Error::Locked { waited, .. }) = log.append(b"refused", 1) else {
                        panic!("it is held")
                    };
                    assert!(waited < Duration::from_secs(4), "{waited:?}");
                }
            });
        }
    });
    holder.let_go();
    log.append(b"after", 2).unwrap();
    log.close().unwrap();
}

#[test]
fn record_times_that_go_backwards_change_no_order() {
    let dir = tempfile::tempdir().unwrap();
    for role in [Role::Driver, Role::Receivers] {
        let path = dir.path().join(format!("{role:?}"));
        let mut opts = options(&path, role);
        opts.rolling_interval = Duration::from_millis(10);
        let log = Log::open(opts).unwrap();
        let times = [5_000, 4_000, i64::MAX, 0, -1, i64::MIN, 3_000, i64::MAX, i64::MIN, 1];
        let written: Vec<_> = (0..).zip(times).map(|(i, time)| (record(i, 100), time)).collect();
        let handles: Vec<_> = written.iter().map(|(bytes, time)| log.append(bytes, *time).unwrap()).collect();
        assert!(all(&log).iter().eq(written.iter().map(|(b, _)| b)), "{role:?}");
        log.clean(3_500, true).unwrap();
        let kept: Vec<_> = written.iter().filter(|(_, time)| *time >= 3_500).map(|(b, _)| b).collect();
        assert!(
            all(&log).iter().eq(kept.iter().copied()),
            "{role:?}: exactly what is not below the threshold"
        );
        for (handle, (bytes, time)) in handles.iter().zip(&written) {
            match log.read(handle) {
                Ok(read) => assert!(read == *bytes),
                Err(Error::Gone { .. }) => assert!(*time < 3_500, "{role:?}: {handle} of {time}"),
                Err(e) => panic!("{role:?}: {e}"),
            }
        }
        log.close().unwrap();
        assert!(all(&open(&path, role)).iter().eq(kept), "{role:?}: the threshold lasts");
    }
}

/// A log of three sealed segments and more, still open, with what was written to it.
fn rolled(dir: &Path, role: Role) -> (Log, Vec<(ferrowal::RecordHandle, Vec<u8>)>) {
    let mut opts = options(dir, role);
    opts.rolling_interval = Duration::from_millis(10);
    opts.linger = Duration::ZERO;
    let log = Log::open(opts).unwrap();
    let written: Vec<_> = (0..6u64)
        .map(|i| {
            let bytes = record(i, 3000);
            (log.append(&bytes, i as i64 * 20).unwrap(), bytes)
        })
        .collect();
    let segments: HashSet<u64> = written.iter().map(|(h, _)| h.segment).collect();
    assert!(segments.len() >= 3);
    (log, written)
}

#[test]
fn a_segment_that_vanishes_while_the_log_is_open_is_reported_and_never_gone() {
    for role in [Role::Driver, Role::Receivers] {
        let dir = tempfile::tempdir().unwrap();
        let (log, written) = rolled(dir.path(), role);
        let lost = written[1].0;
        fs::remove_file(segment_file(dir.path(), role, &lost)).unwrap();
        for (handle, bytes) in &written {
            match log.read(handle) {
                // A file that our reader holds open may still be read: then it must be right.
                Ok(read) => assert!(read == *bytes),
                Err(Error::Missing { .. } | Error::Corrupt { .. }) => {
                    assert_eq!(handle.segment, lost.segment)
                }
                Err(e) => panic!("{role:?}: {handle}: {e}"),
            }
        }
        let found: Vec<_> = log.scan().unwrap().collect();
        assert!(
            found.iter().any(|r| r.is_err()) || found.len() == written.len(),
            "{role:?}: {} of {} records, and no error",
            found.len(),
            written.len()
        );
        // Writing goes on, and what it says is durable is.
        let after = log.append(b"after", 1_000).unwrap();
        assert_eq!(log.read(&after).unwrap(), b"after");
        log.close().unwrap();
        let again = open(dir.path(), role);
        let read = again.read(&lost);
        assert!(matches!(read, Err(Error::Missing { .. } | Error::Corrupt { .. })), "{role:?}: {read:?}");
        assert!(again.scan().unwrap().any(|r| r.is_err()), "{role:?}: a hole passed over in silence");
        assert_eq!(again.read(&after).unwrap(), b"after");
    }
}

#[test]
fn a_segment_that_is_overwritten_or_cut_while_the_log_is_open_is_corrupt() {
    for role in [Role::Driver, Role::Receivers] {
        for cut in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let (log, written) = rolled(dir.path(), role);
            let (handle, _) = written[1];
            let path = segment_file(dir.path(), role, &handle);
            let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
            if cut {
                file.set_len(handle.offset + 100).unwrap();
            } else {
                use std::os::unix::fs::FileExt;
                file.write_all_at(&[0xff; 500], handle.offset + 200).unwrap();
            }
            let read = log.read(&handle);
            assert!(matches!(read, Err(Error::Corrupt { .. })), "{role:?}, cut: {cut}: {read:?}");
            let damaged = log.scan().unwrap().find_map(|r| r.err());
            assert!(matches!(damaged, Some(Error::Corrupt { .. })), "{role:?}, cut: {cut}: {damaged:?}");
            for (other, bytes) in written.iter().filter(|(h, _)| h.segment != handle.segment) {
                assert!(log.read(other).unwrap() == *bytes);
            }
            log.append(b"it still writes", 1_000).unwrap();
        }
    }
}

#[test]
fn a_directory_that_was_removed_is_missing_to_a_reader() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let (log, written) = rolled(&path, Role::Receivers);
    log.close().unwrap();
    drop(log);
    fs::remove_dir_all(&path).unwrap();
    let log = open(&path, Role::Receivers);
    for (handle, _) in &written {
        let read = log.read(handle);
        assert!(matches!(read, Err(Error::Missing { .. })), "{read:?}");
    }
    assert!(!path.exists(), "reading created something");
}

/// Runs an ignored test of this file in a process of its own, through `sh -c`; 77 says that the machine does not allow it.
fn run_apart(name: &str, dir: &Path, before: &str, prefix: &str) {
    let exe = env::current_exe().unwrap();
    let script = format!(
        "{before} FERROWAL_TEST_DIR='{}' exec {prefix} '{}' --exact {name} --ignored --nocapture",
        dir.display(),
        exe.display()
    );
    let root = rustix::process::getuid().is_root();
    let output =
        match Command::new("unshare").args([if root { "-m" } else { "-rm" }, "sh", "-c", &script]).output() {
            Ok(output) => output,
            Err(e) => return skip(&format!("no unshare here ({e})")),
        };
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.code() == Some(77) || text.contains("unshare failed") {
        return skip(&format!("this machine does not let us\n{text}"));
    }
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

fn errno(error: &Error) -> Option<i32> {
    match error {
        Error::Io { source, .. } => source.raw_os_error(),
        _ => None,
    }
}

#[test]
fn a_volume_that_became_read_only_is_read_and_refuses_writes() {
    let dir = tempfile::tempdir().unwrap();
    let mount = format!("mount -t tmpfs -o size=64m tmpfs '{}' || exit 77;", dir.path().display());
    run_apart("read_only", dir.path(), &mount, "");
}

#[test]
#[ignore = "run by the test above, in a mount namespace of its own"]
fn read_only() {
    let Some(dir) = env::var_os("FERROWAL_TEST_DIR") else { return };
    let dir = Path::new(&dir);
    let remount = |how: &str| {
        let done = Command::new("mount").args(["-o", how]).arg(dir).status().unwrap();
        assert!(done.success(), "cannot {how}");
    };
    for role in [Role::Driver, Role::Receivers] {
        let path = dir.join(format!("{role:?}"));
        let (log, mut written) = rolled(&path, role);
        log.close().unwrap();
        drop(log);
        remount("remount,ro");
        let mut opts = options(&path, role);
        opts.linger = Duration::ZERO;
        opts.write_timeout = Duration::from_millis(500);
        let log = Log::open(opts).unwrap();
        assert!(all(&log).iter().eq(written.iter().map(|(_, b)| b)), "{role:?}: all of it can be read");
        let early = log.check().unwrap_err();
        assert_eq!(errno(&early), Some(rustix::io::Errno::ROFS.raw_os_error()), "{early}");
        let began = Instant::now();
        let refused = log.append(b"refused", 1_000).unwrap_err();
        assert_eq!(errno(&refused), Some(rustix::io::Errno::ROFS.raw_os_error()), "{refused}");
        assert!(began.elapsed() < Duration::from_secs(20), "bounded");
        remount("remount,rw");
        written.push((log.append(b"after", 1_000).unwrap(), b"after".to_vec()));
        assert!(
            all(&log).iter().eq(written.iter().map(|(_, b)| b)),
            "{role:?}: what was refused is not in the log"
        );
        log.close().unwrap();
    }
}

#[test]
fn a_directory_without_permission_is_refused_early_and_by_name() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    // Root may do everything: the test proper runs as nobody.
    let prefix = if rustix::process::getuid().is_root() {
        "setpriv --reuid=65534 --regid=65534 --clear-groups"
    } else {
        ""
    };
    let exe = env::current_exe().unwrap();
    let before = format!("{prefix} test -x '{}' || exit 77;", exe.display());
    run_apart("without_permission", dir.path(), &before, prefix);
}

#[test]
#[ignore = "run by the test above, as a user that is not root"]
fn without_permission() {
    let Some(dir) = env::var_os("FERROWAL_TEST_DIR") else { return };
    let dir = Path::new(&dir);
    let denied = Some(rustix::io::Errno::ACCESS.raw_os_error());
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for role in [Role::Driver, Role::Receivers] {
        // A parent in which nothing may be made.
        let parent = dir.join(format!("parent {role:?}"));
        fs::create_dir(&parent).unwrap();
        mode(&parent, 0o500);
        let log = open(&parent.join("log"), role);
        let early = log.check().unwrap_err();
        assert_eq!(errno(&early), denied, "{early}");
        assert!(early.to_string().contains("parent"), "{early}");
        assert_eq!(errno(&log.append(b"refused", 1).unwrap_err()), denied);
        drop(log);
        // A log that may not be looked into is neither empty nor missing.
        let path = dir.join(format!("log {role:?}"));
        let (log, written) = rolled(&path, role);
        log.close().unwrap();
        drop(log);
        mode(&path, 0o000);
        let log = open(&path, role);
        let read = log.read(&written[0].0).unwrap_err();
        assert_eq!(errno(&read), denied, "{read}");
        let scanned = log.scan().and_then(|s| s.collect::<Result<Vec<_>, _>>()).unwrap_err();
        assert_eq!(errno(&scanned), denied, "{scanned}");
        drop(log);
        mode(&path, 0o700);
        assert_eq!(all(&open(&path, role)).len(), written.len());
    }
}

/// Small segments, no barrier: what is looked at is their number.
fn many_segments(count: u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut opts = options(dir.path(), Role::Driver);
    opts.rolling_interval = Duration::from_millis(1);
    opts.segment_size = 1 << 20;
    opts.durability = Durability::Os;
    opts.linger = Duration::ZERO;
    let log = Log::open(opts.clone()).unwrap();
    let handles: Vec<_> = (0..count).map(|i| log.append(&record(i, 64), i as i64 * 10).unwrap()).collect();
    let segments: HashSet<u64> = handles.iter().map(|h| h.segment).collect();
    assert!(segments.len() as u64 >= count, "{} segments", segments.len());
    log.close().unwrap();
    drop(log);
    let began = Instant::now();
    let log = Log::open(opts).unwrap();
    assert!(log.scan().unwrap().map(|r| r.unwrap().to_vec()).eq((0..count).map(|i| record(i, 64))));
    println!("{count} segments: scanned in {:?}", began.elapsed());
    for i in (0..count).step_by(97) {
        assert_eq!(log.read(&handles[i as usize]).unwrap(), record(i, 64));
    }
    let open_files = fs::read_dir("/proc/self/fd").unwrap().count();
    assert!(open_files < 1000, "{open_files} descriptors");
    let began = Instant::now();
    log.append(b"one more", count as i64 * 10).unwrap();
    log.clean(count as i64 * 10, true).unwrap();
    println!("{count} segments: opened and cleaned in {:?}", began.elapsed());
    assert_eq!(all(&log), vec![b"one more".to_vec()]);
    let left = fs::read_dir(dir.path().join("driver")).unwrap().count();
    assert!(left < 50, "{left} files after a clean of everything");
}

#[test]
fn a_thousand_segments_are_scanned_read_and_cleaned() {
    many_segments(1_000);
}

#[test]
#[ignore = "10,000 segments: a minute or so"]
fn ten_thousand_segments_are_scanned_read_and_cleaned() {
    many_segments(10_000);
}

/// Each close lets go of the writer, and the next open is another one, as another executor process would be.
fn dead_writers(count: u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut opts = options(dir.path(), Role::Receivers);
    opts.durability = Durability::Os;
    opts.linger = Duration::ZERO;
    let mut handles = Vec::new();
    for i in 0..count {
        let log = Log::open(opts.clone()).unwrap();
        handles.push(log.append(&record(i, 100), i as i64).unwrap());
        log.close().unwrap();
    }
    let writers: HashSet<_> = handles.iter().map(|h| h.writer).collect();
    assert_eq!(writers.len() as u64, count, "each is a writer of its own");
    let log = Log::open(opts).unwrap();
    let mut found = all(&log);
    found.sort();
    let mut expected: Vec<_> = (0..count).map(|i| record(i, 100)).collect();
    expected.sort();
    assert!(found == expected);
    let writer = log.append(b"alive", count as i64 + 1).unwrap().writer;
    let began = Instant::now();
    let receivers = dir.path().join("receivers");
    let left = || fs::read_dir(&receivers).unwrap().filter(|e| e.as_ref().unwrap().path().is_dir()).count();
    // Nobody but us cleans for them; how often it looks at others is bounded, so it is asked until it has.
    while left() > 1 {
        log.clean(count as i64 + 1, true).unwrap();
        assert!(began.elapsed() < Duration::from_secs(120), "{} of {count} dead writers stay", left() - 1);
        std::thread::yield_now();
    }
    println!("{count} dead writers: collected in {:?}", began.elapsed());
    assert!(receivers.join(writer.to_string()).exists());
    assert_eq!(all(&log), vec![b"alive".to_vec()]);
    for handle in &handles {
        let read = log.read(handle);
        assert!(matches!(read, Err(Error::Gone { .. })), "{handle}: {read:?}");
    }
}

#[test]
fn the_records_of_a_hundred_dead_writers_are_read_and_then_collected() {
    dead_writers(100);
}

#[test]
#[ignore = "1,000 dead writers: a minute or so"]
fn the_records_of_a_thousand_dead_writers_are_read_and_then_collected() {
    dead_writers(1_000);
}

#[test]
#[ignore = "needs 5 GiB of memory, 3 GiB of disk"]
fn the_longest_record_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), Role::Receivers);
    let mut bytes = vec![0xa5u8; i32::MAX as usize];
    bytes[..4].copy_from_slice(b"head");
    let end = bytes.len() - 4;
    bytes[end..].copy_from_slice(b"tail");
    let handle = log.append(&bytes, 1).unwrap();
    assert_eq!(handle.length, ferrowal::RecordHandle::MAX_LENGTH);
    assert!(log.read(&handle).unwrap() == bytes);
    let after = log.append(b"after", 2).unwrap();
    log.close().unwrap();
    let again = open(dir.path(), Role::Receivers);
    assert!(again.read(&handle).unwrap() == bytes);
    assert_eq!(again.read(&after).unwrap(), b"after");
    // One byte more is no record at all.
    bytes.push(0);
    assert!(again.append(&bytes, 3).is_err());
}
