//! Reading a log in write order, lazily.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use bytes::Bytes;

use super::{
    ahead::{Ahead, DISTANCE},
    analysis::{Analysis, Scope, SegmentState, analyse, is_simulated},
    recover::summarize,
    walk::{Found, Frame, Frames, GroupAt, LARGE, Payload, Walk, Window},
};
use crate::{
    codec::KeyRing,
    error::{Error, Result},
    format::{BLOCK, damaged_header, decode_header},
    options::Recovery,
    planted::planted,
    report::RecoveryReport,
    storage::Storage,
};

/// Segments that storage is told of before they are opened.
const SOON: usize = 32;

/// One writer's log to be scanned.
pub(crate) struct Source {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) scope: Scope,
    /// Records below this time were cleaned, whatever the log itself says.
    pub(crate) threshold: i64,
    /// Segments below this number were cleaned, as far as a writer of this process knows.
    pub(crate) low_water: Box<dyn Fn() -> u64 + Send>,
    /// Whether what is missing altogether was cleaned meanwhile.
    pub(crate) removed: Box<dyn Fn() -> Result<bool> + Send>,
    /// For records that are encrypted.
    pub(crate) keys: KeyRing,
    /// Where what was found is kept, if no writer has told yet.
    pub(crate) report: Arc<Mutex<Option<RecoveryReport>>>,
}

/// When a writer's first segment was made, in milliseconds since 1970; 0 if nothing says it.
pub(crate) fn began(storage: &dyn Storage) -> Result<u64> {
    began_from(storage, 0)
}

/// The same of its first segment from `id` on. Where that one's header is damaged it is believed, unless it says that it is
/// younger than the next one that is whole; otherwise that one's time is taken.
pub(crate) fn began_from(storage: &dyn Storage, id: u64) -> Result<u64> {
    let mut damaged = None;
    for listed in storage.list()?.into_iter().filter(|l| l.id >= id) {
        let mut block = vec![0; BLOCK as usize];
        let n = match storage.open(listed.id).and_then(|segment| segment.read(0, &mut block)) {
            Ok(n) => n,
            Err(e) if e.is_not_found() => continue,
            Err(e) => return Err(e),
        };
        let says = damaged_header(&block[..n]).map_or(0, |h| h.created);
        match decode_header(&block[..n]) {
            Ok(header) => {
                return Ok(damaged.filter(|d| (1..=header.created).contains(d)).unwrap_or(header.created));
            }
            Err(_) => _ = damaged.get_or_insert(says),
        }
    }
    Ok(damaged.filter(|d| *d <= super::wall_clock()).unwrap_or(0))
}

/// The records of a log in write order: for receivers writer by writer, in the order of their first segments.
///
/// Nothing is read before the first call of `next`, and everything is let go when the scan is exhausted or dropped.
/// After an error the scan ends.
pub struct Scan {
    sources: VecDeque<Source>,
    current: Option<Writer>,
    /// Who reads ahead; in a simulation nobody, so that one seed decides everything.
    ahead: Option<Arc<Ahead>>,
    policy: Recovery,
    skipped: u64,
    records: u64,
    /// What [`Scan::lend`] came to last.
    lent: Option<Payload>,
}

impl std::fmt::Debug for Scan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scan")
            .field("records", &self.records)
            .field("skipped", &self.skipped)
            .finish_non_exhaustive()
    }
}

/// Where the scan stands in one writer's log.
struct Writer {
    source: Source,
    analysis: Analysis,
    pending: VecDeque<SegmentState>,
    ahead: Option<Arc<Ahead>>,
    /// The next segment, with its stream's number and how much of it is asked for.
    begun: Option<(u64, u64, u64)>,
    segment: Option<(SegmentState, Walk)>,
    group: Option<(GroupAt, Frames)>,
    expected: Option<u64>,
    last_bad: Option<(u64, u64, String)>,
    /// Segments that should be there and are not, in order.
    lost: VecDeque<u64>,
    /// Damage that going through the segments would not meet: bad headers, a missing first segment.
    preface: VecDeque<Error>,
}

