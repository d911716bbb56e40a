//! What answers that are late, lost or bad do to the log, without a JVM: the calls are carried out by a script.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    thread,
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::{
    jobs::What,
    scripted::{Cluster, Then},
    segments::HadoopStorage,
};
use crate::{
    Log,
    error::Error,
    format::{Past, Place, SegmentHeader},
    log::analysis::{Scope, analyse},
    options::Role,
    storage::{Barrier, Claim, Home, Preallocate, SegmentWrite, Space, Storage, Which},
};

const SPACE: Space = Space {
    wish: 1 << 20,
    least: 0,
    how: Preallocate::Reserved,
    within: Duration::ZERO,
    urgent: true,
    frees: false,
};
/// How long a test waits for what must come.
const SOON: Duration = Duration::from_secs(20);

/// A driver's log, as a process has it.
struct Driver {
    storage: HadoopStorage,
    writer: Uuid,
    claim: Box<dyn Claim>,
}

fn header(writer: Uuid, id: u64) -> Vec<u8> {
    let place = Place { log: Uuid::from_u128(1), writer, segment: id };
    SegmentHeader::new(&place, 1, 1, 0, 64, Past::UNKNOWN).encode()
}

impl Driver {
    /// Claims the log, and makes segment 1 its fence.
    fn start(cluster: &Cluster) -> Driver {
        let home = cluster.hadoop(Role::Driver);
        let claim = home.claim(Which::Driver, Duration::ZERO).unwrap();
        let storage = HadoopStorage::new(home.inner.clone(), Which::Driver);
        let driver = Driver { storage, writer: Uuid::new_v4(), claim };
        driver.storage.fence(1, SPACE, &|_| header(driver.writer, 1)).unwrap();
        driver
    }

    fn create(&self, id: u64) -> Result<Box<dyn SegmentWrite>, Error> {
        self.storage.create(id, SPACE, &|_| header(self.writer, id))
    }
}

fn append(segment: &dyn SegmentWrite, bytes: &[u8]) -> Result<(), Error> {
    segment.write(4096, &mut [std::io::IoSlice::new(bytes)], Barrier::Yes)
}

fn name(id: u64) -> String {
    format!("driver/{id:016}.seg")
}

/// Waits for what the log does by itself.
fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < SOON, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_removal_that_lands_late_takes_no_acknowledged_record() {
    // What removes the leftover is held back at its first, its second, or each call.
    for (skipped, held) in [(0, 1), (1, 1), (0, 9)] {
        let cluster = Cluster::start();
        let driver = Driver::start(&cluster);
        cluster.script(&[What::Create], &name(2), 1, Then::Lose);
        assert!(driver.create(2).is_err());
        assert!(cluster.bytes(&name(2)).is_some(), "it came to be, and nobody was told");
        let removals = [What::Delete, What::Rename];
        cluster.script(&removals, "driver/", skipped, Then::Lose);
        cluster.script(&removals, "driver/", held, Then::Hold);
        let mut made = None;
        for _ in 0..3 {
            match driver.create(2) {
                Ok(segment) => made = Some(segment),
                Err(Error::Fenced { .. }) => break,
                Err(_) => continue,
            }
            break;
        }
        if let Some(segment) = &made {
            append(segment.as_ref(), b"acknowledged").unwrap();
        }
        cluster.land();
        if made.is_some() {
            let there = cluster.bytes(&name(2)).expect("the segment");
            assert!(there.ends_with(b"acknowledged"), "{} bytes", there.len());
        }
        assert!(!cluster.said(What::Delete).iter().any(|path| path.ends_with(&name(2))));
        // A writer that does not know what it asked for creates nothing any more; the next one goes on.
        if made.is_none() {
            assert!(matches!(driver.create(2), Err(Error::Fenced { .. })));
            assert!(matches!(driver.create(3), Err(Error::Fenced { .. })));
        }
    }
}

