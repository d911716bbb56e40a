//! `ferrowal clean`.

use std::{io::Write, time::Duration};

use clap::Args;
use serde_json::json;

use super::{Failure, Target, WELL, bytes, count, location, time};
use crate::{
    log::{
        Log,
        survey::{Content, Look, Part},
    },
    options::{Options, Role},
    storage::Which,
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
        let survey = self.target.survey(Look::Ends, &|storage| storage)?;
        let mut parts = Vec::new();
        for part in &survey.parts {
            let (ids, size, records) = would_go(part, self.before);
            parts.push(json!({ "name": part.name(), "segments": ids, "size": size, "records": records }));
            if !self.json {
                let what = if self.dry_run { "would drop" } else { "drops" };
                writeln!(
                    out,
                    "{}: {what} {} of {} segments, {}, {} records below {}",
                    part.name(),
                    count(ids.len() as u64),
                    count(part.analysis.segments.len() as u64),
                    bytes(size),
                    count(records),
                    time(self.before),
                )?;
            }
        }
        if !self.dry_run {
            if self.target.writer.is_some() {
                return Err(Failure::Say("cleaning is for all receivers at once: leave --writer out".into()));
            }
            for role in [Role::Driver, Role::Receivers] {
                let of_role = |p: &&Part| (p.which == Which::Driver) == (role == Role::Driver);
                if survey.parts.iter().any(|p| of_role(&p)) {
                    self.clean(role)?;
                }
            }
        }
        if self.json {
            writeln!(out, "{:#}", json!({ "log": survey.log, "dryRun": self.dry_run, "writers": parts }))?;
        }
        Ok(WELL)
    }

    fn clean(&self, role: Role) -> Result<(), Failure> {
        let mut options = Options::new(location(&self.target.dir)?, role);
        options.clean_grace = Duration::ZERO;
        options.lock_wait = Duration::ZERO;
        options.linger = Duration::ZERO;
        let log = Log::open(options)?;
        // A driver's log goes on with what is there only if it was read first.
        drop(log.scan()?);
        log.clean(self.before, true)?;
        log.close()?;
        Ok(())
    }
}

/// Segments, oldest first, that are sealed and wholly below the threshold; the newest stays.
fn would_go(part: &Part, before: i64) -> (Vec<u64>, u64, u64) {
    let segments = &part.analysis.segments;
    let old = segments.iter().take(segments.len().saturating_sub(1)).take_while(|s| {
        let sealed = matches!(s.content, Content::Sealed(_)) || !part.live;
        sealed && s.max_time() < before
    });
    old.fold((Vec::new(), 0, 0), |(mut ids, size, records), s| {
        ids.push(s.listed.id);
        (ids, size + s.listed.length, records + part.tally(s).records)
    })
}
