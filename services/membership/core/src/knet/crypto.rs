//! Encryption of one datagram: a random salt, AES-CBC, and an HMAC over all of it.
//!
//! ```text
//! with a cipher:    | salt 16 | AES-CBC(packet, PKCS#7 padding) | HMAC |
//! hash alone:       | packet | HMAC |
//! ```
//!
//! The salt is the IV. The AES key is the beginning of the key file, the HMAC key is all of it. A
//! packet is authenticated, in constant time, before anything in it is decrypted or looked at.
//! What CBC and HMAC need of the key is computed once, not per packet.
//!
//! There is no protection against replay and no derivation of keys: that is the format of the
//! reference. Source: knet specification, section 7.

use std::fmt;

use aes::{
    Aes128, Aes192, Aes256,
    cipher::{BlockDecryptMut, BlockEncryptMut, InnerIvInit, KeyInit, block_padding::NoPadding},
};
use bytes::{BufMut, Bytes, BytesMut};
use hmac::{Hmac, Mac as _};
use md5::Md5;
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};
use zeroize::Zeroizing;

/// Bytes of salt before the encrypted part.
pub const SALT: usize = 16;
/// Block size of AES in bytes.
pub const BLOCK: usize = 16;
/// The least length of a key in bytes.
pub const KEY_MIN: usize = 128;
/// The greatest length of a key in bytes.
pub const KEY_MAX: usize = 4096;

/// `crypto_cipher` of corosync.conf.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cipher {
    /// Packets are not encrypted.
    #[default]
    None,
    /// AES-128 in CBC mode.
    Aes128,
    /// AES-192 in CBC mode.
    Aes192,
    /// AES-256 in CBC mode.
    Aes256,
}

/// `crypto_hash` of corosync.conf.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hash {
    /// Packets are not authenticated.
    #[default]
    None,
    /// HMAC-MD5, 16 bytes.
    Md5,
    /// HMAC-SHA-1, 20 bytes.
    Sha1,
    /// HMAC-SHA-256, 32 bytes.
    Sha256,
    /// HMAC-SHA-384, 48 bytes.
    Sha384,
    /// HMAC-SHA-512, 64 bytes.
    Sha512,
}

impl Hash {
    /// Length of the digest in bytes.
    #[must_use]
    pub const fn digest_length(self) -> usize {
        match self {
            Self::None => 0,
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

/// The bytes of a key file. Wiped from memory on drop, never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Key(Zeroizing<Vec<u8>>);

impl From<Vec<u8>> for Key {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} bytes)", self.0.len())
    }
}

/// How packets are protected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CryptoConfig {
    /// The cipher. One needs a hash, too.
    pub cipher: Cipher,
    /// The hash.
    pub hash: Hash,
    /// The whole key file, [`KEY_MIN`] to [`KEY_MAX`] bytes; not looked at when both are `None`.
    pub key: Key,
}

/// Why crypto settings were refused. The settings in use are not touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CryptoError {
    /// A cipher without a hash: nothing would be authenticated.
    #[error("crypto_cipher needs a crypto_hash")]
    CipherWithoutHash,
    /// The key is too short or too long.
    #[error("the key has {length} bytes, it must have {KEY_MIN} to {KEY_MAX}")]
    KeyLength {
        /// Its length in bytes.
        length: usize,
    },
    /// There is nothing to switch to.
    #[error("no new crypto settings are loaded")]
    NothingLoaded,
}

/// Why a datagram was not opened. It is dropped and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Too short to hold salt, a block and the HMAC.
    #[error("the datagram is too short to be authentic")]
    TooShort,
    /// The HMAC is not that of the key.
    #[error("the datagram is not authentic")]
    NotAuthentic,
    /// Authentic, but the encrypted part is not whole blocks, or its padding is wrong.
    #[error("the datagram does not decrypt")]
    BadCiphertext,
}

/// Bytes that protection adds, and the block that the packet is padded to; zero without.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Overhead {
    /// Salt and digest, in bytes.
    pub fixed: usize,
    /// Padding goes up to a multiple of this; 0 = no padding.
    pub block: usize,
}

/// One key, ready for use.
#[derive(Clone)]
pub struct Protection {
    cipher: Option<Aes>,
    mac: Mac,
}

#[derive(Clone)]
enum Aes {
    Aes128(Box<Aes128>),
    Aes192(Box<Aes192>),
    Aes256(Box<Aes256>),
}

