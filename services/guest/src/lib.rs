//! guestd: runs this node's virtual machines.
//!
//! - **Owns** the QEMU processes of this node, their control sockets below `run/quorate/guests/VMID/`, and the volumes
//!   on directory storages.
//! - **Calls** configd: configurations, `storage.cfg`, leases and the cluster log live in the tree.
//! - **Called by** gatewayd for `qm`, and by migrationd, which never touches QEMU but through here.
//! - **A guest outlives it**: QEMU is no child of this process. After a restart it is found again by its process id,
//!   whose command line must name this guest's control socket, and by that socket.
//! - **One node only**: a guest starts where its configuration lies, with a lease that is written in the same step in which
//!   the configuration is looked at (`guest_core::lease`). Without quorum that cannot be done, and nothing starts.
//!
//! | file | holds |
//! |---|---|
//! | `guests.rs` | [`guests::Guests`]: all that the calls share; locks, states, the end of a process |
//! | `launch.rs`, `process.rs`, `machine.rs`, `qmp.rs` | starting QEMU; its process; its control sockets |
//! | `life_cycle.rs`, `config_change.rs`, `status.rs` | what `qm` asks for |
//! | `lease.rs`, `cold_start.rs` | leases in the tree; what starts by itself after a boot |
//! | `storage.rs`, `transfer.rs` | volumes; their bytes |
//! | `migration.rs` | what a migration needs of a node |
//! | `tree.rs` | the replicated tree |
//! | `grpc/`, `error.rs`, `metrics.rs` | the services, their errors, the numbers |

mod cold_start;
mod config_change;
mod error;
mod grpc;
pub mod guests;
mod launch;
mod lease;
mod life_cycle;
mod machine;
mod metrics;
mod migration;
mod process;
mod qmp;
mod status;
mod storage;
mod transfer;
mod tree;

use std::sync::Arc;

use quorate_daemon::{Daemon, Failure, Server, Tasks};
use quorate_proto::guest::v1::{
    guest_service_server::GuestServiceServer,
    migration_support_service_server::MigrationSupportServiceServer,
    storage_service_server::StorageServiceServer,
};

use crate::guests::Guests;

/// Name of the daemon.
pub const NAME: &str = "guestd";

/// Its services, by their full names.
const SERVICES: [&str; 3] = [
    "quorate.guest.v1.GuestService",
    "quorate.guest.v1.MigrationSupportService",
    "quorate.guest.v1.StorageService",
];

/// Runs until shutdown. Guests go on without it.
///
/// # Errors
/// [`Failure::Run`] if the socket cannot be bound or a task ends early.
pub async fn run(daemon: Daemon) -> Result<(), Failure> {
    let shutdown = daemon.shutdown.clone();
    let guests = Arc::new(Guests::new(&daemon));
    let server = Server::new(&daemon);
    let health = server.health();
    let server = server
        .service(GuestServiceServer::new(grpc::guest::Service::new(guests.clone(), shutdown.clone())))
        .service(MigrationSupportServiceServer::new(grpc::migration::Service::new(guests.clone())))
        .service(StorageServiceServer::new(grpc::storage::Service::new(guests.clone())))
        .bind(&daemon.socket())?;
    // Before the first call: whoever asks must not be told that a guest that runs is stopped.
    launch::find_again(&guests).await;
    for service in SERVICES {
        health.set(service, true).await;
    }
    let mut tasks = Tasks::new(shutdown.clone());
    tasks.spawn("grpc", server.serve(shutdown.clone()));
    tasks.spawn("leases", lease::keep_clean(guests.clone(), shutdown.clone()));
    tasks.spawn("cold-start", cold_start::run(guests, shutdown));
    Ok(tasks.run().await?)
}
