//! A member admits a joining node: checks everything, signs its certificate, lists it without votes.
//!
//! Without votes the node cannot take the quorum away from the others, whatever becomes of it. Its votes
//! come with ConfirmNode, when it is in the ring and in sync.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use corosync_conf::{ClusterConf, NewNode};
use quorate_daemon::status;
use quorate_proto::gateway::v1::{AdmitNodeRequest, AdmitNodeResponse};
use quorate_types::{NodeId, NodeName};
use tonic::{Code, Status};

use super::{
    ThisNode,
    conf::{self, Change, Present},
    create::{certificate_failed, make_guest_directories},
    online, rekey, token, withdraw,
};
use crate::{
    auth::PresentedToken,
    ca::{ClusterCa, Subject},
    files,
    refusal::{Checks, Violation, followed, prefixed},
    roster,
    tree::{self, CA_CERTIFICATE, CA_KEY},
};

/// A difference of clocks that is worth a warning. Source: conventions for error texts, join example.
const CLOCK_SKEW: Duration = Duration::from_millis(500);

/// Who wants to join, as far as its request makes sense by itself.
#[derive(Debug, Clone)]
pub struct Applicant {
    /// Its name.
    pub name: NodeName,
    /// The id it wants; `None` for any.
    pub node_id: Option<NodeId>,
    /// Its addresses, one per link.
    pub addresses: Vec<IpAddr>,
    /// Where its gateway listens.
    pub gateway: SocketAddr,
}

/// What the cluster knows that corosync.conf does not say.
pub struct Surroundings {
    /// Ids of the nodes that are in the ring.
    pub online: BTreeSet<u32>,
    /// Where gateways listen, by node name.
    pub gateways: BTreeMap<String, String>,
    /// Ids of the nodes that were admitted and not confirmed, by node name.
    pub joining: BTreeMap<String, u32>,
}

/// Admits a node.
///
/// # Errors
/// INVALID_ARGUMENT for a request that makes no sense; FAILED_PRECONDITION with all failed checks, or
/// reason `NOT_IN_CLUSTER`, `NOT_QUORATE`, `TOKEN_USED`; what configd says.
pub async fn admit(
    node: &ThisNode,
    presented: &PresentedToken,
    request: AdmitNodeRequest,
) -> Result<AdmitNodeResponse, Status> {
    let what = format!("cannot admit node '{}'", request.node_name);
    let applicant = Applicant::from_request(&request)?;
    let present = conf::read(&node.tree, &what).await?;
    let votes = node.require_quorum(&what).await?;
    let around = Surroundings {
        online: online(&votes),
        gateways: gateways(node, &present.conf).await,
        joining: joining(node, &applicant.name).await.map_err(|status| prefixed(&what, &status))?,
    };

    let mut checks = Checks::default();
    check_token(presented, &applicant, &present.conf, &mut checks);
    check(&present.conf, &applicant, &around, &mut checks);
    checks.finish(&what)?;
    let (ca, certificate) = sign(node, &what, &request, &applicant).await?;

    token::consume(&node.tree, &what, presented).await?;
    let listed = list(node, &what, &applicant, &around, &certificate).await;
    let listed = match listed {
        Ok(listed) => listed,
        Err(status) if token::give_back(&node.tree, presented).await => {
            return Err(followed(&status, "the join token can be used again"));
        }
        Err(status) => return Err(followed(&status, "the join token is used up; issue a new one")),
    };
    tracing::info!(name = %applicant.name, node_id = %listed.value, config_version = listed.config_version, "node admitted");
    Ok(AdmitNodeResponse {
        node_id: listed.value.get(),
        authkey: authkey(node, &what, &present.conf, listed.config_version).await?,
        corosync_conf: listed.text,
        ca_pem: ca,
        certificate_pem: certificate,
        warnings: warnings(&request, &present.conf),
    })
}

