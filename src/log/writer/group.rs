//! A group on its way to the device: seats for records, filled outside of the lock, then encoded for one place.
//!
//! One buffer holds a group from its header to its padding. Every seat owns its own part of it (`bytes` splits a
//! buffer without copying), so records are copied side by side; encoding joins the parts again. The payload's crc is
//! taken from the copy, once; moving a group to another segment only binds it to another place.
//!
//! Groups are used again once the last of their members has gone ([`Spent`]): a write allocates nothing.

use std::{
    collections::VecDeque,
    io::IoSlice,
    sync::{Mutex, MutexGuard, PoisonError, atomic::Ordering},
};

use bytes::BytesMut;
use crc32fast::Hasher;

use super::{core::Written, pool::BUFFER, staging::Staging};
use crate::{
    codec::{Frame, GroupKey, Key, unseal},
    commit::{Copies, Gate, Manner},
    error::{Error, Result},
    format::{Coded, FRAME_HEADER, FrameHeader, FrameKind, GROUP_HEADER, GroupHeader, Place, SEAL_PREFIX},
    log::RecordSource,
    planted::planted,
    storage::{Barrier, SegmentWrite},
    sync::{Arc, AtomicU32},
};

/// Frames that one group holds at most; their bookkeeping is small, but not nothing.
const MOST_FRAMES: usize = 4096;

/// Answered groups that are kept to be used again: more than are about at a time.
const SPENT: usize = 8;
/// Of these, so many are looked at before a new one is made: one that cannot be used yet does not stand before the others.
const LOOKED_AT: usize = 3;
/// Bytes of a record that is to be encrypted which are copied at once: the JVM copies an array in whole or not at all.
const SEALED_PIECE: usize = 32 << 10;

/// One group. Shared by its members, by whoever writes it, and by the machine.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) gate: Arc<Gate>,
    pub(crate) copies: Copies,
    seats_filled: AtomicU32,
    /// Set for a record of its own group, staged in pieces by its caller: payload bytes and time.
    pub(crate) large: Option<Large>,
    staged: Mutex<Staged>,
    answer: Mutex<Option<Result<Placed>>>,
}

/// A record that does not fit in a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Large {
    pub(crate) length: u32,
    pub(crate) time: i64,
}

/// The bytes of a group before and between its writes.
#[derive(Debug, Default)]
struct Staged {
    /// The group's header, then, joined, the whole group.
    whole: BytesMut,
    slots: Vec<Option<Slot>>,
    /// For each seat, where its frame begins behind the group's, and the frame's crc: since it was encoded.
    frames: Vec<(u32, u32)>,
    /// What of the buffer was not needed.
    rest: BytesMut,
}

#[derive(Debug)]
struct Slot {
    data: BytesMut,
    kind: FrameKind,
    coded: Coded,
    time: i64,
    /// The payload's crc; of one that is encrypted taken when it is.
    payload: Hasher,
    at: u32,
    /// For which place the payload was encrypted.
    sealed: Option<(Place, u64)>,
}

/// Where an acknowledged group lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) place: Place,
    pub(crate) offset: u64,
}

/// Where an acknowledged record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlacedFrame {
    pub(crate) place: Place,
    pub(crate) offset: u64,
    pub(crate) crc: u32,
}

/// What a group's header says besides what the group knows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamp {
    pub(crate) place: Place,
    pub(crate) offset: u64,
    pub(crate) sequence: u64,
    pub(crate) running_max: i64,
    pub(crate) watermark: u64,
    pub(crate) threshold: i64,
    pub(crate) low_water: u64,
    /// Sequence of the segment's first group.
    pub(crate) base: u64,
    /// Sequence of the oldest group that counts.
    pub(crate) first: u64,
    /// Bytes from the header to the end of the padding.
    pub(crate) footprint: u64,
}

impl Stamp {
    /// The encoded header of a group that holds `frames` frames in `length` bytes.
    pub(crate) fn header(&self, length: u64, frames: u32, written: &Written) -> [u8; GROUP_HEADER] {
        let any = written.records > 0;
        let header = GroupHeader {
            length,
            sequence: self.sequence,
            records: written.records as u32,
            frames,
            min_time: if any { written.min_time } else { 0 },
            max_time: if any { written.max_time } else { 0 },
            running_max: self.running_max,
            watermark: self.watermark,
            threshold: if planted!(ThresholdNotCarried) { i64::MIN } else { self.threshold },
            low_water: if planted!(LowWaterNotCarried) { 0 } else { self.low_water },
            base: self.base,
            first: self.first,
        };
        header.encode(&self.place, self.offset)
    }
}

