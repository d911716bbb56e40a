//! The program `ferrowal`, run as a user runs it, on whole and on damaged logs.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader},
    os::unix::{
        fs::{FileExt, symlink},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use common::{options, record, segment_file};
use ferrowal::{Error, Log, RecordHandle, Recovery, Role};
use serde_json::Value;

/// Starts a program. Until it is one it has, as a copy of this process, the locks of all logs that are open here: a test
/// that closed its log, and starts the tool, waits for whoever is on the way.
fn spawn(command: &mut Command) -> Child {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    command.spawn().unwrap()
}

fn output(command: &mut Command) -> Output {
    spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()))
        .wait_with_output()
        .unwrap()
}

fn ferrowal(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ferrowal"));
    command.args(args);
    command
}

fn tool(args: &[&str]) -> Output {
    output(&mut ferrowal(args))
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(output)))
}

/// Random numbers that a seed repeats.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

type Written = Vec<(RecordHandle, Vec<u8>)>;

/// A log of several segments and generations of writers, whole.
fn write_log(dir: &Path, role: Role, random: &mut Random) -> Written {
    let mut written = Vec::new();
    for _ in 0..2 {
        let mut opts = options(dir, role);
        opts.segment_size = 1 << 20;
        let log = Log::open(opts).unwrap();
        drop(log.scan().unwrap());
        for _ in 0..random.below(60) + 20 {
            let number = written.len() as u64;
            let most = if random.below(10) == 0 { 300_000 } else { 3_000 };
            let length = 8 + random.below(most) as usize;
            let bytes = record(number, length);
            written.push((log.append(&bytes, number as i64).unwrap(), bytes));
        }
        log.close().unwrap();
    }
    written
}

/// Damages one place, and says how.
fn damage(dir: &Path, role: Role, written: &Written, random: &mut Random) -> String {
    let (handle, bytes) = &written[random.below(written.len() as u64) as usize];
    let path = segment_file(dir, role, handle);
    if !path.exists() {
        return "nothing: the file is gone already".into();
    }
    let file = fs::File::options().write(true).read(true).open(&path).unwrap();
    let flip = &|at: u64| {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
    };
    match random.below(5) {
        0 => {
            flip(handle.offset + 24 + random.below(bytes.len() as u64));
            format!("a bit of the record at {handle}")
        }
        1 => {
            // Every record here was written alone: its group's header lies before it.
            flip(handle.offset - 96 + random.below(96));
            format!("the header of the group at {handle}")
        }
        2 => {
            // Not in the writer's name: nothing else tells it, where it is a driver's.
            flip([random.below(40), 56 + random.below(94)][random.below(2) as usize]);
            format!("the header of segment {}", handle.segment)
        }
        3 => {
            let garbage: Vec<u8> = (0..20_000).map(|_| random.below(256) as u8).collect();
            let at = random.below(file.metadata().unwrap().len());
            let n = garbage.len().min((file.metadata().unwrap().len() - at) as usize);
            file.write_all_at(&garbage[..n], at).unwrap();
            format!("{n} bytes of garbage at {at} of segment {}", handle.segment)
        }
        _ => {
            // Not the last one: nobody can know what was in it.
            let last = written.last().unwrap().0;
            if (handle.writer, handle.segment) == (last.writer, last.segment)
                || written.iter().filter(|(h, _)| h.writer == handle.writer).map(|(h, _)| h.segment).max()
                    == Some(handle.segment)
            {
                return "nothing".into();
            }
            fs::remove_file(&path).unwrap();
            format!("segment {} is deleted", handle.segment)
        }
    }
}

#[test]
fn a_salvaged_copy_is_whole_and_every_good_record_keeps_its_handle() {
    let seeds: Vec<u64> = match std::env::var("FERROWAL_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (1..=std::env::var("FERROWAL_SEEDS").map_or(40, |n| n.parse().unwrap())).collect(),
    };
    let (mut lost_in_all, mut damaged) = (0, 0);
    for seed in seeds {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let role = if seed % 2 == 0 { Role::Driver } else { Role::Receivers };
        let base = tempfile::tempdir().unwrap();
        let (dir, copy) = (base.path().join("log"), base.path().join("copy"));
        let written = write_log(&dir, role, &mut random);
        let what: Vec<String> =
            (0..1 + random.below(3)).map(|_| damage(&dir, role, &written, &mut random)).collect();
        let told = format!("FERROWAL_SEED={seed} {role:?}: {what:?}");
        // What an application that skips damage would get, is what the copy must hold at least.
        let mut skipping = options(&dir, role);
        skipping.recovery = Recovery::Salvage;
        skipping.linger = Duration::ZERO;
        let before = Log::open(skipping).unwrap();
        let good: Vec<bool> = written.iter().map(|(h, b)| before.read(h).is_ok_and(|r| r == *b)).collect();
        before.close().unwrap();
        let verified = tool(&["verify", dir.to_str().unwrap()]);
        let salvaged = tool(&["salvage", dir.to_str().unwrap(), copy.to_str().unwrap()]);
        assert_eq!(salvaged.status.code(), Some(0), "{told}: {}", text(&salvaged));
        let checked = tool(&["verify", copy.to_str().unwrap()]);
        assert_eq!(checked.status.code(), Some(0), "{told}: {}", text(&checked));
        let mut strict = options(&copy, role);
        strict.recovery = Recovery::Strict;
        let log = Log::open(strict).unwrap();
        let mut scanned: Vec<Vec<u8>> =
            log.scan().unwrap().map(|r| r.unwrap_or_else(|e| panic!("{told}: {e}")).to_vec()).collect();
        let mut expected = Vec::new();
        for ((handle, bytes), good) in written.iter().zip(&good) {
            let read = log.read(handle);
            match (good, read) {
                (true, Ok(read)) => {
                    assert!(read == *bytes, "{told}: {handle} is another record");
                    expected.push(bytes.clone());
                }
                (true, Err(e)) => panic!("{told}: {handle} was readable, and is not in the copy: {e}"),
                (false, Ok(_)) => panic!("{told}: {handle} was damaged, and reads well in the copy"),
                (false, Err(Error::Corrupt { .. } | Error::Missing { .. } | Error::Gone { .. })) => {
                    lost_in_all += 1;
                }
                (false, Err(e)) => panic!("{told}: {handle}: {e:?}"),
            }
        }
        // The order of writers is that of a time in their first headers, which may be damaged.
        let writer = |r: &Vec<u8>| written.iter().find(|(_, b)| b == r).map(|(h, _)| h.writer);
        scanned.sort_by_key(writer);
        expected.sort_by_key(writer);
        assert!(scanned == expected, "{told}: {} scanned, {} expected", scanned.len(), expected.len());
        // The application goes on with the copy.
        let handle = log.append(b"after", 1 << 30).unwrap();
        assert_eq!(log.read(&handle).unwrap(), b"after", "{told}");
        log.close().unwrap();
        if good.contains(&false) {
            damaged += 1;
            // Where a footer went with the last groups before it, nothing proves that those were acknowledged.
            let said = text(&verified);
            let known = verified.status.code() == Some(1) || said.contains("torn");
            assert!(known, "{told}: {said}");
        }
    }
    assert!(std::env::var("FERROWAL_SEED").is_ok() || (damaged >= 10 && lost_in_all >= 20));
}

