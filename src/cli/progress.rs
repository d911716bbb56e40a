//! How far a command is that reads much: a bar on standard error, where that is a terminal.

use std::{sync::Arc, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{
    error::Result,
    storage::{SegmentRead, Storage, View},
};

/// Counts the bytes that are read.
#[derive(Debug, Clone)]
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// A bar that knows how much there is once [`Progress::expect`] says so.
    pub(super) fn new(what: &'static str) -> Progress {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(4));
        let style = "{msg} {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        bar.set_message(what);
        bar.enable_steady_tick(Duration::from_millis(500));
        Progress(bar)
    }

    pub(super) fn expect(&self, bytes: u64) {
        self.0.inc_length(bytes);
    }

    pub(super) fn done(&self, bytes: u64) {
        self.0.inc(bytes);
    }

    pub(super) fn bytes(&self) -> u64 {
        self.0.position()
    }

    pub(super) fn end(&self) {
        self.0.finish_and_clear();
    }

    /// A storage whose readers are counted.
    pub(super) fn counting(&self, storage: Arc<dyn Storage>) -> Arc<dyn Storage> {
        let progress = self.clone();
        Arc::new(View::new(storage, move |_, opened| Ok(Arc::new(CountingReader(opened?, progress.clone())))))
    }
}

#[derive(Debug)]
struct CountingReader(Arc<dyn SegmentRead>, Progress);

impl SegmentRead for CountingReader {
    fn size(&self) -> Result<u64> {
        self.0.size()
    }
    fn read(&self, offset: u64, into: &mut [u8]) -> Result<usize> {
        let n = self.0.read(offset, into)?;
        self.1.done(n as u64);
        Ok(n)
    }
    fn read_through(&self, offset: u64, into: &mut [u8]) -> Result<usize> {
        let n = self.0.read_through(offset, into)?;
        self.1.done(n as u64);
        Ok(n)
    }
    fn in_parallel(&self) -> bool {
        self.0.in_parallel()
    }
    fn read_two(&self, offset: u64, head: &mut [u8], body: &mut [u8]) -> Result<usize> {
        let n = self.0.read_two(offset, head, body)?;
        self.1.done(n as u64);
        Ok(n)
    }
    fn expect(&self, offset: u64, length: u64) {
        self.0.expect(offset, length);
    }
    fn settle(&self) -> Result<()> {
        self.0.settle()
    }
}
