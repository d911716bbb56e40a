//! Rot: a copy of the machine loses or changes acknowledged bytes, and each policy says so or skips them; none gives
//! altered bytes, nor fewer without a word.

use std::collections::{HashMap, HashSet};

use super::{
    super::group::Stamp,
    drive::{Fate, Run, is_io},
};
use crate::{
    codec::KeyRing,
    error::Error,
    format::{FRAME_HEADER, GROUP_HEADER},
    handle::RecordHandle,
    log::{
        analysis::{Scope, analyse},
        recover::recover,
    },
    options::{Recovery, Role},
    storage::{Home, Which},
};

/// What rots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rot {
    Bit,
    Sector,
    /// A frame's length says that it is half a gigabyte.
    WildLength,
    GroupHeader,
    SegmentHeader,
    /// The last block, where the footer may be.
    Footer,
}

impl Run {
    /// What was set aside is whole, however its generation ended; and where it rots, that is told.
    fn rot_aside(&self) {
        if self.role() != Role::Driver {
            return;
        }
        let copy = self.world.fork();
        let look = || {
            let scope = Scope { log: copy.log(), deep: true, aside: true, ..Scope::default() };
            analyse(copy.storage(Which::Driver).as_ref(), scope).expect("a copy can be read")
        };
        let whole = look();
        let aside = &whole.aside;
        assert!(aside.is_empty(), "of what was set aside what is whole is called corrupt: {aside:?}");
        let there = |h: &RecordHandle| whole.segments.iter().any(|s| s.listed.id == h.segment);
        let acknowledged = self.records.iter().filter(|r| r.generation < whole.generation);
        let mut victims = acknowledged.filter_map(|r| match r.fate {
            Fate::Acknowledged(handle) if there(&handle) => Some(handle),
            _ => None,
        });
        // The last one: behind it nothing of its generation needs to be left that could tell.
        let Some(victim) = victims.next_back() else { return };
        assert!(copy.rot(Which::Driver, victim.segment, |bytes| bytes[victim.offset as usize + 4] ^= 1));
        assert!(!look().aside.is_empty(), "{victim}, which was set aside, rotted, and nothing says so");
    }