#[test]
fn inspect_verify_and_dump_tell_what_was_written() {
    let base = tempfile::tempdir().unwrap();
    let dir = base.path().join("log");
    let at = dir.to_str().unwrap();
    let missing = tool(&["inspect", at]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing).contains("spark.ferrowal.dir"), "{}", text(&missing));
    let log = Log::open(options(&dir, Role::Receivers)).unwrap();
    let handles: Vec<_> = (0..20).map(|i| log.append(&record(i, 100), i as i64).unwrap()).collect();
    // Beside the live writer.
    let inspected = json(&tool(&["inspect", at, "--json"]));
    assert_eq!(inspected["writers"][0]["records"], 20);
    assert_eq!(inspected["writers"][0]["live"], true);
    log.close().unwrap();
    let inspected = tool(&["inspect", at, "-s"]);
    assert_eq!(inspected.status.code(), Some(0));
    assert!(text(&inspected).contains("sealed"), "{}", text(&inspected));
    let verified = json(&tool(&["verify", at, "--json"]));
    assert_eq!(
        (verified["whole"].as_bool(), verified["writers"][0]["live"].as_bool()),
        (Some(true), Some(false))
    );
    let raw = tool(&["dump", at, "--handle", &handles[7].to_string(), "--format", "raw"]);
    assert_eq!(raw.stdout, record(7, 100));
    let lines = tool(&["dump", at, "--from", "5", "--to", "9", "--json"]);
    let times: Vec<i64> = text(&lines)
        .lines()
        .map(|l| serde_json::from_str::<Value>(l).unwrap()["time"].as_i64().unwrap())
        .collect();
    assert_eq!(times, [5, 6, 7, 8]);
    let last = text(&tool(&["tail", at, "-n", "3"]));
    assert_eq!(last.lines().count(), 3);
    assert!(last.lines().last().unwrap().contains(&handles[19].to_string()), "{last}");
    let absent = tool(&["dump", at, "--handle", "deadbeef/1@4192+100"]);
    assert_eq!(absent.status.code(), Some(2), "{}", text(&absent));
}

#[test]
fn tail_goes_on_with_what_comes() {
    let base = tempfile::tempdir().unwrap();
    let dir = base.path().join("log");
    let log = Log::open(options(&dir, Role::Driver)).unwrap();
    log.append(b"the first", 1).unwrap();
    let mut child = spawn(ferrowal(&["tail", "-f", dir.to_str().unwrap()]).stdout(Stdio::piped()));
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("the first"));
    for i in 0..30 {
        log.append(format!("record {i}").as_bytes(), i).unwrap();
    }
    for i in 0..30 {
        let line = lines.next().unwrap().unwrap();
        assert!(line.ends_with(&format!("record {i}")), "{line}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    log.close().unwrap();
}

#[test]
fn a_dry_run_of_clean_tells_what_clean_then_drops() {
    let base = tempfile::tempdir().unwrap();
    let dir = base.path().join("log");
    let at = dir.to_str().unwrap();
    let mut random = Random(7);
    let written = write_log(&dir, Role::Driver, &mut random);
    let before = (written.len() / 2).to_string();
    let segments = |found: &Value| found["writers"][0]["segments"].as_array().unwrap().len();
    let planned = json(&tool(&["clean", at, "--before", &before, "--dry-run", "--json"]));
    let files = |dir: &Path| -> Vec<PathBuf> {
        fs::read_dir(dir.join("driver"))
            .unwrap()
            .map(|e| e.unwrap().path())
            .filter(|p| p.extension().is_some_and(|x| x == "seg"))
            .collect()
    };
    let at_first = files(&dir).len();
    assert_eq!(at_first, segments(&json(&tool(&["inspect", at, "--json"]))), "a dry run changes nothing");
    assert!(segments(&planned) > 0);
    let cleaned = tool(&["clean", at, "--before", &before]);
    assert_eq!(cleaned.status.code(), Some(0), "{}", text(&cleaned));
    let still: Vec<_> = planned["writers"][0]["segments"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|id| dir.join(format!("driver/{:016}.seg", id.as_u64().unwrap())).exists())
        .collect();
    assert!(still.is_empty(), "{still:?} are still there: {}", text(&cleaned));
    assert_eq!(tool(&["verify", at]).status.code(), Some(0));
}

/// A dead receiver's log goes as a whole, its newest segment and its directory included.
#[test]
fn clean_tells_of_each_writer_what_it_removes() {
    let base = tempfile::tempdir().unwrap();
    let dir = base.path().join("log");
    let at = dir.to_str().unwrap();
    // Two that are gone, and one that lives; each with several segments.
    let open = || {
        let log = Log::open(options(&dir, Role::Receivers)).unwrap();
        let handles = (0..4).map(|i| log.append(&record(i, 700_000), i as i64).unwrap());
        let handle = handles.last().unwrap();
        assert!(handle.segment > 1);
        (log, handle)
    };
    for _ in 0..2 {
        open().0.close().unwrap();
    }
    let (live, newest) = open();
    await_prepared(&dir, Role::Receivers, &newest);
    let living = format!("receivers/{}", newest.writer);
    let of = |found: &Value, id: &dyn Fn(&Value) -> u64| -> BTreeMap<String, Vec<u64>> {
        let writers = found["writers"].as_array().unwrap().iter();
        let segments = |w: &Value| w["segments"].as_array().unwrap().iter().map(id).collect();
        writers.map(|w| (w["name"].as_str().unwrap().to_owned(), segments(w))).collect()
    };
    let there = || of(&json(&tool(&["inspect", at, "--json"])), &|s| s["segment"].as_u64().unwrap());
    // The newest records of all are 3. What cleans leaves a mark, which the next one finds.
    for (threshold, dropped) in [("3", 0), ("4", 3)] {
        let before = there();
        let lines = text(&tool(&["clean", at, "--before", threshold, "--dry-run"]));
        let kept = format!("{living}: would drop 0 of {} segments", before[&living].len());
        assert!(lines.contains(&kept) && lines.contains("its writer is not known to be gone"), "{lines}");
        let planned = json(&tool(&["clean", at, "--before", threshold, "--dry-run", "--json"]));
        assert_eq!(there(), before, "a dry run changes nothing");
        let did = json(&tool(&["clean", at, "--before", threshold, "--json"]));
        let after = there();
        let ids = |s: &Value| s.as_u64().unwrap();
        let (planned, done) = (of(&planned, &ids), of(&did, &ids));
        for (name, ids) in &before {
            let gone: Vec<u64> =
                ids.iter().copied().filter(|id| after.get(name).is_none_or(|a| !a.contains(id))).collect();
            assert_eq!((&planned[name], &done[name]), (&gone, &gone), "{name} below {threshold}: {did}");
            let writer = did["writers"].as_array().unwrap().iter().find(|w| w["name"] == **name).unwrap();
            assert_eq!(writer["directory"], !dir.join(name).exists(), "{did}");
        }
        assert_eq!(done.values().filter(|ids| !ids.is_empty()).count(), dropped, "{did}");
    }
    live.close().unwrap();
}

/// What recovery removes before, and a generation that was set aside, count as well.
#[test]
fn a_dry_run_of_clean_tells_what_goes_of_a_driver_that_was_killed_or_began_anew() {
    let base = tempfile::tempdir().unwrap();
    let (live, dir) = (base.path().join("live"), base.path().join("log"));
    let at = dir.to_str().unwrap();
    write_log(&live, Role::Driver, &mut Random(5));
    // A fresh start: what is there is set aside.
    let mut small = options(&live, Role::Driver);
    small.segment_size = 1 << 20;
    let log = Log::open(small).unwrap();
    for i in 0..4 {
        log.append(&record(i, 700_000), i as i64).unwrap();
    }
    let last = log.append(&record(9, 100), 9).unwrap();
    // As a kill would leave it: with what was prepared.
    await_prepared(&live, Role::Driver, &last);
    copy_dir(&live, &dir);
    log.close().unwrap();
    let files = || -> BTreeSet<String> {
        let names =
            fs::read_dir(dir.join("driver")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        names.filter(|n| n.ends_with(".seg")).collect()
    };
    for threshold in ["2", "1000000"] {
        let before = files();
        let planned = json(&tool(&["clean", at, "--before", threshold, "--dry-run", "--json"]));
        assert_eq!(files(), before, "a dry run changes nothing");
        let did = json(&tool(&["clean", at, "--before", threshold, "--json"]));
        let after = files();
        let gone: Vec<u64> =
            before.difference(&after).map(|n| n.strip_suffix(".seg").unwrap().parse().unwrap()).collect();
        assert!(!gone.is_empty());
        assert_eq!(
            planned["writers"][0]["segments"],
            serde_json::json!(gone),
            "below {threshold}: {before:?}"
        );
        assert_eq!(did["writers"][0]["segments"], serde_json::json!(gone), "below {threshold}: {before:?}");
    }
}

/// What is never replayed can still be damaged, and is told apart from what is.
#[test]
fn what_a_fresh_start_set_aside_is_checked_and_shown_by_itself() {
    let base = tempfile::tempdir().unwrap();
    let (dir, copy) = (base.path().join("log"), base.path().join("copy"));
    let (at, copied) = (dir.to_str().unwrap(), copy.to_str().unwrap());
    let mut older = write_log(&dir, Role::Driver, &mut Random(5));
    let more = write_log(&dir, Role::Driver, &mut Random(6));
    older.extend(more);
    // A fresh start, and once more.
    let mut newer = Written::new();
    for number in [1000, 1001] {
        let log = Log::open(options(&dir, Role::Driver)).unwrap();
        let bytes = record(number, 100);
        newer.push((log.append(&bytes, number as i64).unwrap(), bytes));
        log.close().unwrap();
    }
    let current = newer.pop().unwrap();
    let all: Written = older.iter().chain(&newer).cloned().collect();
    let shown = |args: &[&str]| -> Vec<u8> {
        let output = tool(&[&["dump", at, "--format", "raw"], args].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        output.stdout
    };
    let expected: Vec<u8> = all.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
    assert!(shown(&["--set-aside"]) == expected);
    assert!(shown(&[]) == current.1);
    assert!(shown(&["--handle", &all[0].0.to_string()]) == all[0].1, "a handle is found wherever it is");
    let whole = tool(&["verify", at]);
    let told = format!("and {} records", all.len());
    assert!(whole.status.code() == Some(0) && text(&whole).contains(&told), "{}", text(&whole));
    assert_eq!(
        json(&tool(&["verify", at, "--json"]))["writers"][0]["setAside"]["records"],
        all.len(),
        "{told}"
    );

    let flip = |handle: &RecordHandle| {
        let path = segment_file(&dir, Role::Driver, handle);
        let file = fs::File::options().write(true).read(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, handle.offset + 30).unwrap();
        file.write_all_at(&[byte[0] ^ 1], handle.offset + 30).unwrap();
    };
    for damaged in [0, all.len() - 1] {
        let handle = &all[damaged].0;
        flip(handle);
        for command in [&["verify", at][..], &["inspect", "--deep", at]] {
            let found = tool(command);
            let told = format!("set aside by a fresh start: corrupt: writer {}", handle.writer);
            assert!(found.status.code() == Some(1) && text(&found).contains(&told), "{}", text(&found));
        }
        let said = text(&tool(&["verify", at]));
        assert!(said.contains("corrupt places: 1, all in what fresh starts have set aside"), "{said}");
        flip(handle);
    }
    // Nothing but the header is left of the first one, and what follows is damaged as well.
    let first = older[0].0;
    let path = segment_file(&dir, Role::Driver, &first);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..4096]).unwrap();
    flip(&current.0);
    let told = |handle: &RecordHandle, before: &str| {
        let said = text(&tool(&["verify", at]));
        let told = format!("  {before}corrupt: writer {} segment {}", handle.writer, handle.segment);
        assert!(said.contains(&told), "{told}: {said}");
    };
    told(&first, "set aside by a fresh start: ");
    told(&current.0, "");
    fs::write(&path, bytes).unwrap();
    // The end of a generation is cut; each generation's damage is its own.
    let end = older.last().unwrap().0;
    let path = segment_file(&dir, Role::Driver, &end);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..end.offset as usize - 96]).unwrap();
    flip(&newer[0].0);
    told(&end, "set aside by a fresh start: ");
    told(&newer[0].0, "set aside by a fresh start: ");
    told(&current.0, "");
    fs::write(&path, bytes).unwrap();
    flip(&newer[0].0);
    flip(&current.0);
    assert_eq!(tool(&["verify", at]).status.code(), Some(0));
    // The last one of a generation, and one between others.
    let between = older[0].0.segment + 1;
    let (last, between) =
        (older.last().unwrap().0, older.iter().find(|(h, _)| h.segment == between).unwrap().0);
    assert!(between.segment < last.segment);
    for (handle, told) in [(last, "the bytes are missing"), (between, "the segment is missing")] {
        fs::remove_file(segment_file(&dir, Role::Driver, &handle)).unwrap();
        let found = tool(&["verify", at]);
        let said = text(&found);
        let told = format!("acknowledged, but not readable: {told}");
        assert!(found.status.code() == Some(1) && said.contains(&told), "{handle}: {said}");
    }
    for (args, code) in [(&["dump", at, "--set-aside"][..], 1), (&["dump", at], 0)] {
        let dumped = tool(args);
        assert_eq!(dumped.status.code(), Some(code), "each tells its own: {}", text(&dumped));
        assert_eq!(text(&dumped).contains("the segment is missing"), code == 1, "{}", text(&dumped));
    }
    // It is in no way of the application, which never reads it.
    let salvaged = tool(&["salvage", at, copied]);
    let said = text(&salvaged);
    assert!(
        salvaged.status.code() == Some(1) && said.contains("set aside by a fresh start: corrupt"),
        "{said}"
    );
    assert!(
        said.contains("damaged places in what fresh starts have set aside were copied as they are"),
        "{said}"
    );
    assert!(!said.contains("is whole") && !said.contains("still lacks"), "{said}");
    let log = Log::open(options(&copy, Role::Driver)).unwrap();
    assert_eq!(log.scan().unwrap().map(|r| r.unwrap().to_vec()).collect::<Vec<_>>(), [current.1]);
    log.close().unwrap();
}