impl Written {
    /// A group without records.
    pub(crate) fn none() -> Written {
        Written { records: 0, bytes: 0, min_time: i64::MAX, max_time: i64::MIN }
    }

    /// One more record.
    pub(crate) fn note(&mut self, length: u32, time: i64) {
        self.records += 1;
        self.bytes += u64::from(length);
        self.min_time = self.min_time.min(time);
        self.max_time = self.max_time.max(time);
    }
}

impl Group {
    fn new(large: Option<Large>, manner: Manner) -> Group {
        Group {
            gate: Arc::new(Gate::new(manner)),
            copies: Copies::new(manner),
            seats_filled: AtomicU32::default(),
            large,
            staged: Mutex::default(),
            answer: Mutex::new(None),
        }
    }

    fn staged(&self) -> MutexGuard<'_, Staged> {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What everybody gets once the machine opens the gate; until then a later answer replaces an earlier one.
    pub(crate) fn answer(&self, answer: Result<Placed>) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
    }

    /// The answer for the record in seat `index`, to be read once the gate is open.
    pub(crate) fn answered(&self, index: usize) -> Result<PlacedFrame> {
        let answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Placed { place, offset } =
            answer.unwrap_or_else(|| Err(Error::Internal("a group was let go without an answer".into())))?;
        let lost = || Error::Internal("a record lost its place in its group".into());
        let (at, crc) = self.staged().frames.get(index).copied().ok_or_else(lost)?;
        Ok(PlacedFrame { place, offset: offset + u64::from(at), crc })
    }

    /// Says where the frames are that were encoded elsewhere.
    pub(crate) fn note_frame(&self, frame: Option<(u32, u32)>) {
        let frames = &mut self.staged().frames;
        frames.clear();
        frames.extend(frame);
    }

    /// Whether every seat was abandoned, so that nobody waits here.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.large.is_none() && self.seats_filled.load(Ordering::SeqCst) == 0 && !self.copies.any()
    }

    /// Takes the group's bytes to encode and write them; every copy must be done.
    pub(crate) fn take_bytes(&self) -> GroupBytes {
        GroupBytes(std::mem::take(&mut *self.staged()))
    }

    /// Puts them back after a write: they are needed again if the group moves.
    pub(crate) fn put_bytes(&self, bytes: GroupBytes) {
        *self.staged() = bytes.0;
    }

    /// The buffer, whole again, when the group is answered.
    pub(crate) fn reclaim(&self) -> Option<BytesMut> {
        let mut staged = self.staged();
        join(&mut staged);
        staged.slots.clear();
        let mut whole = std::mem::take(&mut staged.whole);
        whole.unsplit(std::mem::take(&mut staged.rest));
        (!whole.is_empty()).then_some(whole)
    }

    /// Makes a group anew of one that nobody refers to any more; `None` if somebody does.
    fn renew(spent: &mut Arc<Group>, manner: Manner) -> Option<()> {
        // Whoever opened the gate lets go of it only when its wake-up call is over.
        let Group { gate, copies, seats_filled, large, staged, answer } = Arc::get_mut(spent)?;
        Arc::get_mut(gate)?.renew(manner);
        *copies = Copies::new(manner);
        *seats_filled = AtomicU32::default();
        *large = None;
        let staged = staged.get_mut().unwrap_or_else(PoisonError::into_inner);
        staged.slots.clear();
        staged.frames.clear();
        *answer.get_mut().unwrap_or_else(PoisonError::into_inner) = None;
        Some(())
    }
}

/// Groups that were answered, to be used again.
#[derive(Debug, Default)]
pub(crate) struct Spent(VecDeque<Arc<Group>>);

impl Spent {
    /// Keeps a group whose buffer was reclaimed; its members may still be reading their answers.
    pub(crate) fn keep(&mut self, group: &Arc<Group>) {
        if self.0.len() < SPENT {
            self.0.push_back(group.clone());
        }
    }

