//! This node becomes the first of a new cluster, or everything is as before.
//!
//! 1. Check everything; nothing is changed if anything fails.
//! 2. Write the CA, the node's certificate and corosync.conf into the tree, which is still stand-alone.
//! 3. Take over the certificate, write the ring's key and the node's own corosync.conf, tell the daemons.
//! 4. Wait until ring, votes and tree work.
//!
//! Whatever fails after 1 is taken back.

use std::{collections::BTreeSet, net::IpAddr, time::SystemTime};

use bytes::Bytes;
use corosync_conf::{LinkMode, Transport};
use quorate_proto::{
    config::v1::EntryKind,
    gateway::v1::{self as proto, CreateClusterRequest, CreateClusterResponse},
};
use quorate_types::{ClusterName, NodeId};
use tonic::{Code, Status};

use super::{
    ThisNode, address,
    conf::{NewCluster, NewLink},
    ready, rekey, space,
};
use crate::{
    ca::{CaError, ClusterCa},
    files,
    identity::IdentityError,
    refusal::{Checks, followed, prefixed},
    roster,
    tree::{self, CA_CERTIFICATE, CA_KEY, COROSYNC_CONF},
};

/// Told where a transport was chosen that cannot protect its packets.
const UNPROTECTED: &str = "the ring's packets are neither authenticated nor encrypted (secauth: off): anybody \
     on the ring's network can read and forge them; use the transport knet, or run the ring on a network of its own \
     that you trust";

/// Links of a cluster. Source: spec `knet.md`, 2.
const LINKS_MAX: usize = 8;

/// Everything decided before anything is written.
struct Plan {
    cluster: NewCluster,
    warnings: Vec<String>,
}

/// A file of the tree that was written, with what was there before.
struct Written {
    path: String,
    before: Option<Bytes>,
}

/// Makes this node the first of a new cluster.
///
/// # Errors
/// FAILED_PRECONDITION with all failed checks; else what failed later, with what was undone.
pub async fn create(node: &ThisNode, request: CreateClusterRequest) -> Result<CreateClusterResponse, Status> {
    let what = format!("cannot create cluster '{}'", request.cluster_name);
    let _busy = node.begin(&what)?;
    let plan = check(node, &what, request).await?;
    let mut written = Vec::new();
    let directories = directories(node).await;
    let had_key = files::read(&node.root.authkey()).is_ok_and(|key| key.is_some());
    match found(node, &what, &plan, &mut written).await {
        Ok(()) => {
            let ring = ready::ring_now(&node.daemons).await.ok();
            tracing::info!(cluster = %plan.cluster.name, node_id = %plan.cluster.node_id, "cluster created");
            Ok(CreateClusterResponse {
                corosync_conf: plan.cluster.print(),
                warnings: plan.warnings,
                detection_worst_case: ring.and_then(|ring| ring.detection_worst_case),
            })
        }
        Err(status) => {
            let undone = undo(node, written, &directories, had_key).await;
            tracing::error!(reason = status.message(), undone, "creating the cluster failed");
            Err(followed(&status, &undone))
        }
    }
}

async fn check(node: &ThisNode, what: &str, request: CreateClusterRequest) -> Result<Plan, Status> {
    let mut checks = Checks::default();
    let mut warnings = Vec::new();
    let name = request.cluster_name.parse::<ClusterName>();
    if let Err(why) = &name {
        checks.fail("CLUSTER_NAME_INVALID", &request.cluster_name, format!("the cluster's name: {why}"));
    }
    let votes = request.votes.unwrap_or(1);
    if votes == 0 {
        checks.fail("VOTES_INVALID", votes, "the first node needs at least 1 vote, else nobody is quorate");
    }
    in_cluster(node, what, &mut checks).await?;
    ready::all_answer(&node.daemons, &mut checks).await;
    space::check(&node.root, &mut checks);
    let addresses = address::resolve(&request.link_addresses, node.address, &mut checks, &mut warnings).await;
    let transport = match request.transport() {
        proto::Transport::Unspecified | proto::Transport::Knet => Transport::Knet,
        proto::Transport::Udpu => Transport::Udpu,
        proto::Transport::Udp => Transport::Udp,
    };
    if transport != Transport::Knet {
        warnings.push(UNPROTECTED.to_owned());
    }
    let links = links(&addresses, &request, transport, &mut checks);
    checks.finish(what)?;
    let cluster = NewCluster {
        name: name.map_err(|why| Status::invalid_argument(why.to_string()))?,
        node: node.name.clone(),
        node_id: NodeId::new(request.node_id.max(1)).expect("at least 1"),
        votes,
        links,
        transport,
        link_mode: match request.link_mode() {
            proto::LinkMode::Unspecified | proto::LinkMode::Passive => LinkMode::Passive,
            proto::LinkMode::Active => LinkMode::Active,
            proto::LinkMode::RoundRobin => LinkMode::RoundRobin,
        },
    };
    Ok(Plan { cluster, warnings })
}

