//! Join tokens: what a member hands out and a new node presents, and what the tree keeps of them.
//!
//! A token carries everything a new node needs to find the cluster and to know that it talks to
//! the right one: the cluster's name, where its gateways listen, the fingerprint of its CA, and a
//! secret. The tree keeps only the secret's SHA-256, in `priv/quorate/tokens/<id>`; whoever reads
//! the tree cannot make a token from it. Using a token deletes that file by its version, so of two
//! uses at the same time one wins.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::fingerprint::Fingerprint;

/// Where the tree keeps what it knows of tokens: one file per token, named by its id.
pub const TOKEN_DIRECTORY: &str = "priv/quorate/tokens";
/// How long a token is valid unless told otherwise.
pub const LIFETIME_DEFAULT: Duration = Duration::from_secs(3600);
/// The longest that a token may be valid.
pub const LIFETIME_MAX: Duration = Duration::from_secs(24 * 3600);
/// Gateways that a token names: enough that one is up, few enough that a token stays one line.
pub const ADDRESSES_MAX: usize = 8;

/// First byte of every token.
const FORMAT: u8 = 1;
/// Leading bytes of the SHA-256 over the rest: tells a mistyped or cut token from an unknown one.
const CHECKSUM_BYTES: usize = 4;
/// More base64 than any token we issue: a bound for what is decoded at all.
const TEXT_MAX: usize = 2048;

/// A join token, as its holder sees it.
///
/// Bytes, before base64url without padding: `1`, name, number of addresses, addresses, fingerprint
/// (32), id (8), secret (32), expiry in Unix seconds (8, big endian), checksum (4). Name and
/// addresses are a length byte and UTF-8.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// The cluster it belongs to.
    pub cluster: String,
    /// `host:port` of the cluster's gateways, the issuer's first.
    pub addresses: Vec<String>,
    /// The cluster's CA certificate, or the one server certificate that may answer.
    pub fingerprint: Fingerprint,
    /// Identifies it in lists and in the tree.
    pub id: TokenId,
    /// What makes it a token.
    pub secret: Secret,
    /// Unix seconds after which it is worthless.
    pub expires: u64,
}

/// Names a token: 16 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(pub [u8; 8]);

/// The 32 secret bytes of a token. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub [u8; 32]);

/// What the tree keeps of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRecord {
    /// SHA-256 of the secret, in hex.
    pub secret_sha256: String,
    /// Unix seconds after which it is worthless.
    pub expires: u64,
    /// The only node that may use it; empty for any.
    pub node_name: String,
    /// The node that issued it.
    pub issued_by: String,
}

/// A text that is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not base64url, or longer than any token.
    #[error("the token is no base64url text of a sensible length; was it copied completely?")]
    NotBase64,
    /// Written by a version that this one does not know.
    #[error("the token has format {0}, this program reads format {FORMAT}")]
    Format(u8),
    /// Cut, mistyped or not a token at all.
    #[error("the token is damaged (its checksum does not fit); was it copied completely?")]
    Damaged,
}

/// A file of the tree that is no token record.
#[derive(Debug, thiserror::Error)]
#[error("the token's record in the tree cannot be read")]
pub struct RecordError(#[source] serde_json::Error);

impl JoinToken {
    /// Whether it is worthless at `now`.
    #[must_use]
    pub fn is_expired(&self, now: SystemTime) -> bool {
        unix_seconds(now) >= self.expires
    }
}

/// Seconds since 1970; 0 for a clock before that.
#[must_use]
pub fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl TokenRecord {
    /// What to keep of this token.
    #[must_use]
    pub fn of(token: &JoinToken, node_name: &str, issued_by: &str) -> Self {
        Self {
            secret_sha256: token.secret.hash(),
            expires: token.expires,
            node_name: node_name.to_owned(),
            issued_by: issued_by.to_owned(),
        }
    }

    /// Whether the token is the one that was recorded: same secret, same expiry.
    #[must_use]
    pub fn belongs_to(&self, token: &JoinToken) -> bool {
        self.secret_sha256 == token.secret.hash() && self.expires == token.expires
    }

    /// Whether it is worthless at `now`.
    #[must_use]
    pub fn is_expired(&self, now: SystemTime) -> bool {
        unix_seconds(now) >= self.expires
    }

    /// Reads a file of [`TOKEN_DIRECTORY`].
    ///
    /// # Errors
    /// [`RecordError`] if it is anything but a record.
    pub fn from_json(content: &[u8]) -> Result<Self, RecordError> {
        serde_json::from_slice(content).map_err(RecordError)
    }

    /// The content of its file.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).expect("a record holds strings and a number only");
        text.push(b'\n');
        text
    }
}

impl TokenId {
    /// An id that nobody else has.
    #[must_use]
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// Its file in the tree.
    #[must_use]
    pub fn path(self) -> String {
        format!("{TOKEN_DIRECTORY}/{self}")
    }
}

impl Secret {
    /// 32 bytes from the operating system's generator.
    #[must_use]
    pub fn random() -> Self {
        Self(rand::random())
    }

