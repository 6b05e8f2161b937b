//! gatewayd: the one door of a node.
//!
//! It owns the TLS port, the proof of who calls, and the life cycle of the cluster: create, join, remove.
//! All services of the node are reached through it, by their names, on one Unix socket
//! (`run/quorate/gatewayd.sock`) and one port (`gateway_port` of node.toml).
//!
//! It never does: keep state of its own (but the node's key and certificate), read what passes through
//! it, decide anything about ring, votes or tree.
//!
//! It calls membershipd, quorumd and configd; the CLI, browsers and other nodes' gateways call it.
//!
//! # Map
//!
//! | file | holds |
//! |---|---|
//! | `door.rs` | the way of a call: rule, caller, destination; `/metrics` |
//! | `auth.rs`, `caller.rs`, `roster.rs` | who may call what; proving who calls; who is a node |
//! | `route.rs`, `client.rs` | passing calls on; the channels to the other daemons |
//! | `health.rs`, `metrics.rs` | one health, one page of metrics for the whole node |
//! | `absent.rs` | what is told when a daemon does not answer |
//! | `listen.rs`, `serve.rs`, `tls.rs` | port, handshake, serving |
//! | `identity.rs`, `ca.rs`, `fingerprint.rs`, `files.rs` | key and certificates |
//! | `token.rs` | join tokens |
//! | `grpc.rs`, `life_cycle/` | ClusterService and what it does |
//! | `diagnosis/` | DiagnosticsService: what is wrong with the nodes |
//! | `member.rs`, `tree.rs`, `batch.rs` | another node's gateway; the replicated tree; changes of it that go together |
//! | `certificate.rs` | how long this node's certificate is good |
//! | `upkeep.rs` | what a member keeps true by itself |
//! | `refusal.rs` | how failed checks become one status |
//!
//! Sources: pvecm specification, 3.3 to 4.5; gRPC over HTTP/2; gRPC health checking protocol.

pub mod absent;
pub mod auth;
pub mod batch;
pub mod ca;
pub mod caller;
pub mod certificate;
pub mod client;
pub mod diagnosis;
pub mod door;
pub mod files;
pub mod fingerprint;
pub mod grpc;
pub mod health;
pub mod identity;
pub mod life_cycle;
pub mod listen;
pub mod member;
pub mod metrics;
pub mod refusal;
pub mod roster;
pub mod route;
pub mod serve;
pub mod tls;
pub mod token;
pub mod tree;
pub mod upkeep;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::{net::SocketAddr, sync::Arc, time::SystemTime};

use axum::Router;
use quorate_daemon::{Daemon, Failure, Tasks, telemetry::chain};
use quorate_proto::gateway::v1::{
    cluster_service_server::ClusterServiceServer, diagnostics_service_server::DiagnosticsServiceServer,
};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, UnixListener},
    sync::watch,
};
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;

use crate::{
    caller::Identifier,
    diagnosis::Diagnostics,
    door::Door,
    grpc::Cluster,
    health::NodeHealth,
    identity::IdentityStore,
    life_cycle::{
        ThisNode,
        join::pending,
        ready::Patience,
        removed::{self, Transmitting},
    },
    listen::Port,
    roster::Roster,
};

/// The daemon's name, as in the names of its socket and its state directory.
pub const NAME: &str = "gatewayd";

/// Everything built and bound, nothing running yet.
pub struct Gateway {
    daemon: Daemon,
    node: Arc<ThisNode>,
    router: Router,
    metrics: Router,
    socket: UnixListener,
    port: TcpListener,
    metrics_port: Option<TcpListener>,
    tls: watch::Sender<Arc<ServerConfig>>,
    running: TaskTracker,
}

/// Builds and runs the daemon until its shutdown.
///
/// # Errors
/// [`Failure`]: a port or socket that cannot be had, a key or certificate that cannot be used, or a task
/// that ended.
pub async fn run(daemon: Daemon) -> Result<(), Failure> {
    Ok(Gateway::build(daemon, Patience::default()).await?.run().await?)
}

impl Gateway {
    /// Opens the identity, takes the socket and the ports.
    ///
    /// # Errors
    /// See [`run`].
    pub async fn build(daemon: Daemon, patience: Patience) -> Result<Self, Failure> {
        let address = daemon.node.resolve_address().await?;
        let node_toml = daemon.root.node_toml();
        let port = SocketAddr::new(address, daemon.node.gateway_port);
        let port = listen::bind(port, Port::Gateway, &node_toml).await?;
        let metrics_port = match daemon.node.metrics_listen {
            Some(address) => Some(listen::bind(address, Port::Metrics, &node_toml).await?),
            None => None,
        };
        let socket = quorate_daemon::listen::listen(&daemon.socket())?;
        let node = this_node(&daemon, port.local_addr()?, patience)?;
        let tls = tls::server_config(&node.identity.current())?;
        let running = TaskTracker::new();
        let door = door(&daemon, &node, running.clone());
        Ok(Self {
            metrics: door.metrics_router(),
            router: door.into_router(),
            tls: watch::Sender::new(tls),
            daemon,
            node,
            socket,
            port,
            metrics_port,
            running,
        })
    }

