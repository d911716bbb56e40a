//! Where a log lives: a directory of this machine, or a URI.

use std::{
    collections::BTreeMap,
    fmt,
    os::unix::ffi::OsStrExt,
    path::{Component, Path, PathBuf},
};

use crate::error::{Error, Result};

/// The application's directory, as a path or a URI: `/var/lib/app`, `file:///var/lib/app`, `s3a://bucket/app`,
/// `gs://bucket/app`, `abfss://container@account.dfs.core.windows.net/app`, `hdfs://host:port/app`.
///
/// Made from anything that looks like one; what makes no sense is refused by [`Options::validate`](crate::Options::validate).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Location(Given);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Given {
    Path(PathBuf),
    Uri(String),
}

/// The kinds of places that there are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// A directory that this machine's file systems hold.
    Local(PathBuf),
    /// A prefix of an object store.
    Object(Remote),
    /// A directory that the JVM's Hadoop client reaches.
    Hadoop(Remote),
}

/// A parsed URI. Two ways to write one place are equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Remote {
    /// In lower case; `s3a` is written `s3`, and `abfs` is `abfss`.
    pub(crate) scheme: String,
    /// A bucket, a host, or `container@host`.
    pub(crate) authority: String,
    /// Without slashes at its ends; never empty.
    pub(crate) path: String,
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}/{}", self.scheme, self.authority, self.path)
    }
}

const KNOWN: &str = "a path, file:, hdfs:, s3a:, s3:, gs: or abfss:";

impl Location {
    /// What the location names.
    ///
    /// # Errors
    /// [`Error::Config`], saying what is wrong and what is known.
    pub(crate) fn place(&self) -> Result<Place> {
        let uri = match &self.0 {
            Given::Path(path) => return local(path),
            Given::Uri(uri) => uri,
        };
        let (scheme, rest) = uri.split_once(':').unwrap_or(("", uri));
        let scheme = scheme.to_ascii_lowercase();
        if scheme == "file" {
            return file(rest);
        }
        let Some(rest) = rest.strip_prefix("//") else {
            return Err(Error::Config(format!("{scheme}: wants a URI such as {scheme}://bucket/my-app")));
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if rest.contains('\0') {
            return Err(Error::Config(format!(
                "the {scheme}: location has a NUL character in it: take it out"
            )));
        }
        // Neither part is repeated: what is wrong may be a secret.
        if authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':')) {
            return Err(Error::Config(format!(
                "the {scheme}: location holds a password or key: take it out of the URI, where it would be logged, and give it by configuration or environment"
            )));
        }
        let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
        if parts.iter().any(|p| matches!(*p, "." | "..")) || path.contains(['?', '#', '\\']) {
            return Err(Error::Config(format!(
                "{uri} is not the name of a directory: no \".\", \"..\", \"?\", \"#\" or \"\\\" may be in it"
            )));
        }
        let canonical = match scheme.as_str() {
            "s3" | "s3a" => "s3",
            "gs" => "gs",
            "abfs" | "abfss" => "abfss",
            "hdfs" => "hdfs",
            other => {
                return Err(Error::Config(format!("{other}: is not a home for a log: {KNOWN} are")));
            }
        };
        if authority.is_empty() && canonical != "hdfs" {
            return Err(Error::Config(format!("{uri} names no bucket: write {scheme}://bucket/my-app")));
        }
        if parts.is_empty() {
            return Err(Error::Config(format!(
                "{uri} names no directory: give each application one of its own, such as {scheme}://{authority}/my-app"
            )));
        }
        let remote = Remote { scheme: canonical.into(), authority: authority.into(), path: parts.join("/") };
        Ok(if canonical == "hdfs" { Place::Hadoop(remote) } else { Place::Object(remote) })
    }

    /// The name under which a directory is shared in a process: two ways to write one place are one.
    pub(crate) fn canonical(&self) -> Location {
        match self.place() {
            Ok(Place::Local(dir)) => Location(Given::Path(resolved(&dir))),
            Ok(Place::Object(remote) | Place::Hadoop(remote)) => Location(Given::Uri(remote.to_string())),
            Err(_) => self.clone(),
        }
    }
}

