//! Where a log may live: what is refused, and that no refusal repeats a secret.
#![allow(clippy::unwrap_used)]

mod common;

use common::{all, record};
use ferrowal::{Error, Location, Log, Options, Role, StoreProperties};

fn refused(location: &str) -> String {
    match Log::open(Options::new(location, Role::Driver)) {
        Err(Error::Config(text)) => text,
        other => panic!("{location}: {other:?}"),
    }
}

#[test]
fn a_file_uri_and_its_path_are_one_log() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a log");
    let by_path = Log::open(common::options(&path, Role::Receivers)).unwrap();
    by_path.append(&record(1, 100), 0).unwrap();
    let mut options = common::options(&path, Role::Receivers);
    options.dir = format!("file://{}", path.display()).replace(' ', "%20").into();
    let by_uri = Log::open(options).unwrap();
    by_uri.append(&record(2, 100), 0).unwrap();
    assert_eq!(all(&by_uri), vec![record(1, 100), record(2, 100)]);
    // One writer: they share what is open.
    assert_eq!(
        std::fs::read_dir(path.join("receivers"))
            .unwrap()
            .filter(|e| e.as_ref().unwrap().path().is_dir())
            .count(),
        1
    );
}

#[test]
fn what_is_no_home_is_refused_with_what_there_is() {
    assert_eq!(
        refused("ftp://host/log"),
        "ftp: is not a home for a log: a path, file:, hdfs:, s3a:, s3:, gs: or abfss: are"
    );
    assert!(refused("s3a://bucket").contains("names no directory"));
    assert!(refused("s3a:///log").contains("names no bucket"));
    assert!(refused("s3a://").contains("names no bucket: write s3a://bucket/my-app"));
    assert!(refused("s3a:bucket/log").contains("wants a URI such as s3a://bucket/my-app"));
    assert!(refused("s3a://bucket/a/../b").contains("not the name of a directory"));
    assert!(refused("file://elsewhere/log").contains("does not name a directory of this machine"));
    assert!(refused("relative").contains("must be an absolute path"));
    assert!(refused("").contains("empty"));
}

#[test]
fn the_root_directory_is_no_home() {
    for root in ["/", "//", "/.", "/..", "/proc/..", "file:///", "file:/", "file://localhost/", "file:///%2e"]
    {
        assert_eq!(
            refused(root),
            "the log's directory is the root directory: give each application one of its own, such as /var/lib/my-app",
            "{root}"
        );
    }
    assert!(matches!(Log::overrides("/", StoreProperties::default()), Err(Error::Config(_))));
}

#[test]
fn a_nul_character_is_in_no_name() {
    assert_eq!(
        refused("/var/lib/my\0app"),
        r#"the log's directory has a NUL character in its name, which no file system takes: "/var/lib/my\0app""#
    );
    assert!(refused("file:///var/lib/my%00app").contains("has a NUL character in its name"));
    // Of a URI nothing is repeated.
    assert_eq!(refused("s3a://bucket/my\0app"), "the s3a: location has a NUL character in it: take it out");
    assert!(refused("hdfs://host/my\0app").contains("the hdfs: location has a NUL character"));
}

#[test]
fn secrets_are_not_repeated() {
    let text = refused("s3a://AKIA:hush@bucket/log");
    assert!(
        text.contains("holds a password or key") && !text.contains("hush") && !text.contains("AKIA"),
        "{text}"
    );
    let location = Location::from("s3a://AKIA:hush@bucket/log");
    assert!(!format!("{location} {location:?}").contains("hush"));
    let mut options = Options::new("s3a://bucket/log", Role::Driver);
    options.store = StoreProperties::from_iter([("fs.s3a.secret.key", "hush")]);
    let shown = format!("{options:?}");
    assert!(shown.contains("fs.s3a.secret.key") && !shown.contains("hush"), "{shown}");
}
