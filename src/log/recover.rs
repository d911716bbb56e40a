//! Opening a log for writing: decide by policy, keep damaged bytes aside, fix the length of what earlier writers left.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::{
    analysis::{Analysis, Content, Scope, SegmentState, analyse},
    walk::Window,
    writer::segments::Segment,
};
use crate::{
    codec::KeyRing,
    error::{Error, Result},
    format::{BLOCK, Coding, Footer, Past, Place, SegmentHeader, decode_header},
    metrics::{Metrics, add},
    options::{Recovery, Role},
    planted::planted,
    report::RecoveryReport,
    storage::{Home, Preallocate, SegmentWrite, Space, Storage, Which},
};

/// What a new writer goes on from.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) segments: Vec<Segment>,
    pub(crate) next_id: u64,
    pub(crate) sequence: u64,
    pub(crate) generation: u64,
    pub(crate) epoch: u64,
    pub(crate) threshold: i64,
    pub(crate) low_water: u64,
    /// A segment that is there for the first group.
    pub(crate) ready: Option<(u64, Box<dyn SegmentWrite>)>,
    pub(crate) report: RecoveryReport,
}

/// A segment by which a writer keeps older ones out, where no lock does.
#[derive(Debug)]
pub(crate) struct Fence {
    pub(crate) id: u64,
    pub(crate) epoch: u64,
    /// If groups may be written to it.
    pub(crate) segment: Option<Box<dyn SegmentWrite>>,
}

/// Tries of [`raise`]: each that fails shows that somebody else made a segment meanwhile.
const MOST_RACES: usize = 100;

/// Takes the log for a new writer: makes the next segment, exclusively. An older writer finds its next segment taken, and
/// what it wrote before is all that it ever acknowledged. Only then may anything be concluded from the older segments.
pub(crate) fn raise(storage: &dyn Storage, log: Uuid, writer: Uuid, coding: Coding) -> Result<Fence> {
    let mut last = None;
    for _ in 0..MOST_RACES {
        let newest = storage.list()?.last().map_or(0, |l| l.id);
        let (mut epoch, mut generation) = (0, 1);
        if newest > 0 {
            match newest_header(storage, newest, log)? {
                Some(header) => (epoch, generation) = (header.epoch, header.generation),
                None => {
                    let found = analyse(storage, Scope { log, ..Scope::default() })?;
                    (epoch, generation) = (found.epoch, found.generation);
                }
            }
        }
        let (id, epoch) = (newest + 1, epoch + 1);
        let place = Place { log, writer, segment: id };
        let past = Past { previous: 0, ..Past::UNKNOWN };
        // Groups may follow it, and are padded as the header says.
        let pad = storage.traits().pad;
        let header =
            SegmentHeader::new(&place, generation, epoch, super::creation_time(), pad, past).coded(coding);
        let space = Space {
            wish: 1 << 20,
            least: 0,
            how: Preallocate::Reserved,
            within: Duration::ZERO,
            urgent: true,
            frees: false,
        };
        match storage.fence(id, space, &|recycled| header.recycled(recycled).encode()) {
            Ok(segment) => return Ok(Fence { id, epoch, segment }),
            Err(e) if e.is_exists() => last = Some(e),
            Err(e) => return Err(e),
        }
    }
    Err(last.unwrap_or_else(|| Error::Internal("no fence was tried".into())))
}

fn newest_header(storage: &dyn Storage, id: u64, log: Uuid) -> Result<Option<SegmentHeader>> {
    let mut block = vec![0; BLOCK as usize];
    match storage.open(id).and_then(|reader| reader.read(0, &mut block)) {
        Ok(n) => {
            Ok(decode_header(&block[..n]).ok().filter(|h| h.place().log == log && h.place().segment == id))
        }
        // Cleaned since the listing.
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => Err(e),
    }
}

