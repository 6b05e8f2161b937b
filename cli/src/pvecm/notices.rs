//! What `pvecm status` has to say beyond the original's layout: on standard error, so that parsers of the text see what they know.

use quorate_proto::quorum::v1::QuorumStatus;

use crate::time::{local, timestamp};

/// That an operator's override of the expected votes is in force.
pub(super) fn of_override(votes: &QuorumStatus) -> Option<String> {
    let overridden = votes.expected_override.as_ref()?;
    let until = match timestamp(overridden.expires.as_ref()) {
        Some(end) => format!("until {}", local(end)),
        None => "until a restart or a change of the configuration".to_owned(),
    };
    Some(format!("the expected votes are overridden to {} {until}", overridden.expected_votes))
}

#[cfg(test)]
mod tests {
    use quorate_proto::quorum::v1::ExpectedOverride;

    use super::*;

    #[test]
    fn an_override_is_told_with_its_end() {
        let expires = Some(prost_types::Timestamp { seconds: 1_772_874_000, nanos: 0 });
        let overridden = |expires| QuorumStatus {
            expected_override: Some(ExpectedOverride { expected_votes: 1, since: None, expires }),
            ..QuorumStatus::default()
        };
        assert!(of_override(&overridden(expires)).unwrap().contains("overridden to 1 until 2026-03-07"));
        assert!(of_override(&overridden(None)).unwrap().contains("until a restart"));
        assert_eq!(of_override(&QuorumStatus::default()), None);
    }
}
