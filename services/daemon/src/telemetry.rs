//! Logs on stderr, and spans to an OpenTelemetry collector.
//!
//! | environment | effect | default |
//! |---|---|---|
//! | `QUORATE_LOG` | which log lines: `info`, `debug`, `info,membership_core=trace` ... | `info` |
//! | `QUORATE_LOG_FORMAT` | `text` or `json` | `text` |
//! | `OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` | export spans over gRPC to this address | no export |
//! | `OTEL_EXPORTER_OTLP_CERTIFICATE`, `OTEL_EXPORTER_OTLP_INSECURE` | whom to trust with TLS; no TLS without a scheme | the system's; TLS |
//! | `OTEL_TRACES_EXPORTER=none`, `OTEL_SDK_DISABLED=true` | no export | |
//! | `OTEL_TRACES_SAMPLER`, `OTEL_TRACES_SAMPLER_ARG` | which traces, unless a caller has decided | all |
//!
//! Without a collector the trace context of callers still travels on; only nothing is sampled here. What is
//! wrong with the settings of the export is a warning: nobody ends for it.

use std::{env, error::Error, fmt::Write as _, io::IsTerminal as _, sync::OnceLock, time::Duration};

use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracerProvider},
};
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{LevelFilter, filter_fn},
    layer::SubscriberExt as _,
    registry::LookupSpan,
    reload,
    util::SubscriberInitExt as _,
};

use crate::{export::Export, node::NodeConfig};

/// The longest that the last spans may take to be exported at the end.
const FLUSH: Duration = Duration::from_secs(3);

/// Crates whose spans and events are exported. Those of the RPC stack below would drown them, and the
/// exporter's own would feed back into it.
const EXPORTED: [&str; 8] =
    ["quorate", "membership", "quorum", "config_store", "configd", "gateway", "corosync_conf", "pvecm"];

/// Why logging and tracing could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `QUORATE_LOG` is no filter.
    #[error("QUORATE_LOG = '{value}' is no log filter")]
    Filter {
        /// Its value.
        value: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// `QUORATE_LOG_FORMAT` is neither `text` nor `json`.
    #[error("QUORATE_LOG_FORMAT = '{value}' is unknown; use text or json")]
    Format {
        /// Its value.
        value: String,
    },
}

/// What [`set_debug`] does, once logs are set up.
static SET_DEBUG: OnceLock<Box<dyn Fn(bool) + Send + Sync>> = OnceLock::new();

/// Logging and tracing of this process; ends with [`Telemetry::stop`].
#[must_use = "spans are lost unless `stop` is awaited"]
pub struct Telemetry {
    provider: SdkTracerProvider,
}

impl Telemetry {
    /// Sets up logs and spans for the whole process. Must be called inside a runtime, once.
    ///
    /// # Errors
    /// [`TelemetryError`] if a variable for the log makes no sense.
    pub fn start(service: &'static str, node: &NodeConfig) -> Result<Self, TelemetryError> {
        Self::start_with(service, Some(node), "info")
    }

    /// The same for a command that a person runs: it belongs to no node, and logs only what `QUORATE_LOG`
    /// asks for. Must be called inside a runtime, once.
    ///
    /// # Errors
    /// [`TelemetryError`] if a variable for the log makes no sense.
    pub fn start_command(command: &'static str) -> Result<Self, TelemetryError> {
        Self::start_with(command, None, "off")
    }

    fn start_with(
        service: &'static str,
        node: Option<&NodeConfig>,
        default_filter: &str,
    ) -> Result<Self, TelemetryError> {
        let (exporter, warnings) = Export::of(|name| env::var(name).ok()).exporter();
        crate::trace_context::set_exporting(exporter.is_some());
        let provider = tracer_provider(resource(service, node), exporter);
        tracing_subscriber::registry()
            .with(span_layer(&provider, service))
            .with(log_layer(adjustable(log_filter(default_filter)?))?)
            .init();
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        Ok(Self { provider })
    }

    /// Exports what is left and stops.
    pub async fn stop(self) {
        // The exporter needs this runtime's threads while `shutdown` blocks its own.
        let stopped = tokio::task::spawn_blocking(move || self.provider.shutdown_with_timeout(FLUSH)).await;
        if let Ok(Err(err)) = stopped {
            tracing::warn!(error = chain(&err), "the last spans may be lost");
        }
    }
}

