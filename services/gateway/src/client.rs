//! The ways to the other daemons of this node.
//!
//! One channel per daemon, kept for good: it connects at the first call and again after a restart of
//! the daemon. Calls that pass through the gateway share these channels with its own.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use hyper_util::rt::TokioIo;
use quorate_daemon::{
    Root,
    client::{DaemonChannel, traced},
};
use quorate_proto::{
    config::v1::config_service_client::ConfigServiceClient,
    membership::v1::membership_service_client::MembershipServiceClient,
    quorum::v1::quorum_service_client::QuorumServiceClient,
};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

/// The daemons behind the gateway, in the order in which they depend on each other.
pub const DAEMONS: [&str; 3] = ["membershipd", "quorumd", "configd"];
/// Daemons to which calls pass, and without which the node is whole all the same: nothing of the cluster depends on them.
pub const BESIDES: [&str; 2] = ["guestd", "migrationd"];

/// Deadline of calls that only read another daemon's memory.
pub const READ: Duration = quorate_daemon::client::DEADLINE;
/// Deadline of a write to the tree: it waits for a synchronisation in progress, and for a majority.
pub const WRITE: Duration = Duration::from_secs(20);
/// Deadline of a reload: configd sets aside and opens trees in it.
pub const RELOAD: Duration = Duration::from_secs(20);

/// How long a local connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// What one stream may have under way. Small against [`CONNECTION_WINDOW`], so that many clients that
/// do not read their streams cannot hold up the connection for the others.
const STREAM_WINDOW: u32 = 256 * 1024;
/// What one connection may have under way.
const CONNECTION_WINDOW: u32 = 64 * 1024 * 1024;

/// Channels to all daemons of this node.
#[derive(Clone)]
pub struct Daemons {
    root: Root,
    channels: BTreeMap<&'static str, Channel>,
}

impl Daemons {
    /// Channels to the daemons below `root`; nothing is connected yet.
    #[must_use]
    pub fn new(root: &Root) -> Self {
        let daemons = DAEMONS.into_iter().chain(BESIDES);
        let channels = daemons.map(|daemon| (daemon, channel(root.socket(daemon)))).collect();
        Self { root: root.clone(), channels }
    }

    /// The channel to a daemon of [`DAEMONS`] or [`BESIDES`].
    ///
    /// # Panics
    /// For any other name.
    #[must_use]
    pub fn channel(&self, daemon: &str) -> DaemonChannel {
        traced(self.untraced(daemon))
    }

    /// The same without spans: for what is no call, such as reading metrics.
    ///
    /// # Panics
    /// For a name that is not in [`DAEMONS`].
    #[must_use]
    pub fn untraced(&self, daemon: &str) -> Channel {
        self.channels.get(daemon).expect("one of DAEMONS or BESIDES").clone()
    }

    /// Where this node's files are.
    #[must_use]
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// configd's own API.
    #[must_use]
    pub fn config(&self) -> ConfigServiceClient<DaemonChannel> {
        ConfigServiceClient::new(self.channel("configd"))
    }

    /// quorumd's own API.
    #[must_use]
    pub fn quorum(&self) -> QuorumServiceClient<DaemonChannel> {
        QuorumServiceClient::new(self.channel("quorumd"))
    }

    /// membershipd's own API.
    #[must_use]
    pub fn membership(&self) -> MembershipServiceClient<DaemonChannel> {
        MembershipServiceClient::new(self.channel("membershipd"))
    }
}

/// The daemon that serves this service; `None` if none of [`DAEMONS`] and [`BESIDES`] does.
#[must_use]
pub fn daemon_of(service: &str) -> Option<&'static str> {
    match service {
        "quorate.membership.v1.MembershipService" => Some("membershipd"),
        "quorate.quorum.v1.QuorumService" => Some("quorumd"),
        "quorate.config.v1.ConfigService"
        | "quorate.config.v1.HistoryService"
        | "quorate.config.v1.StatusService" => Some("configd"),
        "quorate.migration.v1.MigrationService" | "quorate.migration.v1.MigrationPeerService" => {
            Some("migrationd")
        }
        "quorate.guest.v1.GuestService"
        | "quorate.guest.v1.MigrationSupportService"
        | "quorate.guest.v1.StorageService" => Some("guestd"),
        _ => None,
    }
}

fn channel(socket: PathBuf) -> Channel {
    let connect = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://localhost")
        .connect_timeout(CONNECT)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .connect_with_connector_lazy(connect)
}
