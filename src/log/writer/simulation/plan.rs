//! What a run does: a list of operations that follows from one seed, and can be made shorter where it fails.

use crate::{
    options::{Compression, Durability, Recovery, Role},
    storage::sim::Random,
};

/// One thing that happens. Each carries a seed of its own, so that leaving one out changes no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Act {
    pub(super) what: What,
    pub(super) seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// A caller reserves a place for a record.
    Begin,
    /// A caller's copy is done, or fails.
    Fill,
    /// Somebody who is awake asks for work.
    Step,
    /// An operation that was taken is carried out; in no order, so any may hang and finish late.
    Complete,
    Clean,
    /// Everything is read beside the writer, through failing reads, too.
    Look,
    /// A scan begins, and goes on later.
    ScanBegin,
    ScanOn,
    /// Time goes by; the time of day may go back.
    Wait,
    /// From here on operations fail as often as this decides.
    Faults,
    /// The power will go soon.
    Power,
    /// A copy of the machine rots, and is recovered under each policy.
    Rot,
    /// Nothing fails any more, and everybody is answered.
    Settle,
    /// The writer is closed, and closes while other things happen.
    Close,
    /// The power goes, or went; the machine starts again.
    PowerCut,
    /// The process is killed; what it wrote is in the cache. Another takes over.
    Kill,
    /// The same, but the first one goes on, and is refused.
    TakeOver,
}

/// A whole run.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) role: Role,
    pub(super) durability: Durability,
    pub(super) in_flight: usize,
    pub(super) policy: Recovery,
    pub(super) segment_size: u64,
    pub(super) large: bool,
    pub(super) compression: Compression,
    pub(super) encrypted: bool,
    pub(super) acts: Vec<Act>,
}

impl Plan {
    /// The run of this seed.
    pub(super) fn new(seed: u64) -> Plan {
        // Of its own, so that seeds of failures from before there were codecs still do what they did.
        let mut coding = Random::new(seed ^ 0xc0dec);
        let compression = match coding.below(4) {
            0 if cfg!(feature = "compression") => Compression::Lz4,
            1 if cfg!(feature = "compression") => Compression::Zstd(1),
            _ => Compression::None,
        };
        let encrypted = cfg!(feature = "encryption") && coding.percent(40);
        let mut random = Random::new(seed);
        let os = random.percent(20);
        // From numbers of its own, as above: those of all else stay what they were.
        let copies = 1 + Random::new(seed ^ 0xc09_1e5).below(4) as usize;
        let in_flight = match os {
            true => copies,
            false if random.percent(50) => 1,
            false => 2 + random.below(3) as usize,
        };
        let role = if random.percent(35) { Role::Receivers } else { Role::Driver };
        let policy = [Recovery::Default, Recovery::Default, Recovery::Salvage, Recovery::Strict]
            [random.below(4) as usize];
        let segment_size = if random.percent(30) { 32 << 10 } else { 1 << 20 };
        let mut acts = Vec::new();
        let faulty = random.percent(55);
        let lives = 3 + random.below(4);
        for _ in 0..lives {
            if faulty {
                acts.push(What::Faults);
            }
            let n = random.below(130);
            let cut = random.percent(50).then(|| random.below(n.max(1)));
            for i in 0..n {
                if cut == Some(i) {
                    acts.push(What::Power);
                }
                acts.push(match random.below(1000) {
                    0..240 => What::Begin,
                    240..430 => What::Fill,
                    430..620 => What::Step,
                    620..855 => What::Complete,
                    855..885 => What::Clean,
                    885..895 => What::Look,
                    895..900 => What::ScanBegin,
                    900..915 => What::ScanOn,
                    915..970 => What::Wait,
                    970..976 => What::Faults,
                    976..982 => What::Rot,
                    982..986 => What::Settle,
                    986..992 => What::Close,
                    _ => What::Step,
                });
            }
            if random.percent(45) {
                acts.push(What::Settle);
                if random.percent(30) {
                    acts.push(What::Rot);
                }
            }
            acts.push(match random.below(100) {
                0..65 => What::PowerCut,
                65..85 => What::Kill,
                _ => What::TakeOver,
            });
        }
        let acts = acts.into_iter().map(|what| Act { what, seed: random.next() }).collect();
        Plan {
            seed,
            role,
            durability: if os { Durability::Os } else { Durability::Device },
            in_flight,
            policy,
            segment_size,
            large: random.percent(6),
            compression,
            encrypted,
            acts,
        }
    }

    /// The same with records that are neither compressed nor encrypted.
    pub(super) fn plain(self) -> Plan {
        Plan { compression: Compression::None, encrypted: false, ..self }
    }

    /// The shortest list of operations that was found for which `fails` still holds, by leaving out ever smaller parts.
    pub(super) fn shortened(mut self, mut fails: impl FnMut(&Plan) -> bool) -> Plan {
        let mut tries = 600;
        let mut size = self.acts.len().div_ceil(2);
        loop {
            let mut at = 0;
            let mut any = false;
            while at < self.acts.len() && tries > 0 {
                tries -= 1;
                let mut shorter = self.clone();
                shorter.acts.drain(at..(at + size).min(self.acts.len()));
                if fails(&shorter) {
                    self = shorter;
                    any = true;
                } else {
                    at += size;
                }
            }
            if tries == 0 || (size == 1 && !any) {
                return self;
            }
            size = (size / 2).max(1);
        }
    }
}
