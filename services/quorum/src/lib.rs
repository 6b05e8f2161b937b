//! quorumd: counts votes, and says whether this node belongs to the one part of the cluster that may act.
//!
//! - **Owns** votequorum's state of this node: votes, expected votes, quorum; and `ev_tracking` on disk.
//! - **Calls** membershipd, as votequorum's engine in the ring's synchronisation. It sends no packet itself.
//! - **Called by** configd and gatewayd, who read [`QuorumService`]'s status or watch it.
//! - **Says no when in doubt**: without membershipd, without a ring, and until the members of a new ring
//!   have exchanged their votes, this node is not quorate.
//!
//! All decisions are made in `quorum-core`; the files here carry its messages and show its state:
//!
//! | file | holds |
//! |---|---|
//! | `driver.rs` | the one task that owns the core, and the handle that asks it |
//! | `membership.rs` | the link to membershipd |
//! | `device/` | the quorum device: the connection to an arbiter |
//! | `board.rs`, `reason.rs` | the state as the API shows it: names, since when, why not |
//! | `overridden.rs` | the operator's override of the expected votes, until it is over |
//! | `publish.rs` | the present state and its watchers |
//! | `config.rs`, `tracking.rs` | corosync.conf; the file `ev_tracking` |
//! | `grpc.rs`, `error.rs`, `metrics.rs` | the service, its errors, its numbers |
//!
//! Sources: votequorum(5); corosync `votequorum.c`; architecture, "What a write promises".
//!
//! [`QuorumService`]: quorate_proto::quorum::v1::quorum_service_server::QuorumService

mod board;
mod config;
mod device;
mod driver;
mod error;
mod grpc;
mod membership;
mod metrics;
mod overridden;
mod publish;
mod reason;
mod tracking;

use quorate_daemon::{Daemon, Failure, Server, Tasks, client::daemon_channel};
use quorate_proto::quorum::v1::quorum_service_server::QuorumServiceServer;
use tokio::sync::mpsc;

pub use config::ConfigError;
pub use tracking::TrackingError;

/// Name of the daemon.
pub const NAME: &str = "quorumd";

/// Events of the link that may wait for the driver. Each is what one token visit brought; the driver is
/// done with one in microseconds, and a link that waits only makes membershipd keep its events a while.
const LINK_EVENTS_MAX: usize = 64;

/// Runs until shutdown.
///
/// # Errors
/// [`Failure::Configuration`] if corosync.conf or `ev_tracking` makes no sense; [`Failure::Run`] if the
/// socket cannot be bound or a task ends early.
pub async fn run(daemon: Daemon) -> Result<(), Failure> {
    let shutdown = daemon.shutdown.clone();
    let driver = driver::Driver::new(&daemon).map_err(Failure::configuration)?;
    let (handle, commands) = driver.handle();
    let server = Server::new(&daemon);
    let health = server.health();
    let service = grpc::Service::new(handle, shutdown.clone());
    let server = server.service(QuorumServiceServer::new(service)).bind(&daemon.socket())?;
    let (link_events, from_link) = mpsc::channel(LINK_EVENTS_MAX);
    let membershipd = daemon_channel(&daemon.root, "membershipd");

    let mut tasks = Tasks::new(shutdown.clone());
    tasks.spawn("grpc", server.serve(shutdown.clone()));
    tasks.spawn("driver", driver.run(from_link, commands, health, shutdown.clone()));
    tasks.spawn("membership-link", membership::keep_attached(membershipd, link_events, shutdown));
    Ok(tasks.run().await?)
}
