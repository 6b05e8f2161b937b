//! What the links count, and the names of the reasons to drop a packet.

use std::time::Duration;

/// Why a packet was dropped. None of these is an error: bad input is normal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Drop {
    /// Its source address is not in the access list of the link.
    UnlistedAddress,
    /// It does not carry the HMAC of an accepted key.
    NotAuthentic,
    /// It is authentic but does not decrypt.
    BadCiphertext,
    /// Shorter than its kind needs.
    TooShort,
    /// Another version of the wire format.
    BadVersion,
    /// A packet type that does not exist.
    UnknownType,
    /// Its sender is not configured, or is this node.
    NoSuchHost,
    /// It names a link that its sender does not have, or came over another one.
    WrongLink,
    /// Its source address is not that of its sender.
    WrongAddress,
    /// Data from a host that has no usable link.
    UnreachableSource,
    /// Data to a host that has no usable link, or to nobody.
    UnreachableTarget,
    /// A data packet that was delivered already.
    Duplicate,
    /// A fragment that was there already, or of a packet that was given up.
    DuplicateFragment,
    /// A fragment that does not fit the others.
    BadFragment,
    /// A channel other than 0.
    BadChannel,
    /// It is compressed.
    Compressed,
    /// What it carries is no packet of the ring.
    NotTotem,
    /// It is for another node.
    ForeignTarget,
    /// A pong whose time stamp this node did not give, or gave too long ago.
    BadTime,
    /// A path MTU reply that nobody waits for.
    UnexpectedReply,
    /// A packet to be sent that takes too many fragments.
    TooLong,
}

impl Drop {
    /// All reasons, in the order of their counters.
    pub const ALL: [Self; 21] = [
        Self::UnlistedAddress,
        Self::NotAuthentic,
        Self::BadCiphertext,
        Self::TooShort,
        Self::BadVersion,
        Self::UnknownType,
        Self::NoSuchHost,
        Self::WrongLink,
        Self::WrongAddress,
        Self::UnreachableSource,
        Self::UnreachableTarget,
        Self::Duplicate,
        Self::DuplicateFragment,
        Self::BadFragment,
        Self::BadChannel,
        Self::Compressed,
        Self::NotTotem,
        Self::ForeignTarget,
        Self::BadTime,
        Self::UnexpectedReply,
        Self::TooLong,
    ];

    /// The name used as a metric label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnlistedAddress => "unlisted_address",
            Self::NotAuthentic => "not_authentic",
            Self::BadCiphertext => "bad_ciphertext",
            Self::TooShort => "too_short",
            Self::BadVersion => "bad_version",
            Self::UnknownType => "unknown_type",
            Self::NoSuchHost => "no_such_host",
            Self::WrongLink => "wrong_link",
            Self::WrongAddress => "wrong_address",
            Self::UnreachableSource => "unreachable_source",
            Self::UnreachableTarget => "unreachable_target",
            Self::Duplicate => "duplicate",
            Self::DuplicateFragment => "duplicate_fragment",
            Self::BadFragment => "bad_fragment",
            Self::BadChannel => "bad_channel",
            Self::Compressed => "compressed",
            Self::NotTotem => "not_totem",
            Self::ForeignTarget => "foreign_target",
            Self::BadTime => "bad_time",
            Self::UnexpectedReply => "unexpected_reply",
            Self::TooLong => "too_long",
        }
    }
}

/// Counters of all links together, from the start of the process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Packets of the ring that were sent; "to all" counts once, fragments do not count.
    pub sent: u64,
    /// Packets of the ring that were delivered.
    pub delivered: u64,
    /// Packets of which some fragments came and others did not. A high value means loss.
    pub incomplete: u64,
    /// Bytes that are kept for packets that are incomplete now. Bounded: 32 packets per host.
    pub reassembly_bytes: usize,
    pub(super) dropped: [u64; Drop::ALL.len()],
}

