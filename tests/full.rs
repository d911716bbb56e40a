//! A volume that fills: nothing acknowledged is altered, writes fail in bounded time with a typed error, and go on when
//! there is space again.
//!
//! The volume is a tmpfs in a mount namespace of its own, so the test runs itself again under `unshare`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    env, fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use common::{all, options, record};
use ferrowal::{Error, Log, Role};

/// Runs the ignored test `name` with a tmpfs of `size` mounted, or says why it cannot.
fn on_a_small_volume(name: &str, size: &str) {
    let dir = tempfile::tempdir().unwrap();
    let script = format!(
        "mount -t tmpfs -o size={size} tmpfs '{dir}' || exit 77; FERROWAL_TEST_DIR='{dir}' exec '{exe}' --exact {name} --ignored --nocapture",
        dir = dir.path().display(),
        exe = env::current_exe().unwrap().display()
    );
    let user = if is_root() { "-m" } else { "-rm" };
    let output = match Command::new("unshare").args([user, "sh", "-c", &script]).output() {
        Ok(output) => output,
        Err(e) => return skip(&format!("no unshare here ({e})")),
    };
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(77) || text.contains("unshare failed") {
        return skip(&format!("this machine does not let us mount a tmpfs\n{text}"));
    }
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "{text}");
}

/// Where nobody reads what is printed, what cannot be tested is a failure.
fn skip(why: &str) {
    assert!(env::var_os("CI").is_none(), "cannot test a full volume: {why}");
    println!("skipped: {why}");
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0)
}

fn test_dir() -> Option<String> {
    env::var("FERROWAL_TEST_DIR").ok()
}

fn opened(dir: &Path, role: Role) -> Log {
    let mut options = options(dir, role);
    options.write_timeout = Duration::from_millis(1500);
    Log::open(options).unwrap()
}

#[test]
fn a_full_volume_fails_writes_in_bounded_time_and_harms_nothing() {
    on_a_small_volume("fills_up", "24m");
}

#[test]
#[ignore = "run by the test above, on a small volume"]
fn fills_up() {
    let Some(dir) = test_dir() else { return };
    for role in [Role::Driver, Role::Receivers] {
        let path = Path::new(&dir).join(format!("{role:?}"));
        let log = opened(&path, role);
        let mut written = Vec::new();
        let error = loop {
            let bytes = record(written.len() as u64, 50_000);
            let began = Instant::now();
            match log.append(&bytes, written.len() as i64) {
                Ok(handle) => written.push((handle, bytes)),
                Err(error) => {
                    assert!(began.elapsed() < Duration::from_secs(10), "bounded");
                    break error;
                }
            }
        };
        assert!(matches!(error, Error::StorageFull { .. }), "{error}");
        assert!(written.len() > 100, "only {} records on 24 MB", written.len());
        let check = |log: &Log| {
            for (handle, bytes) in &written {
                assert!(log.read(handle).unwrap() == *bytes);
            }
            let found = all(log);
            assert!(found.len() == written.len() && found.iter().zip(&written).all(|(a, (_, b))| a == b));
        };
        check(&log);
        // Still full: the next one waits and fails too, and the log can be read after a restart.
        assert!(matches!(log.append(&record(0, 50_000), 0), Err(Error::StorageFull { .. })));
        check(&log);
        // Space comes back by cleaning: the writer goes on without being opened again.
        log.clean(written.len() as i64 / 2, true).unwrap();
        let after = log.append(b"after", i64::MAX / 2).unwrap();
        assert_eq!(log.read(&after).unwrap(), b"after");
        if role == Role::Driver {
            // What was used of the reserve is put back.
            let began = Instant::now();
            while !path.join("driver/reserve").exists() {
                assert!(began.elapsed() < Duration::from_secs(30), "no reserve again");
                std::thread::yield_now();
            }
        }
        log.close().unwrap();
        let again = opened(&path, role);
        let kept = all(&again);
        assert_eq!(kept.len(), written.len() - written.len() / 2 + 1);
        assert_eq!(kept.last().unwrap(), b"after");
        again.close().unwrap();
        fs::remove_dir_all(&path).unwrap();
    }
}

#[test]
fn a_log_that_filled_its_volume_can_be_cleaned_after_a_restart() {
    on_a_small_volume("filled_and_opened_again", "24m");
}

