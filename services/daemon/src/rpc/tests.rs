//! Spans, trace context and metrics of whole calls: client, socket, server, in one process.
//!
//! All tasks of a test run on one thread, so that its own recorder sees all spans.

use std::{
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use opentelemetry::trace::{SpanKind, Status as SpanStatus};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{SdkTracerProvider, SpanData, SpanExporter},
};
use quorate_proto::quorum::v1 as quorum;
use quorum::{
    quorum_service_client::QuorumServiceClient,
    quorum_service_server::{QuorumService, QuorumServiceServer},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tracing::Subscriber;
use tracing_subscriber::layer::SubscriberExt as _;

use super::names;
use crate::{
    Daemon, Health, NodeConfig, Root, Server,
    client::{DaemonChannel, deadline, socket_channel},
    server::peer_credentials,
    trace_context,
};

/// Keeps the spans that ended.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    spans: Arc<Mutex<Vec<SpanData>>>,
}

pub(crate) fn recorder() -> Recorder {
    Recorder { spans: Arc::default() }
}

impl SpanExporter for Recorder {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.spans.lock().unwrap().extend(batch);
        Ok(())
    }
}

impl Recorder {
    /// A subscriber that records here.
    pub(crate) fn subscriber(&self) -> impl Subscriber + Send + Sync + use<> {
        let provider = SdkTracerProvider::builder().with_simple_exporter(self.clone()).build();
        tracing_subscriber::registry().with(crate::telemetry::span_layer(&provider, "test"))
    }

    /// The one span of this name.
    pub(crate) fn span(&self, name: &str) -> SpanData {
        let spans = self.spans.lock().unwrap();
        spans
            .iter()
            .find(|span| span.name == name)
            .unwrap_or_else(|| panic!("no {name} in {spans:?}"))
            .clone()
    }

    fn of_kind(&self, kind: SpanKind) -> Option<SpanData> {
        self.spans.lock().unwrap().iter().find(|span| span.span_kind == kind).cloned()
    }
}

fn attribute(span: &SpanData, key: &str) -> Option<String> {
    span.attributes.iter().find(|kv| kv.key.as_str() == key).map(|kv| kv.value.to_string())
}

/// Answers `SetExpected` with the caller's trace, `Watch` with two states and a failure or without end.
struct Scripted {
    watch_fails: bool,
}

type Watched = Pin<Box<dyn Stream<Item = Result<quorum::WatchResponse, Status>> + Send>>;

#[tonic::async_trait]
impl QuorumService for Scripted {
    async fn get_status(
        &self,
        request: Request<quorum::GetStatusRequest>,
    ) -> Result<Response<quorum::GetStatusResponse>, Status> {
        let caller = peer_credentials(&request).expect("credentials of a Unix socket");
        let reason = format!("{} {}", caller.uid(), trace_context::current().unwrap_or_default());
        let status = quorum::QuorumStatus { reason, ..Default::default() };
        Ok(Response::new(quorum::GetStatusResponse { status: Some(status) }))
    }

    type WatchStream = Watched;

    async fn watch(&self, _: Request<quorum::WatchRequest>) -> Result<Response<Watched>, Status> {
        let states = tokio_stream::iter([Ok(quorum::WatchResponse::default()); 1]);
        let end: Watched = if self.watch_fails {
            Box::pin(tokio_stream::once(Err(Status::data_loss("checksum"))))
        } else {
            Box::pin(tokio_stream::pending())
        };
        Ok(Response::new(Box::pin(states.chain(end))))
    }

    async fn set_expected(
        &self,
        _: Request<quorum::SetExpectedRequest>,
    ) -> Result<Response<quorum::SetExpectedResponse>, Status> {
        Err(Status::invalid_argument("too few"))
    }

    async fn reload(
        &self,
        _: Request<quorum::ReloadRequest>,
    ) -> Result<Response<quorum::ReloadResponse>, Status> {
        std::future::pending().await
    }
}

struct Fixture {
    recorder: Recorder,
    daemon: Daemon,
    health: Health,
    socket: PathBuf,
    served: tokio::task::JoinHandle<Result<(), crate::server::ServeError>>,
    _stop: DropGuard,
    _dir: tempfile::TempDir,
    _default: tracing::subscriber::DefaultGuard,
}

impl Fixture {
    fn new(watch_fails: bool) -> Self {
        let recorder = recorder();
        let default = tracing::subscriber::set_default(recorder.subscriber());
        let dir = tempfile::tempdir().unwrap();
        let daemon = Daemon::new("quorumd", Root::new(dir.path()), NodeConfig::named("hp1".parse().unwrap()));
        let server = Server::new(&daemon).service(QuorumServiceServer::new(Scripted { watch_fails }));
        let health = server.health();
        let served = tokio::spawn(server.bind(&daemon.socket()).unwrap().serve(daemon.shutdown.clone()));
        let stop: CancellationToken = daemon.shutdown.clone();
        Self {
            recorder,
            health,
            socket: daemon.socket(),
            daemon,
            served,
            _stop: stop.drop_guard(),
            _dir: dir,
            _default: default,
        }
    }

