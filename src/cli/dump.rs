//! `ferrowal dump` and `ferrowal tail`.

use std::{collections::HashMap, io::Write, thread, time::Duration};

use clap::{Args, ValueEnum};
use serde_json::json;

use super::{DAMAGED, Failure, Readable, Target, WELL};
use crate::{
    error::Error,
    log::survey::{Look, Part, Seen, SeenRecord, SegmentState, begins},
};

/// How often a log is looked at for what came.
const FOLLOW: Duration = Duration::from_millis(250);
/// Bytes of a record that a line shows.
const SHOWN: usize = 64;

/// Goes through the records in write order. Without a filter: all that are not cleaned, of the current generation.
#[derive(Args)]
pub(super) struct Dump {
    #[command(flatten)]
    target: Target,
    /// Only records of this time or later, in milliseconds.
    #[arg(long, value_name = "MS", allow_negative_numbers = true)]
    from: Option<i64>,
    /// Only records before this time, in milliseconds.
    #[arg(long, value_name = "MS", allow_negative_numbers = true)]
    to: Option<i64>,
    /// Only the record of this handle, as messages name it: 1c9e7a2b/3@8192+100.
    #[arg(long, value_name = "HANDLE")]
    handle: Option<String>,
    /// Only what fresh starts of the driver have set aside: records of earlier generations, which are never replayed.
    #[arg(long, conflicts_with = "handle")]
    set_aside: bool,
    /// No more than so many records.
    #[arg(long, short = 'n', value_name = "N")]
    limit: Option<u64>,
    /// How a record's bytes are shown.
    #[arg(long, value_enum, default_value_t = Format::Line)]
    format: Format,
    /// One JSON document a line: the same as --format json.
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

/// Shows the last records of each writer.
#[derive(Args)]
pub(super) struct Tail {
    #[command(flatten)]
    target: Target,
    /// So many of each writer.
    #[arg(long, short = 'n', value_name = "N", default_value_t = 10)]
    lines: usize,
    /// Goes on with what comes, until it is stopped.
    #[arg(long, short)]
    follow: bool,
    /// How a record's bytes are shown.
    #[arg(long, value_enum, default_value_t = Format::Line)]
    format: Format,
    /// One JSON document a line: the same as --format json.
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A line: handle, time, length, and the first bytes as text.
    Line,
    /// A line, and below it all bytes as hex and text.
    Hex,
    /// The bytes alone, one record after the other.
    Raw,
    /// One JSON document a line, the bytes in hex.
    Json,
    /// A line, and below it what the events of Spark's driver in it say. Needs Spark's classes: in `java -jar` with
    /// SPARK_HOME set, or in `spark-submit --class org.ferrowal.Main`.
    Spark,
}

/// The part of a handle that people see.
struct Wanted {
    writer: String,
    segment: u64,
    offset: u64,
}

impl Wanted {
    fn parse(text: &str) -> Option<Wanted> {
        // As Spark's messages have it.
        let text = text.strip_prefix("ferrowal:").unwrap_or(text);
        let (writer, rest) = text.rsplit_once('/')?;
        let (segment, rest) = rest.split_once('@')?;
        let offset = rest.split('+').next()?;
        let known = !writer.is_empty() && writer.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        known.then_some(())?;
        Some(Wanted { writer: writer.into(), segment: segment.parse().ok()?, offset: offset.parse().ok()? })
    }

    fn is_in(&self, segment: &SegmentState) -> bool {
        segment.listed.id == self.segment && begins(segment.place.writer, &self.writer)
    }

