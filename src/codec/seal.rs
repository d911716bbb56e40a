//! Encryption of payloads: AES-256-GCM with a key for each encoding of a group.
//!
//! Why no nonce is ever used twice with one key is argued in `docs/format.md`, "Encryption". In short: each time a group is
//! encoded for a place 24 random bytes are drawn, the key is derived from them and the place, and the nonce is the frame's
//! offset with the chunk's number.

use super::{
    cipher::{Cipher, NONCE, random},
    keys::{Key, KeyId, KeyRing},
};
use crate::{
    error::{Error, Result},
    format::{Coded, FRAME_HEADER, Place, SEAL_CHUNK, SEAL_PREFIX, SEAL_TAG},
    log::RecordSource,
};

const LABEL: &[u8] = b"group key";
/// Frame header without its crc, place, prefix.
const AAD: usize = FRAME_HEADER - 4 + 48 + SEAL_PREFIX;

/// What the encryption of a frame is bound to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    /// The header; its crc does not count.
    pub(crate) head: &'a [u8; FRAME_HEADER],
    pub(crate) coded: Coded,
    pub(crate) place: &'a Place,
    pub(crate) offset: u64,
}

impl Frame<'_> {
    fn aad(&self, prefix: &[u8; SEAL_PREFIX]) -> [u8; AAD] {
        let mut aad = [0; AAD];
        let (head, rest) = aad.split_at_mut(FRAME_HEADER - 4);
        head.copy_from_slice(&self.head[4..]);
        rest[..48].copy_from_slice(&self.place.bytes(self.offset));
        rest[48..].copy_from_slice(prefix);
        aad
    }

    fn nonce(&self, chunk: u32) -> [u8; NONCE] {
        let mut nonce = [0; NONCE];
        nonce[..8].copy_from_slice(&self.offset.to_le_bytes());
        nonce[8..].copy_from_slice(&chunk.to_le_bytes());
        nonce
    }

    /// Where each chunk begins in the payload, and its length before encryption.
    fn chunks(&self) -> impl Iterator<Item = (u32, usize, usize)> + use<> {
        let content = self.coded.content as usize;
        let number = content.div_ceil(SEAL_CHUNK).max(1);
        (0..number).map(move |i| {
            let length = (content - i * SEAL_CHUNK).min(SEAL_CHUNK);
            (i as u32, SEAL_PREFIX + i * (SEAL_CHUNK + SEAL_TAG), length)
        })
    }
}

/// The key for one encoding of one group.
pub(crate) struct GroupKey {
    prefix: [u8; SEAL_PREFIX],
    cipher: Cipher,
}

impl GroupKey {
    /// A new one, for a group in `place`.
    pub(crate) fn fresh(key: &Key, place: &Place) -> Result<GroupKey> {
        let mut prefix = [0; SEAL_PREFIX];
        prefix[..8].copy_from_slice(&key.id().0);
        prefix[8..].copy_from_slice(&random::<{ SEAL_PREFIX - 8 }>()?);
        GroupKey::of(key, prefix, place)
    }

    fn of(key: &Key, prefix: [u8; SEAL_PREFIX], place: &Place) -> Result<GroupKey> {
        // Without the offset: frames of a group share the key.
        let info = [LABEL, &prefix[8..], &place.bytes(0)[..40]];
        Ok(GroupKey { prefix, cipher: Cipher::new(&key.secret().derive(&info)?)? })
    }

    /// Encrypts a payload in place: its content is in one chunk, behind the room for the prefix.
    pub(crate) fn seal(&self, frame: &Frame<'_>, payload: &mut [u8]) -> Result<()> {
        payload[..SEAL_PREFIX].copy_from_slice(&self.prefix);
        let aad = frame.aad(&self.prefix);
        for (chunk, start, length) in frame.chunks() {
            let (text, tag) = payload[start..start + length + SEAL_TAG].split_at_mut(length);
            tag.copy_from_slice(&self.cipher.seal(frame.nonce(chunk), &aad, text)?);
        }
        Ok(())
    }
}

/// Decrypts a payload in place, and gives its content; `None` if it does not authenticate.
pub(super) fn open<'a>(frame: &Frame<'_>, payload: &'a mut [u8], keys: &KeyRing) -> Result<Option<&'a [u8]>> {
    let Some(prefix) = payload.first_chunk::<SEAL_PREFIX>().copied() else { return Ok(None) };
    let id = KeyId(std::array::from_fn(|i| prefix[i]));
    let place = frame.place;
    let key = keys.find(id);
    let key =
        key.ok_or_else(|| id.missing(format_args!("segment {} of writer {}", place.segment, place.writer)))?;
    let (cipher, aad) = (GroupKey::of(key, prefix, place)?.cipher, frame.aad(&prefix));
    let mut done = SEAL_PREFIX;
    for (chunk, start, length) in frame.chunks() {
        if !cipher.open(frame.nonce(chunk), &aad, &mut payload[start..start + length + SEAL_TAG]) {
            payload.fill(0);
            return Ok(None);
        }
        // The chunks' contents, side by side.
        payload.copy_within(start..start + length, done);
        done += length;
    }
    Ok(Some(&payload[SEAL_PREFIX..done]))
}