/// The links with their priorities.
fn links(
    addresses: &[IpAddr],
    request: &CreateClusterRequest,
    transport: Transport,
    checks: &mut Checks,
) -> Vec<NewLink> {
    let (count, priorities) = (addresses.len(), &request.link_priorities);
    if count > LINKS_MAX {
        checks.fail(
            "LINKS_TOO_MANY",
            count,
            format!("{count} links were given; a cluster has {LINKS_MAX} at most"),
        );
    }
    if count > 1 && transport != Transport::Knet {
        let why = format!(
            "{count} links were given, but the transport {transport} has one; give one address, or use knet"
        );
        checks.fail("LINKS_UNSUPPORTED", count, why);
    }
    for (at, address) in addresses.iter().enumerate() {
        if addresses[..at].contains(address) {
            checks.fail("ADDRESS_REPEATED", address, format!("address {address} was given for two links"));
        }
    }
    if !priorities.is_empty() && priorities.len() != request.link_addresses.len() {
        let why = "give a priority for every link, or for none".to_owned();
        checks.fail("LINK_PRIORITIES", priorities.len(), why);
    }
    let mut priority = |at: usize| {
        let &number = priorities.get(at)?;
        let priority = u8::try_from(number);
        if priority.is_err() {
            let why = format!("priority {number} of link {at} is above {}", u8::MAX);
            checks.fail("LINK_PRIORITY_INVALID", number, why);
        }
        priority.ok()
    };
    addresses.iter().enumerate().map(|(at, &address)| NewLink { address, priority: priority(at) }).collect()
}

/// Notes where this node is known to be in a cluster already.
///
/// # Errors
/// UNAVAILABLE if configd does not answer: without it nothing can be done.
pub(super) async fn in_cluster(node: &ThisNode, what: &str, checks: &mut Checks) -> Result<(), Status> {
    let conf = node.tree.read(COROSYNC_CONF).await;
    let conf = conf.map_err(|status| prefixed(&format!("{what}: cannot read the tree"), &status))?;
    let local = roster::local_conf(&node.root);
    let place = match (&local, &conf) {
        (Some(_), _) => node.root.corosync_conf().display().to_string(),
        (None, Some(_)) => format!("{COROSYNC_CONF} in the configuration tree"),
        (None, None) => return Ok(()),
    };
    let text = local.unwrap_or_else(|| conf.map_or_else(String::new, |file| file.text()));
    let cluster = corosync_conf::ClusterConf::parse(&text)
        .map_or_else(|_| "a cluster".to_owned(), |conf| format!("cluster '{}'", conf.totem.cluster_name));
    let why = format!(
        "this node is in {cluster} already ({place} exists); to use it elsewhere, remove it there first (on another \
         member: pvecm delnode {}) and set it up anew",
        node.name
    );
    checks.fail("ALREADY_IN_CLUSTER", node.name.as_str(), why);
    Ok(())
}

async fn found(node: &ThisNode, what: &str, plan: &Plan, written: &mut Vec<Written>) -> Result<(), Status> {
    let failed = |status: Status| prefixed(what, &status);
    let now = SystemTime::now();
    let ca = authority(node, plan, now, written).await.map_err(failed)?;
    let certificate =
        certify(node, &ca, &plan.cluster.links, now).map_err(|e| failed(certificate_failed(&e)))?;
    let name = node.name.as_str();
    put(node, tree::certificate_path(name), certificate.clone().into(), written).await.map_err(failed)?;
    put(node, tree::gateway_path(name), format!("{}\n", node.gateway()).into(), written)
        .await
        .map_err(failed)?;
    make_guest_directories(node, name).await.map_err(failed)?;
    if plan.cluster.is_protected() {
        make_authkey(node).map_err(failed)?;
    }
    let conf = plan.cluster.print();
    put(node, COROSYNC_CONF.to_owned(), conf.clone().into(), written).await.map_err(failed)?;
    node.identity
        .install(&certificate, ca.certificate_pem())
        .map_err(|error| failed(identity_failed(&error)))?;
    node.write_conf(&conf).map_err(failed)?;
    node.reload_config(false).await.map_err(failed)?;
    node.reload_ring().await.map_err(failed)?;
    let waited = ready::wait(&node.daemons, &node.patience, None).await;
    waited.map_err(|late| not_ready(what, &late))
}

/// Makes the ring's key unless there is one, such as from `corosync-keygen`. Source: pvecm specification, 4.1.
fn make_authkey(node: &ThisNode) -> Result<(), Status> {
    let there = files::read(&node.root.authkey()).map_err(|error| super::local::file_failed(&error))?;
    if there.is_some() {
        return Ok(());
    }
    node.write_authkey(&rekey::random())
}

/// The directories that guests' configurations go to.
///
/// # Errors
/// What configd says.
pub(super) async fn make_guest_directories(node: &ThisNode, name: &str) -> Result<(), Status> {
    node.tree.make_directory(&format!("nodes/{name}/qemu-server")).await?;
    node.tree.make_directory(&format!("nodes/{name}/lxc")).await
}

