//! A token or fingerprint that is read is written so that it reads as the same. With a checksum that fits, too.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use crate::{fingerprint::Fingerprint, heap, token::JoinToken};

/// Bytes of SHA-256 at the end of a token.
const CHECKSUM: usize = 4;

/// See the module.
pub fn check(input: &[u8]) {
    heap::within(256 * 1024 + 16 * input.len(), || {
        if let Ok(text) = std::str::from_utf8(input) {
            token(text);
            if let Ok(fingerprint) = text.parse::<Fingerprint>() {
                assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
            }
        }
        // The checksum is no secret: whoever makes up a token adds one that fits.
        let sum = Sha256::digest(input);
        token(&URL_SAFE_NO_PAD.encode([input, &sum[..CHECKSUM]].concat()));
    });
}

fn token(text: &str) {
    if let Ok(token) = text.parse::<JoinToken>() {
        let again: JoinToken = token.to_string().parse().expect("what is written can be read");
        assert_eq!(again.to_string(), token.to_string());
        assert!(!format!("{token:?}").contains(&URL_SAFE_NO_PAD.encode(token.secret.0)));
    }
}
