//! Property strings: `local:100/disk.raw,size=32G,cache=none`.
//!
//! Comma separated `key=value`; one key, the default, may be left out. Values hold no commas. Unknown keys are for the
//! caller to judge; a key that stands twice is an error.

use std::collections::BTreeMap;

/// Why a text is no property string.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PropertyError {
    /// A part has no key, and there is no default key or it was used.
    #[error("'{part}' has no key")]
    NoKey {
        /// The part.
        part: String,
    },
    /// A key stands twice.
    #[error("'{key}' is given twice")]
    Twice {
        /// The key.
        key: String,
    },
    /// A value is no boolean.
    #[error("'{key}={value}': expected 0 or 1")]
    NoBoolean {
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
}

/// A property string, taken apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties(BTreeMap<String, String>);

impl Properties {
    /// Takes a text apart; a part without `=` belongs to the default key.
    ///
    /// # Errors
    /// [`PropertyError`].
    pub fn parse(text: &str, default_key: Option<&str>) -> Result<Self, PropertyError> {
        let mut found = BTreeMap::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (key, value) = match (part.split_once('='), default_key) {
                (Some((key, value)), _) if !key.is_empty() => (key, value),
                (None, Some(key)) => (key, part),
                _ => return Err(PropertyError::NoKey { part: part.to_owned() }),
            };
            if found.insert(key.to_owned(), value.to_owned()).is_some() {
                return Err(PropertyError::Twice { key: key.to_owned() });
            }
        }
        Ok(Self(found))
    }

    /// A value.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Takes a value out.
    pub fn take(&mut self, key: &str) -> Option<String> {
        self.0.remove(key)
    }

    /// A boolean; the default if the key is absent.
    ///
    /// # Errors
    /// [`PropertyError::NoBoolean`].
    pub fn boolean(&self, key: &str, default: bool) -> Result<bool, PropertyError> {
        let Some(value) = self.get(key) else { return Ok(default) };
        boolean(value)
            .ok_or_else(|| PropertyError::NoBoolean { key: key.to_owned(), value: value.to_owned() })
    }

    /// What is there, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

/// Reads `0`, `1`, `no`, `yes`, `off`, `on`, `false`, `true`.
#[must_use]
pub fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "on" | "true" => Some(true),
        "0" | "no" | "off" | "false" => Some(false),
        _ => None,
    }
}

/// Reads a size such as `32G`, `512M`, `4096`; in bytes.
#[must_use]
pub fn size(text: &str) -> Option<u64> {
    let (digits, unit) = match text.char_indices().next_back()? {
        (at, 'K' | 'k') => (&text[..at], 1 << 10),
        (at, 'M' | 'm') => (&text[..at], 1 << 20),
        (at, 'G' | 'g') => (&text[..at], 1 << 30),
        (at, 'T' | 't') => (&text[..at], 1 << 40),
        _ => (text, 1),
    };
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse::<u64>().ok()?.checked_mul(unit) } else { None }
}

/// Writes a size in the largest unit that leaves no rest.
#[must_use]
pub fn print_size(bytes: u64) -> String {
    for (unit, letter) in [(1 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")] {
        if bytes >= unit && bytes.is_multiple_of(unit) {
            return format!("{}{letter}", bytes / unit);
        }
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_default_key_may_be_left_out_once() {
        let properties = Properties::parse("local:1,size=32G", Some("file")).unwrap();
        assert_eq!(properties.get("file"), Some("local:1"));
        assert_eq!(properties.get("size"), Some("32G"));
        assert!(matches!(Properties::parse("a,b", Some("file")), Err(PropertyError::Twice { .. })));
        assert!(matches!(Properties::parse("a", None), Err(PropertyError::NoKey { .. })));
        assert!(matches!(Properties::parse("=a", Some("x")), Err(PropertyError::NoKey { .. })));
    }

    #[test]
    fn booleans_have_many_words() {
        let properties = Properties::parse("a=1,b=off,c=7", None).unwrap();
        assert_eq!(properties.boolean("a", false), Ok(true));
        assert_eq!(properties.boolean("b", true), Ok(false));
        assert_eq!(properties.boolean("d", true), Ok(true));
        assert!(properties.boolean("c", true).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,60}") {
            let _ = Properties::parse(&text, Some("file"));
            let _ = size(&text);
        }

        #[test]
        fn a_size_that_is_written_is_read(bytes in any::<u64>()) {
            prop_assert_eq!(size(&print_size(bytes)), Some(bytes));
        }
    }
}
