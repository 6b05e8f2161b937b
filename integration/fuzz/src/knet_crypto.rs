//! Nothing opens that was not sealed with the same key; what was sealed opens, once, unchanged.

use bytes::Bytes;
use membership_core::knet::{
    Cipher, CryptoConfig, Hash,
    crypto::{Protection, SALT},
};

use crate::{feed::Feed, heap};

/// Settings for the first byte of an input.
#[must_use]
pub fn settings(choice: u8, key: u8) -> CryptoConfig {
    let ciphers = [Cipher::None, Cipher::Aes128, Cipher::Aes192, Cipher::Aes256];
    let hashes = [Hash::None, Hash::Md5, Hash::Sha1, Hash::Sha256, Hash::Sha384, Hash::Sha512];
    CryptoConfig {
        cipher: ciphers[usize::from(choice % 4)],
        hash: hashes[usize::from(choice / 4 % 6)],
        key: vec![key; 128 + usize::from(key)].into(),
    }
}

/// See the module.
pub fn check(input: &[u8]) {
    heap::within(64 * 1024 + 16 * input.len(), || {
        let mut feed = Feed(input);
        let config = settings(feed.byte(), feed.byte());
        let Ok(protection) = Protection::new(&config) else {
            assert!(config.hash == Hash::None && config.cipher != Cipher::None);
            return;
        };
        let Some(protection) = protection else { return };
        let (at, bit) = (usize::from(feed.short()), feed.byte() % 8);
        let text = Bytes::copy_from_slice(feed.0);
        if let Ok(clear) = protection.open(text.clone()) {
            let salt = text.first_chunk::<SALT>().copied().unwrap_or_default();
            assert_eq!(protection.seal(salt, &[&clear]), text, "opened, so it was sealed with this key");
        }
        if text.is_empty() && config.cipher == Cipher::None {
            return;
        }
        let sealed = protection.seal([7; SALT], &[&text]);
        assert_eq!(protection.open(sealed.clone()), Ok(text.clone()));
        let mut damaged = sealed.to_vec();
        let at = at % damaged.len();
        damaged[at] ^= 1 << bit;
        assert!(protection.open(damaged.into()).is_err(), "bit {bit} of byte {at}");
        assert!(protection.open(sealed.slice(..sealed.len() - 1)).is_err());
    });
}