    fn take(&mut self, manner: Manner) -> Option<Arc<Group>> {
        for _ in 0..LOOKED_AT.min(self.0.len()) {
            let mut oldest = self.0.pop_front()?;
            if Group::renew(&mut oldest, manner).is_some() {
                return Some(oldest);
            }
            // One whose members are slow to go, or whose last wake-up call comes from a thread that lost its processor, is looked
            // at again later.
            self.0.push_back(oldest);
        }
        None
    }
}

/// The bytes of a closed group, in the hands of whoever writes it.
#[derive(Debug)]
pub(crate) struct GroupBytes(Staged);

impl GroupBytes {
    /// Encodes the group for the place that `stamp` names; gives what its members need to know.
    ///
    /// # Errors
    /// Where there are no random bytes for a record that is to be encrypted.
    pub(crate) fn encode(&mut self, stamp: &Stamp, key: Option<&Key>) -> Result<(Placed, Written)> {
        let staged = &mut self.0;
        join(staged);
        let frames_end = staged
            .slots
            .iter()
            .flatten()
            .map(|s| s.at as usize + FrameHeader::footprint(s.coded.length) as usize)
            .max()
            .unwrap_or(GROUP_HEADER);
        let footprint = stamp.footprint as usize;
        if staged.whole.len() < footprint {
            let more = footprint - staged.whole.len();
            let tail = staged.rest.split_to(more);
            staged.whole.unsplit(tail);
        }
        // The buffer is used again and again: what is not written now would carry old bytes to the device.
        staged.whole[frames_end..footprint].fill(0);
        let Staged { whole, slots, frames, .. } = staged;
        frames.clear();
        let mut written = Written::none();
        let mut group_key = None;
        for slot in slots.iter_mut().flatten() {
            let at = slot.at as usize;
            let offset = stamp.offset + u64::from(slot.at);
            if slot.coded.codec.sealed {
                let key =
                    key.ok_or_else(|| Error::Internal("a record to be encrypted without a key".into()))?;
                let fresh = match group_key.take() {
                    Some(fresh) => fresh,
                    None => GroupKey::fresh(key, &stamp.place)?,
                };
                let payload = &mut whole[at + FRAME_HEADER..][..slot.coded.length as usize];
                slot.seal(payload, (&stamp.place, offset), key, &fresh)?;
                group_key = Some(fresh);
            }
            let (header, crc) =
                FrameHeader::encode(slot.kind, slot.coded, slot.time, &slot.payload, &stamp.place, offset);
            whole[at..at + FRAME_HEADER].copy_from_slice(&header);
            frames.push((slot.at, crc));
            if slot.kind == FrameKind::Record {
                written.note(slot.coded.length, slot.time);
            }
        }
        let header = stamp.header((frames_end - GROUP_HEADER) as u64, frames.len() as u32, &written);
        whole[..GROUP_HEADER].copy_from_slice(&header);
        Ok((Placed { place: stamp.place, offset: stamp.offset }, written))
    }

    /// The encoded group, from its header to the end of its padding.
    pub(crate) fn encoded(&self, footprint: u64) -> &[u8] {
        &self.0.whole[..footprint as usize]
    }
}

impl Slot {
    /// Encrypts the payload for a place, each time with a key that was never used before; and takes its crc.
    fn seal(
        &mut self,
        payload: &mut [u8],
        (place, offset): (&Place, u64),
        key: &Key,
        fresh: &GroupKey,
    ) -> Result<()> {
        let head = FrameHeader::bare(self.kind, self.coded, self.time);
        let coded = self.coded;
        if let Some((place, offset)) = self.sealed.take() {
            // The group moves to another segment.
            let before = Frame { head: &head, coded, place: &place, offset };
            if !unseal(&before, payload, key)? {
                return Err(Error::Internal("a record in memory is not what was encrypted".into()));
            }
        }
        fresh.seal(&Frame { head: &head, coded, place, offset }, payload)?;
        self.sealed = Some((*place, offset));
        self.payload = Hasher::new();
        self.payload.update(payload);
        Ok(())
    }
}

/// Joins the parts of a buffer. They lie side by side, so nothing is copied.
fn join(staged: &mut Staged) {
    let Staged { whole, slots, .. } = staged;
    for slot in slots.iter_mut().flatten() {
        if !slot.data.is_empty() {
            whole.unsplit(std::mem::take(&mut slot.data));
        }
    }
}

