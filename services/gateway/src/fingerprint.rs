//! The SHA-256 fingerprint of a certificate: how people and tokens name the one they trust.

use std::{fmt, str::FromStr};

use sha2::{Digest, Sha256};

/// SHA-256 of a certificate's DER bytes.
///
/// Written as 32 hex pairs with colons (`AB:CD:...`), read in either case. Source: pvecm
/// specification, section 1 (formats).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 32]);

/// A text that is no fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FingerprintError {
    /// Not 32 pairs.
    #[error("a fingerprint has 32 hex pairs separated by colons, this one has {pairs}")]
    Pairs {
        /// How many were found.
        pairs: usize,
    },
    /// A pair that is not two hex digits.
    #[error("'{pair}' in the fingerprint is no hex pair")]
    Hex {
        /// What was found.
        pair: String,
    },
}

impl Fingerprint {
    /// The fingerprint of a certificate in DER.
    #[must_use]
    pub fn of(der: &[u8]) -> Self {
        Self(Sha256::digest(der).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            let colon = if at == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02X}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let pairs: Vec<&str> = text.trim().split(':').collect();
        if pairs.len() != 32 {
            return Err(FingerprintError::Pairs { pairs: pairs.len() });
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(pairs) {
            *byte = hex_pair(pair).ok_or_else(|| FingerprintError::Hex { pair: pair.to_owned() })?;
        }
        Ok(Self(bytes))
    }
}

fn hex_pair(pair: &str) -> Option<u8> {
    let digits = pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit());
    digits.then(|| u8::from_str_radix(pair, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_fingerprint_prints_as_32_upper_case_pairs() {
        let text = Fingerprint::of(b"abc").to_string();
        assert!(text.starts_with("BA:78:16:BF:"), "{text}");
        assert_eq!(text.len(), 95);
    }

    #[test]
    fn each_bad_fingerprint_says_why() {
        assert_eq!("AB:CD".parse::<Fingerprint>(), Err(FingerprintError::Pairs { pairs: 2 }));
        let text = Fingerprint([0; 32]).to_string().replacen("00", "+1", 1);
        assert_eq!(text.parse::<Fingerprint>(), Err(FingerprintError::Hex { pair: "+1".into() }));
    }

    proptest! {
        #[test]
        fn what_was_printed_reads_back_in_either_case(bytes: [u8; 32]) {
            let printed = Fingerprint(bytes).to_string();
            prop_assert_eq!(printed.parse(), Ok(Fingerprint(bytes)));
            prop_assert_eq!(printed.to_lowercase().parse(), Ok(Fingerprint(bytes)));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in ".{0,120}") {
            let _ = text.parse::<Fingerprint>();
        }
    }
}