#[test]
#[ignore = "run by the test above, on a small volume"]
fn filled_and_opened_again() {
    let Some(dir) = test_dir() else { return };
    for (role, by_tool) in [Role::Driver, Role::Receivers].into_iter().flat_map(|r| [(r, false), (r, true)]) {
        for size in [900, 20_000, 300_000] {
            let path = Path::new(&dir).join("log");
            let mut opts = options(&path, role);
            opts.write_timeout = Duration::from_millis(500);
            let log = Log::open(opts.clone()).unwrap();
            let mut written = 0;
            let refused = loop {
                match log.append(&record(written, size), 1) {
                    Ok(_) => written += 1,
                    Err(error) => break error,
                }
            };
            assert!(matches!(refused, Error::StorageFull { .. }), "{refused}");
            log.close().unwrap();
            // Even what a close gave back is used again, by a few more.
            let log = Log::open(opts.clone()).unwrap();
            assert_eq!(all(&log).len() as u64, written);
            while log.append(&record(written, size), 1).is_ok() {
                written += 1;
            }
            log.close().unwrap();
            let case = format!("{role:?}, {size} bytes, {written} records");
            if by_tool {
                let mut clean = Command::new(env!("CARGO_BIN_EXE_ferrowal"));
                let done = clean.arg("clean").arg(&path).args(["--before", "10"]).output().unwrap();
                assert!(done.status.success(), "{case}: {}", String::from_utf8_lossy(&done.stderr));
            } else {
                let log = Log::open(opts.clone()).unwrap();
                assert_eq!(all(&log).len() as u64, written, "{case}");
                log.clean(10, true).unwrap_or_else(|e| panic!("{case}: {e}"));
                log.close().unwrap();
            }
            let log = Log::open(opts).unwrap();
            assert!(all(&log).is_empty(), "{case}");
            for number in 0..4 {
                log.append(&record(number, size), 20).unwrap_or_else(|e| panic!("{case}: {e}"));
            }
            log.close().unwrap();
            fs::remove_dir_all(&path).unwrap();
        }
    }
}

#[test]
fn records_leave_room_for_the_mark_that_frees_space() {
    on_a_small_volume("leaves_room", "8m");
}

#[test]
#[ignore = "run by the test above, on a small volume"]
fn leaves_room() {
    let Some(dir) = test_dir() else { return };
    let dir = Path::new(&dir);
    // Segments are smaller where there is less space, of 256 KiB at least: from step to step less is left, and at one next to
    // nothing would be.
    for over in 0..12 {
        fs::write(dir.join("filler"), vec![1; over * 150_000]).unwrap();
        let path = dir.join("log");
        let mut opts = options(&path, Role::Receivers);
        opts.write_timeout = Duration::from_millis(50);
        let log = Log::open(opts).unwrap();
        let mut number = 0;
        while log.append(&record(number, 20_000), 1).is_ok() {
            number += 1;
        }
        let volume = rustix::fs::statvfs(dir).unwrap();
        let left = volume.f_bavail * volume.f_frsize;
        assert!(left >= 64 << 10, "{left} bytes with {over} over");
        log.close().unwrap();
        fs::remove_dir_all(&path).unwrap();
    }
}

#[test]
fn a_writer_that_waits_for_space_gets_it_from_a_clean() {
    on_a_small_volume("waits_for_a_clean", "24m");
}

#[test]
#[ignore = "run by the test above, on a small volume"]
fn waits_for_a_clean() {
    let Some(dir) = test_dir() else { return };
    let path = Path::new(&dir).join("log");
    let mut opts = options(&path, Role::Receivers);
    opts.write_timeout = Duration::from_secs(60);
    let log = std::sync::Arc::new(Log::open(opts).unwrap());
    let (told, heard) = std::sync::mpsc::channel();
    let writer = std::thread::spawn({
        let log = log.clone();
        move || {
            for t in 0..1000 {
                log.append(&record(t, 50_000), t as i64).unwrap();
                told.send(t).unwrap();
            }
        }
    });
    // 50 MB through 24 MB: whenever no record comes for a while the volume is full, and a clean frees it.
    let mut last = 0;
    let mut stalls = 0;
    while last < 999 {
        match heard.recv_timeout(Duration::from_millis(300)) {
            Ok(t) => last = t,
            Err(_) => {
                stalls += 1;
                log.clean(last as i64 - 20, false).unwrap();
            }
        }
        assert!(stalls < 200, "stuck at {last}");
    }
    writer.join().unwrap();
    assert!(stalls > 0, "the volume was never full");
}