/// Recovers `which` for writing. The claim must be held.
pub(crate) fn recover(
    home: &dyn Home,
    storage: &dyn Storage,
    which: Which,
    (policy, keys): (Recovery, &KeyRing),
    scope: Scope,
    (fresh, fence): (bool, Option<Fence>),
) -> Result<Recovered> {
    let began = Instant::now();
    let scope = Scope { deep: policy == Recovery::Strict, settle: true, ..scope };
    let analysis = analyse(storage, scope)?;
    // Where a fence is all that a segment is, what lies behind it is another's, who raised a fence after it: of two that begin
    // at once, this one gives way. (In HDFS it may be a file that was begun and never used.)
    if fence.as_ref().is_some_and(|f| f.segment.is_none() && analysis.newest > f.id) {
        return Err(Error::Fenced {
            place: analysis.place.clone(),
            detail: format!("segment {} is behind this writer's own fence", analysis.newest),
        });
    }
    if policy == Recovery::Salvage {
        analysis.refuse_foreign(scope.log)?;
    } else if let Some((_, corruption)) = analysis.corruptions().next() {
        return Err(corruption);
    }
    // A threshold that was carried without any record left is of the old clock, too.
    let begins = fresh && (analysis.has_records() || analysis.threshold > i64::MIN);
    // Before anything is changed. Without it recovery needs no key; and what is set aside is never read.
    if keys.is_required() && !begins {
        let mut current = analysis.segments.iter().filter(|s| s.generation == analysis.generation);
        current.try_for_each(|s| s.admit(keys, analysis.threshold, analysis.end, &analysis.place))?;
    }
    // Whoever was killed may have left names that are not durable yet, and what follows rests on what was found under
    // them: a low-water mark must not be lost after what lies below it.
    if !planted!(ActOnUnsyncedNames) {
        storage.delete(&[])?;
    }
    // A crash between the mark and the deletes leaves what nobody else would look at again.
    let mut below: Vec<u64> =
        storage.list()?.into_iter().map(|l| l.id).filter(|id| *id < analysis.low_water).collect();
    let mut report = summarize(&analysis);
    report.removed = below.len() as u64;
    // A mark in a torn group is true, but lasts no longer than until that is cut: what it alone explains goes when footers
    // say so as well.
    let (lasting, witness) = analysis.lasting_low_water();
    let explained_later = below.split_off(below.partition_point(|id| *id < lasting));
    if let (false, Some(witness)) = (below.is_empty(), witness) {
        // A footer that was being written when its writer was killed may be in the cache alone.
        storage.open(witness)?.settle()?;
        storage.delete(&below)?;
    }
    let mut recovered = Vec::new();
    let counts = |s: &SegmentState| s.generation == analysis.generation && !begins;
    let current = analysis.segments.iter().filter(|s| counts(s));
    let latest = current.map(SegmentState::max_time).max().unwrap_or(i64::MIN);
    let unused = unused(storage, &analysis);
    let (epoch, raised) = match fence {
        Some(fence) => (fence.epoch, Some((fence.id, fence.segment))),
        None => (analysis.epoch + 1, None),
    };
    // Its header says the generation that was there before: groups of a new one are not written behind that.
    let raised = raised.map(|(id, segment)| (id, segment.filter(|_| !begins)));
    // One that groups will be written to is the writer's own.
    let own = raised.as_ref().filter(|(_, segment)| segment.is_some()).map(|(id, _)| *id);
    for segment in
        analysis.segments.iter().filter(|s| !unused.contains(&s.listed.id) && Some(s.listed.id) != own)
    {
        settle_segment(home, storage, which, &analysis, segment, &mut report)?;
        let size = segment.listed.length;
        let base = if counts(segment) { segment.kept_base(analysis.end).unwrap_or(0) } else { 0 };
        // Nobody knows the times in a segment that cannot be read: it stays as long as anything that is here now.
        let max_time = match segment.content {
            Content::Unreadable => latest,
            // Times of an older generation may be of another clock, and are never compared: the first clean takes it.
            _ if !counts(segment) => i64::MIN,
            _ => segment.max_time(),
        };
        recovered.push(Segment::recovered(segment.place, size, max_time, base));
    }
    if !explained_later.is_empty() {
        storage.delete(&explained_later)?;
    }
    // The newest first, each durably, for the same reason.
    unused.iter().try_for_each(|id| storage.delete(&[*id]))?;
    report.removed += unused.len() as u64;
    let mut generation = analysis.generation;
    let mut threshold = analysis.threshold;
    if begins {
        generation += 1;
        if !planted!(ThresholdOfOlderGeneration) {
            threshold = i64::MIN;
        }
    }
    if begins && report.records > 0 {
        report.set_aside += report.records;
        log::warn!(
            "{}: a fresh start on a log with older records: {} records of generation {} are set aside; they are never replayed, and cleaned in time",
            analysis.place,
            report.records,
            generation - 1
        );
    }
    report.generation = generation;
    report.took = began.elapsed();
    for finding in &report.findings {
        if finding.corrupt {
            log::error!("{}: {finding}", analysis.place);
        } else {
            log::warn!("{}: {finding}", analysis.place);
        }
    }
    Ok(Recovered {
        segments: recovered,
        next_id: analysis.newest + 1,
        sequence: analysis.end,
        generation,
        epoch,
        threshold,
        low_water: analysis.low_water,
        ready: raised.and_then(|(id, segment)| Some((id, segment?))),
        report,
    })
}