/// What was to be cleaned once is cleaned by whoever cleans next, whatever it asks for.
#[test]
fn a_dry_run_of_clean_knows_the_threshold_that_the_log_carries() {
    let base = tempfile::tempdir().unwrap();
    let dir = base.path().join("log");
    let at = dir.to_str().unwrap();
    let mut small = options(&dir, Role::Driver);
    (small.segment_size, small.clean_grace) = (1 << 20, Duration::ZERO);
    let log = Log::open(small).unwrap();
    let last = (0..3).map(|i| log.append(&record(i, 700_000), i as i64).unwrap()).last().unwrap();
    // The newest segment stays, and is no longer the newest after this.
    log.clean(10, true).unwrap();
    log.append(&record(3, 700_000), 20).unwrap();
    log.close().unwrap();
    let planned = json(&tool(&["clean", at, "--before", "1", "--dry-run", "--json"]));
    let did = json(&tool(&["clean", at, "--before", "1", "--json"]));
    let gone = serde_json::json!([last.segment]);
    assert_eq!((&planned["writers"][0]["segments"], &did["writers"][0]["segments"]), (&gone, &gone), "{did}");
}

#[test]
fn clean_goes_on_with_the_receivers_where_the_driver_lives() {
    let base = tempfile::tempdir().unwrap();
    let dir = base.path().join("log");
    let at = dir.to_str().unwrap();
    let driver = Log::open(options(&dir, Role::Driver)).unwrap();
    driver.append(b"alive", 1).unwrap();
    let receivers = Log::open(options(&dir, Role::Receivers)).unwrap();
    let writer = receivers.append(b"gone", 1).unwrap().writer;
    receivers.close().unwrap();
    let cleaned = tool(&["clean", at, "--before", "100"]);
    let said = text(&cleaned);
    assert_eq!(cleaned.status.code(), Some(2), "{said}");
    assert!(said.contains("its application cleans it"), "{said}");
    assert!(said.contains(&format!("receivers/{writer}: dropped 1 of 1 segments")), "{said}");
    assert!(!dir.join(format!("receivers/{writer}")).exists());
    driver.append(b"still", 2).unwrap();
    driver.close().unwrap();
}

