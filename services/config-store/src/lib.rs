//! configd: the replicated tree of configuration files.
//!
//! It owns this node's replica ([`config_store_core`]) and the RocksDB that keeps it. It decides neither
//! membership nor quorum: it joins a process group of membershipd and watches quorumd. gatewayd calls it.
//! When the tree's corosync.conf changes, it installs the new one on this node and has membershipd and quorumd
//! read it.
//!
//! # Map
//!
//! | file | holds |
//! |---|---|
//! | `driver.rs` | the one task that owns the replica |
//! | `view.rs` | the tree as readers see it |
//! | `rocks.rs`, `store_thread.rs`, `opening.rs` | RocksDB, the thread that writes to it, and how it is opened |
//! | `group.rs`, `group_events.rs` | the process groups of all replicas and of all status stores |
//! | `quorum.rs`, `votes.rs` | the votes |
//! | `identity.rs` | which node of which cluster this is |
//! | `conf_guard.rs`, `conf_change.rs`, `local_conf.rs` | what may become the cluster's corosync.conf; how all members take it together; the local copy |
//! | `mount/` | the tree as a file system, `/etc/pve` |
//! | `commit.rs` | the way of a write |
//! | `grpc.rs`, `handle.rs`, `read.rs`, `transact.rs`, `watchers.rs`, `convert.rs` | `ConfigService` |
//! | `history_grpc.rs` | `HistoryService` |
//! | `generated.rs`, `generated/` | the files that are made up when they are read |
//! | `status/` | what nodes tell each other beside the tree, and `StatusService` |
//! | `guests.rs`, `token_file.rs` | what local programs ask of guests' configurations and of API tokens |
//! | `refusal.rs`, `error.rs` | what a refused write says |
//! | `metrics.rs` | what observers see |

mod aside;
mod commit;
mod conf_change;
mod conf_guard;
mod convert;
mod driver;
mod error;
mod generated;
mod group;
mod group_events;
mod grpc;
mod guests;
mod handle;
mod history_grpc;
mod identity;
mod local_conf;
mod metrics;
mod mount;
mod opening;
mod quorum;
mod read;
mod refusal;
pub mod rocks;
mod status;
mod store_thread;
mod token_file;
mod transact;
mod view;
mod votes;
mod watchers;

use std::sync::Arc;

use config_store_core::Tree;
use quorate_daemon::{Daemon, Failure, Server, Tasks, client::daemon_channel};
use quorate_proto::config::v1::{
    config_service_server::{ConfigServiceServer, SERVICE_NAME},
    history_service_server::{HistoryServiceServer, SERVICE_NAME as HISTORY_SERVICE},
    status_service_server::{self, StatusServiceServer},
};
use tokio::sync::{Notify, mpsc, watch};

use commit::Committer;
use conf_change::{ConfMetrics, ConfNotes};
use driver::{Driver, Parts};
use handle::{COMMANDS_MAX, ReplicaHandle};
use identity::IdentitySource;
use local_conf::Readers;
use metrics::StoreMetrics;
use mount::Mounted;
use status::Status;
use view::View;

