//! The ring's numbers for Prometheus.
//!
//! The ring publishes a snapshot about once a second; a scrape reads the last one and never asks the ring.

use std::{borrow::Cow, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};
use quorate_daemon::Metrics;
use tokio::sync::watch;

use crate::{
    handle::RingHandle,
    view::{LinkView, RingSnapshot},
};

/// Adds the ring's metrics to the daemon's registry.
pub(crate) fn register(metrics: &Metrics, ring: &RingHandle) {
    let snapshots = ring.published();
    metrics.register(|registry| registry.register_collector(Box::new(RingCollector { snapshots })));
}

#[derive(Debug)]
struct RingCollector {
    snapshots: watch::Receiver<Option<Arc<RingSnapshot>>>,
}

type Encoded = Result<(), std::fmt::Error>;

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    value: f64,
) -> Encoded {
    let gauge = ConstGauge::new(value);
    gauge.encode(encoder.encode_descriptor(name, help, unit, gauge.metric_type())?)
}

/// A family of counters with one label.
fn counters<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &str,
    values: impl Iterator<Item = (Cow<'a, str>, u64)>,
) -> Encoded {
    let kind = ConstCounter::new(0_u64).metric_type();
    let mut family = encoder.encode_descriptor(name, help, None, kind)?;
    for (value, count) in values {
        ConstCounter::new(count).encode(family.encode_family(&[(label, value.as_ref())])?)?;
    }
    Ok(())
}

impl Collector for RingCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Encoded {
        let Some(snapshot) = self.snapshots.borrow().clone() else { return Ok(()) };
        let encoder = &mut encoder;
        let view = &snapshot.view;
        let flag = |on: bool| if on { 1.0 } else { 0.0 };
        gauge(
            encoder,
            "membership_ring_up",
            "1 while this node has a ring; 0 means it is in no cluster or has left",
            None,
            flag(view.up),
        )?;
        gauge(
            encoder,
            "membership_ring_members",
            "Members of the present ring; fewer than configured means nodes are missing",
            None,
            view.members.len() as f64,
        )?;
        gauge(
            encoder,
            "membership_ring_synchronised",
            "1 once the synchronisation after the last configuration is complete; a lasting 0 means a member does not answer",
            None,
            flag(view.synchronised),
        )?;
        gauge(
            encoder,
            "membership_ring_sequence",
            "Sequence of the ring id; fast growth means the ring is unstable",
            None,
            view.ring.seq as f64,
        )?;
        let Some(up) = &snapshot.up else { return Ok(()) };
        gauge(
            encoder,
            "membership_ring_feature_level",
            "Lowest feature level of the members; 0 means that one of them runs corosync, or that they are not yet synchronised",
            None,
            up.feature_level.into(),
        )?;
        gauge(
            encoder,
            "membership_detection_worst_case",
            "Longest time to notice the silent death of a member and install the next ring; a high value means that a member does not agree to the fast timers",
            Some(&Unit::Seconds),
            up.detection_worst_case.as_secs_f64(),
        )?;
        gauge(
            encoder,
            "membership_token_timeout",
            "Time without a token after which the ring is formed anew",
            Some(&Unit::Seconds),
            up.token_timeout.as_secs_f64(),
        )?;
        gauge(
            encoder,
            "membership_token_rotation_max",
            "Longest time between two tokens of one ring; near the token timeout means a slow node or network",
            Some(&Unit::Seconds),
            up.token_rotation_max.as_secs_f64(),
        )?;
        gauge(
            encoder,
            "membership_backlog",
            "Messages that wait at all members together; a lasting high value means more is sent than the ring takes",
            None,
            up.backlog.into(),
        )?;
        counters(
            encoder,
            "membership_protocol_events",
            "Events of the Totem protocol by corosync's names; growing mcast_retx means packet loss",
            "event",
            up.counters.iter().map(|(name, &count)| (Cow::from(name), count)),
        )?;
        counters(
            encoder,
            "membership_packets_dropped",
            "Packets that were dropped, by reason; malformed ones mean a stranger or a fault on the network",
            "reason",
            up.dropped.iter().map(|(name, &count)| (Cow::from(name), count)),
        )?;
        links(encoder, &up.links)
    }
}

/// A counter of a link: name, help, value.
type LinkCounter = (&'static str, &'static str, fn(&LinkView) -> u64);
/// A gauge of a link: name, help, unit, value where the transport has one.
type LinkGauge = (&'static str, &'static str, Option<&'static Unit>, fn(&LinkView) -> Option<f64>);

fn links(encoder: &mut DescriptorEncoder<'_>, links: &[LinkView]) -> Encoded {
    let counters: [LinkCounter; 5] = [
        ("membership_link_tx_packets", "Packets sent to a node", |link| link.counters.tx_packets),
        ("membership_link_rx_packets", "Packets received from a node", |link| link.counters.rx_packets),
        ("membership_link_tx_bytes", "Bytes sent to a node", |link| link.counters.tx_bytes),
        ("membership_link_rx_bytes", "Bytes received from a node", |link| link.counters.rx_bytes),
        (
            "membership_link_tx_errors",
            "Sends that the operating system refused; growth means a full buffer or no route",
            |link| link.counters.tx_errors,
        ),
    ];
    for (name, help, pick) in counters {
        let mut family =
            encoder.encode_descriptor(name, help, None, ConstCounter::new(0_u64).metric_type())?;
        for link in links {
            ConstCounter::new(pick(link)).encode(family.encode_family(&labels(link))?)?;
        }
    }
    let gauges: [LinkGauge; 7] = [
        (
            "membership_link_connected",
            "1 while the link to a node is up; 0 for longer than a moment means a broken cable, switch or node",
            None,
            |link| Some(if link.connected { 1.0 } else { 0.0 }),
        ),
        (
            "membership_link_latency",
            "Time from a ping to its answer, average of the last ones (knet); above 2 ms a ring is not comfortable",
            Some(&Unit::Seconds),
            |link| link.pings.map(|pings| pings.latency.as_secs_f64()),
        ),
        (
            "membership_link_jitter",
            "Mean difference between the times of two answers to pings in a row (knet); far above the latency means a busy path",
            Some(&Unit::Seconds),
            |link| link.pings.map(|pings| pings.jitter.as_secs_f64()),
        ),
        ("membership_link_pings", "Pings sent to a node (knet)", None, |link| {
            link.pings.map(|pings| pings.sent as f64)
        }),
        (
            "membership_link_pongs",
            "Answers to pings from a node (knet); growing more slowly than the pings means loss on the way there or back",
            None,
            |link| link.pings.map(|pings| pings.answered as f64),
        ),
        (
            "membership_link_mtu",
            "Largest packet that the path to a node carries, with its IP header (knet)",
            Some(&Unit::Bytes),
            |link| link.pings.map(|pings| pings.mtu.into()),
        ),
        (
            "membership_link_downs",
            "Times that the link to a node went down (knet); growth means an unstable network",
            None,
            |link| link.pings.map(|pings| pings.downs as f64),
        ),
    ];
    for (name, help, unit, pick) in gauges {
        let mut family =
            encoder.encode_descriptor(name, help, unit, ConstGauge::new(0.0_f64).metric_type())?;
        for (link, value) in links.iter().filter_map(|link| Some((link, pick(link)?))) {
            ConstGauge::new(value).encode(family.encode_family(&labels(link))?)?;
        }
    }
    Ok(())
}

fn labels(link: &LinkView) -> [(&'static str, String); 2] {
    [("peer", link.node.to_string()), ("link", link.link.to_string())]
}
