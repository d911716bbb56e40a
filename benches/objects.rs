//! What a group costs in an object store, beside a bare PUT of the same bytes in the same run.
//!
//! `tests/homes/with-store s3 cargo bench --bench objects`. The one who pays for a real store sets FERROWAL_TEST_STORE.
//!
//! Spark's `FileBasedWriteAheadLog` with `closeFileAfterWrite` writes one object for each record, one after the other: it
//! cannot be faster than one bare PUT after the other, which is the second row of the throughput.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    thread,
    time::{Duration, Instant},
};

use ferrowal::{Log, Options, Role};
use object_store::{
    ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, aws::AmazonS3Builder, path::Path,
};

const RECORD: usize = 16 << 10;
const ROUNDS: usize = 400;
const WRITERS: usize = 8;
const RUN: Duration = Duration::from_secs(5);

fn main() {
    let Ok(said) = std::env::var("FERROWAL_TEST_STORE") else {
        println!("FERROWAL_TEST_STORE names no store: tests/homes/with-store s3 cargo bench --bench objects");
        return;
    };
    // The bare client is made before any log, which would do this. The only failure is that it is done already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut words = said.split_whitespace();
    let uri = words.next().unwrap();
    let keys: Vec<(&str, &str)> = words.filter_map(|w| w.split_once('=')).collect();
    let key = |name: &str| keys.iter().find(|(k, _)| *k == name).map(|(_, v)| *v);
    let bucket = uri.strip_prefix("s3a://").expect("only s3a: stores are measured");
    let bare = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_endpoint(key("fs.s3a.endpoint").unwrap())
        .with_allow_http(true)
        .with_access_key_id(key("fs.s3a.access.key").unwrap())
        .with_secret_access_key(key("fs.s3a.secret.key").unwrap())
        .build()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let put = |bytes: &[u8], i: usize| {
        let path = Path::from(format!("bare/{i:016}"));
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        runtime.block_on(bare.put_opts(&path, PutPayload::from(bytes.to_vec()), options)).unwrap();
    };
    let options = |role| {
        let mut options = Options::new(format!("{uri}/measured"), role);
        keys.iter().for_each(|(k, v)| options.store.set(*k, *v));
        options
    };
    for role in [Role::Driver, Role::Receivers] {
        let log = Log::open(options(role)).unwrap();
        let record = vec![7; RECORD];
        let first = log.append(&record, 1).unwrap();
        // What the log's object is long: a header, and a padded group.
        let prefix = match role {
            Role::Driver => "measured/driver".to_owned(),
            Role::Receivers => format!("measured/receivers/{}", first.writer),
        };
        let path = Path::from(format!("{prefix}/{:016}.seg", first.segment));
        let bytes = vec![7; runtime.block_on(bare.head(&path)).unwrap().size as usize];
        let base = if role == Role::Driver { 0 } else { ROUNDS };
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for i in 0..ROUNDS {
            let start = Instant::now();
            log.append(&record, 1).unwrap();
            ours.push(start.elapsed());
            let start = Instant::now();
            put(&bytes, base + i);
            theirs.push(start.elapsed());
        }
        let (ours, theirs) = (quantiles(ours), quantiles(theirs));
        println!(
            "{role:?}, one record of {RECORD} bytes a group, object of {} bytes, {ROUNDS} rounds",
            bytes.len()
        );
        println!("  append     p50 {:?}  p99 {:?}", ours.0, ours.1);
        println!("  bare PUT   p50 {:?}  p99 {:?}", theirs.0, theirs.1);
        println!("  ratio      p50 {:.2}  p99 {:.2}", ratio(ours.0, theirs.0), ratio(ours.1, theirs.1));
    }
    let log = Log::open(options(Role::Receivers)).unwrap();
    let began = Instant::now();
    let records: usize = thread::scope(|s| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|_| {
                s.spawn(|| {
                    let (record, mut count) = (vec![7; RECORD], 0);
                    while began.elapsed() < RUN {
                        log.append(&record, 1).unwrap();
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        writers.into_iter().map(|w| w.join().unwrap()).sum()
    });
    let ours = records as f64 / began.elapsed().as_secs_f64();
    let began = Instant::now();
    let (record, mut puts) = (vec![7; RECORD], 0);
    while began.elapsed() < RUN {
        put(&record, 10 * ROUNDS + puts);
        puts += 1;
    }
    let theirs = puts as f64 / began.elapsed().as_secs_f64();
    println!("{WRITERS} writers, records of {RECORD} bytes: {ours:.0} records/s");
    println!(
        "bare PUTs of one record, one after the other: {theirs:.0} records/s; ratio {:.1}",
        ours / theirs
    );
}

fn quantiles(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64()
}
