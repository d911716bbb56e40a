//! Looking at a whole log, for tools: every writer's segments, groups and records. Reading only; beside a live writer the
//! end of what is seen moves, and a group that is on its way to the device looks torn.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use uuid::Uuid;

pub(crate) use super::analysis::{Analysis, Content, SegmentState};
use super::{
    analysis::{Scope, analyse},
    recover,
    unread::{Notes, Unread, cause, patiently},
    walk::{Found, Frame, Frames, GroupAt, Walk, Window},
};
use crate::{
    codec::KeyRing,
    error::{Error, Result},
    report::Finding,
    storage::{Home, Storage, Which},
};

/// How closely a log is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// Headers, footers, and what has no footer. What cannot be read is an error.
    Ends,
    /// The same; what cannot be read is a finding.
    AllThatCanBeRead,
    /// Every group of every segment; what cannot be read is a finding.
    Everything,
}

/// Whose parts of a log are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted<'a> {
    All,
    Driver,
    Receivers,
    /// The receivers whose uuids begin so: hexadecimal, with or without hyphens.
    Beginning(&'a str),
}

impl Wanted<'_> {
    fn has(self, which: Which) -> bool {
        match (which, self) {
            (_, Wanted::All) => true,
            (Which::Driver, wanted) => wanted == Wanted::Driver,
            (Which::Receiver(uuid), Wanted::Beginning(start)) => begins(uuid, start),
            (Which::Receiver(_), wanted) => wanted == Wanted::Receivers,
        }
    }

    /// All receivers, if any are wanted: who wants the driver's log alone may have no access to the others.
    fn writers(self, home: &dyn Home) -> Result<Vec<Uuid>> {
        if self == Wanted::Driver { Ok(Vec::new()) } else { home.writers() }
    }
}

/// Whether a uuid begins with what somebody typed.
pub(crate) fn begins(uuid: Uuid, start: &str) -> bool {
    let start = start.trim().replace('-', "").to_ascii_lowercase();
    uuid.simple().to_string().starts_with(&start)
}

/// A live log is looked at so often before what seems damaged is.
const MOST_LOOKS: usize = 10;
/// From this look on what is damaged at the same place is the same damage.
const PLACE_TELLS: usize = 3;

/// Gives the storage that is looked at in place of a writer's own: a tool may count what is read.
pub(crate) type Wrap<'a> = dyn Fn(Arc<dyn Storage>) -> Arc<dyn Storage> + 'a;

/// A log as it was when it was looked at.
#[derive(Debug)]
pub(crate) struct Survey {
    pub(crate) log: Uuid,
    pub(crate) parts: Vec<Part>,
}

/// One writer's part of it.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) which: Which,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) analysis: Analysis,
    /// For records that are encrypted.
    pub(crate) keys: KeyRing,
    /// Whether somebody has it open for writing.
    pub(crate) live: bool,
    /// What of it could not be read until now.
    pub(crate) notes: Notes,
    /// Whether its segments could not even be listed.
    pub(crate) unlisted: bool,
}

/// Why there is no uuid: another directory, or a log whose `ferrowal.id` is gone.
fn no_log(home: &dyn Home, wanted: Wanted<'_>) -> Result<Error> {
    let anything = !wanted.writers(home)?.is_empty() || !home.storage(Which::Driver).list()?.is_empty();
    Ok(if anything {
        crate::storage::no_id(home)
    } else {
        Error::Missing {
            what: format!("a log in {}", home.place()),
            hint: "name the directory that spark.ferrowal.dir names: it holds ferrowal.id".into(),
        }
    })
}

