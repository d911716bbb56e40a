//! One failed write poisons a segment for ever, here, where no caller can forget it (the idea of redb's CheckedBackend).

use std::{
    io::IoSlice,
    sync::atomic::{AtomicBool, Ordering},
};

use super::{Barrier, SegmentWrite};
use crate::{
    error::{Error, Result},
    planted::planted,
};

/// Wraps a segment and latches its first failure.
#[derive(Debug)]
pub(crate) struct Poisoned {
    inner: Box<dyn SegmentWrite>,
    failed: AtomicBool,
}

impl Poisoned {
    pub(crate) fn new(inner: Box<dyn SegmentWrite>) -> Poisoned {
        Poisoned { inner, failed: AtomicBool::new(false) }
    }
}

impl SegmentWrite for Poisoned {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn write(&self, offset: u64, bytes: &mut [IoSlice<'_>], barrier: Barrier) -> Result<()> {
        if self.failed.load(Ordering::Acquire) {
            let why = std::io::Error::other(
                "an earlier write or barrier of this segment failed, and none is retried",
            );
            return Err(Error::io("write to", "a poisoned segment", why));
        }
        // Latched before the call and released after a success would let a second write slip past a failing first one
        // no less than this does: writes that run at once each return their own error, and none is acknowledged out
        // of order.
        let mut result = self.inner.write(offset, bytes, barrier);
        if planted!(RetryBarrier) && result.is_err() && barrier == Barrier::Yes {
            result = self.inner.write(offset, &mut [], barrier);
        }
        if result.is_err() {
            self.failed.store(true, Ordering::Release);
        }
        result
    }
}
