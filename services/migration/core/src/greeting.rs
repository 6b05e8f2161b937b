//! The first bytes on a connection that carries a migration's data: which migration, which channel, and how.
//!
//! One line in clear says whether TLS follows; the rest is said inside. Both lines are short and end in a newline:
//!
//! ```text
//! quorate-migration/1 tls
//! m-18c2a9 memory 2f6c...
//! ```

/// The longest line.
pub const LINE_MAX: usize = 192;

/// How the bytes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// TLS, both sides with certificates of the cluster.
    Tls,
    /// In clear. For memory only.
    Plain,
}

/// What a connection carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purpose {
    /// Which migration.
    pub id: String,
    /// `memory`, or `disks`.
    pub channel: String,
    /// What the target gave to the source, and to nobody else.
    pub secret: String,
}

/// The line is none of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no connection of a migration")]
pub struct GreetingError;

/// The line that comes first.
#[must_use]
pub fn opening(protection: Protection) -> &'static str {
    match protection {
        Protection::Tls => "quorate-migration/1 tls\n",
        Protection::Plain => "quorate-migration/1 plain\n",
    }
}

/// Reads the first line, without its newline.
///
/// # Errors
/// [`GreetingError`] if it is none of ours.
pub fn parse_opening(line: &[u8]) -> Result<Protection, GreetingError> {
    match line {
        b"quorate-migration/1 tls" => Ok(Protection::Tls),
        b"quorate-migration/1 plain" => Ok(Protection::Plain),
        _ => Err(GreetingError),
    }
}

impl Purpose {
    /// The second line.
    #[must_use]
    pub fn line(&self) -> String {
        format!("{} {} {}\n", self.id, self.channel, self.secret)
    }

    /// Reads the second line, without its newline.
    ///
    /// # Errors
    /// [`GreetingError`] if it does not consist of three words.
    pub fn parse(line: &[u8]) -> Result<Self, GreetingError> {
        let text = std::str::from_utf8(line).map_err(|_| GreetingError)?;
        let words: Vec<&str> = text.split(' ').collect();
        let [id, channel, secret] = words[..] else { return Err(GreetingError) };
        if [id, channel, secret].iter().any(|word| word.is_empty()) {
            return Err(GreetingError);
        }
        Ok(Self { id: id.to_owned(), channel: channel.to_owned(), secret: secret.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_line_says_whether_tls_follows() {
        for protection in [Protection::Tls, Protection::Plain] {
            let line = opening(protection).trim_end();
            assert_eq!(parse_opening(line.as_bytes()), Ok(protection));
        }
        assert_eq!(parse_opening(b"quorate-migration/2 tls"), Err(GreetingError));
    }

    proptest! {
        #[test]
        fn a_purpose_is_read_as_it_was_written(id in "[a-z0-9-]{1,20}", channel in "[a-z]{1,8}", secret in "[0-9a-f]{1,64}") {
            let purpose = Purpose { id, channel, secret };
            prop_assert!(purpose.line().len() <= LINE_MAX);
            prop_assert_eq!(Purpose::parse(purpose.line().trim_end().as_bytes()), Ok(purpose));
        }

        #[test]
        fn no_bytes_make_the_parsers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_opening(&bytes);
            let _ = Purpose::parse(&bytes);
        }
    }
}
