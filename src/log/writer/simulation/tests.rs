//! The runs of `make check` and `make soak`, the invariants, and the planted bugs.
//!
//! `FERROWAL_SEED=<n>` replays one run (`one_seed`); `FERROWAL_CRASHES=<n>`, `FERROWAL_MINUTES=<n>` and
//! `FERROWAL_FIRST_SEED=<n>` say how many are tried, or for how long, and from where.

use std::{
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{Bug, Faults, Machine, Report, fails, simulate, simulate_with};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|s| s.parse().unwrap_or_else(|_| panic!("{name} is not a number: {s}")))
}

#[test]
fn one_seed() {
    if let Some(seed) = number("FERROWAL_SEED") {
        match simulate_with(seed, None) {
            Ok(report) => println!("seed {seed}:\n{report}"),
            Err(failure) => panic!("{failure}"),
        }
    }
}

/// Runs that each found a bug, and need tens of thousands of others to find it again.
#[test]
fn runs_that_found_bugs_are_run_again() {
    for seed in [
        27_080,
        1_000_043_829,
        3_000_062_778,
        7_013_245_525_993_764,
        7_013_246_395_268_295,
        7_013_237_131_416_751,
        20_089_745,
        20_091_663,
        20_298_246,
        987_659_179,
        7_015_911_990_808_870,
    ] {
        if let Err(failure) = simulate(seed) {
            panic!("{failure}");
        }
    }
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 0..50 {
        assert_eq!(simulate(seed).unwrap(), simulate(seed).unwrap());
    }
}

/// What every long run must have done.
const FEATURES: &[&str] = &[
    "acknowledged",
    "answered with an error",
    "cleans",
    "closed",
    #[cfg(feature = "compression")]
    "compressed records",
    "crashes in recovery",
    #[cfg(feature = "encryption")]
    "encrypted records",
    "failed barriers",
    "failed reads",
    "failed writes",
    "fresh generations",
    "full volume",
    "jumbo segments",
    "killed processes",
    "large records",
    "lone records refused",
    "lone records that waited",
    "looks beside the writer",
    "looks through failing reads",
    "marks",
    "names lost",
    "orphans collected",
    "power cuts with durability=os",
    "records that went alone",
    "recoveries with failing reads",
    "replayed without an answer",
    "rot that looks torn",
    "rot that stopped recovery",
    "rot that was told",
    "rot under default",
    "rot under salvage",
    "rot under strict",
    "scans beside cleaning",
    "sectors lost",
    "segments cleaned without a footer",
    "segments deleted",
    "segments poisoned",
    "segments recycled",
    "segments sealed",
    "settled",
    "several in flight",
    "take-overs from a zombie",
    "torn tails quarantined",
    "went on for others",
    "zombie operations refused",
    "zombie writes refused",
];

#[test]
fn whatever_a_power_cut_keeps_nothing_acknowledged_is_lost() {
    let crashes = number("FERROWAL_CRASHES").unwrap_or(20_000);
    let until = number("FERROWAL_MINUTES").map(|m| Instant::now() + Duration::from_secs(60 * m));
    let today = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    // A check is the same each time; a soak goes where nobody was.
    let fresh = if until.is_some() { today >> 8 } else { 1 };
    let first = number("FERROWAL_FIRST_SEED").unwrap_or(fresh);
    let (next, stop) = (AtomicU64::new(first), AtomicBool::new(false));
    let total = Mutex::new(Report::default());
    let failure = Mutex::new(None);
    let began = Instant::now();
    let threads = number("FERROWAL_THREADS")
        .map_or_else(|| thread::available_parallelism().map_or(1, |n| n.get()), |n| n as usize);
    let told = Mutex::new(Instant::now());
    thread::scope(|s| {
        for _ in 0..threads {
            s.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let from = next.fetch_add(50, Ordering::Relaxed);
                    for seed in from..from + 50 {
                        match simulate(seed) {
                            Ok(report) => total.lock().unwrap().add(&report),
                            Err(f) => {
                                failure.lock().unwrap().get_or_insert(f);
                                stop.store(true, Ordering::Relaxed);
                                return;
                            }
                        }
                    }
                    let done = total.lock().unwrap().count("crashes with unsynced data");
                    let over = until.map_or(done >= crashes, |t| Instant::now() >= t);
                    stop.fetch_or(over, Ordering::Relaxed);
                    let mut told = told.lock().unwrap();
                    if until.is_some() && told.elapsed() > Duration::from_secs(60) {
                        *told = Instant::now();
                        println!("{:.3} million crash points with unsynced data", done as f64 / 1e6);
                    }
                }
            });
        }
    });
    let total = total.into_inner().unwrap();
    let last = next.into_inner();
    println!("seeds {first} to {last}, {:?}:\n{total}", began.elapsed());
    if let Some(failure) = failure.into_inner().unwrap() {
        panic!("{failure}");
    }
    if total.count("crashes with unsynced data") >= 10_000 {
        for what in FEATURES {
            assert!(total.count(what) > 0, "{what}: never happened");
        }
    }
}

