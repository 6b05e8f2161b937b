//! What a member says of its corosync.conf, as the text of a status value: `PHASE VERSION DIGEST[ REASON]`.

use std::{fmt, str::FromStr};

use sha2::{Digest as _, Sha256};

/// Longest reason that is told, in bytes.
const REASON_MAX: usize = 1024;

/// Which corosync.conf: files of one version may differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfId {
    /// `config_version`.
    pub version: u64,
    /// The first bytes of the SHA-256 of the text.
    digest: u64,
}

impl ConfId {
    /// The id of a text with this `config_version`.
    #[must_use]
    pub fn of(version: u64, text: &[u8]) -> Self {
        let hash = Sha256::digest(text);
        let digest = hash.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        Self { version, digest }
    }
}

impl fmt::Display for ConfId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:016x}", self.version, self.digest)
    }
}

/// How far a member is with a corosync.conf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// It is on the member's disk and can be used there.
    Prepared,
    /// The member's daemons have been told to use it.
    Active,
    /// The member cannot use it, because.
    Refused(String),
}

/// What a member says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Of which file.
    pub conf: ConfId,
    /// How far it is with it.
    pub phase: Phase,
}

/// A text that is no [`Word`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not 'PHASE VERSION DIGEST'")]
pub struct WordError;

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.phase {
            Phase::Prepared => write!(f, "prepared {}", self.conf),
            Phase::Active => write!(f, "active {}", self.conf),
            Phase::Refused(reason) => {
                let end = (0..=reason.len().min(REASON_MAX)).rev().find(|end| reason.is_char_boundary(*end));
                write!(f, "refused {} {}", self.conf, &reason[..end.unwrap_or(0)])
            }
        }
    }
}

impl FromStr for Word {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let mut parts = text.splitn(4, ' ');
        let mut next = || parts.next().ok_or(WordError);
        let (phase, version, digest) = (next()?, next()?, next()?);
        let version = version.parse().map_err(|_| WordError)?;
        let digest = u64::from_str_radix(digest, 16).map_err(|_| WordError)?;
        let phase = match (phase, parts.next()) {
            ("prepared", None) => Phase::Prepared,
            ("active", None) => Phase::Active,
            ("refused", reason) => Phase::Refused(reason.unwrap_or_default().to_owned()),
            _ => return Err(WordError),
        };
        Ok(Self { conf: ConfId { version, digest }, phase })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_of_one_version_have_ids_of_their_own() {
        assert_eq!(ConfId::of(3, b"a"), ConfId::of(3, b"a"));
        assert_ne!(ConfId::of(3, b"a"), ConfId::of(3, b"b"));
        assert_ne!(ConfId::of(3, b"a"), ConfId::of(4, b"a"));
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let word = Word { conf: ConfId::of(1, b""), phase: Phase::Refused("ä".repeat(REASON_MAX)) };
        let read: Word = word.to_string().parse().expect("a word");
        assert_eq!(read.phase, Phase::Refused("ä".repeat(REASON_MAX / 2)));
    }

    proptest! {
        #[test]
        fn a_word_is_read_as_it_was_said(version: u64, text: Vec<u8>, reason in "[a-z :]{0,40}", phase in 0..3) {
            let phase = match phase {
                0 => Phase::Prepared,
                1 => Phase::Active,
                _ => Phase::Refused(reason),
            };
            let word = Word { conf: ConfId::of(version, &text), phase };
            prop_assert_eq!(word.to_string().parse::<Word>(), Ok(word));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,60}") {
            let _ = text.parse::<Word>();
        }
    }
}