/// Looks at the writers that are `wanted`: the driver's log first, then the receivers' in the order of their first
/// segments.
///
/// # Errors
/// [`Error::Missing`] where there is no log; I/O errors. Damage is no error here: the analyses tell it.
pub(crate) fn survey(
    home: &dyn Home,
    wanted: Wanted<'_>,
    look: Look,
    keys: &KeyRing,
    wrap: &Wrap<'_>,
) -> Result<Survey> {
    let Some(log) = home.log_id()? else {
        return Err(no_log(home, wanted)?);
    };
    let mut writers = wanted.writers(home)?;
    writers.sort_unstable();
    let all = std::iter::once(Which::Driver).chain(writers.into_iter().map(Which::Receiver));
    let mut parts = Vec::new();
    for which in all.filter(|which| wanted.has(*which)) {
        let notes = Notes::default();
        let storage = match look {
            Look::AllThatCanBeRead | Look::Everything => patiently(home.storage(which), &notes),
            Look::Ends => home.storage(which),
        };
        let storage = wrap(storage);
        let writer = match which {
            Which::Driver => None,
            Which::Receiver(uuid) => Some(uuid),
        };
        let deep = look == Look::Everything;
        let scope = Scope { log, writer, deep, aside: true, limit: None, settle: false };
        let mut live = false;
        // One that begins, or ends, while it is looked at was there.
        let mut lives = || {
            live |= is_claimed(home, which);
            live
        };
        let (mut analysis, unlisted) = match look_again(storage.as_ref(), scope, &mut lives) {
            Ok(analysis) => (analysis, false),
            // One directory that is not theirs to read must not hide what all the others hold.
            Err(error) if look != Look::Ends => {
                let why = error.to_string();
                cause(error)?;
                (Analysis::unlisted(storage.as_ref(), writer, &why), true)
            }
            Err(error) => return Err(error),
        };
        tell(&mut analysis, notes.all());
        if which == Which::Driver && analysis.newest == 0 && !unlisted {
            continue;
        }
        let began = if unlisted { 0 } else { super::scan::began(storage.as_ref())? };
        parts.push((began, Part { which, storage, analysis, keys: keys.clone(), live, notes, unlisted }));
    }
    parts.sort_by_key(|(began, part)| (part.which != Which::Driver, *began));
    Ok(Survey { log, parts: parts.into_iter().map(|(_, part)| part).collect() })
}

/// Whether somebody has it open for writing, as far as a look can tell.
fn is_claimed(home: &dyn Home, which: Which) -> bool {
    matches!(home.await_unclaimed(which, Duration::ZERO), Err(Error::Locked { .. }))
}

impl Survey {
    /// The name of a part that somebody writes to, or has written to since it was looked at; also of one that was not there.
    pub(crate) fn changed(&self, home: &dyn Home, wanted: Wanted<'_>) -> Result<Option<String>> {
        for part in self.parts.iter().filter(|p| !p.unlisted) {
            let newest = home.storage(part.which).list()?.last().map_or(0, |l| l.id);
            if is_claimed(home, part.which) || newest != part.analysis.newest {
                return Ok(Some(part.name()));
            }
        }
        let known = |which: &Which| self.parts.iter().any(|p| p.which == *which);
        let driver = !known(&Which::Driver)
            && wanted.has(Which::Driver)
            && !home.storage(Which::Driver).list()?.is_empty();
        let mut all =
            wanted.writers(home)?.into_iter().map(Which::Receiver).chain(driver.then_some(Which::Driver));
        Ok(all.find(|which| wanted.has(*which) && !known(which)).map(name_of))
    }
}

/// Beside a live writer what was looked at first is older than what was looked at last: groups between the two seem to be
/// missing. What is damaged is so at each look: it is looked at again until nothing is damaged that was not so the last time.
fn look_again(storage: &dyn Storage, scope: Scope, lives: &mut dyn FnMut() -> bool) -> Result<Analysis> {
    lives();
    let mut analysis = analyse(storage, scope)?;
    for look in 1..=MOST_LOOKS {
        if !lives() || !analysis.is_damaged() {
            break;
        }
        let again = analyse(storage, scope)?;
        let same = |a: &Finding, b: &Finding| {
            // How much is missing at the end may be said anew at each look.
            a == b
                || look >= PLACE_TELLS && (a.segment, a.offset, a.corrupt) == (b.segment, b.offset, b.corrupt)
        };
        let persists = |f: &Finding| analysis.findings.iter().any(|before| same(f, before));
        let all = again.findings.iter().filter(|f| f.corrupt).all(persists);
        analysis = again;
        if all {
            break;
        }
    }
    Ok(analysis)
}

/// Adds what could not be read to what was found. It may be good, and nobody can say so.
fn tell(analysis: &mut Analysis, unread: Vec<Unread>) {
    for place in unread {
        let Unread { segment, offset, end, why } = place;
        // Where its header was not read, the neighbour's.
        let mut known = analysis.segments.iter().filter(|s| s.header_checks);
        let writer = known.clone().find(|s| s.listed.id >= segment).or(known.next_back());
        let writer = writer.map_or_else(Uuid::nil, |s| s.place.writer);
        let detail = match end.saturating_sub(offset) {
            0 => why,
            bytes => format!("{bytes} bytes cannot be read: {why}"),
        };
        // What else is said of this place follows from that.
        for said in [&mut analysis.findings, &mut analysis.aside] {
            said.retain(|f| f.segment != segment || f.offset != offset);
        }
        analysis.findings.push(Finding { writer, segment, offset, corrupt: true, detail });
    }
}

