//! `grpc-timeout`: how long a caller waits, and answering a little before that.
//!
//! Whoever stands between a caller and another daemon gives the answer first: it knows who did not answer, the caller
//! knows only that time is over.
//!
//! Source: gRPC over HTTP/2, "Timeout": up to 8 digits and a unit.

use std::time::Duration;

/// Name of the metadata entry.
pub const GRPC_TIMEOUT: &str = "grpc-timeout";

/// How long before the caller's deadline the answer is given, at most.
const AHEAD: Duration = Duration::from_millis(500);

/// Reads a timeout; `None` if it is none.
#[must_use]
pub fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let value: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    match unit {
        "H" => value.checked_mul(3600).map(Duration::from_secs),
        "M" => value.checked_mul(60).map(Duration::from_secs),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

/// Writes a timeout, in the smallest unit that has room for it; years become three of them.
#[must_use]
pub fn print(timeout: Duration) -> String {
    const MAX: u128 = 99_999_999;
    let units = [(timeout.as_micros(), "u"), (timeout.as_millis(), "m"), (timeout.as_secs().into(), "S")];
    let fitting = units.into_iter().find(|(value, _)| *value <= MAX).unwrap_or((MAX, "S"));
    format!("{}{}", fitting.0, fitting.1)
}

/// How long to work for a caller that waits so long: a tenth less, but at most half a second less.
#[must_use]
pub fn ahead_of(timeout: Duration) -> Duration {
    timeout.saturating_sub((timeout / 10).min(AHEAD))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_unit_is_read() {
        assert_eq!(parse("5S"), Some(Duration::from_secs(5)));
        assert_eq!(parse("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse("1H"), Some(Duration::from_secs(3600)));
        for bad in ["", "S", "5", "5x", "123456789S", "-1S", "ä"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_answer_comes_before_the_caller_gives_up() {
        assert_eq!(ahead_of(Duration::from_secs(2)), Duration::from_millis(1800));
        assert_eq!(ahead_of(Duration::from_secs(60)), Duration::from_millis(59_500));
        assert_eq!(ahead_of(Duration::ZERO), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_never_longer(seconds in 0u64..=99_999_999, nanos in 0u32..1_000_000_000) {
            let timeout = Duration::new(seconds, nanos);
            let read = parse(&print(timeout)).unwrap();
            prop_assert!(read <= timeout && timeout - read <= timeout / 1000 + Duration::from_secs(1), "{:?}", read);
        }
    }
}