/// The service whose health this daemon reports.
pub(crate) const SERVICE: &str = SERVICE_NAME;
/// The service that answers from memory, quorate or not.
const STATUS_SERVICE: &str = status_service_server::SERVICE_NAME;
/// Largest gRPC message: a file of 1 MiB and its attributes, or a page of a long list.
const MESSAGE_MAX: usize = 8 << 20;
/// Largest answer of the status service: properties of all guests.
const LIST_MAX: usize = 64 << 20;
/// Batches and states that may wait for the driver.
const INPUTS_MAX: usize = 256;

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// A configuration or store that cannot be used, a socket that cannot be bound, or a task that failed.
pub async fn run(daemon: Daemon) -> Result<(), Failure> {
    let (commands, command_queue) = mpsc::channel(COMMANDS_MAX);
    let view = View::new(Tree::new());
    let replica = ReplicaHandle { commands };
    let history = history_grpc::HistoryGrpc::new(replica.clone(), view.clone(), daemon.node.name.to_string());
    let history = HistoryServiceServer::new(history).max_encoding_message_size(MESSAGE_MAX);
    let membership = daemon_channel(&daemon.root, "membershipd");
    let committer = Committer::new(replica.clone(), view.clone(), membership.clone());
    let mounted = Mounted::default();
    let notes = ConfNotes::default();
    let grpc = grpc::Grpc::new(replica, view.clone(), committer.clone(), mounted.clone(), notes.clone());
    let service = ConfigServiceServer::new(grpc)
        .max_decoding_message_size(MESSAGE_MAX)
        .max_encoding_message_size(MESSAGE_MAX);
    let identities = IdentitySource::new(&daemon);
    let status = Status::new(view.clone(), identities.clone());
    let status_service = StatusServiceServer::new(status::Grpc::new(status.clone(), view.clone()))
        .max_decoding_message_size(MESSAGE_MAX)
        .max_encoding_message_size(LIST_MAX);
    let server = Server::new(&daemon).service(service).service(history).service(status_service);
    let health = server.health();
    // What is past can be read in every state.
    health.set(HISTORY_SERVICE, true).await;
    let server = server.bind(&daemon.socket())?;

    let (group_inputs, group) = mpsc::channel(INPUTS_MAX);
    let (quorum_inputs, quorum) = mpsc::channel(INPUTS_MAX);
    let (conf, conf_changes) = watch::channel(None);
    let rejoin = Arc::new(Notify::new());
    let parts = Parts {
        store_path: daemon.state_dir().join("tree"),
        identities: identities.clone(),
        view: view.clone(),
        status: status.clone(),
        commands: command_queue,
        group,
        quorum,
        rejoin: Arc::clone(&rejoin),
        conf,
        health: health.clone(),
        metrics: StoreMetrics::register(&daemon.metrics),
        shutdown: daemon.shutdown.clone(),
    };
    let driver = Driver::open(parts).map_err(|error| {
        if driver::is_configuration(&error) { Failure::configuration(error) } else { error.into() }
    })?;

    let votes = daemon_channel(&daemon.root, "quorumd");
    let readers = Readers { membership: membership.clone(), quorum: votes.clone() };
    let shutdown = || daemon.shutdown.clone();
    let mut tasks = Tasks::new(shutdown());
    tasks.spawn("replica", driver.run());
    let join =
        |name, inputs, rejoin| group::keep_joined(name, membership.clone(), inputs, rejoin, shutdown());
    tasks.spawn("group", join(group::CONFIG_GROUP, group_inputs, rejoin));
    let (status_inputs, status_group) = mpsc::channel(INPUTS_MAX);
    let status_rejoin = Arc::new(Notify::new());
    tasks.spawn("status-group", join(group::STATUS_GROUP, status_inputs, Arc::clone(&status_rejoin)));
    let generated = Arc::new(status.clone());
    let (conf_words, words) = mpsc::unbounded_channel();
    let in_group =
        status::keep_running(status.clone(), identities, status_group, status_rejoin, conf_words, shutdown());
    tasks.spawn("status", in_group);
    tasks.spawn("votes", quorum::keep_watching(votes, quorum_inputs, shutdown()));
    let change = conf_change::Parts {
        root: daemon.root.clone(),
        name: daemon.node.name.clone(),
        status,
        view: view.clone(),
        committer: committer.clone(),
        readers,
        notes,
        metrics: ConfMetrics::register(&daemon.metrics),
        shutdown: shutdown(),
    };
    tasks.spawn("conf-change", conf_change::keep_in_force(change, conf_changes, words));
    health.set(STATUS_SERVICE, true).await;
    let mount = mount::Settings::new(&daemon, mounted, view, committer, generated);
    tasks.spawn("mount", mount::keep_mounted(mount, shutdown()));
    tasks.spawn("grpc", server.serve(shutdown()));
    Ok(tasks.run().await?)
}
