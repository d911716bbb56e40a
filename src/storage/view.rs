//! A storage of which segments are opened in another way: what tools look through.

use std::{fmt, sync::Arc};

use super::{Header, Listed, SegmentRead, SegmentWrite, Space, Storage, Traits};
use crate::error::Result;

/// What takes the place of a segment that was opened, or could not be.
type Opened = dyn Fn(u64, Result<Arc<dyn SegmentRead>>) -> Result<Arc<dyn SegmentRead>> + Send + Sync;

/// The same segments, read through something.
pub(crate) struct View {
    storage: Arc<dyn Storage>,
    opened: Box<Opened>,
}

impl View {
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        opened: impl Fn(u64, Result<Arc<dyn SegmentRead>>) -> Result<Arc<dyn SegmentRead>> + Send + Sync + 'static,
    ) -> View {
        View { storage, opened: Box::new(opened) }
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("View").field(&self.storage).finish()
    }
}

impl Storage for View {
    fn traits(&self) -> Traits {
        self.storage.traits()
    }
    fn place(&self) -> String {
        self.storage.place()
    }
    fn list(&self) -> Result<Vec<Listed>> {
        self.storage.list()
    }
    fn create(&self, id: u64, space: Space, header: &Header<'_>) -> Result<Box<dyn SegmentWrite>> {
        self.storage.create(id, space, header)
    }
    fn open(&self, id: u64) -> Result<Arc<dyn SegmentRead>> {
        (self.opened)(id, self.storage.open(id))
    }
    fn expect(&self, ids: &[u64]) {
        self.storage.expect(ids);
    }
    fn seal(&self, id: u64, at: u64, footer: &[u8]) -> Result<()> {
        self.storage.seal(id, at, footer)
    }
    fn delete(&self, ids: &[u64]) -> Result<()> {
        self.storage.delete(ids)
    }
    fn drop_spares(&self) -> Result<()> {
        self.storage.drop_spares()
    }
    fn keep_reserve(&self) -> Result<()> {
        self.storage.keep_reserve()
    }
}
