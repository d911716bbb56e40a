//! What a writer's segments hold: which groups count, where the log ends, what is torn and what is corrupt.
//!
//! Reading only. Sequence numbers, not positions, are the order:
//! * a later segment's base (the sequence of the first group ever submitted to it) makes every group from there on
//!   *void* in earlier segments: it was sent again;
//! * the first missing sequence ends the log. If a watermark anywhere says that it was durable, it is *corrupt*;
//!   otherwise it and everything after it is *torn*: never acknowledged, since acknowledgement is in sequence.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use uuid::Uuid;

use super::walk::{Found, GroupAt, Walk};
use crate::{
    codec::{KeyId, KeyRing},
    error::{Error, Result},
    format::{BLOCK, Coding, Footer, HeaderError, Past, Place, SegmentHeader, damaged_header, decode_header},
    planted::planted,
    report::Finding,
    storage::{Listed, SegmentRead, Storage},
};

/// A live writer's cleaning may outrun a look this often before something else is wrong.
const MOST_TRIES: usize = 100;
/// Larger than any header block.
const MOST_BLOCK: usize = 1 << 20;
/// Segments that make another thread worth its while, and the most threads.
const PER_THREAD: usize = 8;
const MOST_THREADS: usize = 8;

/// One segment with what counts in it.
#[derive(Debug)]
pub(crate) struct SegmentState {
    pub(crate) listed: Listed,
    pub(crate) place: Place,
    pub(crate) block: u32,
    /// Bytes of the header, and of the footer.
    pub(crate) ends: u32,
    pub(crate) generation: u64,
    pub(crate) epoch: u64,
    pub(crate) content: Content,
    /// What was known when it was made; nothing, unless the header checks.
    pub(crate) past: Past,
    /// Groups from this sequence on are void here.
    pub(crate) void_from: u64,
    /// Whether the header checked; otherwise its neighbours' or its directory's identity fitted what lies in it.
    pub(crate) header_checks: bool,
    /// The log that its header names, where that checks and is another.
    pub(crate) foreign: Option<Uuid>,
    /// Whether the file was a segment before: then bytes that do not check may be stale.
    pub(crate) recycled: bool,
    /// How its frames may be kept, as far as its header says.
    pub(crate) coding: Coding,
}

/// How much is known of a segment's groups.
#[derive(Debug)]
pub(crate) enum Content {
    /// By its footer; the groups were not looked at.
    Sealed(Footer),
    /// By looking at every group.
    Walked {
        groups: Vec<GroupAt>,
        bad: Vec<Bad>,
        footer: Option<Footer>,
        /// Whether the footer is in the file's last block, as sealing leaves it.
        sealed: bool,
        /// What groups that are newer than what is looked at say of the log's beginning.
        ahead: Beginning,
    },
    /// Nothing in it can be read.
    Unreadable,
}

/// Where a log begins: its low-water segment, and the first sequence that counts.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Beginning {
    low_water: u64,
    first: u64,
}

/// A place that does not check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bad {
    pub(crate) offset: u64,
    pub(crate) detail: String,
    /// Where it ends, if it is surely of this segment: its group's header checks.
    pub(crate) end: Option<u64>,
    /// The segment's base, as that group's header says it.
    pub(crate) base: Option<u64>,
}

impl SegmentState {
    /// Whether its length is fixed for ever.
    fn is_sealed(&self) -> bool {
        matches!(self.content, Content::Sealed(_) | Content::Walked { sealed: true, .. })
    }