    fn hash(&self) -> String {
        hex(&Sha256::digest(self.0))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl FromStr for TokenId {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let digits = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let number = digits.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        number.map(|number| Self(number.to_be_bytes())).ok_or(TokenError::Damaged)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("cluster", &self.cluster)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![FORMAT];
        push_text(&mut bytes, &self.cluster);
        let addresses = &self.addresses[..self.addresses.len().min(ADDRESSES_MAX)];
        bytes.push(u8::try_from(addresses.len()).expect("at most ADDRESSES_MAX"));
        for address in addresses {
            push_text(&mut bytes, address);
        }
        bytes.extend(self.fingerprint.0);
        bytes.extend(self.id.0);
        bytes.extend(self.secret.0);
        bytes.extend(self.expires.to_be_bytes());
        let checksum = checksum(&bytes);
        bytes.extend(checksum);
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.is_empty() || text.len() > TEXT_MAX {
            return Err(TokenError::NotBase64);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::NotBase64)?;
        match bytes.first() {
            Some(&FORMAT) => {}
            Some(&other) => return Err(TokenError::Format(other)),
            None => return Err(TokenError::NotBase64),
        }
        let (body, sum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(TokenError::Damaged)?;
        if checksum(body) != *sum {
            return Err(TokenError::Damaged);
        }
        Reader(&body[1..]).token().ok_or(TokenError::Damaged)
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    *Sha256::digest(bytes).first_chunk().expect("a digest has 32 bytes")
}

/// Names are at most 15 bytes, a `host:port` is bounded by the length of a host name (253).
fn push_text(bytes: &mut Vec<u8>, text: &str) {
    let text = &text.as_bytes()[..text.len().min(usize::from(u8::MAX))];
    bytes.push(u8::try_from(text.len()).expect("cut above"));
    bytes.extend(text);
}

/// Takes a token's body apart; `None` if it ends too early or too late.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn token(mut self) -> Option<JoinToken> {
        let cluster = self.text()?;
        let count = usize::from(self.array::<1>()?[0]);
        if count > ADDRESSES_MAX {
            return None;
        }
        let addresses = (0..count).map(|_| self.text()).collect::<Option<Vec<_>>>()?;
        let token = JoinToken {
            cluster,
            addresses,
            fingerprint: Fingerprint(self.array()?),
            id: TokenId(self.array()?),
            secret: Secret(self.array()?),
            expires: u64::from_be_bytes(self.array()?),
        };
        self.0.is_empty().then_some(token)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::from(self.array::<1>()?[0]);
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        String::from_utf8(head.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token() -> JoinToken {
        JoinToken {
            cluster: "demo".into(),
            addresses: vec!["10.0.0.1:8006".into(), "[fd00::2]:8006".into()],
            fingerprint: Fingerprint([7; 32]),
            id: TokenId([1, 2, 3, 4, 5, 6, 7, 8]),
            secret: Secret([9; 32]),
            expires: 1_000,
        }
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_token_reads_back_as_it_was_issued() {
        assert_eq!(token().to_string().parse(), Ok(token()));
    }

    #[test]
    fn a_token_is_worthless_from_its_expiry_on() {
        assert!(!token().is_expired(at(999)));
        assert!(token().is_expired(at(1_000)));
    }

    #[test]
    fn a_cut_or_mistyped_token_is_damaged() {
        let text = token().to_string();
        assert_eq!(text[..text.len() - 4].parse::<JoinToken>(), Err(TokenError::Damaged));
        let other = if text.ends_with('A') { 'B' } else { 'A' };
        let mistyped = format!("{}{other}{}", &text[..40], &text[41..]);
        assert_ne!(mistyped.parse::<JoinToken>(), Ok(token()));
        assert_eq!("not a token".parse::<JoinToken>(), Err(TokenError::NotBase64));
        assert_eq!("".parse::<JoinToken>(), Err(TokenError::NotBase64));
        assert_eq!("AgAA".parse::<JoinToken>(), Err(TokenError::Format(2)));
    }

    #[test]
    fn the_record_holds_no_secret_and_recognises_its_token() {
        let record = TokenRecord::of(&token(), "n2", "n1");
        let stored = record.to_json();
        let read = TokenRecord::from_json(&stored).unwrap();
        assert_eq!(read, record);
        assert!(read.belongs_to(&token()));
        let mut forged = token();
        forged.secret = Secret([8; 32]);
        assert!(!read.belongs_to(&forged));
        let mut prolonged = token();
        prolonged.expires += 1;
        assert!(!read.belongs_to(&prolonged));
    }

    #[test]
    fn neither_token_nor_secret_shows_in_debug_output() {
        let shown = format!("{:?} {:?}", token(), token().secret);
        assert!(!shown.contains('9'), "{shown}");
    }

    #[test]
    fn an_id_is_sixteen_hex_digits() {
        assert_eq!(token().id.to_string(), "0102030405060708");
        assert_eq!("0102030405060708".parse(), Ok(token().id));
        for bad in ["", "../../corosync.conf", "01020304050607", "+102030405060708"] {
            assert!(bad.parse::<TokenId>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_token_reads_back(
            cluster in "[a-z][a-z0-9-]{0,14}",
            addresses in proptest::collection::vec("[a-z0-9.]{1,60}:[0-9]{1,5}", 0..=ADDRESSES_MAX),
            fingerprint: [u8; 32], id: [u8; 8], secret: [u8; 32], expires: u64,
        ) {
            let token = JoinToken {
                cluster, addresses, expires,
                fingerprint: Fingerprint(fingerprint), id: TokenId(id), secret: Secret(secret),
            };
            prop_assert_eq!(token.to_string().parse(), Ok(token));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = URL_SAFE_NO_PAD.encode(&bytes).parse::<JoinToken>();
            bytes.insert(0, FORMAT);
            let sum = checksum(&bytes);
            bytes.extend(sum);
            let _ = URL_SAFE_NO_PAD.encode(&bytes).parse::<JoinToken>();
        }
    }
}
