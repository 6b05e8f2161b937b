//! What a member keeps true by itself: its gateway's address and its certificate in the tree, and the
//! certificate's renewal before it ends; and a new key of the ring that had to wait for members.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use quorate_proto::{config::v1::get_status_response::State, gateway::v1::UpdateCertificatesResponse};
use rustls_pki_types::CertificateDer;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{
    ca::{self, ClusterCa},
    life_cycle::{ThisNode, conf, create, ready, rekey},
    refusal::prefixed,
    tree::{self, CA_CERTIFICATE, CA_KEY},
};

/// A certificate is renewed when it has less than this left.
const RENEWAL: Duration = Duration::from_secs(30 * 24 * 3600);
/// Pause after everything was found in order.
const CALM: Duration = Duration::from_secs(3600);
/// First pause after a failure; doubles up to [`PAUSE_MAX`]. Without an end: a cluster may be without
/// quorum for long.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Looks after this node's entries until `shutdown`; at once after its identity has changed.
pub async fn run(node: Arc<ThisNode>, shutdown: CancellationToken) {
    let mut identity = node.identity.subscribe();
    let mut pause = PAUSE_MIN;
    loop {
        identity.mark_unchanged();
        let wait = match look_after(&node).await {
            Ok(true) => CALM,
            Ok(false) => pause,
            Err(status) => {
                tracing::debug!(code = ?status.code(), reason = status.message(), "upkeep waits");
                pause
            }
        };
        pause = if wait == CALM { PAUSE_MIN } else { (pause * 2).min(PAUSE_MAX) };
        tokio::select! {
            () = sleep(wait) => {}
            changed = identity.changed() => if changed.is_err() { return },
            () = shutdown.cancelled() => return,
        }
    }
}

/// Does now what [`run`] does from time to time; with `force` the certificate is renewed in any case.
///
/// # Errors
/// FAILED_PRECONDITION, reason `NOT_IN_CLUSTER` or `NOT_QUORATE`; ABORTED while this node joins; what configd says.
pub async fn update(node: &ThisNode, force: bool) -> Result<UpdateCertificatesResponse, Status> {
    let what = "cannot update this node's certificate";
    let before = node.identity.current();
    let Some(authority) = before.ca() else { return Err(conf::not_in_cluster(what)) };
    node.require_quorum(what).await?;
    if force {
        let _busy = node.begin(what)?;
        let renewed = renew(node, authority).await.map_err(|status| prefixed(what, &status))?;
        keep(node, &tree::certificate_path(node.name.as_str()), renewed).await?;
    }
    look_after(node).await.map_err(|status| prefixed(what, &status))?;
    let now = node.identity.current();
    let renewed = now.chain.first() != before.chain.first();
    Ok(UpdateCertificatesResponse { expires: Some(now.facts.not_after.into()), renewed })
}

/// Puts in order what is not; `false` if that is not possible now.
async fn look_after(node: &ThisNode) -> Result<bool, Status> {
    let identity = node.identity.current();
    let Some(authority) = identity.ca() else { return Ok(true) };
    // Not in the middle of a create or join, and only in a tree that is the cluster's.
    let Ok(_busy) = node.begin("upkeep") else { return Ok(false) };
    if ready::tree_now(&node.daemons).await?.state() != State::Synchronised {
        return Ok(false);
    }
    let name = node.name.as_str();
    keep(node, &tree::gateway_path(name), format!("{}\n", node.gateway())).await?;
    let left = identity.facts.not_after.duration_since(SystemTime::now()).unwrap_or_default();
    let certificate = match left < RENEWAL {
        true => renew(node, authority).await?,
        false => pem(&identity.chain[0]),
    };
    keep(node, &tree::certificate_path(name), certificate).await?;
    rekey::catch_up(node).await
}

/// Writes the file if it says something else.
async fn keep(node: &ThisNode, path: &str, content: String) -> Result<(), Status> {
    let present = node.tree.read(path).await?;
    let same = present.as_ref().is_some_and(|file| same(path, &file.text(), &content));
    if same {
        return Ok(());
    }
    tracing::info!(path, "bringing this node's entry up to date");
    node.tree.write(path, content, Some(present.map_or(0, |file| file.version))).await
}

/// Certificates are compared by what they are: their text may be wrapped in another way.
fn same(path: &str, present: &str, content: &str) -> bool {
    if !path.ends_with(".pem") {
        return present == content;
    }
    let first = |pem: &str| ca::certificates(pem).ok().and_then(|found| found.into_iter().next());
    first(present).is_some_and(|present| first(content) == Some(present))
}

async fn renew(node: &ThisNode, authority: &CertificateDer<'_>) -> Result<String, Status> {
    let (certificate, key) = (node.tree.read(CA_CERTIFICATE).await?, node.tree.read(CA_KEY).await?);
    let (Some(certificate), Some(key)) = (certificate, key) else {
        return Err(Status::failed_precondition("the tree has no CA"));
    };
    let failed = |error| create::certificate_failed(&error);
    if ca::certificates(&certificate.text()).map_err(failed)?[0] != *authority {
        return Err(Status::failed_precondition("the CA in the tree is not the one this node trusts"));
    }
    let ca = ClusterCa::from_pem(&certificate.text(), &key.text()).map_err(failed)?;
    let request = node.identity.current().key.request(&node.name).map_err(failed)?;
    let renewed = ca.sign(&request, &node.subject(), SystemTime::now()).map_err(failed)?;
    let installed = node.identity.install(&renewed, ca.certificate_pem());
    installed.map_err(|error| create::identity_failed(&error))?;
    tracing::info!("this node's certificate was renewed");
    Ok(renewed)
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let text = STANDARD.encode(certificate);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("base64 is ASCII")).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}