impl Scan {
    pub(crate) fn new(sources: Vec<Source>, policy: Recovery) -> Scan {
        let ahead = (!is_simulated()).then(Arc::default);
        Scan { sources: sources.into(), current: None, ahead, policy, skipped: 0, records: 0, lent: None }
    }

    /// Damaged places that were skipped so far (only under [`Recovery::Salvage`]).
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    fn advance(&mut self) -> Result<Option<Payload>> {
        loop {
            let Some(writer) = &mut self.current else {
                let Some(source) = self.sources.pop_front() else { return Ok(None) };
                self.current = Writer::open(source, self.policy, self.ahead.clone())?;
                continue;
            };
            match writer.advance()? {
                Some(Item::Record(payload)) => {
                    self.records += 1;
                    return Ok(Some(payload));
                }
                Some(Item::Damage(error)) => {
                    if self.policy != Recovery::Salvage {
                        return Err(error);
                    }
                    log::error!("skipped under salvage: {error}");
                    self.skipped += 1;
                }
                None => self.current = None,
            }
        }
    }

    /// Goes to the next record and tells its length, without a copy of it; `None` at the end. [`Scan::show`] has it until
    /// the scan goes on.
    ///
    /// # Errors
    /// As the iterator's. After an error the scan ends.
    pub fn lend(&mut self) -> Result<Option<usize>> {
        self.lent = self.go_on()?;
        Ok(self.lent.as_ref().map(Payload::len))
    }

    /// Shows the record that [`Scan::lend`] came to, once; `None` if there is none.
    ///
    /// # Errors
    /// None that a caller could bring about.
    pub fn show<T>(&mut self, show: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        let Some(payload) = self.lent.take() else { return Ok(None) };
        payload.bytes(self.window()).map(|record| Some(show(record)))
    }

    fn window(&self) -> Option<&Window> {
        self.current.as_ref()?.segment.as_ref().map(|(_, walk)| &walk.window)
    }

    /// The next record; lets go of everything where there is none.
    fn go_on(&mut self) -> Result<Option<Payload>> {
        self.lent = None;
        let next = self.advance();
        if !matches!(next, Ok(Some(_))) {
            self.sources.clear();
            self.current = None;
            self.ahead = None;
        }
        next
    }
}

impl Iterator for Scan {
    type Item = Result<Bytes>;

    fn next(&mut self) -> Option<Result<Bytes>> {
        let next = self.go_on();
        next.and_then(|p| p.map(|payload| payload.into_own(self.window())).transpose()).transpose()
    }
}

enum Item {
    Record(Payload),
    Damage(Error),
}

impl Writer {
    fn open(source: Source, policy: Recovery, ahead: Option<Arc<Ahead>>) -> Result<Option<Writer>> {
        let started = Instant::now();
        let mut analysis = analyse(source.storage.as_ref(), source.scope)?;
        if analysis.segments.is_empty() && analysis.newest == 0 {
            return Ok(None);
        }
        // The writer was cleaned as a whole: whatever a collector left that was cut short, with gaps or without, is
        // neither damage nor shown again.
        if (source.removed)()? && !planted!(CollectedReadsAsDamage) {
            return Ok(None);
        }
        if policy == Recovery::Salvage {
            analysis.refuse_foreign(source.scope.log)?;
        }
        let mut report = summarize(&analysis);
        report.took = started.elapsed();
        log::debug!("{report}");
        source.report.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(report);
        // Going through the segments would not meet a bad header; under strict, damage stops before the first record.
        let strict = source.scope.deep;
        let preface =
            analysis.corruptions().filter(|(f, _)| strict || f.offset == 0).map(|(_, e)| e).collect();
        let lost = analysis.missing().into();
        let current = analysis.generation;
        let pending: VecDeque<SegmentState> =
            std::mem::take(&mut analysis.segments).into_iter().filter(|s| s.generation == current).collect();
        // A key that is missing is told before the first record, and not in the middle of a replay.
        let threshold = source.threshold.max(analysis.threshold);
        pending.iter().try_for_each(|s| s.admit(&source.keys, threshold, analysis.end, &analysis.place))?;
        let expected = (analysis.first > 0).then_some(analysis.first);
        // A short log is read before threads for it are there.
        let length: u64 = pending.iter().map(|s| s.listed.length).sum();
        let ahead = ahead.filter(|_| length >= LARGE && source.storage.traits().fetches);
        Ok(Some(Writer {
            source,
            analysis,
            pending,
            ahead,
            begun: None,
            segment: None,
            group: None,
            expected,
            last_bad: None,
            lost,
            preface,
        }))
    }