#[derive(Clone)]
enum Mac {
    Md5(Hmac<Md5>),
    Sha1(Hmac<Sha1>),
    Sha256(Hmac<Sha256>),
    Sha384(Hmac<Sha384>),
    Sha512(Hmac<Sha512>),
}

impl fmt::Debug for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Protection").field("overhead", &self.overhead()).finish_non_exhaustive()
    }
}

impl Protection {
    /// Checks the settings and prepares the key; `None` when packets travel in clear.
    ///
    /// # Errors
    /// [`CryptoError`] for a cipher without a hash or a key of a wrong length.
    pub fn new(config: &CryptoConfig) -> Result<Option<Self>, CryptoError> {
        let Some(mac) = Mac::new(config)? else {
            return Ok(None);
        };
        let key = &config.key.0;
        let cipher = match config.cipher {
            Cipher::None => None,
            Cipher::Aes128 => Some(Aes::Aes128(Box::new(Aes128::new(key[..16].into())))),
            Cipher::Aes192 => Some(Aes::Aes192(Box::new(Aes192::new(key[..24].into())))),
            Cipher::Aes256 => Some(Aes::Aes256(Box::new(Aes256::new(key[..32].into())))),
        };
        Ok(Some(Self { cipher, mac }))
    }

    /// What sealing adds to the length of a packet.
    #[must_use]
    pub fn overhead(&self) -> Overhead {
        let digest = self.mac.length();
        match self.cipher {
            Some(_) => Overhead { fixed: SALT + digest, block: BLOCK },
            None => Overhead { fixed: digest, block: 0 },
        }
    }

    /// Seals a packet that is given in pieces. The salt must be unpredictable; without a cipher it
    /// is not used.
    #[must_use]
    pub fn seal(&self, salt: [u8; SALT], pieces: &[&[u8]]) -> Bytes {
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        let mut out = BytesMut::with_capacity(SALT + length + BLOCK + self.mac.length());
        if self.cipher.is_some() {
            out.put_slice(&salt);
        }
        for piece in pieces {
            out.put_slice(piece);
        }
        if let Some(cipher) = &self.cipher {
            let padding = BLOCK - length % BLOCK;
            out.put_bytes(u8::try_from(padding).expect("padding is at most a block"), padding);
            cipher.encrypt(salt, &mut out[SALT..]);
        }
        self.mac.append(&mut out);
        out.freeze()
    }

    /// Authenticates a datagram and returns the packet in it. The memory of the datagram is reused
    /// if nothing else refers to it.
    ///
    /// # Errors
    /// [`OpenError`]; unless the datagram is authentic, nothing in it was looked at.
    pub fn open(&self, datagram: Bytes) -> Result<Bytes, OpenError> {
        self.verify(&datagram)?;
        self.decrypt(datagram)
    }

    /// Whether the datagram carries the HMAC of this key.
    ///
    /// # Errors
    /// [`OpenError::TooShort`] or [`OpenError::NotAuthentic`].
    pub(super) fn verify(&self, datagram: &[u8]) -> Result<(), OpenError> {
        let least = if self.cipher.is_some() { SALT + BLOCK } else { 1 };
        let covered = datagram.len().checked_sub(self.mac.length()).filter(|covered| *covered >= least);
        let (covered, digest) = datagram.split_at(covered.ok_or(OpenError::TooShort)?);
        if self.mac.is_of(covered, digest) { Ok(()) } else { Err(OpenError::NotAuthentic) }
    }

    /// The packet of a datagram that was verified.
    pub(super) fn decrypt(&self, datagram: Bytes) -> Result<Bytes, OpenError> {
        let end = datagram.len() - self.mac.length();
        let Some(cipher) = &self.cipher else {
            return Ok(datagram.slice(..end));
        };
        if !(end - SALT).is_multiple_of(BLOCK) {
            return Err(OpenError::BadCiphertext);
        }
        let mut clear = BytesMut::from(datagram);
        let (salt, encrypted) = clear[..end].split_first_chunk_mut().ok_or(OpenError::TooShort)?;
        cipher.decrypt(*salt, encrypted);
        let padding = usize::from(*encrypted.last().ok_or(OpenError::TooShort)?);
        let is_padding = |bytes: &[u8]| bytes.iter().all(|byte| usize::from(*byte) == padding);
        let length = encrypted.len();
        if !(1..=BLOCK).contains(&padding) || !is_padding(&encrypted[length - padding..]) {
            return Err(OpenError::BadCiphertext);
        }
        Ok(clear.freeze().slice(SALT..SALT + length - padding))
    }
}

