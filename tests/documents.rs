//! `docs/troubleshooting.md` has an entry for every message: whoever changes one, or adds one, is told to say there what it
//! means and what to do.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// What a message of the Rust side comes after. Internal errors and system errors have one entry each.
const RUST: [&str; 15] = [
    "#[error(",
    "log::warn!(",
    "log::error!(",
    "log::info!(",
    "Error::Config(",
    "Failure::Say(",
    "detail: ",
    "hint: ",
    "what: ",
    ".corrupt(",
    "gone(",
    "bad(",
    "config(",
    "absent(&remote.scheme, ",
    "let why = ",
];

/// And of the Java side.
const JAVA: [&str; 7] = [
    "Exception(",
    "LOG.warn(",
    "LOG.error(",
    "LOG.info(",
    "NativeLog.warn(",
    "System.err.println(",
    "failed(",
];

/// Shorter pieces of a message say nothing, and stand in any text.
const SHORTEST: usize = 12;

/// What is not for people, or in no program that is shipped.
const LEFT_OUT: [&str; 7] =
    ["simulation", "/sim/", "faults.rs", "tests.rs", "hooks.rs", "planted.rs", "fuzzing.rs"];

fn sources(dir: &Path, ending: &str, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.to_str().unwrap();
        if LEFT_OUT.iter().any(|left_out| name.contains(left_out)) {
            continue;
        }
        match path.is_dir() {
            true => sources(&path, ending, into),
            false if name.ends_with(ending) => into.push(path),
            false => {}
        }
    }
}

/// The string literal at the beginning of `text`, and what follows it.
fn literal(text: &str) -> Option<(String, &str)> {
    let mut said = String::new();
    let mut rest = text.strip_prefix('"')?.char_indices();
    while let Some((at, c)) = rest.next() {
        match c {
            '"' => return Some((said, &text[at + 2..])),
            '\\' => match rest.next()?.1 {
                'n' => said.push('\n'),
                '\n' => said.push(' '),
                other => said.push(other),
            },
            other => said.push(other),
        }
    }
    None
}

/// Messages after the marker: the literal that follows, also within `format!(` or `&format!(`.
fn of_rust(text: &str, marker: &str, into: &mut Vec<String>) {
    for (at, _) in text.match_indices(marker) {
        let mut rest = text[at + marker.len()..].trim_start();
        for wrap in ["&", "format!("] {
            rest = rest.strip_prefix(wrap).unwrap_or(rest).trim_start();
        }
        into.extend(literal(rest).map(|(said, _)| said));
    }
}

/// The pieces of a message that is put together by `+`, up to the end of the call.
fn of_java(text: &str, marker: &str, into: &mut Vec<String>) {
    for (at, _) in text.match_indices(marker) {
        let mut rest = &text[at + marker.len()..];
        let mut depth = 1;
        while let Some(c) = rest.chars().next().filter(|_| depth > 0) {
            match c {
                '"' => {
                    let Some((said, after)) = literal(rest) else { break };
                    into.push(said);
                    rest = after;
                    continue;
                }
                '(' => depth += 1,
                ')' => depth -= 1,
                _ => {}
            }
            rest = &rest[c.len_utf8()..];
        }
    }
}

/// What of a message is the same each time.
fn pieces(message: &str) -> Vec<String> {
    let mut pieces = vec![String::new()];
    let mut inside = 0;
    for c in message.chars() {
        match c {
            '{' => {
                inside += 1;
                pieces.push(String::new());
            }
            '}' => inside -= 1,
            c if inside == 0 => pieces.last_mut().unwrap().push(c),
            _ => {}
        }
    }
    pieces.iter().map(|p| words(p)).filter(|p| p.len() >= SHORTEST).collect()
}

/// The text with one space between words, and without the signs that a page puts around code.
fn words(text: &str) -> String {
    text.replace('`', "").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_message_has_its_entry() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = words(&fs::read_to_string(root.join("docs/troubleshooting.md")).unwrap());
    let (mut missing, mut all) = (Vec::new(), 0);
    for (dir, ending, markers) in [("src", ".rs", &RUST[..]), ("java/src/main", ".java", &JAVA[..])] {
        let mut files = Vec::new();
        sources(&root.join(dir), ending, &mut files);
        assert!(files.len() > 10, "{dir} has few files");
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
            let mut messages = Vec::new();
            for marker in markers {
                match ending {
                    ".rs" => of_rust(text, marker, &mut messages),
                    _ => of_java(text, marker, &mut messages),
                }
            }
            for piece in messages.iter().flat_map(|m| pieces(m)) {
                all += 1;
                if !page.contains(&piece) {
                    missing.push(format!("{}: {piece}", file.strip_prefix(root).unwrap().display()));
                }
            }
        }
    }
    assert!(all > 150, "only {all} pieces of messages were found: the search is broken");
    assert!(missing.is_empty(), "docs/troubleshooting.md has no entry for:\n{}", missing.join("\n"));
}

/// Every page is in the site's list, and what is in the list is there.
#[test]
fn every_page_is_in_the_list_of_the_site() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let summary = fs::read_to_string(docs.join("SUMMARY.md")).unwrap();
    let listed: BTreeSet<String> = summary
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(page, _)| page.to_owned())
        .collect();
    for page in &listed {
        assert!(docs.join(page).is_file(), "docs/SUMMARY.md names {page}, which is not there");
    }
    for entry in fs::read_dir(&docs).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".md") && name != "SUMMARY.md" {
            assert!(listed.contains(&name), "docs/SUMMARY.md does not name {name}");
        }
    }
}
