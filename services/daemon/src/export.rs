//! Where spans are exported to, as OpenTelemetry's environment variables say.
//!
//! A mistake in them never stops anybody: it is told as a warning, and the process goes on without export.
//!
//! Sources: OpenTelemetry, "General SDK configuration" and "OTLP exporter configuration".

use std::fs;

use opentelemetry_otlp::{SpanExporter, WithTonicConfig as _};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use crate::telemetry::chain;

/// Whom the system trusts. Source: Debian's ca-certificates.
const SYSTEM_CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What the environment says about export. Built by [`Export::of`].
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Export {
    /// The collector; `None`: nothing is exported.
    collector: Option<Collector>,
    /// What was odd about the settings; to be logged once there is a log.
    warnings: Vec<String>,
}

/// A collector of spans.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Collector {
    /// Its URL, with a scheme.
    endpoint: String,
    /// A file with the certificates of the authorities to trust.
    certificate: String,
}

impl Export {
    /// Reads the settings. `variable` gives the value of an environment variable.
    pub(crate) fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        // The name for spans alone goes before the one for everything.
        let otlp = |what: &str| {
            set(&format!("OTEL_EXPORTER_OTLP_TRACES_{what}"))
                .or_else(|| set(&format!("OTEL_EXPORTER_OTLP_{what}")))
        };
        let is_true = |value: String| value.eq_ignore_ascii_case("true");
        let mut warnings = Vec::new();
        let exporter = set("OTEL_TRACES_EXPORTER").unwrap_or_else(|| "otlp".to_owned());
        let Some(endpoint) = otlp("ENDPOINT") else { return Self::default() };
        if set("OTEL_SDK_DISABLED").is_some_and(is_true) || exporter == "none" {
            return Self::default();
        }
        if exporter != "otlp" {
            warnings.push(format!("OTEL_TRACES_EXPORTER = '{exporter}' is unknown; use otlp or none"));
            return Self { collector: None, warnings };
        }
        if let Some(protocol) = otlp("PROTOCOL").filter(|protocol| protocol != "grpc") {
            warnings.push(format!("OTEL_EXPORTER_OTLP_PROTOCOL = '{protocol}' is not there, grpc is used"));
        }
        let insecure = otlp("INSECURE").is_some_and(is_true);
        let collector = Collector {
            endpoint: with_scheme(endpoint, insecure),
            certificate: otlp("CERTIFICATE").unwrap_or_else(|| SYSTEM_CERTIFICATES.to_owned()),
        };
        Self { collector: Some(collector), warnings }
    }

    /// The exporter, if there is to be one, and everything that should be logged. Must be called inside a
    /// runtime; nothing is connected before the first spans.
    pub(crate) fn exporter(self) -> (Option<SpanExporter>, Vec<String>) {
        let Self { collector, mut warnings } = self;
        let Some(collector) = collector else { return (None, warnings) };
        match collector.exporter() {
            Ok(exporter) => (Some(exporter), warnings),
            Err(why) => {
                warnings.push(format!("no spans are exported to '{}': {why}", collector.endpoint));
                (None, warnings)
            }
        }
    }
}

impl Collector {
    fn exporter(&self) -> Result<SpanExporter, String> {
        let builder = SpanExporter::builder().with_tonic().with_channel(self.channel()?);
        builder.build().map_err(|error| chain(&error))
    }

    fn channel(&self) -> Result<Channel, String> {
        let mut endpoint = Endpoint::from_shared(self.endpoint.clone()).map_err(|error| chain(&error))?;
        if endpoint.uri().scheme_str() == Some("https") {
            let path = &self.certificate;
            let pem =
                fs::read(path).map_err(|error| format!("cannot read the certificates in {path}: {error}"))?;
            let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem));
            endpoint = endpoint.tls_config(tls).map_err(|error| chain(&error))?;
        }
        Ok(endpoint.connect_lazy())
    }
}

/// An address without a scheme is one with TLS, unless it is said to be insecure.
fn with_scheme(endpoint: String, insecure: bool) -> String {
    match (endpoint.contains("://"), insecure) {
        (true, _) => endpoint,
        (false, true) => format!("http://{endpoint}"),
        (false, false) => format!("https://{endpoint}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317");

    fn export(variables: &[(&str, &str)]) -> Export {
        Export::of(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn without_an_endpoint_nothing_is_exported() {
        assert_eq!(export(&[]), Export::default());
        assert_eq!(export(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]), Export::default());
    }

    #[test]
    fn a_disabled_sdk_and_the_exporter_none_export_nothing_and_are_no_mistake() {
        assert_eq!(export(&[ENDPOINT, ("OTEL_SDK_DISABLED", "True")]), Export::default());
        assert_eq!(export(&[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")]), Export::default());
    }

    #[test]
    fn the_endpoint_for_traces_goes_before_the_one_for_all() {
        let export = export(&[ENDPOINT, ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:4317")]);
        assert_eq!(export.collector.unwrap().endpoint, "http://traces:4317");
    }

    #[test]
    fn another_protocol_or_exporter_is_a_warning() {
        let http = export(&[ENDPOINT, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")]);
        assert!(http.collector.is_some());
        assert_eq!(
            http.warnings,
            ["OTEL_EXPORTER_OTLP_PROTOCOL = 'http/protobuf' is not there, grpc is used"]
        );
        let zipkin = export(&[ENDPOINT, ("OTEL_TRACES_EXPORTER", "zipkin")]);
        assert_eq!((zipkin.collector.is_some(), zipkin.warnings.len()), (false, 1));
    }

    #[test]
    fn an_endpoint_without_a_scheme_has_tls_unless_it_is_said_to_be_insecure() {
        let endpoint = |variables: &[(&str, &str)]| export(variables).collector.unwrap().endpoint;
        let bare = ("OTEL_EXPORTER_OTLP_ENDPOINT", "127.0.0.1:4317");
        assert_eq!(endpoint(&[ENDPOINT]), "http://127.0.0.1:4317");
        assert_eq!(endpoint(&[bare]), "https://127.0.0.1:4317");
        assert_eq!(endpoint(&[bare, ("OTEL_EXPORTER_OTLP_INSECURE", "true")]), "http://127.0.0.1:4317");
    }

    #[tokio::test]
    async fn a_collector_with_tls_can_be_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        fs::write(&path, "").unwrap();
        let certificate = ("OTEL_EXPORTER_OTLP_CERTIFICATE", path.to_str().unwrap());
        for endpoint in ["https://127.0.0.1:4317", "127.0.0.1:4317"] {
            let export = export(&[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint), certificate]);
            let (exporter, warnings) = export.exporter();
            assert!(exporter.is_some(), "{endpoint}: {warnings:?}");
        }
    }

    #[tokio::test]
    async fn an_exporter_that_cannot_be_built_is_a_warning() {
        for variables in [
            [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://not a host"), ("", "")],
            [
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://127.0.0.1:4317"),
                ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere"),
            ],
        ] {
            let (exporter, warnings) = export(&variables).exporter();
            assert!(exporter.is_none());
            assert!(warnings[0].starts_with("no spans are exported to '"), "{warnings:?}");
        }
    }
}
