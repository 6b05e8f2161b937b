//! A new key of the ring on its way to the members: a file of the tree that is written together with the corosync.conf
//! from whose version on the key is used.
//!
//! Two lines: `config_version: N` and `key: HEX`. A node takes the key over when it takes over that version or a later one, and
//! never goes back: a file that was restored from a backup, or a key that was changed by hand since, stays as it is.

use std::fmt;

/// Where it stands in the tree. Below `priv`, which only root reads.
pub const RING_KEY_PATH: &str = "priv/corosync.key";

/// Least bytes of a key. Source: `totem.keyfile` in corosync.conf(5).
const KEY_BYTES_MIN: usize = 128;
/// Most bytes of a key. Source: as above.
const KEY_BYTES_MAX: usize = 4096;

/// A key of the ring.
#[derive(Clone, PartialEq, Eq)]
pub struct RingKey {
    /// `totem.config_version` from which on it is used.
    pub config_version: u64,
    /// The content of the key file.
    pub key: Vec<u8>,
}

/// Why a text is no key of the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RingKeyError {
    /// A line is missing, or there is something else.
    #[error("it is not 'config_version: N' and 'key: HEX', on a line each")]
    Form,
    /// The key is too short or too long.
    #[error("a key of the ring has {KEY_BYTES_MIN} to {KEY_BYTES_MAX} bytes, this one has {0}")]
    Length(usize),
}

impl fmt::Debug for RingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "RingKey {{ config_version: {}, key: {} secret bytes }}",
            self.config_version,
            self.key.len()
        )
    }
}

impl RingKey {
    /// The text of the file.
    #[must_use]
    pub fn print(&self) -> String {
        let hex: String = self.key.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("config_version: {}\nkey: {hex}\n", self.config_version)
    }

    /// Reads the text of the file.
    ///
    /// # Errors
    /// [`RingKeyError`].
    pub fn parse(text: &str) -> Result<Self, RingKeyError> {
        let mut lines = text.lines();
        let mut value = |name: &str| {
            let line = lines.next().and_then(|line| line.strip_prefix(name));
            line.and_then(|line| line.strip_prefix(": ")).ok_or(RingKeyError::Form)
        };
        let config_version = value("config_version")?.parse().map_err(|_| RingKeyError::Form)?;
        let key = bytes(value("key")?).ok_or(RingKeyError::Form)?;
        match lines.next() {
            Some(_) => Err(RingKeyError::Form),
            None if (KEY_BYTES_MIN..=KEY_BYTES_MAX).contains(&key.len()) => Ok(Self { config_version, key }),
            None => Err(RingKeyError::Length(key.len())),
        }
    }

    /// Whether a node that goes from one version of corosync.conf (0: none) to another takes this key over.
    #[must_use]
    pub fn is_due(&self, from: u64, to: u64) -> bool {
        from < self.config_version && self.config_version <= to
    }
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    hex.as_bytes().chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_is_due_once_when_its_version_comes() {
        let key = RingKey { config_version: 5, key: vec![1; 256] };
        assert!(key.is_due(4, 5) && key.is_due(0, 9));
        assert!(!key.is_due(3, 4), "not yet");
        assert!(!key.is_due(5, 6), "it was taken over, or replaced by hand");
    }

    #[test]
    fn what_is_no_key_is_refused_with_its_reason() {
        for text in [
            "",
            "key: 00",
            "config_version: x\nkey: 00",
            "config_version: 1\nkey: 0g",
            "config_version: 1\nkey: 0",
        ] {
            assert_eq!(RingKey::parse(text), Err(RingKeyError::Form), "{text}");
        }
        let two_more = format!("{}x\n", RingKey { config_version: 1, key: vec![0; 128] }.print());
        assert_eq!(RingKey::parse(&two_more), Err(RingKeyError::Form));
        assert_eq!(RingKey::parse("config_version: 1\nkey: 00"), Err(RingKeyError::Length(1)));
    }

    #[test]
    fn the_key_itself_is_never_shown() {
        let key = RingKey { config_version: 1, key: vec![0xab; 128] };
        assert!(!format!("{key:?}").contains("ab"));
    }

    proptest! {
        #[test]
        fn every_key_is_read_back_as_written(config_version: u64, key in proptest::collection::vec(any::<u8>(), 128..400)) {
            let written = RingKey { config_version, key };
            prop_assert_eq!(RingKey::parse(&written.print()), Ok(written));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,80}|config_version: [0-9]{0,30}\nkey: [0-9a-fé]{0,30}\n?") {
            let _ = RingKey::parse(&text);
        }
    }
}