impl Applicant {
    /// Reads a request.
    ///
    /// # Errors
    /// INVALID_ARGUMENT, naming the field.
    pub fn from_request(request: &AdmitNodeRequest) -> Result<Self, Status> {
        let name = request.node_name.parse::<NodeName>();
        let name = name.map_err(|why| status::invalid_field("node_name", why.to_string()))?;
        let addresses: Result<Vec<IpAddr>, _> = request.link_addresses.iter().map(|a| a.parse()).collect();
        let addresses =
            addresses.map_err(|_| status::invalid_field("link_addresses", "must be IP addresses"))?;
        if addresses.is_empty() {
            return Err(status::invalid_field("link_addresses", "at least one address is needed"));
        }
        let gateway = request.gateway_address.parse();
        let gateway = gateway
            .map_err(|_| status::invalid_field("gateway_address", "must be an IP address and a port"))?;
        Ok(Self { name, node_id: NodeId::new(request.node_id).ok(), addresses, gateway })
    }
}

fn check_token(presented: &PresentedToken, applicant: &Applicant, conf: &ClusterConf, checks: &mut Checks) {
    let PresentedToken { token, record, .. } = presented;
    if token.cluster != conf.totem.cluster_name {
        let why = format!(
            "join token {} is for cluster '{}', this is cluster '{}'; issue one on a member of this cluster",
            token.id, token.cluster, conf.totem.cluster_name
        );
        checks.fail("TOKEN_FOREIGN_CLUSTER", token.id, why);
    }
    if !record.node_name.is_empty() && record.node_name != applicant.name.as_str() {
        let why = format!(
            "join token {} is for node '{}', not for '{}'; issue one for this node, or for any",
            token.id, record.node_name, applicant.name
        );
        checks.fail("TOKEN_FOREIGN_NODE", token.id, why);
    }
}

/// Checks the applicant against the cluster, and gives the id it would get.
pub fn check(
    conf: &ClusterConf,
    applicant: &Applicant,
    around: &Surroundings,
    checks: &mut Checks,
) -> Option<NodeId> {
    let known = conf.node_named(applicant.name.as_str());
    // A node that was admitted and never came: it may try again. One without votes that was confirmed is a member,
    // on or off.
    let unconfirmed = known.filter(|node| {
        let id = node.id.get();
        around.joining.get(node.name.as_str()) == Some(&id) && node.votes == 0 && !around.online.contains(&id)
    });
    if let Some(known) = known.filter(|_| unconfirmed.is_none()) {
        checks.add(Violation {
            reason: "NODE_NAME_TAKEN",
            subject: applicant.name.to_string(),
            description: format!(
                "the cluster has a node '{}' already (id {}); if that node is gone for good, remove it first \
                 with 'pvecm delnode {}', else give this node another 'name' in node.toml",
                applicant.name, known.id, applicant.name
            ),
            metadata: vec![("node_id", known.id.to_string())],
        });
    }
    check_addresses(conf, applicant, around, checks);
    for mistake in conf.check_for_join().errors {
        checks.fail("CONFIGURATION_INVALID", &mistake.key, format!("the cluster's corosync.conf: {mistake}"));
    }
    let wanted = applicant.node_id.or(unconfirmed.map(|node| node.id)).or_else(|| conf.free_node_id())?;
    if let Some(holder) = conf.node(wanted).filter(|holder| holder.name != applicant.name) {
        checks.add(Violation {
            reason: "NODE_ID_TAKEN",
            subject: wanted.to_string(),
            description: format!(
                "node id {wanted} is used by node '{}'; choose another with --nodeid, or none to get a free one",
                holder.name
            ),
            metadata: vec![("node", holder.name.to_string())],
        });
    }
    Some(wanted)
}

fn check_addresses(conf: &ClusterConf, applicant: &Applicant, around: &Surroundings, checks: &mut Checks) {
    let others = || conf.nodes.iter().filter(|node| node.name != applicant.name);
    let same = |text: &str, address: &IpAddr| text.parse().is_ok_and(|other: IpAddr| other == *address);
    for (at, address) in applicant.addresses.iter().enumerate() {
        if applicant.addresses[..at].contains(address) {
            checks.fail("ADDRESS_REPEATED", address, format!("address {address} was given for two links"));
        }
        if let Some(holder) = others().find(|node| node.addresses.values().any(|a| same(a, address))) {
            let why = format!(
                "address {address} is used by node '{}'; two nodes must not share one: give this node's own with \
                 --link0",
                holder.name
            );
            checks.fail("ADDRESS_TAKEN", address, why);
        }
    }
    let links = conf.nodes.first().map_or(1, |node| node.addresses.len());
    let given = applicant.addresses.len();
    if given != links {
        let why = format!(
            "the nodes of this cluster have {links} link(s), but {given} address(es) were given; give {links}"
        );
        checks.fail("LINK_COUNT", given, why);
    }
    let gateway = applicant.gateway.to_string();
    let holder =
        around.gateways.iter().find(|(name, at)| **at == gateway && *name != applicant.name.as_str());
    if let Some((holder, _)) = holder {
        let why = format!("the gateway of node '{holder}' listens on {gateway} already");
        checks.fail("GATEWAY_TAKEN", gateway, why);
    }
}

