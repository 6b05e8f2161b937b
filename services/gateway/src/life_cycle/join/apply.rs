//! Becoming a member on this node: keep the old tree, write what the member gave, start, wait, be confirmed.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use quorate_daemon::{client::deadline, status};
use quorate_proto::{
    config::v1::EntryKind,
    gateway::v1::{ConfirmNodeRequest, cluster_service_client::ClusterServiceClient},
};
use tokio::time::{Instant, sleep};
use tonic::{Code, Status};

use super::{
    super::{
        ThisNode, conf, counted,
        create::{identity_failed, not_ready},
        progress::Progress,
        ready, token,
    },
    Admission,
    pending::Pending,
    plan::Plan,
};
use crate::{ca, files, fingerprint::Fingerprint, member, refusal::prefixed, tls};

/// What this node had before it joined.
pub(super) struct Old {
    /// The tree: directories and files, by path.
    pub(super) entries: Vec<(String, Option<Bytes>)>,
    /// The ring's key.
    pub(super) authkey: Option<Vec<u8>>,
}

/// Reads what this node has now.
///
/// # Errors
/// What configd says; a file that cannot be read.
pub(super) async fn keep(node: &ThisNode) -> Result<Old, Status> {
    let mut entries = Vec::new();
    for entry in node.tree.list("").await? {
        let content = match entry.kind() {
            EntryKind::File => node.tree.read(&entry.path).await?.map(|file| file.content),
            _ => None,
        };
        entries.push((entry.path, content));
    }
    let authkey = files::read(&node.root.authkey());
    Ok(Old { entries, authkey: authkey.map_err(|error| super::super::local::file_failed(&error))? })
}

/// Steps 3 to 5 of a join.
///
/// # Errors
/// Whatever failed; nothing is taken back here.
pub(super) async fn apply(
    node: &ThisNode,
    plan: &Plan,
    admission: &Admission,
    what: &str,
    progress: &Progress,
) -> Result<(), Status> {
    let failed = |status: Status| prefixed(what, &status);
    let answer = &admission.answer;
    let ca = check_answer(plan, admission, what)?;
    node.identity
        .install(&answer.certificate_pem, &answer.ca_pem)
        .map_err(|error| failed(identity_failed(&error)))?;
    if !answer.authkey.is_empty() {
        node.write_authkey(&answer.authkey).map_err(failed)?;
    }
    let mut pending = Pending {
        member: admission.member.clone(),
        others: admission.others.clone(),
        ca: ca.to_string(),
        votes: plan.votes,
        tree_set_aside: false,
    };
    pending.write(&node.root).map_err(failed)?;
    node.write_conf(&answer.corosync_conf).map_err(failed)?;
    complete(node, &mut pending, what, Some(progress)).await
}

/// The rest of step 3, with all files in place: an empty tree, once; then the ring. Harmless when repeated.
async fn start(node: &ThisNode, pending: &mut Pending, progress: Option<&Progress>) -> Result<(), Status> {
    if !pending.tree_set_aside {
        let backup = node.reload_config(true).await?;
        pending.tree_set_aside = true;
        pending.write(&node.root)?;
        if let Some(progress) = progress.filter(|_| !backup.is_empty()) {
            progress.step(format!("the old configuration tree was set aside in {backup}")).await;
        }
    }
    if let Some(progress) = progress {
        progress.step("starting the ring").await;
    }
    node.reload_ring().await
}

/// The member's answer must be for this node, and from the cluster that is trusted.
fn check_answer(plan: &Plan, admission: &Admission, what: &str) -> Result<Fingerprint, Status> {
    let unusable = |why: String| {
        let message = format!("{what}: the answer of {} cannot be used: {why}", admission.member);
        status::error(Code::DataLoss, "ADMISSION_UNUSABLE", message, [("member", &admission.member)])
    };
    let ca = ca::certificates(&admission.answer.ca_pem).map_err(|error| unusable(error.to_string()))?;
    let ca = Fingerprint::of(&ca[0]);
    if plan.trusted == plan.token.fingerprint && ca != plan.trusted {
        return Err(unusable(format!("its CA has fingerprint {ca}, the token says {}", plan.trusted)));
    }
    let conf = corosync_conf::ClusterConf::parse(&admission.answer.corosync_conf);
    let conf = conf.map_err(|mistakes| unusable(format!("its corosync.conf has mistakes: {mistakes}")))?;
    match conf.nodes.iter().any(|node| node.id.get() == admission.answer.node_id) {
        true => Ok(ca),
        false => Err(unusable("its corosync.conf does not list this node".to_owned())),
    }
}