    fn channel(&self) -> DaemonChannel {
        socket_channel(self.socket.clone())
    }

    fn client(&self) -> QuorumServiceClient<DaemonChannel> {
        QuorumServiceClient::new(self.channel())
    }

    /// Waits until the server has ended its span: its side of a call ends when its last frame is sent.
    async fn server_span(&self) -> SpanData {
        let ended = async {
            loop {
                if let Some(span) = self.recorder.of_kind(SpanKind::Server) {
                    return span;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), ended).await.expect("the server's span ends")
    }

    fn count(&self, method: &str, code: &str) -> bool {
        let line =
            format!("rpc_server_call_duration_seconds_count{{method=\"{method}\",code=\"{code}\"}} 1\n");
        self.daemon.metrics.encode().contains(&line)
    }
}

const STATUS: &str = "quorate.quorum.v1.QuorumService/GetStatus";
const WATCH: &str = "quorate.quorum.v1.QuorumService/Watch";

#[tokio::test]
async fn a_unary_call_is_one_trace_over_both_sides_and_is_counted() {
    let fixture = Fixture::new(false);

    let answer = fixture.client().get_status(quorum::GetStatusRequest {}).await.unwrap().into_inner();

    let server = fixture.server_span().await;
    let client = fixture.recorder.of_kind(SpanKind::Client).unwrap();
    assert_eq!((server.name.as_ref(), client.name.as_ref()), (STATUS, STATUS));
    assert_eq!(server.span_context.trace_id(), client.span_context.trace_id());
    assert_eq!(server.parent_span_id, client.span_context.span_id());
    assert_eq!(attribute(&server, names::SYSTEM).as_deref(), Some("grpc"));
    assert_eq!(attribute(&server, names::METHOD).as_deref(), Some(STATUS));
    assert_eq!(attribute(&server, names::STATUS_CODE).as_deref(), Some("OK"));
    assert_eq!(attribute(&server, names::ERROR_TYPE), None);
    assert!(fixture.count(STATUS, "OK"), "{}", fixture.daemon.metrics.encode());
    let seen = answer.status.unwrap().reason;
    let trace = server.span_context.trace_id().to_string();
    assert!(seen.contains(&trace), "the handler runs inside the trace: {seen}");
    assert!(seen.starts_with(&nix::unistd::getuid().to_string()), "{seen}");
}

#[tokio::test]
async fn a_refused_call_is_an_error_to_the_client_only() {
    let fixture = Fixture::new(false);

    let refused = fixture.client().set_expected(quorum::SetExpectedRequest::default()).await.unwrap_err();

    assert_eq!(refused.code(), Code::InvalidArgument);
    let server = fixture.server_span().await;
    let client = fixture.recorder.of_kind(SpanKind::Client).unwrap();
    assert_eq!(attribute(&server, names::STATUS_CODE).as_deref(), Some("INVALID_ARGUMENT"));
    assert_eq!(server.status, SpanStatus::Unset);
    assert_eq!(client.status, SpanStatus::error("too few"));
    assert!(fixture.count("quorate.quorum.v1.QuorumService/SetExpected", "INVALID_ARGUMENT"));
}

#[tokio::test]
async fn a_stream_that_fails_late_is_not_counted_as_ok() {
    let fixture = Fixture::new(true);

    let mut stream = fixture.client().watch(quorum::WatchRequest {}).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    assert!(!fixture.count(WATCH, "OK"), "nothing is counted while the stream runs");
    let failed = stream.message().await.unwrap_err();

    assert_eq!(failed.code(), Code::DataLoss);
    let server = fixture.server_span().await;
    assert_eq!(attribute(&server, names::STATUS_CODE).as_deref(), Some("DATA_LOSS"));
    assert_eq!(server.status, SpanStatus::error("checksum"));
    assert!(fixture.count(WATCH, "DATA_LOSS"));
}

#[tokio::test]
async fn a_stream_that_the_client_drops_is_cancelled() {
    let fixture = Fixture::new(false);

    let mut stream = fixture.client().watch(quorum::WatchRequest {}).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    drop(stream);

    let server = fixture.server_span().await;
    assert_eq!(attribute(&server, names::STATUS_CODE).as_deref(), Some("CANCELLED"));
    assert!(fixture.count(WATCH, "CANCELLED"));
}

#[tokio::test]
async fn a_call_that_outlives_its_deadline_ends_with_deadline_exceeded() {
    let fixture = Fixture::new(false);

    let late = fixture
        .client()
        .reload(deadline(quorum::ReloadRequest {}, Duration::from_millis(50)))
        .await
        .unwrap_err();

    assert_eq!(late.code(), Code::DeadlineExceeded);
    let server = fixture.server_span().await;
    assert_eq!(attribute(&server, names::STATUS_CODE).as_deref(), Some("DEADLINE_EXCEEDED"));
}

#[tokio::test]
async fn without_a_server_calls_fail_as_unavailable_and_recover_when_it_comes() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Daemon::new("quorumd", Root::new(dir.path()), NodeConfig::named("hp1".parse().unwrap()));
    let mut client = QuorumServiceClient::new(socket_channel(daemon.socket()));