/// Segments that recovery removes, the newest first: prepared ahead of need, and never written to, not even by an earlier
/// recovery.
pub(crate) fn unused(storage: &dyn Storage, analysis: &Analysis) -> Vec<u64> {
    // Only those behind everything else go: a later segment's header may say that there was one before it.
    // Nothing goes where segments may be fences.
    let keep_all = storage.traits().fenced;
    let used = analysis.segments.iter().rposition(|s| !is_unused(analysis, s)).map_or(0, |i| i + 1);
    let (rest, behind) = analysis.segments.split_at(used);
    let says = |segments: &[SegmentState]| {
        // A threshold counts in its own generation only.
        let threshold = |s: &SegmentState, t| if s.generation == analysis.generation { t } else { i64::MIN };
        let all = segments.iter().map(|s| (s.says(None).low_water, threshold(s, s.says(None).threshold)));
        all.fold((0, i64::MIN), |(l, t), (low_water, threshold)| (low_water.max(l), threshold.max(t)))
    };
    let (told, more) = (says(rest), says(behind));
    // What was cleaned must stay explained, be it by an empty segment.
    let newest = |segments: &[SegmentState]| segments.iter().map(|s| s.generation).max().unwrap_or(1);
    // Nor does a generation that has begun give way to the one before, whose records were set aside.
    let begun = newest(behind) > newest(rest) && !planted!(ForgetGeneration);
    let needed = keep_all || more.0 > told.0 || more.1 > told.1 || begun;
    if needed { Vec::new() } else { behind.iter().rev().map(|s| s.listed.id).collect() }
}

/// Counts what an analysis found.
pub(crate) fn summarize(analysis: &Analysis) -> RecoveryReport {
    let mut report = RecoveryReport {
        place: analysis.place.clone(),
        segments: analysis.segments.len() as u64,
        generation: analysis.generation,
        findings: analysis.findings.clone(),
        corrupt: analysis.findings.iter().filter(|f| f.corrupt).count() as u64,
        ..RecoveryReport::default()
    };
    for segment in &analysis.segments {
        let (records, bytes) = match &segment.content {
            Content::Sealed(f) => (f.records, f.bytes),
            _ => segment.kept(analysis.end).fold((0, 0), |(r, b), g| {
                let overhead = u64::from(g.header.frames) * crate::format::FRAME_HEADER as u64;
                (r + u64::from(g.header.records), b + g.header.length.saturating_sub(overhead))
            }),
        };
        match &segment.content {
            Content::Sealed(_) | Content::Walked { footer: Some(_), .. } => report.sealed += 1,
            Content::Walked { groups, .. } => {
                report.void_groups +=
                    groups.iter().filter(|g| g.header.sequence >= segment.void_from).count() as u64;
            }
            Content::Unreadable => {}
        }
        if segment.generation == analysis.generation {
            report.records += records;
            report.bytes += bytes;
        } else {
            report.set_aside += records;
        }
    }
    report
}

