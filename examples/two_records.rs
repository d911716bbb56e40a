//! Writes the log that `docs/format.md` shows in hex: `cargo run --no-default-features --example two_records -- DIR`.

use ferrowal::{Error, Log, Options, Role};

fn main() -> Result<(), Error> {
    let Some(dir) = std::env::args().nth(1) else {
        return Err(Error::Config(
            "name a directory for the log: an absolute path that is not there yet".into(),
        ));
    };
    let log = Log::open(Options::new(dir, Role::Driver))?;
    println!("{:?}", log.append(b"hello", 1_000)?);
    println!("{:?}", log.append(b"write-ahead", 2_000)?);
    log.close()
}