    /// Whether nothing is in it that was ever a group, and nothing says that there was.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(&self.content, Content::Walked { groups, footer: None, ahead, .. }
            if groups.is_empty() && ahead.low_water == 0 && ahead.first == 0)
    }

    /// The sequence of the first group ever submitted here, as far as anything here proves it.
    pub(crate) fn base(&self) -> Option<u64> {
        match &self.content {
            Content::Sealed(f) => (f.base < f.next).then_some(f.base),
            Content::Walked { groups, bad, footer, .. } => groups
                .first()
                .map(|g| g.header.base)
                .or(footer.filter(|f| f.base < f.next).map(|f| f.base))
                // A group that rotted, or was torn, still says what was sent again.
                .or(bad.iter().find_map(|b| b.base).filter(|_| !planted!(ForgetBaseOfBadGroup))),
            Content::Unreadable => None,
        }
    }

    /// The base, if anything that counts is here.
    pub(crate) fn kept_base(&self, end: u64) -> Option<u64> {
        let any = matches!(self.content, Content::Sealed(_)) || self.kept(end).next().is_some();
        self.base().filter(|_| any)
    }

    /// The oldest sequence that counts, as far as anything here says.
    fn first(&self) -> Option<u64> {
        let inside = match &self.content {
            Content::Sealed(f) => Some(f.first),
            Content::Walked { groups, footer, ahead, .. } => groups
                .iter()
                .map(|g| g.header.first)
                .chain(footer.map(|f| f.first))
                .chain([ahead.first])
                .max(),
            Content::Unreadable => None,
        };
        inside.max(Some(self.past.first))
    }

    /// The largest marks that anything here names. With a limit, groups from there on tell only what was cleaned.
    pub(crate) fn says(&self, limit: Option<u64>) -> Past {
        let mut says = self.past;
        // A scan beside a live writer may be limited to less than a new segment's header knows.
        if limit.is_some_and(|l| self.past.watermark > l) {
            says.threshold = i64::MIN;
        }
        let mut note = |watermark: u64, threshold: i64, low_water: u64| {
            says.watermark = says.watermark.max(watermark);
            says.threshold = says.threshold.max(threshold);
            says.low_water = says.low_water.max(low_water);
        };
        match &self.content {
            Content::Sealed(f) => note(f.watermark, f.threshold, f.low_water),
            Content::Walked { groups, footer, ahead, .. } => {
                note(0, i64::MIN, ahead.low_water);
                groups.iter().for_each(|g| note(g.header.watermark, g.header.threshold, g.header.low_water));
                footer.iter().for_each(|f| note(f.watermark, f.threshold, f.low_water));
            }
            Content::Unreadable => {}
        }
        says
    }

    /// The low-water mark that it still names when recovery has cut what is torn or void; 0 for none.
    fn keeps_saying(&self, end: u64) -> u64 {
        let inside = match &self.content {
            Content::Sealed(f) => f.low_water,
            Content::Walked { footer, sealed, .. } => {
                let groups = self.kept(end).map(|g| g.header.low_water).max();
                groups.max(footer.filter(|_| *sealed).map(|f| f.low_water)).unwrap_or(0)
            }
            Content::Unreadable => 0,
        };
        inside.max(self.past.low_water)
    }

    /// Groups that are neither void nor at or above `end`.
    pub(crate) fn kept(&self, end: u64) -> impl Iterator<Item = &GroupAt> {
        let groups: &[GroupAt] = match &self.content {
            Content::Walked { groups, .. } => groups,
            _ => &[],
        };
        let limit = self.void_from.min(end);
        groups.iter().filter(move |g| g.header.sequence < limit)
    }

    /// Behind this there is no group: as far as a footer says.
    pub(crate) fn groups_end(&self) -> u64 {
        match &self.content {
            Content::Sealed(f) => f.end,
            Content::Walked { footer, .. } => footer.map_or(u64::MAX, |f| f.end),
            Content::Unreadable => u64::MAX,
        }
    }

    /// Where this segment's part of the log ends.
    pub(crate) fn data_end(&self, end: u64) -> u64 {
        match &self.content {
            Content::Sealed(f) => f.end,
            _ => self.kept(end).map(|g| g.end).max().unwrap_or(u64::from(self.ends)),
        }
    }

    /// Whether any group in it holds a record.
    pub(crate) fn holds_records(&self) -> bool {
        match &self.content {
            Content::Sealed(f) => f.records > 0,
            Content::Walked { groups, .. } => groups.iter().any(|g| g.header.records > 0),
            Content::Unreadable => false,
        }
    }

    /// Whether its records from the time `threshold` on can be had with `keys`, as far as is known without opening one: told
    /// before the first of them, and not in the middle of a replay. `end` and `place` are the analysis's.
    ///
    /// # Errors
    /// [`Error::Key`]; [`Error::Unauthenticated`] where encryption is required.
    pub(crate) fn admit(&self, keys: &KeyRing, threshold: i64, end: u64, place: &str) -> Result<()> {
        if self.max_time() < threshold || !self.holds_records() {
            return Ok(());
        }
        let id = self.listed.id;
        // What a header says that does not check is a guess.
        if self.header_checks {
            keys.admit(KeyId::of_header(self.coding.key), format_args!("segment {id} of {place}"))?;
        }
        let mut groups = self.kept(end).filter(|g| g.header.max_time >= threshold);
        match groups.find_map(|g| g.bare).filter(|_| keys.is_required()) {
            Some(offset) => Err(Error::Unauthenticated {
                place: format!("the record at offset {offset} of segment {id} of {place}"),
                detail: "it is not encrypted".into(),
            }),
            None => Ok(()),
        }
    }

    /// The largest record time that may be in it; `i64::MIN` for none.
    pub(crate) fn max_time(&self) -> i64 {
        match &self.content {
            Content::Sealed(f) => f.max_time,
            Content::Walked { groups, .. } => {
                groups.iter().map(|g| g.header.running_max).max().unwrap_or(i64::MIN)
            }
            Content::Unreadable => i64::MIN,
        }
    }
}

