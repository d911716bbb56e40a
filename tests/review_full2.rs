//! Review: a torn tail on a full volume must not keep the driver from opening.
#![allow(clippy::unwrap_used)]
mod common;
use common::{all, options, record, segment_file};
use ferrowal::{Log, Role};
use std::{env, fs, os::unix::fs::FileExt, path::Path, process::Command};
#[test]
fn torn_and_full() {
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
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for e in fs::read_dir(from).unwrap() {
        let p = e.unwrap().path();
        let t = to.join(p.file_name().unwrap());
        if p.is_dir() {
            copy(&p, &t)
        } else {
            let _ = fs::copy(&p, &t);
        }
    }
}
#[test]
#[ignore]
fn child() {
    let Ok(d) = env::var("FERROWAL_TEST_DIR") else { return };
    let dir = Path::new(&d);
    let live = dir.join("live");
    let log = Log::open(options(&live, Role::Driver)).unwrap();
    let h = log.append(&record(0, 3000), 0).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(500));
    let crashed = dir.join("crashed");
    copy(&live, &crashed);
    println!("reserve there: {}", crashed.join("driver/reserve").exists());
    log.close().unwrap();
    fs::remove_dir_all(&live).unwrap();
    let seg = segment_file(&crashed, Role::Driver, &h);
    fs::OpenOptions::new().write(true).open(&seg).unwrap().write_all_at(&record(5, 6000), 65536).unwrap();
    let filler = dir.join("filler");
    let mut n = 24usize << 20;
    loop {
        if fs::write(&filler, vec![1; n]).is_ok() {
            break;
        }
        n -= 4096;
    }
    let mut opts = options(&crashed, Role::Driver);
    opts.write_timeout = std::time::Duration::from_secs(1);
    let log = Log::open(opts).unwrap();
    assert_eq!(all(&log).len(), 1);
    let r = log.append(b"x", 1);
    println!("{r:?}");
    r.unwrap();
}
