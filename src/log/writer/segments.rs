//! The segments of one writer, oldest first: which one is written, which are to be sealed, which may go.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::core::{Op, Unsealed, Written};
use crate::{
    format::{Footer, Place},
    planted::planted,
    storage::{Poisoned, SegmentWrite},
    sync::Arc,
};

/// The first segment of a log is this small; sizes double from here.
const FIRST: u64 = 1 << 20;

/// A segment with no more than this share of it unused keeps its size when it is sealed,
const KEEP_SHARE: u64 = 8;
/// and with this one if a group did not fit.
const KEEP_SHARE_FULL: u64 = 2;

/// What may be done with a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Takes groups.
    Active,
    /// Takes no more, and has no footer yet.
    Retired,
    Sealing,
    Sealed,
    /// A write or barrier failed: never written again, not even a footer.
    Poisoned,
    /// Below the low-water mark that is on its way to the device.
    Doomed,
}

/// One segment, as its writer knows it.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) place: Place,
    pub(crate) write: Option<Arc<Poisoned>>,
    pub(crate) size: u64,
    /// Where the next group goes.
    pub(crate) end: u64,
    pub(crate) first_time: Option<i64>,
    /// Largest record time submitted.
    pub(crate) running_max: i64,
    pub(crate) state: State,
    /// Sequence of the first group submitted; 0 before there is one, and in segments of earlier generations.
    pub(crate) base: u64,
    /// Groups that were ever on their way here.
    pub(crate) submitted: u32,
    groups: u64,
    records: u64,
    bytes: u64,
    next: u64,
    min_time: i64,
    max_time: i64,
    flying: u32,
    /// Whether it was left because a group did not fit, and when.
    full: bool,
    retired: Option<Instant>,
    /// Whether a write or barrier failed here.
    tainted: bool,
}

impl Segment {
    /// A segment that recovery found, sealed.
    pub(crate) fn recovered(place: Place, size: u64, max_time: i64, base: u64) -> Segment {
        Segment { state: State::Sealed, max_time, base, ..Segment::new(place, None, size, size) }
    }

    fn new(place: Place, write: Option<Arc<Poisoned>>, size: u64, end: u64) -> Segment {
        Segment {
            place,
            write,
            size,
            end,
            first_time: None,
            running_max: i64::MIN,
            state: State::Active,
            base: 0,
            submitted: 0,
            groups: 0,
            records: 0,
            bytes: 0,
            next: 0,
            min_time: i64::MAX,
            max_time: i64::MIN,
            flying: 0,
            full: false,
            retired: None,
            tainted: false,
        }
    }
}

/// All segments of one writer.
#[derive(Debug)]
pub(crate) struct Segments {
    log: uuid::Uuid,
    writer: uuid::Uuid,
    list: VecDeque<Segment>,
    next_id: u64,
    low_water: u64,
    wish: u64,
    /// How long the last segment took to fill, and its bytes.
    pace: Option<(Duration, u64)>,
    /// What every group's header says of all segments: since they last changed. There may be ten thousand.
    bounds: Option<Bounds>,
}

/// The oldest groups.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// Sequence of the oldest one that counts.
    first: Option<u64>,
    /// And of the oldest one in a segment without a footer.
    open: Option<u64>,
}

impl Segments {
    /// `list` is what recovery found, oldest first.
    pub(crate) fn new(
        log: uuid::Uuid,
        writer: uuid::Uuid,
        list: Vec<Segment>,
        next_id: u64,
        low_water: u64,
    ) -> Segments {
        Segments { log, writer, list: list.into(), next_id, low_water, wish: FIRST, pace: None, bounds: None }
    }

    /// A number that no segment of this log ever had.
    pub(crate) fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    /// The number that was taken last was not used.
    pub(crate) fn give_back(&mut self, id: u64) {
        if self.next_id == id + 1 {
            self.next_id = id;
        }
    }

    pub(crate) fn low_water(&self) -> u64 {
        self.low_water
    }

    fn bounds(&mut self) -> Bounds {
        // Not simply those of the oldest segment: groups that were sent again have smaller sequences than those that
        // were on their way behind them to a segment before.
        let counts = |s: &&Segment| s.base > 0 && s.state != State::Doomed;
        let list = &self.list;
        *self.bounds.get_or_insert_with(|| Bounds {
            first: list.iter().filter(counts).map(|s| s.base).min(),
            open: list.iter().filter(counts).filter(|s| s.state != State::Sealed).map(|s| s.base).min(),
        })
    }

    /// The sequence of the oldest group that counts, if there is one yet.
    pub(crate) fn first_sequence(&mut self) -> Option<u64> {
        self.bounds().first
    }

    /// The sequence below which everything lies in segments that are sealed, and so durable whatever the barriers.
    pub(crate) fn synced(&mut self, acked: u64) -> u64 {
        self.bounds().open.map_or(acked, |open| open.min(acked))
    }