async fn gateways(node: &ThisNode, conf: &ClusterConf) -> BTreeMap<String, String> {
    let mut gateways = BTreeMap::new();
    for other in &conf.nodes {
        if let Some(address) = token::gateway_of(&node.tree, other.name.as_str()).await {
            gateways.insert(other.name.to_string(), address);
        }
    }
    gateways
}

/// The id with which the node was admitted, if it was not confirmed since.
async fn joining(node: &ThisNode, name: &NodeName) -> Result<BTreeMap<String, u32>, Status> {
    let file = node.tree.read(&tree::joining_path(name.as_str())).await?;
    let id = file.and_then(|file| file.text().trim().parse().ok());
    Ok(id.map(|id| (name.to_string(), id)).into_iter().collect())
}

/// The CA's certificate and the node's, both in PEM.
async fn sign(
    node: &ThisNode,
    what: &str,
    request: &AdmitNodeRequest,
    applicant: &Applicant,
) -> Result<(String, String), Status> {
    let failed = |status: Status| prefixed(what, &status);
    let certificate = node.tree.read(CA_CERTIFICATE).await.map_err(failed)?;
    let key = node.tree.read(CA_KEY).await.map_err(failed)?;
    let (Some(certificate), Some(key)) = (certificate, key) else {
        let message = format!("{what}: the tree has no {CA_CERTIFICATE} or no {CA_KEY}");
        return Err(status::error(Code::FailedPrecondition, "CA_MISSING", message, [("", ""); 0]));
    };
    let ca =
        ClusterCa::from_pem(&certificate.text(), &key.text()).map_err(|e| failed(certificate_failed(&e)))?;
    let mut addresses = applicant.addresses.clone();
    if !addresses.contains(&applicant.gateway.ip()) {
        addresses.push(applicant.gateway.ip());
    }
    let subject = Subject { name: applicant.name.clone(), addresses };
    let signed = ca.sign(&request.csr_pem, &subject, SystemTime::now());
    let signed = signed.map_err(|error| match error {
        crate::ca::CaError::Request(_) => {
            status::invalid_field("csr_pem", quorate_daemon::telemetry::chain(&error))
        }
        error => failed(certificate_failed(&error)),
    })?;
    Ok((ca.certificate_pem().to_owned(), signed))
}

/// Lists the node in corosync.conf, then publishes its certificate: in this order a node that is listed
/// already never loses its certificate to one that is refused in the last moment.
async fn list(
    node: &ThisNode,
    what: &str,
    applicant: &Applicant,
    around: &Surroundings,
    certificate: &str,
) -> Result<conf::Changed<NodeId>, Status> {
    let listed = conf::edit(&node.tree, what, |present: &mut Present| {
        // Others may have joined since the first look.
        let mut checks = Checks::default();
        let id = check(&present.conf, applicant, around, &mut checks);
        checks.finish(what)?;
        let id = id.ok_or_else(|| Status::resource_exhausted("every node id is used"))?;
        let addresses = (0..).zip(applicant.addresses.iter().map(IpAddr::to_string)).collect();
        let new = NewNode { name: applicant.name.clone(), id, votes: 0, addresses };
        present.tree.add_node(&new).map_err(|mistake| Status::invalid_argument(mistake.to_string()))?;
        Ok(Change::Write(id))
    })
    .await?;
    if let Err(status) = publish(node, applicant, listed.value, certificate).await {
        let status = prefixed(what, &status);
        return Err(match withdraw::unlist(node, what, &applicant.name).await {
            Ok(_) => status,
            Err(_) => {
                let name = &applicant.name;
                followed(
                    &status,
                    &format!(
                        "it stays listed without votes; if its next try is refused, run 'pvecm delnode {name}'"
                    ),
                )
            }
        });
    }
    Ok(listed)
}

