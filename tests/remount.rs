//! A volume that the kernel makes read-only under an open log, as it does when it meets an error of the file system.
//!
//! `mount -o remount,ro` will not do: the kernel refuses it (EBUSY) while files are open for writing. So this is ext4 in a
//! file, mounted with `errors=remount-ro`, and ext4's own switch for such an error
//! (`/sys/fs/ext4/<device>/trigger_fs_error`). That takes root and loop devices.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use common::{all, open, options, record};
use ferrowal::{BarrierMethod, Error, Log, Role};
use rustix::io::Errno;

/// Makes the volume, and runs the test proper in a mount namespace of its own; 77 says that the machine does not allow it.
const SCRIPT: &str = r#"
    truncate -s 96M "$DIR/image" && mkfs.ext4 -q -F "$DIR/image" && mkdir "$DIR/volume" || exit 77
    mount -o loop,errors=remount-ro "$DIR/image" "$DIR/volume" || exit 77
    device=$(findmnt -n -o SOURCE "$DIR/volume") || exit 77
    trigger=/sys/fs/ext4/${device#/dev/}/trigger_fs_error
    test -w "$trigger" || { echo "no $trigger"; umount "$DIR/volume"; exit 77; }
    FERROWAL_TEST_DIR="$DIR/volume" "$EXE" --exact "$NAME" --ignored --nocapture
    code=$?
    umount "$DIR/volume"
    exit $code
"#;

fn run_apart(name: &str) {
    let dir = tempfile::tempdir().unwrap();
    let exe = env::current_exe().unwrap();
    let mut unshare = Command::new("unshare");
    let unshare =
        unshare.args(["-m", "sh", "-c", SCRIPT]).env("DIR", dir.path()).env("EXE", exe).env("NAME", name);
    let output = match unshare.output() {
        Ok(output) => output,
        Err(e) => return println!("skipped: no unshare here ({e})"),
    };
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.code() == Some(77) || text.contains("unshare failed") {
        return println!(
            "skipped: ext4 on a loop device, with a way to make it fail, is not to be had here\n{text}"
        );
    }
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn a_volume_that_turns_read_only_under_an_open_driver_log_costs_errors_and_no_record() {
    run_apart("driver");
}

#[test]
fn a_volume_that_turns_read_only_under_open_receivers_costs_errors_and_no_record() {
    run_apart("receivers");
}

#[test]
#[ignore = "run by the test above, in a mount namespace of its own"]
fn driver() {
    turns_read_only(Role::Driver);
}

#[test]
#[ignore = "run by the test above, in a mount namespace of its own"]
fn receivers() {
    turns_read_only(Role::Receivers);
}

fn turns_read_only(role: Role) {
    let Some(dir) = env::var_os("FERROWAL_TEST_DIR") else { return };
    let dir = Path::new(&dir);
    for (round, barrier) in
        [BarrierMethod::Fdatasync, BarrierMethod::Direct, BarrierMethod::Dsync].into_iter().enumerate()
    {
        let path = dir.join(format!("log-{round}"));
        let mut opts = options(&path, role);
        opts.barrier = barrier;
        opts.linger = Duration::ZERO;
        opts.write_timeout = Duration::from_secs(2);
        let log = Log::open(opts).unwrap();
        // Four callers write while it happens: each is answered, in bounded time.
        let (broken, acknowledged) = (AtomicBool::new(false), AtomicUsize::new(0));
        let mut written: Vec<Vec<u8>> = thread::scope(|s| {
            let callers: Vec<_> = (0..4u64)
                .map(|caller| {
                    let (log, broken, acknowledged) = (&log, &broken, &acknowledged);
                    s.spawn(move || {
                        let mut kept = Vec::new();
                        for n in 0..1_000_000 {
                            let bytes = record(caller * 1_000_000 + n, 2_000);
                            let began = Instant::now();
                            match log.append(&bytes, n as i64) {
                                Ok(handle) => {
                                    kept.push((handle, bytes));
                                    acknowledged.fetch_add(1, Ordering::Relaxed);
                                }
                                Err(error) => {
                                    assert!(broken.load(Ordering::Relaxed), "{error}");
                                    assert!(began.elapsed() < Duration::from_secs(15), "bounded");
                                    refused(&error);
                                    return kept;
                                }
                            }
                        }
                        kept
                    })
                })
                .collect();
            let until = Instant::now() + Duration::from_secs(60);
            while acknowledged.load(Ordering::Relaxed) < 200 {
                assert!(Instant::now() < until, "nothing is written");
                thread::yield_now();
            }
            broken.store(true, Ordering::Relaxed);
            fs::write(trigger(dir), "a planned error").unwrap();
            let kept: Vec<_> = callers.into_iter().flat_map(|c| c.join().unwrap()).collect();
            // What was acknowledged is read as before, by handle and in a scan.
            for (handle, bytes) in &kept {
                assert_eq!(&log.read(handle).unwrap(), bytes);
            }
            kept.into_iter().map(|(_, bytes)| bytes).collect()
        });
        assert!(written.len() >= 200);
        let mut scanned = all(&log);
        for error in [log.append(b"once more", 1).unwrap_err(), log.clean(i64::MAX, true).unwrap_err()] {
            refused(&error);
        }
        let began = Instant::now();
        let _may_fail = log.close();
        assert!(began.elapsed() < Duration::from_secs(15), "the close is bounded");
        drop(log);
        written.sort();
        scanned.sort();
        assert_eq!(scanned, written, "{barrier:?}: all that was acknowledged, and nothing else");
        // After a reboot: the same is there, and the log goes on.
        remount(dir);
        let log = open(&path, role);
        let mut there = all(&log);
        there.sort();
        assert!(written.iter().all(|w| there.binary_search(w).is_ok()), "{barrier:?}: something is lost");
        let more = there.len() - written.len();
        assert!(more <= 4, "{more} records that were refused came back, of four callers");
        log.append(b"after", 1).unwrap();
        log.close().unwrap();
    }
}

fn refused(error: &Error) {
    let Error::Io { source, .. } = error else { panic!("{error}") };
    // ROFS, or, for what was at the device just then, IO.
    let code = source
        .raw_os_error()
        .and_then(|c| [Errno::ROFS, Errno::IO].into_iter().find(|e| e.raw_os_error() == c));
    assert!(code.is_some(), "{error}");
}

/// Where ext4 is told to meet an error.
fn trigger(dir: &Path) -> PathBuf {
    let output = Command::new("findmnt").args(["-n", "-o", "SOURCE"]).arg(dir).output().unwrap();
    let device = String::from_utf8(output.stdout).unwrap();
    let device = device.trim().rsplit('/').next().unwrap().to_owned();
    Path::new("/sys/fs/ext4").join(device).join("trigger_fs_error")
}

fn remount(dir: &Path) {
    let run = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).output().unwrap();
        assert!(output.status.code().is_some_and(|c| c < 2), "{program} {args:?}: {output:?}");
    };
    let (volume, image) = (dir.to_str().unwrap(), dir.with_file_name("image"));
    run("umount", &[volume]);
    run("e2fsck", &["-fy", image.to_str().unwrap()]);
    run("mount", &["-o", "loop,errors=remount-ro", image.to_str().unwrap(), volume]);
}