impl Aes {
    /// Encrypts whole blocks in place.
    fn encrypt(&self, iv: [u8; SALT], blocks: &mut [u8]) {
        fn run<C: BlockEncryptMut>(cbc: C, blocks: &mut [u8]) {
            let length = blocks.len();
            cbc.encrypt_padded_mut::<NoPadding>(blocks, length).expect("whole blocks");
        }
        match self {
            Self::Aes128(key) => run(cbc::Encryptor::inner_iv_init(&**key, &iv.into()), blocks),
            Self::Aes192(key) => run(cbc::Encryptor::inner_iv_init(&**key, &iv.into()), blocks),
            Self::Aes256(key) => run(cbc::Encryptor::inner_iv_init(&**key, &iv.into()), blocks),
        }
    }

    /// Decrypts whole blocks in place.
    fn decrypt(&self, iv: [u8; SALT], blocks: &mut [u8]) {
        fn run<C: BlockDecryptMut>(cbc: C, blocks: &mut [u8]) {
            cbc.decrypt_padded_mut::<NoPadding>(blocks).expect("whole blocks");
        }
        match self {
            Self::Aes128(key) => run(cbc::Decryptor::inner_iv_init(&**key, &iv.into()), blocks),
            Self::Aes192(key) => run(cbc::Decryptor::inner_iv_init(&**key, &iv.into()), blocks),
            Self::Aes256(key) => run(cbc::Decryptor::inner_iv_init(&**key, &iv.into()), blocks),
        }
    }
}

/// Runs the same expression on whichever HMAC there is.
macro_rules! with_mac {
    ($self:expr, $mac:ident => $what:expr) => {
        match $self {
            Mac::Md5($mac) => $what,
            Mac::Sha1($mac) => $what,
            Mac::Sha256($mac) => $what,
            Mac::Sha384($mac) => $what,
            Mac::Sha512($mac) => $what,
        }
    };
}

impl Mac {
    fn new(config: &CryptoConfig) -> Result<Option<Self>, CryptoError> {
        let key = &config.key.0[..];
        let length = key.len();
        if config.hash == Hash::None {
            return if config.cipher == Cipher::None {
                Ok(None)
            } else {
                Err(CryptoError::CipherWithoutHash)
            };
        }
        if !(KEY_MIN..=KEY_MAX).contains(&length) {
            return Err(CryptoError::KeyLength { length });
        }
        let refused = |_| CryptoError::KeyLength { length };
        Ok(Some(match config.hash {
            Hash::None => return Ok(None),
            Hash::Md5 => Self::Md5(KeyInit::new_from_slice(key).map_err(refused)?),
            Hash::Sha1 => Self::Sha1(KeyInit::new_from_slice(key).map_err(refused)?),
            Hash::Sha256 => Self::Sha256(KeyInit::new_from_slice(key).map_err(refused)?),
            Hash::Sha384 => Self::Sha384(KeyInit::new_from_slice(key).map_err(refused)?),
            Hash::Sha512 => Self::Sha512(KeyInit::new_from_slice(key).map_err(refused)?),
        }))
    }

    fn length(&self) -> usize {
        match self {
            Self::Md5(_) => Hash::Md5.digest_length(),
            Self::Sha1(_) => Hash::Sha1.digest_length(),
            Self::Sha256(_) => Hash::Sha256.digest_length(),
            Self::Sha384(_) => Hash::Sha384.digest_length(),
            Self::Sha512(_) => Hash::Sha512.digest_length(),
        }
    }

    /// Appends the HMAC of what is there.
    fn append(&self, out: &mut BytesMut) {
        with_mac!(self, mac => {
            let mut mac = mac.clone();
            mac.update(out);
            out.put_slice(&mac.finalize().into_bytes());
        });
    }

    /// Whether `digest` is the HMAC of `covered`. Takes the same time for every digest.
    fn is_of(&self, covered: &[u8], digest: &[u8]) -> bool {
        with_mac!(self, mac => {
            let mut mac = mac.clone();
            mac.update(covered);
            mac.verify_slice(digest).is_ok()
        })
    }
}

#[cfg(test)]
mod tests;
