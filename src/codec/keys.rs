//! Keys: where they come from, and how they are told apart.
//!
//! A key is named by what it is: its id is derived from it. So no name can be given to the wrong key, and a key that is
//! missing is told from bytes that were altered. The id says nothing of the key.

use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::cipher::{KEY, Secret};
use crate::error::{Error, Result};

/// Names a key. Shown as 16 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyId(pub(crate) [u8; 8]);

impl KeyId {
    /// As a segment's header has it.
    pub(crate) fn in_header(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.0);
        bytes
    }

    /// From there; `None` where nothing is encrypted.
    pub(crate) fn of_header(bytes: [u8; 16]) -> Option<KeyId> {
        (bytes != [0; 16]).then(|| KeyId(std::array::from_fn(|i| bytes[i])))
    }

    /// The error of those who have no such key. `place` says what is encrypted with it.
    pub(crate) fn missing(self, place: impl fmt::Display) -> Error {
        Error::Key { place: place.to_string(), key: self.to_string() }
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// One key.
#[derive(Clone)]
pub(crate) struct Key {
    id: KeyId,
    secret: Secret,
}

impl Key {
    fn new(bytes: &[u8; KEY]) -> Result<Key> {
        let secret = Secret::new(bytes)?;
        Ok(Key { id: KeyId(secret.derive(&[b"key id"])?), secret })
    }

    pub(crate) fn id(&self) -> KeyId {
        self.id
    }

    pub(super) fn secret(&self) -> &Secret {
        &self.secret
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id)
    }
}

/// The keys that a log is opened with. The first encrypts new records; all of them decrypt. An empty ring encrypts
/// nothing. Shows, and compares, ids and never keys.
#[derive(Clone, Default)]
pub struct KeyRing {
    keys: Arc<[Key]>,
    decrypt_only: bool,
    required: bool,
}

impl KeyRing {
    /// Reads keys from where `sources` say:
    /// * `file:/path`: a file that holds 64 hex digits (large or small, white space around them does not count), or 32 bytes,
    ///   not all of them ASCII: those are text, and no key;
    /// * `env:NAME`: an environment variable that holds 64 hex digits;
    /// * `hex:…`: the 64 hex digits themselves, for programs that have them from elsewhere.
    ///
    /// # Errors
    /// [`Error::Config`] and I/O errors, which name the source and never what it holds.
    pub fn read<S: AsRef<str>>(sources: impl IntoIterator<Item = S>) -> Result<KeyRing> {
        let keys: Vec<Key> = sources.into_iter().map(|s| read(s.as_ref())).collect::<Result<_>>()?;
        Ok(KeyRing { keys: keys.into(), decrypt_only: false, required: false })
    }

    /// The same keys for reading alone: what is written is not encrypted.
    #[must_use]
    pub fn for_reading(self) -> KeyRing {
        KeyRing { decrypt_only: true, ..self }
    }

    /// The same keys, and nothing without them: a record that none of them authenticates is not read
    /// ([`Error::Unauthenticated`]), and a log that would be written without one is not opened ([`Error::Config`]).
    #[must_use]
    pub fn required(self) -> KeyRing {
        KeyRing { required: true, ..self }
    }