    /// Where the TLS port is.
    ///
    /// # Errors
    /// If the operating system does not say.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.port.local_addr()
    }

    /// This node, for what is done on its behalf.
    #[must_use]
    pub fn node(&self) -> Arc<ThisNode> {
        self.node.clone()
    }

    /// Serves until the daemon's shutdown.
    ///
    /// # Errors
    /// The task that ended, and why.
    pub async fn run(self) -> Result<(), quorate_daemon::tasks::TaskError> {
        let shutdown = self.daemon.shutdown.clone();
        let mut tasks = Tasks::new(shutdown.clone());
        tracing::info!(
            socket = %self.daemon.socket().display(),
            port = ?self.port.local_addr().ok(),
            metrics = ?self.daemon.node.metrics_listen,
            fingerprint = %fingerprint::Fingerprint::of(&self.node.identity.current().chain[0]),
            "serving"
        );
        self.daemon.manager.ready();
        let (ready, connections) = listen::queue();
        let accept = listen::accept(self.port, self.tls.subscribe(), ready, shutdown.clone());
        tasks.spawn("tls-accept", accept);
        let remote = serve::calls(self.router.clone(), ReceiverStream::new(connections), shutdown.clone());
        tasks.spawn("tls-calls", remote);
        let local = serve::calls(self.router, UnixListenerStream::new(self.socket), shutdown.clone());
        tasks.spawn("socket-calls", local);
        if let Some(port) = self.metrics_port {
            tasks.spawn("metrics", serve::metrics(self.metrics, port, shutdown.clone()));
        }
        tasks.spawn("identity", follow_identity(self.node.clone(), self.tls, shutdown.clone()));
        certificate::register(&self.daemon.metrics, self.node.identity.subscribe());
        let transmitting = Transmitting::register(&self.daemon.metrics);
        tasks.spawn("removed-nodes", removed::watch(self.node.clone(), transmitting, shutdown.clone()));
        tasks.spawn("upkeep", look_after(self.node, shutdown.clone()));
        tasks.spawn("operations", operations(self.running, shutdown));
        tasks.run().await
    }
}

fn this_node(daemon: &Daemon, gateway: SocketAddr, patience: Patience) -> Result<Arc<ThisNode>, Failure> {
    let name = daemon.node.name.clone();
    let subject = ca::Subject { name: name.clone(), addresses: vec![gateway.ip()] };
    let identity = IdentityStore::open(daemon.state_dir(), &subject, SystemTime::now())?;
    Ok(Arc::new(ThisNode::new(daemon.root.clone(), name, gateway, Arc::new(identity), patience)))
}

fn door(daemon: &Daemon, node: &Arc<ThisNode>, running: TaskTracker) -> Door {
    let roster = Roster::new(daemon.root.clone(), node.tree.clone());
    let owner = nix::unistd::geteuid().as_raw();
    let identifier = Identifier::new(owner, roster.clone(), node.tree.clone());
    let health = NodeHealth::new(node.daemons.clone(), daemon.shutdown.clone());
    let diagnostics = Diagnostics::new(node.clone(), roster.clone(), health.clone());
    let cluster = Cluster::new(node.clone(), roster, health.clone(), running);
    Door::new(
        identifier,
        node.daemons.clone(),
        own_services(cluster, diagnostics, health),
        daemon.metrics.clone(),
    )
}

/// The services that the gateway serves itself. Reflection describes those of all daemons.
fn own_services(cluster: Cluster, diagnostics: Diagnostics, health: NodeHealth) -> Router {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(quorate_proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let valid = "descriptors were encoded by the compiler";
    Routes::new(ClusterServiceServer::new(cluster))
        .add_service(DiagnosticsServiceServer::new(diagnostics))
        .add_service(HealthServer::new(health))
        .add_service(reflection().build_v1().expect(valid))
        .add_service(reflection().build_v1alpha().expect(valid))
        .prepare()
        .into_axum_router()
}

/// Gives every new identity to the handshakes that follow.
async fn follow_identity(
    node: Arc<ThisNode>,
    tls: watch::Sender<Arc<ServerConfig>>,
    shutdown: CancellationToken,
) {
    let mut identity = node.identity.subscribe();
    loop {
        let now = identity.borrow_and_update().clone();
        match tls::server_config(&now) {
            Ok(config) => drop(tls.send_replace(config)),
            Err(error) => tracing::error!(error = chain(&error), "the new certificate is not used for TLS"),
        }
        tokio::select! {
            changed = identity.changed() => if changed.is_err() { return },
            () = shutdown.cancelled() => return,
        }
    }
}

/// First what an earlier run left, then the routine.
async fn look_after(node: Arc<ThisNode>, shutdown: CancellationToken) {
    pending::resume(&node, shutdown.clone()).await;
    upkeep::run(node, shutdown).await;
}

/// Lets operations under way end when the daemon stops; it waits for them within its grace period.
async fn operations(running: TaskTracker, shutdown: CancellationToken) {
    shutdown.cancelled().await;
    running.close();
    running.wait().await;
}