/// The whole of one writer's log.
#[derive(Debug)]
pub(crate) struct Analysis {
    pub(crate) place: String,
    pub(crate) segments: Vec<SegmentState>,
    /// Number of the newest segment ever listed; 0 for none.
    pub(crate) newest: u64,
    pub(crate) generation: u64,
    pub(crate) epoch: u64,
    /// The first sequence that counts; 0 where no group says so.
    pub(crate) first: u64,
    /// One past the last sequence that counts.
    pub(crate) end: u64,
    pub(crate) threshold: i64,
    pub(crate) low_water: u64,
    pub(crate) findings: Vec<Finding>,
    /// What is corrupt in earlier generations, which are never replayed; if that was asked for.
    pub(crate) aside: Vec<Finding>,
}

/// What to look at, and how closely.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Scope {
    /// The log's uuid.
    pub(crate) log: Uuid,
    /// The writer, where the directory names it.
    pub(crate) writer: Option<Uuid>,
    /// Check every group of sealed segments too.
    pub(crate) deep: bool,
    /// And say what is corrupt of earlier generations.
    pub(crate) aside: bool,
    /// A live writer's next unacknowledged sequence: nothing from here on is looked at.
    pub(crate) limit: Option<u64>,
    /// Make unsealed segments durable before trusting them.
    pub(crate) settle: bool,
}

fn of_another(log: Uuid, ours: Uuid) -> String {
    format!(
        "the segment is of log {log}, and ferrowal.id says {ours}: if it is this log's, write {log} into ferrowal.id, otherwise move it to the directory of its log"
    )
}

/// Looks at all segments of `storage`.
pub(crate) fn analyse(storage: &dyn Storage, scope: Scope) -> Result<Analysis> {
    let mut tries = 0;
    loop {
        tries += 1;
        let analysis = look(storage, scope)?;
        // A live writer may have cleaned a segment, and used its file again, while it was looked at: the mark that says so
        // may lie in a segment that is newer than the listing.
        if tries < MOST_TRIES && analysis.is_damaged() {
            let now = storage.list()?;
            let there = |s: &SegmentState| now.iter().any(|l| l.id == s.listed.id);
            let grown = now.last().is_some_and(|l| l.id > analysis.newest);
            if grown || !analysis.segments.iter().all(there) {
                continue;
            }
        }
        return Ok(analysis);
    }
}

fn look(storage: &dyn Storage, scope: Scope) -> Result<Analysis> {
    let (newest, segments, unmade) = look_at_all(storage, scope)?;
    let mut analysis = Analysis::of(storage.place(), newest, segments);
    analysis.conclude(scope);
    for id in unmade {
        let detail = "the segment was being made and has no header, and so no record".into();
        let finding = analysis.finding(id, 0, false, detail);
        analysis.findings.push(finding);
    }
    Ok(analysis)
}

/// A segment that was looked at: with its header and what it holds, or, where the header does not check, neither yet.
type Seen = (Listed, Option<(SegmentHeader, SegmentState)>);

/// Looks at every segment; gives them with the number of the newest that was listed, and those that are there and have not
/// come into being ([`Traits::begins_empty`](crate::storage::Traits)). No more than one of them is open in each thread,
/// however many there are.
fn look_at_all(storage: &dyn Storage, scope: Scope) -> Result<(u64, Vec<SegmentState>, Vec<u64>)> {
    let begins_empty = storage.traits().begins_empty;
    let mut sealed: HashMap<u64, Seen> = HashMap::new();
    let mut tries = 0;
    'again: loop {
        tries += 1;
        let listed = storage.list()?;
        let newest = listed.last().map_or(0, |l| l.id);
        let wanted: Vec<Listed> = listed.iter().filter(|l| !sealed.contains_key(&l.id)).copied().collect();
        let mut seen: HashMap<u64, Seen> = HashMap::with_capacity(wanted.len());
        let mut absent = None;
        for (l, result) in wanted.iter().zip(in_parallel(&wanted, |l| look_at(storage, *l, scope))) {
            match result {
                Ok(s) => drop(seen.insert(l.id, s)),
                // Cleaned since the listing: the mark that proves it may lie in a segment that is newer than the listing.
                Err(e) if e.is_not_found() && tries < MOST_TRIES => absent = Some(e),
                Err(_) if planted!(ReadErrorIsAbsence) => {}
                Err(e) => return Err(e),
            }
        }
        if absent.is_some() {
            // What is sealed stays as it is; the rest is looked at again.
            let fixed = |s: &Seen| matches!(&s.1, Some((_, state)) if state.is_sealed());
            sealed.extend(seen.into_iter().filter(|(_, s)| fixed(s)));
            continue;
        }
        seen.extend(sealed.drain());
        let seen: Vec<Seen> = listed.iter().filter_map(|l| seen.remove(&l.id)).collect();
        let headers: Vec<Option<SegmentHeader>> =
            seen.iter().map(|s| s.1.as_ref().map(|(h, _)| *h)).collect();
        let mut segments = Vec::with_capacity(seen.len());
        let mut unmade = Vec::new();
        for (i, (listed, found)) in seen.into_iter().enumerate() {
            if let Some((_, state)) = found {
                segments.push(state);
                continue;
            }
            if begins_empty && listed.length < u64::from(BLOCK) {
                unmade.push(listed.id);
                continue;
            }
            // Every writer of a driver's log has its own identity: the one that fits is most likely the next one's.
            let others = headers[i + 1..].iter().chain(headers[..i].iter().rev()).filter_map(|h| *h);
            let guess = storage.open(listed.id).and_then(|reader| guessed(listed, others, &reader, scope));
            match guess {
                Ok(state) => segments.push(state),
                Err(e) if e.is_not_found() && tries < MOST_TRIES => continue 'again,
                Err(e) => return Err(e),
            }
        }
        return Ok((newest, segments, unmade));
    }
}

