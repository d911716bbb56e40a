//! The driver's reserve is made again after it was used.
#![allow(clippy::unwrap_used)]
mod common;
use common::{options, record};
use ferrowal::{Log, Role};
use std::{
    env, fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

#[test]
fn reserve_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let script = format!(
        "mount -t tmpfs -o size=24m tmpfs '{d}' && FERROWAL_TEST_DIR='{d}' exec '{e}' --exact child --ignored --nocapture",
        d = dir.path().display(),
        e = env::current_exe().unwrap().display()
    );
    let out = Command::new("unshare").args(["-m", "sh", "-c", &script]).output().unwrap();
    println!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success());
}

fn wait(what: &str, secs: u64, f: impl Fn() -> bool) -> bool {
    let t = Instant::now();
    while !f() {
        if t.elapsed() > Duration::from_secs(secs) {
            println!("{what}: not within {secs} s");
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("{what} after {:?}", t.elapsed());
    true
}

#[test]
#[ignore]
fn child() {
    let Ok(d) = env::var("FERROWAL_TEST_DIR") else { return };
    let dir = Path::new(&d);
    let mut opts = options(&dir.join("log"), Role::Driver);
    opts.segment_size = 1 << 20;
    opts.write_timeout = Duration::from_millis(500);
    let log = Log::open(opts).unwrap();
    log.append(b"x", 0).unwrap();
    let reserve = dir.join("log/driver/reserve");
    assert!(wait("reserve made", 15, || reserve.exists()));
    std::thread::sleep(Duration::from_millis(500));
    let filler = dir.join("filler");
    let mut n = 24usize << 20;
    loop {
        if fs::write(&filler, vec![1; n]).is_ok() {
            break;
        }
        n -= 64 << 10;
    }
    let mut t = 1;
    while reserve.exists() {
        if log.append(&record(t, 50_000), t as i64).is_err() {
            println!("full at {t}");
            break;
        }
        t += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("reserve used: {} after {t}", !reserve.exists());
    // Everything is free again, and stays so.
    fs::remove_file(&filler).unwrap();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(26) && !reserve.exists() {
        t += 1;
        log.append(&record(t, 50_000), t as i64).unwrap();
        log.clean(t as i64 - 20, true).unwrap();
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(reserve.exists(), "no reserve after {:?} with space, {t} records", began.elapsed());
    println!("reserve is back after {:?}", began.elapsed());
}
