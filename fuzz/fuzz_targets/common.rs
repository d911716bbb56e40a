//! A small real log, damaged as the fuzzer says, and read in every way.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::Duration,
};

use ferrowal::{Durability, Log, Options, RecordHandle, Recovery, Role};

/// What was written, and the files that it left.
pub struct Base {
    pub records: Vec<(RecordHandle, Vec<u8>)>,
    pub files: Vec<(PathBuf, Vec<u8>)>,
    role: Role,
}

pub fn options(dir: &Path, role: Role, recovery: Recovery) -> Options {
    let mut options = Options::new(dir, role);
    options.recovery = recovery;
    options.durability = Durability::Os;
    options.clean_grace = Duration::ZERO;
    options.lock_wait = Duration::ZERO;
    options.write_timeout = Duration::from_millis(200);
    options.linger = Duration::ZERO;
    options.rolling_interval = Duration::from_millis(100);
    options.segment_size = 1 << 20;
    options.memory = 16 << 20;
    options
}

/// In memory where that can be: thousands of logs a minute are made here.
pub fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a directory")
}

fn list(dir: &Path, base: &Path, into: &mut Vec<(PathBuf, Vec<u8>)>) {
    let mut entries: Vec<_> = fs::read_dir(dir).expect("list").map(|e| e.expect("entry").path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            list(&path, base, into);
        } else if path.extension().is_some_and(|e| e == "seg") || path.ends_with("ferrowal.id") {
            let name = path.strip_prefix(base).expect("below").to_owned();
            into.push((name, fs::read(&path).expect("read")));
        }
    }
}

/// One log of each role, made once: three segments, the newest of them sealed by the close.
pub fn bases() -> &'static [Base; 2] {
    static BASES: OnceLock<[Base; 2]> = OnceLock::new();
    BASES.get_or_init(|| {
        [Role::Driver, Role::Receivers].map(|role| {
            let dir = scratch();
            let log = Log::open(options(dir.path(), role, Recovery::Default)).expect("open");
            let records = (0..9u8)
                .map(|i| {
                    let bytes = vec![i + 1; 10 + 150 * usize::from(i)];
                    (log.append(&bytes, i64::from(i) * 40).expect("append"), bytes)
                })
                .collect();
            log.close().expect("close");
            let mut files = Vec::new();
            list(dir.path(), dir.path(), &mut files);
            Base { records, files, role }
        })
    })
}

/// One piece of damage from eight bytes; whether it made a checksum right that should not be.
fn damage(files: &mut [(PathBuf, Vec<u8>)], op: &[u8; 8]) -> bool {
    let count = files.len();
    let (name, bytes) = &mut files[usize::from(op[0]) % count];
    let size = bytes.len().max(1);
    // Near a block's head or anywhere: that is where the fields are.
    let wild = usize::from(u16::from_le_bytes([op[2], op[3]]));
    let at = if op[1] & 0x80 == 0 { (wild >> 8) * 4096 + (wild & 0xff) } else { wild * 16 } % size;
    let forge = op[1] & 0x40 != 0 && name.extension().is_some_and(|e| e == "seg");
    match op[1] & 7 {
        0 | 1 => bytes.iter_mut().skip(at).zip(&op[4..]).for_each(|(b, v)| *b ^= v),
        2 => bytes.iter_mut().skip(at).zip(&op[4..]).for_each(|(b, v)| *b = *v),
        3 => bytes.truncate(at),
        4 => bytes.iter_mut().skip(at).take(usize::from(op[4]) * 16).for_each(|b| *b = op[5]),
        5 => {
            let from = usize::from(op[4]) * 4096 % size;
            let block: Vec<u8> = bytes.iter().skip(from).take(4096).copied().collect();
            let to = at / 4096 * 4096;
            bytes.iter_mut().skip(to).zip(block).for_each(|(b, v)| *b = v);
        }
        6 => bytes.resize(size + usize::from(op[4]) * 512, op[5]),
        _ => bytes.clear(),
    }
    if forge {
        ferrowal::fuzzing::reseal_header(bytes);
        ferrowal::fuzzing::reseal_group(bytes, at / 64 * 64);
    }
    forge
}

/// Damages a log by `input` and reads it under every policy; then writes to it where it can be.
pub fn run(input: &[u8], forging: bool) {
    let Some((first, ops)) = input.split_first() else { return };
    let base = &bases()[usize::from(first & 1)];
    let mut files = base.files.clone();
    for op in ops.as_chunks::<8>().0.iter().take(16) {
        let mut op = *op;
        if !forging {
            op[1] &= !0x40;
        }
        damage(&mut files, &op);
    }
    let dir = scratch();
    for (name, bytes) in &files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().expect("below")).expect("make");
        fs::write(path, bytes).expect("write");
    }
    for recovery in [Recovery::Strict, Recovery::Default, Recovery::Salvage] {
        let log = Log::open(options(dir.path(), base.role, recovery)).expect("open");
        read(&log, base, forging);
        log.close().expect("close");
    }
    // Last, since opening for writing seals: what is acknowledged on top of damage is there, and can be read.
    let recovery = if first & 2 == 0 { Recovery::Default } else { Recovery::Salvage };
    let log = Log::open(options(dir.path(), base.role, recovery)).expect("open");
    if let Ok(scan) = log.scan() {
        scan.take(1000).for_each(drop);
    }
    if let Ok(handle) = log.append(b"on top", 10_000) {
        let back = log.read(&handle);
        assert!(matches!(&back, Ok(bytes) if bytes == b"on top"), "acknowledged, then {back:?}");
    }
    log.close().expect("close");
}

fn read(log: &Log, base: &Base, forging: bool) {
    for (handle, bytes) in &base.records {
        if let Ok(back) = log.read(handle) {
            assert!(forging || back == *bytes, "{handle} was altered");
        }
    }
    let Ok(scan) = log.scan() else { return };
    let mut expected = base.records.iter();
    // A log of this size has no thousand records or findings: what gives more goes in circles.
    let mut items = 0;
    for item in scan {
        items += 1;
        assert!(items < 10_000, "a scan without an end");
        if let Ok(found) = item {
            assert!(
                forging || expected.any(|(_, bytes)| bytes[..] == found[..]),
                "a record that was not written, or out of order"
            );
        }
    }
}
