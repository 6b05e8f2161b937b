//! The numbers that dashboards show and alerts watch.

use std::time::Duration;

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// Upper bounds of the durations of a start, in seconds.
const START: [f64; 8] = [0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];

/// Metrics of guestd, prefix `guest_`.
#[derive(Debug)]
pub(crate) struct GuestMetrics {
    /// Guests with a process.
    pub(crate) running: Gauge,
    /// Processes that ended unasked.
    pub(crate) failures: Counter,
    start: Histogram,
}

impl GuestMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics =
            Self { running: Gauge::default(), failures: Counter::default(), start: Histogram::new(START) };
        let registry = registry.sub_registry_with_prefix("guest");
        registry.register("running", "Guests that have a process on this node", metrics.running.clone());
        let failures = "Guests' processes that ended unasked; any is worth a look at the cluster log";
        registry.register("failures", failures, metrics.failures.clone());
        let start = "From the call to start a guest until it runs";
        registry.register("start_duration_seconds", start, metrics.start.clone());
        metrics
    }

    /// A guest was started.
    pub(crate) fn started(&self, took: Duration) {
        self.start.observe(took.as_secs_f64());
    }
}