#[test]
fn a_small_volume_holds_steady_writing_and_cleaning() {
    on_a_small_volume("steady", "24m");
}

#[test]
#[ignore = "run by the test above, on a small volume"]
fn steady() {
    let Some(dir) = test_dir() else { return };
    for role in [Role::Driver, Role::Receivers] {
        let path = Path::new(&dir).join("log");
        let log = opened(&path, role);
        for t in 0..3000 {
            log.append(&record(t, 40_000), t as i64).unwrap();
            if t % 10 == 0 {
                log.clean(t as i64 - 20, false).unwrap();
            }
        }
        log.close().unwrap();
        fs::remove_dir_all(&path).unwrap();
    }
}

#[test]
fn a_torn_tail_on_a_full_volume_does_not_keep_the_driver_from_starting() {
    on_a_small_volume("torn_and_full", "24m");
}

#[test]
#[ignore = "run by the test above, on a small volume"]
fn torn_and_full() {
    use std::os::unix::fs::FileExt;
    let Some(dir) = test_dir() else { return };
    let dir = Path::new(&dir);
    let path = dir.join("log");
    let log = opened(&path, Role::Driver);
    let handle = log.append(&record(0, 3000), 0).unwrap();
    let began = Instant::now();
    while !path.join("driver/reserve").exists() {
        assert!(began.elapsed() < Duration::from_secs(30), "no reserve");
        std::thread::yield_now();
    }
    // A copy, as a crash would leave it, with a torn group.
    let crashed = dir.join("crashed");
    // Again, if a file of the writer's was there when it was listed, and had another name when it was copied.
    while !Command::new("cp").arg("-r").args([&path, &crashed]).status().unwrap().success() {
        assert!(began.elapsed() < Duration::from_secs(30), "cannot be copied");
        fs::remove_dir_all(&crashed).unwrap();
    }
    log.close().unwrap();
    fs::remove_dir_all(&path).unwrap();
    let segment = common::segment_file(&crashed, Role::Driver, &handle);
    let file = fs::OpenOptions::new().write(true).open(&segment).unwrap();
    file.write_all_at(&record(5, 6000), 65_536).unwrap();
    let mut filler = 24usize << 20;
    while fs::write(dir.join("filler"), vec![1; filler]).is_err() {
        filler -= 4096;
    }
    let log = opened(&crashed, Role::Driver);
    assert_eq!(all(&log).len(), 1);
    log.append(b"from the reserve", 1).unwrap();
    assert_eq!(all(&log).len(), 2);
    log.close().unwrap();
    // With space, the copy of what was torn is made.
    fs::remove_file(dir.join("filler")).unwrap();
    let again = opened(&crashed, Role::Driver);
    assert_eq!(all(&again).len(), 2);
    again.append(b"more", 2).unwrap();
    assert_eq!(fs::read_dir(crashed.join("quarantine")).unwrap().count(), 1);
}

#[test]
fn what_a_dead_receiver_left_torn_is_not_deleted_without_a_copy() {
    on_a_small_volume("dead_torn_and_full", "24m");
}

#[test]
#[ignore = "run by the test above, on a small volume"]
fn dead_torn_and_full() {
    use std::os::unix::fs::FileExt;
    let Some(dir) = test_dir() else { return };
    let dir = Path::new(&dir);
    let path = dir.join("log");
    let log = opened(&path, Role::Receivers);
    let handle = log.append(&record(0, 3000), 0).unwrap();
    log.close().unwrap();
    // Its footer is lost, and behind its group there is what is none.
    let segment = common::segment_file(&path, Role::Receivers, &handle);
    let length = fs::metadata(&segment).unwrap().len();
    let file = fs::OpenOptions::new().write(true).open(&segment).unwrap();
    file.write_all_at(&record(5, 200_000), length - 4096).unwrap();
    // A few blocks are left: enough for a directory, a lock and a mark, and not for the copy.
    let mut filler = 24usize << 20;
    while fs::write(dir.join("filler"), vec![1; filler]).is_err() {
        filler -= 4096;
    }
    fs::File::options()
        .write(true)
        .open(dir.join("filler"))
        .unwrap()
        .set_len(filler as u64 - 60_000)
        .unwrap();
    let log = opened(&path, Role::Receivers);
    let refused = log.clean(10, true);
    assert!(matches!(refused, Err(Error::StorageFull { .. })), "{refused:?}");
    assert!(segment.exists() && fs::metadata(&segment).unwrap().len() > length + 100_000);
    fs::remove_file(dir.join("filler")).unwrap();
    log.clean(11, true).unwrap();
    assert!(!segment.exists());
    let kept: u64 =
        fs::read_dir(path.join("quarantine")).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
    assert!(kept >= 190_000, "{kept} bytes of it");
    log.close().unwrap();
}