/// Everything after the files were written: starts the ring, waits until this node works, is confirmed.
///
/// # Errors
/// DEADLINE_EXCEEDED with what did not come about; what a daemon of this node or the member says.
pub(super) async fn complete(
    node: &ThisNode,
    pending: &mut Pending,
    what: &str,
    progress: Option<&Progress>,
) -> Result<(), Status> {
    start(node, pending, progress).await.map_err(|status| prefixed(what, &status))?;
    let waited = ready::wait(&node.daemons, &node.patience, progress).await;
    waited.map_err(|late| not_ready(what, &late))?;
    if let Some(progress) = progress {
        progress.step("asking for this node's votes").await;
    }
    let confirmed = confirm(node, pending).await;
    confirmed.map_err(|status| prefixed(&format!("{what}: not confirmed"), &status))?;
    if pending.votes > 0 {
        counted::wait(node, &node.name).await;
    }
    Pending::remove(&node.root)
}

/// Asks until the member agrees or time is up: its own view of the ring may be some moments behind.
async fn confirm(node: &ThisNode, pending: &Pending) -> Result<(), Status> {
    let end = Instant::now() + node.patience.confirm;
    loop {
        let refused = match confirm_once(node, pending).await {
            Ok(()) => return Ok(()),
            Err(status) => status,
        };
        let passing = match refused.code() {
            Code::Unavailable | Code::Aborted | Code::Unknown | Code::DeadlineExceeded | Code::Cancelled => {
                true
            }
            Code::FailedPrecondition => status::reason(&refused)
                .is_some_and(|r| matches!(r.reason.as_str(), "NOT_QUORATE" | "NODE_NOT_IN_RING")),
            _ => false,
        };
        if !passing || Instant::now() >= end {
            return Err(refused);
        }
        sleep(node.patience.pause).await;
    }
}

async fn confirm_once(node: &ThisNode, pending: &Pending) -> Result<(), Status> {
    let message = ConfirmNodeRequest { node_name: node.name.to_string(), votes: pending.votes };
    call_member(node, pending, |mut member| {
        let request = deadline(message.clone(), node.patience.member);
        async move { member.confirm_node(request).await.map(drop) }
    })
    .await
}

/// Calls the member that admitted this node; if it does not answer, the others that the token names and those that the
/// tree knows: each of them can do what the first can.
///
/// # Errors
/// What the first one said that answered; UNAVAILABLE if none did.
pub(super) async fn call_member<F>(
    node: &ThisNode,
    pending: &Pending,
    call: impl Fn(Member) -> F,
) -> Result<(), Status>
where
    F: Future<Output = Result<(), Status>>,
{
    let mut asked = BTreeSet::new();
    let mut silent = Vec::new();
    let named = std::iter::once(&pending.member).chain(&pending.others).cloned().collect::<Vec<_>>();
    for address in named.into_iter().chain(other_gateways(node).await) {
        if !asked.insert(address.clone()) {
            continue;
        }
        let answer = match member_client(node, pending, &address).await {
            Ok(client) => call(client).await,
            Err(status) => Err(status),
        };
        match answer {
            Err(status) if matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded) => {
                tracing::debug!(address, reason = status.message(), "this member does not answer");
                silent.push(status);
            }
            answer => return answer,
        }
    }
    Err(silent.into_iter().next().expect("at least the member that admitted this node was asked"))
}

/// Where the other nodes' gateways are, as far as this node's replica knows.
async fn other_gateways(node: &ThisNode) -> Vec<String> {
    match conf::read(&node.tree, "").await {
        Ok(present) => token::gateways(node, &present.conf).await.split_off(1),
        Err(_) => Vec::new(),
    }
}

/// Another node's gateway.
pub(super) type Member = ClusterServiceClient<quorate_daemon::client::DaemonChannel>;

/// A member, shown this node's new certificate.
///
/// # Errors
/// UNAVAILABLE and others if it cannot be reached.
async fn member_client(node: &ThisNode, pending: &Pending, address: &str) -> Result<Member, Status> {
    let internal = |why: String| Status::internal(why);
    let ca = pending
        .ca
        .parse()
        .map_err(|error: crate::fingerprint::FingerprintError| internal(error.to_string()))?;
    let config: Arc<_> = tls::client_config(ca, Some(&node.identity.current()))
        .map_err(|error| internal(quorate_daemon::telemetry::chain(&error)))?;
    let channel = member::connect(address, config, node.patience.dial).await;
    let channel = channel.map_err(|error| Status::unavailable(quorate_daemon::telemetry::chain(&error)))?;
    Ok(ClusterServiceClient::new(channel))
}