#[test]
fn a_writer_goes_on_where_its_own_attempt_was_lost() {
    for then in [Then::Lose, Then::LoseEmpty] {
        let cluster = Cluster::start();
        let driver = Driver::start(&cluster);
        cluster.script(&[What::Create], &name(2), 1, then);
        assert!(driver.create(2).is_err());
        let began = Instant::now();
        let segment = driver.create(2).unwrap();
        assert!(began.elapsed() < Duration::from_secs(3), "{:?} for a leftover of its own", began.elapsed());
        append(segment.as_ref(), b"acknowledged").unwrap();
        assert!(cluster.names(".aside-").is_empty(), "what was put aside is deleted");
    }
}

#[test]
fn a_renewal_that_lands_late_brings_no_mark_back() {
    for role in [Role::Driver, Role::Receivers] {
        let cluster = Cluster::start();
        let home = cluster.hadoop(role);
        let which = match role {
            Role::Driver => Which::Driver,
            Role::Receivers => Which::Receiver(Uuid::new_v4()),
        };
        let claim = home.claim(which, Duration::ZERO).unwrap();
        let mark = cluster.names("alive").pop().expect("a mark");
        cluster.script(&[What::Put, What::Renew], "/alive", 1, Then::Hold);
        cluster.await_held(1);
        // A new driver has taken the log over, or a collector this writer's directory.
        assert!(cluster.remove(&mark));
        cluster.land();
        let storage = HadoopStorage::new(home.inner.clone(), which);
        let header = |_| header(Uuid::new_v4(), 2);
        until("the removal is noticed", || {
            matches!(storage.create(2, SPACE, &header), Err(Error::Fenced { .. }))
        });
        assert!(cluster.names("alive").is_empty(), "{:?}", cluster.names("alive"));
        drop(claim);
        assert!(cluster.names("alive").is_empty());
    }
}

/// One that was paused after it had listed a writer's files found them old once it went on, however new they were by then.
#[test]
fn a_collector_that_slept_takes_no_writer_for_gone_who_lives() {
    let cluster = Cluster::start();
    let which = Which::Receiver(Uuid::new_v4());
    let claim = cluster.hadoop(Role::Receivers).claim(which, Duration::ZERO).unwrap();
    let mut options = cluster.options(Role::Receivers);
    options.store.set("ferrowal.test.patience", "20000");
    let collector = cluster.hadoop_with(&options);
    // It has listed them when it asks for the time.
    cluster.script(&[What::Put], "clock-", 1, Then::Hold);
    let gone = thread::scope(|scope| {
        let asleep = scope.spawn(|| collector.claim_gone(which).unwrap().is_some());
        cluster.await_held(1);
        cluster.pass(Duration::from_secs(60));
        let renewed = cluster.said(What::Renew).len();
        until("the mark is renewed", || cluster.said(What::Renew).len() > renewed + 1);
        cluster.land();
        asleep.join().unwrap()
    });
    assert!(!gone, "its writer lives");
    // Once it does not live any more it is gone.
    cluster.script(&[What::Renew, What::Delete], "/alive", usize::MAX, Then::Refuse);
    drop(claim);
    cluster.pass(Duration::from_secs(60));
    assert!(cluster.hadoop(Role::Receivers).claim_gone(which).unwrap().is_some());
}

#[test]
fn a_mark_is_renewed_and_goes_with_its_claim() {
    let cluster = Cluster::start();
    let driver = Driver::start(&cluster);
    until("it is renewed", || cluster.said(What::Renew).len() > 3);
    assert_eq!(cluster.names("/alive/").len(), 1);
    drop(driver.create(2).unwrap());
    drop(driver.claim);
    assert!(cluster.names("/alive/").is_empty());
}

#[test]
fn a_newer_drivers_segment_keeps_its_lease() {
    let cluster = Cluster::start();
    let driver = Driver::start(&cluster);
    cluster.plant(&name(2), &header(Uuid::new_v4(), 2));
    assert!(matches!(driver.create(2), Err(Error::Fenced { .. })));
    assert!(cluster.is_written(&name(2)), "its writer is at it");
    assert!(cluster.said(What::Recover).is_empty());
    assert!(cluster.bytes(&name(2)).is_some());
}