    /// Whether a segment is surely there. Where segments come into being with their first group (`deferred`), that is when
    /// one was acknowledged; all before it are there, too.
    fn is_there(&self, segment: &Segment, deferred: bool) -> bool {
        !deferred || segment.groups > 0 || segment.place.writer != self.writer
    }

    /// Number of the newest segment of this generation: one that this writer used, or that holds groups that count, and that
    /// is surely there.
    pub(crate) fn newest_of_generation(&self, deferred: bool) -> u64 {
        let ours = |s: &&Segment| {
            let written = s.base > 0 || s.place.writer == self.writer;
            written && self.is_there(s, deferred)
        };
        self.list.iter().rev().find(ours).map_or(0, |s| s.place.segment)
    }

    /// The size that the next segment should have.
    pub(crate) fn wish(&self, most: u64) -> u64 {
        self.wish.min(most)
    }

    /// What is active was written for so long, and is full, or old.
    pub(crate) fn note_pace(&mut self, filled: Duration) {
        self.pace = self.active().map(|active| (filled, active.end.max(1)));
    }

    /// When the segment after the active one will be needed, if its writers go on as before.
    pub(crate) fn within(&self) -> Duration {
        let (Some((filled, bytes)), Some(active)) = (self.pace, self.active()) else { return Duration::MAX };
        let left = active.size.saturating_sub(active.end);
        Duration::from_secs_f64((filled.as_secs_f64() * left as f64 / bytes as f64).min(1e9))
    }

    pub(crate) fn active(&self) -> Option<&Segment> {
        self.list.back().filter(|s| s.state == State::Active)
    }

    fn active_mut(&mut self) -> Option<&mut Segment> {
        self.list.back_mut().filter(|s| s.state == State::Active)
    }

    /// Gives a group its place in the active segment: what the segment is after that, and the group's offset.
    pub(crate) fn place_group(
        &mut self,
        sequence: u64,
        footprint: u64,
        max_time: i64,
    ) -> Option<(&Segment, u64)> {
        let active = self.list.back_mut().filter(|s| s.state == State::Active)?;
        let offset = active.end;
        if active.base == 0 {
            active.base = sequence;
            self.bounds = None;
        }
        active.end += footprint;
        active.flying += 1;
        active.submitted = active.submitted.saturating_add(1);
        if max_time != i64::MIN {
            active.first_time.get_or_insert(max_time);
            active.running_max = active.running_max.max(max_time);
        }
        Some((active, offset))
    }

    /// Begins to write to a prepared segment.
    pub(crate) fn activate(&mut self, id: u64, write: Arc<Poisoned>, block: u64) {
        let place = Place { log: self.log, writer: self.writer, segment: id };
        let size = write.size();
        if self.list.is_empty() && self.low_water == 0 {
            self.low_water = id;
        }
        // What is prepared next doubles what is used now.
        self.wish = self.wish.max(size.saturating_mul(2).min(1 << 40));
        self.list.push_back(Segment::new(place, Some(write), size, block));
    }

    /// Ends writing to the active segment: because a group does not fit (`full`), or for its age, or for good.
    pub(crate) fn retire(&mut self, now: Instant, full: bool) {
        let Some(active) = self.active_mut() else { return };
        active.state = State::Retired;
        active.full = full;
        active.retired = Some(now);
        // One that was left nearly empty (by time) asks for smaller ones.
        if !full && active.end < active.size / 4 {
            self.wish = (self.wish / 4).max(FIRST);
        }
    }

    fn find(&mut self, id: u64) -> Option<&mut Segment> {
        self.list.iter_mut().rev().find(|s| s.place.segment == id)
    }

    /// Nothing is written to this segment any more. Gives whether that is new.
    pub(crate) fn poison(&mut self, id: u64) -> bool {
        let Some(segment) = self.find(id) else { return false };
        segment.write = None;
        segment.flying = 0;
        segment.tainted = true;
        // One that is on its way out stays so: the low-water mark is above it already.
        let new = !matches!(segment.state, State::Poisoned | State::Doomed);
        if new {
            segment.state = State::Poisoned;
        }
        self.bounds = None;
        new
    }

    /// A group of this segment is durable and answered.
    pub(crate) fn acknowledge(&mut self, id: u64, sequence: u64, written: &Written) {
        let Some(segment) = self.find(id) else { return };
        segment.flying = segment.flying.saturating_sub(1);
        segment.groups += 1;
        segment.next = sequence + 1;
        segment.records += written.records;
        segment.bytes += written.bytes;
        if written.records > 0 {
            segment.min_time = segment.min_time.min(written.min_time);
            segment.max_time = segment.max_time.max(written.max_time);
        }
    }