fn tracer_provider(resource: Resource, exporter: Option<SpanExporter>) -> SdkTracerProvider {
    let builder = SdkTracerProvider::builder().with_resource(resource);
    match exporter {
        Some(exporter) => builder.with_batch_exporter(exporter).build(),
        None => builder.with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOff))).build(),
    }
}

fn resource(service: &'static str, node: Option<&NodeConfig>) -> Resource {
    let of_node = node.map(|node| {
        [
            KeyValue::new("service.instance.id", format!("{}/{service}", node.name)),
            KeyValue::new("node.name", node.name.to_string()),
        ]
    });
    let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Resource::builder()
        .with_service_name(service)
        .with_attributes([
            KeyValue::new("service.namespace", "quorate"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("host.name", host),
        ])
        .with_attributes(of_node.into_iter().flatten())
        .build()
}

/// Makes OpenTelemetry spans of the spans of this project's crates.
pub(crate) fn span_layer<S>(provider: &SdkTracerProvider, service: &'static str) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    tracing_opentelemetry::layer()
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_context_activation(false)
        .with_tracer(provider.tracer(service))
        .with_filter(filter_fn(is_exported))
        .with_filter(LevelFilter::INFO)
}

fn is_exported(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::INFO && EXPORTED.iter().any(|name| metadata.target().starts_with(name))
}

fn log_filter(default: &str) -> Result<EnvFilter, TelemetryError> {
    let value = env::var("QUORATE_LOG").unwrap_or_default();
    let value = if value.is_empty() { default.to_owned() } else { value };
    EnvFilter::try_new(&value).map_err(|source| TelemetryError::Filter { value, source })
}

/// Switches debug messages of this project's crates on, or back to what the process was started with. Without effect
/// before [`Telemetry::start`].
pub fn set_debug(on: bool) {
    if let Some(set) = SET_DEBUG.get() {
        set(on);
    }
}

/// A filter that [`set_debug`] can change later.
fn adjustable<S: 'static>(filter: EnvFilter) -> reload::Layer<EnvFilter, S> {
    let usual = filter.clone();
    let (filter, handle) = reload::Layer::new(filter);
    let set = move |on: bool| {
        let wanted = if on { with_debug(&usual) } else { usual.clone() };
        // Fails only when the subscriber is gone, and the process ends.
        let _ = handle.reload(wanted);
    };
    let _ = SET_DEBUG.set(Box::new(set));
    filter
}

fn with_debug(usual: &EnvFilter) -> EnvFilter {
    let directives = EXPORTED.iter().filter_map(|name| format!("{name}=debug").parse().ok());
    directives.fold(usual.clone(), EnvFilter::add_directive)
}

fn log_layer<S>(
    filter: reload::Layer<EnvFilter, S>,
) -> Result<Box<dyn Layer<S> + Send + Sync>, TelemetryError>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match env::var("QUORATE_LOG_FORMAT").as_deref().unwrap_or("text") {
        "" | "text" => Ok(layer.with_ansi(std::io::stderr().is_terminal()).with_filter(filter).boxed()),
        "json" => Ok(layer.json().with_filter(filter).boxed()),
        other => Err(TelemetryError::Format { value: other.to_owned() }),
    }
}

/// An error with all its causes on one line: `cannot read x: permission denied`.
#[must_use]
pub fn chain(err: &dyn Error) -> String {
    let mut text = err.to_string();
    let mut cause = err.source();
    while let Some(source) = cause {
        let _ = write!(text, ": {source}");
        cause = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the store")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn a_chain_has_every_cause_once() {
        let err = Outer(std::io::Error::other("disk full"));

        assert_eq!(chain(&err), "cannot open the store: disk full");
    }

    #[test]
    fn the_resource_names_daemon_and_node() {
        let resource = resource("quorumd", Some(&NodeConfig::named("hp1".parse().unwrap())));

        for (key, value) in [
            ("service.name", "quorumd"),
            ("service.namespace", "quorate"),
            ("service.instance.id", "hp1/quorumd"),
            ("node.name", "hp1"),
        ] {
            assert_eq!(resource.get(&key.into()).map(|v| v.to_string()), Some(value.to_owned()), "{key}");
        }
    }
}