fn look_at(storage: &dyn Storage, listed: Listed, scope: Scope) -> Result<Seen> {
    let reader = storage.open(listed.id)?;
    let Some(header) = header(&reader, listed.id, scope)? else {
        // As long as it was when its header was looked for.
        return Ok((Listed { length: reader.size()?, ..listed }, None));
    };
    let state = segment(listed, &header, true, &reader, scope)?;
    Ok((listed, Some((header, state))))
}

/// Does `work` for each of many segments, on a few threads: it waits for the device most of the time.
fn in_parallel<T: Send>(segments: &[Listed], work: impl Fn(&Listed) -> Result<T> + Sync) -> Vec<Result<T>> {
    let threads = if is_simulated() { 1 } else { (segments.len() / PER_THREAD).min(MOST_THREADS) };
    if threads < 2 {
        return segments.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<Option<Result<T>>>> = Mutex::new(segments.iter().map(|_| None).collect());
    let run = || {
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(segment) = segments.get(i) else { return };
            let result = work(segment);
            done.lock().unwrap_or_else(PoisonError::into_inner)[i] = Some(result);
        }
    };
    thread::scope(|s| {
        for _ in 1..threads {
            // Without a thread the others do its part.
            if let Err(e) = thread::Builder::new().name("ferrowal-look".into()).spawn_scoped(s, run) {
                log::debug!("cannot start a thread to look at segments: {e}");
            }
        }
        run();
    });
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    let unseen = || Err(Error::Internal("a segment was not looked at".into()));
    done.into_iter().map(|result| result.unwrap_or_else(unseen)).collect()
}

/// A simulation is one thread, so that one seed decides everything.
pub(super) fn is_simulated() -> bool {
    #[cfg(any(test, feature = "simulation"))]
    return crate::planted::simulated_clock().is_some();
    #[cfg(not(any(test, feature = "simulation")))]
    return false;
}

/// Refuses a log whose newest segment is of a format that this release does not know.
pub(crate) fn check_version(storage: &dyn Storage) -> Result<()> {
    let Some(newest) = storage.list()?.pop() else { return Ok(()) };
    match storage.open(newest.id) {
        Ok(reader) => header(&reader, newest.id, Scope::default()).map(drop),
        Err(e) if e.is_not_found() => Ok(()),
        Err(e) => Err(e),
    }
}

/// The segment's header, if it checks and is of this place.
fn header(reader: &Arc<dyn SegmentRead>, id: u64, scope: Scope) -> Result<Option<SegmentHeader>> {
    let mut block = vec![0; BLOCK as usize];
    let n = reader.read(0, &mut block)?;
    match decode_header(&block[..n]) {
        Ok(h) => {
            let place = h.place();
            let ours = place.segment == id
                && place.log == scope.log
                && scope.writer.is_none_or(|w| w == place.writer)
                && h.block as usize <= MOST_BLOCK;
            Ok(ours.then_some(h))
        }
        Err(HeaderError::Damaged) => Ok(None),
        Err(HeaderError::Version(v)) => Err(Error::Config(format!(
            "segment {id} is of format version {v}, which this release of ferrowal does not know: use the release that wrote it, or a newer one"
        ))),
    }
}

fn segment(
    listed: Listed,
    header: &SegmentHeader,
    header_checks: bool,
    reader: &Arc<dyn SegmentRead>,
    scope: Scope,
) -> Result<SegmentState> {
    let place = Place { segment: listed.id, ..header.place() };
    let found = footer(reader, &place, header.ends())?;
    let content = match found {
        Some(f) if !scope.deep => Content::Sealed(f),
        None if planted!(FooterOnlyProof) => Content::Walked {
            groups: Vec::new(),
            bad: Vec::new(),
            footer: None,
            sealed: false,
            ahead: Beginning::default(),
        },
        _ => walk(reader, place, header, scope, found)?,
    };
    Ok(SegmentState {
        listed,
        place,
        block: header.block,
        ends: header.ends(),
        generation: header.generation,
        epoch: header.epoch,
        content,
        past: if header_checks { header.past } else { Past::UNKNOWN },
        void_from: u64::MAX,
        header_checks,
        foreign: None,
        recycled: header.recycled != 0,
        coding: header.coding,
    })
}