async fn publish(
    node: &ThisNode,
    applicant: &Applicant,
    id: NodeId,
    certificate: &str,
) -> Result<(), Status> {
    let name = applicant.name.as_str();
    // Only once it is listed: what is marked may be replaced by whoever comes next under its name.
    node.tree.write(&tree::joining_path(name), format!("{id}\n"), None).await?;
    node.tree.write(&tree::certificate_path(name), certificate.to_owned(), None).await?;
    node.tree.write(&tree::gateway_path(name), format!("{}\n", applicant.gateway), None).await?;
    make_guest_directories(node, name).await
}

/// The ring's key, if its packets are protected: the one that this member is about to take over, else its own.
async fn authkey(node: &ThisNode, what: &str, conf: &ClusterConf, version: u64) -> Result<Bytes, Status> {
    if !conf.totem.is_protected() {
        return Ok(Bytes::new());
    }
    let local = roster::local_conf(&node.root).and_then(|text| ClusterConf::parse(&text).ok());
    let local = local.map_or(0, |conf| conf.totem.config_version);
    let newer = rekey::newer(&node.tree, local, version).await;
    if let Some(key) = newer.map_err(|status| prefixed(what, &status))? {
        return Ok(key);
    }
    let key = files::read(&node.root.authkey()).map_err(|error| super::local::file_failed(&error))?;
    Ok(key.unwrap_or_default().into())
}

fn warnings(request: &AdmitNodeRequest, conf: &ClusterConf) -> Vec<String> {
    let mut warnings: Vec<String> =
        conf.check_for_join().warnings.iter().map(|warning| format!("corosync.conf: {warning}")).collect();
    if let Some(skew) = skew(request, SystemTime::now()).filter(|skew| *skew > CLOCK_SKEW) {
        warnings.push(format!(
            "the node's clock differs from this member's by {:.1} s (more than {:.1} s); let both follow a time \
             server",
            skew.as_secs_f64(),
            CLOCK_SKEW.as_secs_f64()
        ));
    }
    let ours = env!("CARGO_PKG_VERSION");
    if !request.software_version.is_empty() && request.software_version != ours {
        let theirs = &request.software_version;
        warnings.push(format!("the node runs version {theirs}, this member {ours}"));
    }
    warnings
}

