//! A copy of a log without its damage, in which every good record keeps its handle.
//!
//! Each segment is written anew under its own number. Groups that check are copied to where they were. Where a group has
//! bad frames, or its header is lost, a new group header takes its place: frames that still check stay where they are, and
//! what lies between them becomes void frames, as if their writers had given up. What is missing altogether is replaced by
//! groups without records. So no sequence is missing, and the copy opens under every recovery policy; a handle whose
//! record was lost is answered as corrupt.

use std::{
    fs::{DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
};

use crc32fast::Hasher;
use uuid::Uuid;

use super::{
    analysis::{Analysis, Content, SegmentState},
    scan::began_from,
    survey::Part,
    walk::{Found, Frame, Frames, GroupAt, Walk, Window},
    wall_clock,
};
use crate::{
    codec::{KeyId, KeyRing},
    error::{Error, Result},
    format::{
        BLOCK, Coded, Coding, FRAME_HEADER, Footer, FrameHeader, FrameKind, GROUP_HEADER, GroupHeader, Past,
        Place, SegmentHeader, UNPADDED, pad_to,
    },
    storage::SegmentRead,
};

/// Bytes copied at once.
const PIECE: usize = 1 << 20;

/// What came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Salvaged {
    pub(crate) segments: u64,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    /// Groups in which something was replaced, or that were replaced as a whole.
    pub(crate) mended: u64,
    /// Segments that were not there, and are there now, without records.
    pub(crate) remade: u64,
    /// Groups for which there was no room: the copy still lacks them, and opens under salvage only.
    pub(crate) unfilled: u64,
    /// Records that no key authenticates, where that was asked for.
    pub(crate) refused: u64,
    /// Segments of which nothing could be checked: whose they are is not known, and every checksum hangs on that.
    pub(crate) unknown: u64,
}

impl std::ops::AddAssign for Salvaged {
    fn add_assign(&mut self, other: Salvaged) {
        self.segments += other.segments;
        self.records += other.records;
        self.bytes += other.bytes;
        self.mended += other.mended;
        self.remade += other.remade;
        self.unfilled += other.unfilled;
        self.refused += other.refused;
        self.unknown += other.unknown;
    }
}

/// Copies one writer's log into `dir`, which exists and is empty. Durable on return, but for `dir`'s own name.
///
/// # Errors
/// I/O errors; [`Error::Key`] where encryption is required and a key is missing.
pub(crate) fn salvage(part: &Part, dir: &Path) -> Result<Salvaged> {
    let analysis = &part.analysis;
    let mut out = Salvaged::default();
    // The sequence of the next group that counts.
    let mut expected = analysis.first;
    let mut missing = analysis.missing();
    missing.reverse();
    for (i, segment) in analysis.segments.iter().enumerate() {
        let path = dir.join(format!("{:016}.seg", segment.listed.id));
        if segment.generation < analysis.generation {
            // Set aside: never replayed, and not looked at.
            copy_whole(part, segment, &path)?;
            out.segments += 1;
            continue;
        }
        while missing.last().is_some_and(|id| *id < segment.listed.id) {
            let Some(id) = missing.pop() else { break };
            let upto = segment.kept_base(analysis.end).unwrap_or(expected).max(expected);
            let created = began_from(part.storage.as_ref(), id)?;
            out += remake(analysis, (segment, created), id, expected..upto, dir)?;
            expected = upto;
        }
        let next = analysis.segments.get(i + 1);
        let gone = missing.last().is_some_and(|id| next.is_none_or(|s| *id < s.listed.id));
        // The next segment's groups may be what is missing behind this one's: then they are left to it.
        let nameless = next.is_some_and(|s| s.kept_base(analysis.end).is_none()) && !has_bad(segment);
        let upto = match own_next(segment) {
            Some(next) => next,
            None if gone || nameless => 0,
            None => next_base(analysis, i).unwrap_or(analysis.end),
        };
        let upto = upto.min(segment.void_from).min(analysis.end);
        let mut copy = Copying::begin(part, segment, &path, expected)?;
        copy.groups(upto)?;
        expected = copy.expected;
        // One of another log is told by itself.
        out.unknown += u64::from(matches!(segment.content, Content::Unreadable) && segment.foreign.is_none());
        out += copy.end(analysis)?;
    }
    out.unfilled += analysis.end.saturating_sub(expected);
    sync_dir(dir)?;
    Ok(out)
}