/// Tries the identities of other segments on one whose header is damaged. Where none fits, the nearest one's generation
/// is as good a guess as any.
fn guessed(
    listed: Listed,
    others: impl Iterator<Item = SegmentHeader>,
    reader: &Arc<dyn SegmentRead>,
    scope: Scope,
) -> Result<SegmentState> {
    let (mut tried, mut nearest) = (Vec::new(), None);
    let others: Vec<SegmentHeader> = others.collect();
    // Most of a damaged header may be as it was. The writer's name proves itself where a checksum is bound to it; the rest
    // counts only as far as a neighbour says the same.
    let mut block = vec![0; BLOCK as usize];
    let n = reader.read(0, &mut block)?;
    let foreign = decode_header(&block[..n]).ok().map(|h| h.place().log).filter(|log| *log != scope.log);
    let told = |state| SegmentState { foreign, ..state };
    let own = damaged_header(&block[..n]).map(|own| {
        let near = others.iter().find(|o| o.generation == own.generation).or(others.first());
        let (generation, epoch) = near.map_or((1, 0), |o| (o.generation, o.epoch));
        let place = Place { log: scope.log, ..own.place() };
        SegmentHeader::new(&place, generation, epoch, 0, own.block, Past::UNKNOWN)
    });
    for other in own.into_iter().chain(others) {
        let writer = other.place().writer;
        if tried.contains(&writer) {
            continue;
        }
        tried.push(writer);
        let state = without_header(listed, Some(other), reader, scope)?;
        if !matches!(state.content, Content::Unreadable) {
            return Ok(told(state));
        }
        nearest.get_or_insert(state);
    }
    nearest.map_or_else(|| without_header(listed, None, reader, scope), Ok).map(told)
}

/// A segment whose header is damaged still has frames that check, if the identity can be had elsewhere.
fn without_header(
    listed: Listed,
    neighbour: Option<SegmentHeader>,
    reader: &Arc<dyn SegmentRead>,
    scope: Scope,
) -> Result<SegmentState> {
    let writer = scope.writer.or(neighbour.map(|n| n.place().writer)).unwrap_or_default();
    let place = Place { log: scope.log, writer, segment: listed.id };
    let guess = neighbour.unwrap_or_else(|| SegmentHeader::new(&place, 1, 0, 0, BLOCK, Past::UNKNOWN));
    let header = SegmentHeader::new(&place, guess.generation, guess.epoch, 0, guess.block, Past::UNKNOWN);
    let mut state = segment(listed, &header, false, reader, Scope { deep: true, ..scope })?;
    if matches!(&state.content, Content::Walked { groups, footer: None, .. } if groups.is_empty()) {
        state.content = Content::Unreadable;
    }
    Ok(state)
}

/// The footer in the segment's last block.
fn footer(reader: &Arc<dyn SegmentRead>, place: &Place, block: u32) -> Result<Option<Footer>> {
    let Some(at) = reader.size()?.checked_sub(u64::from(block)) else { return Ok(None) };
    let mut bytes = vec![0; block as usize];
    let n = reader.read(at, &mut bytes)?;
    Ok(Footer::decode(&bytes[..n], place, at))
}

fn walk(
    reader: &Arc<dyn SegmentRead>,
    place: Place,
    header: &SegmentHeader,
    scope: Scope,
    footer: Option<Footer>,
) -> Result<Content> {
    // What a footer fixes was durable before it was written.
    if scope.settle && footer.is_none() && !planted!(RecoveryWithoutSettling) {
        reader.settle()?;
    }
    let walk = Walk::new(reader.clone(), place, header.block, true)?;
    let mut walk = walk.until(footer.map_or(u64::MAX, |f| f.end));
    let (mut groups, mut bad, mut end, mut ahead) = (Vec::new(), Vec::new(), None, Beginning::default());
    let next = |walk: &mut Walk| match walk.next() {
        Err(_) if planted!(TruncateOnReadError) => Ok(None),
        found => found,
    };
    while let Some(found) = next(&mut walk)? {
        match found {
            Found::Group(g) if scope.limit.is_some_and(|l| g.header.sequence >= l) => {
                ahead.low_water = ahead.low_water.max(g.header.low_water);
                ahead.first = ahead.first.max(g.header.first);
            }
            Found::Group(g) => groups.push(g),
            Found::Bad { offset, detail, end, base } => bad.push(Bad { offset, detail, end, base }),
            Found::Footer(f) => end = Some(f),
        }
    }
    if let Some(f) = footer {
        // All is as the footer says, so nothing more need be remembered of it.
        let ends = groups.first().zip(groups.last()).map(|(a, b)| (a.header.sequence, b.header.sequence + 1));
        let whole = ends == Some((f.base, f.next)) && groups.len() as u64 == f.next - f.base;
        // But for a plain record among encrypted ones, which no writer leaves there.
        let odd = KeyId::of_header(header.coding.key).is_some() && groups.iter().any(|g| g.bare.is_some());
        if whole && bad.is_empty() && scope.limit.is_none() && !odd {
            return Ok(Content::Sealed(f));
        }
    }
    Ok(Content::Walked { groups, bad, footer: footer.or(end), sealed: footer.is_some(), ahead })
}

