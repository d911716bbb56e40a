//! What must hold: compared with what was promised, beside a living writer and after every recovery.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use super::drive::{Fate, Record, Run, is_io};
use crate::{
    error::{Error, Result},
    handle::RecordHandle,
    log::{
        Scan,
        analysis::Scope,
        read::{At, Reader},
        scan::{Source, began},
    },
    options::{Recovery, Role},
    storage::{
        Home, Which,
        sim::{Faults, World},
    },
};

impl Run {
    /// The records of the log on `world`, as `readAll` gives them, beside our own writer if it is there.
    pub(super) fn scan_of(&self, world: &World, policy: Recovery, live: bool) -> Result<Scan> {
        let which: Vec<Which> = match self.role() {
            Role::Driver => vec![Which::Driver],
            Role::Receivers => {
                let mut all = world
                    .writers()?
                    .into_iter()
                    .map(|w| Ok((began(world.storage(Which::Receiver(w)).as_ref())?, Which::Receiver(w))))
                    .collect::<Result<Vec<_>>>()?;
                all.sort_by_key(|(began, which)| (*began, format!("{which:?}")));
                all.into_iter().map(|(_, which)| which).collect()
            }
        };
        let (acked, threshold) =
            if live { self.with(|c| (Some(c.acked()), c.threshold())) } else { (None, i64::MIN) };
        let sources = which.into_iter().map(|which| {
            let own = live && which == self.life().which;
            let home = world.clone();
            Source {
                storage: world.storage(which),
                scope: Scope {
                    log: world.log(),
                    writer: match which {
                        Which::Driver => None,
                        Which::Receiver(uuid) => Some(uuid),
                    },
                    limit: acked.filter(|_| own),
                    deep: policy == Recovery::Strict,
                    aside: false,
                    settle: !own,
                },
                threshold,
                low_water: Box::new(|| 0),
                removed: Box::new(move || match which {
                    Which::Driver => Ok(false),
                    Which::Receiver(uuid) => home.was_removed(uuid),
                }),
                keys: self.options.keys.clone(),
                report: Arc::new(Mutex::new(None)),
            }
        });
        Ok(Scan::new(sources.collect(), policy))
    }

    /// The number of a record that was read; it is what was written.
    pub(super) fn number_of(&self, bytes: &[u8]) -> usize {
        let number = bytes.first_chunk().map_or(usize::MAX, |b| u64::from_le_bytes(*b) as usize);
        assert!(
            self.records.get(number).is_some_and(|r| r.bytes == bytes),
            "a record of {} bytes comes back that was never written so (number {number})",
            bytes.len()
        );
        number
    }

    /// What a scan gives; nothing if the power goes meanwhile.
    fn scanned(&self) -> Option<Vec<usize>> {
        let mut found = Vec::new();
        let whole = self.scan_of(&self.world, self.recovery(), true).and_then(|mut scan| {
            for item in scan.by_ref() {
                found.push(self.number_of(&item?));
            }
            Ok(scan.skipped())
        });
        match whole {
            Ok(skipped) => {
                let met = || {
                    let scan = self.scan_of(&self.world, Recovery::Default, true);
                    scan.and_then(|mut scan| scan.find_map(|item| item.err()).map_or(Ok(()), Err))
                };
                assert!(skipped == 0, "a scan skipped what is whole: {:?}", met());
                Some(found)
            }
            Err(e) => {
                assert!(self.world.is_dark(), "a scan met {e}");
                None
            }
        }
    }

    /// Whether an acknowledged record must be in a scan now.
    fn is_due(&self, record: &Record) -> bool {
        record.time >= self.asked && (self.role() == Role::Receivers || record.generation == self.generation)
    }

    /// Whether a record may have been cleaned.
    fn may_go(&self, record: &Record) -> bool {
        let set_aside = self.role() == Role::Driver && record.generation < self.generation;
        record.time < self.asked || set_aside
    }

    /// A reader comes by while the log is written, and sees what fails as failing.
    pub(super) fn look(&mut self) {
        self.seen.note("looks beside the writer", 1);
        if self.random.percent(30) {
            self.look_through_faults();
        }
        let threshold = self.with(|c| c.threshold());
        let faults = self.world.set_faults(Faults::default());
        let scanned = self.scanned();
        self.world.set_faults(faults);
        let Some(found) = scanned else { return };
        let found: HashSet<usize> = found.into_iter().collect();
        for i in &found {
            assert!(self.records[*i].time >= threshold, "record {i} was cleaned, and is shown");
        }
        for (i, record) in self.records.iter().enumerate() {
            let there = found.contains(&i);
            match record.fate {
                Fate::Acknowledged(handle) => {
                    assert!(there || !self.is_due(record), "record {i} is not there");
                    self.check_handle(i, &handle, record);
                }
                Fate::Recovered => assert!(there || !self.is_due(record), "record {i} is not there any more"),
                // Durable, and its caller has not looked yet.
                Fate::Open => {}
                Fate::Failed(_) | Fate::Lost | Fate::Hidden | Fate::Evaporated(_) => {
                    assert!(!there, "record {i} is there");
                }
            }
        }
    }