fn skew(request: &AdmitNodeRequest, now: SystemTime) -> Option<Duration> {
    let theirs = SystemTime::try_from(request.clock?).ok()?;
    Some(now.duration_since(theirs).unwrap_or_else(|ahead| ahead.duration()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONF: &str = "totem {\n version: 2\n cluster_name: demo\n config_version: 2\n transport: udpu\n}\n\
        nodelist {\n node {\n name: n1\n nodeid: 1\n ring0_addr: 10.0.0.1\n }\n node {\n name: n2\n nodeid: 2\n \
        quorum_votes: 0\n ring0_addr: 10.0.0.2\n }\n}\nquorum {\n provider: corosync_votequorum\n}\n";

    fn applicant(name: &str, id: u32, address: &str) -> Applicant {
        Applicant {
            name: name.parse().unwrap(),
            node_id: NodeId::new(id).ok(),
            addresses: vec![address.parse().unwrap()],
            gateway: SocketAddr::new(address.parse().unwrap(), 8006),
        }
    }

    fn around(online: &[u32]) -> Surroundings {
        let gateways = BTreeMap::from([("n1".to_owned(), "10.0.0.1:8006".to_owned())]);
        let joining = BTreeMap::from([("n2".to_owned(), 2)]);
        Surroundings { online: online.iter().copied().collect(), gateways, joining }
    }

    /// The id the applicant would get, or the reasons against it.
    fn judged(applicant: &Applicant, online: &[u32]) -> Result<u32, Vec<&'static str>> {
        let conf = ClusterConf::parse(CONF).unwrap();
        let mut checks = Checks::default();
        let id = check(&conf, applicant, &around(online), &mut checks);
        let reasons = [
            "NODE_NAME_TAKEN",
            "NODE_ID_TAKEN",
            "ADDRESS_TAKEN",
            "ADDRESS_REPEATED",
            "LINK_COUNT",
            "GATEWAY_TAKEN",
        ];
        let failed: Vec<_> = reasons.into_iter().filter(|reason| checks.has(reason)).collect();
        if failed.is_empty() { Ok(id.unwrap().get()) } else { Err(failed) }
    }

    #[test]
    fn a_new_node_gets_the_lowest_free_id() {
        assert_eq!(judged(&applicant("n3", 0, "10.0.0.3"), &[1]), Ok(3));
        assert_eq!(judged(&applicant("n3", 9, "10.0.0.3"), &[1]), Ok(9));
    }

    #[test]
    fn a_node_that_was_admitted_and_never_came_may_try_again_and_keeps_its_id() {
        assert_eq!(judged(&applicant("n2", 0, "10.0.0.2"), &[1]), Ok(2));
        assert_eq!(judged(&applicant("n2", 0, "10.0.0.7"), &[1]), Ok(2));
    }

    #[test]
    fn a_known_name_is_refused_when_the_node_votes_or_is_online() {
        let taken = Err(vec!["NODE_NAME_TAKEN"]);
        assert_eq!(judged(&applicant("n2", 0, "10.0.0.2"), &[1, 2]), taken);
        let mut known = applicant("n1", 0, "10.0.0.9");
        known.gateway = "10.0.0.9:8006".parse().unwrap();
        assert_eq!(judged(&known, &[]), taken);
    }

    #[test]
    fn a_node_without_votes_that_was_confirmed_is_a_member_even_while_it_is_off() {
        let conf = ClusterConf::parse(CONF).unwrap();
        for joining in [BTreeMap::new(), BTreeMap::from([("n2".to_owned(), 7)])] {
            let mut checks = Checks::default();
            let around = Surroundings { joining, ..around(&[1]) };
            check(&conf, &applicant("n2", 0, "10.0.0.2"), &around, &mut checks);
            assert!(checks.has("NODE_NAME_TAKEN"));
        }
    }

    #[test]
    fn every_conflict_has_its_own_reason_and_all_are_found_at_once() {
        let mut bad = applicant("n3", 1, "10.0.0.1");
        bad.addresses.push("10.0.0.1".parse().unwrap());
        assert_eq!(
            judged(&bad, &[1]),
            Err(vec!["NODE_ID_TAKEN", "ADDRESS_TAKEN", "ADDRESS_REPEATED", "LINK_COUNT", "GATEWAY_TAKEN"])
        );
    }

    #[test]
    fn a_difference_of_clocks_is_measured_in_both_directions() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let at = |seconds| AdmitNodeRequest {
            clock: Some(token::timestamp(seconds)),
            ..AdmitNodeRequest::default()
        };
        assert_eq!(skew(&at(97), now), Some(Duration::from_secs(3)));
        assert_eq!(skew(&at(104), now), Some(Duration::from_secs(4)));
        assert_eq!(skew(&AdmitNodeRequest::default(), now), None);
    }

    #[test]
    fn a_request_without_sense_names_the_field() {
        let good = AdmitNodeRequest {
            node_name: "n3".into(),
            link_addresses: vec!["10.0.0.3".into()],
            gateway_address: "10.0.0.3:8006".into(),
            ..AdmitNodeRequest::default()
        };
        assert!(Applicant::from_request(&good).is_ok());
        let cases: [(&str, AdmitNodeRequest); 4] = [
            ("node_name", AdmitNodeRequest { node_name: "../n3".into(), ..good.clone() }),
            ("link_addresses", AdmitNodeRequest { link_addresses: Vec::new(), ..good.clone() }),
            ("link_addresses", AdmitNodeRequest { link_addresses: vec!["n3".into()], ..good.clone() }),
            ("gateway_address", AdmitNodeRequest { gateway_address: "n3".into(), ..good.clone() }),
        ];
        for (field, bad) in cases {
            let status = Applicant::from_request(&bad).unwrap_err();
            assert!(status.message().starts_with(field), "{}", status.message());
        }
    }
}