    /// When the oldest segment is to be sealed: so long `after` it was left, or at once if more wait for that than `most`.
    pub(crate) fn seal_due(&self, after: Duration, most: Unsealed) -> Option<Instant> {
        let mut retired = self.list.iter().filter(|s| s.state == State::Retired).peekable();
        let oldest = retired.peek()?.retired?;
        let mut found = Unsealed::default();
        for segment in retired {
            found.bytes += segment.end;
            found.groups += u64::from(segment.submitted);
            found.segments += 1;
        }
        let many = found.bytes > most.bytes || found.groups > most.groups || found.segments > most.segments;
        Some(if many { oldest } else { oldest + after })
    }

    /// The oldest segment that needs a footer, to be sealed: with what the footer says and where it goes.
    pub(crate) fn next_to_seal(
        &mut self,
        durable: u64,
        threshold: i64,
        block: u32,
        preallocated: bool,
    ) -> Option<Op> {
        let low_water = self.low_water;
        let oldest = self.first_sequence().unwrap_or(0);
        let still = |s: &Segment| s.flying == 0 || planted!(SealInFlight);
        let segment = self.list.iter_mut().find(|s| s.state == State::Retired && still(s))?;
        segment.state = State::Sealing;
        let written = segment.write.take();
        // What is named here counts as durable, and without barriers that is not all that is acknowledged.
        let (base, next) = match segment.groups {
            0 => (durable, durable),
            _ => (segment.base, segment.next),
        };
        let footer = Footer {
            end: segment.end,
            groups: segment.groups,
            records: segment.records,
            bytes: segment.bytes,
            base,
            next,
            min_time: segment.min_time,
            max_time: segment.max_time,
            watermark: durable,
            threshold,
            low_water,
            first: oldest,
            sealed: 0,
        };
        // A segment that is full keeps its size, to be used again, whatever large record it had no room for; of another
        // the rest is given back.
        let last_block = segment.size.saturating_sub(u64::from(block)).max(segment.end);
        let unused = segment.size - segment.end.min(segment.size);
        let full =
            preallocated && unused <= segment.size / if segment.full { KEEP_SHARE_FULL } else { KEEP_SHARE };
        let at = if full { last_block } else { segment.end };
        Some(Op::Seal { place: segment.place, footer, at, segment: written })
    }

    /// How sealing went. A footer that could not be written is not tried again: the segment is whole without it.
    pub(crate) fn sealed(&mut self, id: u64, well: bool) {
        if let Some(segment) = self.find(id) {
            segment.state = if well { State::Sealed } else { State::Poisoned };
            segment.tainted |= !well;
            self.bounds = None;
        }
    }

    /// Marks what lies wholly below `threshold` for deletion, oldest first, and raises the low-water mark. The newest
    /// segment that is surely there always stays: the mark names one that anybody can find. `unsealed`: those without a footer
    /// may go, too.
    pub(crate) fn doom(&mut self, threshold: i64, deferred: bool, unsealed: bool) -> bool {
        let mut any = false;
        let newest = self.list.iter().rposition(|s| self.is_there(s, deferred)).unwrap_or(0);
        for i in 0..newest {
            let next_id = self.list[i + 1].place.segment;
            let segment = &mut self.list[i];
            let done = matches!(segment.state, State::Sealed | State::Poisoned)
                || unsealed && segment.state == State::Retired;
            let done = done && segment.flying == 0;
            if segment.state != State::Doomed {
                let newest = if planted!(CleanByMinTime) { segment.min_time } else { segment.max_time };
                if !done || newest >= threshold {
                    break;
                }
                segment.state = State::Doomed;
            }
            self.low_water = self.low_water.max(next_id);
            any = true;
        }
        self.bounds = None;
        any
    }

    pub(crate) fn doomed(&self) -> Vec<u64> {
        self.list.iter().take_while(|s| s.state == State::Doomed).map(|s| s.place.segment).collect()
    }

    /// The files of the doomed that are still open, to be closed without the lock.
    pub(crate) fn let_go(&mut self) -> Vec<Arc<Poisoned>> {
        let doomed = self.list.iter_mut().take_while(|s| s.state == State::Doomed);
        doomed.filter_map(|s| s.write.take()).collect()
    }

    /// Those of the doomed to which a write or barrier failed: their files are not used again.
    pub(crate) fn tainted(&self) -> Vec<u64> {
        let doomed = self.list.iter().take_while(|s| s.state == State::Doomed);
        doomed.filter(|s| s.tainted).map(|s| s.place.segment).collect()
    }

    /// Segments that there are.
    pub(crate) fn count(&self) -> u64 {
        self.list.len() as u64
    }

    pub(crate) fn deleted(&mut self, ids: &[u64]) {
        self.list.retain(|s| !(s.state == State::Doomed && ids.contains(&s.place.segment)));
    }
}
