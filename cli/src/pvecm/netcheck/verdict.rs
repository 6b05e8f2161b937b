//! Whether a network is good enough, and for how many nodes.

use std::time::Duration;

use serde::Serialize;

use super::summary::Summary;

/// Work of one node while it has the token, in milliseconds: 17 messages (`max_messages`) of one frame each, sent and
/// delivered. An assumption, and a careful one.
const PROCESSING_MS: f64 = 1.0;
/// Interval after which a token is sent again, in milliseconds: 3000 / 4.2, corosync's defaults for two nodes.
const TOKEN_RETRANSMIT_MS: f64 = 714.0;
/// The part of that interval which a rotation may take.
const SHARE: f64 = 0.5;
/// The most nodes that the protocol allows. Source: corosync totemsrp.h, PROCESSOR_COUNT_MAX.
const NODES_MAX: u32 = 384;

/// What a way must keep to.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Limits {
    /// Loss must be less than this, in percent.
    pub(super) loss_percent: f64,
    /// Average and 99th percentile of the round trip must be less than this, in milliseconds.
    pub(super) rtt_ms: f64,
}

/// Whether the limits are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// They are.
    Pass,
    /// They are not.
    Fail,
}

impl Verdict {
    /// The verdict over several parts.
    pub(super) fn of(passes: bool) -> Self {
        if passes { Self::Pass } else { Self::Fail }
    }

    /// The word that is printed.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
        }
    }
}

impl Limits {
    /// What one way does not keep to: one text each, with numbers.
    pub(super) fn broken_by(self, way: &Summary) -> Vec<String> {
        let Self { loss_percent, rtt_ms } = self;
        let mut reasons = Vec::new();
        let loss = way.loss_percent();
        if loss >= loss_percent {
            let lost = way.sent.saturating_sub(way.received);
            reasons.push(format!("loss {loss:.2} % ({lost} of {}), limit {loss_percent} %", way.sent));
        }
        for (what, time) in [("average", way.rtt_mean), ("99th percentile", way.rtt_p99)] {
            let time = milliseconds(time);
            if way.received > 0 && time >= rtt_ms {
                reasons.push(format!("{what} of the round trip {time:.3} ms, limit {rtt_ms} ms"));
            }
        }
        reasons
    }
}

/// Nanoseconds in milliseconds.
pub(super) fn milliseconds(nanoseconds: u64) -> f64 {
    Duration::from_nanos(nanoseconds).as_secs_f64() * 1000.0
}

/// How many nodes a network carries, from the rotation of the token alone.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Capacity {
    /// Nodes whose rotation takes at most [`Capacity::rotation_max_ms`]; at most what the protocol allows.
    pub(super) nodes: u32,
    /// From one node to the next: latency of one way, processing, and the loss of a token now and then.
    pub(super) hop_ms: f64,
    /// Longest one-way latency: half of the worst 99th percentile.
    pub(super) latency_ms: f64,
    /// Assumed work of each node.
    pub(super) processing_ms: f64,
    /// Probability that a token is lost on a hop, from half of the worst loss, in percent.
    pub(super) token_loss_percent: f64,
    /// The longest rotation: half of the time after which a token is sent again.
    pub(super) rotation_max_ms: f64,
}

impl Capacity {
    /// From the worst ways between any two nodes.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a number of nodes between 0 and the limit of the protocol"
    )]
    pub(super) fn of<'a>(ways: impl Iterator<Item = &'a Summary> + Clone) -> Option<Self> {
        let latency_ms = ways.clone().map(|way| milliseconds(way.rtt_p99) / 2.0).reduce(f64::max)?;
        let token_loss_percent = ways.map(|way| way.loss_percent() / 2.0).reduce(f64::max)?;
        let hop_ms = latency_ms + PROCESSING_MS + token_loss_percent / 100.0 * TOKEN_RETRANSMIT_MS;
        let rotation_max_ms = TOKEN_RETRANSMIT_MS * SHARE;
        let nodes = (rotation_max_ms / hop_ms).floor().min(f64::from(NODES_MAX)) as u32;
        Some(Self {
            nodes,
            hop_ms,
            latency_ms,
            processing_ms: PROCESSING_MS,
            token_loss_percent,
            rotation_max_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { loss_percent: 1.0, rtt_ms: 2.0 };

    fn way(received: u32, mean_us: u64, p99_us: u64) -> Summary {
        let (rtt_mean, rtt_p99) = (mean_us * 1000, p99_us * 1000);
        Summary { sent: 1000, received, rtt_mean, rtt_p99, ..Summary::default() }
    }

    #[test]
    fn a_way_below_both_limits_passes_and_one_at_a_limit_does_not() {
        assert_eq!(LIMITS.broken_by(&way(991, 1999, 1999)), Vec::<String>::new());
        assert_eq!(LIMITS.broken_by(&way(990, 100, 200)), ["loss 1.00 % (10 of 1000), limit 1 %"]);
        assert_eq!(
            LIMITS.broken_by(&way(1000, 100, 2000)),
            ["99th percentile of the round trip 2.000 ms, limit 2 ms"]
        );
        assert_eq!(LIMITS.broken_by(&way(0, 0, 0)).len(), 1);
    }

    #[test]
    fn latency_and_loss_take_away_nodes() {
        let nodes = |way: Summary| Capacity::of([way].iter()).unwrap().nodes;
        assert_eq!(nodes(way(1000, 100, 200)), 324);
        assert_eq!(nodes(way(1000, 100, 20_000)), 32);
        assert!(nodes(way(990, 100, 200)) < 100);
        assert!(Capacity::of([].iter()).is_none());
    }
}
