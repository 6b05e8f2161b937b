//! The way back from a join that failed: here and at the member.

use std::time::SystemTime;

use quorate_daemon::{client::deadline, status};
use quorate_proto::gateway::v1::WithdrawNodeRequest;
use tonic::Status;

use super::{
    super::{ThisNode, create::identity_failed, progress::Progress},
    Admission,
    apply::{Old, call_member},
    pending::Pending,
};
use crate::{ca, files, fingerprint::Fingerprint, refusal::followed};

/// What became of the admission.
enum Withdrawn {
    /// The cluster has no trace of this node.
    Yes,
    /// The member says that this node has its votes: it is a member after all.
    Confirmed,
    /// The member could not be asked, or refused.
    No(Status),
}

/// Takes the join back, unless the member says that it was complete.
///
/// # Errors
/// The status that led here, followed by what was undone.
pub(super) async fn undo(
    node: &ThisNode,
    admission: &Admission,
    old: Option<Old>,
    why: Status,
    progress: &Progress,
) -> Result<(), Status> {
    progress.step(format!("failed: {}", why.message())).await;
    progress.step("taking everything back").await;
    let there = match withdraw(node, admission).await {
        Withdrawn::Confirmed => {
            tracing::warn!(reason = why.message(), "the member says that this node was confirmed; it stays");
            return Pending::remove(&node.root);
        }
        Withdrawn::Yes => "the member took back the admission".to_owned(),
        Withdrawn::No(status) => format!(
            "the cluster still lists it without votes ({}): the next join of '{}' replaces that, or run 'pvecm \
             delnode {}' on a member",
            status.message(),
            node.name,
            node.name
        ),
    };
    let mut left = Vec::new();
    stop(node, &mut left).await;
    restore(node, old, &mut left).await;
    let here = if left.is_empty() {
        "on this node everything was undone, it is in no cluster".to_owned()
    } else {
        format!("undoing it on this node failed in part: {}", left.join("; "))
    };
    Err(followed(&why, &format!("{here}; {there}; the join token is used up, issue a new one")))
}

/// Tells the member, with the certificate that it gave. Also when this node has not taken it over yet.
async fn withdraw(node: &ThisNode, admission: &Admission) -> Withdrawn {
    let ca = match ca::certificates(&admission.answer.ca_pem) {
        Ok(ca) => Fingerprint::of(&ca[0]),
        Err(error) => return Withdrawn::No(Status::internal(error.to_string())),
    };
    if node.identity.current().ca_fingerprint() != Some(ca) {
        let taken = node.identity.install(&admission.answer.certificate_pem, &admission.answer.ca_pem);
        if let Err(error) = taken {
            return Withdrawn::No(identity_failed(&error));
        }
    }
    let pending = Pending {
        member: admission.member.clone(),
        others: admission.others.clone(),
        ca: ca.to_string(),
        votes: 0,
        tree_set_aside: true,
    };
    let request = WithdrawNodeRequest { node_name: node.name.to_string() };
    let withdrawn = call_member(node, &pending, |mut member| {
        let request = deadline(request.clone(), node.patience.member);
        async move { member.withdraw_node(request).await.map(drop) }
    });
    let Err(refused) = withdrawn.await else { return Withdrawn::Yes };
    match status::reason(&refused).map(|reason| reason.reason).as_deref() {
        Some("NODE_CONFIRMED") => Withdrawn::Confirmed,
        Some("NODE_REMOVED") => Withdrawn::Yes,
        _ => Withdrawn::No(refused),
    }
}

async fn stop(node: &ThisNode, left: &mut Vec<String>) {
    node.leave_ring().await;
    note(left, node.remove_conf().map(drop));
    note(left, node.reload_ring().await);
    note(left, Pending::remove(&node.root));
}

async fn restore(node: &ThisNode, old: Option<Old>, left: &mut Vec<String>) {
    if let Some(old) = old {
        match node.reload_config(true).await {
            Ok(_) => restore_tree(node, &old, left).await,
            Err(status) => left.push(status.message().to_owned()),
        }
        let authkey = match &old.authkey {
            Some(key) => node.write_authkey(key),
            None => files::remove(&node.root.authkey()).map_err(|e| super::super::local::file_failed(&e)),
        };
        note(left, authkey);
    }
    let own = node.identity.leave_cluster(&node.subject(), SystemTime::now());
    note(left, own.map_err(|error| identity_failed(&error)));
}

/// Writes the old entries again, parents first as they were listed by path.
async fn restore_tree(node: &ThisNode, old: &Old, left: &mut Vec<String>) {
    for (path, content) in &old.entries {
        let restored = match content {
            Some(content) => node.tree.write(path, content.clone(), None).await,
            None => node.tree.make_directory(path).await,
        };
        if let Err(status) = restored {
            left.push(format!("{path} in the tree ({})", status.message()));
            return;
        }
    }
}

fn note(left: &mut Vec<String>, done: Result<(), Status>) {
    left.extend(done.err().map(|status| status.message().to_owned()));
}
