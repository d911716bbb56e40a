//! `ferrowal salvage`.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::{Component, Path, PathBuf},
};

use clap::Args;
use serde_json::json;
use uuid::Uuid;

use super::{
    DAMAGED, Failure, Target, WELL, bytes, count,
    inspect::{as_json, told},
    location,
    progress::Progress,
};
use crate::{
    codec::{KeyId, KeyRing},
    location::{self, Location},
    log::{
        salvage::{Salvaged, begin_copy, end_copy, make_dir, salvage},
        survey::{Look, Part, Wanted, survey},
    },
    options::{Options, Role},
    storage,
};

/// Writes a copy of the log that holds all that is good and nothing that is damaged. Point spark.ferrowal.dir at the copy,
/// or put it in the place of the damaged directory: handles in a checkpoint find their records in it. A record that was
/// lost stays lost: reading it fails, or, under spark.ferrowal.recovery=salvage, gives an empty block.
#[derive(Args)]
pub(super) struct Salvage {
    #[command(flatten)]
    target: Target,
    /// The copy's directory: one that does not exist yet, or is empty.
    #[arg(value_name = "COPY")]
    copy: PathBuf,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

impl Salvage {
    pub(super) fn run(&self, out: &mut dyn Write) -> Result<u8, Failure> {
        let home = self.target.home()?;
        let progress = Progress::new("copying");
        let survey_of = self.target.survey(Look::Everything, &|storage| {
            // Read twice: to look for damage, and to copy.
            progress.expect(2 * storage.list().map_or(0, |all| all.iter().map(|l| l.length).sum::<u64>()));
            progress.counting(storage)
        })?;
        if let Some(live) = survey_of.parts.iter().find(|p| p.live) {
            return Err(Failure::Say(format!(
                "{} is open for writing: stop the application first, so that the copy is of one moment",
                live.name()
            )));
        }
        let mut small = Vec::new();
        let removed = (self.target.wanted() != Wanted::Driver).then_some("receivers/removed");
        for name in ["ferrowal.properties"].into_iter().chain(removed) {
            small.extend(home.small_file(name)?.map(|bytes| (name, bytes)));
        }
        // Before anything is made: where only what a key authenticates is good, what it cannot tell is not lost for that.
        for part in survey_of.parts.iter().filter(|p| p.keys.is_required()) {
            for segment in part.analysis.segments.iter().filter(|s| s.header_checks && s.holds_records()) {
                if let Some(key) =
                    KeyId::of_header(segment.coding.key).filter(|k| part.keys.find(*k).is_none())
                {
                    return Err(key
                        .missing(format_args!("segment {} of {}", segment.listed.id, part.name()))
                        .into());
                }
            }
        }
        let copy = resolved(&self.copy)?;
        if let Ok(location::Place::Local(log)) = location(&self.target.dir)?.place()
            && copy.starts_with(resolved(&log)?)
        {
            return Err(Failure::Say(format!(
                "{} is in the log's own directory: name one beside it",
                self.copy.display()
            )));
        }
        begin_copy(&copy, &small)?;
        let mut done = Salvaged::default();
        for part in survey_of.parts.iter().filter(|p| !p.unlisted) {
            let dir = copy.join(part.name());
            make_dir(&dir)?;
            done += salvage(part, &dir)?;
        }
        // Without the uuid that is written last, the copy is no log.
        if let Some(part) = survey_of.changed(home.as_ref(), self.target.wanted())? {
            return Err(Failure::Say(format!(
                "{part} was written to while it was copied: stop the application first, so that the copy is of one moment; {} is incomplete and no log: delete it",
                copy.display()
            )));
        }
        end_copy(&copy, survey_of.log)?;
        progress.end();
        let copied = storage::home(&Options::new(Location::from(copy.clone()), Role::Receivers))?;
        let check =
            survey(copied.as_ref(), Wanted::All, Look::Everything, &KeyRing::default(), &|storage| storage)?;
        let lacks = check.parts.iter().any(|p| p.analysis.is_damaged()) || done.unfilled > 0;
        // It was copied as it is, and is in no way of an open.
        let aside: usize = check.parts.iter().map(|p| p.analysis.aside.len()).sum();
        // It may be good, and whoever may read it can save it.
        let unread: Vec<String> =
            survey_of.parts.iter().filter(|p| p.unlisted || !p.notes.is_empty()).map(Part::name).collect();
        // Where the uuid is the wrong one, all of them: a copy of nothing is whole, and nothing is saved.
        let mut foreign: BTreeMap<Uuid, u64> = BTreeMap::new();
        for log in survey_of.parts.iter().flat_map(|p| &p.analysis.segments).filter_map(|s| s.foreign) {
            *foreign.entry(log).or_default() += 1;
        }
        let whole = !lacks && aside == 0 && foreign.is_empty() && unread.is_empty() && done.unknown == 0;
        if self.json {
            let mut value = as_json(&check);
            value["copy"] = json!(copy);
            value["records"] = json!(done.records);
            value["mendedGroups"] = json!(done.mended);
            value["remadeSegments"] = json!(done.remade);
            value["unfilledGroups"] = json!(done.unfilled);
            value["refusedRecords"] = json!(done.refused);
            value["unknownSegments"] = json!(done.unknown);
            value["foreign"] = json!(foreign);
            value["unread"] = json!(unread);
            value["whole"] = json!(whole);
            writeln!(out, "{value:#}")?;
        } else {
            for part in &survey_of.parts {
                for line in told(part) {
                    writeln!(out, "{}: {line}", part.name())?;
                }
            }
            writeln!(
                out,
                "{}: {} records ({}) in {} segments; {} groups mended or replaced, {} missing segments replaced",
                copy.display(),
                count(done.records),
                bytes(done.bytes),
                count(done.segments),
                count(done.mended),
                count(done.remade),
            )?;
            if done.refused > 0 {
                writeln!(out, "left out: {} records that no key authenticates", count(done.refused))?;
            }
            if done.unknown > 0 {
                writeln!(
                    out,
                    "of {} segments nothing could be checked: without a header nobody knows whose they are. What they held is not in the copy. `ferrowal verify` names them; keep the damaged log: a record whose handle is known may still be read from it",
                    count(done.unknown)
                )?;
            }
            for (log, segments) in &foreign {
                writeln!(
                    out,
                    "{} segments of log {log}, and ferrowal.id says {}: nothing of them is in the copy. If they are this log's, write {log} into {}/ferrowal.id and salvage it again; otherwise move them to the directory of their log",
                    count(*segments),
                    survey_of.log,
                    home.place().trim_end_matches('/'),
                )?;
            }
            if !unread.is_empty() {
                writeln!(
                    out,
                    "not all of {} could be read, and what could not may be good: it is not in the copy. If that can be mended (permissions, a file that there is a copy of), salvage it again",
                    unread.join(", ")
                )?;
            }
            if aside > 0 {
                writeln!(
                    out,
                    "{aside} damaged places in what fresh starts have set aside were copied as they are: no driver replays that, and the next cleaning drops it"
                )?;
            }
            if lacks {
                writeln!(out, "the copy still lacks groups: open it with spark.ferrowal.recovery=salvage")?;
            } else if whole {
                writeln!(out, "the copy was checked and is whole: it opens under every recovery policy")?;
            }
        }
        Ok(if whole { WELL } else { DAMAGED })
    }
}

/// Where `path`, which need not be there, leads to, by whatever names and links.
fn resolved(path: &Path) -> io::Result<PathBuf> {
    let mut real = PathBuf::new();
    for component in std::path::absolute(path)?.components() {
        if component == Component::ParentDir {
            real.pop();
        } else {
            real.push(component);
        }
        // What is not there, and what lies below it, is no link.
        real = real.canonicalize().unwrap_or(real);
    }
    Ok(real)
}
