//! The two sets of crypto settings that a change of keys at run time needs, and the salts.
//!
//! 1. [`Slots::load`] puts the new settings into the free slot: they are accepted from now on
//! 2. [`Slots::switch`] makes them those that packets are sent with
//! 3. [`Slots::drop_old`] ends the acceptance of the old ones
//!
//! Received packets are tried with the settings in use first, then with the other ones. When crypto
//! is being switched on or off, one of the two is "in clear", and clear packets are accepted until
//! step 3. Source: knet specification, 7.5.

use bytes::{BufMut, Bytes, BytesMut};
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{RngCore, SeedableRng},
};

use super::crypto::{CryptoConfig, CryptoError, OpenError, Overhead, Protection, SALT};

/// Settings in use, and those that are coming or going.
#[derive(Debug)]
pub(super) struct Slots {
    /// What packets are sent with; `None` = in clear.
    sending: Option<Protection>,
    /// What is accepted besides.
    other: Option<Option<Protection>>,
    salts: ChaCha20Rng,
}

impl Slots {
    /// Begins with one set of settings. The salts come from `seed`, which must be secret, random,
    /// and new in every process.
    ///
    /// # Errors
    /// [`CryptoError`] when the settings do not hold.
    pub(super) fn new(config: &CryptoConfig, seed: [u8; 32]) -> Result<Self, CryptoError> {
        let sending = Protection::new(config)?;
        Ok(Self { sending, other: None, salts: ChaCha20Rng::from_seed(seed) })
    }

    /// Accepts packets of new settings, too; replaces those that were loaded or left before.
    ///
    /// # Errors
    /// [`CryptoError`] when the settings do not hold; nothing is changed then.
    pub(super) fn load(&mut self, config: &CryptoConfig) -> Result<(), CryptoError> {
        self.other = Some(Protection::new(config)?);
        Ok(())
    }

    /// Sends with the other settings from now on; those used before are still accepted.
    ///
    /// # Errors
    /// [`CryptoError::NothingLoaded`]; nothing is changed then.
    pub(super) fn switch(&mut self) -> Result<(), CryptoError> {
        let loaded = self.other.take().ok_or(CryptoError::NothingLoaded)?;
        self.other = Some(std::mem::replace(&mut self.sending, loaded));
        Ok(())
    }

    /// Accepts the settings in use alone.
    pub(super) fn drop_old(&mut self) {
        self.other = None;
    }

    /// What sending adds to the length of a packet.
    #[must_use]
    pub(super) fn overhead(&self) -> Overhead {
        self.sending.as_ref().map(Protection::overhead).unwrap_or_default()
    }

    /// Packets are sent encrypted or at least authenticated.
    #[must_use]
    pub(super) fn is_protected(&self) -> bool {
        self.sending.is_some()
    }

    /// The datagram of a packet that is given in pieces. Allocates once.
    pub(super) fn seal(&mut self, pieces: &[&[u8]]) -> Bytes {
        if let Some(protection) = &self.sending {
            let mut salt = [0; SALT];
            self.salts.fill_bytes(&mut salt);
            return protection.seal(salt, pieces);
        }
        let mut clear = BytesMut::with_capacity(pieces.iter().map(|piece| piece.len()).sum());
        for piece in pieces {
            clear.put_slice(piece);
        }
        clear.freeze()
    }

    /// The packet of a datagram.
    ///
    /// # Errors
    /// [`OpenError`] when no accepted settings fit; nothing in it was looked at unless authentic.
    pub(super) fn open(&self, datagram: Bytes) -> Result<Bytes, OpenError> {
        let mut refused = OpenError::TooShort;
        let keys = [self.sending.as_ref(), self.other.as_ref().and_then(Option::as_ref)];
        for protection in keys.into_iter().flatten() {
            match protection.verify(&datagram) {
                Ok(()) => return protection.decrypt(datagram),
                Err(error) => refused = error,
            }
        }
        let accepts_clear = self.sending.is_none() || matches!(self.other, Some(None));
        if accepts_clear { Ok(datagram) } else { Err(refused) }
    }
}