/// A group that can still be joined. Lives under the machine's lock.
#[derive(Debug)]
pub(crate) struct Filling {
    group: Arc<Group>,
    rest: BytesMut,
    used: usize,
    seats: usize,
    pub(crate) max_time: i64,
}

impl Filling {
    /// A group with nothing in it but room for its header; its members wait in this `manner`.
    pub(crate) fn new(mut buffer: BytesMut, manner: Manner, spent: &mut Spent) -> Filling {
        let group = spent.take(manner).unwrap_or_else(|| Arc::new(Group::new(None, manner)));
        group.staged().whole = buffer.split_to(GROUP_HEADER);
        Filling { group, rest: buffer, used: GROUP_HEADER, seats: 0, max_time: i64::MIN }
    }

    /// Whether a record of `length` bytes fits in any group.
    pub(crate) fn can_ever_hold(length: u32) -> bool {
        GROUP_HEADER as u64 + FrameHeader::footprint(length) <= BUFFER as u64
    }

    pub(crate) fn has_room(&self, length: u32) -> bool {
        self.seats < MOST_FRAMES && FrameHeader::footprint(length) <= self.rest.len() as u64
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.seats == 0
    }

    /// Seats so far.
    pub(crate) fn seats(&self) -> usize {
        self.seats
    }

    /// Bytes from the header to the last frame.
    pub(crate) fn used(&self) -> u64 {
        self.used as u64
    }

    pub(crate) fn group(&self) -> &Arc<Group> {
        &self.group
    }

    /// Reserves a seat; there must be room.
    pub(crate) fn reserve(&mut self, length: u32, time: i64) -> Seat {
        let bytes = FrameHeader::footprint(length) as usize;
        let seat = Seat {
            group: self.group.clone(),
            index: self.seats,
            data: self.rest.split_to(bytes),
            length,
            time,
            at: self.used as u32,
            filled: false,
        };
        self.group.copies.begin();
        self.used += bytes;
        self.seats += 1;
        self.max_time = self.max_time.max(time);
        seat
    }

    /// Ends joining.
    pub(crate) fn close(self) -> Arc<Group> {
        self.group.staged().rest = self.rest;
        self.group
    }
}

/// A group of one record that its caller stages in pieces, and waits for in this `manner`.
pub(crate) fn large(length: u32, time: i64, manner: Manner) -> Arc<Group> {
    Arc::new(Group::new(Some(Large { length, time }), manner))
}

/// A caller's part of a group. If it is dropped unfilled its frame becomes void, and the group goes on without it.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) group: Arc<Group>,
    pub(crate) index: usize,
    data: BytesMut,
    length: u32,
    time: i64,
    at: u32,
    filled: bool,
}

impl Seat {
    /// Copies the payload into its place; `coded` says what `source` gives, and how long the frame's payload is: as long as
    /// was reserved. What is to be encrypted is checksummed later.
    pub(crate) fn fill(
        mut self,
        source: &mut dyn RecordSource,
        coded: Coded,
        staging: &Staging,
    ) -> Result<(Arc<Group>, usize)> {
        if coded.length != self.length {
            return Err(Error::Internal("a record of another length than was reserved".into()));
        }
        let payload = fill_frame(&mut self.data, source, coded, staging)?;
        self.hand_in(FrameKind::Record, coded, payload);
        Ok((self.group.clone(), self.index))
    }

    fn hand_in(&mut self, kind: FrameKind, coded: Coded, payload: Hasher) {
        self.filled = true;
        let slot = Slot {
            data: std::mem::take(&mut self.data),
            kind,
            coded,
            time: self.time,
            payload,
            at: self.at,
            sealed: None,
        };
        let mut staged = self.group.staged();
        if staged.slots.len() <= self.index {
            staged.slots.resize_with(self.index + 1, || None);
        }
        staged.slots[self.index] = Some(slot);
        drop(staged);
        if kind == FrameKind::Record {
            self.group.seats_filled.fetch_add(1, Ordering::SeqCst);
        }
        self.group.copies.end();
    }
}

