//! One registry of Prometheus metrics per daemon.

use std::sync::{Arc, PoisonError, RwLock};

use prometheus_client::{encoding::text, registry::Registry};

use crate::rpc::metrics::RpcMetrics;

/// Content type of the text that [`Metrics::encode`] makes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The metrics of one daemon: a registry, and the metrics of its gRPC server that are always there.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<RwLock<Registry>>,
    rpc: RpcMetrics,
}

impl Metrics {
    /// A registry with the metrics of the gRPC server.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let rpc = RpcMetrics::register(&mut registry);
        Self { registry: Arc::new(RwLock::new(registry)), rpc }
    }

    /// Lets a daemon add its own metrics, before it starts to serve.
    pub fn register<T>(&self, register: impl FnOnce(&mut Registry) -> T) -> T {
        register(&mut self.registry.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// The metrics of the gRPC server.
    #[must_use]
    pub fn rpc(&self) -> &RpcMetrics {
        &self.rpc
    }

    /// All metrics as OpenMetrics text, see [`CONTENT_TYPE`].
    #[must_use]
    pub fn encode(&self) -> String {
        let registry = self.registry.read().unwrap_or_else(PoisonError::into_inner);
        let mut out = String::new();
        text::encode(&mut out, &registry).expect("writing to a string cannot fail");
        out
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::gauge::Gauge;

    use super::*;

    #[test]
    fn what_a_daemon_registers_is_in_the_text() {
        let metrics = Metrics::new();
        let gauge: Gauge = metrics.register(|registry| {
            let gauge = Gauge::default();
            registry.register("quorum_quorate", "1 if this node may act", gauge.clone());
            gauge
        });

        gauge.set(1);

        let text = metrics.encode();
        assert!(text.contains("quorum_quorate 1\n"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }
}