/// What a segment holds, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) groups: u64,
    pub(crate) records: u64,
    /// Payload bytes, with the padding of frames where no footer tells.
    pub(crate) bytes: u64,
    /// Of the records; `i64::MAX` and `i64::MIN` where there are none.
    pub(crate) min_time: i64,
    pub(crate) max_time: i64,
    /// Groups that a later segment replaced.
    pub(crate) void: u64,
}

/// A record, met in write order.
#[derive(Debug)]
pub(crate) struct SeenRecord {
    pub(crate) writer: Uuid,
    pub(crate) segment: u64,
    /// Of its frame.
    pub(crate) offset: u64,
    pub(crate) sequence: u64,
    pub(crate) time: i64,
    /// [`Error::Key`] and [`Error::Unauthenticated`] where its checksum holds and it may not be given.
    pub(crate) payload: Result<Bytes>,
}

/// What [`Part::records`] meets.
#[derive(Debug)]
pub(crate) enum Seen {
    Record(SeenRecord),
    Bad { segment: u64, offset: u64, detail: String },
}

/// A writer's directory within the log's.
fn name_of(which: Which) -> String {
    match which {
        Which::Driver => "driver".into(),
        Which::Receiver(uuid) => format!("receivers/{uuid}"),
    }
}

/// What is in a segment.
struct Groups {
    window: Window,
    groups: Vec<GroupAt>,
    /// Where bytes are no group, and why.
    bad: Vec<(u64, String)>,
}

/// What a clean removes of one writer's part.
#[derive(Debug, Default)]
pub(crate) struct Doomed {
    /// Segments, the oldest first.
    pub(crate) segments: Vec<u64>,
    /// Whether the writer's directory goes with them.
    pub(crate) directory: bool,
    /// Why nothing of it goes, whatever the threshold.
    pub(crate) kept: Option<&'static str>,
}

impl Part {
    /// What a clean by somebody else would remove below `threshold`, without a grace. Says what `Segments::doom` does to the
    /// driver's log, once it is recovered, and what `Remains::collect` does to a dead receiver's.
    pub(crate) fn doomed(&self, home: &dyn Home, threshold: i64) -> Result<Doomed> {
        let kept = |why| Ok(Doomed { kept: Some(why), ..Doomed::default() });
        let damaged = self.analysis.is_damaged();
        if self.unlisted {
            return kept("its directory cannot be read");
        }
        let listed: Vec<u64> = self.storage.list()?.iter().map(|l| l.id).collect();
        let Which::Receiver(writer) = self.which else {
            return match (self.live, damaged) {
                (true, _) => kept("it is open for writing, and its application cleans it"),
                (_, true) => kept("it is damaged, and what is damaged is not cleaned"),
                _ => Ok(Doomed { segments: self.doomed_of_driver(&listed, threshold), ..Doomed::default() }),
            };
        };
        // Where there is no lock, a mark tells.
        let fenced = self.storage.traits().fenced;
        if self.live || fenced && home.claim_gone(self.which)?.is_none() {
            return kept("its writer is not known to be gone, and cleans for itself");
        }
        if damaged && !home.was_removed(writer)? {
            return kept("it is damaged, and what is damaged is not cleaned");
        }
        let newest = self.analysis.segments.iter().map(SegmentState::max_time).max().unwrap_or(i64::MIN);
        // It goes as a whole, or not at all.
        let whole = damaged || newest < threshold;
        let segments = if whole { listed } else { Vec::new() };
        Ok(Doomed { segments, directory: whole, kept: None })
    }

    fn doomed_of_driver(&self, listed: &[u64], threshold: i64) -> Vec<u64> {
        let analysis = &self.analysis;
        // What was to be cleaned before stays so.
        let threshold = threshold.max(analysis.threshold);
        let unused = recover::unused(self.storage.as_ref(), analysis);
        let rest: Vec<_> = analysis.segments.iter().filter(|s| !unused.contains(&s.listed.id)).collect();
        // An older generation's times may be of another clock, and count for nothing.
        let old = |s: &SegmentState| s.generation < analysis.generation || s.max_time() < threshold;
        let old = rest.iter().take(rest.len().saturating_sub(1)).take_while(|s| old(s));
        let below = listed.iter().copied().filter(|id| *id < analysis.low_water);
        let mut doomed: Vec<u64> = below.chain(old.map(|s| s.listed.id)).chain(unused).collect();
        doomed.sort_unstable();
        doomed
    }