#[test]
fn a_close_that_fails_is_followed_by_the_lease() {
    let cluster = Cluster::start();
    let driver = Driver::start(&cluster);
    let segment = driver.create(2).unwrap();
    append(segment.as_ref(), &[7; 64]).unwrap();
    cluster.script(&[What::Close], &name(2), 1, Then::Refuse);
    driver.storage.seal(2, 4160, b"footer").unwrap();
    assert_eq!(cluster.said(What::Recover), [cluster.path(&name(2))]);
    assert!(!cluster.is_written(&name(2)), "it is closed now");
    assert!(cluster.bytes(&name(2)).unwrap().ends_with(b"footer"));
}

#[test]
fn a_driver_that_was_taken_over_cuts_nothing() {
    let cluster = Cluster::start();
    let driver = Driver::start(&cluster);
    // A segment before it, with a tail that the new driver has kept.
    let mut kept = header(Uuid::new_v4(), 7);
    kept.extend_from_slice(&[9; 128]);
    cluster.plant(&name(7), &kept);
    for mark in cluster.names("/alive/") {
        cluster.remove(&mark);
    }
    assert!(matches!(driver.storage.seal(7, 4096 + 64, b"footer"), Err(Error::Fenced { .. })));
    assert_eq!(cluster.bytes(&name(7)).unwrap(), kept);
    assert!(cluster.said(What::Seal).is_empty());
}

#[test]
fn a_file_is_not_closed_under_those_who_read_it() {
    let cluster = Cluster::start();
    let driver = Driver::start(&cluster);
    let bytes: Vec<u8> = (0..9000).map(|i| (i % 251) as u8).collect();
    cluster.plant("driver/0000000000000007.seg", &bytes);
    let reader = driver.storage.open(7).unwrap();
    cluster.script(&[What::Read], &name(7), 1, Then::Hold);
    thread::scope(|s| {
        let read = s.spawn(|| {
            let mut into = vec![0; 9000];
            reader.read(0, &mut into).map(|n| (n, into))
        });
        cluster.await_held(1);
        reader.settle().unwrap();
        // Whatever was to be closed is: these calls are carried out after it.
        for _ in 0..8 {
            assert_eq!(driver.storage.open(7).unwrap().size().unwrap(), 9000);
        }
        cluster.land();
        assert_eq!(read.join().unwrap().expect("the bytes"), (9000, bytes.clone()));
    });
    until("the first stream is closed in the end", || cluster.said(What::Close).len() >= 9);
}

#[test]
fn a_log_goes_on_over_lost_creations() {
    let cluster = Cluster::start();
    let mut options = cluster.options(Role::Receivers);
    options.write_timeout = Duration::from_secs(4);
    options.rolling_interval = Duration::from_secs(1);
    let log = Log::open(options).unwrap();
    let mut handles = Vec::new();
    for i in 0..30_u32 {
        if i % 10 == 5 {
            cluster.script(&[What::Create], ".seg", 1, Then::LoseEmpty);
        }
        handles.push(log.append(&i.to_le_bytes(), i64::from(i) * 250).unwrap());
    }
    let found: Vec<_> = log.scan().unwrap().map(|r| r.unwrap().to_vec()).collect();
    let all: Vec<_> = (0..30_u32).map(|i| i.to_le_bytes().to_vec()).collect();
    assert_eq!(found, all);
    for (handle, record) in handles.iter().zip(&all) {
        assert_eq!(log.read(handle).unwrap(), record.as_slice());
    }
    log.close().unwrap();
}