/// Waits until the segment behind this record's is there, so that the files of a silent log stay the same.
fn await_prepared(dir: &Path, role: Role, last: &RecordHandle) {
    let prepared = segment_file(dir, role, &RecordHandle { segment: last.segment + 1, ..*last });
    let until = Instant::now() + Duration::from_secs(30);
    while !prepared.exists() {
        assert!(Instant::now() < until, "no segment was prepared");
        thread::yield_now();
    }
}

/// A copy of a log's files as they are at this moment.
fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let into = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy_dir(&path, &into),
            false => drop(fs::copy(&path, &into).unwrap()),
        }
    }
}

#[test]
fn mistakes_are_told_with_what_to_do() {
    assert_eq!(tool(&["nonsense"]).status.code(), Some(2));
    assert_eq!(tool(&["--help"]).status.code(), Some(0));
    let scheme = tool(&["inspect", "ftp://host/log"]);
    assert!(scheme.status.code() == Some(2) && text(&scheme).contains("ftp"), "{}", text(&scheme));
    let base = tempfile::tempdir().unwrap();
    let dir = base.path().join("log");
    let log = Log::open(options(&dir, Role::Driver)).unwrap();
    log.append(b"one", 1).unwrap();
    let live = tool(&["salvage", dir.to_str().unwrap(), base.path().join("copy").to_str().unwrap()]);
    assert!(live.status.code() == Some(2) && text(&live).contains("stop the application"), "{}", text(&live));
    log.close().unwrap();
    let full = tool(&["salvage", dir.to_str().unwrap(), base.path().to_str().unwrap()]);
    assert!(full.status.code() == Some(2) && text(&full).contains("not empty"), "{}", text(&full));
    let nameless = tool(&["verify", ""]);
    assert!(
        nameless.status.code() == Some(2) && text(&nameless).contains("has an empty name"),
        "{}",
        text(&nameless)
    );
    let empty = tool(&["verify", base.path().to_str().unwrap()]);
    assert!(
        empty.status.code() == Some(2) && text(&empty).contains("it holds ferrowal.id"),
        "{}",
        text(&empty)
    );
    std::fs::remove_file(dir.join("ferrowal.id")).unwrap();
    let nameless = tool(&["verify", dir.to_str().unwrap()]);
    assert!(
        nameless.status.code() == Some(2) && text(&nameless).contains("there are segments"),
        "{}",
        text(&nameless)
    );
    let file = base.path().join("file");
    std::fs::write(&file, "").unwrap();
    let file = tool(&["verify", file.to_str().unwrap()]);
    assert!(
        file.status.code() == Some(2) && text(&file).contains("is not a directory: name"),
        "{}",
        text(&file)
    );
}

/// One file that is not to be read, here because a directory has its name: also root meets that.
#[test]
fn what_cannot_be_read_is_told_and_hides_nothing_else() {
    let base = tempfile::tempdir().unwrap();
    let (dir, copy) = (base.path().join("log"), base.path().join("copy"));
    let (dir_name, copy_name) = (dir.to_str().unwrap(), copy.to_str().unwrap());
    let written = write_log(&dir, Role::Driver, &mut Random(11));
    let lost = written[0].0.segment;
    let good: Written = written.iter().filter(|(h, _)| h.segment != lost).cloned().collect();
    assert!(!good.is_empty());
    let path = segment_file(&dir, Role::Driver, &written[0].0);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let told = format!(
        "segment {lost} offset 0: 4096 bytes cannot be read: cannot open {}: it is a directory",
        path.display()
    );
    for args in [&["verify", dir_name][..], &["inspect", dir_name], &["inspect", "--deep", dir_name]] {
        let output = tool(args);
        assert!(output.status.code() == Some(1) && text(&output).contains(&told), "{}", text(&output));
    }
    let sum = json(&tool(&["verify", "--json", dir_name]));
    assert_eq!(sum["whole"], false);
    assert_eq!(sum["writers"][0]["records"], good.len(), "{sum}");
    // The copy is whole, and lacks what somebody else may read.
    let salvaged = tool(&["salvage", dir_name, copy_name]);
    let said = text(&salvaged);
    assert!(salvaged.status.code() == Some(1) && said.contains(&told), "{said}");
    assert!(said.contains("not all of driver could be read, and what could not may be good"), "{said}");
    assert_eq!(tool(&["verify", copy_name]).status.code(), Some(0));
    let log = Log::open(options(&copy, Role::Driver)).unwrap();
    for (handle, bytes) in &good {
        assert!(log.read(handle).unwrap() == *bytes, "{handle}");
    }
    assert!(log.read(&written[0].0).is_err());
    log.close().unwrap();
    // It says no word of what it leaves out, so it leaves nothing out.
    assert_eq!(tool(&["dump", dir_name]).status.code(), Some(2));
}

/// Who pipes a dump into something else learns what it lacks.
#[test]
fn dump_and_tail_tell_what_they_cannot_show() {
    let base = tempfile::tempdir().unwrap();
    for lacks in ["a segment", "a group's header", "the bytes of a segment"] {
        let dir = base.path().join(lacks);
        let at = dir.to_str().unwrap();
        let mut written = write_log(&dir, Role::Driver, &mut Random(3));
        written.extend(write_log(&dir, Role::Driver, &mut Random(4)));
        // The last record's group; or the first segment.
        let victim = if lacks == "a group's header" { written.len() - 1 } else { 0 };
        let handle = written[victim].0;
        let path = segment_file(&dir, Role::Driver, &handle);
        match lacks {
            "a segment" => fs::remove_file(&path).unwrap(),
            "a group's header" => {
                let file = fs::File::options().write(true).open(&path).unwrap();
                file.write_all_at(&[0x55; 96], handle.offset - 96).unwrap();
            }
            _ => fs::File::options().write(true).open(&path).unwrap().set_len(0).unwrap(),
        }
        let dumped = tool(&["dump", "--json", at]);
        let said = String::from_utf8_lossy(&dumped.stderr).into_owned();
        assert!(dumped.stdout.iter().filter(|b| **b == b'\n').count() < written.len(), "{lacks}");
        assert!(dumped.status.code() == Some(1) && said.contains("corrupt: "), "{lacks}: {said}");
        let tail = tool(&["tail", at]);
        assert!(tail.status.code() == Some(1) && text(&tail).contains("corrupt: "), "{}", text(&tail));
        let shown = tool(&["dump", at, "--handle", &written[written.len() - 2].0.to_string()]);
        assert_eq!(shown.status.code(), Some(0), "what is not asked for is not told: {}", text(&shown));
    }
}

/// What is there of it looks whole.
#[test]
fn a_copy_that_was_cut_short_is_not_taken_for_the_log() {
    let base = tempfile::tempdir().unwrap();
    let (dir, copy) = (base.path().join("log"), base.path().join("copy"));
    let (at, copied) = (dir.to_str().unwrap(), copy.to_str().unwrap());
    let mut random = Random(3);
    while fs::metadata(dir.join("driver/0000000000000003.seg")).is_err() {
        write_log(&dir, Role::Driver, &mut random);
    }
    // No file can be longer than some blocks, as on a volume that is full.
    let cut = output(Command::new("sh").arg("-c").arg(format!(
        "trap '' XFSZ; ulimit -f 16; exec '{}' salvage '{at}' '{copied}'",
        env!("CARGO_BIN_EXE_ferrowal")
    )));
    assert_eq!(cut.status.code(), Some(2), "{}", text(&cut));
    assert!(copy.join("driver/0000000000000001.seg").exists(), "it was cut before it began");
    let verified = tool(&["verify", copied]);
    let said = text(&verified);
    assert!(verified.status.code() == Some(2) && said.contains("the log's uuid (ferrowal.id)"), "{said}");
    let (inside, link, beside) = (dir.join("copy"), base.path().join("link"), dir.join("../beside"));
    symlink(&dir, &link).unwrap();
    let (below, to_below) = (dir.join("empty"), base.path().join("to-below"));
    fs::create_dir(&below).unwrap();
    symlink(&below, &to_below).unwrap();
    let dots = base.path().join(format!("new/../{}/copy", dir.file_name().unwrap().to_str().unwrap()));
    for (log, copy) in [
        (&dir, &inside),
        (&dir, &link.join("copy")),
        (&link, &inside),
        (&dir, &to_below),
        (&dir, &dots),
        (&dir, &dir),
    ] {
        let refused = tool(&["salvage", log.to_str().unwrap(), copy.to_str().unwrap()]);
        let said = text(&refused);
        assert!(refused.status.code() == Some(2) && said.contains("in the log's own directory"), "{said}");
        assert!(!inside.exists() && fs::read_dir(&below).unwrap().next().is_none(), "{said}");
    }
    let copied = tool(&["salvage", at, beside.to_str().unwrap()]);
    assert_eq!(copied.status.code(), Some(0), "{}", text(&copied));
}