/// The CA in the tree if there is one (of a node that was separated from a cluster), else a new one.
async fn authority(
    node: &ThisNode,
    plan: &Plan,
    now: SystemTime,
    written: &mut Vec<Written>,
) -> Result<ClusterCa, Status> {
    let certificate = node.tree.read(CA_CERTIFICATE).await?;
    let key = node.tree.read(CA_KEY).await?;
    if let (Some(certificate), Some(key)) = (certificate, key) {
        return ClusterCa::from_pem(&certificate.text(), &key.text()).map_err(|e| certificate_failed(&e));
    }
    let ca = ClusterCa::create(plan.cluster.name.as_str(), now).map_err(|e| certificate_failed(&e))?;
    put(node, CA_KEY.to_owned(), ca.key_pem().into(), written).await?;
    put(node, CA_CERTIFICATE.to_owned(), ca.certificate_pem().to_owned().into(), written).await?;
    Ok(ca)
}

fn certify(node: &ThisNode, ca: &ClusterCa, links: &[NewLink], now: SystemTime) -> Result<String, CaError> {
    let mut subject = node.subject();
    for link in links {
        if !subject.addresses.contains(&link.address) {
            subject.addresses.push(link.address);
        }
    }
    let request = node.identity.current().key.request(&node.name)?;
    ca.sign(&request, &subject, now)
}

async fn put(
    node: &ThisNode,
    path: String,
    content: Bytes,
    written: &mut Vec<Written>,
) -> Result<(), Status> {
    let before = node.tree.read(&path).await?;
    let expected = before.as_ref().map_or(0, |file| file.version);
    // Noted before it is written: a write whose answer was lost must be taken back, too.
    written.push(Written { path: path.clone(), before: before.map(|file| file.content) });
    let put = node.tree.write(&path, content, Some(expected)).await;
    put.map_err(|status| prefixed(&format!("cannot write {path}"), &status))
}

/// The directories that creating a cluster may make, each before the one that it lies in.
fn made_directories(name: &str) -> [String; 5] {
    let own = format!("nodes/{name}");
    [format!("{own}/qemu-server"), format!("{own}/lxc"), own, "nodes".to_owned(), "priv".to_owned()]
}

/// Every directory of the tree.
async fn directories(node: &ThisNode) -> BTreeSet<String> {
    let entries = node.tree.list("").await.unwrap_or_default();
    entries.into_iter().filter(|entry| entry.kind() == EntryKind::Directory).map(|entry| entry.path).collect()
}

/// Takes everything back; says what became of it.
async fn undo(
    node: &ThisNode,
    written: Vec<Written>,
    directories: &BTreeSet<String>,
    had_key: bool,
) -> String {
    let mut left = Vec::new();
    note(&mut left, stop_ring(node).await);
    for Written { path, before } in written.into_iter().rev() {
        let restored = match before {
            Some(content) => node.tree.write(&path, content, None).await,
            None => node.tree.delete(&path, None).await.map(drop),
        };
        note(&mut left, restored.map_err(|status| prefixed(&format!("{path} in the tree"), &status)));
    }
    for made in made_directories(node.name.as_str()).into_iter().filter(|made| !directories.contains(made)) {
        // One that is not empty has become somebody's meanwhile.
        let _ = node.tree.delete(&made, None).await;
    }
    // configd may have copied corosync.conf from the tree once more before it was deleted there.
    if node.remove_conf().is_ok_and(|there| there) {
        note(&mut left, reload_all(node).await);
    }
    if !had_key {
        let removed = files::remove(&node.root.authkey());
        note(&mut left, removed.map_err(|error| super::local::file_failed(&error)));
    }
    let own = node.identity.leave_cluster(&node.subject(), SystemTime::now());
    note(&mut left, own.map_err(|error| identity_failed(&error)));
    if left.is_empty() {
        return "everything was undone, this node is in no cluster".to_owned();
    }
    format!("undoing it failed in part: {}", left.join("; "))
}

fn note(left: &mut Vec<String>, done: Result<(), Status>) {
    left.extend(done.err().map(|status| status.message().to_owned()));
}

async fn stop_ring(node: &ThisNode) -> Result<(), Status> {
    node.remove_conf()?;
    reload_all(node).await
}

async fn reload_all(node: &ThisNode) -> Result<(), Status> {
    let ring = node.reload_ring().await;
    node.reload_config(false).await?;
    ring
}

/// A step that did not come about in time.
pub(super) fn not_ready(what: &str, late: &ready::NotReady) -> Status {
    let message = format!("{what}: {}", late.description);
    quorate_daemon::status::error(Code::DeadlineExceeded, late.reason, message, [("", ""); 0])
}

/// A certificate or key could not be made.
pub(crate) fn certificate_failed(error: &CaError) -> Status {
    let message = quorate_daemon::telemetry::chain(error);
    quorate_daemon::status::error(Code::FailedPrecondition, "CERTIFICATE_FAILED", message, [("", ""); 0])
}

/// A certificate could not be taken over.
pub(crate) fn identity_failed(error: &IdentityError) -> Status {
    let message = quorate_daemon::telemetry::chain(error);
    quorate_daemon::status::error(Code::Internal, "IDENTITY_NOT_CHANGED", message, [("", ""); 0])
}
