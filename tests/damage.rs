//! Damage is never data and never silence: flipped bytes, cut files, garbage at the end.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use common::{all, open, options, record, segment_file};
use ferrowal::{Error, Log, RecordHandle, Recovery, Role};
use rustix::fs::{CWD, FileType, Mode, mknodat};

/// A log with a few records and what they were.
struct Written {
    dir: tempfile::TempDir,
    records: Vec<(RecordHandle, Vec<u8>)>,
    role: Role,
}

impl Written {
    /// Three segments: two sealed, one that a crash left open or that a close sealed.
    fn new(role: Role, crashed: bool) -> Written {
        let dir = tempfile::tempdir().unwrap();
        let live = dir.path().join("live");
        let mut opts = options(&live, role);
        opts.rolling_interval = Duration::from_millis(100);
        let log = Log::open(opts).unwrap();
        let records = (0..9u64)
            .map(|i| {
                let bytes = record(i, 8 + 200 * i as usize);
                (log.append(&bytes, i as i64 * 40).unwrap(), bytes)
            })
            .collect::<Vec<_>>();
        assert_eq!(records.last().unwrap().0.segment - records[0].0.segment, 2);
        if !crashed {
            log.close().unwrap();
        }
        // A copy, as a crash would leave it: the live log goes on (or not) elsewhere.
        copy(&live, &dir.path().join("log"));
        log.close().unwrap();
        let written = Written { dir, records, role };
        if crashed {
            // Most of what was prepared and not written: thousands of looks at its zeros prove nothing, and take minutes.
            for path in written.segments() {
                let bytes = fs::read(&path).unwrap();
                let used = bytes.iter().rposition(|b| *b != 0).unwrap_or(0) as u64;
                let file = OpenOptions::new().write(true).open(&path).unwrap();
                file.set_len((used.next_multiple_of(4096) + (64 << 10)).min(bytes.len() as u64)).unwrap();
            }
        }
        written
    }