#[test]
fn a_segment_whose_writer_died_while_he_made_it_is_no_damage() {
    for length in [0, 100, 4095] {
        let cluster = Cluster::start();
        let log = Log::open(cluster.options(Role::Driver)).unwrap();
        log.scan().unwrap().for_each(drop);
        log.append(b"acknowledged", 1).unwrap();
        log.close().unwrap();
        // Another driver begins to take over, and dies before its fence has a header.
        let newest = cluster.names("driver/").into_iter().rfind(|n| n.ends_with(".seg")).unwrap();
        let newest: u64 = newest["driver/".len()..][..16].parse().unwrap();
        let torn = &header(Uuid::new_v4(), newest + 1)[..length];
        cluster.plant(&name(newest + 1), torn);
        let records = |log: &Log| log.scan().unwrap().map(|r| r.unwrap().to_vec()).collect::<Vec<_>>();
        let log = Log::open(cluster.options(Role::Driver)).unwrap();
        assert_eq!(records(&log), [b"acknowledged".to_vec()]);
        log.append(b"more", 2).unwrap();
        assert_eq!(records(&log), [b"acknowledged".to_vec(), b"more".to_vec()]);
        let report = log.report().unwrap();
        assert_eq!(report.corrupt, 0, "{report}");
        assert!(report.findings.iter().any(|f| f.detail.contains("has no header")), "{report}");
        log.close().unwrap();
    }
}

#[test]
fn a_file_is_written_at_its_end_only() {
    let cluster = Cluster::start();
    let driver = Driver::start(&cluster);
    let segment = driver.create(2).unwrap();
    append(segment.as_ref(), &[1; 64]).unwrap();
    assert!(matches!(append(segment.as_ref(), &[2; 64]), Err(Error::Internal(_))), "below its end");
    let there = cluster.bytes(&name(2)).unwrap();
    assert_eq!(there[4096..], [1; 64]);
}

#[test]
fn a_log_whose_uuid_was_deleted_gets_no_other_one() {
    for role in [Role::Driver, Role::Receivers] {
        let cluster = Cluster::start();
        let log = Log::open(cluster.options(role)).unwrap();
        log.append(b"before", 1).unwrap();
        log.close().unwrap();
        let id = cluster.bytes("ferrowal.id").unwrap();
        assert!(cluster.remove("ferrowal.id"));
        // Another process, which does not know it.
        for writes in [Role::Driver, Role::Receivers] {
            let made = cluster.hadoop(writes).make_log_id();
            assert!(matches!(made, Err(Error::Missing { .. })), "{writes:?} beside {role:?}: {made:?}");
        }
        assert!(cluster.names("ferrowal.id").is_empty());
        cluster.plant("ferrowal.id", &id);
        assert_eq!(
            cluster.hadoop(role).make_log_id().unwrap().to_string(),
            String::from_utf8_lossy(&id).trim()
        );
    }
}

/// The fence that a writer raises first has the header of the generation before.
#[test]
fn a_fresh_start_writes_no_group_behind_the_header_of_the_generation_before() {
    let cluster = Cluster::start();
    let life = |reads: bool, n: u32| {
        let mut options = cluster.options(Role::Driver);
        options.rolling_interval = Duration::from_secs(1);
        options.linger = Duration::ZERO;
        let log = Log::open(options).unwrap();
        let found = match reads {
            true => log.scan().unwrap().map(|r| r.unwrap().to_vec()).collect(),
            false => Vec::new(),
        };
        // Several segments of them.
        for i in 0..n {
            log.append(format!("{n}, {i}").as_bytes(), i64::from(i) * 250).unwrap();
        }
        log.close().unwrap();
        found
    };
    let of = |n: u32| (0..n).map(|i| format!("{n}, {i}").into_bytes()).collect::<Vec<_>>();
    life(true, 7);
    for n in [1, 9, 4] {
        life(false, n);
        assert_eq!(life(true, 0), of(n), "of {n} records");
    }
    let home = cluster.hadoop(Role::Driver);
    let scope = Scope { log: home.log_id().unwrap().unwrap(), deep: true, aside: true, ..Scope::default() };
    let found = analyse(home.storage(Which::Driver).as_ref(), scope).unwrap();
    assert_eq!((found.generation, &found.findings, &found.aside), (4, &Vec::new(), &Vec::new()));
}