    /// Its directory's name within the log's.
    pub(crate) fn name(&self) -> String {
        name_of(self.which)
    }

    pub(crate) fn tally(&self, segment: &SegmentState) -> Tally {
        match &segment.content {
            Content::Sealed(f) => Tally {
                groups: f.groups,
                records: f.records,
                bytes: f.bytes,
                min_time: f.min_time,
                max_time: f.max_time,
                void: f.next.saturating_sub(segment.void_from.max(f.base)),
            },
            Content::Walked { groups, .. } => {
                let mut tally = Tally {
                    groups: 0,
                    records: 0,
                    bytes: 0,
                    min_time: i64::MAX,
                    max_time: i64::MIN,
                    void: 0,
                };
                for group in segment.kept(self.analysis.end) {
                    let header = &group.header;
                    tally.groups += 1;
                    tally.records += u64::from(header.records);
                    let headers = u64::from(header.frames) * crate::format::FRAME_HEADER as u64;
                    tally.bytes += header.length.saturating_sub(headers);
                    if header.records > 0 {
                        tally.min_time = tally.min_time.min(header.min_time);
                        tally.max_time = tally.max_time.max(header.max_time);
                    }
                }
                tally.void = groups.iter().filter(|g| g.header.sequence >= segment.void_from).count() as u64;
                tally
            }
            Content::Unreadable => {
                Tally { groups: 0, records: 0, bytes: 0, min_time: i64::MAX, max_time: i64::MIN, void: 0 }
            }
        }
    }

