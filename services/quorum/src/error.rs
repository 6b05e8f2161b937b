//! What can go wrong, and the gRPC status of each.

use quorate_daemon::{status, telemetry::chain};
use quorum_core::ExpectedRefusal;
use tonic::{Code, Status};

use crate::config::ConfigError;

/// Why a request was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The core refuses these expected votes.
    #[error("the expected votes stay as they are")]
    Refused(#[from] ExpectedRefusal),
    /// There is no ring through which the others could be told.
    #[error("the expected votes cannot be changed now: {reason}")]
    NoRing {
        /// Why there is none.
        reason: String,
    },
    /// The ring changed, or did not deliver in time: the others may or may not have been told.
    #[error(
        "it is not known whether the expected votes were changed to {given}: the ring did not deliver in time"
    )]
    OutcomeUnknown {
        /// What was asked for.
        given: u32,
    },
    /// corosync.conf cannot be used; the configuration in force stays.
    #[error("corosync.conf is not applied, the old one stays in force")]
    Reload(#[from] ConfigError),
    /// The daemon stops.
    #[error("quorumd is stopping")]
    Stopping,
}

/// The one mapping to gRPC.
pub(crate) fn status(err: &Error) -> Status {
    let text = chain(err);
    match err {
        Error::Refused(refusal) => refused(*refusal, text),
        Error::NoRing { reason } => {
            status::error(Code::FailedPrecondition, "NO_RING", text, [("why", reason)])
        }
        Error::OutcomeUnknown { given } => {
            status::error(Code::Unknown, "OUTCOME_UNKNOWN", text, [("expected_votes", given)])
        }
        Error::Reload(ConfigError::Read { path, .. }) => {
            let path = path.display().to_string();
            status::error(Code::FailedPrecondition, "CONFIGURATION_UNREADABLE", text, [("path", path)])
        }
        Error::Reload(ConfigError::Malformed { path, mistakes }) => {
            let path = path.display().to_string();
            let lines: Vec<_> = mistakes.0.iter().map(|mistake| mistake.line.to_string()).collect();
            let metadata = [("path", path), ("lines", lines.join(","))];
            status::error(Code::InvalidArgument, "CONFIGURATION_MALFORMED", text, metadata)
        }
        Error::Reload(ConfigError::NotListed { name, .. }) => {
            status::error(Code::FailedPrecondition, "NODE_NOT_LISTED", text, [("name", name)])
        }
        Error::Stopping => Status::unavailable(text),
    }
}

fn refused(refusal: ExpectedRefusal, text: String) -> Status {
    match refusal {
        ExpectedRefusal::Zero => {
            let numbers = [("expected_votes", 0)];
            status::error(Code::InvalidArgument, "NO_EXPECTED_VOTES", text, numbers)
        }
        ExpectedRefusal::BelowPresent { expected, present } => {
            let numbers = [("expected_votes", expected), ("present_votes", present)];
            status::error(Code::InvalidArgument, "TOO_FEW_EXPECTED_VOTES", text, numbers)
        }
        ExpectedRefusal::QuorumWouldBeLost { expected, quorum, present } => {
            let numbers = [("expected_votes", expected), ("quorum", quorum), ("present_votes", present)];
            status::error(Code::InvalidArgument, "TOO_MANY_EXPECTED_VOTES", text, numbers)
        }
        ExpectedRefusal::NotSynchronised => {
            status::error(Code::FailedPrecondition, "NO_RING", text, [("why", refusal)])
        }
    }
}

#[cfg(test)]
mod tests {
    use corosync_conf::ClusterConf;

    use super::*;

    #[test]
    fn every_error_has_its_status_and_reason() {
        let path = std::path::PathBuf::from("corosync.conf");
        let mistakes = ClusterConf::parse("totem {\n").unwrap_err();
        let name = "hp1".parse().unwrap();
        let cases = [
            (ExpectedRefusal::Zero.into(), Code::InvalidArgument, "NO_EXPECTED_VOTES"),
            (
                ExpectedRefusal::BelowPresent { expected: 1, present: 2 }.into(),
                Code::InvalidArgument,
                "TOO_FEW_EXPECTED_VOTES",
            ),
            (
                ExpectedRefusal::QuorumWouldBeLost { expected: 9, quorum: 5, present: 2 }.into(),
                Code::InvalidArgument,
                "TOO_MANY_EXPECTED_VOTES",
            ),
            (ExpectedRefusal::NotSynchronised.into(), Code::FailedPrecondition, "NO_RING"),
            (Error::NoRing { reason: "x".to_owned() }, Code::FailedPrecondition, "NO_RING"),
            (Error::OutcomeUnknown { given: 2 }, Code::Unknown, "OUTCOME_UNKNOWN"),
            (
                ConfigError::Read { path: path.clone(), source: std::io::Error::other("x") }.into(),
                Code::FailedPrecondition,
                "CONFIGURATION_UNREADABLE",
            ),
            (
                ConfigError::Malformed { path: path.clone(), mistakes }.into(),
                Code::InvalidArgument,
                "CONFIGURATION_MALFORMED",
            ),
            (ConfigError::NotListed { path, name }.into(), Code::FailedPrecondition, "NODE_NOT_LISTED"),
        ];

        for (err, code, reason) in cases {
            let status = status(&err);
            assert_eq!(status.code(), code, "{err}");
            assert_eq!(status::reason(&status).map(|read| read.reason).as_deref(), Some(reason), "{err}");
        }
        assert_eq!(status(&Error::Stopping).code(), Code::Unavailable);
    }

    #[test]
    fn the_numbers_are_in_the_details() {
        let status = status(&ExpectedRefusal::BelowPresent { expected: 1, present: 3 }.into());

        let reason = status::reason(&status).unwrap();
        assert_eq!((&*reason.metadata["expected_votes"], &*reason.metadata["present_votes"]), ("1", "3"));
    }
}
