//! Failing barriers for real: `strace` makes system calls of a real process fail, and shows what it does then.
//!
//! The kernel still does what the call before said; only its answer is changed. That is what a process sees of a device
//! that fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    collections::{HashMap, HashSet},
    env, fs,
    path::Path,
    process::{Command, Output},
};

use common::{all, options, record, write_by};
use ferrowal::{Log, Role};

/// Runs the ignored test `name` under strace with `inject`, and gives its trace; nothing where there is no strace.
fn traced(name: &str, dir: &Path, way: &str, inject: &[&str]) -> Option<(Output, String)> {
    let trace = dir.join("trace");
    let mut command = Command::new("strace");
    command.args(["-f", "-y", "-qq", "-s", "0", "-o"]).arg(&trace);
    command
        .args(["-e", "trace=fdatasync,fsync,pwrite64,pwritev,pwritev2,rename,renameat,renameat2,fallocate"]);
    for rule in inject {
        command.args(["-e", rule]);
    }
    command.arg(env::current_exe().unwrap()).args(["--exact", name, "--ignored", "--nocapture"]);
    command.env("FERROWAL_TEST_DIR", dir.join("log")).env("FERROWAL_TEST_WAY", way);
    match command.output() {
        Ok(output) if !fs::exists(&trace).unwrap() => skip(&String::from_utf8_lossy(&output.stderr)),
        Ok(output) => Some((output, fs::read_to_string(&trace).unwrap())),
        Err(e) => skip(&format!("no strace here ({e})")),
    }
}

/// Where nobody reads what is printed, what cannot be tested is a failure.
fn skip<T>(why: &str) -> Option<T> {
    assert!(env::var_os("CI").is_none(), "cannot trace system calls: {why}");
    println!("skipped: {why}");
    None
}

#[test]
#[ignore = "run by the tests below, under strace"]
fn writes_through_failures() {
    let Some(dir) = env::var_os("FERROWAL_TEST_DIR") else { return };
    let mut options = options(Path::new(&dir), Role::Driver);
    write_by(&mut options, &env::var("FERROWAL_TEST_WAY").unwrap());
    options.max_failures = 1000;
    let log = Log::open(options.clone()).unwrap();
    let mut written = Vec::new();
    for i in 0..40 {
        let handle = log.append(&record(i, 3000), i as i64).expect("a failure that passes is no error");
        written.push((handle, record(i, 3000)));
    }
    for (handle, bytes) in &written {
        assert!(log.read(handle).unwrap() == *bytes);
    }
    log.close().unwrap();
    let segments: HashSet<u64> = written.iter().map(|(h, _)| h.segment).collect();
    println!("segments: {}", segments.len());
}

/// What was acknowledged through all of it is there, in order.
fn all_is_there(dir: &Path) {
    let log = Log::open(options(&dir.join("log"), Role::Driver)).unwrap();
    let expected: Vec<Vec<u8>> = (0..40).map(|i| record(i, 3000)).collect();
    assert!(all(&log) == expected);
}

/// A segment's file in a line of the trace, under the name that it had when it was opened.
fn file(line: &str) -> Option<&str> {
    let from = line.find('<')? + 1;
    let to = line[from..].find('>')? + from;
    Some(&line[from..to]).filter(|name| name.contains("/driver/"))
}

fn never_synced_again(way: &str, inject: &str) {
    let dir = tempfile::tempdir().unwrap();
    let Some((output, trace)) = traced("writes_through_failures", dir.path(), way, &[inject]) else { return };
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{way}: {text}");
    let mut failed: HashSet<String> = HashSet::new();
    for line in trace.lines() {
        let Some(name) = file(line) else { continue };
        let synced = line.contains("fdatasync(") || line.contains("pwrite");
        assert!(!(synced && failed.contains(name)), "{way}: again after a failure: {line}");
        if line.contains("(INJECTED)") {
            failed.insert(name.to_owned());
            println!("{way}: {line}");
        }
    }
    assert!(!failed.is_empty(), "{way}: nothing failed");
    all_is_there(dir.path());
    println!("{way}: {} files were left after a failed barrier, and none was written again", failed.len());
}

#[test]
fn a_failed_fdatasync_is_followed_by_a_fresh_segment_and_never_by_another() {
    // The first are those of the directory and of the first segments' headers.
    never_synced_again("fdatasync", "inject=fdatasync:error=EIO:when=12+9");
}

#[test]
fn a_failed_durable_write_is_followed_by_a_fresh_segment_and_never_by_another() {
    if common::ways().contains(&"dsync") {
        never_synced_again("dsync", "inject=pwritev2:error=EIO:when=12+9");
    }
}

/// What a quota does: the volume says that it has space, and gives none for a segment of the usual size. A small one may
/// still have some; nobody waits for a clean before that was tried.
#[test]
fn a_volume_that_has_less_space_than_it_says_gets_a_small_segment() {
    let dir = tempfile::tempdir().unwrap();
    let every_other = "inject=fallocate:error=EDQUOT:when=1+2";
    let Some((output, trace)) = traced("writes_through_failures", dir.path(), "fdatasync", &[every_other])
    else {
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    // Of each thread: what it asked for last for a segment, and whether that was refused. A call that another thread's
    // interrupts has its answer in a line of its own.
    let mut asked: HashMap<&str, (u64, bool)> = HashMap::new();
    let mut small = 0;
    for line in trace.lines().filter(|l| l.contains("fallocate")) {
        let thread = line.split_whitespace().next().unwrap_or_default();
        if line.contains("fallocate(") {
            let before = asked.remove(thread);
            let segment = file(line).is_some_and(|f| f.ends_with(".tmp") && !f.ends_with("reserve.tmp"));
            if !segment {
                continue;
            }
            let size = line.split([',', ')', '<']).nth(4).and_then(|s| s.trim().parse().ok()).expect(line);
            if let Some((before, true)) = before {
                assert!(size < before, "asked for {size} after {before} were refused: {line}");
                small += 1;
            }
            asked.insert(thread, (size, false));
        }
        if let Some(last) = asked.get_mut(thread) {
            last.1 |= line.contains("(INJECTED)");
        }
    }
    assert!(small > 0, "nothing was refused: {text}");
    all_is_there(dir.path());
}

/// Every name is durable before anything rests on it: the directory is synced between the renaming of a segment and the
/// next write to it.
#[test]
fn a_segment_is_named_after_its_header_and_used_after_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let Some((output, trace)) = traced("writes_through_failures", dir.path(), "fdatasync", &[]) else {
        return;
    };
    assert!(output.status.success());
    let mut named: Option<String> = None;
    let mut checked = 0;
    for line in trace.lines().filter(|l| l.contains("/driver")) {
        let call = line.split_whitespace().nth(1).unwrap_or_default();
        if call.starts_with("rename") && line.contains(".seg\"") {
            named = line.split(".seg\"").next().and_then(|l| l.rsplit('/').next()).map(str::to_owned);
        } else if call.starts_with("fsync(") && line.contains("/driver>") && named.take().is_some() {
            checked += 1;
        } else if call.starts_with("pwrite") && file(line).is_some_and(|f| f.ends_with(".seg")) {
            // Other threads write to other segments meanwhile.
            let this = named.as_ref().is_some_and(|n| line.contains(&format!("/{n}.seg")));
            assert!(!this, "written before the directory is synced: {line}");
        }
    }
    assert!(checked >= 2, "{checked} segments were named and made durable");
}