    /// A word for how much of a segment is known.
    pub(crate) fn state(&self, segment: &SegmentState) -> &'static str {
        let newest = self.analysis.segments.last().is_some_and(|s| s.listed.id == segment.listed.id);
        match &segment.content {
            _ if segment.foreign.is_some() => "of another log",
            _ if !segment.header_checks => "damaged header",
            Content::Sealed(_) | Content::Walked { sealed: true, .. } => "sealed",
            Content::Unreadable => "unreadable",
            Content::Walked { .. } if segment.generation < self.analysis.generation => "left open",
            Content::Walked { groups, .. } if groups.is_empty() => "prepared",
            Content::Walked { .. } if newest || self.live => "open",
            Content::Walked { .. } => "left open",
        }
    }

    /// Every group of `segment` that counts, in order, by looking at the device again; and what is none before its footer.
    fn groups(&self, segment: &SegmentState) -> Result<Groups> {
        let reader = self.storage.open(segment.listed.id)?;
        let limit = segment.void_from.min(self.analysis.end);
        let walk = Walk::new(reader.clone(), segment.place, segment.block, false)?;
        let mut walk = walk.until(segment.groups_end());
        let (mut groups, mut bad) = (Vec::new(), Vec::new());
        while let Some(found) = walk.next()? {
            match found {
                Found::Group(group) if group.header.sequence < limit => groups.push(group),
                // Where there is no footer the analysis tells what is damaged, and what is torn.
                Found::Bad { offset, detail, .. } if segment.groups_end() < u64::MAX => {
                    bad.push((offset, detail))
                }
                _ => {}
            }
        }
        Ok(Groups { window: Window::new(reader), groups, bad })
    }

    /// Whether a segment of a live writer is gone since it was looked at: its file may be used again, and hold another's bytes.
    fn was_cleaned(&self, segment: &SegmentState) -> Result<bool> {
        Ok(self.live && self.storage.list()?.iter().all(|l| l.id != segment.listed.id))
    }

    /// Gives everything from group `from` on to `visit`, in write order, until it answers false; earlier generations'
    /// records are passed over. What is not readable is given, too.
    pub(crate) fn records(&self, from: u64, visit: &mut dyn FnMut(Seen) -> Result<bool>) -> Result<()> {
        self.records_in(from, |s| s.generation == self.analysis.generation, visit)
    }

    /// The same, of those segments alone that are `wanted`, whatever their generation.
    pub(crate) fn records_in(
        &self,
        from: u64,
        wanted: impl Fn(&SegmentState) -> bool,
        visit: &mut dyn FnMut(Seen) -> Result<bool>,
    ) -> Result<()> {
        'segments: for segment in self.analysis.segments.iter().filter(|s| wanted(s)) {
            let past = match &segment.content {
                Content::Sealed(f) => f.next <= from,
                _ => segment.kept(u64::MAX).last().is_some_and(|g| g.header.sequence < from),
            };
            if past {
                continue;
            }
            let Groups { mut window, groups, bad } = match self.groups(segment) {
                Ok(found) => found,
                // A live writer cleaned it meanwhile.
                Err(e) if e.is_not_found() => continue,
                Err(e) => return Err(e),
            };
            if !bad.is_empty() && self.was_cleaned(segment)? {
                continue;
            }
            let mut bad = bad.into_iter().peekable();
            for group in groups.iter().filter(|g| g.header.sequence >= from) {
                while let Some((offset, detail)) = bad.next_if(|(offset, _)| *offset < group.offset) {
                    if !visit(Seen::Bad { segment: segment.listed.id, offset, detail })? {
                        return Ok(());
                    }
                }
                let mut frames = Frames::new(group);
                let mut at = frames.at();
                while let Some(frame) = frames.next(&mut window, &segment.place, Some(&self.keys))? {
                    let id = segment.listed.id;
                    let record = |time, payload| {
                        Seen::Record(SeenRecord {
                            writer: segment.place.writer,
                            segment: id,
                            offset: at,
                            sequence: group.header.sequence,
                            time,
                            payload,
                        })
                    };
                    if matches!(frame, Frame::Bad { .. }) && self.was_cleaned(segment)? {
                        continue 'segments;
                    }
                    let seen = match frame {
                        Frame::Record { time, payload, .. } => {
                            Some(record(time, Ok(payload.into_own(Some(&window))?)))
                        }
                        Frame::Closed { time, error } => Some(record(time, Err(error))),
                        Frame::Bad { offset, detail } => Some(Seen::Bad { segment: id, offset, detail }),
                        Frame::Void => None,
                    };
                    if let Some(seen) = seen
                        && !visit(seen)?
                    {
                        return Ok(());
                    }
                    at = frames.at();
                }
            }
            for (offset, detail) in bad {
                if !visit(Seen::Bad { segment: segment.listed.id, offset, detail })? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::FileExt,
        path::Path,
        sync::{
            Mutex, PoisonError,
            atomic::{AtomicUsize, Ordering},
        },
        thread,
        time::Instant,
    };

    use super::*;
    use crate::{
        Log,
        options::{Options, Recovery, Role},
        storage::View,
    };

    fn temporary() -> Result<tempfile::TempDir> {
        tempfile::tempdir().map_err(|e| Error::io("make", "a directory", e))
    }

    fn options(dir: &Path, role: Role) -> Options {
        let mut options = Options::new(dir, role);
        options.segment_size = 1 << 20;
        options.idle_mark = Duration::from_secs(3600);
        options.linger = Duration::ZERO;
        options.clean_grace = Duration::ZERO;
        options
    }

    fn look(home: &dyn Home, wrap: &Wrap<'_>) -> Result<Survey> {
        survey(home, Wanted::All, Look::Everything, &KeyRing::default(), wrap)
    }

    /// As the driver's first segment is now.
    fn snapshot(of: &Path) -> Result<(tempfile::TempDir, Arc<dyn Storage>)> {
        let dir = temporary()?;
        let name = "driver/0000000000000001.seg";
        std::fs::create_dir(dir.path().join("driver"))
            .and_then(|()| std::fs::copy(of.join(name), dir.path().join(name)))
            .map_err(|e| Error::io("copy", of.display(), e))?;
        let storage = crate::storage::home(&options(dir.path(), Role::Driver))?.storage(Which::Driver);
        Ok((dir, storage))
    }

    /// The first looks at the first segment show it as it was, one after the other.
    fn stale(snapshots: Vec<Arc<dyn Storage>>) -> impl Fn(Arc<dyn Storage>) -> Arc<dyn Storage> {
        let looks = Arc::new(AtomicUsize::new(0));
        move |storage| {
            let (snapshots, looks) = (snapshots.clone(), looks.clone());
            Arc::new(View::new(storage, move |id, opened| match id {
                1 => match snapshots.get(looks.fetch_add(1, Ordering::Relaxed)) {
                    Some(older) => older.open(1),
                    None => opened,
                },
                _ => opened,
            }))
        }
    }

    /// The next one is made ahead of need, beside; a look at a listing that changes is begun anew.
    fn await_segments(home: &dyn Home, count: usize) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(60);
        while home.storage(Which::Driver).list()?.len() < count {
            assert!(Instant::now() < until, "no segment {count}");
            thread::yield_now();
        }
        Ok(())
    }

    /// The first look at the first segment is of before the second one was begun.
    #[test]
    fn what_a_live_writer_does_between_two_looks_is_no_damage() -> Result<()> {
        let dir = temporary()?;
        let home = crate::storage::home(&options(dir.path(), Role::Driver))?;
        let log = Log::open(options(dir.path(), Role::Driver))?;
        log.append(&[1; 1000], 1)?;
        let (_kept, older) = snapshot(dir.path())?;
        (0..6).try_for_each(|_| log.append(&[2; 200_000], 2).map(drop))?;
        await_segments(home.as_ref(), 3)?;
        let seen = look(home.as_ref(), &stale(vec![older.clone()]))?;
        let part = &seen.parts[0];
        assert!(part.live && !part.analysis.is_damaged(), "{:?}", part.analysis.findings);
        log.close()?;
        // Nobody writes any more: what is missing is missing.
        let seen = look(home.as_ref(), &stale(vec![older]))?;
        assert!(!seen.parts[0].live && seen.parts[0].analysis.is_damaged());
        Ok(())
    }

    #[test]
    fn beside_a_live_writer_what_is_damaged_brings_nothing_else_with_it() -> Result<()> {
        let dir = temporary()?;
        let home = crate::storage::home(&options(dir.path(), Role::Driver))?;
        let log = Log::open(options(dir.path(), Role::Driver))?;
        let rotten = log.append(&[1; 1000], 1)?;
        log.append(&[1; 1000], 1)?;
        let path = dir.path().join("driver/0000000000000001.seg");
        std::fs::File::options()
            .write(true)
            .open(&path)
            .and_then(|file| file.write_all_at(&[9], rotten.offset + 100))
            .map_err(|e| Error::io("damage", path.display(), e))?;
        let mut kept = Vec::new();
        for _ in 0..2 {
            log.append(&[2; 200_000], 2)?;
            kept.push(snapshot(dir.path())?);
        }
        (0..5).try_for_each(|_| log.append(&[2; 200_000], 2).map(drop))?;
        await_segments(home.as_ref(), 3)?;
        let older = kept.iter().map(|(_, storage)| storage.clone()).collect();
        let seen = look(home.as_ref(), &stale(older))?;
        let part = &seen.parts[0];
        let corrupt = part.analysis.findings.iter().filter(|f| f.corrupt).count();
        assert!(part.live && corrupt == 1, "{:?}", part.analysis.findings);
        log.close()
    }

    #[test]
    fn a_writer_that_begins_while_its_log_is_looked_at_is_noticed() -> Result<()> {
        let dir = temporary()?;
        let home = crate::storage::home(&options(dir.path(), Role::Driver))?;
        let log = Log::open(options(dir.path(), Role::Driver))?;
        log.append(&[1; 1000], 1)?;
        log.close()?;
        drop(log);
        let quiet = look(home.as_ref(), &|storage| storage)?;
        assert_eq!(quiet.changed(home.as_ref(), Wanted::All)?, None);
        let begun: Arc<Mutex<Option<Log>>> = Arc::default();
        let wrap = |storage: Arc<dyn Storage>| {
            let (begun, options) = (begun.clone(), options(dir.path(), Role::Driver));
            let view = View::new(storage, move |_, opened| {
                let mut begun = begun.lock().unwrap_or_else(PoisonError::into_inner);
                if begun.is_none() {
                    let log = Log::open(options.clone())?;
                    drop(log.scan()?);
                    log.append(&[2; 1000], 2)?;
                    *begun = Some(log);
                }
                opened
            });
            Arc::new(view) as Arc<dyn Storage>
        };
        let seen = look(home.as_ref(), &wrap)?;
        assert!(seen.parts[0].live, "it has the log open");
        // One that was looked at before it began.
        assert_eq!(quiet.changed(home.as_ref(), Wanted::All)?.as_deref(), Some("driver"));
        if let Some(log) = begun.lock().unwrap_or_else(PoisonError::into_inner).take() {
            log.close()?;
        }
        assert_eq!(quiet.changed(home.as_ref(), Wanted::All)?.as_deref(), Some("driver"), "it has written");
        let receivers = Log::open(options(dir.path(), Role::Receivers))?;
        let quiet = look(home.as_ref(), &|storage| storage)?;
        let writer = receivers.append(b"new", 1)?.writer;
        receivers.close()?;
        assert_eq!(quiet.changed(home.as_ref(), Wanted::Driver)?, None);
        assert_eq!(quiet.changed(home.as_ref(), Wanted::All)?, Some(format!("receivers/{writer}")));
        Ok(())
    }

    /// A person may look at a page of it for long.
    #[test]
    fn a_segment_whose_file_is_used_again_while_its_records_are_read_is_no_damage() -> Result<()> {
        let dir = temporary()?;
        let home = crate::storage::home(&options(dir.path(), Role::Driver))?;
        let log = Log::open(options(dir.path(), Role::Driver))?;
        for time in 0..60 {
            log.append(&[1; 100_000], time)?;
        }
        let path = dir.path().join("driver/0000000000000003.seg");
        let seen = look(home.as_ref(), &|storage| storage)?;
        let part = &seen.parts[0];
        assert!(part.live && !part.analysis.is_damaged(), "{:?}", part.analysis.findings);
        let (mut bad, mut done) = (Vec::new(), false);
        part.records(0, &mut |seen| {
            match seen {
                Seen::Record(record) if record.segment == 3 && !done => {
                    done = true;
                    let file = std::fs::File::options().write(true).open(&path);
                    log.clean(55, true)?;
                    assert!(!path.exists());
                    // As another process's writer uses the file again.
                    file.and_then(|file| file.write_all_at(&vec![0x5a; 1 << 20], 0))
                        .map_err(|e| Error::io("write", path.display(), e))?;
                }
                Seen::Bad { segment, offset, detail } => bad.push((segment, offset, detail)),
                Seen::Record(_) => {}
            }
            Ok(true)
        })?;
        assert!(done && bad.is_empty(), "{bad:?}");
        log.close()
    }

    /// Some of the first one's segments are missing or have no header any more.
    #[test]
    fn receivers_keep_their_order_in_a_copy() -> Result<()> {
        use crate::log::salvage;
        let read = |dir: &Path| -> Result<Vec<u8>> {
            let mut options = options(dir, Role::Receivers);
            options.recovery = Recovery::Salvage;
            let log = Log::open(options)?;
            let all = log.scan()?.map(|record| Ok(record?[0])).collect::<Result<_>>();
            log.close()?;
            all
        };
        for (missing, rotten) in
            [(vec![1], vec![]), (vec![1, 2], vec![]), (vec![], vec![1]), (vec![1], vec![2])]
        {
            let (base, mut writers) = (temporary()?, Vec::new());
            let (dir, copy) = (base.path().join("log"), base.path().join("copy"));
            for (name, records) in [(b'a', 40), (b'b', 1), (b'c', 1)] {
                let log = Log::open(options(&dir, Role::Receivers))?;
                let mut last = None;
                for _ in 0..records {
                    last = Some(log.append(&vec![name; 100_000], 1)?);
                }
                writers.extend(last.map(|handle| handle.writer));
                log.close()?;
            }
            let path = |id: u64| dir.join(format!("receivers/{}/{id:016}.seg", writers[0]));
            let failed = |e| Error::io("damage", dir.display(), e);
            missing.iter().try_for_each(|id| std::fs::remove_file(path(*id))).map_err(failed)?;
            for id in rotten {
                let file = std::fs::File::options().write(true).open(path(id)).map_err(failed)?;
                file.write_all_at(&[0; 200], 0).map_err(failed)?;
            }
            let before = read(&dir)?;
            assert!(before.is_sorted() && before.contains(&b'a'), "{before:?}");
            let home = crate::storage::home(&options(&dir, Role::Receivers))?;
            let seen = look(home.as_ref(), &|storage| storage)?;
            salvage::begin_copy(&copy, &[])?;
            for part in &seen.parts {
                let to = copy.join(part.name());
                salvage::make_dir(&to)?;
                salvage::salvage(part, &to)?;
            }
            salvage::end_copy(&copy, seen.log)?;
            assert_eq!(read(&copy)?, before, "{missing:?}");
        }
        Ok(())
    }
}
