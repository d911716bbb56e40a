//! `ferrowal inspect`.

use std::io::Write;

use clap::Args;
use serde_json::{Value, json};

use super::{DAMAGED, Failure, Target, WELL, bytes, count, time};
use crate::{
    codec::KeyId,
    log::survey::{Content, Look, Part, SegmentState, Survey, Tally},
    report::Finding,
};

/// Reads headers and footers, and goes through what is not sealed.
#[derive(Args)]
pub(super) struct Inspect {
    #[command(flatten)]
    target: Target,
    /// Each segment, and not only each writer.
    #[arg(long, short)]
    segments: bool,
    /// Go through sealed segments, too.
    #[arg(long)]
    deep: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

impl Inspect {
    pub(super) fn run(&self, out: &mut dyn Write) -> Result<u8, Failure> {
        let look = if self.deep { Look::Everything } else { Look::AllThatCanBeRead };
        let survey = self.target.survey(look, &|storage| storage)?;
        if self.json {
            writeln!(out, "{:#}", as_json(&survey))?;
        } else {
            writeln!(out, "log {}", survey.log)?;
            for part in &survey.parts {
                self.part(out, part)?;
            }
            if survey.parts.is_empty() {
                writeln!(out, "nothing was written to it yet")?;
            }
        }
        Ok(verdict(&survey))
    }

    fn part(&self, out: &mut dyn Write, part: &Part) -> Result<(), Failure> {
        let analysis = &part.analysis;
        let sum = total(part);
        let owner = if part.live { "open for writing" } else { "not open" };
        writeln!(out)?;
        writeln!(
            out,
            "{}: {owner}, {} segments ({}), {} records ({}), times {} to {}",
            part.name(),
            count(analysis.segments.len() as u64),
            bytes(analysis.segments.iter().map(|s| s.listed.length).sum()),
            count(sum.records),
            bytes(sum.bytes),
            time(sum.min_time),
            time(sum.max_time),
        )?;
        writeln!(
            out,
            "  generation {}, epoch {}, groups {} to {}, cleaned below segment {} and time {}",
            analysis.generation,
            analysis.epoch,
            analysis.first,
            analysis.end.saturating_sub(1),
            analysis.low_water,
            time(analysis.threshold),
        )?;
        if self.segments {
            writeln!(
                out,
                "  {:>8} {:>10} {:>9} {:>10} {:>10} {:>14} {:>14}  state",
                "segment", "size", "groups", "records", "bytes", "first time", "last time"
            )?;
            for segment in &analysis.segments {
                let tally = part.tally(segment);
                write!(
                    out,
                    "  {:>8} {:>10} {:>9} {:>10} {:>10} {:>14} {:>14}  {}",
                    segment.listed.id,
                    bytes(segment.listed.length),
                    count(tally.groups),
                    count(tally.records),
                    bytes(tally.bytes),
                    time(tally.min_time),
                    time(tally.max_time),
                    part.state(segment),
                )?;
                if segment.generation < analysis.generation {
                    write!(out, ", of generation {}", segment.generation)?;
                }
                if let Some(codec) = codec(segment) {
                    write!(out, ", {codec}")?;
                }
                if let Some(key) = key(segment) {
                    write!(out, ", key {key}")?;
                }
                if tally.void > 0 {
                    write!(out, ", {} void groups", tally.void)?;
                }
                writeln!(out)?;
            }
        }
        for line in told(part) {
            writeln!(out, "  {line}")?;
        }
        Ok(())
    }
}

/// What was found in a part, a line each.
pub(super) fn told(part: &Part) -> impl Iterator<Item = String> {
    let aside = part.analysis.aside.iter().map(|finding| format!("set aside by a fresh start: {finding}"));
    part.analysis.findings.iter().map(ToString::to_string).chain(aside)
}

/// Whether anything is corrupt.
pub(super) fn verdict(survey: &Survey) -> u8 {
    let corrupt = |p: &Part| !p.analysis.aside.is_empty() || p.analysis.is_damaged();
    if survey.parts.iter().any(corrupt) { DAMAGED } else { WELL }
}

/// All segments of the current generation together.
pub(super) fn total(part: &Part) -> Tally {
    sum(part, |s| s.generation == part.analysis.generation)
}

/// All segments of earlier generations together.
pub(super) fn aside(part: &Part) -> Tally {
    sum(part, |s| s.generation < part.analysis.generation)
}

fn sum(part: &Part, wanted: impl Fn(&SegmentState) -> bool) -> Tally {
    let none = Tally { groups: 0, records: 0, bytes: 0, min_time: i64::MAX, max_time: i64::MIN, void: 0 };
    part.analysis.segments.iter().filter(|s| wanted(s)).map(|s| part.tally(s)).fold(none, |a, b| Tally {
        groups: a.groups + b.groups,
        records: a.records + b.records,
        bytes: a.bytes + b.bytes,
        min_time: a.min_time.min(b.min_time),
        max_time: a.max_time.max(b.max_time),
        void: a.void + b.void,
    })
}

/// By what its records may be compressed.
fn codec(segment: &SegmentState) -> Option<&'static str> {
    match segment.coding.codec {
        0 => None,
        1 => Some("lz4"),
        2 => Some("zstd"),
        _ => Some("unknown codec"),
    }
}

