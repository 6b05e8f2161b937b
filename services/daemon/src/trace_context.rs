//! The trace context of the current span as text: what travels in gRPC metadata and inside each
//! replicated message.
//!
//! A message that is ordered by the ring is applied on every node, long after the call that sent it.
//! Its apply span either becomes a child of the sender's span ([`set_remote_parent`]: one message, no
//! other parent) or links to it ([`link`]: batches).
//!
//! Source: W3C Trace Context 1, section 3.2: `00-<32 hex>-<16 hex>-<2 hex>`, 55 bytes.

use std::sync::atomic::{AtomicBool, Ordering};

use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Name of the metadata entry.
pub const TRACEPARENT: &str = "traceparent";

/// Length of a traceparent of version 00 in bytes.
pub const TRACEPARENT_LEN: usize = 55;

/// Whether this process exports spans: only then is its decision not to sample worth passing on.
static EXPORTING: AtomicBool = AtomicBool::new(false);

pub(crate) fn set_exporting(exporting: bool) {
    EXPORTING.store(exporting, Ordering::Relaxed);
}

/// The traceparent of the current span.
///
/// `None` outside of a trace, and in a process that exports nothing and is not part of a sampled trace:
/// whoever is called then decides for itself.
#[must_use]
pub fn current() -> Option<String> {
    of(&Span::current())
}

/// The traceparent of a span, see [`current`].
#[must_use]
pub fn of(span: &Span) -> Option<String> {
    let context = span.context();
    let context = context.span().span_context().clone();
    let wanted = context.is_sampled() || EXPORTING.load(Ordering::Relaxed);
    (context.is_valid() && wanted).then(|| format(&context))
}

fn format(context: &SpanContext) -> String {
    let flags = context.trace_flags() & TraceFlags::SAMPLED;
    format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), flags)
}

/// Reads a traceparent. Later versions are read as far as version 00 goes, as the specification wants.
#[must_use]
pub fn parse(traceparent: &str) -> Option<SpanContext> {
    let bytes = traceparent.as_bytes();
    if bytes.len() < TRACEPARENT_LEN || !bytes[..TRACEPARENT_LEN].is_ascii() {
        return None;
    }
    let (head, rest) = traceparent.split_at(TRACEPARENT_LEN);
    let mut fields = head.split('-');
    let (version, trace_id, span_id, flags) =
        (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let lengths_fit = [version.len(), trace_id.len(), span_id.len(), flags.len()] == [2, 32, 16, 2];
    let is_hex = |field: &str| field.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if !lengths_fit || ![version, trace_id, span_id, flags].into_iter().all(is_hex) || version == "ff" {
        return None;
    }
    let rest_fits = if version == "00" { rest.is_empty() } else { rest.is_empty() || rest.starts_with('-') };
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    let trace_id = TraceId::from_hex(trace_id).ok()?;
    let span_id = SpanId::from_hex(span_id).ok()?;
    let context = SpanContext::new(trace_id, span_id, flags, true, TraceState::NONE);
    (rest_fits && context.is_valid()).then_some(context)
}

/// Makes a span that was not yet entered the child of a span in another process. Text that is no
/// traceparent is ignored: a trace is never worth a failed call.
pub fn set_remote_parent(span: &Span, traceparent: &str) {
    let Some(parent) = parse(traceparent) else { return };
    if let Err(err) = span.set_parent(Context::new().with_remote_span_context(parent)) {
        tracing::trace!(%err, "span keeps its parent");
    }
}

/// Links a span to one in another process: for batches, which have many origins. Text that is no
/// traceparent is ignored.
pub fn link(span: &Span, traceparent: &str) {
    if let Some(origin) = parse(traceparent) {
        span.add_link(origin);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rpc::tests::recorder;

    const SAMPLE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_survives_the_round_trip() {
        let context = parse(SAMPLE).unwrap();

        assert!(context.is_remote() && context.is_sampled());
        assert_eq!(format(&context), SAMPLE);
    }

    #[test]
    fn the_current_span_carries_the_remote_trace_on() {
        let recorder = recorder();
        let _default = tracing::subscriber::set_default(recorder.subscriber());

        let span = tracing::info_span!("apply");
        set_remote_parent(&span, SAMPLE);
        let carried = span.in_scope(current).unwrap();

        assert_eq!(carried.len(), TRACEPARENT_LEN);
        assert_eq!(carried[..36], SAMPLE[..36], "same trace");
        assert_ne!(carried[36..52], SAMPLE[36..52], "another span");
    }

    #[test]
    fn outside_of_a_trace_there_is_no_traceparent() {
        assert_eq!(current(), None);
    }

    #[test]
    fn a_link_names_the_origin() {
        let recorder = recorder();
        let _default = tracing::subscriber::set_default(recorder.subscriber());

        let span = tracing::info_span!("batch");
        link(&span, SAMPLE);
        link(&span, "nonsense");
        drop(span);

        let batch = recorder.span("batch");
        assert_eq!(batch.links.links.len(), 1);
        assert_eq!(format(&batch.links.links[0].span_context), SAMPLE);
    }

    #[test]
    fn what_is_no_traceparent_is_refused() {
        for bad in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "000af7651916cd43dd8448eb211c80319c-b7ad6b71692033310-01x",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_later_version_with_more_fields_is_read() {
        assert!(parse("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more").is_some());
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,80}") {
            let _ = parse(&text);
        }

        #[test]
        fn every_valid_context_survives(trace in 1u128.., span in 1u64.., sampled: bool) {
            let text = format!("00-{trace:032x}-{span:016x}-{:02x}", u8::from(sampled));
            prop_assert_eq!(format(&parse(&text).unwrap()), text);
        }
    }
}