/// One past the last sequence of a segment, where its footer says so.
fn own_next(segment: &SegmentState) -> Option<u64> {
    match &segment.content {
        Content::Sealed(f) => Some(f.next),
        Content::Walked { footer, .. } => footer.map(|f| f.next),
        Content::Unreadable => None,
    }
}

/// Whether there are bytes that are no group.
fn has_bad(segment: &SegmentState) -> bool {
    matches!(&segment.content, Content::Walked { bad, .. } if !bad.is_empty())
}

/// The first sequence of a later segment.
fn next_base(analysis: &Analysis, i: usize) -> Option<u64> {
    analysis.segments[i + 1..].iter().find_map(|s| s.kept_base(analysis.end))
}

fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Error {
    move |e| Error::io(action, path.display(), e)
}

fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(failed("sync", dir))
}

fn create(path: &Path) -> Result<File> {
    File::options().write(true).create_new(true).mode(0o600).open(path).map_err(failed("create", path))
}

/// Makes a directory and those above it, for their owner alone.
pub(crate) fn make_dir(dir: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed("create", dir))
}

fn copy_bytes(from: &dyn SegmentRead, to: &File, path: &Path, range: std::ops::Range<u64>) -> Result<()> {
    let mut buffer = vec![0; PIECE];
    let mut at = range.start;
    while at < range.end {
        let n = from.read(at, &mut buffer[..PIECE.min((range.end - at) as usize)])?;
        if n == 0 {
            break;
        }
        to.write_all_at(&buffer[..n], at).map_err(failed("write", path))?;
        at += n as u64;
    }
    Ok(())
}

fn copy_whole(part: &Part, segment: &SegmentState, path: &Path) -> Result<()> {
    let from = part.storage.open(segment.listed.id)?;
    let to = create(path)?;
    copy_bytes(from.as_ref(), &to, path, 0..segment.listed.length)?;
    to.sync_all().map_err(failed("sync", path))
}

/// How the frames of a segment are kept whose header does not say it any more. Its version hangs on that, and so whether an
/// older release refuses it or takes what it does not know for damage.
fn coding(part: &Part, segment: &SegmentState, reader: &Arc<dyn SegmentRead>) -> Result<Coding> {
    // A writer keeps to one way.
    let mut others = part.analysis.segments.iter().filter(|s| s.header_checks && !denies(part, s));
    if let Some(other) = others.find(|s| s.place.writer == segment.place.writer) {
        return Ok(other.coding);
    }
    let mut coding = Coding::default();
    let walk = Walk::new(reader.clone(), segment.place, segment.block, false)?;
    let mut walk = walk.until(segment.groups_end());
    while let Some(found) = walk.next()? {
        let Found::Group(group) = found else { continue };
        let mut frames = Frames::new(&group);
        loop {
            let at = frames.at();
            let Some(frame) = frames.next(&mut walk.window, &segment.place, None)? else { break };
            let mut bytes = [0; FRAME_HEADER + 8];
            if !matches!(frame, Frame::Record { .. }) || reader.read(at, &mut bytes)? < bytes.len() {
                continue;
            }
            let (head, key) = bytes.split_at(FRAME_HEADER);
            let Some(codec) = head.first_chunk().and_then(FrameHeader::decode).map(|f| f.coded.codec) else {
                continue;
            };
            coding.codec = coding.codec.max(u32::from(codec.packing.number()));
            if codec.sealed {
                coding.key[..8].copy_from_slice(key);
            }
        }
    }
    Ok(coding)
}

/// Whether a segment's header says that its records are not encrypted, where only those that are count: it is anybody's, as
/// they are.
fn denies(part: &Part, segment: &SegmentState) -> bool {
    part.keys.is_required() && KeyId::of_header(segment.coding.key).is_none()
}