/// After how many runs a bug is found; each is looked for once in a process.
fn found_after(bug: Bug) -> Option<u64> {
    const MOST: u64 = 20_000;
    static FOUND: [OnceLock<Option<u64>>; Bug::ALL.len()] = [const { OnceLock::new() }; Bug::ALL.len()];
    let i = Bug::ALL.iter().position(|b| *b == bug).unwrap();
    *FOUND[i].get_or_init(|| (1..=MOST).find(|seed| fails(*seed, Some(bug))))
}

#[test]
fn every_planted_bug_is_found() {
    let mut unseen = Vec::new();
    println!("bug                          found after so many runs");
    let next = AtomicU64::new(0);
    thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| {
                while let Some(bug) = Bug::ALL.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    found_after(*bug);
                }
            });
        }
    });
    for bug in Bug::ALL {
        match found_after(*bug) {
            Some(runs) => println!("{:<28} {runs:>8}", format!("{bug:?}")),
            None => unseen.push(bug),
        }
    }
    assert!(unseen.is_empty(), "not found: {unseen:?}");
}

/// The log as it is passes as many runs as a bug survives at most, and each of the bugs that break the promise is found.
fn holds_and_is_seen_to(bugs: &[Bug]) {
    for seed in 1..=300 {
        if let Err(failure) = simulate(seed) {
            panic!("{failure}");
        }
    }
    for bug in bugs {
        assert!(found_after(*bug).is_some(), "{bug:?} is not found");
    }
}