#[test]
fn spares_on_a_full_volume_are_given_back_for_a_record_that_is_larger_than_each() {
    on_a_small_volume("larger_than_a_spare", "24m");
}

#[test]
#[ignore = "run by the test above, on a small volume"]
fn larger_than_a_spare() {
    let Some(dir) = test_dir() else { return };
    let dir = Path::new(&dir);
    let path = dir.join("log");
    let mut opts = options(&path, Role::Receivers);
    opts.segment_size = 1 << 20;
    opts.write_timeout = Duration::from_millis(1500);
    let log = Log::open(opts).unwrap();
    for t in 0..120 {
        log.append(&record(t, 100_000), t as i64).unwrap();
    }
    log.clean(119, true).unwrap();
    let spares = || {
        let writer = fs::read_dir(path.join("receivers")).unwrap().map(|e| e.unwrap().path());
        let writer = writer.into_iter().find(|p| p.is_dir()).unwrap();
        let files = fs::read_dir(writer).unwrap().map(|e| e.unwrap());
        let spares = files.filter(|f| f.file_name().to_string_lossy().contains("spare"));
        spares.map(|f| f.metadata().map_or(0, |m| m.len())).collect::<Vec<u64>>()
    };
    let kept = spares();
    assert!(kept.len() >= 2, "only {kept:?} were kept to be used again");
    let least = kept.iter().max().unwrap() + (64 << 10);
    let mut filler = 24usize << 20;
    while fs::write(dir.join("filler"), vec![1; filler]).is_err() {
        filler -= 4096;
    }
    let larger = record(1_000, least as usize);
    let handle = log.append(&larger, 1_000).unwrap();
    assert_eq!(log.read(&handle).unwrap(), larger);
    assert_eq!(spares().len(), 0);
    log.close().unwrap();
}

#[test]
fn a_new_log_on_a_full_volume_says_that_it_is_full() {
    on_a_small_volume("new_and_full", "24m");
}

/// No file and no directory can be made, though there are bytes.
#[test]
fn a_new_log_on_a_volume_without_inodes_says_that_it_is_full() {
    on_a_small_volume("new_and_full", "24m,nr_inodes=20");
}

#[test]
#[ignore = "run by the tests above, on a small volume"]
fn new_and_full() {
    let Some(dir) = test_dir() else { return };
    let dir = Path::new(&dir);
    // Whichever ends first: the bytes, or the names.
    let fillers: Vec<_> = (0..25).map(|n| dir.join(format!("filler{n}"))).collect();
    let fill = || assert!(fillers.iter().any(|filler| fs::write(filler, vec![1; 1 << 20]).is_err()));
    for role in [Role::Driver, Role::Receivers] {
        fill();
        let path = dir.join(format!("{role:?}"));
        let log = opened(&path, role);
        log.check().unwrap();
        let full = log.append(&record(0, 50_000), 0).unwrap_err();
        let Error::StorageFull { place, .. } = &full else { panic!("{full:?}") };
        assert_eq!(Path::new(place), path);
        assert!(full.is_full());
        // Nothing of the attempt is in the way of the next one.
        assert!(matches!(log.append(&record(0, 50_000), 0), Err(Error::StorageFull { .. })));
        fillers.iter().for_each(|filler| drop(fs::remove_file(filler)));
        log.append(&record(1, 50_000), 0).unwrap();
        assert!(all(&log) == [record(1, 50_000)]);
        log.close().unwrap();
        fs::remove_dir_all(&path).unwrap();
    }
}
