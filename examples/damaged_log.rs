//! Makes a log and damages it in three ways, for `docs/tool.md`: `cargo run --example damaged_log -- DIR`.
//!
//! A bit of one record is flipped, the header of another's group is overwritten, and one segment's file is deleted.

use std::{fs, io, os::unix::fs::FileExt, path::Path};

use ferrowal::{Log, Options, RecordHandle, Role};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Some(dir) = std::env::args().nth(1) else {
        return Err("name a directory for the log: an absolute path that is not there yet".into());
    };
    let mut handles = Vec::new();
    // Each opening begins new segments.
    for part in 0..4 {
        let mut options = Options::new(dir.as_str(), Role::Driver);
        options.linger = std::time::Duration::ZERO;
        let log = Log::open(options)?;
        // A log that is read first goes on with what is there.
        drop(log.scan()?);
        for i in 0..100 {
            let number = part * 100 + i;
            let record =
                format!("record {number:03} of the damaged log; {}", "all work and no play ".repeat(5));
            handles.push(log.append(record.as_bytes(), 1_000 + number)?);
        }
        log.close()?;
    }
    let driver = Path::new(&dir).join("driver");
    let file = |handle: &RecordHandle| driver.join(format!("{:016}.seg", handle.segment));
    let flipped = &handles[42];
    overwrite(&file(flipped), flipped.offset + 24 + 7, b"!")?;
    println!("flipped bits of record 42, at {flipped}");
    let headless = &handles[150];
    // Every record here is a group of its own, whose header lies before it.
    overwrite(&file(headless), headless.offset - 96, &[0xee; 96])?;
    println!("overwrote the header of the group of record 150, at {headless}");
    let lost = &handles[250];
    fs::remove_file(file(lost))?;
    println!("deleted segment {}, with records 200 to 299", lost.segment);
    Ok(())
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) -> io::Result<()> {
    fs::File::options().write(true).open(path)?.write_all_at(bytes, at)
}
