//! Numbers as they are typed: every mistake names the range.

use std::{fmt::Display, ops::RangeInclusive, str::FromStr};

/// Text that is no number of the range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is no whole number from {min} to {max}")]
pub struct NumberError {
    text: String,
    min: String,
    max: String,
}

fn within<N: FromStr + PartialOrd + Display>(
    text: &str,
    range: &RangeInclusive<N>,
) -> Result<N, NumberError> {
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| NumberError {
        text: text.to_owned(),
        min: range.start().to_string(),
        max: range.end().to_string(),
    })
}

/// Reads a number from 1: a node id, votes.
///
/// # Errors
/// [`NumberError`].
pub fn positive(text: &str) -> Result<u32, NumberError> {
    within(text, &(1..=u32::MAX))
}

/// Reads a number from 0.
///
/// # Errors
/// [`NumberError`].
pub fn count(text: &str) -> Result<u32, NumberError> {
    within(text, &(0..=u32::MAX))
}

/// Reads a version of the tree.
///
/// # Errors
/// [`NumberError`].
pub fn version(text: &str) -> Result<u64, NumberError> {
    within(text, &(0..=u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_number_of_the_range_is_told_with_the_range() {
        for bad in ["0", "-1", "x", "", "1.5", "4294967296"] {
            let text = positive(bad).unwrap_err().to_string();
            assert_eq!(text, format!("'{bad}' is no whole number from 1 to 4294967295"));
        }
        assert_eq!(
            (positive("1"), count("0"), version("18446744073709551615")),
            (Ok(1), Ok(0), Ok(u64::MAX))
        );
        assert!(version("18446744073709551616").is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text in "\\PC{0,24}") {
            let _ = (positive(&text), count(&text), version(&text));
        }
    }
}
