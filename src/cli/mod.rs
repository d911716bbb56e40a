//! The program `ferrowal`: what is in a log, whether it is whole, and what can be saved of it.
//!
//! | file | command |
//! |---|---|
//! | `inspect` | writers, segments, times, sizes, damage |
//! | `dump` | records, by time or handle; `tail` |
//! | `verify` | every checksum, in parallel |
//! | `salvage` | a copy without the damage, in which every good record keeps its handle |
//! | `clean` | what a threshold would drop, and dropping it |
//! | `bench` | the device's barrier rate, and the log's share of it |
//!
//! All but `clean` and `bench` only read, and may be used beside a live log. Results go to standard output, in lines for
//! people or, with `--json`, as one JSON document (`dump` and `tail`: one a line); errors and progress go to standard error.

mod bench;
mod clean;
mod dump;
mod inspect;
mod progress;
mod salvage;
mod verify;

use std::{
    ffi::OsString,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use clap::{Args, Parser, Subcommand};

use crate::{
    codec::KeyRing,
    error::Error,
    location::Location,
    log::survey::{Look, Survey, Wanted, Wrap, survey},
    options::{Options, Role},
    storage::{self, Home},
};

/// The environment variable that keys are taken from.
const KEYS: &str = "FERROWAL_KEYS";

/// Nothing is wrong.
const WELL: u8 = 0;
/// There is damage.
const DAMAGED: u8 = 1;
/// The command could not be carried out.
const FAILED: u8 = 2;
/// Checksums hold, and a key is missing to check more.
const UNOPENED: u8 = 3;

#[derive(Parser)]
#[command(
    name = "ferrowal",
    version,
    about = "Looks at a ferrowal log, checks it, and saves what can be saved.",
    long_about = "Looks at a ferrowal log, checks it, and saves what can be saved.\n\nDIR is what spark.ferrowal.dir names: the directory that holds ferrowal.id. inspect, dump, verify, salvage and tail only read it, and may be used while the application runs: a group that is on its way to the device then looks torn.",
    after_help = "Exit code: 0 all is well, 1 there is damage, 2 the command could not be carried out, 3 (verify) all that could be checked is well, and a key is missing for the rest."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Shows writers, segments, times, sizes, and what is torn or corrupt.
    Inspect(inspect::Inspect),
    /// Shows records: all, those of some time, or the one of a handle.
    Dump(dump::Dump),
    /// Checks every checksum of every segment.
    Verify(verify::Verify),
    /// Copies what is good into a new directory, where every good record keeps its handle. Changes nothing in place.
    Salvage(salvage::Salvage),
    /// Shows the last records, and with -f those that come.
    Tail(dump::Tail),
    /// Shows what cleaning with a threshold would drop (--dry-run), or drops it.
    Clean(clean::Clean),
    /// Measures what the device does in a directory, and the log's share of it.
    Bench(bench::Bench),
}

/// Which log, and which part of it.
#[derive(Args)]
struct Target {
    /// The log's directory.
    #[arg(value_name = "DIR")]
    dir: String,
    /// Only the driver's log.
    #[arg(long, conflicts_with = "writer")]
    driver: bool,
    /// Only the receivers' logs.
    #[arg(long, conflicts_with_all = ["writer", "driver"])]
    receivers: bool,
    /// Only the receiver writer whose uuid begins so.
    #[arg(long, value_name = "UUID")]
    writer: Option<String>,
    /// A file with a key that records are encrypted with: 64 hex digits (large or small, white space around them does not
    /// count), or the key's 32 bytes; again for each key. Keys are also taken from the environment variable FERROWAL_KEYS:
    /// hex digits, separated by commas.
    #[arg(long = "key-file", value_name = "FILE")]
    key_files: Vec<PathBuf>,
    /// Takes no record for true that none of the keys authenticates: dump and tail refuse it, verify counts it as damage, and
    /// salvage leaves it out.
    #[arg(long)]
    require_encryption: bool,
}

impl Target {
    fn home(&self) -> Result<Arc<dyn Home>, Failure> {
        let mut options = Options::new(location(&self.dir)?, Role::Receivers);
        // Looking takes no lock, so it does not matter whether one would hold.
        options.allow_network_lock = true;
        Ok(storage::home(&options)?)
    }

    /// The keys that were given.
    fn keys(&self) -> Result<KeyRing, Failure> {
        let mut sources = Vec::new();
        for file in &self.key_files {
            sources.push(format!("file:{}", std::path::absolute(file)?.display()));
        }
        if let Some(keys) = std::env::var_os(KEYS) {
            // What is no text is no key, and is said to be none.
            let keys = keys.to_string_lossy();
            sources.extend(keys.split(',').filter(|k| !k.trim().is_empty()).map(|k| format!("hex:{k}")));
        }
        let keys = KeyRing::read(sources)?.for_reading();
        match self.require_encryption {
            true if keys.is_empty() => Err(Failure::Say(format!(
                "--require-encryption wants the keys that records must be encrypted with: name them by --key-file, or in {KEYS}"
            ))),
            true => Ok(keys.required()),
            false => Ok(keys),
        }
    }

