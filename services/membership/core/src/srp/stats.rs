//! What the ring counts, and the names of the reasons to drop a packet.

use std::time::{Duration, Instant};

/// Why a packet was dropped. None of these is an error: bad input is normal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Drop {
    /// Too short, or a field that cannot be (node id 0, an index beyond the list).
    Malformed,
    /// The first two bytes are not the magic number.
    BadMagic,
    /// The sender is big endian. Not supported, as in mixed corosync clusters.
    BigEndian,
    /// Another protocol version.
    BadVersion,
    /// A packet type above 5.
    UnknownType,
    /// A list longer than its limit.
    TooLong,
    /// A token, commit token or cancel of another ring.
    ForeignRing,
    /// A message of another ring, in a state that ignores it, or a late copy from an earlier ring; or of this ring,
    /// from a node that is no member of it.
    ForeignMessage,
    /// A copy of a token that was handled already.
    DuplicateToken,
    /// A copy of a message that was received already.
    DuplicateMessage,
    /// A message outside of the window of sequence numbers.
    OutOfWindow,
    /// A packet that the present state ignores.
    WrongState,
    /// A commit token that is not for this node or this set of members.
    UnexpectedCommitToken,
    /// A join of an earlier configuration, or one that excludes this node.
    StaleJoin,
    /// A join that waited while this process was not scheduled.
    JoinAfterPause,
    /// A message from above while the send queue was full.
    QueueFull,
    /// A recovered message that does not decode or is of another ring.
    BadRecovered,
}

impl Drop {
    /// All reasons, in the order of their counters.
    pub const ALL: [Self; 17] = [
        Self::Malformed,
        Self::BadMagic,
        Self::BigEndian,
        Self::BadVersion,
        Self::UnknownType,
        Self::TooLong,
        Self::ForeignRing,
        Self::ForeignMessage,
        Self::DuplicateToken,
        Self::DuplicateMessage,
        Self::OutOfWindow,
        Self::WrongState,
        Self::UnexpectedCommitToken,
        Self::StaleJoin,
        Self::JoinAfterPause,
        Self::QueueFull,
        Self::BadRecovered,
    ];

    /// The name used as a metric label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::BadMagic => "bad_magic",
            Self::BigEndian => "big_endian",
            Self::BadVersion => "bad_version",
            Self::UnknownType => "unknown_type",
            Self::TooLong => "too_long",
            Self::ForeignRing => "foreign_ring",
            Self::ForeignMessage => "foreign_message",
            Self::DuplicateToken => "duplicate_token",
            Self::DuplicateMessage => "duplicate_message",
            Self::OutOfWindow => "out_of_window",
            Self::WrongState => "wrong_state",
            Self::UnexpectedCommitToken => "unexpected_commit_token",
            Self::StaleJoin => "stale_join",
            Self::JoinAfterPause => "join_after_pause",
            Self::QueueFull => "queue_full",
            Self::BadRecovered => "bad_recovered",
        }
    }
}

/// Packets of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Sent; "to all" counts once.
    pub tx: u64,
    /// Received and decoded, own copies included.
    pub rx: u64,
}

/// One membership state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StateCount {
    /// How often it was entered; for gather also each new attempt.
    pub entered: u64,
    /// How often the token timeout passed in it.
    pub token_lost: u64,
}

/// Counters of the ring, from the start of the process.
///
/// Source: the `srp` statistics of corosync's cmap_keys(7), one to one, except for times spent in
/// sending, which only the driver can measure.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// ORF tokens.
    pub orf_token: Traffic,
    /// Merge detect messages.
    pub memb_merge_detect: Traffic,
    /// Join and leave messages.
    pub memb_join: Traffic,
    /// Messages, without retransmissions.
    pub mcast: Traffic,
    /// Messages sent again because the token asked for them.
    pub mcast_retx: u64,
    /// Commit tokens.
    pub memb_commit_token: Traffic,
    /// Token hold cancels.
    pub token_hold_cancel: Traffic,
    /// Tokens sent again because no later one came in time.
    pub token_retx: u64,
    /// Operational state.
    pub operational: StateCount,
    /// Gather state.
    pub gather: StateCount,
    /// Commit state.
    pub commit: StateCount,
    /// Recovery state.
    pub recovery: StateCount,
    /// Gatherings in which somebody did not agree in time.
    pub consensus_timeouts: u64,
    /// Gatherings since the ring was last operational. A high value on a node that reaches its
    /// peers means that they do not hear it (firewall, wrong address).
    pub continuous_gather: u64,
    /// Messages delivered upward.
    pub delivered: u64,
    /// Messages of an old ring sent again on a new ring.
    pub recovered_tx: u64,
    /// Token visits, without duplicates.
    pub token_visits: u64,
    /// When the last token was accepted.
    pub token_last_received: Option<Instant>,
    /// Time between the last two tokens.
    pub token_rotation_last: Duration,
    /// The longest time between two tokens of one ring.
    pub token_rotation_max: Duration,
    /// Sum of the times between two tokens of one ring; the mean is this over `token_rotations`.
    pub token_rotation_total: Duration,
    /// How many times were summed.
    pub token_rotations: u64,
    /// Backlog of all members as told by the last token, in messages.
    pub backlog: u32,
    /// Pauses of this process longer than half the token timeout.
    pub pauses: u64,
    dropped: [u64; Drop::ALL.len()],
}

impl Stats {
    /// Packets dropped for this reason.
    #[must_use]
    pub fn dropped(&self, reason: Drop) -> u64 {
        self.dropped[reason as usize]
    }

    /// Packets dropped for any reason (corosync's `rx_msg_dropped`).
    #[must_use]
    pub fn rx_msg_dropped(&self) -> u64 {
        self.dropped.iter().sum()
    }

    pub(super) fn count_drop(&mut self, reason: Drop) {
        self.dropped[reason as usize] += 1;
    }

    /// Notes an accepted token; `same_ring` is false for the first token of a ring.
    pub(super) fn count_token(&mut self, now: Instant, same_ring: bool) {
        self.token_visits += 1;
        if let Some(last) = self.token_last_received.replace(now)
            && same_ring
        {
            let rotation = now.saturating_duration_since(last);
            self.token_rotation_last = rotation;
            self.token_rotation_max = self.token_rotation_max.max(rotation);
            self.token_rotation_total += rotation;
            self.token_rotations += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_drop_reason_has_its_own_counter_and_name() {
        let mut stats = Stats::default();

        for reason in Drop::ALL {
            stats.count_drop(reason);
        }

        for (index, reason) in Drop::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
            assert_eq!(stats.dropped(reason), 1, "{}", reason.name());
        }
        assert_eq!(stats.rx_msg_dropped(), Drop::ALL.len() as u64);
    }

    #[test]
    fn rotation_times_are_not_measured_across_rings() {
        let start = Instant::now();
        let mut stats = Stats::default();

        stats.count_token(start, false);
        stats.count_token(start + Duration::from_millis(3), true);
        stats.count_token(start + Duration::from_secs(9), false);

        assert_eq!(stats.token_visits, 3);
        assert_eq!(stats.token_rotations, 1);
        assert_eq!(stats.token_rotation_max, Duration::from_millis(3));
    }
}
