//! The ring's counters under the names that corosync gives them.
//!
//! Source: cmap_keys(7), `stats.srp`. What corosync does not count has a name in the same style.

use std::collections::BTreeMap;

use membership_core::srp::{Drop, Stats};

/// Counters since the daemon started, by name.
pub(crate) fn counters(stats: &Stats) -> BTreeMap<String, u64> {
    let micros = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let named = [
        ("orf_token_tx", stats.orf_token.tx),
        ("orf_token_rx", stats.orf_token.rx),
        ("memb_merge_detect_tx", stats.memb_merge_detect.tx),
        ("memb_merge_detect_rx", stats.memb_merge_detect.rx),
        ("memb_join_tx", stats.memb_join.tx),
        ("memb_join_rx", stats.memb_join.rx),
        ("mcast_tx", stats.mcast.tx),
        ("mcast_rx", stats.mcast.rx),
        ("mcast_retx", stats.mcast_retx),
        ("memb_commit_token_tx", stats.memb_commit_token.tx),
        ("memb_commit_token_rx", stats.memb_commit_token.rx),
        ("token_hold_cancel_tx", stats.token_hold_cancel.tx),
        ("token_hold_cancel_rx", stats.token_hold_cancel.rx),
        ("token_retx", stats.token_retx),
        ("operational_entered", stats.operational.entered),
        ("operational_token_lost", stats.operational.token_lost),
        ("gather_entered", stats.gather.entered),
        ("gather_token_lost", stats.gather.token_lost),
        ("commit_entered", stats.commit.entered),
        ("commit_token_lost", stats.commit.token_lost),
        ("recovery_entered", stats.recovery.entered),
        ("recovery_token_lost", stats.recovery.token_lost),
        ("consensus_timeouts", stats.consensus_timeouts),
        ("continuous_gather", stats.continuous_gather),
        ("delivered", stats.delivered),
        ("recovered_tx", stats.recovered_tx),
        ("token_visits", stats.token_visits),
        ("token_rotations", stats.token_rotations),
        ("token_rotation_microseconds_sum", micros(stats.token_rotation_total)),
        ("pauses", stats.pauses),
        ("rx_msg_dropped", stats.rx_msg_dropped()),
    ];
    named.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

/// Dropped packets by reason, every reason listed.
pub(crate) fn dropped(stats: &Stats) -> BTreeMap<String, u64> {
    Drop::ALL.into_iter().map(|reason| (reason.name().to_owned(), stats.dropped(reason))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_drop_reason_is_listed_even_when_it_never_happened() {
        let dropped = dropped(&Stats::default());
        assert_eq!(dropped.len(), Drop::ALL.len());
        assert_eq!(dropped.get("malformed"), Some(&0));
    }
}