/// Makes a segment that is missing, with a group without records for each sequence that must have been in it. It is as old as
/// the next one, so that receivers' logs keep their order.
fn remake(
    analysis: &Analysis,
    (next, created): (&SegmentState, u64),
    id: u64,
    sequences: std::ops::Range<u64>,
    dir: &Path,
) -> Result<Salvaged> {
    let path = dir.join(format!("{id:016}.seg"));
    let place = Place { segment: id, ..next.place };
    let previous = analysis.segments.iter().rev().map(|s| s.listed.id).find(|other| *other < id).unwrap_or(0);
    let past = Past {
        watermark: sequences.start,
        threshold: analysis.threshold,
        low_water: analysis.low_water,
        first: analysis.first,
        previous,
    };
    let header = SegmentHeader::new(&place, analysis.generation, next.epoch, created, UNPADDED, past);
    let file = create(&path)?;
    file.write_all_at(&header.encode(), 0).map_err(failed("write", &path))?;
    let mut at = u64::from(header.ends());
    for sequence in sequences.clone() {
        let bytes = empty_group(analysis, sequence, sequences.start).encode(&place, at);
        file.write_all_at(&bytes, at).map_err(failed("write", &path))?;
        at += GroupHeader::footprint(0, UNPADDED);
    }
    let footer = Footer {
        end: at,
        groups: sequences.end - sequences.start,
        records: 0,
        bytes: 0,
        base: sequences.start,
        next: sequences.end,
        min_time: i64::MAX,
        max_time: i64::MIN,
        watermark: sequences.end,
        threshold: analysis.threshold,
        low_water: analysis.low_water,
        first: analysis.first,
        sealed: wall_clock(),
    };
    file.write_all_at(&footer.encode(&place, at, header.ends()), at).map_err(failed("write", &path))?;
    file.sync_all().map_err(failed("sync", &path))?;
    Ok(Salvaged { segments: 1, remade: 1, mended: sequences.end - sequences.start, ..Salvaged::default() })
}

fn empty_group(analysis: &Analysis, sequence: u64, base: u64) -> GroupHeader {
    GroupHeader {
        length: 0,
        sequence,
        records: 0,
        frames: 0,
        min_time: 0,
        max_time: 0,
        running_max: i64::MIN,
        watermark: sequence,
        threshold: analysis.threshold,
        low_water: analysis.low_water,
        base,
        first: analysis.first,
    }
}

/// One segment on its way into the copy.
struct Copying<'a> {
    analysis: &'a Analysis,
    /// Where only what they authenticate is good.
    keys: Option<&'a KeyRing>,
    segment: &'a SegmentState,
    reader: Arc<dyn SegmentRead>,
    file: File,
    path: &'a Path,
    /// Where the next group goes at the earliest.
    at: u64,
    /// The sequence that comes next, and the first one here.
    expected: u64,
    base: u64,
    running_max: i64,
    done: Salvaged,
    groups: u64,
    min_time: i64,
    max_time: i64,
}

/// A group's header that checks; with frames that all do, or not.
enum Piece {
    Good(GroupAt),
    Broken(GroupAt),
}

/// A frame that checks.
#[derive(Debug, Clone, Copy)]
struct Good {
    at: u64,
    end: u64,
    /// A record's; a void frame has none.
    time: Option<i64>,
}

/// A group that is to be made anew around frames that check.
#[derive(Debug)]
struct Planned {
    start: u64,
    frames: Vec<Good>,
}

impl Planned {
    /// Where the next group may begin.
    fn end(&self, block: u64) -> u64 {
        pad_to(self.frames.last().map_or(self.start + GROUP_HEADER as u64, |f| f.end), block)
    }
}

/// Divides frames among `most` groups at most, the first of which begins at `start`: a frame that lies right behind where
/// a header may have been, and not right behind another frame, was most likely its group's first.
fn split(start: u64, frames: &[Good], most: usize, block: u64) -> Vec<Planned> {
    let mut groups = vec![Planned { start, frames: Vec::new() }];
    for frame in frames {
        let header = frame.at - GROUP_HEADER as u64;
        let room = groups.len() < most;
        if let Some(last) = groups.last_mut() {
            let follows = last.frames.last().is_some_and(|f| f.end == frame.at);
            let begins = header.is_multiple_of(block) && header >= last.end(block) && !follows;
            if !(room && begins) {
                last.frames.push(*frame);
                continue;
            }
        }
        groups.push(Planned { start: header, frames: vec![*frame] });
    }
    groups
}

