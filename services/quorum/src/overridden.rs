//! The operator's override of the expected votes, as long as it counts: until it expires, until corosync.conf is read again,
//! or until other votes are expected, such as when nodes return.

use std::time::{Duration, Instant, SystemTime};

use quorate_proto::quorum::v1::{ExpectedOverride, QuorumStatus};

/// An override that was asked for at this node.
#[derive(Debug)]
pub(crate) struct Overridden {
    votes: u32,
    since: SystemTime,
    ends: Option<(Instant, SystemTime)>,
    /// It came back in the order of the ring, and counts.
    in_force: bool,
}

impl Overridden {
    /// An override that begins now; without a lifetime it does not expire.
    pub(crate) fn new(votes: u32, lifetime: Option<Duration>) -> Self {
        let (now, since) = (Instant::now(), SystemTime::now());
        let end = |lifetime| Some((now.checked_add(lifetime)?, since.checked_add(lifetime)?));
        Self { votes, since, ends: lifetime.and_then(end), in_force: false }
    }

    /// When it expires.
    pub(crate) fn ends(&self) -> Option<Instant> {
        self.ends.map(|(ends, _)| ends)
    }

    /// Lets go of an override that does not count any more; gives what is to be told of one that does.
    pub(crate) fn follow(kept: &mut Option<Self>, status: &QuorumStatus) -> Option<ExpectedOverride> {
        let overridden = kept.as_mut()?;
        let counts = status.expected_votes == overridden.votes;
        if overridden.in_force && !counts {
            tracing::info!(
                expected_votes = status.expected_votes,
                "the override of the expected votes is over"
            );
            *kept = None;
            return None;
        }
        overridden.in_force = counts;
        counts.then(|| ExpectedOverride {
            expected_votes: overridden.votes,
            since: Some(overridden.since.into()),
            expires: overridden.ends.map(|(_, ends)| ends.into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expecting(expected_votes: u32) -> QuorumStatus {
        QuorumStatus { expected_votes, ..QuorumStatus::default() }
    }

    #[test]
    fn an_override_counts_once_it_came_back_and_until_other_votes_are_expected() {
        let mut kept = Some(Overridden::new(1, Some(Duration::from_secs(60))));
        assert_eq!(Overridden::follow(&mut kept, &expecting(4)), None, "not yet");
        let told = Overridden::follow(&mut kept, &expecting(1)).unwrap();
        assert!(told.expected_votes == 1 && told.expires.is_some());
        assert_eq!(Overridden::follow(&mut kept, &expecting(4)), None, "the others are back");
        assert!(kept.is_none());
    }

    #[test]
    fn without_a_lifetime_or_with_an_endless_one_it_never_expires() {
        assert_eq!(Overridden::new(1, None).ends(), None);
        assert_eq!(Overridden::new(1, Some(Duration::MAX)).ends(), None);
    }
}