    fn wanted(&self) -> Wanted<'_> {
        match &self.writer {
            Some(start) => Wanted::Beginning(start),
            None if self.driver => Wanted::Driver,
            None if self.receivers => Wanted::Receivers,
            None => Wanted::All,
        }
    }

    /// Looks at what is wanted of the log.
    fn survey(&self, look: Look, wrap: &Wrap<'_>) -> Result<Survey, Failure> {
        let home = self.home()?;
        let found = survey(home.as_ref(), self.wanted(), look, &self.keys()?, wrap)?;
        if let (Some(writer), true) = (&self.writer, found.parts.is_empty()) {
            return Err(Failure::Say(format!(
                "no receiver writer in {} begins with {writer}: `ferrowal inspect` lists them",
                home.place()
            )));
        }
        Ok(found)
    }
}

/// A location as a shell gives it: a relative path counts from here.
fn location(text: &str) -> Result<Location, Failure> {
    let is_uri = text.split_once(':').is_some_and(|(scheme, _)| {
        scheme.len() > 1
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
    });
    if is_uri {
        return Ok(Location::from(text));
    }
    if text.is_empty() {
        return Err(Failure::Say(
            "the log's directory has an empty name: give the one that spark.ferrowal.dir names".into(),
        ));
    }
    let path = std::path::absolute(text).map_err(|e| Failure::Say(format!("{text}: {e}")))?;
    Ok(Location::from(path))
}

/// Why a command could not be carried out.
#[derive(Debug)]
enum Failure {
    Log(Error),
    /// Standard output.
    Out(io::Error),
    Say(String),
}

impl From<Error> for Failure {
    fn from(e: Error) -> Failure {
        Failure::Log(e)
    }
}

impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Failure {
        Failure::Out(e)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(e: serde_json::Error) -> Failure {
        Failure::Out(e.into())
    }
}

/// Runs the program with these arguments, the first of them its own name. Standard output and standard error are the
/// process's.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let no_java = &mut |_: &[u8]| {
        Err("--format spark needs Java, and Spark's classes: SPARK_HOME=… java -jar ferrowal.jar dump --format spark DIR, or spark-submit --class org.ferrowal.Main ferrowal.jar dump --format spark DIR".to_owned())
    };
    ExitCode::from(code(args, no_java))
}

/// Says what a record of Spark's driver is, in lines for people; or why nothing can be said of any record.
pub(crate) type Readable<'a> = &'a mut dyn FnMut(&[u8]) -> Result<String, String>;

/// The same, as a number.
pub(crate) fn code(args: impl IntoIterator<Item = OsString>, readable: Readable<'_>) -> u8 {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(e) => {
            // Help goes to standard output, a mistake to standard error; a closed pipe is nobody's mistake.
            let _ = e.print();
            return if e.use_stderr() { FAILED } else { WELL };
        }
    };
    // Whoever reads the first lines only wants the verdict on all of it.
    let judges = matches!(cli.command, Command::Inspect(_) | Command::Verify(_));
    let mut out = io::BufWriter::new(Out { out: io::stdout().lock(), judges, closed: false });
    let result = match cli.command {
        Command::Inspect(c) => c.run(&mut out),
        Command::Dump(c) => c.run(&mut out, readable),
        Command::Verify(c) => c.run(&mut out),
        Command::Salvage(c) => c.run(&mut out),
        Command::Tail(c) => c.run(&mut out, readable),
        Command::Clean(c) => c.run(&mut out),
        Command::Bench(c) => c.run(&mut out),
    };
    match result.and_then(|code| Ok(out.flush().map(|()| code)?)) {
        Ok(code) => code,
        // `ferrowal dump … | head` is no failure.
        Err(Failure::Out(e)) if e.kind() == io::ErrorKind::BrokenPipe => WELL,
        Err(Failure::Out(e)) => failed(&format!("cannot write the result: {e}")),
        Err(Failure::Log(e @ Error::Key { .. })) => {
            failed(&format!("{e} (to this program, keys are given by --key-file, or in {KEYS})"))
        }
        Err(Failure::Log(e)) => failed(&e.to_string()),
        Err(Failure::Say(text)) => failed(&text),
    }
}

/// Standard output. A command that judges goes on without it where its reader has gone.
struct Out<W> {
    out: W,
    judges: bool,
    closed: bool,
}

impl<W: Write> Out<W> {
    fn unless_closed<T>(&mut self, gone: T, write: impl FnOnce(&mut W) -> io::Result<T>) -> io::Result<T> {
        if self.closed {
            return Ok(gone);
        }
        match write(&mut self.out) {
            Err(e) if self.judges && e.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(gone)
            }
            result => result,
        }
    }
}

impl<W: Write> Write for Out<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.unless_closed(bytes.len(), |out| out.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.unless_closed((), Write::flush)
    }
}

fn failed(text: &str) -> u8 {
    eprintln!("ferrowal: {text}");
    FAILED
}

/// Bytes for people: three digits, units of 1024.
fn bytes(n: u64) -> String {
    indicatif::BinaryBytes(n).to_string()
}

/// A whole number with separators.
fn count(n: u64) -> String {
    indicatif::HumanCount(n).to_string()
}

/// Milliseconds of the log's clock, which need not be the wall clock: as they are.
fn time(ms: i64) -> String {
    match ms {
        i64::MAX | i64::MIN => "–".into(),
        ms => ms.to_string(),
    }
}