    let absent = client.get_status(quorum::GetStatusRequest {}).await.unwrap_err();
    let server = Server::new(&daemon).service(QuorumServiceServer::new(Scripted { watch_fails: false }));
    tokio::spawn(server.bind(&daemon.socket()).unwrap().serve(daemon.shutdown.clone()));
    let present = client.get_status(quorum::GetStatusRequest {}).await;

    assert_eq!(absent.code(), Code::Unavailable);
    assert!(present.is_ok());
}

#[tokio::test]
async fn health_follows_the_services() {
    let fixture = Fixture::new(false);
    let mut health = HealthClient::new(fixture.channel());
    let service = "quorate.quorum.v1.QuorumService";
    let mut check = async |service: &str| {
        let request = HealthCheckRequest { service: service.to_owned() };
        health.check(request).await.map(|answer| answer.into_inner().status())
    };

    assert_eq!(check(service).await.unwrap(), ServingStatus::NotServing);
    assert_eq!(check("").await.unwrap(), ServingStatus::NotServing);
    fixture.health.set(service, true).await;
    assert_eq!(check(service).await.unwrap(), ServingStatus::Serving);
    assert_eq!(check("").await.unwrap(), ServingStatus::Serving);
    assert_eq!(check("no.such.Service").await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn reflection_lists_what_is_served_in_both_versions() {
    use tonic_reflection::pb::{v1, v1alpha};
    let fixture = Fixture::new(false);

    let ask = v1::ServerReflectionRequest {
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(fixture.channel());
    let answer = client.server_reflection_info(tokio_stream::once(ask)).await.unwrap();
    let answer = answer.into_inner().message().await.unwrap().unwrap().message_response;
    let Some(v1::server_reflection_response::MessageResponse::ListServicesResponse(list)) = answer else {
        panic!("{answer:?}");
    };
    let mut names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    names.sort();
    assert_eq!(
        names,
        ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "quorate.quorum.v1.QuorumService"]
    );

    let symbol = "quorate.quorum.v1.QuorumService".to_owned();
    let ask = v1alpha::ServerReflectionRequest {
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(
            symbol,
        )),
        ..Default::default()
    };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(fixture.channel());
    let answer = client.server_reflection_info(tokio_stream::once(ask)).await.unwrap();
    let answer = answer.into_inner().message().await.unwrap().unwrap().message_response;
    assert!(matches!(
        answer,
        Some(v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(_))
    ));
}

#[tokio::test]
async fn metrics_are_served_as_openmetrics_over_plain_http() {
    let fixture = Fixture::new(false);
    fixture.client().get_status(quorum::GetStatusRequest {}).await.unwrap();
    fixture.server_span().await;

    let mut stream = tokio::net::UnixStream::connect(&fixture.socket).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();

    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("content-type: application/openmetrics-text; version=1.0.0"), "{answer}");
    assert!(answer.contains("rpc_server_call_duration_seconds_bucket"), "{answer}");
    assert!(answer.contains("# EOF"), "{answer}");
}

#[tokio::test]
async fn unknown_methods_share_one_label() {
    let fixture = Fixture::new(false);
    let mut grpc = tonic::client::Grpc::new(fixture.channel());
    grpc.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/made.up.Service/Guess17");
    let codec = tonic_prost_codec();

    let unknown: Result<Response<quorum::GetStatusResponse>, _> =
        grpc.unary(Request::new(quorum::GetStatusRequest {}), path, codec).await;

    assert_eq!(unknown.unwrap_err().code(), Code::Unimplemented);
    fixture.server_span().await;
    assert!(fixture.count("_OTHER", "UNIMPLEMENTED"), "{}", fixture.daemon.metrics.encode());
}

fn tonic_prost_codec() -> tonic_prost::ProstCodec<quorum::GetStatusRequest, quorum::GetStatusResponse> {
    tonic_prost::ProstCodec::default()
}

#[tokio::test]
async fn shutdown_ends_serving_and_removes_the_socket() {
    let fixture = Fixture::new(false);
    fixture.client().get_status(quorum::GetStatusRequest {}).await.unwrap();

    fixture.daemon.shutdown.cancel();

    assert!(fixture.served.await.unwrap().is_ok());
    assert!(!fixture.socket.exists());
}
