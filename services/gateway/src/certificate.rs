//! How long this node's certificate is good, as a metric.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::gauge::ConstGauge,
    registry::Unit,
};
use quorate_daemon::Metrics;
use tokio::sync::watch;

use crate::identity::Identity;

/// Adds `gateway_certificate_expiry_seconds` to the daemon's registry; it follows every new certificate.
pub fn register(metrics: &Metrics, identity: watch::Receiver<Arc<Identity>>) {
    metrics.register(|registry| registry.register_collector(Box::new(Expiry(identity))));
}

struct Expiry(watch::Receiver<Arc<Identity>>);

impl std::fmt::Debug for Expiry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Expiry")
    }
}

impl Collector for Expiry {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let gauge = ConstGauge::new(unix_seconds(self.0.borrow().facts.not_after));
        let kind = gauge.metric_type();
        gauge.encode(encoder.encode_descriptor(
            "gateway_certificate_expiry",
            "When this node's certificate ends, in Unix seconds; gatewayd renews it 30 days before, so that less means trouble",
            Some(&Unit::Seconds),
            kind,
        )?)
    }
}

fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ca::Subject, identity::IdentityStore};

    #[test]
    fn the_metric_says_when_the_certificate_ends() {
        let directory = tempfile::tempdir().unwrap();
        let subject = Subject { name: "n1".parse().unwrap(), addresses: Vec::new() };
        let store = IdentityStore::open(directory.path().to_owned(), &subject, SystemTime::now()).unwrap();
        let metrics = Metrics::new();
        register(&metrics, store.subscribe());
        let expected = unix_seconds(store.current().facts.not_after);
        let page = metrics.encode();
        let value = page.lines().find_map(|line| line.strip_prefix("gateway_certificate_expiry_seconds "));
        assert_eq!(value.unwrap().parse::<f64>().unwrap(), expected, "{page}");
    }
}
