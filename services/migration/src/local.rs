//! The other daemons of this node.

use std::time::Duration;

use quorate_daemon::{
    Root,
    client::{DaemonChannel, daemon_channel},
};
use quorate_proto::{
    config::v1::{config_service_client::ConfigServiceClient, status_service_client::StatusServiceClient},
    gateway::v1::cluster_service_client::ClusterServiceClient,
    guest::v1::{
        guest_service_client::GuestServiceClient,
        migration_support_service_client::MigrationSupportServiceClient,
        storage_service_client::StorageServiceClient,
    },
};

/// For calls that read memory.
pub(crate) const READ: Duration = quorate_daemon::client::DEADLINE;
/// For calls that write to the tree.
pub(crate) const WRITE: Duration = Duration::from_secs(8);
/// For calls that start or end a process, or make a volume.
pub(crate) const SLOW: Duration = Duration::from_secs(60);

/// Clients of this node's daemons.
#[derive(Clone)]
pub(crate) struct Local {
    guestd: DaemonChannel,
    configd: DaemonChannel,
    gatewayd: DaemonChannel,
}

impl Local {
    pub(crate) fn new(root: &Root) -> Self {
        let channel = |daemon| daemon_channel(root, daemon);
        Self { guestd: channel("guestd"), configd: channel("configd"), gatewayd: channel("gatewayd") }
    }

    pub(crate) fn guests(&self) -> GuestServiceClient<DaemonChannel> {
        GuestServiceClient::new(self.guestd.clone())
    }

    pub(crate) fn support(&self) -> MigrationSupportServiceClient<DaemonChannel> {
        MigrationSupportServiceClient::new(self.guestd.clone())
    }

    pub(crate) fn storage(&self) -> StorageServiceClient<DaemonChannel> {
        StorageServiceClient::new(self.guestd.clone())
    }

    pub(crate) fn config(&self) -> ConfigServiceClient<DaemonChannel> {
        ConfigServiceClient::new(self.configd.clone())
    }

    pub(crate) fn status(&self) -> StatusServiceClient<DaemonChannel> {
        StatusServiceClient::new(self.configd.clone())
    }

    pub(crate) fn cluster(&self) -> ClusterServiceClient<DaemonChannel> {
        ClusterServiceClient::new(self.gatewayd.clone())
    }
}