    pub(super) fn rot(&mut self) {
        if self.world.is_dark() {
            return;
        }
        let due = |r: &&super::drive::Record| {
            r.time >= self.asked && (self.role() == Role::Receivers || r.generation == self.generation)
        };
        let acknowledged: Vec<RecordHandle> = self
            .records
            .iter()
            .filter(due)
            .filter_map(|r| if let Fate::Acknowledged(h) = r.fate { Some(h) } else { None })
            .collect();
        if acknowledged.is_empty() {
            return;
        }
        let victim = acknowledged[self.random.below(acknowledged.len() as u64) as usize];
        let rot = [Rot::Bit, Rot::Sector, Rot::WildLength, Rot::GroupHeader, Rot::SegmentHeader, Rot::Footer]
            [self.random.below(6) as usize];
        let policy = [Recovery::Strict, Recovery::Default, Recovery::Salvage][self.random.below(3) as usize];
        self.say(|| format!("{rot:?} at {victim}, and then {policy:?}"));
        self.rot_aside();
        let copy = self.world.fork();
        let which = match self.role() {
            Role::Driver => Which::Driver,
            Role::Receivers => Which::Receiver(victim.writer),
        };
        let stamp = self.stamps.iter().rev().find(|s| holds(s, &victim)).copied();
        let (at, bit) = (self.random.next() >> 11, self.random.below(8));
        let from = victim.offset as usize;
        let mut hit = from..from;
        // Where the frames of the segment's records end: what is compressed or encrypted is not as long as its record.
        let mut ends: HashMap<u64, usize> = HashMap::new();
        let there = copy.rot(which, victim.segment, |bytes| {
            let there = |h: &&RecordHandle| (h.writer, h.segment) == (victim.writer, victim.segment);
            for handle in acknowledged.iter().filter(there) {
                let start = handle.offset as usize;
                let length = bytes.get(start + 4..start + 8).and_then(|b| b.try_into().ok());
                let length = length.map_or(0, u32::from_le_bytes) as usize;
                ends.insert(handle.offset, start + FRAME_HEADER + length);
            }
            hit.end = ends[&victim.offset];
            let at = (at % (hit.len() as u64)) as usize;
            match rot {
                Rot::Bit => bytes[from + at] ^= 1 << bit,
                Rot::Sector => {
                    let sector = (from + at) / 512 * 512;
                    bytes[sector..sector + 512].fill(0x5a);
                    hit = sector..sector + 512;
                }
                Rot::WildLength => {
                    for field in [from + 4, from + 12] {
                        bytes[field..field + 4].copy_from_slice(&(512u32 << 20).to_le_bytes());
                    }
                }
                Rot::GroupHeader => {
                    if let Some(s) = stamp {
                        let offset = s.offset as usize;
                        bytes[offset + at % GROUP_HEADER] ^= 1 << bit;
                        hit = offset..offset + GROUP_HEADER;
                    }
                }
                Rot::SegmentHeader => {
                    bytes[at % 156] ^= 1 << bit;
                    hit = 0..4096;
                }
                Rot::Footer => {
                    let last = bytes.len() - 4096;
                    bytes[last + at % 128] ^= 1 << bit;
                    hit = last..last + 4096;
                }
            }
        });
        if !there {
            return;
        }
        self.seen.note(
            match policy {
                Recovery::Strict => "rot under strict",
                Recovery::Default => "rot under default",
                Recovery::Salvage => "rot under salvage",
            },
            1,
        );
        // Every handle gives what was written, or says what is wrong.
        for handle in &acknowledged {
            let touched = (handle.writer, handle.segment) == (victim.writer, victim.segment)
                && hit.start < ends[&handle.offset]
                && (handle.offset as usize) < hit.end;
            match self.read(&copy, handle) {
                Ok(bytes) => drop(self.number_of(&bytes)),
                Err(Error::Corrupt { .. }) if touched => {}
                Err(e) => panic!("after {rot:?} at {victim}, {handle} is answered with {e}"),
            }
        }
        let mut told = false;
        if self.role() == Role::Driver {
            let scope = Scope { log: copy.log(), ..Scope::default() };
            let storage = copy.storage(which);
            match recover(&copy, storage.as_ref(), which, (policy, &KeyRing::default()), scope, (false, None))
            {
                Ok(recovered) => told |= recovered.report.corrupt > 0,
                Err(Error::Corrupt { .. }) if policy != Recovery::Salvage => {
                    self.seen.note("rot that stopped recovery", 1);
                    return;
                }
                Err(e) => panic!("after {rot:?} at {victim}, recovery under {policy:?} answers {e}"),
            }
        }
        let mut found = HashSet::new();
        match self.scan_of(&copy, policy, false) {
            Err(e) => panic!("after {rot:?} at {victim}, a scan answers {e}"),
            Ok(mut scan) => {
                for item in scan.by_ref() {
                    match item {
                        Ok(bytes) => {
                            let twice = !found.insert(self.number_of(&bytes));
                            assert!(!twice, "after {rot:?} at {victim} a record comes back twice");
                        }
                        Err(e) => {
                            let right = matches!(e, Error::Corrupt { .. }) && policy != Recovery::Salvage;
                            assert!(right && !is_io(&e), "after {rot:?} at {victim}, a scan meets {e}");
                            told = true;
                        }
                    }
                }
                told |= scan.skipped() > 0;
            }
        }
        self.seen.note("rot that was told", u64::from(told));
        if told {
            return;
        }
        // A group that was sent again, and the only one that says so: the copy that failed may lie whole where it was.
        let alone = stamp
            .is_some_and(|s| hit.start < s.offset as usize + GROUP_HEADER && (s.offset as usize) < hit.end);
        if alone && self.seen.count("segments poisoned") > 0 {
            return;
        }
        // Then nothing is missing, but for what nothing else said was durable.
        let spared = |s: &&Stamp| {
            let end = (s.offset + s.footprint) as usize;
            (self.role() == Role::Driver || s.place.writer == victim.writer)
                && (s.place.segment != victim.segment || hit.end <= s.offset as usize || end <= hit.start)
        };
        let watermark = self.stamps.iter().filter(spared).map(|s| s.watermark).max();
        let watermark = watermark.unwrap_or(0);
        let watermark = match self.role() {
            // Without padding a footer may lie in the very sector of the last group, and rot with it.
            Role::Driver if rot == Rot::Sector && !self.is_durable() => watermark,
            Role::Driver => watermark.max(self.life().sealed_below),
            Role::Receivers => watermark,
        };
        for handle in &acknowledged {
            let number = self.records.iter().position(|r| r.fate == Fate::Acknowledged(*handle));
            if number.is_some_and(|n| found.contains(&n)) {
                continue;
            }
            let stamp = self.stamps.iter().rev().find(|s| holds(s, handle));
            let open = stamp.is_some_and(|s| s.sequence >= watermark);
            assert!(
                open,
                "after {rot:?} at {victim}, {handle} is passed over without a word under {policy:?}"
            );
            self.seen.note("rot that looks torn", 1);
        }
    }
}

/// Whether a record is in this group.
fn holds(stamp: &Stamp, handle: &RecordHandle) -> bool {
    stamp.place.writer == handle.writer
        && stamp.place.segment == handle.segment
        && (stamp.offset..stamp.offset + stamp.footprint).contains(&handle.offset)
}
