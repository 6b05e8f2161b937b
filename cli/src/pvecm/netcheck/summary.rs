//! What is measured of one way: samples as they come, and their summary.

use std::time::Duration;

use hdrhistogram::Histogram;

/// The longest round trip that is told apart, in nanoseconds; longer ones count as this.
const RTT_MAX: u64 = 60_000_000_000;

/// One direction of one pair, as the node that sent the probes sees it. Times are in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Summary {
    /// Probes sent.
    pub(super) sent: u32,
    /// Probes answered, each counted once.
    pub(super) received: u32,
    /// Further answers to the same probe.
    pub(super) duplicates: u32,
    /// Answers that came after the answer to a later probe.
    pub(super) reordered: u32,
    /// Shortest round trip, without the time the peer took to answer.
    pub(super) rtt_min: u64,
    /// Average round trip.
    pub(super) rtt_mean: u64,
    /// Median round trip.
    pub(super) rtt_p50: u64,
    /// Round trip that 99 % do not exceed.
    pub(super) rtt_p99: u64,
    /// Longest round trip.
    pub(super) rtt_max: u64,
    /// Smoothed difference between successive round trips. Source: RFC 3550, 6.4.1, with round trips for transit times.
    pub(super) jitter: u64,
    /// How far the peer's clock is ahead of ours, from the fastest round trip. Source: RFC 5905, 8.
    pub(super) skew: i64,
    /// Answers per second, from the first probe to the last answer.
    pub(super) rate: u32,
}

impl Summary {
    /// Probes without an answer, in percent of those sent; 100 if none was sent.
    pub(super) fn loss_percent(&self) -> f64 {
        if self.sent == 0 {
            return 100.0;
        }
        100.0 * f64::from(self.sent.saturating_sub(self.received)) / f64::from(self.sent)
    }
}

/// All that one node has measured of another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Row {
    /// Whether the peer appeared before the measurement began.
    pub(super) is_reached: bool,
    /// Probes to the peer alone.
    pub(super) unicast: Summary,
    /// Probes to the group; `None` if multicast was not measured.
    pub(super) multicast: Option<Summary>,
    /// The largest IP packet, in bytes, that passed unfragmented both ways; 0 if unknown.
    pub(super) mtu: u32,
}

/// The four times of one probe. Those of the peer are by its clock. All in nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    /// It left us.
    pub(super) sent: u64,
    /// It reached the peer.
    pub(super) received: u64,
    /// The answer left the peer.
    pub(super) answered: u64,
    /// The answer reached us.
    pub(super) returned: u64,
}

impl Times {
    /// Time on the way, both ways together, in nanoseconds.
    fn rtt(self) -> u64 {
        let total = self.returned.saturating_sub(self.sent);
        total.saturating_sub(self.answered.saturating_sub(self.received))
    }

    /// How far the peer's clock is ahead, if both ways take equally long, in nanoseconds.
    fn skew(self) -> i64 {
        let there = i128::from(self.received) - i128::from(self.sent);
        let back = i128::from(self.answered) - i128::from(self.returned);
        i64::try_from(i128::midpoint(there, back)).unwrap_or(i64::MAX)
    }
}

/// Samples of one direction of one pair.
#[derive(Debug)]
pub(super) struct Samples {
    sent: u32,
    received: u32,
    duplicates: u32,
    reordered: u32,
    /// One bit for each probe that was answered.
    answered: Vec<u64>,
    highest: Option<u32>,
    rtts: Histogram<u64>,
    /// Jitter and the last round trip, in nanoseconds.
    jitter: f64,
    last_rtt: Option<u64>,
    /// The fastest round trip, and the skew it tells.
    best: Option<(u64, i64)>,
    first_sent: Option<Duration>,
    last_returned: Duration,
}

impl Samples {
    /// No samples yet, of up to `count` probes.
    pub(super) fn new(count: u32) -> Self {
        let words = usize::try_from(count.div_ceil(64)).expect("a count of probes fits into memory");
        Self {
            sent: 0,
            received: 0,
            duplicates: 0,
            reordered: 0,
            answered: vec![0; words],
            highest: None,
            rtts: Histogram::new_with_bounds(1, RTT_MAX, 3).expect("bounds and digits are within the limits"),
            jitter: 0.0,
            last_rtt: None,
            best: None,
            first_sent: None,
            last_returned: Duration::ZERO,
        }
    }

    /// A probe was sent.
    pub(super) fn sent(&mut self, now: Duration) {
        self.sent += 1;
        self.first_sent.get_or_insert(now);
    }

    /// An answer came. False if no such probe was sent.
    pub(super) fn returned(&mut self, seq: u32, times: Times) -> bool {
        if seq >= self.sent {
            return false;
        }
        let (word, bit) = (seq as usize / 64, 1 << (seq % 64));
        if self.answered[word] & bit != 0 {
            self.duplicates += 1;
            return true;
        }
        self.answered[word] |= bit;
        self.received += 1;
        if self.highest.is_some_and(|highest| seq < highest) {
            self.reordered += 1;
        }
        self.highest = self.highest.max(Some(seq));
        self.last_returned = Duration::from_nanos(times.returned);
        self.time(times);
        true
    }