    /// A copy, to be damaged beside this one.
    fn apart(&self) -> Written {
        let dir = tempfile::tempdir().unwrap();
        copy(&self.path(), &dir.path().join("log"));
        Written { dir, records: self.records.clone(), role: self.role }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn log(&self, recovery: Recovery) -> Log {
        let mut opts = options(&self.path(), self.role);
        opts.recovery = recovery;
        Log::open(opts).unwrap()
    }

    fn segments(&self) -> Vec<PathBuf> {
        let file = segment_file(&self.path(), self.role, &self.records[0].0);
        let mut found: Vec<_> = fs::read_dir(file.parent().unwrap())
            .unwrap()
            .map(|e| e.unwrap().path())
            .filter(|p| p.extension().is_some_and(|e| e == "seg"))
            .collect();
        found.sort();
        found
    }

    /// Whatever was damaged: what is returned is right and in order, and what is not returned is reported, unless it
    /// is the newest group of a log that was not closed, of which nothing says that it was acknowledged.
    fn check(&self, what: &str, last_is_provable: bool) {
        let log = self.log(Recovery::Default);
        for (handle, bytes) in &self.records {
            match log.read(handle) {
                Ok(read) => assert!(read == *bytes, "{what}: {handle} was altered"),
                Err(Error::Corrupt { .. } | Error::Missing { .. }) => {}
                Err(other) => panic!("{what}: {handle}: {other}"),
            }
        }
        // Logs that are open in one process at once share what they know, and its policy.
        drop(log);
        for recovery in [Recovery::Default, Recovery::Salvage] {
            let log = self.log(recovery);
            let mut scan = log.scan().unwrap();
            let mut expected = self.records.iter().map(|(_, bytes)| bytes.as_slice());
            let (mut found, mut error) = (0, None);
            for item in scan.by_ref() {
                match item {
                    Ok(bytes) => {
                        assert!(
                            expected.any(|e| e == &bytes[..]),
                            "{what}: a record that is none, or out of order"
                        );
                        found += 1;
                    }
                    Err(e) => error = Some(e),
                }
            }
            let lost = self.records.len() - found;
            let silent = usize::from(!last_is_provable);
            match recovery {
                Recovery::Salvage => {
                    assert!(error.is_none(), "{what}: salvage stopped: {error:?}");
                    assert!(lost <= silent || scan.skipped() > 0, "{what}: {lost} lost in silence");
                }
                _ => match error {
                    Some(Error::Corrupt { segment, .. }) => assert!(segment > 0),
                    Some(other) => panic!("{what}: {other}"),
                    None => assert!(lost <= silent, "{what}: {lost} lost in silence"),
                },
            }
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else if let Err(e) = fs::copy(&path, &target) {
            // A live log prepares and deletes files at any time.
            assert_eq!(e.kind(), std::io::ErrorKind::NotFound);
        }
    }
}

/// Bytes that are worth flipping: all around headers and footers, some of the rest.
fn places(bytes: &[u8]) -> Vec<u64> {
    let used = bytes.iter().rposition(|b| *b != 0).unwrap_or(0) + 200;
    (0..used.min(bytes.len()) as u64).filter(|at| at % 4096 < 130 || at % 97 == 0).collect()
}

fn flip_everywhere(written: &Written, last_is_provable: bool) {
    thread::scope(|s| {
        for i in 0..written.segments().len() {
            s.spawn(move || {
                let written = written.apart();
                let path = &written.segments()[i];
                let bytes = fs::read(path).unwrap();
                let file = OpenOptions::new().write(true).open(path).unwrap();
                for at in places(&bytes) {
                    let bit = 1 << (at % 8);
                    file.write_all_at(&[bytes[at as usize] ^ bit], at).unwrap();
                    written.check(&format!("bit {bit} of byte {at} of {}", path.display()), last_is_provable);
                    file.write_all_at(&[bytes[at as usize]], at).unwrap();
                }
                written.check("nothing", true);
            });
        }
    });
}

#[test]
fn any_byte_of_a_closed_log_may_flip() {
    flip_everywhere(&Written::new(Role::Receivers, false), true);
}

#[test]
fn any_byte_of_a_crashed_log_may_flip() {
    flip_everywhere(&Written::new(Role::Driver, true), false);
}

#[test]
fn any_segment_may_be_cut_anywhere() {
    for crashed in [false, true] {
        let written = Written::new(Role::Receivers, crashed);
        let segments = written.segments();
        for path in &segments {
            let bytes = fs::read(path).unwrap();
            // A cut of the newest segment takes its proof away with it.
            let holds_last = segment_file(&written.path(), written.role, &written.records.last().unwrap().0);
            let newest = *path >= holds_last;
            for at in places(&bytes).into_iter().filter(|at| at % 13 == 0 || at % 4096 == 0) {
                fs::write(path, &bytes[..at as usize]).unwrap();
                if newest {
                    // Still nothing altered and nothing out of order; how much is lost is not provable.
                    let log = written.log(Recovery::Salvage);
                    let found: Vec<_> = log.scan().unwrap().map(|r| r.unwrap()).collect();
                    let known = written.records.iter().take(found.len());
                    assert!(known.zip(&found).all(|((_, a), b)| a == b), "cut at {at}");
                } else {
                    written.check(&format!("{} cut at {at}", path.display()), true);
                }
            }
            fs::write(path, &bytes).unwrap();
        }
        written.check("nothing", true);
    }
}

#[test]
fn garbage_behind_the_end_changes_nothing() {
    for crashed in [false, true] {
        for role in [Role::Driver, Role::Receivers] {
            let written = Written::new(role, crashed);
            let garbage = record(99, 10_000);
            for path in written.segments() {
                let bytes = fs::read(&path).unwrap();
                for tail in [&garbage[..1], &garbage[..4096], &garbage, &bytes] {
                    fs::write(&path, [&bytes, tail].concat()).unwrap();
                    written.check(&format!("garbage behind {}", path.display()), true);
                }
                fs::write(&path, &bytes).unwrap();
            }
        }
    }
}

#[test]
fn a_missing_segment_is_reported_and_never_taken_for_cleaned() {
    let written = Written::new(Role::Receivers, false);
    for path in &written.segments()[..2] {
        let bytes = fs::read(path).unwrap();
        fs::remove_file(path).unwrap();
        // The directory is read anew: what is open would hide the loss.
        let moved = written.dir.path().join("moved");
        copy(&written.path(), &moved);
        let log = open(&moved, Role::Receivers);
        let first = &written.records[if path.ends_with("0000000000000001.seg") { 0 } else { 4 }].0;
        assert!(matches!(log.read(first), Err(Error::Corrupt { .. })), "{:?}", log.read(first));
        let found: Vec<_> = log.scan().unwrap().collect();
        assert!(matches!(found.last(), Some(Err(Error::Corrupt { .. }))), "{found:?}");
        log.close().unwrap();
        fs::remove_dir_all(&moved).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn a_torn_tail_is_dropped_and_kept_in_quarantine() {
    let written = Written::new(Role::Driver, true);
    let newest = segment_file(&written.path(), Role::Driver, &written.records.last().unwrap().0);
    let at = written.records.last().unwrap().0.offset - 96 + 4096;
    let garbage = record(7, 5000);
    OpenOptions::new().write(true).open(&newest).unwrap().write_all_at(&garbage, at).unwrap();
    let log = written.log(Recovery::Default);
    assert_eq!(all(&log).len(), written.records.len());
    log.append(b"goes on", 1000).unwrap();
    let report = log.report().unwrap();
    assert_eq!((report.torn_bytes, report.corrupt, report.quarantined), (5000, 0, 1));
    let kept = fs::read_dir(written.path().join("quarantine")).unwrap().next().unwrap().unwrap().path();
    assert_eq!(fs::read(kept).unwrap(), garbage);
    log.close().unwrap();
    let again = all(&written.log(Recovery::Strict));
    assert_eq!(again.len(), written.records.len() + 1);
    assert_eq!(again.last().unwrap(), b"goes on");
}

#[test]
fn corruption_stops_a_writer_unless_it_salvages() {
    let written = Written::new(Role::Driver, true);
    // A record of the open segment that a later group proves to have been acknowledged.
    let (handle, _) = &written.records[written.records.len() - 2];
    let path = segment_file(&written.path(), Role::Driver, handle);
    let before = fs::read(&path).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    file.write_all_at(b"rot", handle.offset + 24 + 100).unwrap();
    let log = written.log(Recovery::Default);
    let Err(Error::Corrupt { segment, offset, .. }) = log.append(b"x", 1) else { panic!("it went on") };
    assert_eq!((segment, offset), (handle.segment, handle.offset));
    log.close().unwrap();
    let mut after = before.clone();
    after[handle.offset as usize + 124..][..3].copy_from_slice(b"rot");
    assert!(fs::read(&path).unwrap() == after, "stopping changed nothing");
    let log = written.log(Recovery::Salvage);
    assert_eq!(all(&log).len(), written.records.len() - 1);
    log.append(b"x", 1).unwrap();
    assert_eq!(log.report().unwrap().corrupt, 1);
}

#[test]
fn strict_looks_at_sealed_segments_too() {
    let written = Written::new(Role::Driver, false);
    let (handle, _) = &written.records[1];
    let path = segment_file(&written.path(), Role::Driver, handle);
    OpenOptions::new().write(true).open(&path).unwrap().write_all_at(b"rot", handle.offset + 30).unwrap();
    let strict = written.log(Recovery::Strict);
    assert!(matches!(strict.append(b"x", 1), Err(Error::Corrupt { .. })));
    strict.close().unwrap();
    // The default meets it when it reads.
    let log = written.log(Recovery::Default);
    let found: Vec<_> = log.scan().unwrap().collect();
    assert!(matches!(found.last(), Some(Err(Error::Corrupt { .. }))));
}

/// Whoever opens a pipe waits for somebody to write to it.
#[test]
fn a_pipe_in_the_place_of_a_file_is_an_error_and_keeps_nobody_waiting() {
    type Call = fn(&Written) -> Option<Error>;
    let scan: Call = |w| {
        w.log(Recovery::Default)
            .scan()
            .err()
            .or_else(|| w.log(Recovery::Default).scan().unwrap().find_map(Result::err))
    };
    let read: Call = |w| w.log(Recovery::Default).read(&w.records[0].0).err();
    let append: Call = |w| w.log(Recovery::Default).append(b"x", 1).err();
    let check: Call = |w| w.log(Recovery::Default).check().err();
    let overrides: Call = |w| Log::overrides(w.path(), Default::default()).err();
    let segment = "driver/0000000000000001.seg";
    for (file, calls) in [
        (segment, &[scan, read, append, check][..]),
        ("ferrowal.id", &[scan, read, append, check]),
        ("ferrowal.properties", &[overrides]),
        ("driver/LOCK", &[append, check]),
    ] {
        for call in calls {
            let written = Written::new(Role::Driver, false);
            let path = written.path().join(file);
            drop(fs::remove_file(&path));
            mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
            let (answer, answered) = mpsc::channel();
            let call = *call;
            thread::spawn(move || answer.send(call(&written)));
            let Ok(error) = answered.recv_timeout(Duration::from_secs(60)) else {
                panic!("{file} is waited for")
            };
            let said = error.unwrap_or_else(|| panic!("{file} is no error")).to_string();
            let told =
                format!("cannot open {}: it is a named pipe (FIFO), and no regular file", path.display());
            assert!(said.starts_with(&told), "{file}: {said}");
        }
    }
}

#[test]
fn reading_never_changes_storage() {
    for crashed in [false, true] {
        let written = Written::new(Role::Driver, crashed);
        let newest = written.segments().pop().unwrap();
        let bytes = fs::read(&newest).unwrap();
        let torn = [&bytes[..bytes.len() / 2], &record(3, 3000)].concat();
        fs::write(&newest, torn).unwrap();
        let state = |written: &Written| -> Vec<_> {
            written.segments().into_iter().map(|p| (fs::read(&p).unwrap(), p)).collect()
        };
        let before = state(&written);
        for recovery in [Recovery::Strict, Recovery::Default, Recovery::Salvage] {
            let log = written.log(recovery);
            // What was cut off may have been acknowledged, or prepared and not used yet.
            drop(log.check());
            log.scan().unwrap().for_each(drop);
            written.records.iter().for_each(|(h, _)| drop(log.read(h)));
            log.close().unwrap();
        }
        assert!(state(&written) == before);
    }
}