/// By which key its records are encrypted.
fn key(segment: &SegmentState) -> Option<KeyId> {
    KeyId::of_header(segment.coding.key)
}

fn known(time: i64) -> Option<i64> {
    (time != i64::MAX && time != i64::MIN).then_some(time)
}

fn tally_json(tally: &Tally) -> Value {
    json!({
        "groups": tally.groups, "records": tally.records, "bytes": tally.bytes,
        "minTime": known(tally.min_time), "maxTime": known(tally.max_time), "voidGroups": tally.void,
    })
}

fn segment_json(part: &Part, segment: &SegmentState) -> Value {
    let mut value = tally_json(&part.tally(segment));
    value["segment"] = json!(segment.listed.id);
    value["size"] = json!(segment.listed.length);
    value["state"] = json!(part.state(segment));
    value["generation"] = json!(segment.generation);
    value["epoch"] = json!(segment.epoch);
    value["writer"] = json!(segment.place.writer);
    value["recycled"] = json!(segment.recycled);
    value["codec"] = json!(codec(segment));
    value["key"] = json!(key(segment).map(|k| k.to_string()));
    if let Content::Sealed(footer) = &segment.content {
        value["sealed"] = json!(footer.sealed);
    }
    value
}

pub(super) fn finding_json(finding: &Finding) -> Value {
    json!({
        "kind": if finding.corrupt { "corrupt" } else { "torn" },
        "writer": finding.writer, "segment": finding.segment, "offset": finding.offset, "detail": finding.detail,
    })
}

/// Everything that `inspect` and `verify` know.
pub(super) fn as_json(survey: &Survey) -> Value {
    let parts = survey.parts.iter().map(|part| {
        let analysis = &part.analysis;
        let mut value = tally_json(&total(part));
        value["name"] = json!(part.name());
        value["live"] = json!(part.live);
        value["generation"] = json!(analysis.generation);
        value["epoch"] = json!(analysis.epoch);
        value["first"] = json!(analysis.first);
        value["end"] = json!(analysis.end);
        value["lowWater"] = json!(analysis.low_water);
        value["threshold"] = json!(known(analysis.threshold));
        value["segments"] = analysis.segments.iter().map(|s| segment_json(part, s)).collect();
        value["findings"] = analysis.findings.iter().map(finding_json).collect();
        value["setAside"] = tally_json(&aside(part));
        value["setAside"]["findings"] = analysis.aside.iter().map(finding_json).collect();
        value
    });
    json!({ "log": survey.log, "writers": parts.collect::<Value>() })
}