/// The directory of one of three receivers is somebody else's.
#[test]
fn a_directory_that_cannot_be_read_hides_nothing_of_the_others() {
    use std::os::unix::{fs::PermissionsExt, process::CommandExt};
    const NOBODY: u32 = 65534;
    let base = tempfile::tempdir().unwrap();
    fs::set_permissions(base.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (dir, home) = (base.path().join("log"), base.path().join("home"));
    let at = dir.to_str().unwrap();
    let mut written = Written::new();
    for number in 0..3 {
        let log = Log::open(options(&dir, Role::Receivers)).unwrap();
        written.push((log.append(&record(number, 100), number as i64).unwrap(), record(number, 100)));
        log.close().unwrap();
    }
    let theirs = format!("receivers/{}", written[0].0.writer);
    let is_root = rustix::process::geteuid().is_root();
    // Root may read everything: the tool is nobody then, and all but one directory is nobody's.
    let program = base.path().join("ferrowal");
    fs::copy(env!("CARGO_BIN_EXE_ferrowal"), &program).unwrap();
    fs::create_dir(&home).unwrap();
    if is_root {
        let chown = output(Command::new("chown").args(["-R", &NOBODY.to_string()]).args([&dir, &home]));
        assert!(chown.status.success(), "{}", text(&chown));
        std::os::unix::fs::chown(dir.join(&theirs), Some(0), None).unwrap();
    } else {
        fs::set_permissions(dir.join(&theirs), fs::Permissions::from_mode(0o000)).unwrap();
    }
    let may_run = || {
        let mut probe = Command::new("sh");
        probe.args(["-c", "\"$0\" --version"]).arg(&program).uid(NOBODY);
        output(&mut probe).status.success()
    };
    if is_root && !may_run() {
        println!("skipped: nobody may not run a program in {}", base.path().display());
        return;
    }
    let run = |args: &[&str]| {
        let mut command = Command::new(&program);
        command.args(args);
        if is_root {
            command.uid(NOBODY);
        }
        output(&mut command)
    };
    let copy = home.join("copy");
    let copied = copy.to_str().unwrap();
    for args in [&["verify", at][..], &["inspect", at], &["salvage", at, copied]] {
        let found = run(args);
        let said = text(&found);
        let told = "the segments cannot be listed: cannot list";
        assert!(found.status.code() == Some(1) && said.contains(told), "{args:?}: {said}");
        assert!(said.contains("Permission denied") && said.contains(&theirs), "{args:?}: {said}");
    }
    // Nothing of it is lost, and it is kept.
    for args in [&["clean", at, "--before", "10", "--dry-run"][..], &["clean", at, "--before", "10"]] {
        let said = text(&run(args));
        assert!(
            said.contains(&format!("{theirs}: ")) && said.contains("its directory cannot be read"),
            "{said}"
        );
        for (handle, _) in &written[1..] {
            assert!(said.contains(&format!("receivers/{}: ", handle.writer)), "{said}");
        }
    }
    assert!(dir.join(&theirs).exists() && !segment_file(&dir, Role::Receivers, &written[1].0).exists());
    fs::set_permissions(dir.join(&theirs), fs::Permissions::from_mode(0o700)).unwrap();
    let log = Log::open(options(&copy, Role::Receivers)).unwrap();
    for (handle, bytes) in &written[1..] {
        assert!(log.read(handle).unwrap() == *bytes, "{handle}");
    }
    log.close().unwrap();
}

/// A driver's only segment: nothing else says the uuid that every checksum hangs on.
#[test]
fn a_copy_without_what_nobody_could_check_is_not_called_whole() {
    let base = tempfile::tempdir().unwrap();
    let (dir, copy) = (base.path().join("log"), base.path().join("copy"));
    let (at, to) = (dir.to_str().unwrap(), copy.to_str().unwrap());
    let log = Log::open(options(&dir, Role::Driver)).unwrap();
    let handles: Vec<_> = (0..9).map(|i| log.append(&record(i, 100), i as i64).unwrap()).collect();
    log.close().unwrap();
    let path = segment_file(&dir, Role::Driver, &handles[0]);
    fs::File::options().write(true).open(path).unwrap().write_all_at(&[0; 512], 0).unwrap();
    let salvaged = tool(&["salvage", at, to]);
    let said = text(&salvaged);
    assert!(
        salvaged.status.code() == Some(1) && said.contains("of 1 segments nothing could be checked"),
        "{said}"
    );
    assert!(!said.contains("is whole"), "{said}");
    // Who knows the handle knows whose it is.
    let log = Log::open(options(&dir, Role::Driver)).unwrap();
    for (i, handle) in handles.iter().enumerate() {
        assert_eq!(log.read(handle).unwrap(), record(i as u64, 100));
    }
}

/// The driver's may be looked at by who has no access to the receivers.
#[test]
fn what_is_not_asked_for_is_not_looked_at() {
    let base = tempfile::tempdir().unwrap();
    let dir = base.path().join("log");
    let log = Log::open(options(&dir, Role::Driver)).unwrap();
    log.append(&record(1, 100), 1).unwrap();
    log.close().unwrap();
    // As no directory can be read: this way for root, too.
    fs::write(dir.join("receivers"), "in its place").unwrap();
    let at = dir.to_str().unwrap();
    for command in ["inspect", "verify", "dump", "tail"] {
        let all = tool(&[command, at]);
        assert!(
            all.status.code() == Some(2) && text(&all).contains("receivers"),
            "{command}: {}",
            text(&all)
        );
        let driver = tool(&[command, at, "--driver"]);
        assert_eq!(driver.status.code(), Some(0), "{command}: {}", text(&driver));
    }
    let copy = base.path().join("copy");
    let salvaged = tool(&["salvage", "--driver", at, copy.to_str().unwrap()]);
    assert_eq!(salvaged.status.code(), Some(0), "{}", text(&salvaged));
}

/// One receiver that cannot be cleaned after is no matter of the others'.
#[test]
fn a_pipe_among_the_segments_of_a_dead_receiver_keeps_clean_from_nobody_else() {
    let base = tempfile::tempdir().unwrap();
    let dir = base.path().join("log");
    let at = dir.to_str().unwrap();
    let handles = [0, 1].map(|number| {
        let log = Log::open(options(&dir, Role::Receivers)).unwrap();
        let handle = log.append(&record(number, 100), 0).unwrap();
        log.close().unwrap();
        handle
    });
    let path = segment_file(&dir, Role::Receivers, &handles[0]);
    fs::remove_file(&path).unwrap();
    make_pipe(&path);
    let planned = bounded(&["clean", at, "--before", "10", "--dry-run"]);
    let kept = format!("receivers/{}: would drop 0 of 1 segments", handles[0].writer);
    assert!(planned.status.code() == Some(0) && text(&planned).contains(&kept), "{}", text(&planned));
    let cleaned = bounded(&["clean", at, "--before", "10"]);
    let said = text(&cleaned);
    assert!(cleaned.status.code() == Some(2) && said.contains("it is a named pipe (FIFO)"), "{said}");
    assert!(said.contains(&format!("receivers/{}: dropped 1 of 1 segments", handles[1].writer)), "{said}");
    assert!(path.exists() && !segment_file(&dir, Role::Receivers, &handles[1]).exists());
}

/// The same, which is stopped if it does not end.
fn bounded(args: &[&str]) -> Output {
    output(Command::new("timeout").args(["60", env!("CARGO_BIN_EXE_ferrowal")]).args(args))
}

/// Whoever opens a pipe waits for somebody to write to it, and whoever reads a device may do so for ever.
#[test]
fn what_is_no_regular_file_is_told_and_keeps_nobody_waiting() {
    for (kind, name) in [
        ("pipe", "a named pipe (FIFO)"),
        ("directory", "a directory"),
        ("socket", "a socket"),
        ("device", "a device"),
    ] {
        let base = tempfile::tempdir().unwrap();
        let (dir, copy) = (base.path().join("log"), base.path().join("copy"));
        let (dir_name, copy_name) = (dir.to_str().unwrap(), copy.to_str().unwrap());
        let written = write_log(&dir, Role::Driver, &mut Random(11));
        let path = segment_file(&dir, Role::Driver, &written[0].0);
        fs::remove_file(&path).unwrap();
        match kind {
            "pipe" => make_pipe(&path),
            "directory" => fs::create_dir(&path).unwrap(),
            "socket" => drop(UnixListener::bind(&path).unwrap()),
            _ => symlink("/dev/zero", &path).unwrap(),
        }
        let told = format!("cannot open {}: it is {name}, and no regular file", path.display());
        for args in
            [&["verify", dir_name][..], &["inspect", "--deep", dir_name], &["salvage", dir_name, copy_name]]
        {
            let said = bounded(args);
            assert!(said.status.code() == Some(1) && text(&said).contains(&told), "{kind}: {}", text(&said));
        }
        assert_eq!(tool(&["verify", copy_name]).status.code(), Some(0), "{kind}");
        let dumped = bounded(&["dump", dir_name]);
        assert!(
            dumped.status.code() == Some(2) && text(&dumped).contains(&told),
            "{kind}: {}",
            text(&dumped)
        );
    }
}

#[test]
fn a_pipe_in_the_place_of_a_small_file_keeps_nobody_waiting() {
    let base = tempfile::tempdir().unwrap();
    for (file, command) in
        [("ferrowal.id", "verify"), ("ferrowal.properties", "salvage"), ("receivers/removed", "salvage")]
    {
        let dir = base.path().join(file.replace('/', "-"));
        write_log(&dir, Role::Receivers, &mut Random(2));
        let path = dir.join(file);
        drop(fs::remove_file(&path));
        make_pipe(&path);
        let (dir, copy) = (dir.to_str().unwrap(), base.path().join("copy"));
        let mut args = vec![command, dir];
        args.extend((command == "salvage").then_some(copy.to_str().unwrap()));
        let said = bounded(&args);
        let told = format!("cannot open {}: it is a named pipe (FIFO)", path.display());
        assert!(said.status.code() == Some(2) && text(&said).contains(&told), "{}", text(&said));
    }
    // Nobody can hold such a lock.
    let dir = base.path().join("lock");
    write_log(&dir, Role::Driver, &mut Random(2));
    fs::remove_file(dir.join("driver/LOCK")).unwrap();
    make_pipe(&dir.join("driver/LOCK"));
    let said = bounded(&["verify", dir.to_str().unwrap()]);
    assert_eq!(said.status.code(), Some(0), "{}", text(&said));
}

fn make_pipe(path: &Path) {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

/// What was in a newest segment that is gone, nobody knows: only that a footer before it names some of its groups.
#[test]
fn of_a_lost_newest_segment_nobody_says_how_much_was_in_it() {
    let base = tempfile::tempdir().unwrap();
    let dir = base.path().join("log");
    let mut rolling = options(&dir, Role::Receivers);
    rolling.rolling_interval = Duration::from_millis(100);
    let log = Log::open(rolling).unwrap();
    let first = log.append(b"in the first segment", 0).unwrap();
    let lost = log.append(b"in the last one", 1_000).unwrap();
    assert!(first.segment < lost.segment);
    log.close().unwrap();
    // As where a group is acknowledged in the next segment while this one is being sealed.
    let path = segment_file(&dir, Role::Receivers, &first);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.len() - 4096;
    let footer = &mut bytes[at..];
    let next = u64::from_le_bytes(footer[64..72].try_into().unwrap());
    footer[88..96].copy_from_slice(&(next + 1).to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(&footer[..16]);
    crc.update(&footer[24..24 + 104]);
    crc.update(first.log.as_bytes());
    crc.update(first.writer.as_bytes());
    crc.update(&first.segment.to_le_bytes());
    crc.update(&(at as u64).to_le_bytes());
    footer[16..20].copy_from_slice(&crc.finalize().to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    fs::remove_file(segment_file(&dir, Role::Receivers, &lost)).unwrap();
    let verified = tool(&["verify", dir.to_str().unwrap()]);
    let said = text(&verified);
    assert_eq!(verified.status.code(), Some(1), "{said}");
    assert!(said.contains(": at least group") && said.contains(" acknowledged, but not readable"), "{said}");
}

fn log_id(dir: &Path) -> String {
    fs::read_to_string(dir.join("ferrowal.id")).unwrap().trim().to_owned()
}

#[test]
fn segments_of_another_log_are_told_as_what_they_are_and_not_as_saved() {
    let base = tempfile::tempdir().unwrap();
    let (dir, copy, again) = (base.path().join("log"), base.path().join("copy"), base.path().join("again"));
    let (dir_name, copy_name) = (dir.to_str().unwrap(), copy.to_str().unwrap());
    let written = write_log(&dir, Role::Driver, &mut Random(13));
    let (theirs, ours) = (log_id(&dir), "11111111-2222-4333-8444-555555555555");
    fs::write(dir.join("ferrowal.id"), format!("{ours}\n")).unwrap();
    let told = format!("the segment is of log {theirs}, and ferrowal.id says {ours}");
    for command in ["verify", "inspect"] {
        let said = tool(&[command, dir_name]);
        assert!(said.status.code() == Some(1) && text(&said).contains(&told), "{}", text(&said));
    }
    // Nor does the log go on over it: under this uuid it would be a third thing.
    let mut salvaging = options(&dir, Role::Driver);
    salvaging.recovery = Recovery::Salvage;
    let log = Log::open(salvaging).unwrap();
    for refused in [log.scan().unwrap().next().unwrap().unwrap_err(), log.append(b"more", 1).unwrap_err()] {
        assert!(matches!(refused, Error::Config(_)) && refused.to_string().contains(&told), "{refused}");
    }
    log.close().unwrap();
    assert!(!dir.join("quarantine").exists());
    let said = tool(&["salvage", dir_name, copy_name]);
    let why = format!(
        "segments of log {theirs}, and ferrowal.id says {ours}: nothing of them is in the copy. If they are this log's, write {theirs} into {dir_name}/ferrowal.id and salvage it again; otherwise move them to the directory of their log"
    );
    assert!(said.status.code() == Some(1) && text(&said).contains(&why), "{}", text(&said));
    assert!(!text(&said).contains("is whole"), "{}", text(&said));
    let value = json(&tool(&["salvage", "--json", dir_name, base.path().join("json").to_str().unwrap()]));
    assert_eq!((&value["whole"], &value["foreign"][&theirs]), (&false.into(), &2.into()), "{value}");
    // As it says.
    fs::write(dir.join("ferrowal.id"), format!("{theirs}\n")).unwrap();
    let said = tool(&["salvage", dir_name, again.to_str().unwrap()]);
    assert!(said.status.code() == Some(0) && text(&said).contains("is whole"), "{}", text(&said));
    let log = Log::open(options(&again, Role::Driver)).unwrap();
    assert_eq!(log.scan().unwrap().count(), written.len());
    log.close().unwrap();
    // One of them alone, among this log's own.
    let (other, mixed) = (base.path().join("other"), base.path().join("mixed"));
    let theirs = write_log(&other, Role::Driver, &mut Random(17));
    let last = written.last().unwrap().0;
    fs::copy(
        segment_file(&other, Role::Driver, &theirs[0].0),
        segment_file(&dir, Role::Driver, &RecordHandle { segment: last.segment + 1, ..last }),
    )
    .unwrap();
    let said = tool(&["salvage", dir_name, mixed.to_str().unwrap()]);
    let why = format!("1 segments of log {}, and ferrowal.id says {}", log_id(&other), log_id(&dir));
    assert!(said.status.code() == Some(1) && text(&said).contains(&why), "{}", text(&said));
    let saved = json(&tool(&["verify", "--json", mixed.to_str().unwrap()]));
    assert_eq!(saved["writers"][0]["records"], written.len(), "{saved}");
}

/// As `ferrowal verify … | head -3` does, with `pipefail`.
#[test]
fn a_reader_that_goes_does_not_hide_the_verdict() {
    let base = tempfile::tempdir().unwrap();
    let dir = base.path().join("log");
    let written = write_log(&dir, Role::Driver, &mut Random(7));
    let code = |command: &str| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut tool = ferrowal(&[command, dir.to_str().unwrap()]);
        spawn(tool.stdout(writer).stderr(Stdio::null())).wait().unwrap().code()
    };
    assert_eq!((code("verify"), code("dump")), (Some(0), Some(0)));
    let handle = written[3].0;
    let file = fs::File::options().write(true).open(segment_file(&dir, Role::Driver, &handle)).unwrap();
    file.write_all_at(&[0xee; 8], handle.offset + 32).unwrap();
    assert_eq!(code("verify"), Some(1));
}

/// Only what shows records needs keys; and it says which one.
#[test]
#[cfg(all(feature = "compression", feature = "encryption"))]
fn an_encrypted_log_is_checked_and_copied_without_its_key_and_shown_with_it() {
    let digits = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    let temp = tempfile::tempdir().unwrap();
    let (dir, copy, key) = (temp.path().join("log"), temp.path().join("copy"), temp.path().join("key"));
    fs::write(&key, digits).unwrap();
    let mut opts = options(&dir, Role::Receivers);
    opts.compression = ferrowal::Compression::Zstd(1);
    opts.keys = ferrowal::KeyRing::read([format!("file:{}", key.display())]).unwrap();
    let id = opts.keys.ids().remove(0);
    let log = Log::open(opts.clone()).unwrap();
    let secret = "planted: the seventh floor ".repeat(40).into_bytes();
    let handles: Vec<RecordHandle> = (0..3).map(|t| log.append(&secret, t).unwrap()).collect();
    log.close().unwrap();
    drop(log);
    let shown = |output: &Output| text(output).lines().filter(|line| line.contains("planted")).count();
    // One record's payload is damaged.
    let segment = segment_file(&dir, Role::Receivers, &handles[1]);
    fs::File::options()
        .write(true)
        .open(segment)
        .unwrap()
        .write_all_at(&[0xa5], handles[1].offset + 60)
        .unwrap();
    let (d, c, k) = (dir.to_str().unwrap(), copy.to_str().unwrap(), key.to_str().unwrap());
    assert_eq!(tool(&["verify", d]).status.code(), Some(1));
    let segments = text(&tool(&["inspect", "-s", d]));
    assert!(segments.contains(&format!("zstd, key {id}")), "{segments}");
    assert_eq!(tool(&["salvage", d, c]).status.code(), Some(0));
    assert_eq!(tool(&["verify", c]).status.code(), Some(0));
    for command in ["dump", "tail"] {
        let without = tool(&[command, c]);
        assert_eq!(without.status.code(), Some(2));
        assert!(text(&without).contains(&id) && !text(&without).contains("planted"), "{}", text(&without));
        let with = tool(&[command, c, "--key-file", k]);
        assert_eq!(shown(&with), 2, "{}", text(&with));
    }
    let whole = tool(&["verify", c, "--key-file", k]);
    assert_eq!(whole.status.code(), Some(0), "{}", text(&whole));
    let by_environment = tool_with(digits, &["dump", c]);
    assert_eq!(shown(&by_environment), 2);
    // Handles find their records in the copy.
    opts.dir = copy.into();
    let log = Log::open(opts).unwrap();
    assert_eq!(log.read(&handles[0]).unwrap(), secret);
    assert_eq!(log.read(&handles[2]).unwrap(), secret);
    assert!(matches!(log.read(&handles[1]), Err(Error::Corrupt { .. })));
}

#[cfg(all(feature = "compression", feature = "encryption"))]
const TWO_KEYS: [&str; 2] = [
    "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
    "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100",
];

/// In every form that the help names.
#[test]
#[cfg(feature = "encryption")]
fn a_key_file_holds_digits_or_bytes() {
    let base = tempfile::tempdir().unwrap();
    let dir = base.path().join("log");
    let file = base.path().join("key");
    let named = format!("file:{}", file.display());
    let bytes: Vec<u8> = (0..32).map(|i| 0x9a + i).collect();
    let digits: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    let mut encrypted = options(&dir, Role::Driver);
    encrypted.keys = ferrowal::KeyRing::read([format!("hex:{digits}")]).unwrap();
    let log = Log::open(encrypted).unwrap();
    log.append(b"a secret", 1).unwrap();
    log.close().unwrap();
    let help = text(&tool(&["verify", "--help"])).split_whitespace().collect::<Vec<_>>().join(" ");
    let said =
        "64 hex digits (large or small, white space around them does not count), or the key's 32 bytes";
    assert!(help.contains(said), "{help}");
    for held in
        [digits.clone().into_bytes(), format!(" {}\n", digits.to_uppercase()).into_bytes(), bytes.clone()]
    {
        fs::write(&file, &held).unwrap();
        let shown = tool(&["dump", dir.to_str().unwrap(), "--key-file", file.to_str().unwrap()]);
        assert!(shown.status.code() == Some(0) && text(&shown).contains("a secret"), "{}", text(&shown));
    }
    // 32 letters are half of a key's digits, or a password.
    fs::write(&file, &digits[..32]).unwrap();
    let error = ferrowal::KeyRing::read([named]).unwrap_err().to_string();
    assert!(error.contains("must hold a key: 64 hex digits") && error.ends_with("or 32 bytes"), "{error}");
}

/// The tool with these keys in its environment.
#[cfg(all(feature = "compression", feature = "encryption"))]
fn tool_with(keys: &str, args: &[&str]) -> Output {
    output(ferrowal(args).env("FERROWAL_KEYS", keys))
}

/// A driver's log: three records with the first of [`TWO_KEYS`], two with the second. With their ids.
#[cfg(all(feature = "compression", feature = "encryption"))]
fn rotated_log(dir: &Path) -> (Written, Vec<String>) {
    let rings = TWO_KEYS.map(|digits| ferrowal::KeyRing::read([format!("hex:{digits}")]).unwrap());
    let mut written = Vec::new();
    for (ring, count) in rings.iter().zip([3, 2]) {
        let mut opts = options(dir, Role::Driver);
        (opts.keys, opts.linger) = (ring.clone(), Duration::ZERO);
        let log = Log::open(opts).unwrap();
        drop(log.scan().unwrap());
        for _ in 0..count {
            let bytes = format!("planted record {}", written.len()).into_bytes();
            written.push((log.append(&bytes, written.len() as i64).unwrap(), bytes));
        }
        log.close().unwrap();
    }
    (written, rings.iter().map(|ring| ring.ids().remove(0)).collect())
}

#[test]
#[cfg(all(feature = "compression", feature = "encryption"))]
fn verify_checks_what_it_can_without_a_key_and_says_what_it_could_not_open() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let (written, ids) = rotated_log(&dir);
    let d = dir.to_str().unwrap();
    let not_opened =
        |n: u64, id: &str| format!("not opened: {n} records that are encrypted with the key {id}");
    for empty in ["", " , "] {
        let without = tool_with(empty, &["verify", d]);
        assert_eq!(without.status.code(), Some(0), "no key was given: {}", text(&without));
        let said = text(&without);
        assert!(said.contains(&not_opened(3, &ids[0])) && said.contains(&not_opened(2, &ids[1])), "{said}");
        assert!(said.contains("all that was acknowledged is whole"), "{said}");
    }
    let some = tool_with(TWO_KEYS[1], &["verify", d]);
    let said = text(&some);
    assert_eq!(some.status.code(), Some(3), "{said}");
    assert!(said.contains(&not_opened(3, &ids[0])) && !said.contains(&not_opened(2, &ids[1])), "{said}");
    let value = json(&tool_with(TWO_KEYS[1], &["verify", "--json", d]));
    assert_eq!(value["unopened"], serde_json::json!({ ids[0].clone(): 3 }));
    assert_eq!(tool_with(&TWO_KEYS.join(","), &["verify", d]).status.code(), Some(0));
    // Damage in what cannot be opened is found all the same.
    let file = fs::File::options().write(true).open(segment_file(&dir, Role::Driver, &written[0].0)).unwrap();
    file.write_all_at(&[0xa5], written[0].0.offset + 60).unwrap();
    let some = tool_with(TWO_KEYS[1], &["verify", d]);
    assert_eq!(some.status.code(), Some(1), "{}", text(&some));
    assert!(text(&some).contains(&not_opened(2, &ids[0])), "{}", text(&some));
}

#[test]
#[cfg(all(feature = "compression", feature = "encryption"))]
fn dump_and_tail_want_no_other_key_than_that_of_what_they_show() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("log");
    let (written, ids) = rotated_log(&dir);
    let d = dir.to_str().unwrap();
    let short = |(handle, _): &(RecordHandle, Vec<u8>)| handle.to_string();
    for (number, key) in [(0, 0), (4, 1)] {
        let one = tool_with(TWO_KEYS[key], &["dump", d, "--handle", &short(&written[number])]);
        assert_eq!(one.status.code(), Some(0), "{}", text(&one));
        assert!(text(&one).contains(&format!("planted record {number}")));
    }
    let other = tool_with(TWO_KEYS[1], &["dump", d, "--handle", &short(&written[0])]);
    assert_eq!(other.status.code(), Some(2));
    assert!(text(&other).contains(&ids[0]), "{}", text(&other));
    for args in [&["tail", "-n", "2", d][..], &["dump", "--from", "3", d]] {
        let last = tool_with(TWO_KEYS[1], args);
        assert_eq!(last.status.code(), Some(0), "{}", text(&last));
        assert_eq!(text(&last).matches("planted record").count(), 2, "{}", text(&last));
    }
    let more = tool_with(TWO_KEYS[1], &["tail", "-n", "3", d]);
    assert_eq!(more.status.code(), Some(2));
    assert!(text(&more).contains(&ids[0]), "{}", text(&more));
}

/// A record that somebody put there who has no key, under a checksum that holds.
#[test]
#[cfg(all(feature = "compression", feature = "encryption"))]
fn what_no_key_authenticates_is_refused_and_left_out_of_a_copy_if_that_is_asked_for() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, copy) = (temp.path().join("log"), temp.path().join("copy"));
    let (written, ids) = rotated_log(&dir);
    let mut opts = options(&dir, Role::Driver);
    opts.linger = Duration::ZERO;
    let log = Log::open(opts).unwrap();
    drop(log.scan().unwrap());
    log.append(b"planted forgery", 5).unwrap();
    log.append(b"another forgery", 6).unwrap();
    log.close().unwrap();
    let (d, c, all) = (dir.to_str().unwrap(), copy.to_str().unwrap(), TWO_KEYS.join(","));
    assert_eq!(tool_with(&all, &["verify", d]).status.code(), Some(0));
    let refused = tool_with(&all, &["verify", "--require-encryption", d]);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    let said = text(&refused);
    assert!(
        said.contains("no key that was given authenticates 2 records, of which this is the first: "),
        "{said}"
    );
    assert!(
        said.contains("spark.ferrowal.encryption.required") && !said.contains("corrupt places"),
        "{said}"
    );
    let refused = tool_with(&all, &["dump", "--require-encryption", d]);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused));
    assert!(!text(&refused).contains("forgery"));
    let no_key = tool_with("", &["dump", "--require-encryption", d]);
    assert!(text(&no_key).contains("--require-encryption wants the keys"), "{}", text(&no_key));
    // Who forgot a key loses nothing.
    let forgot = tool_with(TWO_KEYS[1], &["salvage", "--require-encryption", d, c]);
    assert_eq!(forgot.status.code(), Some(2), "{}", text(&forgot));
    assert!(text(&forgot).contains(&ids[0]) && !copy.exists(), "{}", text(&forgot));
    assert!(text(&forgot).contains("--key-file"), "{}", text(&forgot));
    let done = tool_with(&all, &["salvage", "--require-encryption", d, c]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done));
    assert!(text(&done).contains("left out: 2 records"), "{}", text(&done));
    let mut opts = options(&copy, Role::Driver);
    opts.keys = ferrowal::KeyRing::read(TWO_KEYS.map(|digits| format!("hex:{digits}"))).unwrap().required();
    let log = Log::open(opts).unwrap();
    let records: Vec<_> = log.scan().unwrap().map(Result::unwrap).collect();
    assert!(records.iter().eq(written.iter().map(|(_, bytes)| bytes)), "{} records", records.len());
    log.append(b"and it goes on", 6).unwrap();
}

