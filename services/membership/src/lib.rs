//! membershipd: who is in the ring, in which order messages are delivered, and process groups on top.
//!
//! It owns the Totem single ring protocol ([`membership_core`]), the UDP socket and the ring id file. It counts
//! no votes and reads no file of the replicated tree. It calls nobody; quorumd, configd and gatewayd call it.
//!
//! The ring runs on a thread of its own ([`driver`]): the token waits for nobody. What the rest of the daemon
//! wants of it goes through [`handle::RingHandle`], in bounded queues.
//!
//! # Map
//!
//! | file | holds |
//! |---|---|
//! | `config.rs` | corosync.conf and node.toml, checked, as this daemon needs them |
//! | `driver.rs` | the ring's thread: wait, feed the stack, carry out its outputs |
//! | `active.rs` | a ring that is up: stack, socket, ring id file, what is known of each node |
//! | `clients.rs` | group members and attached engines, one batch of events per turn each |
//! | `transport/` | sockets: knet, udpu, udp |
//! | `reload.rs` | corosync.conf is read again when a member asks for it |
//! | `ring_id_file.rs` | the id of the last ring, kept |
//! | `handle.rs`, `view.rs` | the way into the thread, and what it shows of itself |
//! | `grpc/` | `MembershipService` |
//! | `metrics.rs`, `error.rs` | what observers and callers see |
//!
//! Sources: spec `totem.md`, `corosync-services.md`; corosync.conf(5).

mod active;
mod clients;
pub mod config;
mod counters;
pub mod driver;
pub mod error;
pub mod grpc;
pub mod handle;
mod metrics;
mod reload;
pub mod ring_id_file;
pub mod transport;
pub mod view;

use config::ConfigSource;
use error::Error;
use handle::RingHandle;
use quorate_daemon::{Daemon, Failure, Health, Server, Tasks};
use quorate_proto::membership::v1::membership_service_server::{MembershipServiceServer, SERVICE_NAME};
use tokio_util::sync::CancellationToken;

/// Largest gRPC message that is taken: a batch of group messages of 1 MiB each and their frame.
const MESSAGE_MAX: usize = 64 << 20;

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// A configuration that cannot be used, a socket that cannot be bound, or a task that failed.
pub async fn run(daemon: Daemon) -> Result<(), Failure> {
    let source = ConfigSource::new(&daemon);
    let config = source.load().map_err(Failure::configuration)?;
    let state_dir = daemon.state_dir();
    std::fs::create_dir_all(&state_dir)
        .map_err(|source| Error::StateDir { path: state_dir.clone(), source })?;
    let (ring, thread) = driver::start(state_dir)?;

    let service = MembershipServiceServer::new(grpc::Grpc::new(ring.clone(), source.clone()))
        .max_decoding_message_size(MESSAGE_MAX)
        .max_encoding_message_size(MESSAGE_MAX);
    let server = Server::new(&daemon).service(service);
    let health = server.health();
    let server = server.bind(&daemon.socket())?;
    metrics::register(&daemon.metrics, &ring);

    ring.configure(config).await?;
    let mut tasks = Tasks::new(daemon.shutdown.clone());
    tasks.spawn("grpc", server.serve(daemon.shutdown.clone()));
    tasks.spawn("health", report_health(ring.clone(), health, daemon.shutdown.clone()));
    tasks.spawn("reload", reload::follow(ring.clone(), source, daemon.shutdown.clone()));
    tasks.spawn("good-bye", say_good_bye(ring, daemon.shutdown.clone()));
    let outcome = tasks.run().await;
    // Joined on a blocking thread: the leave message is on the wire before the process ends.
    let _ = tokio::task::spawn_blocking(move || thread.join()).await;
    Ok(outcome?)
}

/// Serving means: there is a ring, and its synchronisation is complete.
async fn report_health(ring: RingHandle, health: Health, shutdown: CancellationToken) -> Result<(), Error> {
    let mut view = ring.view();
    loop {
        let serving = {
            let view = view.borrow_and_update();
            view.up && view.synchronised
        };
        health.set(SERVICE_NAME, serving).await;
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            changed = view.changed() => changed.map_err(|_| Error::Stopped)?,
        }
    }
}

/// Leaves the ring as soon as the daemon is to stop. All streams end with it: who holds one learns at once that there is no
/// ring, and nobody waits for calls to end that never would.
async fn say_good_bye(ring: RingHandle, shutdown: CancellationToken) {
    shutdown.cancelled().await;
    ring.stop().await;
}
