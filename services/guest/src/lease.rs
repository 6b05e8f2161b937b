//! Leases in the tree: a guest runs on one node only. See `guest_core::lease`.

use std::{sync::Arc, time::Duration};

use guest_core::{Lease, Vmid, lease};
use quorate_daemon::client::{daemon_channel, deadline};
use quorate_proto::{
    config::v1::transact_operation::{Check, Operation, Put},
    quorum::v1::{GetStatusRequest, quorum_node::State, quorum_service_client::QuorumServiceClient},
};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{
    error::Error,
    guests::{Guests, Read},
    launch::now,
};

/// Pause between attempts to give back leases.
const AGAIN: Duration = Duration::from_secs(2);
/// Attempts of a transaction that somebody else was faster than.
const ATTEMPTS: usize = 4;

/// Takes the lease of a guest, in one step with a look at its configuration, which is written if it has changed.
/// `node_is_off` is the node of which the operator says that it is off.
///
/// # Errors
/// [`Error::LeaseHeld`]; [`Error::NodePresent`]; [`Error::Tree`] without quorum.
pub(crate) async fn take(
    guests: &Guests,
    vmid: Vmid,
    read: &Read,
    changed: Option<String>,
    node_is_off: &str,
) -> Result<(), Error> {
    guests.tree.make_directory(lease::DIRECTORY).await?;
    let path = lease::path(vmid);
    let mut attempt = 0;
    loop {
        attempt += 1;
        let (held, version) = match guests.tree.read(&path).await? {
            Some(file) => (Lease::parse(&file.content).ok(), file.version),
            None => (None, 0),
        };
        if let Some(held) = held.filter(|held| held.node != guests.node) {
            if held.node != node_is_off {
                return Err(Error::LeaseHeld { vmid: vmid.get(), node: held.node });
            }
            if is_present(guests, &held.node).await? {
                return Err(Error::NodePresent { vmid: vmid.get(), node: held.node });
            }
        }
        let config_path = guests.config_path(vmid);
        let look = match &changed {
            Some(text) => Operation::Put(Put {
                path: config_path,
                content: text.clone().into(),
                expected_version: Some(read.version),
            }),
            None => Operation::Check(Check {
                path: config_path,
                expected_version: Some(read.version),
                ..Check::default()
            }),
        };
        let ours = Lease { node: guests.node.clone(), since: now() };
        let put = Put { path: path.clone(), content: ours.print().into(), expected_version: Some(version) };
        match guests.tree.transact(vec![look, Operation::Put(put)]).await {
            Ok(_) => return Ok(()),
            Err(status) if attempt < ATTEMPTS && is_about_lease(&status) => {}
            Err(status) => return Err(status.into()),
        }
    }
}

/// Whether the lease, not the configuration, was changed by somebody else.
fn is_about_lease(status: &Status) -> bool {
    let index =
        quorate_daemon::status::reason(status).and_then(|reason| reason.metadata.get("index").cloned());
    crate::tree::is_version_mismatch(status) && index.as_deref() == Some("1")
}

/// Whether a node is in the ring now.
async fn is_present(guests: &Guests, node: &str) -> Result<bool, Error> {
    let mut quorum = QuorumServiceClient::new(daemon_channel(&guests.root, "quorumd"));
    let limit = quorate_daemon::client::DEADLINE;
    let status = quorum.get_status(deadline(GetStatusRequest {}, limit)).await?.into_inner().status;
    let nodes = status.map(|status| status.nodes).unwrap_or_default();
    Ok(nodes.iter().any(|one| one.name == node && one.state() == State::Member))
}

/// Gives back the lease of a guest whose process is dead; tried again later if it cannot be done now.
pub(crate) async fn give_back(guests: &Guests, vmid: Vmid) {
    if let Err(status) = try_give_back(guests, vmid).await {
        tracing::warn!(vmid = vmid.get(), reason = status.message(), "its lease is given back later");
        guests.leases_left.notify_one();
    }
}

async fn try_give_back(guests: &Guests, vmid: Vmid) -> Result<(), Status> {
    let path = lease::path(vmid);
    let Some(file) = guests.tree.read(&path).await? else { return Ok(()) };
    let ours = Lease::parse(&file.content).is_ok_and(|lease| lease.node == guests.node);
    if ours { guests.tree.delete(&path, file.version).await } else { Ok(()) }
}

/// Gives back what an earlier run, or a time without quorum, has left.
pub(crate) async fn keep_clean(guests: Arc<Guests>, shutdown: CancellationToken) {
    guests.leases_left.notify_one();
    while shutdown.run_until_cancelled(guests.leases_left.notified()).await.is_some() {
        while let Err(reason) = sweep(&guests).await {
            tracing::debug!(reason = reason.message(), "leases are given back later");
            if shutdown.run_until_cancelled(tokio::time::sleep(AGAIN)).await.is_none() {
                return;
            }
        }
    }
}

async fn sweep(guests: &Guests) -> Result<(), Status> {
    if !guests.tree.is_writable().await {
        return Err(Status::unavailable("the tree cannot be written"));
    }
    for name in guests.tree.names(lease::DIRECTORY).await? {
        let Ok(vmid) = name.parse::<Vmid>() else { continue };
        // A start that is under way has the lease and no process yet.
        let _turn = guests.turn(vmid).await;
        if guests.machine(vmid).is_none() {
            try_give_back(guests, vmid).await?;
        }
    }
    Ok(())
}