/// Takes back what [`GroupKey::seal`] did to a payload of one chunk, so that it can be encrypted for another place; false if
/// it is not what was encrypted.
pub(crate) fn unseal(frame: &Frame<'_>, payload: &mut [u8], key: &Key) -> Result<bool> {
    let Some(prefix) = payload.first_chunk::<SEAL_PREFIX>().copied() else { return Ok(false) };
    let (cipher, aad) = (GroupKey::of(key, prefix, frame.place)?.cipher, frame.aad(&prefix));
    let whole = frame.chunks().all(|(chunk, start, length)| {
        cipher.open(frame.nonce(chunk), &aad, &mut payload[start..start + length + SEAL_TAG])
    });
    Ok(whole)
}

/// The payload of a record that is too large for a buffer, encrypted as it is asked for: in order.
pub(crate) struct SealedSource<'a> {
    inner: &'a mut dyn RecordSource,
    frame: Frame<'a>,
    key: GroupKey,
    chunk: Vec<u8>,
    /// Chunks that were encrypted.
    done: usize,
    /// Whether the last of them is in `chunk`, and not what could not be encrypted.
    held: bool,
}

impl<'a> SealedSource<'a> {
    /// Takes 4 MiB of memory.
    pub(crate) fn new(
        inner: &'a mut dyn RecordSource,
        frame: Frame<'a>,
        key: &Key,
    ) -> Result<SealedSource<'a>> {
        let key = GroupKey::fresh(key, frame.place)?;
        Ok(SealedSource {
            inner,
            frame,
            key,
            chunk: Vec::with_capacity(SEAL_CHUNK + SEAL_TAG),
            done: 0,
            held: false,
        })
    }

    fn hold(&mut self, index: usize) -> Result<()> {
        if self.held && self.done == index + 1 {
            return Ok(());
        }
        // Never the same chunk again: the source may give other bytes then, and the nonce would be the same.
        if self.done != index {
            return Err(Error::Internal("a record was encrypted out of order".into()));
        }
        // Counted before anything can fail, and held only when it is encrypted: until then the record's own bytes are there.
        self.done += 1;
        self.held = false;
        let start = index * SEAL_CHUNK;
        let length = (self.frame.coded.content as usize - start).min(SEAL_CHUNK);
        self.chunk.resize(length, 0);
        self.inner.copy(start, &mut self.chunk)?;
        let aad = self.frame.aad(&self.key.prefix);
        let tag = self.key.cipher.seal(self.frame.nonce(index as u32), &aad, &mut self.chunk)?;
        self.chunk.extend_from_slice(&tag);
        self.held = true;
        Ok(())
    }
}

impl RecordSource for SealedSource<'_> {
    fn len(&self) -> usize {
        self.frame.coded.length as usize
    }

    fn copy(&mut self, offset: usize, into: &mut [u8]) -> Result<()> {
        if offset + into.len() > self.len() {
            return Err(Error::Internal("more of a record was asked for than there is".into()));
        }
        let (mut at, mut done) = (offset, 0);
        while done < into.len() {
            let from: &[u8] = if at < SEAL_PREFIX {
                &self.key.prefix[at..]
            } else {
                let (index, within) = (
                    (at - SEAL_PREFIX) / (SEAL_CHUNK + SEAL_TAG),
                    (at - SEAL_PREFIX) % (SEAL_CHUNK + SEAL_TAG),
                );
                self.hold(index)?;
                &self.chunk[within..]
            };
            let n = from.len().min(into.len() - done);
            into[done..done + n].copy_from_slice(&from[..n]);
            (at, done) = (at + n, done + n);
        }
        Ok(())
    }
}

#[cfg(all(test, feature = "encryption"))]
mod tests {
    use super::*;
    use crate::format::{FrameHeader, FrameKind, Packing};

    /// Gives some of its bytes, then fails; once.
    struct Failing {
        length: usize,
        failed: bool,
    }

    impl RecordSource for Failing {
        fn len(&self) -> usize {
            self.length
        }

        fn copy(&mut self, _: usize, into: &mut [u8]) -> Result<()> {
            into.fill(b'S');
            match std::mem::replace(&mut self.failed, true) {
                true => Ok(()),
                false => Err(Error::Source("planted".into())),
            }
        }
    }

    #[test]
    fn what_a_source_gave_before_it_failed_is_never_taken_for_encrypted() {
        let ring = KeyRing::read([format!("hex:{}", "5a".repeat(32))]).expect("a key");
        let place = Place { log: Default::default(), writer: Default::default(), segment: 1 };
        let raw = SEAL_CHUNK as u32 + 100;
        let coded = Coded::new(Packing::None, raw, raw, true).expect("short");
        let head = FrameHeader::bare(FrameKind::Record, coded, 1);
        let frame = Frame { head: &head, coded, place: &place, offset: 4096 };
        let mut source = Failing { length: raw as usize, failed: false };
        let mut sealed =
            SealedSource::new(&mut source, frame, ring.current().expect("a key")).expect("random bytes");
        let mut into = vec![0; SEAL_PREFIX + 1000];
        assert!(matches!(sealed.copy(0, &mut into), Err(Error::Source(_))));
        // Nor is it encrypted again: the nonce is spent.
        assert!(matches!(sealed.copy(0, &mut into), Err(Error::Internal(_))));
        assert!(!into[SEAL_PREFIX..].contains(&b'S'), "none of the record's own bytes");
    }
}
