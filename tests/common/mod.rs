//! What the tests share: directories, options, records that can be recognised.
#![allow(dead_code, clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use ferrowal::{BarrierMethod, Durability, Error, Log, Options, RecordHandle, Role};

/// Options for a test: no grace, small segments where asked.
pub fn options(dir: &Path, role: Role) -> Options {
    let mut options = match store() {
        Some(store) => store.options(dir, role),
        None => Options::new(dir, role),
    };
    options.clean_grace = std::time::Duration::ZERO;
    options.lock_wait = std::time::Duration::ZERO;
    // All of these tests hold on every barrier: `make check-barriers`.
    if let Ok(barrier) = std::env::var("FERROWAL_TEST_BARRIER") {
        options.barrier = barrier_named(&barrier);
    }
    options
}

/// A real object store that the tests are to use in place of local directories: `make check-homes`.
#[derive(Clone)]
pub struct Store {
    /// The URI of a bucket.
    pub uri: String,
    /// Keys of Hadoop's clients.
    pub properties: Vec<(String, String)>,
    /// Where a log of its own may be, if the store is.
    pub log: String,
}

/// Whether the logs of the tests are directories of this machine.
pub fn local() -> bool {
    store().is_none()
}

/// The store that FERROWAL_TEST_STORE names: a URI, then keys and values.
pub fn store() -> Option<Store> {
    let said = std::env::var("FERROWAL_TEST_STORE").ok()?;
    let mut words = said.split_whitespace();
    let uri = words.next().unwrap_or_default().to_owned();
    let pair = |word: &str| word.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
    Some(Store { uri, properties: words.filter_map(pair).collect(), log: "/log".into() })
}

impl Store {
    /// What FERROWAL_TEST_STORE would say.
    pub fn said(&self) -> String {
        let pairs: String = self.properties.iter().map(|(k, v)| format!(" {k}={v}")).collect();
        self.uri.clone() + &pairs
    }

    /// Options for a log in this store, below a name that is like the directory's.
    pub fn options(&self, dir: &Path, role: Role) -> Options {
        let mut options = Options::new(format!("{}{}", self.uri, dir.display()), role);
        options.most_put = 128 << 20;
        for (key, value) in &self.properties {
            options.store.set(key, value);
        }
        // A mark is gone in ten seconds, and not in ten minutes.
        options.store.set("ferrowal.test.timescale", "60");
        options
    }
}

/// The barrier of that name.
pub fn barrier_named(name: &str) -> BarrierMethod {
    let all = [BarrierMethod::Auto, BarrierMethod::Fdatasync, BarrierMethod::Direct, BarrierMethod::Dsync];
    all.into_iter().find(|b| b.to_string() == name).unwrap_or_else(|| panic!("no barrier is named {name}"))
}

/// A way for a record to be written: a barrier, or `os` for none.
pub fn write_by(options: &mut Options, way: &str) {
    match way {
        "os" => options.durability = Durability::Os,
        barrier => options.barrier = barrier_named(barrier),
    }
}

/// The ways that work where the tests have their directories. What does not is said: direct I/O is not everywhere.
pub fn ways() -> Vec<&'static str> {
    if !local() {
        return vec!["fdatasync"];
    }
    let mut ways = vec!["fdatasync", "direct", "dsync", "os"];
    ways.retain(|way| {
        let dir = tempfile::tempdir().unwrap();
        let mut options = options(dir.path(), Role::Driver);
        write_by(&mut options, way);
        match Log::open(options).unwrap().append(b"does it work", 0) {
            Ok(_) => true,
            Err(Error::Config(why)) => {
                println!("not tested: {why}");
                false
            }
            Err(e) => panic!("{way}: {e}"),
        }
    });
    ways
}

pub fn open(dir: &Path, role: Role) -> Log {
    Log::open(options(dir, role)).unwrap()
}

/// A record that says which one it is, of the given length (at least 8).
pub fn record(number: u64, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(&number.to_le_bytes());
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Every record of the log, in order.
pub fn all(log: &Log) -> Vec<Vec<u8>> {
    log.scan().unwrap().map(|r| r.unwrap().to_vec()).collect()
}

/// The file of a record's segment.
pub fn segment_file(dir: &Path, role: Role, handle: &RecordHandle) -> PathBuf {
    let name = format!("{:016}.seg", handle.segment);
    match role {
        Role::Driver => dir.join("driver").join(name),
        Role::Receivers => dir.join("receivers").join(handle.writer.to_string()).join(name),
    }
}
