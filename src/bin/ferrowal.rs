//! The program `ferrowal`: see `ferrowal --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ferrowal::cli::run(std::env::args_os())
}
