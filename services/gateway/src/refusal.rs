//! How the life cycle says no: every failed check at once, each with a reason that never changes.
//!
//! A status carries one `PreconditionFailure` with a violation per failed check, and an `ErrorInfo`
//! with the reason: that of the check if one failed, [`SEVERAL`] if more did. The text says what failed,
//! why, in which state things are now, and what to do.

use quorate_daemon::status::DOMAIN;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The reason of a refusal with more than one failed check; metadata `reasons` lists them.
pub const SEVERAL: &str = "PRECONDITIONS_FAILED";
/// What most refusals end with.
pub const NOTHING_CHANGED: &str = "nothing was changed";

/// One check that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Stable name of the check, in UPPER_SNAKE.
    pub reason: &'static str,
    /// What it is about: a node, an address, a file.
    pub subject: String,
    /// Why it failed, with names and numbers, and what to do.
    pub description: String,
    /// The numbers and names, for programs.
    pub metadata: Vec<(&'static str, String)>,
}

/// Failed checks, collected until all are made.
#[derive(Debug, Default)]
pub struct Checks {
    failed: Vec<Violation>,
}

impl Checks {
    /// Notes a failed check.
    pub fn fail(&mut self, reason: &'static str, subject: impl ToString, description: impl Into<String>) {
        let (subject, description) = (subject.to_string(), description.into());
        self.failed.push(Violation { reason, subject, description, metadata: Vec::new() });
    }

    /// Notes a failed check that comes with numbers.
    pub fn add(&mut self, violation: Violation) {
        self.failed.push(violation);
    }

    /// Whether a check of this reason failed.
    #[must_use]
    pub fn has(&self, reason: &str) -> bool {
        self.failed.iter().any(|violation| violation.reason == reason)
    }

    /// Ends the checks; `what` says what was to be done, such as `cannot create cluster 'demo'`.
    ///
    /// # Errors
    /// FAILED_PRECONDITION with all failed checks, if there are any.
    pub fn finish(self, what: &str) -> Result<(), Status> {
        let message = match &self.failed[..] {
            [] => return Ok(()),
            [one] => format!("{what}: {}; {NOTHING_CHANGED}", one.description),
            several => {
                let list: Vec<String> = several.iter().map(|v| format!("\n  - {}", v.description)).collect();
                format!("{what}: {} checks failed, {NOTHING_CHANGED}{}", several.len(), list.concat())
            }
        };
        Err(Status::with_error_details(Code::FailedPrecondition, message, self.details()))
    }

    fn details(self) -> ErrorDetails {
        let mut metadata: std::collections::HashMap<String, String> =
            self.failed.iter().flat_map(|v| &v.metadata).map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
        let reason = match &self.failed[..] {
            [one] => {
                metadata.insert("subject".to_owned(), one.subject.clone());
                one.reason
            }
            several => {
                let reasons: Vec<&str> = several.iter().map(|v| v.reason).collect();
                metadata.insert("reasons".to_owned(), reasons.join(","));
                SEVERAL
            }
        };
        let mut details = ErrorDetails::with_error_info(reason, DOMAIN, metadata);
        for violation in self.failed {
            details.add_precondition_failure_violation(
                violation.reason,
                violation.subject,
                violation.description,
            );
        }
        details
    }
}

/// The same status with other words before its message; code and details stay.
#[must_use]
pub fn prefixed(prefix: &str, status: &Status) -> Status {
    let message = format!("{prefix}: {}", status.message());
    Status::with_details(status.code(), message, Bytes::copy_from_slice(status.details()))
}

/// The same status with a sentence after its message: which state things are in now.
#[must_use]
pub fn followed(status: &Status, sentence: &str) -> Status {
    let message = format!("{}; {sentence}", status.message());
    Status::with_details(status.code(), message, Bytes::copy_from_slice(status.details()))
}

use bytes::Bytes;

#[cfg(test)]
mod tests {
    use quorate_daemon::status::reason;

    use super::*;

    #[test]
    fn no_failed_check_is_no_refusal() {
        assert!(Checks::default().finish("cannot").is_ok());
    }

    #[test]
    fn one_failed_check_gives_the_status_its_reason_and_numbers() {
        let mut checks = Checks::default();
        checks.add(Violation {
            reason: "NODE_ID_TAKEN",
            subject: "2".into(),
            description: "node id 2 is used by 'n3'".into(),
            metadata: vec![("node", "n3".into())],
        });

        let status = checks.finish("cannot admit node 'n2'").unwrap_err();

        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_eq!(
            status.message(),
            "cannot admit node 'n2': node id 2 is used by 'n3'; nothing was changed"
        );
        let read = reason(&status).unwrap();
        assert_eq!((read.reason.as_str(), read.metadata["node"].as_str()), ("NODE_ID_TAKEN", "n3"));
    }

    #[test]
    fn several_failed_checks_are_all_listed() {
        let mut checks = Checks::default();
        checks.fail("A", "x", "a is wrong");
        checks.fail("B", "y", "b is wrong");

        let status = checks.finish("cannot join").unwrap_err();

        let read = reason(&status).unwrap();
        assert_eq!((read.reason.as_str(), read.metadata["reasons"].as_str()), (SEVERAL, "A,B"));
        let violations = status.get_details_precondition_failure().unwrap().violations;
        assert_eq!(violations.iter().map(|v| v.r#type.as_str()).collect::<Vec<_>>(), ["A", "B"]);
        assert!(status.message().contains("2 checks failed"), "{}", status.message());
    }

    #[test]
    fn words_before_and_after_keep_code_and_details() {
        let mut checks = Checks::default();
        checks.fail("A", "x", "a is wrong");
        let status = checks.finish("cannot join").unwrap_err();

        let changed = followed(&prefixed("member n1 refused", &status), "all is undone");

        assert_eq!(reason(&changed).unwrap().reason, "A");
        assert!(changed.message().starts_with("member n1 refused: cannot join"), "{}", changed.message());
        assert!(changed.message().ends_with("; all is undone"), "{}", changed.message());
    }
}