impl<'a> Copying<'a> {
    fn begin(
        part: &'a Part,
        segment: &'a SegmentState,
        path: &'a Path,
        expected: u64,
    ) -> Result<Copying<'a>> {
        let analysis = &part.analysis;
        let reader = part.storage.open(segment.listed.id)?;
        let file = create(path)?;
        if segment.header_checks && !denies(part, segment) {
            copy_bytes(reader.as_ref(), &file, path, 0..u64::from(segment.ends))?;
        } else {
            let older = analysis.segments.iter().filter(|s| s.listed.id < segment.listed.id);
            let past = Past {
                watermark: expected,
                threshold: analysis.threshold,
                low_water: analysis.low_water,
                first: analysis.first,
                previous: older.map(|s| s.listed.id).max().unwrap_or(0),
            };
            // It orders the receivers' logs.
            let created = began_from(part.storage.as_ref(), segment.listed.id)?;
            let (place, generation) = (&segment.place, analysis.generation);
            let header = SegmentHeader::new(place, generation, segment.epoch, created, segment.block, past)
                .coded(coding(part, segment, &reader)?);
            file.write_all_at(&header.encode(), 0).map_err(failed("write", path))?;
        }
        Ok(Copying {
            analysis,
            keys: Some(&part.keys).filter(|keys| keys.is_required()),
            segment,
            reader,
            file,
            path,
            at: u64::from(segment.ends),
            expected,
            base: segment.kept_base(analysis.end).unwrap_or(expected),
            running_max: i64::MIN,
            done: Salvaged { segments: 1, mended: u64::from(!segment.header_checks), ..Salvaged::default() },
            groups: 0,
            min_time: i64::MAX,
            max_time: i64::MIN,
        })
    }

    /// Copies and mends every group up to the sequence `upto`.
    fn groups(&mut self, upto: u64) -> Result<()> {
        let limit = self.segment.void_from.min(self.analysis.end);
        let end = self.segment.groups_end();
        let walk = Walk::new(self.reader.clone(), self.segment.place, self.segment.block, true)?;
        let mut walk = walk.until(end);
        let mut window = Window::new(self.reader.clone());
        while let Some(found) = walk.next()? {
            let piece = match found {
                Found::Group(group) => Piece::Good(group),
                Found::Bad { offset, end: Some(end), .. } => match self.group_of(offset, end)? {
                    Some(group) => Piece::Broken(group),
                    None => continue,
                },
                Found::Bad { .. } | Found::Footer(_) => continue,
            };
            let (Piece::Good(group) | Piece::Broken(group)) = &piece;
            let sequence = group.header.sequence;
            // Void, or torn, or (in a file that was a segment before) not where it belongs.
            if sequence >= limit || sequence < self.expected {
                continue;
            }
            let refused = self.refused(group, &mut window)?;
            let (offset, end) = (group.offset, group.end);
            if sequence > self.expected {
                self.fill(offset, sequence)?;
            }
            match piece {
                Piece::Good(group) if refused == 0 => self.keep(&group)?,
                Piece::Good(group) | Piece::Broken(group) => {
                    self.done.refused += refused;
                    let start = group.offset + GROUP_HEADER as u64;
                    let end = start + group.header.length;
                    let frames = self.good_frames(start, end)?;
                    self.mend(group.offset, group.header, &frames, Some(end))?;
                }
            }
            self.at = end;
            self.expected = sequence + 1;
        }
        if self.expected < upto {
            let behind = self.segment.listed.length.saturating_sub(u64::from(self.segment.ends)).min(end);
            let unit = GroupHeader::footprint(0, self.segment.block);
            // Nobody knows how long one was of which nothing can be read.
            let behind = match self.segment.content {
                Content::Unreadable => behind.max(self.at + (upto - self.expected).saturating_mul(unit)),
                _ => behind,
            };
            // For what finds no room here there may be some in the next segment.
            let room = behind.saturating_sub(self.at) / unit;
            self.fill(behind, upto.min(self.expected + room))?;
        }
        Ok(())
    }

    /// How many records of a group no key authenticates, where that is asked for. Who forgot a key loses nothing: it is an
    /// error.
    fn refused(&self, group: &GroupAt, window: &mut Window) -> Result<u64> {
        let Some(keys) = self.keys else { return Ok(0) };
        let (mut frames, mut refused) = (Frames::new(group), 0);
        while let Some(frame) = frames.next(window, &self.segment.place, Some(keys))? {
            match frame {
                Frame::Closed { error: Error::Unauthenticated { .. }, .. } => refused += 1,
                Frame::Closed { error, .. } => return Err(error),
                _ => {}
            }
        }
        Ok(refused)
    }

    /// The group that ends at `end` and has a bad frame at `frame`.
    fn group_of(&self, frame: u64, end: u64) -> Result<Option<GroupAt>> {
        let block = u64::from(self.segment.block);
        let mut offset = self.at;
        while offset < frame {
            let mut bytes = [0; GROUP_HEADER];
            if self.reader.read(offset, &mut bytes)? < GROUP_HEADER {
                return Ok(None);
            }
            if let Some(header) = GroupHeader::decode(&bytes, &self.segment.place, offset) {
                let ends = offset.saturating_add(GROUP_HEADER as u64).saturating_add(header.length);
                if pad_to(ends, block) == end {
                    return Ok(Some(GroupAt { offset, end, header, bare: None }));
                }
            }
            offset += block;
        }
        Ok(None)
    }

    fn note(&mut self, header: &GroupHeader) {
        self.groups += 1;
        self.done.records += u64::from(header.records);
        let headers = u64::from(header.frames) * FRAME_HEADER as u64;
        self.done.bytes += header.length.saturating_sub(headers);
        if header.records > 0 {
            self.min_time = self.min_time.min(header.min_time);
            self.max_time = self.max_time.max(header.max_time);
        }
        self.running_max = self.running_max.max(header.running_max);
    }

    fn keep(&mut self, group: &GroupAt) -> Result<()> {
        copy_bytes(self.reader.as_ref(), &self.file, self.path, group.offset..group.end)?;
        self.note(&group.header);
        Ok(())
    }

    /// Replaces the groups from the expected one up to `upto`, which were between what was written and `end`. Frames that
    /// still check there stay where they are: where they lie tells where most of the groups began.
    fn fill(&mut self, end: u64, upto: u64) -> Result<()> {
        let block = u64::from(self.segment.block);
        let unit = GroupHeader::footprint(0, self.segment.block);
        let missing = upto - self.expected;
        if missing == 0 {
            return Ok(());
        }
        if end.saturating_sub(self.at) / unit < missing {
            self.done.unfilled += missing;
            self.expected = upto;
            return Ok(());
        }
        let mut frames = self.good_frames(self.at + GROUP_HEADER as u64, end)?;
        let plan = loop {
            let groups = split(self.at, &frames, missing as usize, block);
            // Between the groups, and behind the last, there must be room for those of which nothing is left.
            let ends = groups.iter().map(|g| g.end(block));
            let starts = groups.iter().skip(1).map(|g| g.start).chain([end]);
            let room: u64 = ends.zip(starts).map(|(end, next)| next.saturating_sub(end) / unit).sum();
            if room + groups.len() as u64 >= missing || frames.pop().is_none() {
                break groups;
            }
        };
        let mut empty = missing.saturating_sub(plan.len() as u64);
        let starts: Vec<u64> = plan.iter().skip(1).map(|g| g.start).chain([end]).collect();
        for (group, next) in plan.iter().zip(starts) {
            let mut at = self.mend(group.start, self.nothing(), &group.frames, None)?;
            self.expected += 1;
            while empty > 0 && at + unit <= next {
                at = self.mend(at, self.nothing(), &[], None)?;
                self.expected += 1;
                empty -= 1;
            }
            self.at = at;
        }
        self.done.unfilled += upto - self.expected;
        self.expected = upto;
        Ok(())
    }

    /// The header of a group without records, for the sequence that comes next.
    fn nothing(&self) -> GroupHeader {
        GroupHeader { running_max: self.running_max, ..empty_group(self.analysis, self.expected, self.base) }
    }

    /// Every frame that checks from `start` up to `end`.
    fn good_frames(&self, start: u64, end: u64) -> Result<Vec<Good>> {
        let offset = start - GROUP_HEADER as u64;
        let header = GroupHeader { length: end.saturating_sub(start), ..self.nothing() };
        let mut frames = Frames::new(&GroupAt { offset, end, header, bare: None });
        let mut window = Window::new(self.reader.clone());
        let mut good: Vec<Good> = Vec::new();
        loop {
            let at = frames.at();
            let Some(frame) = frames.next(&mut window, &self.segment.place, self.keys)? else {
                return Ok(good);
            };
            let time = match frame {
                Frame::Record { time, .. } => Some(time),
                Frame::Void => None,
                Frame::Closed { error: error @ Error::Key { .. }, .. } => return Err(error),
                Frame::Bad { .. } | Frame::Closed { .. } => continue,
            };
            let gap = at - good.last().map_or(start, |g| g.end);
            // Where no void frame fits between, it is bytes that happen to check.
            if gap == 0 || gap >= FRAME_HEADER as u64 {
                good.push(Good { at, end: frames.at(), time });
            }
        }
    }

    fn write(&self, bytes: &[u8], at: u64) -> Result<()> {
        self.file.write_all_at(bytes, at).map_err(failed("write", self.path))
    }

    /// Writes a group at `offset` with these frames; what lies between them, and up to `end` if that is given, becomes
    /// void. Gives where the next group may begin.
    fn mend(&mut self, offset: u64, header: GroupHeader, frames: &[Good], end: Option<u64>) -> Result<u64> {
        let start = offset + GROUP_HEADER as u64;
        let (mut at, mut count, mut records) = (start, 0, 0);
        let (mut min_time, mut max_time) = (i64::MAX, i64::MIN);
        for frame in frames {
            if frame.at > at {
                self.void(at, frame.at - at)?;
                count += 1;
            }
            copy_bytes(self.reader.as_ref(), &self.file, self.path, frame.at..frame.end)?;
            count += 1;
            if let Some(time) = frame.time {
                records += 1;
                min_time = min_time.min(time);
                max_time = max_time.max(time);
            }
            at = frame.end;
        }
        if let Some(end) = end.filter(|end| *end >= at + FRAME_HEADER as u64) {
            self.void(at, end - at)?;
            count += 1;
            at = end;
        }
        let any = records > 0;
        let header = GroupHeader {
            length: at - start,
            records,
            frames: count,
            min_time: if any { min_time } else { 0 },
            max_time: if any { max_time } else { 0 },
            running_max: self.running_max.max(header.running_max).max(max_time),
            ..header
        };
        self.write(&header.encode(&self.segment.place, offset), offset)?;
        self.note(&header);
        self.done.mended += 1;
        Ok(offset + GroupHeader::footprint(header.length, self.segment.block))
    }

    /// A void frame over `bytes` bytes, at least a frame header's.
    fn void(&self, at: u64, bytes: u64) -> Result<()> {
        let length = u32::try_from(bytes - FRAME_HEADER as u64).ok().filter(|l| *l <= i32::MAX as u32);
        let length = length.ok_or_else(|| Error::Internal(format!("a void frame of {bytes} bytes")))?;
        let mut payload = Hasher::new();
        let zeros = vec![0; PIECE.min(length as usize)];
        let mut left = length as usize;
        while left > 0 {
            let n = left.min(PIECE);
            payload.update(&zeros[..n]);
            self.write(&zeros[..n], at + (FRAME_HEADER + length as usize - left) as u64)?;
            left -= n;
        }
        let (header, _) =
            FrameHeader::encode(FrameKind::Void, Coded::plain(length), 0, &payload, &self.segment.place, at);
        self.write(&header, at)
    }

    /// Seals the copy.
    fn end(self, analysis: &Analysis) -> Result<Salvaged> {
        let at = pad_to(self.at, u64::from(self.segment.block.max(BLOCK)));
        let was = match &self.segment.content {
            Content::Sealed(f) => Some(f.watermark),
            Content::Walked { footer, .. } => footer.map(|f| f.watermark),
            Content::Unreadable => None,
        };
        let footer = Footer {
            end: at,
            groups: self.groups,
            records: self.done.records,
            bytes: self.done.bytes,
            base: if self.groups > 0 { self.base.min(self.expected) } else { self.expected },
            next: self.expected,
            min_time: self.min_time,
            max_time: self.max_time,
            watermark: was.unwrap_or(0).max(self.expected),
            threshold: analysis.threshold,
            low_water: analysis.low_water,
            first: analysis.first,
            sealed: wall_clock(),
        };
        let bytes = footer.encode(&self.segment.place, at, self.segment.ends);
        self.write(&bytes, at)?;
        self.file.sync_all().map_err(failed("sync", self.path))?;
        Ok(self.done)
    }
}

/// Makes the directory of a copy, with what else than segments a log's directory says; but for its uuid.
pub(crate) fn begin_copy(dir: &Path, small_files: &[(&str, Vec<u8>)]) -> Result<()> {
    make_dir(dir)?;
    let empty = std::fs::read_dir(dir).map_err(failed("list", dir))?.next().is_none();
    if !empty {
        return Err(Error::Config(format!(
            "{} is not empty: name a directory that does not exist yet",
            dir.display()
        )));
    }
    small_files.iter().try_for_each(|(name, bytes)| small_file(dir, name, bytes))?;
    sync_dir(dir)
}

/// Makes the copy a log, last: one that was cut short must not be taken for the whole of it.
pub(crate) fn end_copy(dir: &Path, log: Uuid) -> Result<()> {
    small_file(dir, "ferrowal.id", format!("{log}\n").as_bytes())?;
    sync_dir(dir)
}

fn small_file(dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = dir.join(name);
    if let Some(parent) = path.parent() {
        make_dir(parent)?;
    }
    let file = create(&path)?;
    file.write_all_at(bytes, 0).and_then(|()| file.sync_all()).map_err(failed("write", &path))
}
