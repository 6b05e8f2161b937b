//! The life of one call: begins with its headers, ends with its status, is cancelled when dropped.

use std::time::{Duration, Instant};

use http::HeaderMap;
use opentelemetry::trace::Status as SpanStatus;
use tonic::{Code, Status};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::{metrics::RpcMetrics, names};
use crate::status::code_name;

/// Which end of the call this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// This daemon serves it.
    Server,
    /// This daemon makes it.
    Client,
}

/// A call that has not ended yet.
///
/// Dropped before [`Call::finish`], it counts as cancelled, or as DEADLINE_EXCEEDED if the caller's
/// deadline has passed.
pub(super) struct Call {
    span: Span,
    side: Side,
    method: &'static str,
    started: Instant,
    timeout: Option<Duration>,
    metrics: Option<RpcMetrics>,
    finished: bool,
}

impl Call {
    /// A served call; `span` is not yet entered.
    pub(super) fn served(method: &'static str, span: Span, headers: &HeaderMap, metrics: RpcMetrics) -> Self {
        Self::new(Side::Server, method, span, headers, Some(metrics))
    }

    /// A call that this process makes.
    pub(super) fn made(method: &'static str, span: Span, headers: &HeaderMap) -> Self {
        Self::new(Side::Client, method, span, headers, None)
    }

    fn new(
        side: Side,
        method: &'static str,
        span: Span,
        headers: &HeaderMap,
        metrics: Option<RpcMetrics>,
    ) -> Self {
        span.set_attribute(names::SYSTEM, "grpc");
        span.set_attribute(names::METHOD, method);
        let timeout = headers.get("grpc-timeout").and_then(|value| parse_timeout(value.to_str().ok()?));
        Self { span, side, method, started: Instant::now(), timeout, metrics, finished: false }
    }

    /// The call's span.
    pub(super) fn span(&self) -> &Span {
        &self.span
    }

    /// Ends the call with the status that these headers or trailers carry; `false` if they carry none.
    pub(super) fn finish_from(&mut self, headers: &HeaderMap) -> bool {
        match Status::from_header_map(headers) {
            Some(status) => {
                self.finish(status.code(), status.message());
                true
            }
            None => false,
        }
    }

    /// Ends the call. Only the first status counts.
    pub(super) fn finish(&mut self, code: Code, message: &str) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        let name = code_name(code);
        self.span.set_attribute(names::STATUS_CODE, name);
        if self.is_error(code) {
            self.span.set_attribute(names::ERROR_TYPE, name);
            self.span.set_status(SpanStatus::error(message.to_owned()));
        }
        if let Some(metrics) = &self.metrics {
            metrics.observe(self.method, code, self.started.elapsed());
        }
    }

    /// Whether a code marks the span as failed. To a server only what is its own fault.
    ///
    /// Source: semantic conventions, grpc.md, "gRPC status".
    fn is_error(&self, code: Code) -> bool {
        match self.side {
            Side::Client => code != Code::Ok,
            Side::Server => matches!(
                code,
                Code::Unknown
                    | Code::DeadlineExceeded
                    | Code::Unimplemented
                    | Code::Internal
                    | Code::Unavailable
                    | Code::DataLoss
            ),
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let late = self.timeout.is_some_and(|timeout| self.started.elapsed() + TIMER_SLACK >= timeout);
        let code = if late { Code::DeadlineExceeded } else { Code::Cancelled };
        self.finish(code, "the call was dropped before it ended");
    }
}

/// How much earlier than this clock says a timer may fire: the granularity of tokio's timers.
const TIMER_SLACK: Duration = Duration::from_millis(2);

/// Reads a `grpc-timeout`: at most eight digits and a unit.
///
/// Source: gRPC over HTTP/2, "Timeout".
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(value * 3600)),
        "M" => Some(Duration::from_secs(value * 60)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn timeouts_are_read_in_all_units() {
        assert_eq!(parse_timeout("2S"), Some(Duration::from_secs(2)));
        assert_eq!(parse_timeout("150m"), Some(Duration::from_millis(150)));
        assert_eq!(parse_timeout("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(parse_timeout("123456789m"), None);
        assert_eq!(parse_timeout("5"), None);
        assert_eq!(parse_timeout(""), None);
    }

    proptest! {
        #[test]
        fn arbitrary_timeouts_never_panic(text in "\\PC{0,12}") {
            let _ = parse_timeout(&text);
        }
    }
}
