//! How the ring's packets are protected: `secauth`, `crypto_cipher`, `crypto_hash`, `crypto_model`.
//!
//! Source: corosync.conf(5), checked against `corosync -t` 3.1.7: `secauth: on` means aes256 and sha256, each of
//! the two other options overrides its half, a cipher needs a hash, and only knet can protect anything.

use crate::{
    Reason, Transport,
    read::{Mistakes, Scope},
};

/// `crypto_cipher`: what hides the packets' content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cipher {
    /// Packets can be read by anybody.
    #[default]
    None,
    /// AES with a key of 128 bits.
    Aes128,
    /// AES with a key of 192 bits.
    Aes192,
    /// AES with a key of 256 bits.
    Aes256,
}

/// `crypto_hash`: what proves that a packet comes from somebody who has the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hash {
    /// Packets can be forged by anybody.
    #[default]
    None,
    /// HMAC with MD5.
    Md5,
    /// HMAC with SHA-1.
    Sha1,
    /// HMAC with SHA-256.
    Sha256,
    /// HMAC with SHA-384.
    Sha384,
    /// HMAC with SHA-512.
    Sha512,
}

/// Both together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Protection {
    /// Against reading.
    pub cipher: Cipher,
    /// Against forging.
    pub hash: Hash,
}

impl Protection {
    /// What `secauth: on` means, and what `pvecm create` writes.
    pub const SECAUTH: Self = Self { cipher: Cipher::Aes256, hash: Hash::Sha256 };

    /// Whether packets are authenticated, and thereby a key is needed.
    #[must_use]
    pub fn needs_key(self) -> bool {
        self.hash != Hash::None
    }
}

pub(crate) fn read(totem: &Scope<'_>, transport: Transport, mistakes: &mut Mistakes) -> Protection {
    let secauth = totem.word_switch(mistakes, "secauth").unwrap_or(false);
    let base = if secauth { Protection::SECAUTH } else { Protection::default() };
    let ciphers = [
        ("none", Cipher::None),
        ("aes128", Cipher::Aes128),
        ("aes192", Cipher::Aes192),
        ("aes256", Cipher::Aes256),
    ];
    let hashes = [
        ("none", Hash::None),
        ("md5", Hash::Md5),
        ("sha1", Hash::Sha1),
        ("sha256", Hash::Sha256),
        ("sha384", Hash::Sha384),
        ("sha512", Hash::Sha512),
    ];
    let cipher = totem.word(mistakes, "crypto_cipher", "none, aes128, aes192, aes256", &ciphers);
    let hash = totem.word(mistakes, "crypto_hash", "none, md5, sha1, sha256, sha384, sha512", &hashes);
    // Which library: the packets are the same.
    totem.word(mistakes, "crypto_model", "nss, openssl", &[("nss", ()), ("openssl", ())]);
    let protection = Protection { cipher: cipher.unwrap_or(base.cipher), hash: hash.unwrap_or(base.hash) };
    let mut conflict = |key: &str, with| {
        mistakes.add(totem.line_of(key), totem.path(key), Reason::Conflict { with });
    };
    if protection.cipher != Cipher::None && protection.hash == Hash::None {
        conflict("crypto_cipher", "crypto_hash: none, as what is not authenticated must not be decrypted");
    }
    if transport != Transport::Knet && protection.needs_key() {
        conflict("transport", "secauth, crypto_cipher or crypto_hash: only knet protects packets");
    }
    protection
}