/// Copies a record into its frame, and takes its checksum.
fn fill_frame(
    frame: &mut [u8],
    source: &mut dyn RecordSource,
    coded: Coded,
    staging: &Staging,
) -> Result<Hasher> {
    let sealed = coded.codec.sealed;
    let start = FRAME_HEADER + if sealed { SEAL_PREFIX } else { 0 };
    let end = start + coded.content as usize;
    let mut payload = Hasher::new();
    if sealed {
        // It is encrypted where it is, and soon; its checksum is taken then.
        for (i, piece) in frame[start..end].chunks_mut(SEALED_PIECE).enumerate() {
            source.copy(i * SEALED_PIECE, piece)?;
        }
    } else {
        staging.copy(source, 0, &mut frame[start..end], &mut payload)?;
    }
    frame[end..].fill(0);
    Ok(payload)
}

/// A record that goes by itself: a group of one in memory of its caller's, from its header to its padding.
#[derive(Debug)]
pub(crate) struct LoneGroup<'a> {
    bytes: &'a mut [u8],
    coded: Coded,
    time: i64,
    payload: Hasher,
}

impl<'a> LoneGroup<'a> {
    /// Payload bytes of a record that may go by itself, at most: more are better shared out, or encrypted, by a group.
    pub(crate) const MOST: u32 = 16 << 10;
    /// Bytes that hold any of them.
    pub(crate) const ROOM: usize = GROUP_HEADER + FRAME_HEADER + Self::MOST as usize + 64;

    /// Copies the record of `source` into `room`, which has [`LoneGroup::ROOM`] bytes.
    pub(crate) fn stage(
        room: &'a mut [u8],
        source: &mut dyn RecordSource,
        coded: Coded,
        time: i64,
    ) -> Result<LoneGroup<'a>> {
        let end = GROUP_HEADER + FrameHeader::footprint(coded.length) as usize;
        let payload = fill_frame(&mut room[GROUP_HEADER..end], source, coded, &Staging::new(false))?;
        Ok(LoneGroup { bytes: room, coded, time, payload })
    }

    /// Payload bytes of the frame and of the record, and the record's time.
    pub(crate) fn sizes(&self) -> (u32, u32, i64) {
        (self.coded.length, self.coded.raw, self.time)
    }

    /// Encodes it for its place, and writes it there; gives the frame's checksum, too.
    pub(crate) fn write(self, segment: &dyn SegmentWrite, stamp: &Stamp) -> Result<(u32, Placed, Written)> {
        let LoneGroup { bytes, coded, time, payload } = self;
        let frame = FrameHeader::footprint(coded.length);
        let offset = stamp.offset + GROUP_HEADER as u64;
        let (header, crc) =
            FrameHeader::encode(FrameKind::Record, coded, time, &payload, &stamp.place, offset);
        bytes[GROUP_HEADER..][..FRAME_HEADER].copy_from_slice(&header);
        let mut written = Written::none();
        written.note(coded.length, time);
        bytes[..GROUP_HEADER].copy_from_slice(&stamp.header(frame, 1, &written));
        bytes[GROUP_HEADER + frame as usize..stamp.footprint as usize].fill(0);
        segment.write(stamp.offset, &mut [IoSlice::new(&bytes[..stamp.footprint as usize])], Barrier::No)?;
        Ok((crc, Placed { place: stamp.place, offset: stamp.offset }, written))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if !self.filled {
            self.data.fill(0);
            let mut payload = Hasher::new();
            payload.update(&self.data[FRAME_HEADER..FRAME_HEADER + self.length as usize]);
            self.hand_in(FrameKind::Void, Coded::plain(self.length), payload);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_still_held_does_not_stand_before_the_others() {
        let manner = Manner::Sleep;
        let groups: Vec<_> = (0..3).map(|_| Arc::new(Group::new(None, manner))).collect();
        let mut spent = Spent::default();
        groups.iter().for_each(|group| spent.keep(group));
        let addresses: Vec<_> = groups.iter().map(Arc::as_ptr).collect();
        // A wake-up call for the first one is still on its way, and nobody has the others any more.
        let call = groups[0].gate.clone();
        drop(groups);
        for at in [1, 2] {
            let taken = spent.take(manner).map(|group| Arc::as_ptr(&group));
            assert_eq!(taken, Some(addresses[at]));
        }
        assert!(spent.take(manner).is_none(), "it is not used while it is held");
        drop(call);
        assert_eq!(spent.take(manner).map(|group| Arc::as_ptr(&group)), Some(addresses[0]));
    }
}
