//! Durations of served calls, by method and status code.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};
use tonic::Code;

use crate::status::code_name;

/// Bounds in seconds, as the semantic conventions want them.
const BOUNDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    method: &'static str,
    code: &'static str,
}

/// `rpc_server_call_duration_seconds{method, code}`.
#[derive(Debug, Clone)]
pub struct RpcMetrics {
    duration: Family<Labels, Histogram, fn() -> Histogram>,
}

impl RpcMetrics {
    /// Adds the histogram to a registry.
    pub fn register(registry: &mut Registry) -> Self {
        let duration: Family<Labels, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(BOUNDS));
        registry.register_with_unit(
            "rpc_server_call_duration",
            "Time from the headers of a call to its status, streams to their end; high values of unary calls mean a slow or overloaded daemon",
            Unit::Seconds,
            duration.clone(),
        );
        Self { duration }
    }

    /// Counts a call that has ended.
    pub fn observe(&self, method: &'static str, code: Code, duration: Duration) {
        let labels = Labels { method, code: code_name(code) };
        self.duration.get_or_create(&labels).observe(duration.as_secs_f64());
    }
}