macro_rules! promises {
    ($($(#[doc = $text:literal])+ $name:ident: $($bug:ident),+;)+) => {
        $($(#[doc = $text])+ #[test] fn $name() { holds_and_is_seen_to(&[$(Bug::$bug),+]) })+
    };
}

// The invariants of docs/design.md.
promises! {
    /// A group is acknowledged only after all smaller sequences are durable.
    invariant_1_acknowledgement_is_in_sequence: AcknowledgeOutOfOrder, SkipSequence, AnswerLoneAtOnce;
    /// Acknowledged is recovered, in sequence, byte for byte, and what else is was submitted and not refused.
    invariant_2_what_is_acknowledged_is_recovered: AcknowledgeBeforeBarrier, ForgetVoid, WrongWatermark;
    /// Nothing that readers or recovery do takes evidence away.
    invariant_3_evidence_stays: RecoveryDeletesEvidence;
    /// No place is acknowledged twice.
    invariant_4_no_place_is_acknowledged_twice: ReuseId, SealInFlight;
    /// Absence is never read as cleaned, nor a failing read as absence or as the end.
    invariant_5_absence_is_no_proof: ReadErrorIsAbsence, TruncateOnReadError, LowWaterNotCarried;
    /// Nothing acknowledged is returned altered.
    invariant_7_nothing_comes_back_altered: UncheckedRead, UnseededChecksum;
}

// The classes of bugs that other logs had.
promises! {
    /// fsyncgate, and those after it.
    class_a_barrier_that_failed_is_swallowed_or_retried: RetryBarrier, TrustCacheAfterFailure;
    /// A leader that fails, or forgets, leaves others waiting.
    class_waiters_hang: WakeOnlyLeader, LostWakeUp, LeaveLoneAsleep;
    /// What a recycled file held before.
    class_stale_records_in_a_recycled_file: TrustStaleFrame, UnseededChecksum, ReuseBeforeDirectorySync;
    /// Rot is dropped as a torn tail, or a torn tail stops recovery.
    class_torn_and_rotten_are_confused: WrongWatermark, UncheckedFrames, ForgetBaseOfBadGroup, SealUnsynced;
    /// A length that nothing bounds.
    class_a_wild_length: NoLengthBound;
    /// A name that is not durable.
    class_a_directory_is_not_synced: SkipDirectorySync, ActOnUnsyncedNames;
    /// A crash between making, filling and naming a file.
    class_a_crash_between_create_and_header: NameBeforeHeader, ForgetGeneration;
    /// Damaged bytes are deleted.
    class_evidence_is_destroyed: RecoveryDeletesEvidence;
    /// EIO is taken for the end, or for nothing.
    class_a_read_error_is_taken_for_the_end: TruncateOnReadError, ReadErrorIsAbsence;
    /// What is torn is decoded before it is checked.
    class_torn_bytes_are_decoded_unchecked: UncheckedFrames, UncheckedRead;
    /// What cleaning may drop, and in which order.
    class_cleaning_drops_what_is_needed: DeleteBeforeMark, CleanByMinTime, ThresholdNotCarried, CollectTooMuch,
        CollectWithoutNote, CollectedReadsAsDamage, EmptySegmentMustStay, ThresholdOfOlderGeneration;
    /// A footer, or the cache, is believed.
    class_the_cache_is_taken_for_the_device: RecoveryWithoutSettling, FooterOnlyProof;
}

#[test]
fn what_a_planted_bug_does_is_told_in_a_few_operations() {
    if let Ok(bug) = std::env::var("FERROWAL_BUG") {
        let bug = Bug::ALL.iter().find(|b| format!("{b:?}") == bug).expect("a bug of that name");
        let seed = found_after(*bug).expect("not found");
        println!("{}", simulate_with(seed, Some(*bug)).unwrap_err());
    }
    let seed = found_after(Bug::DeleteBeforeMark).unwrap();
    let failure = simulate_with(seed, Some(Bug::DeleteBeforeMark)).unwrap_err();
    println!("{failure}");
    assert!(failure.trace.len() < 200, "{failure}");
    assert!(failure.to_string().contains(&format!("FERROWAL_SEED={seed}")));
}

#[test]
fn a_log_with_real_threads_survives_power_cuts_of_a_simulated_machine() {
    let mut machine = Machine::new(5);
    let mut written = Vec::new();
    for life in 0..10u64 {
        let log = machine.open(machine.options(crate::Role::Driver)).unwrap();
        let found: Vec<Vec<u8>> = log.scan().unwrap().map(|r| r.unwrap().to_vec()).collect();
        assert_eq!(found, written);
        for i in 0..20 {
            let bytes = (life * 100 + i).to_le_bytes().to_vec();
            log.append(&bytes, i as i64).unwrap();
            written.push(bytes);
        }
        if life % 2 == 0 {
            machine.cut_power();
        } else {
            machine.kill();
        }
        assert!(log.append(b"too late", 0).is_err());
    }
    machine.set_faults(Faults { read: 100, ..Faults::default() });
    let log = machine.open(machine.options(crate::Role::Driver)).unwrap();
    let met = log.scan().unwrap().next().unwrap();
    assert_eq!(met.unwrap_err().errno(), Some(5));
}