    fn is(&self, record: &SeenRecord) -> bool {
        record.segment == self.segment && record.offset == self.offset && begins(record.writer, &self.writer)
    }
}

impl Dump {
    pub(super) fn run(&self, out: &mut dyn Write, readable: Readable<'_>) -> Result<u8, Failure> {
        let format = if self.json { Format::Json } else { self.format };
        let wanted = match &self.handle {
            Some(text) => Some(Wanted::parse(text).ok_or_else(|| {
                Failure::Say(format!("{text} is no handle: it looks like 1c9e7a2b/3@8192+100"))
            })?),
            None => None,
        };
        let survey = self.target.survey(Look::Ends, &|storage| storage)?;
        let mut left = self.limit.unwrap_or(u64::MAX);
        let (mut shown, mut code, mut broken) = (0, WELL, None);
        for part in &survey.parts {
            if wanted.is_none() {
                code = code.max(tell_damage(part, self.set_aside));
            }
            // Another segment may have another key, and its damage is not asked for.
            let older = |s: &SegmentState| s.generation < part.analysis.generation;
            let is_in = |s: &SegmentState| match &wanted {
                Some(wanted) => wanted.is_in(s),
                None => older(s) == self.set_aside,
            };
            part.records_in(0, is_in, &mut |seen| {
                let record = match seen {
                    Seen::Record(record) => record,
                    // Beside the record that is asked for it is none of this.
                    Seen::Bad { .. } if wanted.is_some() => return Ok(true),
                    Seen::Bad { segment, offset, detail } => {
                        code = tell_bad(part, segment, offset, &detail);
                        return Ok(true);
                    }
                };
                let in_time =
                    self.from.is_none_or(|t| record.time >= t) && self.to.is_none_or(|t| record.time < t);
                let fits = in_time && wanted.as_ref().is_none_or(|w| w.is(&record));
                if fits && left > 0 {
                    left -= 1;
                    shown += 1;
                    broken = show(out, &part.name(), &record, format, readable).err();
                }
                Ok(left > 0 && broken.is_none() && !(fits && wanted.is_some()))
            })?;
            if let Some(e) = broken {
                return Err(e);
            }
        }
        if let (Some(handle), 0) = (&self.handle, shown) {
            return Err(Failure::Say(format!(
                "no record lies at {handle}: it was cleaned, or is damaged, or is of another log (`ferrowal inspect -s` shows the segments)"
            )));
        }
        Ok(code)
    }
}

impl Tail {
    pub(super) fn run(&self, out: &mut dyn Write, readable: Readable<'_>) -> Result<u8, Failure> {
        let format = if self.json { Format::Json } else { self.format };
        // For each writer, the first group that was not shown.
        let mut next: HashMap<String, u64> = HashMap::new();
        let mut following = false;
        let mut code = WELL;
        loop {
            let survey = self.target.survey(Look::Ends, &|storage| storage)?;
            for part in &survey.parts {
                // A writer that appears while we follow is new: all of it is shown.
                let from = next.get(&part.name()).copied().or(following.then_some(0));
                // The last groups hold the last records; where they have too few, all is read.
                let (mut last, mut bad) = (Vec::new(), Vec::new());
                let mut begin = from.unwrap_or_else(|| part.analysis.end.saturating_sub(self.lines as u64));
                loop {
                    last.clear();
                    bad.clear();
                    part.records(begin, &mut |seen| {
                        match seen {
                            Seen::Record(record) => {
                                if from.is_none() && last.len() == self.lines && !last.is_empty() {
                                    last.remove(0);
                                }
                                last.push(record);
                            }
                            Seen::Bad { segment, offset, detail } => bad.push((segment, offset, detail)),
                        }
                        Ok(true)
                    })?;
                    if from.is_some() || last.len() >= self.lines || begin <= part.analysis.first {
                        break;
                    }
                    begin = part.analysis.first;
                }
                if self.lines == 0 && from.is_none() {
                    last.clear();
                }
                for (segment, offset, detail) in &bad {
                    code = tell_bad(part, *segment, *offset, detail);
                }
                for record in &last {
                    show(out, &part.name(), record, format, readable)?;
                }
                next.insert(part.name(), part.analysis.end);
            }
            out.flush()?;
            if !following {
                let codes = survey.parts.iter().map(|part| tell_damage(part, false));
                code = codes.max().unwrap_or(WELL).max(code);
                if !self.follow {
                    return Ok(code);
                }
            }
            following = true;
            thread::sleep(FOLLOW);
        }
    }
}

/// Records that are not there, or not in their place, are not shown; that is told.
fn tell_damage(part: &Part, set_aside: bool) -> u8 {
    let findings = if set_aside { &part.analysis.aside } else { &part.analysis.findings };
    let corrupt: Vec<_> = findings.iter().filter(|f| f.corrupt).collect();
    for finding in &corrupt {
        eprintln!("{}: {finding}", part.name());
    }
    if corrupt.is_empty() { WELL } else { DAMAGED }
}

fn tell_bad(part: &Part, segment: u64, offset: u64, detail: &str) -> u8 {
    eprintln!("{}: corrupt: segment {segment} offset {offset}: {detail}", part.name());
    DAMAGED
}

fn show(
    out: &mut dyn Write,
    part: &str,
    record: &SeenRecord,
    format: Format,
    readable: Readable<'_>,
) -> Result<(), Failure> {
    let payload = record.payload.as_ref().map_err(Error::clone)?;
    if format == Format::Raw {
        return Ok(out.write_all(payload)?);
    }
    if format == Format::Json {
        let hex: String = payload.iter().map(|b| format!("{b:02x}")).collect();
        let line = json!({
            "log": part, "writer": record.writer, "segment": record.segment, "offset": record.offset,
            "sequence": record.sequence, "time": record.time, "length": payload.len(), "payload": hex,
        });
        return Ok(writeln!(out, "{line}")?);
    }
    let place = format!(
        "{}/{}@{}+{}",
        &record.writer.simple().to_string()[..8],
        record.segment,
        record.offset,
        payload.len()
    );
    let line =
        if format == Format::Line { text(&payload[..payload.len().min(SHOWN)]) } else { String::new() };
    writeln!(out, "{place:<28} {:>14} {line}", record.time)?;
    if format == Format::Spark {
        for line in readable(payload).map_err(Failure::Say)?.lines() {
            writeln!(out, "    {line}")?;
        }
    }
    if format == Format::Hex {
        for (i, row) in payload.chunks(16).enumerate() {
            let hex: String = row.iter().map(|b| format!("{b:02x} ")).collect();
            writeln!(out, "  {:08x}  {hex:<48} {}", i * 16, text(row))?;
        }
    }
    Ok(())
}

/// Bytes as text, a dot for what is none.
fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|b| if (0x20..0x7f).contains(b) { char::from(*b) } else { '.' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RecordHandle;

    #[test]
    fn a_handle_is_found_again_by_its_text() {
        let writer = uuid::Uuid::new_v4();
        let handle = RecordHandle {
            log: uuid::Uuid::new_v4(),
            writer,
            segment: 3,
            offset: 8192,
            length: 100,
            crc: 1,
            version: 1,
        };
        for text in [handle.to_string(), format!("ferrowal:{handle}")] {
            let wanted = Wanted::parse(&text).expect("a handle");
            assert!(begins(writer, &wanted.writer) && wanted.segment == 3 && wanted.offset == 8192);
        }
        assert!(Wanted::parse("nonsense").is_none() && Wanted::parse("/3@1+1").is_none());
    }
}