    /// Failing reads are errors of the device, and nothing else: neither damage, nor absence, nor fewer records.
    fn look_through_faults(&mut self) {
        let faults = self.world.set_faults(Faults { read: 20, ..Faults::default() });
        self.seen.note("looks through failing reads", 1);
        let mut found = HashSet::new();
        let mut whole = true;
        match self.scan_of(&self.world, self.recovery(), true) {
            Ok(scan) => {
                for item in scan {
                    match item {
                        Ok(bytes) => drop(found.insert(self.number_of(&bytes))),
                        Err(e) => {
                            assert!(is_io(&e), "a failing read is taken for {e}");
                            whole = false;
                        }
                    }
                }
            }
            Err(e) => {
                assert!(is_io(&e), "a failing read is taken for {e}");
                whole = false;
            }
        }
        for (i, record) in self.records.iter().enumerate() {
            let Fate::Acknowledged(handle) = record.fate else { continue };
            assert!(!whole || found.contains(&i) || !self.is_due(record), "record {i} is passed over");
            match self.read(&self.world, &handle) {
                Ok(bytes) => assert!(bytes == record.bytes, "{handle} was altered"),
                Err(Error::Gone { .. }) => assert!(self.may_go(record), "record {i} is gone"),
                Err(e) => assert!(is_io(&e), "a failing read is taken for {e}"),
            }
        }
        self.world.set_faults(faults);
    }

    pub(super) fn scan_begin(&mut self) {
        let due = |(i, r): (usize, &Record)| {
            (matches!(r.fate, Fate::Acknowledged(_)) && self.is_due(r)).then_some(i)
        };
        let due = self.records.iter().enumerate().filter_map(due).collect();
        let acked = self.with(|c| c.acked());
        self.say(|| format!("a scan begins, up to group {acked}"));
        let faults = self.world.set_faults(Faults::default());
        match self.scan_of(&self.world, self.recovery(), true) {
            Ok(scan) => self.scan = Some((scan, due, Vec::new())),
            Err(e) => assert!(self.world.is_dark(), "a scan met {e}"),
        }
        self.world.set_faults(faults);
    }

    /// A scan that began some time ago goes on, beside writing and cleaning.
    pub(super) fn scan_on(&mut self) {
        let Some((mut scan, due, mut found)) = self.scan.take() else { return };
        self.say(|| format!("the scan goes on behind {} records", found.len()));
        for _ in 0..1 + self.random.below(20) {
            let faults = self.world.set_faults(Faults::default());
            let next = scan.next();
            self.world.set_faults(faults);
            match next {
                Some(Ok(bytes)) => found.push(self.number_of(&bytes)),
                Some(Err(e)) => return assert!(self.world.is_dark(), "a scan beside cleaning met {e}"),
                None => {
                    let set: HashSet<usize> = found.iter().copied().collect();
                    assert_eq!(set.len(), found.len(), "a scan gave a record twice");
                    for i in due {
                        let there = set.contains(&i) || !self.is_due(&self.records[i]);
                        assert!(there, "record {i} is missing in a scan beside cleaning");
                    }
                    self.seen.note("scans beside cleaning", 1);
                    return;
                }
            }
        }
        self.scan = Some((scan, due, found));
    }

    /// What a power cut may take where nothing was synced.
    pub(super) fn evaporate(&mut self) {
        // With the acknowledgements goes what they made void: a record that was refused before them may come back.
        self.last_ack = 0;
        for record in &mut self.records {
            match record.fate {
                Fate::Acknowledged(handle) => record.fate = Fate::Evaporated(Some(handle)),
                Fate::Recovered => record.fate = Fate::Evaporated(None),
                _ => {}
            }
        }
    }