impl Analysis {
    /// Of these segments, before anything is concluded.
    fn of(place: String, newest: u64, segments: Vec<SegmentState>) -> Analysis {
        Analysis {
            place,
            newest,
            segments,
            generation: 1,
            epoch: 0,
            first: 0,
            end: 1,
            threshold: i64::MIN,
            low_water: 0,
            findings: Vec::new(),
            aside: Vec::new(),
        }
    }

    /// Of a writer whose segments cannot even be listed.
    #[cfg(feature = "cli")]
    pub(crate) fn unlisted(storage: &dyn Storage, writer: Option<Uuid>, why: &str) -> Analysis {
        let mut analysis = Analysis::of(storage.place(), 0, Vec::new());
        let detail = format!("the segments cannot be listed: {why}");
        let writer = writer.unwrap_or_default();
        analysis.findings.push(Finding { writer, segment: 0, offset: 0, corrupt: true, detail });
        analysis
    }

    /// The low-water mark that is named by more than what recovery cuts, and the segment that names it.
    pub(crate) fn lasting_low_water(&self) -> (u64, Option<u64>) {
        let all = self.segments.iter().map(|s| (s.keeps_saying(self.end), Some(s.listed.id)));
        all.max().unwrap_or((0, None))
    }

    fn conclude(&mut self, scope: Scope) {
        self.generation = self.segments.iter().map(|s| s.generation).max().unwrap_or(1);
        self.epoch = self.segments.iter().map(|s| s.epoch).max().unwrap_or(0);
        let mut watermark = 0;
        for segment in &self.segments {
            let says = segment.says(scope.limit);
            watermark = watermark.max(says.watermark);
            // A fresh start may have another clock: what was cleaned by the old one says nothing of the new records.
            if segment.generation == self.generation || planted!(ThresholdOfOlderGeneration) {
                self.threshold = self.threshold.max(says.threshold);
            }
            self.low_water = self.low_water.max(says.low_water);
        }
        let low_water = self.low_water;
        // A crash between the mark and the deletes leaves segments that are already gone.
        self.segments.retain(|s| s.listed.id >= low_water);
        let mut void_from = u64::MAX;
        for segment in self.segments.iter_mut().rev() {
            segment.void_from = void_from;
            if !planted!(ForgetVoid) {
                void_from = segment.base().map_or(void_from, |b| b.min(void_from));
            }
        }
        self.find_end(watermark, None, scope);
        if scope.aside {
            self.look_aside(scope);
        }
    }

    /// Looks at each earlier generation as if it was the last one. What was torn then is nothing to anybody.
    fn look_aside(&mut self, scope: Scope) {
        let (generation, first, end) = (self.generation, self.first, self.end);
        let findings = std::mem::take(&mut self.findings);
        let mut all: Vec<u64> = self.segments.iter().map(|s| s.generation).collect();
        all.sort_unstable();
        all.dedup();
        for pair in all.windows(2) {
            let (older, newer) = (pair[0], pair[1]);
            self.generation = older;
            let of = |generation| self.segments.iter().filter(move |s| s.generation == generation);
            // The next one went on behind the last sequence that counted. Only headers say so, and no fence's: a footer may be
            // of whoever settled the segment, generations later.
            let told = |s: &&SegmentState| s.header_checks && s.past.first > 0;
            let begun = of(newer).find(told).map_or(0, |s| s.past.first);
            // A cleaning may have taken a part: the oldest that is there need not be where it began,
            let base = of(older).find_map(SegmentState::base).unwrap_or(begun);
            // unless its header says that there was none before it.
            let own = of(older).next().filter(told).filter(|s| s.past.previous == 0);
            let from = own.map_or(base, |s| s.past.first.min(base));
            self.find_end(begun, Some(from), scope);
            // Of a segment that is missing the generation is not known, so it is found once in each.
            let listed = |f: &Finding| self.segments.iter().any(|s| s.listed.id == f.segment);
            let same =
                |k: &Finding, f: &Finding| k.segment == f.segment && (k.offset == f.offset || !listed(f));
            let known = |f: &Finding| findings.iter().any(|k| k.corrupt && same(k, f));
            let new = std::mem::take(&mut self.findings);
            self.aside.extend(new.into_iter().filter(|f| f.corrupt && !known(f)));
        }
        (self.generation, self.first, self.end, self.findings) = (generation, first, end, findings);
    }

