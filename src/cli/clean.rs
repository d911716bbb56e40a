//! `ferrowal clean`.

use std::{io::Write, time::Duration};

use clap::Args;
use serde_json::json;

use super::{Failure, Target, WELL, bytes, count, location, time};
use crate::{
    location::Place,
    log::{
        Log,
        survey::{Doomed, Look, Part},
    },
    options::{Options, Role},
    storage::{Home, Listed, Which},
};

/// Drops whole segments whose records are all older than the threshold. The application does this by itself; by hand it is
/// for a log whose application is gone.
#[derive(Args)]
pub(super) struct Clean {
    #[command(flatten)]
    target: Target,
    /// Records before this time may go: milliseconds of the records' own clock.
    #[arg(long, value_name = "MS", allow_negative_numbers = true)]
    before: i64,
    /// Only show what would go.
    #[arg(long)]
    dry_run: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

impl Clean {
    pub(super) fn run(&self, out: &mut dyn Write) -> Result<u8, Failure> {
        if !self.dry_run && self.target.writer.is_some() {
            return Err(Failure::Say("cleaning is for all receivers at once: leave --writer out".into()));
        }
        let survey = self.target.survey(Look::AllThatCanBeRead, &|storage| storage)?;
        let home = self.target.home()?;
        let mut found = Vec::new();
        for part in &survey.parts {
            let listed = if part.unlisted { Vec::new() } else { part.storage.list()? };
            found.push((part, listed, part.doomed(home.as_ref(), self.before)?));
        }
        let mut cleaned = Ok(());
        for role in [Role::Driver, Role::Receivers] {
            let of_role = |p: &Part| (p.which == Which::Driver) == (role == Role::Driver);
            // A driver's log that keeps all it has says why by its error; of receivers each says it for itself.
            let any = found.iter().any(|(p, _, d)| of_role(p) && (role == Role::Driver || d.kept.is_none()));
            if !self.dry_run && any {
                // What is wrong with one of them is no matter of the other's.
                cleaned = cleaned.and(self.clean(role));
            }
        }
        let mut parts = Vec::new();
        for (part, listed, doomed) in found {
            // What went is told as it is found, and not as it was planned.
            let planned = doomed.segments.len();
            let doomed = if self.dry_run || doomed.kept.is_some() {
                doomed
            } else {
                gone(home.as_ref(), part, &listed)?
            };
            let Doomed { segments: ids, directory, kept } = doomed;
            let of = |l: &&Listed| ids.contains(&l.id);
            let size = listed.iter().filter(of).map(|l| l.length).sum();
            let known = part.analysis.segments.iter().filter(|s| ids.contains(&s.listed.id));
            let records = known.map(|s| part.tally(s).records).sum();
            parts.push(json!({
                "name": part.name(), "segments": ids, "size": size, "records": records, "directory": directory, "kept": kept,
            }));
            if !self.json {
                let what = if self.dry_run { "would drop" } else { "dropped" };
                write!(
                    out,
                    "{}: {what} {} of {} segments, {}, {} records below {}",
                    part.name(),
                    count(ids.len() as u64),
                    count(listed.len() as u64),
                    bytes(size),
                    count(records),
                    time(self.before),
                )?;
                if directory {
                    write!(out, ", and the directory: its writer is gone")?;
                }
                if let (Some(why), true) = (kept, ids.is_empty()) {
                    write!(out, ": {why}")?;
                }
                let later = planned.saturating_sub(ids.len());
                if later > 0 && cleaned.is_ok() {
                    let why = match part.storage.traits().fenced {
                        true => "go later: a store's objects are kept for ten minutes",
                        false => "are there still",
                    };
                    write!(out, "; {} more {why}", count(later as u64))?;
                }
                writeln!(out)?;
            }
        }
        if self.json {
            writeln!(out, "{:#}", json!({ "log": survey.log, "dryRun": self.dry_run, "writers": parts }))?;
        }
        cleaned.map(|()| WELL)
    }

    fn clean(&self, role: Role) -> Result<(), Failure> {
        let mut options = Options::new(location(&self.target.dir)?, role);
        options.clean_grace = Duration::ZERO;
        options.lock_wait = Duration::ZERO;
        options.linger = Duration::ZERO;
        if let Place::Local(_) = options.dir.place()? {
            // On a full volume what is dropped makes room, and not what comes in time.
            options.write_timeout = Duration::from_secs(1);
        }
        let log = Log::open(options)?;
        // A driver's log goes on with what is there only if it was read first.
        if role == Role::Driver {
            drop(log.scan()?);
        }
        log.clean(self.before, true)?;
        log.close()?;
        Ok(())
    }
}

/// What is there no more of what was `listed`.
fn gone(home: &dyn Home, part: &Part, listed: &[Listed]) -> Result<Doomed, Failure> {
    let now = part.storage.list()?;
    let still = |id: u64| now.iter().any(|l| l.id == id);
    let segments = listed.iter().map(|l| l.id).filter(|id| !still(*id)).collect();
    let directory = match part.which {
        Which::Driver => false,
        Which::Receiver(uuid) => !home.writers()?.contains(&uuid),
    };
    Ok(Doomed { segments, directory, kept: None })
}