    /// Whether what no key authenticates is refused.
    pub fn is_required(&self) -> bool {
        self.required
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys' ids, as messages name them.
    pub fn ids(&self) -> Vec<String> {
        self.keys.iter().map(|k| k.id.to_string()).collect()
    }

    pub(crate) fn current(&self) -> Option<&Key> {
        self.keys.first().filter(|_| !self.decrypt_only)
    }

    /// Whether the records of a segment whose header names `key` can be had, as far as that header is true: it has a checksum
    /// alone, and each record is asked again.
    ///
    /// # Errors
    /// [`Error::Key`], and [`Error::Unauthenticated`] where encryption is required.
    pub(crate) fn admit(&self, key: Option<KeyId>, place: impl fmt::Display) -> Result<()> {
        match key {
            Some(key) if self.find(key).is_none() => Err(key.missing(place)),
            None if self.required => Err(Error::Unauthenticated {
                place: place.to_string(),
                detail: "its header says that its records are not encrypted".into(),
            }),
            _ => Ok(()),
        }
    }

    pub(crate) fn find(&self, id: KeyId) -> Option<&Key> {
        self.keys.iter().find(|k| k.id == id)
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRing{:?}", self.ids())
    }
}

impl PartialEq for KeyRing {
    fn eq(&self, other: &KeyRing) -> bool {
        (self.decrypt_only, self.required) == (other.decrypt_only, other.required)
            && self.keys.iter().map(|k| k.id).eq(other.keys.iter().map(|k| k.id))
    }
}

impl Eq for KeyRing {}

const FORM: &str = "64 hex digits (`openssl rand -hex 32` makes them)";

fn read(source: &str) -> Result<Key> {
    // A source that is no source may be a key that was put in the wrong place: it is not repeated.
    let (kind, rest) = source.split_once(':').unwrap_or(("", source));
    // Nor is one that has a key pasted behind it.
    let kind = if kind != "hex" && is_like_a_key(rest) { "" } else { kind };
    match kind {
        "file" => {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            if !path.starts_with('/') {
                return Err(Error::Config(format!("{source}: the path of a key must be absolute")));
            }
            from_file(Path::new(path))
        }
        "env" => {
            let text = std::env::var(rest)
                .map_err(|_| Error::Config(format!("env:{rest}: there is no such environment variable")))?;
            from_hex(&text).ok_or_else(|| Error::Config(format!("env:{rest} must hold {FORM}")))
        }
        "hex" => from_hex(rest).ok_or_else(|| Error::Config(format!("a key must be {FORM}"))),
        _ => Err(Error::Config("a key is named as file:/path, or env:NAME".into())),
    }
    .and_then(|bytes| Key::new(&bytes))
}

fn from_file(path: &Path) -> Result<[u8; KEY]> {
    use std::{
        io::Read,
        os::unix::fs::{MetadataExt, OpenOptionsExt},
    };
    let failed = |e| Error::io("read the key in", path.display(), e);
    // A pipe that somebody writes to will do (a shell's `<(…)`); one that nobody does is empty, and not waited for.
    let file =
        std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
    rustix::fs::fcntl_setfl(&file, rustix::fs::OFlags::empty()).map_err(|e| failed(e.into()))?;
    let found = file.metadata().map_err(failed)?;
    if found.is_file() && found.mode() & 0o077 != 0 && is_first(path) {
        log::warn!("the key in {} can be read by others than its owner: chmod 600 it", path.display());
    }
    // Whatever it is, no more of it is read than could be a key.
    let mut bytes = Vec::new();
    file.take(256).read_to_end(&mut bytes).map_err(failed)?;
    let hex = || from_hex(std::str::from_utf8(&bytes).ok()?);
    // 32 letters are text: half a key in hex, or a password, and no 32 random bytes.
    let raw = <[u8; KEY]>::try_from(bytes.as_slice()).ok().filter(|b| !b.is_ascii());
    let key = raw.or_else(hex);
    key.ok_or_else(|| Error::Config(format!("{} must hold a key: {FORM}, or 32 bytes", path.display())))
}

/// Whether nothing was said of a file yet: Spark makes an instance of the log for each partition that it reads back, and
/// each reads its keys.
fn is_first(path: &Path) -> bool {
    static SAID: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned())
}

/// Whether a text may be (half of) a key, and no name or path.
fn is_like_a_key(text: &str) -> bool {
    let text = text.trim();
    text.len() >= KEY && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn from_hex(text: &str) -> Option<[u8; KEY]> {
    let text = text.trim().as_bytes();
    if text.len() != 2 * KEY {
        return None;
    }
    let digit = |b: u8| char::from(b).to_digit(16);
    let mut key = [0; KEY];
    for (byte, two) in key.iter_mut().zip(text.chunks_exact(2)) {
        *byte = u8::try_from(digit(two[0])? << 4 | digit(two[1])?).ok()?;
    }
    Some(key)
}
