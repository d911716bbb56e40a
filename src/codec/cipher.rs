//! AES-256-GCM, HKDF-SHA256 and randomness, of *ring*. Without the feature `encryption` no key can be made, so nothing
//! behind one can be reached.

use crate::error::{Error, Result};

/// Bytes of a key.
pub(super) const KEY: usize = 32;
/// Bytes of a nonce.
pub(super) const NONCE: usize = 12;

#[cfg(feature = "encryption")]
mod with {
    use ring::{
        aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
        hkdf::{self, HKDF_SHA256, Prk, Salt},
        rand::{SecureRandom, SystemRandom},
    };

    use super::*;

    const SALT: &[u8] = b"ferrowal records, version 1";

    struct Bytes(usize);

    impl hkdf::KeyType for Bytes {
        fn len(&self) -> usize {
            self.0
        }
    }

    fn refused(what: &str) -> Error {
        Error::Internal(format!("the cryptography refused to {what}"))
    }

    /// What keys are derived from.
    #[derive(Clone)]
    pub(in crate::codec) struct Secret(Prk);

    impl Secret {
        pub(in crate::codec) fn new(key: &[u8; KEY]) -> Result<Secret> {
            Ok(Secret(Salt::new(HKDF_SHA256, SALT).extract(key)))
        }

        /// HKDF-Expand.
        pub(in crate::codec) fn derive<const N: usize>(&self, info: &[&[u8]]) -> Result<[u8; N]> {
            let mut out = [0; N];
            let expanded = self.0.expand(info, Bytes(N)).and_then(|okm| okm.fill(&mut out));
            expanded.map_err(|_| refused("derive a key"))?;
            Ok(out)
        }
    }

    /// A key that encrypts.
    pub(in crate::codec) struct Cipher(LessSafeKey);

    impl Cipher {
        pub(in crate::codec) fn new(key: &[u8; KEY]) -> Result<Cipher> {
            let key = UnboundKey::new(&AES_256_GCM, key).map_err(|_| refused("take a key"))?;
            Ok(Cipher(LessSafeKey::new(key)))
        }

        /// Encrypts in place; gives what authenticates it.
        pub(in crate::codec) fn seal(
            &self,
            nonce: [u8; NONCE],
            aad: &[u8],
            text: &mut [u8],
        ) -> Result<[u8; 16]> {
            let nonce = Nonce::assume_unique_for_key(nonce);
            let tag = self.0.seal_in_place_separate_tag(nonce, Aad::from(aad), text);
            let tag = tag.map_err(|_| refused("encrypt a record"))?;
            tag.as_ref().try_into().map_err(|_| refused("authenticate a record"))
        }

        /// Decrypts in place, with the authentication behind the text; false if that does not hold.
        pub(in crate::codec) fn open(&self, nonce: [u8; NONCE], aad: &[u8], text: &mut [u8]) -> bool {
            self.0.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(aad), text).is_ok()
        }
    }

    /// Bytes from the system's generator, asked anew each time: a virtual machine may have been copied since.
    pub(in crate::codec) fn random<const N: usize>() -> Result<[u8; N]> {
        let mut bytes = [0; N];
        SystemRandom::new().fill(&mut bytes).map_err(|_| refused("give random bytes"))?;
        Ok(bytes)
    }
}

#[cfg(not(feature = "encryption"))]
mod with {
    use std::convert::Infallible;

    use super::*;

    #[derive(Clone)]
    pub(in crate::codec) struct Secret(Infallible);

    impl Secret {
        pub(in crate::codec) fn new(_: &[u8; KEY]) -> Result<Secret> {
            Err(Error::Config("a key was given, and this build of ferrowal is without encryption".into()))
        }

        pub(in crate::codec) fn derive<const N: usize>(&self, _: &[&[u8]]) -> Result<[u8; N]> {
            match self.0 {}
        }
    }

    pub(in crate::codec) struct Cipher(Infallible);

    impl Cipher {
        pub(in crate::codec) fn new(_: &[u8; KEY]) -> Result<Cipher> {
            Err(Error::Config("this build of ferrowal is without encryption".into()))
        }

        pub(in crate::codec) fn seal(&self, _: [u8; NONCE], _: &[u8], _: &mut [u8]) -> Result<[u8; 16]> {
            match self.0 {}
        }

        pub(in crate::codec) fn open(&self, _: [u8; NONCE], _: &[u8], _: &mut [u8]) -> bool {
            match self.0 {}
        }
    }

    pub(in crate::codec) fn random<const N: usize>() -> Result<[u8; N]> {
        Err(Error::Config("this build of ferrowal is without encryption".into()))
    }
}

pub(super) use with::{Cipher, Secret, random};
