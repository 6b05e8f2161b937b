//! A daemon's server: gRPC, health, reflection and `GET /metrics` on one Unix socket.

use std::{
    convert::Infallible,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use axum::{Router, http::header::CONTENT_TYPE, routing::get};
use http::Request as HttpRequest;
use tokio::net::{UnixListener, unix::UCred};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request,
    body::Body,
    server::NamedService,
    service::{Routes, RoutesBuilder},
    transport::server::UdsConnectInfo,
};
use tonic_health::{pb::health_server::HealthServer, server::HealthService};

use crate::{
    health::Health,
    listen::{ListenError, listen},
    metrics::{self, Metrics},
    rpc::server::ServerLayer,
    service_manager::ServiceManager,
    start::Daemon,
};

/// How long running calls may take to end once the daemon stops.
const DRAIN: Duration = Duration::from_secs(5);

/// Why serving ended with an error.
#[derive(Debug, thiserror::Error)]
#[error("serving gRPC failed")]
pub struct ServeError(#[from] tonic::transport::Error);

/// What a daemon serves; collects services, then [`Server::bind`]s.
#[must_use]
pub struct Server {
    routes: RoutesBuilder,
    services: Vec<&'static str>,
    health: Health,
    metrics: Metrics,
    manager: ServiceManager,
}

impl Server {
    /// A server with health and reflection, and no service of its own yet.
    pub fn new(daemon: &Daemon) -> Self {
        let manager = daemon.manager.clone();
        let health = Health::new(manager.clone());
        let mut routes = RoutesBuilder::default();
        routes.add_service(HealthServer::new(HealthService::from_health_reporter(health.reporter())));
        Self { routes, services: Vec::new(), health, metrics: daemon.metrics.clone(), manager }
    }

    /// Adds a service. Its health is NOT_SERVING until [`Health::set`] says otherwise.
    pub fn service<S>(mut self, service: S) -> Self
    where
        S: tower::Service<HttpRequest<Body>, Error = Infallible, Future: Send + 'static>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Response: axum::response::IntoResponse,
    {
        self.health.declare(S::NAME);
        self.services.push(S::NAME);
        self.routes.add_service(service);
        self
    }

    /// Where the daemon says which services will answer correctly.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// All services behind their layers, and `/metrics`: for doors other than the Unix socket.
    pub fn into_router(mut self) -> Router {
        add_reflection(&mut self.routes, &self.services);
        let calls = self.routes.routes().prepare().into_axum_router();
        let calls = calls.layer(ServerLayer::new(self.metrics.rpc().clone()));
        let metrics = self.metrics;
        calls
            .route("/metrics", get(async move || ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics.encode())))
    }

    /// Listens on a Unix socket; nothing is answered before [`BoundServer::serve`].
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn bind(self, socket: &Path) -> Result<BoundServer, ListenError> {
        let listener = listen(socket)?;
        let socket = BoundSocket::new(socket);
        let (health, manager) = (self.health.clone(), self.manager.clone());
        Ok(BoundServer { listener, socket, health, manager, router: self.into_router() })
    }
}

/// Version 1, and v1alpha for clients that do not know it. Both list what is served here.
fn add_reflection(routes: &mut RoutesBuilder, services: &[&'static str]) {
    let builder = |own: &'static str| {
        let configured = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(quorate_proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .with_service_name("grpc.health.v1.Health")
            .with_service_name(own);
        services.iter().fold(configured, |builder, service| builder.with_service_name(*service))
    };
    let valid = "descriptors were encoded by the compiler";
    routes.add_service(builder("grpc.reflection.v1.ServerReflection").build_v1().expect(valid));
    routes.add_service(builder("grpc.reflection.v1alpha.ServerReflection").build_v1alpha().expect(valid));
}

/// A server whose socket is bound.
#[must_use = "nothing is answered before `serve`"]
pub struct BoundServer {
    listener: UnixListener,
    socket: BoundSocket,
    health: Health,
    manager: ServiceManager,
    router: Router,
}

impl BoundServer {
    /// Answers calls until `shutdown`; then reports all services as not serving, refuses new calls and
    /// lets running ones end, for a few seconds at most. The socket is removed at the end.
    ///
    /// # Errors
    /// [`ServeError`] if the socket can no longer be served.
    pub async fn serve(self, shutdown: CancellationToken) -> Result<(), ServeError> {
        let Self { listener, socket, health, manager, router } = self;
        health.publish().await;
        tracing::info!(socket = %socket.path.display(), "serving");
        manager.ready();
        let stopping = {
            let (shutdown, health) = (shutdown.clone(), health.clone());
            async move {
                shutdown.cancelled().await;
                health.set_none_serving().await;
            }
        };
        let served = tonic::transport::Server::builder()
            .accept_http1(true)
            .add_routes(Routes::from(router))
            .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stopping);
        let drained = async {
            shutdown.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        };
        tokio::select! {
            ended = served => ended?,
            () = drained => tracing::warn!(after = ?DRAIN, "calls did not end in time and are dropped"),
        }
        drop(socket);
        Ok(())
    }
}

/// Removes the socket at the end, unless another daemon has meanwhile put its own there.
struct BoundSocket {
    path: PathBuf,
    inode: Option<u64>,
}

impl BoundSocket {
    fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), inode: inode_of(path).ok() }
    }
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        if self.inode.is_some() && inode_of(&self.path).ok() == self.inode {
            // Best effort: a socket that stays behind is replaced at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn inode_of(path: &Path) -> io::Result<u64> {
    Ok(fs::symlink_metadata(path)?.ino())
}

/// Who is calling over the Unix socket: user, group and process, as the kernel vouches for them.
#[must_use]
pub fn peer_credentials<T>(request: &Request<T>) -> Option<UCred> {
    request.extensions().get::<UdsConnectInfo>()?.peer_cred
}