    /// Goes through the current generation in sequence, from `from` on or else from what its groups say, up to the first group
    /// that is missing.
    fn find_end(&mut self, watermark: u64, from: Option<u64>, scope: Scope) {
        let current = |s: &&SegmentState| s.generation == self.generation;
        let mut findings = Vec::new();
        let said = || self.segments.iter().filter(current).filter_map(SegmentState::first).max();
        let first = from.or_else(said).unwrap_or(0);
        let mut expected = Some(first).filter(|f| *f > 0).unwrap_or_else(|| {
            // No group in this generation yet: go on behind what came before.
            self.segments
                .iter()
                .filter_map(|s| match &s.content {
                    Content::Sealed(f) => Some(f.next),
                    _ => s.kept(u64::MAX).map(|g| g.header.sequence + 1).max(),
                })
                .max()
                .unwrap_or(1)
        });
        let mut end = None;
        // Where the last good group ended: damage is looked for from there on.
        let mut last = (0, 0);
        for segment in self.segments.iter().filter(current) {
            let id = segment.listed.id;
            if let Some(log) = segment.foreign {
                // What is in it may be whole, and read once the right uuid is there again.
                let detail = of_another(log, scope.log);
                findings.push(self.finding(id, 0, true, detail));
            } else if !segment.header_checks {
                findings.push(self.finding(id, 0, true, "the segment's header does not check".into()));
            }
            if let Content::Sealed(f) = &segment.content {
                // Of what is newer than the look the rest may not be seen, so this part is not, either.
                let upto = scope.limit.unwrap_or(u64::MAX);
                let (first, next) = (f.base, f.next.min(segment.void_from).min(upto));
                if first < next {
                    if first > expected && end.is_none() {
                        findings.push(self.gap((last, id), (expected, first), watermark, &mut end));
                    }
                    expected = expected.max(next);
                    last = (id, f.end);
                }
                continue;
            }
            for group in segment.kept(u64::MAX) {
                let sequence = group.header.sequence;
                if sequence > expected && end.is_none() {
                    if last.0 != id && segment.base().is_some_and(|b| b <= expected) {
                        last = (id, u64::from(segment.ends));
                    }
                    findings.push(self.gap((last, id), (expected, sequence), watermark, &mut end));
                }
                expected = expected.max(sequence + 1);
                last = (id, group.end);
            }
        }
        let named = self.segments.iter().filter(current).filter_map(|s| match &s.content {
            Content::Walked { footer: Some(f), .. } if f.base < f.next => Some(f.next.min(s.void_from)),
            _ => None,
        });
        let footers = named.max().unwrap_or(0);
        let named = footers.max(watermark);
        if end.is_none() && named > expected && scope.limit.is_none_or(|l| l > expected) {
            let upto = scope.limit.map_or(named, |l| l.min(named));
            let mut gap = self.gap((last, u64::MAX), (expected, upto), watermark, &mut end);
            // A mark says that so many groups were durable when it was made, and nothing that is there says how many followed.
            if gap.corrupt && watermark > footers && upto == named {
                gap.detail.insert_str(0, "at least ");
            }
            findings.push(gap);
            expected = upto;
        }
        self.end = end.unwrap_or(expected);
        // A gap names what it lies in; where no sequence shows it, there was still a segment, and nobody may say that it
        // held nothing.
        for id in self.missing() {
            if !findings.iter().any(|f| f.corrupt && f.segment == id) {
                findings.push(self.finding(id, 0, true, "the segment is missing".into()));
            }
        }
        for segment in self.segments.iter().filter(current) {
            if let Content::Walked { bad, footer: None, .. } = &segment.content {
                let kept_end = segment.data_end(self.end);
                // In a file that was a segment before, what is not surely of this one is stale.
                for b in bad.iter().filter(|b| b.offset >= kept_end && (b.end.is_some() || !segment.recycled))
                {
                    let known =
                        findings.iter().any(|f| f.segment == segment.listed.id && f.offset == b.offset);
                    if !known && segment.void_from > self.end {
                        findings.push(self.finding(segment.listed.id, b.offset, false, b.detail.clone()));
                    }
                }
            }
        }
        self.first = first;
        self.findings = findings;
    }

    /// Segments that were not cleaned, by all that is known, and are not there: a later one of this generation says that
    /// there was one before it, or the low-water mark names one.
    pub(crate) fn missing(&self) -> Vec<u64> {
        let current = self.segments.iter().filter(|s| s.generation == self.generation);
        let named = current.map(|s| s.past.previous).filter(|id| *id > 0 && *id >= self.low_water);
        let oldest = self.segments.first().map(|_| self.low_water).filter(|id| *id > 0);
        let mut missing: Vec<u64> = named.chain(oldest).collect();
        missing.sort_unstable();
        missing.dedup();
        missing.retain(|id| self.segments.iter().all(|s| s.listed.id != *id));
        missing
    }