/// Whether nothing was ever written to a segment, and it is no evidence either.
fn is_unused(analysis: &Analysis, segment: &SegmentState) -> bool {
    let Content::Walked { groups, bad, footer: None, .. } = &segment.content else { return false };
    // In a file that was a segment before, what is not surely of this one is stale; another's bytes are zero.
    let untouched = groups.is_empty() && bad.iter().all(|b| segment.recycled && b.end.is_none());
    let evidence = !segment.header_checks || analysis.missing().contains(&segment.past.previous);
    untouched && !evidence && segment.listed.id > analysis.low_water
}

/// Fixes the length of a segment that an earlier writer left open.
fn settle_segment(
    home: &dyn Home,
    storage: &dyn Storage,
    which: Which,
    analysis: &Analysis,
    segment: &SegmentState,
    report: &mut RecoveryReport,
) -> Result<()> {
    let id = segment.listed.id;
    let (groups, bad, footer) = match &segment.content {
        Content::Sealed(_) | Content::Walked { sealed: true, .. } => return Ok(()),
        Content::Walked { groups, bad, footer, .. } => (groups, bad, footer),
        Content::Unreadable => {
            return set_aside(home, storage, which, segment, 0, segment.listed.length, report);
        }
    };
    let end = segment.data_end(analysis.end);
    if storage.traits().deferred && end == segment.listed.length {
        // An object is whole, and as long as it will ever be.
        return Ok(());
    }
    let mut window = Window::new(storage.open(id)?);
    let length = segment.listed.length;
    // What lies behind the end is torn or void, or stale where the file was a segment before.
    let behind = if segment.recycled {
        let torn = bad.iter().filter_map(|b| Some((b.offset, b.end?)));
        let own = groups.iter().map(|g| (g.offset, g.end)).chain(torn).filter(|(from, _)| *from >= end);
        own.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    } else {
        match window.first_written(end, length)? {
            Some(from) => Some((from, last_written(&mut window, from, length)?)),
            None => None,
        }
    };
    // A footer that a crash left untruncated is neither, unless groups before it are cut as well: without barriers a group
    // is torn if one in an older segment was lost.
    let whole = footer.is_some_and(|f| f.end <= end);
    let mut linked = false;
    if let (Some((from, to)), false, false) = (behind, whole, planted!(RecoveryDeletesEvidence)) {
        report.torn_bytes += to - from;
        // A long record that was half written: a copy would take as long as its bytes, and their space once more.
        let long = to - from >= LONG && to - from > length / 2;
        let kept = if long { set_whole_aside(home, which, id, report) } else { Ok(false) };
        let kept = kept.and_then(|whole| {
            linked = whole;
            if whole { Ok(()) } else { set_aside(home, storage, which, segment, from, to, report) }
        });
        match kept {
            Ok(()) => {}
            // The evidence stays where it is until there is space for a copy; the log must not wait for that.
            Err(e) if e.is_full() => {
                log::warn!("segment {id} keeps its torn bytes and is not sealed, for want of space: {e}");
                report.unsettled += 1;
                return Ok(());
            }
            Err(e) => return Err(e),
        }
    }
    let kept: Vec<_> = segment.kept(analysis.end).collect();
    let next = kept.iter().map(|g| g.header.sequence + 1).max().unwrap_or(analysis.end);
    let base = kept.first().map_or(next, |g| g.header.base);
    let overhead = |frames: u32| u64::from(frames) * crate::format::FRAME_HEADER as u64;
    let footer = Footer {
        end,
        groups: kept.len() as u64,
        records: kept.iter().map(|g| u64::from(g.header.records)).sum(),
        bytes: kept.iter().map(|g| g.header.length.saturating_sub(overhead(g.header.frames))).sum(),
        base,
        next,
        min_time: kept
            .iter()
            .filter(|g| g.header.records > 0)
            .map(|g| g.header.min_time)
            .min()
            .unwrap_or(i64::MAX),
        max_time: segment.max_time(),
        watermark: analysis.end,
        threshold: analysis.threshold,
        low_water: analysis.low_water,
        first: analysis.first,
        sealed: super::wall_clock(),
    };
    match storage.seal(id, end, &footer.encode(&segment.place, end, segment.ends)) {
        Ok(()) => report.settled += 1,
        // What is kept whole is replaced and not cut, for which there must be space.
        Err(e) if e.is_full() && linked => {
            log::warn!("segment {id} keeps its torn bytes and is not sealed, for want of space: {e}");
            report.unsettled += 1;
        }
        Err(e) => return Err(e),
    }
    Ok(())
}