    fn advance(&mut self) -> Result<Option<Item>> {
        if let Some(error) = self.preface.pop_front() {
            return Ok(Some(Item::Damage(error)));
        }
        loop {
            if let Some(item) = self.next_in_group()? {
                if self.passed_by(&item)? {
                    continue;
                }
                return Ok(Some(item));
            }
            if let Some(item) = self.next_in_segment()? {
                if self.passed_by(&item)? {
                    continue;
                }
                return Ok(Some(item));
            }
            if self.group.is_some() || self.segment.is_some() {
                continue;
            }
            if self.segment.is_none() {
                let soon: Vec<u64> = self.pending.iter().take(SOON).map(|s| s.listed.id).collect();
                self.source.storage.expect(&soon);
            }
            let Some(state) = self.pending.pop_front() else { return Ok(self.at_the_end()) };
            self.expected = self.expected.or(state.base());
            match self.source.storage.open(state.listed.id) {
                Ok(reader) => {
                    let walk = Walk::new(reader, state.place, state.block, false)?;
                    let mut walk = walk.until(state.groups_end());
                    if let Some(ahead) = &self.ahead {
                        let begun = self.begun.take().filter(|(id, ..)| *id == state.listed.id);
                        let (_, stream, from) = begun.unwrap_or_else(|| (0, ahead.stream(), 0));
                        walk = walk.with(ahead, stream, from);
                    }
                    self.segment = Some((state, walk));
                }
                // Prepared and never written to: its writer was closed meanwhile.
                Err(e) if e.is_not_found() && state.is_empty() && !planted!(EmptySegmentMustStay) => {}
                Err(e) if e.is_not_found() && self.was_cleaned(state.listed.id)? => {
                    // What it held is no gap.
                    self.expected = None;
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Whether what looks like damage is a segment that was cleaned, and its file used again, while it was read. Then the
    /// scan goes on behind it.
    fn passed_by(&mut self, item: &Item) -> Result<bool> {
        let (Item::Damage(_), Some((state, _))) = (item, &self.segment) else { return Ok(false) };
        let id = state.listed.id;
        match self.source.storage.open(id) {
            Err(e) if e.is_not_found() && self.was_cleaned(id)? => {
                (self.segment, self.group, self.expected, self.last_bad) = (None, None, None, None);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Whether a segment that is not there was cleaned since the scan began: the low-water mark proves it.
    fn was_cleaned(&self, id: u64) -> Result<bool> {
        if (self.source.low_water)() > id || (self.source.removed)()? {
            return Ok(true);
        }
        // The mark is newer than what this scan is limited to.
        let scope = Scope { limit: None, settle: false, ..self.source.scope };
        Ok(analyse(self.source.storage.as_ref(), scope)?.low_water > id)
    }

    fn next_in_group(&mut self) -> Result<Option<Item>> {
        let Some((state, walk)) = &mut self.segment else { return Ok(None) };
        let Some((group, frames)) = &mut self.group else { return Ok(None) };
        let threshold = self.source.threshold.max(self.analysis.threshold);
        // Where a header says that all of its records were cleaned, they are only checked.
        let keys = Some(&self.source.keys).filter(|_| group.header.max_time >= threshold);
        loop {
            let at = frames.at();
            let Some(frame) = frames.next(&mut walk.window, &state.place, keys)? else { break };
            match frame {
                // No writer says so, and nothing but its header was looked at.
                Frame::Record { time, .. } if time >= threshold && keys.is_none() => {
                    return Ok(Some(Item::Damage(Error::Corrupt {
                        place: self.analysis.place.clone(),
                        segment: state.listed.id,
                        offset: at,
                        detail: "a record that is newer than its group's header says".into(),
                    })));
                }
                Frame::Record { time, payload, .. } if time >= threshold => {
                    return Ok(Some(Item::Record(payload)));
                }
                Frame::Closed { time, error } if time >= threshold => return Err(error),
                Frame::Record { .. } | Frame::Closed { .. } | Frame::Void => {}
                Frame::Bad { offset, detail } => {
                    return Ok(Some(Item::Damage(Error::Corrupt {
                        place: self.analysis.place.clone(),
                        segment: state.listed.id,
                        offset,
                        detail,
                    })));
                }
            }
        }
        self.group = None;
        Ok(None)
    }

    /// Goes on reading ahead in the next segment where all of this one is asked for, so that the device does not wait for
    /// the end of each.
    fn begin_next(&mut self) {
        let (Some(ahead), Some(next)) = (&self.ahead, self.pending.front()) else { return };
        let id = next.listed.id;
        let asked_for = self.segment.as_ref().is_some_and(|(_, walk)| walk.is_all_asked_for());
        if !asked_for || self.begun.is_some_and(|(begun, ..)| begun == id) {
            return;
        }
        // Whatever is wrong with it is met in its turn.
        let opened = self.source.storage.open(id).and_then(|reader| Ok((reader.size()?, reader)));
        let stream = ahead.stream();
        let end = |size: u64| size.min(next.groups_end());
        let from = match opened {
            Ok((size, reader)) if end(size) >= LARGE => {
                ahead.want(stream, &reader, 0..DISTANCE.min(end(size)))
            }
            _ => 0,
        };
        self.begun = Some((id, stream, from));
    }

    fn next_in_segment(&mut self) -> Result<Option<Item>> {
        self.begin_next();
        let Some((state, walk)) = &mut self.segment else { return Ok(None) };
        let limit = state.void_from.min(self.analysis.end);
        while let Some(found) = walk.next()? {
            match found {
                Found::Group(group) => {
                    let sequence = group.header.sequence;
                    if sequence >= limit || self.expected.is_some_and(|e| sequence < e) {
                        continue;
                    }
                    let missing = sequence - self.expected.unwrap_or(sequence);
                    self.expected = Some(sequence + 1);
                    self.group = Some((group, Frames::new(&group)));
                    let bad = self.last_bad.take();
                    if missing > 0 {
                        let id = state.listed.id;
                        let lost = self.lost.iter().find(|l| **l < id).copied();
                        self.lost.retain(|l| *l > id);
                        let bad = bad.or(lost.map(a_lost_segment));
                        let (id, offset, detail) = bad.unwrap_or((
                            state.listed.id,
                            group.offset,
                            "the bytes before this group are missing".into(),
                        ));
                        return Ok(Some(self.damage(id, offset, missing, &detail)));
                    }
                    return Ok(None);
                }
                Found::Bad { offset, detail, .. } => {
                    self.last_bad.get_or_insert((state.listed.id, offset, detail));
                }
                Found::Footer(_) => {}
            }
        }
        self.segment = None;
        Ok(None)
    }

    /// Everything was read: is something missing at the end?
    fn at_the_end(&mut self) -> Option<Item> {
        let end = self.analysis.end;
        let reached = self.expected.replace(end).unwrap_or(end);
        (reached < end).then(|| {
            let lost = self.lost.front().copied();
            let bad = self.last_bad.take().or(lost.map(a_lost_segment));
            let (id, offset, detail) =
                bad.unwrap_or((self.analysis.newest, 0, "the bytes are missing".into()));
            self.damage(id, offset, end - reached, &detail)
        })
    }

    fn damage(&self, segment: u64, offset: u64, groups: u64, detail: &str) -> Item {
        let detail = match groups {
            1 => format!("one acknowledged group is not readable: {detail}"),
            n => format!("{n} acknowledged groups are not readable: {detail}"),
        };
        Item::Damage(Error::Corrupt { place: self.analysis.place.clone(), segment, offset, detail })
    }
}

/// Where a segment's first group should be.
fn a_lost_segment(id: u64) -> (u64, u64, String) {
    (id, u64::from(BLOCK), "the segment is missing".into())
}
