//! How times and durations are read and printed.
//!
//! People see local time in the C locale's form; JSON has RFC 3339 in UTC and milliseconds.

use std::time::Duration;

use jiff::{Timestamp, ZonedDateTime, tz::TimeZone};

/// `Sat Mar  7 09:15:02 2026`: the form of C's `ctime`, without its newline. Source: spec 4.6.
#[must_use]
pub fn ctime(time: &ZonedDateTime) -> String {
    time.strftime("%a %b %e %H:%M:%S %Y").to_string()
}

/// A time from a daemon; `None` if it is absent or out of range.
#[must_use]
pub fn timestamp(time: Option<&prost_types::Timestamp>) -> Option<Timestamp> {
    let time = time?;
    Timestamp::new(time.seconds, time.nanos).ok()
}

/// A time from a daemon in local time, for people: `2026-03-07 09:15:02`.
#[must_use]
pub fn local(time: Timestamp) -> String {
    time.to_zoned_datetime(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// A duration from a daemon in milliseconds; `None` if it is absent or negative.
#[must_use]
pub fn milliseconds(duration: Option<&prost_types::Duration>) -> Option<u64> {
    let duration = Duration::try_from(*duration?).ok()?;
    u64::try_from(duration.as_millis()).ok()
}

/// A duration that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no duration: a number with ms, s, m or h, such as 500ms, 10s, 5m, 1h")]
pub struct DurationError(String);

/// Reads `500ms`, `10s`, `5m`, `1h`, or a bare number of seconds.
///
/// # Errors
/// [`DurationError`] for anything else, and for 0.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let error = || DurationError(text.to_owned());
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().map_err(|_| error())?;
    let duration = match &text[digits..] {
        "ms" => Some(Duration::from_millis(number)),
        "" | "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3600).map(Duration::from_secs),
        _ => None,
    };
    duration.filter(|duration| !duration.is_zero()).ok_or_else(error)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ctime_pads_the_day_with_a_space() {
        let time = "2026-03-07T09:15:02Z".parse::<Timestamp>().unwrap().to_zoned_datetime(TimeZone::UTC);
        assert_eq!(ctime(&time), "Sat Mar  7 09:15:02 2026");
    }

    #[test]
    fn durations_have_units_and_a_bare_number_is_seconds() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(parse_duration("1h"), Ok(Duration::from_secs(3600)));
    }

    #[test]
    fn nonsense_and_zero_are_no_durations() {
        for text in ["", "0", "0s", "s", "1d", "-1s", "1.5s", "99999999999999999999s", "9223372036854775807h"]
        {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_input_makes_the_parser_panic(text in "\\PC{0,24}") {
            let _ = parse_duration(&text);
        }
    }
}
