//! What SIGHUP does: each daemon that uses corosync.conf reads it again.

use quorate_daemon::{
    Root,
    client::{DEADLINE, daemon_channel, deadline},
};
use quorate_proto::{
    config::v1::{self as config, config_service_client::ConfigServiceClient},
    membership::v1::{self as membership, membership_service_client::MembershipServiceClient},
    quorum::v1::{self as quorum, quorum_service_client::QuorumServiceClient},
};
use tonic::Status;

/// Asks membershipd, quorumd and configd, in this order, to read corosync.conf again. One that refuses or does not
/// answer is logged; it reads the file at its next start in any case.
pub(crate) async fn reload(root: &Root) {
    let mut ring = MembershipServiceClient::new(daemon_channel(root, "membershipd"));
    tell("membershipd", ring.reload(deadline(membership::ReloadRequest {}, DEADLINE)).await.map(drop));
    let mut votes = QuorumServiceClient::new(daemon_channel(root, "quorumd"));
    tell("quorumd", votes.reload(deadline(quorum::ReloadRequest {}, DEADLINE)).await.map(drop));
    let mut tree = ConfigServiceClient::new(daemon_channel(root, "configd"));
    let keep = config::ReloadRequest { discard_tree: false };
    tell("configd", tree.reload(deadline(keep, DEADLINE)).await.map(drop));
}

fn tell(daemon: &str, answer: Result<(), Status>) {
    match answer {
        Ok(()) => tracing::info!(daemon, "reloaded"),
        Err(status) => {
            tracing::warn!(daemon, code = ?status.code(), error = status.message(), "not reloaded")
        }
    }
}
