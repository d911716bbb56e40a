//! Times of the homes that have no lock: how often marks are renewed, and when their writers count as gone.

use std::time::{Duration, Instant, SystemTime};

use crate::sync;

/// How long things take; divided by a number in tests that have less time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) driver_renewed: Duration,
    pub(crate) driver_live: Duration,
    pub(crate) writer_renewed: Duration,
    /// Age of a mark that makes a writer gone, and of an object that may be deleted.
    pub(crate) gone: Duration,
    /// A writer that has not renewed its mark, or looked for newer segments, for so long looks before it answers.
    pub(crate) overdue: Duration,
}

impl Times {
    pub(crate) fn divided_by(scale: u32) -> Times {
        let scale = scale.max(1);
        Times {
            driver_renewed: Duration::from_secs(5) / scale,
            // Stores tell times in seconds.
            driver_live: (Duration::from_secs(20) / scale).max(Duration::from_secs(3)),
            writer_renewed: Duration::from_secs(60) / scale,
            gone: Duration::from_secs(600) / scale,
            overdue: Duration::from_secs(300) / scale,
        }
    }
}

/// Time that has passed in the life of this process, counting that in which it, or the machine, stood still.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Since(Instant, SystemTime);

impl Since {
    pub(crate) fn now() -> Since {
        Since(sync::now(), sync::time_of_day())
    }

    pub(crate) fn elapsed(&self) -> Duration {
        let by_day = sync::time_of_day().duration_since(self.1).unwrap_or_default();
        sync::now().saturating_duration_since(self.0).max(by_day)
    }
}

/// Who holds a claim, for the message that another process prints.
pub(crate) fn signature() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("pid {} on {host}", std::process::id())
}