impl Stats {
    /// Packets dropped for this reason.
    #[must_use]
    pub fn dropped(&self, reason: Drop) -> u64 {
        self.dropped[reason as usize]
    }

    /// Packets dropped for any reason.
    #[must_use]
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().sum()
    }

    pub(super) fn count_drop(&mut self, reason: Drop) {
        self.dropped[reason as usize] += 1;
    }
}

/// Datagrams of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// How many.
    pub packets: u64,
    /// Their length in bytes, without IP and UDP headers.
    pub bytes: u64,
}

impl Traffic {
    pub(super) fn count(&mut self, length: usize) {
        self.packets += 1;
        self.bytes += length as u64;
    }
}

/// Datagrams of a link in one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Direction {
    /// Data packets and fragments.
    pub data: Traffic,
    /// Pings.
    pub ping: Traffic,
    /// Pongs.
    pub pong: Traffic,
    /// Path MTU probes and replies.
    pub pmtud: Traffic,
}

/// Differences that the jitter is taken over.
const JITTER_SAMPLES: u32 = 16;

/// Times from a ping to its pong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Latency {
    /// The shortest.
    pub min: Duration,
    /// The average of the last ones, up to the configured precision.
    pub average: Duration,
    /// The longest.
    pub max: Duration,
    /// Mean difference of two in a row, in which each counts a sixteenth. Source: RFC 3550, 6.4.1.
    pub jitter: Duration,
    /// The last one.
    pub last: Duration,
    /// How many the average is taken over.
    pub samples: u32,
}

impl Latency {
    pub(super) fn add(&mut self, latency: Duration, precision: u32) {
        if self.samples > 0 {
            self.jitter =
                self.jitter - self.jitter / JITTER_SAMPLES + latency.abs_diff(self.last) / JITTER_SAMPLES;
        }
        self.last = latency;
        self.min = if self.samples == 0 { latency } else { self.min.min(latency) };
        self.max = self.max.max(latency);
        self.samples = self.samples.saturating_add(1).min(precision.max(1));
        let old = self.average - self.average / self.samples;
        self.average = if self.samples == 1 { latency } else { old + latency / self.samples };
    }
}

/// Counters of one link to one host, since it was configured.
///
/// Source: the `stats.knet` keys of corosync's cmap_keys(7).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// What was sent.
    pub tx: Direction,
    /// What was received, after authentication.
    pub rx: Direction,
    /// Datagrams that the kernel refused.
    pub tx_errors: u64,
    /// How often the link went up.
    pub up_count: u64,
    /// How often it went down.
    pub down_count: u64,
    /// Round trip times.
    pub latency: Latency,
    /// The MTU in bytes, IP and UDP headers included.
    pub mtu: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_has_a_counter_for_each_reason() {
        for (index, reason) in Drop::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
    }

    #[test]
    fn jitter_is_the_mean_difference_of_neighbours_and_none_if_they_are_alike() {
        let millis = Duration::from_millis;
        let mut steady = Latency::default();
        let mut shaky = Latency::default();
        for index in 0..1000 {
            steady.add(millis(20), 100);
            shaky.add(millis(20 + index % 2 * 3), 100);
        }
        assert_eq!(steady.jitter, Duration::ZERO);
        assert!(shaky.jitter > millis(2) && shaky.jitter <= millis(3), "{:?}", shaky.jitter);
    }

    #[test]
    fn the_average_follows_the_last_samples() {
        let millis = Duration::from_millis;
        let mut latency = Latency::default();
        for sample in [10, 20, 30] {
            latency.add(millis(sample), 100);
        }
        assert_eq!((latency.min, latency.average, latency.max), (millis(10), millis(20), millis(30)));
        for _ in 0..1000 {
            latency.add(millis(50), 10);
        }
        assert_eq!(latency.samples, 10);
        assert!(latency.average > millis(49) && latency.average <= millis(50));
    }
}