/// One past the last byte that is not zero.
fn last_written(window: &mut Window, from: u64, to: u64) -> Result<u64> {
    const PIECE: u64 = 64 << 10;
    let mut end = to;
    while end > from {
        let start = from.max(end.saturating_sub(PIECE));
        let piece = window.bytes(start, (end - start) as usize)?;
        if let Some(i) = piece.iter().rposition(|b| *b != 0) {
            return Ok(start + i as u64 + 1);
        }
        end = start;
    }
    Ok(from)
}

/// How much is torn where the whole segment may be kept aside instead of a copy.
const LONG: u64 = 8 << 20;

/// Keeps a whole segment aside, if that can be had without a copy.
fn set_whole_aside(home: &dyn Home, which: Which, id: u64, report: &mut RecoveryReport) -> Result<bool> {
    let Some(kept) = home.quarantine_whole(which, id, &format!("{}-segment-{id:016}-whole", who(which)))?
    else {
        return Ok(false);
    };
    log::warn!("kept segment {id} as it was in {kept}");
    note_quarantined(which, report);
    Ok(true)
}

/// Whose segment a file in quarantine was.
fn who(which: Which) -> String {
    match which {
        Which::Driver => "driver".to_owned(),
        Which::Receiver(uuid) => uuid.to_string(),
    }
}

fn note_quarantined(which: Which, report: &mut RecoveryReport) {
    report.quarantined += 1;
    let role = if which == Which::Driver { Role::Driver } else { Role::Receivers };
    add(&Metrics::of(role).quarantined, 1);
}

/// Copies a range of a segment to quarantine, before anything there is changed.
fn set_aside(
    home: &dyn Home,
    storage: &dyn Storage,
    which: Which,
    segment: &SegmentState,
    from: u64,
    to: u64,
    report: &mut RecoveryReport,
) -> Result<()> {
    const PIECE: usize = 1 << 20;
    let id = segment.listed.id;
    let name = who(which);
    let reader = storage.open(id)?;
    let mut at = from;
    let mut pieces = std::iter::from_fn(|| {
        if at >= to {
            return None;
        }
        let mut piece = vec![0; PIECE.min((to - at) as usize)];
        let read = reader.read(at, &mut piece);
        match read {
            Ok(0) => None,
            Ok(n) => {
                piece.truncate(n);
                at += n as u64;
                Some(Ok(piece))
            }
            Err(e) => {
                at = to;
                Some(Err(e))
            }
        }
    });
    let kept = home.quarantine(&format!("{name}-segment-{id:016}-bytes-{from}-{to}"), &mut pieces)?;
    log::warn!("kept bytes {from} to {to} of segment {id} in {kept}");
    note_quarantined(which, report);
    Ok(())
}
