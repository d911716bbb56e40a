//! `ferrowal verify`.

use std::{collections::BTreeMap, io::Write, time::Instant};

use clap::Args;
use serde_json::json;

use super::{
    DAMAGED, Failure, Target, UNOPENED, WELL, bytes, count,
    inspect::{as_json, aside, told, total, verdict},
    progress::Progress,
};
use crate::{
    error::Error,
    format::Coding,
    log::survey::{Look, Part, Seen},
};

/// Reads everything and checks every checksum; several segments at once. That needs no key. Every record of the current
/// generation that is compressed, or encrypted with a key that is given, is decompressed and decrypted as well; how many
/// others there are is said for each key. If keys are given and others are missing, the exit code is 3.
#[derive(Args)]
pub(super) struct Verify {
    #[command(flatten)]
    target: Target,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(super) fn run(&self, out: &mut dyn Write) -> Result<u8, Failure> {
        let progress = Progress::new("checking");
        let began = Instant::now();
        let survey = self.target.survey(Look::Everything, &|storage| {
            // A listing that fails now fails again, and is told, when it counts.
            progress.expect(storage.list().map_or(0, |all| all.iter().map(|l| l.length).sum()));
            progress.counting(storage)
        });
        progress.end();
        let (survey, took) = (survey?, began.elapsed());
        let read = progress.bytes();
        let rate = read as f64 / took.as_secs_f64().max(1e-6);
        let mut code = verdict(&survey);
        let mut unreadable = Vec::new();
        // What no key vouches for, by writer, segment and reason: how many records, and where the first is.
        let mut anybodys: BTreeMap<(String, u64, String), (u64, u64)> = BTreeMap::new();
        // For each key that is missing, how many records were not opened for want of it.
        let mut unopened: BTreeMap<String, u64> = BTreeMap::new();
        let has_keys = !self.target.keys()?.is_empty();
        let coded =
            |part: &&Part| has_keys || part.analysis.segments.iter().any(|s| s.coding != Coding::default());
        for part in survey.parts.iter().filter(coded) {
            part.records(0, &mut |seen| {
                let (segment, offset, detail) = match seen {
                    Seen::Bad { segment, offset, detail } => (segment, offset, detail),
                    Seen::Record(record) => match record.payload {
                        Ok(_) => return Ok(true),
                        Err(Error::Key { key, .. }) => {
                            *unopened.entry(key).or_default() += 1;
                            return Ok(true);
                        }
                        Err(Error::Unauthenticated { detail, .. }) => {
                            let key = (part.name(), record.segment, detail);
                            anybodys.entry(key).or_insert((0, record.offset)).0 += 1;
                            return Ok(true);
                        }
                        Err(error) => return Err(error),
                    },
                };
                unreadable.push(format!("{}: segment {segment} offset {offset}: {detail}", part.name()));
                Ok(true)
            })?;
        }
        let damaged = code == DAMAGED || !unreadable.is_empty();
        for ((writer, segment, detail), (records, first)) in &anybodys {
            unreadable.push(format!(
                "{writer}: segment {segment} offset {first}: no key that was given authenticates {}: {detail}",
                if *records == 1 {
                    "the record".to_owned()
                } else {
                    format!("{} records, of which this is the first", count(*records))
                }
            ));
        }
        if !unreadable.is_empty() {
            code = DAMAGED;
        }
        if code == WELL && has_keys && !unopened.is_empty() {
            code = UNOPENED;
        }
        if self.json {
            let mut value = as_json(&survey);
            value["bytesRead"] = json!(read);
            value["seconds"] = json!(took.as_secs_f64());
            value["unreadable"] = json!(unreadable);
            value["unopened"] = json!(unopened);
            value["whole"] = json!(code != DAMAGED);
            writeln!(out, "{value:#}")?;
            return Ok(code);
        }
        let (mut corrupt, mut torn) = (0, 0);
        for part in &survey.parts {
            let (sum, aside) = (total(part), aside(part));
            write!(out, "{}: {} records, {}", part.name(), count(sum.records), bytes(sum.bytes))?;
            if aside.groups > 0 {
                write!(
                    out,
                    "; and {} records, {}, that fresh starts have set aside: they are never replayed",
                    count(aside.records),
                    bytes(aside.bytes)
                )?;
            }
            writeln!(out)?;
            for line in told(part) {
                writeln!(out, "  {line}")?;
            }
            for finding in part.analysis.findings.iter().chain(&part.analysis.aside) {
                *(if finding.corrupt { &mut corrupt } else { &mut torn }) += 1;
            }
        }
        for place in &unreadable {
            writeln!(out, "  unreadable: {place}")?;
        }
        corrupt += unreadable.len() - anybodys.len();
        writeln!(out, "read {} in {took:.1?}, {}/s", bytes(read), bytes(rate as u64))?;
        if torn > 0 {
            let live = survey.parts.iter().any(|p| p.live);
            let why = if live { ", or on their way to the device: the log is open" } else { "" };
            writeln!(out, "torn places: {torn} (never acknowledged{why}; the next writer sets them aside)")?;
        }
        for (key, records) in &unopened {
            writeln!(
                out,
                "not opened: {} records that are encrypted with the key {key}, which was not given; their checksums were looked at",
                count(*records)
            )?;
        }
        if !anybodys.is_empty() {
            writeln!(
                out,
                "records that no key authenticates: {}. If they are older than the encryption, leave spark.ferrowal.encryption.required out until they are cleaned; otherwise somebody else wrote to the directory: find out who can, and `ferrowal salvage --require-encryption` copies the others.",
                count(anybodys.values().map(|(records, _)| records).sum())
            )?;
        }
        let aside: usize = survey.parts.iter().map(|p| p.analysis.aside.len()).sum();
        if code == DAMAGED && !damaged {
            let checked = if unopened.is_empty() { "" } else { " that could be checked" };
            writeln!(out, "all else{checked} is whole, as far as what is there can tell")?;
        } else if code == DAMAGED && corrupt == aside {
            writeln!(
                out,
                "corrupt places: {corrupt}, all in what fresh starts have set aside: no driver replays that, and the next cleaning drops it"
            )?;
        } else if code == DAMAGED {
            writeln!(
                out,
                "corrupt places: {corrupt}. `ferrowal salvage` copies what is good; spark.ferrowal.recovery=salvage lets the application go on without the damaged records."
            )?;
        } else if code == UNOPENED {
            writeln!(
                out,
                "all that was acknowledged and could be checked is whole, as far as what is there can tell"
            )?;
        } else {
            writeln!(out, "all that was acknowledged is whole, as far as what is there can tell")?;
        }
        Ok(code)
    }
}
