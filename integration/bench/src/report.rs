//! One line per measurement.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Longest latency that is told apart, in microseconds.
const LATENCY_MAX: u64 = 60_000_000;

/// Latencies of one kind of call.
#[derive(Debug)]
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(crate) fn new() -> Self {
        Self(Histogram::new_with_max(LATENCY_MAX, 3).expect("the bounds are valid"))
    }

    pub(crate) fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(LATENCY_MAX));
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all histograms have the same bounds");
    }

    /// Prints what was measured in `took`.
    pub(crate) fn print(&self, what: &str, took: Duration) {
        let rate = self.0.len() as f64 / took.as_secs_f64();
        let at = |quantile| self.0.value_at_quantile(quantile);
        println!(
            "{what}: {} in {:.2} s, {rate:.0}/s; p50 {} us, p99 {} us, max {} us",
            self.0.len(),
            took.as_secs_f64(),
            at(0.5),
            at(0.99),
            self.0.max()
        );
    }
}
