//! One failed write poisons a segment for ever, here, where no caller can forget it (the idea of redb's CheckedBackend).

use std::{io::IoSlice, sync::OnceLock};

use super::{Barrier, SegmentWrite};
use crate::{
    error::{Error, Result},
    planted::planted,
};

/// Wraps a segment and latches its first failure.
#[derive(Debug)]
pub(crate) struct Poisoned {
    inner: Box<dyn SegmentWrite>,
    failed: OnceLock<Error>,
}

impl Poisoned {
    pub(crate) fn new(inner: Box<dyn SegmentWrite>) -> Poisoned {
        Poisoned { inner, failed: OnceLock::new() }
    }
}

impl SegmentWrite for Poisoned {
    fn size(&self) -> u64 {
        self.inner.size()
    }

    fn write(&self, offset: u64, bytes: &mut [IoSlice<'_>], barrier: Barrier) -> Result<()> {
        // The first failure's own error: whoever comes after it must know whether the volume is full.
        if let Some(error) = self.failed.get() {
            return Err(error.clone());
        }
        // Latched before the call and released after a success would let a second write slip past a failing first one
        // no less than this does: writes that run at once each return their own error, and none is acknowledged out
        // of order.
        let mut result = self.inner.write(offset, bytes, barrier);
        if planted!(RetryBarrier) && result.is_err() && barrier == Barrier::Yes {
            result = self.inner.write(offset, &mut [], barrier);
        }
        if let Err(error) = &result {
            let _first_counts = self.failed.set(error.clone());
        }
        result
    }
}
