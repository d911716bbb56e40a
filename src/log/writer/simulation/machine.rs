//! The simulated storage for other programs' tests.

use std::{sync::Arc, time::Duration};

use crate::{
    error::Result,
    log::Log,
    options::{Options, Role},
    storage::sim::{Faults, World},
};

/// A machine with one application's directory on it, whose power can be cut. Logs on it have real threads, so what
/// happens is not decided by the seed alone; what a power cut keeps is.
#[derive(Debug)]
pub struct Machine(World);

impl Machine {
    /// A machine that is empty.
    pub fn new(seed: u64) -> Machine {
        Machine(World::new(seed, 1))
    }

    /// Options for a log on it: no grace, nothing lingers. The directory is a name only.
    pub fn options(&self, role: Role) -> Options {
        let mut options = Options::new("/simulated", role);
        options.clean_grace = Duration::ZERO;
        options.linger = Duration::ZERO;
        options
    }

    /// Opens a log on it, that shares nothing with others of this process.
    ///
    /// # Errors
    /// As for [`Log::open`].
    pub fn open(&self, options: Options) -> Result<Log> {
        Log::open_in(options, Arc::new(self.0.clone()))
    }

    /// From here on operations fail as often as this says.
    pub fn set_faults(&self, faults: Faults) {
        self.0.set_faults(faults);
    }

    /// The power goes, and the machine starts again without its faults: what was not synced is kept in part, or not at
    /// all. Logs that were open can be read and dropped; whatever else they do fails.
    pub fn cut_power(&mut self) {
        self.0.restart();
    }

    /// The process is killed: what was written stays. Logs that were open do nothing more, as after a power cut.
    pub fn kill(&mut self) {
        self.0.take_over();
    }
}