fn local(path: &Path) -> Result<Place> {
    if path.as_os_str().is_empty() {
        return Err(Error::Config("the log's directory is empty".into()));
    }
    if path.as_os_str().as_bytes().contains(&0) {
        return Err(Error::Config(format!(
            "the log's directory has a NUL character in its name, which no file system takes: {path:?}"
        )));
    }
    if !path.is_absolute() {
        return Err(Error::Config(format!("the log's directory must be an absolute path, not {path:?}")));
    }
    // "/", "/." and "/..", also behind a name; what leads there by a link alone is taken at its word.
    let up = path.components().any(|c| c == Component::ParentDir);
    if !path.components().any(|c| matches!(c, Component::Normal(_)))
        || up && path.canonicalize().is_ok_and(|real| real == Path::new("/"))
    {
        return Err(Error::Config(
            "the log's directory is the root directory: give each application one of its own, such as /var/lib/my-app"
                .into(),
        ));
    }
    Ok(Place::Local(path.to_owned()))
}

/// `file:/path`, `file:///path`, `file://localhost/path`, with percent escapes.
fn file(rest: &str) -> Result<Place> {
    let bad = || {
        Error::Config(format!("file:{rest} does not name a directory of this machine: write file:///path"))
    };
    let path = match rest.strip_prefix("//") {
        Some(rest) => rest.strip_prefix("localhost").unwrap_or(rest),
        None => rest,
    };
    if !path.starts_with('/') || path.contains(['?', '#']) {
        return Err(bad());
    }
    let mut bytes = Vec::with_capacity(path.len());
    let mut from = path.bytes();
    while let Some(byte) = from.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [from.next().ok_or_else(bad)?, from.next().ok_or_else(bad)?];
        let text = std::str::from_utf8(&digits).map_err(|_| bad())?;
        bytes.push(u8::from_str_radix(text, 16).map_err(|_| bad())?);
    }
    let path = PathBuf::from(String::from_utf8(bytes).map_err(|_| bad())?);
    if path.components().any(|c| c == Component::ParentDir) {
        return Err(bad());
    }
    local(&path)
}

fn resolved(dir: &Path) -> PathBuf {
    dir.canonicalize().unwrap_or_else(|_| match (dir.parent().map(|p| p.canonicalize()), dir.file_name()) {
        (Some(Ok(parent)), Some(name)) => parent.join(name),
        _ => dir.to_owned(),
    })
}

impl From<&str> for Location {
    fn from(text: &str) -> Location {
        // A path may hold a colon, but does not begin with a scheme.
        let scheme = text.split_once(':').map(|(s, _)| s).filter(|s| {
            s.starts_with(|c: char| c.is_ascii_alphabetic())
                && s.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
        });
        Location(match scheme {
            Some(_) => Given::Uri(text.to_owned()),
            None => Given::Path(text.into()),
        })
    }
}

impl From<String> for Location {
    fn from(text: String) -> Location {
        text.as_str().into()
    }
}

impl From<&Path> for Location {
    fn from(path: &Path) -> Location {
        Location(Given::Path(path.to_owned()))
    }
}

impl From<&PathBuf> for Location {
    fn from(path: &PathBuf) -> Location {
        path.as_path().into()
    }
}

impl From<PathBuf> for Location {
    fn from(path: PathBuf) -> Location {
        Location(Given::Path(path))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Given::Path(path) => path.display().fmt(f),
            // As it was written only where it is sound: a URI that is refused may hold a secret.
            Given::Uri(uri) => match self.place() {
                Ok(_) => f.write_str(uri),
                Err(_) => write!(f, "{}:…", uri.split(':').next().unwrap_or_default()),
            },
        }
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// What a store wants to be told besides its location, by the keys of Hadoop's own clients (`fs.s3a.endpoint`, …). Some
/// of the values are secrets: none of them is ever shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StoreProperties(BTreeMap<String, String>);

impl StoreProperties {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(|v| v.trim()).filter(|v| !v.is_empty())
    }

    /// Sets a key.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.0.insert(key.into(), value.into());
    }
}

impl fmt::Debug for StoreProperties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for StoreProperties {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> StoreProperties {
        StoreProperties(pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }
}
