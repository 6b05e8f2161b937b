//! migrationd: moves guests between nodes.
//!
//! - **Owns** the plan of a move, the connections that carry memory and disks, and its undoing.
//! - **Calls** guestd of its node, which alone starts, stops and lets go on; configd; and other nodes' migrationd
//!   through their gateways, with this node's certificate.
//! - **Called by** `qm migrate` through the gateway, and by other nodes' migrationd.
//!
//! All decisions are made in `migration-core`; the files here carry them out:
//!
//! | file | holds |
//! |---|---|
//! | `source.rs`, `source/` | the driver of one migration at the source: outputs carried out, answers fed back |
//! | `begin.rs` | checks and the lock, before a migration has its driver |
//! | `incoming.rs`, `receive.rs` | the target: what waits here, and whose word lets it go on or ends it |
//! | `tunnel.rs` | the connections between the nodes, both ends |
//! | `tls.rs`, `peer.rs` | certificates of the cluster; the way to another node's migrationd |
//! | `local.rs`, `records.rs` | this node's daemons; the records in the tree |
//! | `grpc.rs`, `peer_grpc.rs`, `error.rs` | the services and their errors |

mod begin;
mod error;
mod grpc;
mod incoming;
mod local;
mod peer;
mod peer_grpc;
mod receive;
mod records;
mod source;
mod tls;
mod tunnel;

use std::sync::Arc;

use quorate_daemon::{Daemon, Failure, Server, Tasks};
use quorate_proto::migration::v1::{
    migration_peer_service_server::MigrationPeerServiceServer,
    migration_service_server::MigrationServiceServer,
};

/// Name of the daemon.
pub const NAME: &str = "migrationd";

/// What every part of the daemon needs.
struct Node {
    name: String,
    local: local::Local,
    peers: peer::Peers,
    running: source::Running,
    incoming: incoming::Incoming,
}

/// Runs until shutdown.
///
/// # Errors
/// [`Failure::Run`] if the socket or the journal cannot be had, or a task ends early.
pub async fn run(daemon: Daemon) -> Result<(), Failure> {
    let shutdown = daemon.shutdown.clone();
    let local = local::Local::new(&daemon.root);
    let node = Arc::new(Node {
        name: daemon.node.name.to_string(),
        peers: peer::Peers::new(&daemon.root, local.clone()),
        running: source::Running::default(),
        incoming: incoming::Incoming::open(&daemon.state_dir())?,
        local,
    });
    let server = Server::new(&daemon)
        .service(MigrationServiceServer::new(grpc::Service::new(node.clone())))
        .service(MigrationPeerServiceServer::new(peer_grpc::Service::new(node.clone())))
        .bind(&daemon.socket())?;
    let mut tasks = Tasks::new(shutdown.clone());
    tasks.spawn("grpc", server.serve(shutdown.clone()));
    tasks.spawn("left-behind", source::take_up(node.clone(), shutdown.clone()));
    tasks.spawn("incoming", incoming::look_after(node, shutdown));
    Ok(tasks.run().await?)
}
