//! Rich gRPC errors: a status that carries `google.rpc.ErrorInfo` with a reason and numbers.
//!
//! Programs read the reason, never the text.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The domain of all reasons.
pub const DOMAIN: &str = "quorate";

/// What an error carries for programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// What went wrong, in UPPER_SNAKE, such as `NOT_QUORATE`.
    pub reason: String,
    /// The numbers and names behind it.
    pub metadata: HashMap<String, String>,
}

/// A status with a reason in [`DOMAIN`] and the numbers behind it.
///
/// `reason` is UPPER_SNAKE and part of the API: it never changes its meaning.
pub fn error<K: Into<String>, V: ToString>(
    code: Code,
    reason: &'static str,
    message: impl Into<String>,
    metadata: impl IntoIterator<Item = (K, V)>,
) -> Status {
    let metadata: HashMap<_, _> = metadata.into_iter().map(|(k, v)| (k.into(), v.to_string())).collect();
    Status::with_error_details(code, message, ErrorDetails::with_error_info(reason, DOMAIN, metadata))
}

/// A status with a reason that came as text, such as from a message that told how something ended.
pub fn error_named(code: Code, reason: &str, message: impl Into<String>) -> Status {
    Status::with_error_details(code, message, ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new()))
}

/// INVALID_ARGUMENT for one field of the request.
pub fn invalid_field(field: impl Into<String>, description: impl Into<String>) -> Status {
    let (field, description) = (field.into(), description.into());
    let message = format!("{field}: {description}");
    let details = ErrorDetails::with_bad_request_violation(field, description);
    Status::with_error_details(Code::InvalidArgument, message, details)
}

/// The reason that a status carries, if it comes from a daemon of Quorate.
#[must_use]
pub fn reason(status: &Status) -> Option<Reason> {
    let info = status.get_details_error_info().filter(|info| info.domain == DOMAIN)?;
    Some(Reason { reason: info.reason, metadata: info.metadata })
}

/// The name of a code as the gRPC specification and the semantic conventions write it: `NOT_FOUND`.
#[must_use]
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_survives_the_way_through_a_status() {
        let status = error(Code::FailedPrecondition, "NOT_QUORATE", "2 of 3 votes needed", [("votes", 1)]);

        let read = reason(&status).unwrap();

        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_eq!(read.reason, "NOT_QUORATE");
        assert_eq!(read.metadata["votes"], "1");
    }

    #[test]
    fn a_status_of_somebody_else_has_no_reason() {
        let foreign = Status::with_error_details(
            Code::Internal,
            "x",
            ErrorDetails::with_error_info("X", "example.org", HashMap::new()),
        );

        assert_eq!(reason(&foreign), None);
        assert_eq!(reason(&Status::internal("x")), None);
    }

    #[test]
    fn an_invalid_field_is_named_in_the_details() {
        let status = invalid_field("expected_votes", "must be at least 1");

        let violations = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, "expected_votes");
        assert_eq!(status.message(), "expected_votes: must be at least 1");
    }
}