/// A copy's header is made anew where it was damaged. It must still say that frames are not plain: a release that knows only
/// plain ones refuses such a segment, and would call its frames damage otherwise.
#[test]
#[cfg(all(feature = "compression", feature = "encryption"))]
fn a_header_made_anew_says_how_its_frames_are_kept() {
    let key = "hex:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    let keys = ferrowal::KeyRing::read([key]).unwrap();
    let id = keys.ids().remove(0);
    let long = "nothing new on the seventh floor ".repeat(40).into_bytes();
    // Alone, its frames tell; with another segment of the writer, that one does, though all frames here are plain.
    for (alone, ring, first) in [(true, keys, &long[..]), (false, ferrowal::KeyRing::default(), b"short")] {
        let temp = tempfile::tempdir().unwrap();
        let (dir, copy) = (temp.path().join("log"), temp.path().join("copy"));
        let mut opts = options(&dir, Role::Receivers);
        opts.compression = ferrowal::Compression::Zstd(1);
        opts.keys = ring;
        let log = Log::open(opts.clone()).unwrap();
        let handle = log.append(first, 1).unwrap();
        if !alone {
            let next = log.append(&long, 1_000_000).unwrap();
            assert!(next.segment > handle.segment, "by its time");
        }
        log.close().unwrap();
        drop(log);
        let segment = segment_file(&dir, Role::Receivers, &handle);
        fs::File::options().write(true).open(&segment).unwrap().write_all_at(&[0xa5; 40], 60).unwrap();
        let (d, c) = (dir.to_str().unwrap(), copy.to_str().unwrap());
        let done = tool(&["salvage", d, c]);
        assert_eq!(done.status.code(), Some(0), "{}", text(&done));
        let header = fs::read(segment_file(&copy, Role::Receivers, &handle)).unwrap();
        assert_eq!(header[8..10], 2_u16.to_le_bytes(), "alone: {alone}");
        let shown = text(&tool(&["inspect", "-s", c]));
        assert_eq!(shown.contains(&format!("zstd, key {id}")), alone, "{shown}");
        assert!(for_the_owner_alone(&copy), "as a log's own files are");
        opts.dir = copy.into();
        assert_eq!(Log::open(opts).unwrap().read(&handle).unwrap(), first);
    }
}

/// Whether nobody else can read a directory, nor anything in it.
#[cfg(all(feature = "compression", feature = "encryption"))]
fn for_the_owner_alone(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let private = fs::metadata(path).unwrap().permissions().mode() & 0o077 == 0;
    let below = || fs::read_dir(path).unwrap().all(|e| for_the_owner_alone(&e.unwrap().path()));
    private && (!path.is_dir() || below())
}