    fn time(&mut self, times: Times) {
        let rtt = times.rtt();
        self.rtts.saturating_record(rtt.max(1));
        if let Some(last) = self.last_rtt.replace(rtt) {
            #[expect(clippy::cast_precision_loss, reason = "a minute in nanoseconds is far below 2^52")]
            let difference = rtt.abs_diff(last).min(RTT_MAX) as f64;
            self.jitter += (difference - self.jitter) / 16.0;
        }
        if self.best.is_none_or(|(best, _)| rtt < best) {
            self.best = Some((rtt, times.skew()));
        }
    }

    /// Whether anything came back.
    pub(super) fn is_answered(&self) -> bool {
        self.received > 0
    }

    /// The summary of what was measured so far.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "averages of times up to a minute, and rates of at most a few thousand"
    )]
    pub(super) fn summary(&self) -> Summary {
        let known = |value: u64| if self.received == 0 { 0 } else { value };
        let first = self.first_sent.unwrap_or_default();
        let seconds = self.last_returned.saturating_sub(first).as_secs_f64();
        let rate = if seconds > 0.0 { f64::from(self.received) / seconds } else { 0.0 };
        Summary {
            sent: self.sent,
            received: self.received,
            duplicates: self.duplicates,
            reordered: self.reordered,
            rtt_min: known(self.rtts.min()),
            rtt_mean: known(self.rtts.mean() as u64),
            rtt_p50: known(self.rtts.value_at_quantile(0.5)),
            rtt_p99: known(self.rtts.value_at_quantile(0.99)),
            rtt_max: known(self.rtts.max()),
            jitter: self.jitter as u64,
            skew: self.best.map_or(0, |(_, skew)| skew),
            rate: rate.round() as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// A probe that left at `sent` ms and took `there` and `back` ms, to a peer that is `ahead` ms.
    fn times(sent: u64, there: u64, back: u64, ahead: u64) -> Times {
        let received = sent + there + ahead;
        Times {
            sent: sent * MS,
            received: received * MS,
            answered: (received + 5) * MS,
            returned: (sent + there + 5 + back) * MS,
        }
    }

    fn samples(sent: u32) -> Samples {
        let mut samples = Samples::new(100);
        (0..sent).for_each(|_| samples.sent(Duration::from_millis(1000)));
        samples
    }

    #[test]
    fn the_time_a_peer_takes_is_no_latency_and_its_clock_is_seen() {
        let mut samples = samples(1);
        assert!(samples.returned(0, times(1000, 1, 1, 40)));
        let summary = samples.summary();
        assert!(summary.rtt_p50.abs_diff(2 * MS) < MS / 100, "{summary:?}");
        assert_eq!(summary.skew, 40_000_000);
    }

    #[test]
    fn the_skew_is_that_of_the_fastest_round_trip() {
        let mut samples = samples(2);
        samples.returned(0, times(1000, 9, 1, 0));
        samples.returned(1, times(1010, 1, 1, 0));
        assert_eq!(samples.summary().skew, 0);
    }

    #[test]
    fn lost_duplicate_and_late_answers_are_counted_apart() {
        let mut samples = samples(4);
        for seq in [0, 2, 1, 1] {
            assert!(samples.returned(seq, times(1000, 1, 1, 0)));
        }
        let summary = samples.summary();
        assert_eq!((summary.sent, summary.received, summary.duplicates, summary.reordered), (4, 3, 1, 1));
        assert!((summary.loss_percent() - 25.0).abs() < 1e-9);
    }

    #[test]
    fn an_answer_to_a_probe_that_was_never_sent_does_not_count() {
        let mut samples = samples(4);
        assert!(!samples.returned(4, times(1000, 1, 1, 0)));
        assert_eq!(samples.summary().received, 0);
    }

    #[test]
    fn steady_round_trips_have_no_jitter_and_changing_ones_do() {
        let mut steady = samples(2);
        steady.returned(0, times(1000, 1, 1, 0));
        steady.returned(1, times(1001, 1, 1, 0));
        assert_eq!(steady.summary().jitter, 0);
        let mut changing = samples(2);
        changing.returned(0, times(1000, 1, 1, 0));
        changing.returned(1, times(1001, 9, 9, 0));
        assert_eq!(changing.summary().jitter, MS);
    }

    #[test]
    fn without_answers_everything_is_lost_and_no_time_is_known() {
        let summary = samples(3).summary();
        assert!((summary.loss_percent() - 100.0).abs() < 1e-9);
        assert_eq!((summary.rtt_max, summary.rate), (0, 0));
    }
}