    /// The groups from `from` up to `to` are missing behind `last`, and the log goes on in segment `next`. Corrupt if they
    /// were known durable; otherwise the log ends here.
    fn gap(
        &self,
        (last, next): ((u64, u64), u64),
        (from, to): (u64, u64),
        watermark: u64,
        end: &mut Option<u64>,
    ) -> Finding {
        // Without barriers a footer says of its own groups that they are durable, and of earlier ones nothing.
        let sealed = |s: &SegmentState| match &s.content {
            Content::Sealed(f) | Content::Walked { footer: Some(f), .. } => {
                (f.base..f.next.min(s.void_from)).contains(&from)
            }
            _ => false,
        };
        let corrupt = watermark > from || self.segments.iter().any(sealed);
        if !corrupt {
            *end = Some(from);
        }
        let (segment, offset, why) = self.blame(last, next);
        let groups =
            if to == from + 1 { format!("group {from}") } else { format!("groups {from} to {}", to - 1) };
        let state = if corrupt { "acknowledged, but" } else { "never acknowledged, and" };
        self.finding(segment, offset, corrupt, format!("{groups} {state} not readable: {why}"))
    }

    /// The first bad place behind `last`, or the segment that should be there, before `next`.
    fn blame(&self, last: (u64, u64), next: u64) -> (u64, u64, String) {
        let missing = self.missing().into_iter().find(|id| last.0 < *id && *id < next);
        let before = |id: u64| missing.is_none_or(|m| id < m);
        // Another generation's damage is no reason; whose a segment is whose header does not check, nobody knows.
        let ours = |s: &&SegmentState| s.generation == self.generation || !s.header_checks;
        let behind = self.segments.iter().filter(|s| s.listed.id >= last.0 && before(s.listed.id));
        for segment in behind.filter(ours) {
            let id = segment.listed.id;
            match &segment.content {
                Content::Walked { bad, .. } => {
                    if let Some(b) = bad.iter().find(|b| id > last.0 || b.offset >= last.1) {
                        return (id, b.offset, b.detail.clone());
                    }
                }
                Content::Unreadable => return (id, 0, "nothing in the segment can be read".into()),
                Content::Sealed(_) => {}
            }
        }
        if let Some(id) = missing {
            return (id, u64::from(BLOCK), "the segment is missing".into());
        }
        let first = self.segments.first().map_or(0, |s| s.listed.id);
        (last.0.max(first), last.1, "the bytes are missing".into())
    }

    fn finding(&self, segment: u64, offset: u64, corrupt: bool, detail: String) -> Finding {
        let writer = self.segments.iter().find(|s| s.listed.id >= segment).or(self.segments.last());
        Finding {
            writer: writer.map_or_else(Uuid::nil, |s| s.place.writer),
            segment,
            offset,
            corrupt,
            detail,
        }
    }

    /// A segment of another log is no damage that salvage passes over: its records may be whole, and what was written behind them
    /// would be of neither. Among what a fresh start has set aside nobody reads it.
    ///
    /// # Errors
    /// [`Error::Config`] that says what to do.
    pub(crate) fn refuse_foreign(&self, ours: Uuid) -> Result<()> {
        // What its own header says of its generation is another log's. Set aside it is for sure where something of ours behind it is.
        let aside = |s: &SegmentState| s.foreign.is_none() && s.generation < self.generation;
        let counts = self.segments.iter().rposition(aside).map_or(0, |last| last + 1);
        let foreign = self.segments[counts..].iter().find_map(|s| Some((s.listed.id, s.foreign?)));
        foreign.map_or(Ok(()), |(id, log)| {
            Err(Error::Config(format!("segment {id} of {}: {}", self.place, of_another(log, ours))))
        })
    }

    /// Whether anything is corrupt that counts.
    pub(crate) fn is_damaged(&self) -> bool {
        self.findings.iter().any(|f| f.corrupt)
    }

    /// Every corrupt place, with its error.
    pub(crate) fn corruptions(&self) -> impl Iterator<Item = (&Finding, Error)> {
        self.findings.iter().filter(|f| f.corrupt).map(|f| {
            let error = Error::Corrupt {
                place: self.place.clone(),
                segment: f.segment,
                offset: f.offset,
                detail: f.detail.clone(),
            };
            (f, error)
        })
    }

    /// Whether anything of the current generation counts.
    pub(crate) fn has_records(&self) -> bool {
        let end = self.end;
        self.segments.iter().filter(|s| s.generation == self.generation).any(|s| match &s.content {
            Content::Sealed(f) => f.records > 0,
            _ => s.kept(end).any(|g| g.header.records > 0),
        })
    }
}