    /// After a recovery.
    pub(super) fn check(&mut self) {
        let Some(found) = self.scanned() else { panic!("the power is gone when it should be there") };
        let set: HashSet<usize> = found.iter().copied().collect();
        assert_eq!(set.len(), found.len(), "a record came back twice");
        if self.role() == Role::Driver {
            let shown: HashSet<u64> = found.iter().map(|i| self.records[*i].generation).collect();
            let fits = |g: &u64| *g == self.generation || *g == self.base_generation;
            assert!(shown.len() <= 1 && shown.iter().all(fits), "records of generations {shown:?} come back");
        }
        let mut by_place: HashMap<_, BTreeMap<(u64, u64), usize>> = HashMap::new();
        for (i, record) in self.records.iter().enumerate() {
            if let Fate::Acknowledged(h) = record.fate {
                // (2) acknowledged records are there.
                assert!(set.contains(&i) || !self.is_due(record), "record {i} was acknowledged and is lost");
                // (4) no place is acknowledged twice.
                let key = if self.role() == Role::Receivers { Some(h.writer) } else { None };
                let twice = by_place.entry(key).or_default().insert((h.segment, h.offset), i);
                assert!(twice.is_none(), "a place was acknowledged twice");
                self.check_handle(i, &h, record);
            }
        }
        // (1) in the order of their places.
        let acknowledged = |i: &usize| match self.records[*i].fate {
            Fate::Acknowledged(h) if self.role() == Role::Receivers => Some((Some(h.writer), *i)),
            Fate::Acknowledged(_) => Some((None, *i)),
            _ => None,
        };
        let order: Vec<(Option<_>, usize)> = found.iter().filter_map(acknowledged).collect();
        for (key, places) in &by_place {
            let expected: Vec<usize> = places.values().copied().filter(|i| set.contains(i)).collect();
            let got: Vec<usize> = order.iter().filter(|(k, _)| k == key).map(|(_, i)| *i).collect();
            assert_eq!(got, expected, "out of order");
        }
        // Of what the kernel alone had, that which comes back comes back in order.
        let mut last: HashMap<_, (u64, u64)> = HashMap::new();
        for i in &found {
            if let Fate::Evaporated(Some(h)) = self.records[*i].fate {
                let key = if self.role() == Role::Receivers { Some(h.writer) } else { None };
                let before = last.insert(key, (h.segment, h.offset));
                assert!(before.is_none_or(|b| b < (h.segment, h.offset)), "out of order");
            }
        }
        // What else is there was submitted, and not refused before something else was acknowledged.
        for i in &found {
            let record = &self.records[*i];
            match record.fate {
                Fate::Acknowledged(_) | Fate::Recovered | Fate::Hidden | Fate::Evaporated(_) => {}
                Fate::Open => self.seen.note("replayed without an answer", 1),
                Fate::Failed(at) => {
                    assert!(at >= self.last_ack, "record {i} was refused, and came back");
                }
                Fate::Lost => panic!("record {i} was gone after a crash, and came back"),
            }
            if let (Fate::Acknowledged(h), Role::Receivers) = (record.fate, self.role()) {
                let removed = self.world.was_removed(h.writer).expect("no faults are on");
                assert!(!removed, "record {i} came back after its writer was cleaned as a whole");
            }
            let below = record.time < self.cleaned && self.role() == Role::Driver;
            assert!(!below, "record {i} was cleaned for good, and came back");
        }
        for i in 0..self.records.len() {
            let there = set.contains(&i);
            let due = self.is_due(&self.records[i]);
            let hidden = self.records[i].time < self.asked && self.records[i].generation == self.generation;
            let fate = &mut self.records[i].fate;
            match fate {
                Fate::Acknowledged(_) => {}
                Fate::Recovered => assert!(there || !due, "record {i} was recovered, and is lost"),
                _ if there => *fate = Fate::Recovered,
                // A threshold that is not durable may hide it, and a crash may take that threshold away again.
                Fate::Open | Fate::Failed(_) if hidden => *fate = Fate::Hidden,
                Fate::Hidden | Fate::Evaporated(_) if hidden => {}
                _ => *fate = Fate::Lost,
            }
        }
        self.seen.note("checks", 1);
    }

    pub(super) fn read(&self, world: &World, handle: &RecordHandle) -> Result<Vec<u8>> {
        let which = match self.role() {
            Role::Driver => Which::Driver,
            Role::Receivers => Which::Receiver(handle.writer),
        };
        let storage = world.storage(which);
        let at = At {
            handle,
            home: world,
            storage: storage.as_ref(),
            which,
            keys: &self.options.keys,
            low_water: &|| 0,
        };
        let mut bytes = vec![0; handle.length as usize];
        Reader::new(Duration::ZERO).read(&at, &mut bytes).map(|()| bytes)
    }

    fn check_handle(&self, i: usize, handle: &RecordHandle, record: &Record) {
        match self.read(&self.world, handle) {
            Ok(bytes) => assert!(bytes == record.bytes, "{handle} was altered"),
            Err(Error::Gone { .. }) => {
                assert!(self.may_go(record), "record {i} is gone");
            }
            Err(e) => panic!("record {i}: {e}"),
        }
    }

    /// What recovery says of generations: a fresh start begins another one, with a clock of its own. `disk` is the one
    /// that was there: a new one is there once it has a segment.
    pub(super) fn found_generation(&mut self, disk: u64, recovered: u64, threshold: i64) {
        if disk < self.generation {
            let kept = self.records.iter().any(|r| {
                r.generation > disk && r.time >= self.asked && matches!(r.fate, Fate::Acknowledged(_))
            });
            assert!(!kept, "generation {} was acknowledged, and {disk} comes back", self.generation);
            // It never was, and what came before it goes on.
            while self.generation > disk {
                let before = self.before.pop().expect("every generation has one before it");
                (self.generation, self.asked, self.cleaned, self.clock) = before;
            }
        }
        self.base_generation = disk;
        if recovered > disk {
            self.seen.note("fresh generations", 1);
            self.before.push((self.generation, self.asked, self.cleaned, self.clock));
            (self.generation, self.asked, self.cleaned, self.clock) = (recovered, i64::MIN, i64::MIN, 0);
            assert_eq!(
                threshold,
                i64::MIN,
                "the old clean threshold hides the records of a fresh generation"
            );
        }
    }
}
