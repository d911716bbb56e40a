//! The log on a simulated machine: power cuts, killed processes, failing storage and rot, all decided by one seed.
//!
//! [`simulate`] drives the writer's state machine (the very code that real threads drive) from one thread: callers,
//! workers, completions in any order, clock, housekeepers, closer, readers and cleaners. After each crash it recovers, and
//! compares what is there with what was promised. A run that fails says how to replay it, and which operations it takes.
//!
//! [`Machine`] lends the simulated storage to other programs' tests: logs with real threads on a machine whose power can
//! be cut.
//!
//! ```
//! # #[cfg(feature = "simulation")] {
//! use ferrowal::simulation::{Machine, simulate};
//!
//! let report = simulate(17).unwrap_or_else(|failure| panic!("{failure}"));
//! assert!(report.count("crashes") > 0);
//!
//! let mut machine = Machine::new(17);
//! let log = machine.open(machine.options(ferrowal::Role::Driver))?;
//! log.append(b"kept", 1)?;
//! machine.cut_power();
//! let again = machine.open(machine.options(ferrowal::Role::Driver))?;
//! assert_eq!(again.scan()?.count(), 1);
//! # }
//! # Ok::<(), ferrowal::Error>(())
//! ```
// A simulation that meets what cannot be is to stop, there and then.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod drive;
mod machine;
mod oracle;
mod plan;
mod rot;
#[cfg(test)]
mod tests;

use std::{
    any::Any,
    collections::BTreeMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Once,
};

pub use self::machine::Machine;
use self::{drive::Run, plan::Plan};
use crate::planted::{Guard, simulated_clock};
pub use crate::{planted::Bug, storage::sim::Faults};

/// No record of a simulation, and no segment, is longer.
const MOST_BYTES: usize = 16 << 20;

/// What one or many runs did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report(BTreeMap<&'static str, u64>);

impl Report {
    /// How often something happened: "crashes", "acknowledged", "recycled", …; [`Report`] prints all of them.
    pub fn count(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or(0)
    }

    /// Adds what other runs did.
    pub fn add(&mut self, other: &Report) {
        other.0.iter().for_each(|(what, n)| self.note(what, *n));
    }

    fn note(&mut self, what: &'static str, n: u64) {
        *self.0.entry(what).or_default() += n;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(what, n)| writeln!(f, "{n:>12}  {what}"))
    }
}

/// A run that met what must not be.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The run's seed: it replays the run exactly.
    pub seed: u64,
    /// What was met.
    pub message: String,
    /// The operations that it takes, after all that can be left out was left out.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {}", self.seed, self.message)?;
        self.trace.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
        write!(f, "replay with: FERROWAL_SEED={} cargo test --lib one_seed -- --nocapture", self.seed)
    }
}

impl std::error::Error for Failure {}

/// One run: some lives of one log, decided by `seed` alone. Takes about a millisecond; starts no thread and touches
/// no file.
///
/// # Errors
/// What was lost, altered, out of order, or hung.
pub fn simulate(seed: u64) -> Result<Report, Failure> {
    simulate_with(seed, None)
}

/// The same with a bug in the log.
///
/// # Errors
/// As for [`simulate`]: the bug, if this run meets it.
pub fn simulate_with(seed: u64, bug: Option<Bug>) -> Result<Report, Failure> {
    let plan = plan(seed, bug);
    if let Ok(report) = attempt(&plan, bug, false) {
        return Ok(report);
    }
    let shorter = plan.shortened(|p| attempt(p, bug, false).is_err());
    match attempt(&shorter, bug, true) {
        Err((failure, trace)) => Err(Failure { trace, ..failure }),
        Ok(_) => {
            Err(Failure { seed, message: "a run that fails once and not twice".into(), trace: Vec::new() })
        }
    }
}

/// Whether the run of this seed fails; no time is spent on making it shorter.
pub fn fails(seed: u64, bug: Option<Bug>) -> bool {
    attempt(&plan(seed, bug), bug, false).is_err()
}

/// Bugs are looked for in plain records: the runs that find the rarest of them are known.
fn plan(seed: u64, bug: Option<Bug>) -> Plan {
    let plan = Plan::new(seed);
    if bug.is_some() { plan.plain() } else { plan }
}

fn attempt(plan: &Plan, bug: Option<Bug>, traced: bool) -> Result<Report, (Failure, Vec<String>)> {
    silence();
    let guard = Guard::new(bug, MOST_BYTES);
    let mut run = Run::new(plan, traced);
    let result = catch_unwind(AssertUnwindSafe(|| run.go(plan)));
    let (mut trace, report) = (std::mem::take(&mut run.trace), std::mem::take(&mut run.seen));
    // What the machine still holds goes while the thread is still a simulated one; a broken state may panic again.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(run)));
    drop(guard);
    match result {
        Ok(()) => Ok(report),
        Err(panic) => {
            let message = text_of(panic.as_ref());
            trace.insert(
                0,
                format!(
                    "{:?}, {:?}, {} in flight, {:?}",
                    plan.role, plan.durability, plan.in_flight, plan.policy
                ),
            );
            Err((Failure { seed: plan.seed, message, trace: Vec::new() }, trace))
        }
    }
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_else(|| "a panic".into())
}

/// A simulation that fails says so in its result, and is tried hundreds of times to make it shorter.
fn silence() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            // Threads that take turns end there, whoever looked first.
            #[cfg(all(test, not(loom), feature = "object-store"))]
            if crate::turns::on() {
                return before(info);
            }
            if simulated_clock().is_none() {
                before(info);
            }
        }));
    });
}
