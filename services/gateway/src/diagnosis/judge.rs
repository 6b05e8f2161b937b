//! From what was found to findings.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use quorate_proto::gateway::v1::{Finding, NodeFacts};

/// Clocks may differ by this much: certificates and logs need no more.
const SKEW_MAX: f64 = 1.0;
/// Round trips on a link; source: requirements of a cluster network, 2 ms.
const LATENCY_MAX: Duration = Duration::from_millis(2);
/// A write to the disk: a token goes round while a member waits for it.
const SYNC_MAX: Duration = Duration::from_millis(100);
/// Free room that a node should have, in bytes: four times what a join needs.
const FREE_MIN: u64 = 256 << 20;
/// A certificate that has less left was not renewed: that happens 30 days before its end.
const CERTIFICATE_LEFT: Duration = Duration::from_secs(14 * 24 * 3600);
/// An authority that has less left must be replaced by hand.
const AUTHORITY_LEFT: Duration = Duration::from_secs(90 * 24 * 3600);

/// What came of asking one node.
#[derive(Debug, Clone)]
pub(super) struct Examined {
    /// Its name in corosync.conf.
    pub(super) name: String,
    /// Its addresses there, by link.
    pub(super) addresses: Vec<String>,
    /// What it said, or why it said nothing.
    pub(super) answer: Result<Answer, String>,
}

/// What a node said.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    /// All of it.
    pub(super) facts: NodeFacts,
    /// Its clock, beside that of the node that asked; `None` for that node itself.
    pub(super) clock: Option<Clock>,
}

/// A clock beside this node's, in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    /// How far it is ahead; below zero if it is behind.
    pub(super) ahead: f64,
    /// How much that may be wrong.
    pub(super) error: f64,
}

/// All that is wrong, node by node, and then what is wrong between nodes.
pub(super) fn judge(examined: &[Examined], now: SystemTime) -> Vec<Finding> {
    let mut found = Vec::new();
    for node in examined {
        match &node.answer {
            Ok(answer) => of_node(node, answer, now, &mut found),
            Err(why) => found.push(finding(
                "NODE_UNREACHABLE",
                &node.name,
                format!("its gateway was not heard: {why}"),
                "start the node, or open TCP 8006 between the nodes; if it is gone for good: pvecm delnode",
            )),
        }
    }
    let heard: Vec<&NodeFacts> =
        examined.iter().filter_map(|node| Some(&node.answer.as_ref().ok()?.facts)).collect();
    between(&heard, &mut found);
    found
}

fn finding(id: &str, node: &str, reason: String, way_out: &str) -> Finding {
    Finding { id: id.to_owned(), node: node.to_owned(), reason, way_out: way_out.to_owned() }
}

fn of_node(node: &Examined, answer: &Answer, now: SystemTime, found: &mut Vec<Finding>) {
    let facts = &answer.facts;
    let mut add =
        |id: &str, reason: String, way_out: &str| found.push(finding(id, &node.name, reason, way_out));
    for daemon in facts.daemons.iter().filter(|daemon| !daemon.serving) {
        let reason = format!("{} does not serve: {}", daemon.name, daemon.reason);
        add("DAEMON_NOT_SERVING", reason, "look into its log below var/log/quorate");
    }
    if !node.addresses.is_empty() && !facts.quorate {
        add(
            "NOT_QUORATE",
            "it may not write".to_owned(),
            "bring missing nodes back; pvecm status names them",
        );
    }
    if let Some(clock) = answer.clock.filter(|clock| clock.ahead.abs() - clock.error > SKEW_MAX) {
        let reason = format!("its clock is {:.1} s ahead of the clock of the node that asked", clock.ahead);
        add("CLOCK_SKEW", reason, "run a time service (chrony) on all nodes");
    }
    if facts.name != node.name {
        let reason = format!("it calls itself '{}', corosync.conf calls it '{}'", facts.name, node.name);
        add(
            "NAME_DIFFERS",
            reason,
            "give the host its old name back, or set 'name' in etc/quorate/node.toml",
        );
    }
    let is_ip = |address: &String| address.parse::<std::net::IpAddr>().is_ok();
    if node.addresses.first().is_some_and(|first| is_ip(first) && *first != facts.address) {
        let reason = format!("its address is {}, corosync.conf says {}", facts.address, node.addresses[0]);
        add(
            "ADDRESS_DIFFERS",
            reason,
            "change ring0_addr in corosync.conf, or give the host its old address back",
        );
    }
    if !facts.cluster_conf.is_empty() && facts.local_conf != facts.cluster_conf {
        let reason = "etc/corosync/corosync.conf is not what the cluster's file says".to_owned();
        add(
            "CONF_DIFFERS",
            reason,
            "raise config_version in the cluster's file: every node then writes its local one",
        );
    }
    of_machine(facts, now, &mut add);
    of_links(facts, &mut add);
}

fn of_machine(facts: &NodeFacts, now: SystemTime, add: &mut impl FnMut(&str, String, &str)) {
    if let Some(free) = facts.free_bytes.filter(|free| *free < FREE_MIN) {
        let reason =
            format!("{} MiB are free below var/lib/quorate, {} should be", free >> 20, FREE_MIN >> 20);
        add("DISK_FULL", reason, "make room");
    }
    match facts.sync_time.and_then(|time| Duration::try_from(time).ok()) {
        None => add("DISK_FAILED", "its disk takes no writes".to_owned(), "make room, or replace the disk"),
        Some(time) if time > SYNC_MAX => {
            let reason = format!(
                "a write needs {} ms to be on the disk, limit {}",
                time.as_millis(),
                SYNC_MAX.as_millis()
            );
            add("DISK_SLOW", reason, "give var/lib/quorate a faster disk, or take load off it");
        }
        Some(_) => {}
    }
    let ends = [
        (
            "CERTIFICATE_EXPIRES",
            "its certificate",
            facts.certificate_ends,
            CERTIFICATE_LEFT,
            "it is renewed by itself while the node is quorate: look into the log of gatewayd",
        ),
        (
            "AUTHORITY_EXPIRES",
            "the cluster's authority",
            facts.authority_ends,
            AUTHORITY_LEFT,
            "plan a new cluster authority before that day",
        ),
    ];
    for (id, what, end, least, way_out) in ends {
        let Some(end) = end.and_then(|end| SystemTime::try_from(end).ok()) else { continue };
        let left = end.duration_since(now).unwrap_or_default();
        if left < least {
            add(id, format!("{what} ends in {} days", left.as_secs() / (24 * 3600)), way_out);
        }
    }
}

fn of_links(facts: &NodeFacts, add: &mut impl FnMut(&str, String, &str)) {
    let mut mtus: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for link in &facts.links {
        let to = format!("link {} to node {}", link.link, link.node_id);
        if !link.connected {
            add("LINK_DOWN", format!("{to} is down"), "check cable, switch, address and firewall (UDP 5405)");
            continue;
        }
        let latency = link.latency.and_then(|time| Duration::try_from(time).ok());
        if let Some(latency) = latency.filter(|latency| *latency >= LATENCY_MAX) {
            let reason =
                format!("{to} has a round trip of {:.1} ms, limit 2 ms", latency.as_secs_f64() * 1e3);
            add("LATENCY_HIGH", reason, "give the cluster a network of its own; pvecm netcheck measures it");
        }
        if link.mtu > 0 {
            mtus.entry(link.link).or_default().push(link.mtu);
        }
    }
    for (link, mtus) in mtus {
        let (least, most) = (mtus.iter().min(), mtus.iter().max());
        if least != most {
            let reason =
                format!("link {link} carries {least:?} to {most:?} bytes, depending on the other node");
            let reason = reason.replace("Some(", "").replace(')', "");
            add("MTU_DIFFERS", reason, "give all ports and cards of the link the same MTU");
        }
    }
}

/// What is wrong between nodes that are each in order.
fn between(nodes: &[&NodeFacts], found: &mut Vec<Finding>) {
    let versions = groups(nodes.iter().map(|node| (node.version.as_str(), node.name.as_str())));
    if versions.len() > 1 {
        let way_out = "bring all nodes to the same version, one after the other";
        found.push(finding("VERSION_DIFFERS", "", listed("versions", &versions), way_out));
    }
    let confs = nodes.iter().filter(|node| !node.local_conf.is_empty());
    let confs = groups(confs.map(|node| (node.local_conf.as_str(), node.name.as_str())));
    if confs.len() > 1 {
        let way_out =
            "raise config_version in the cluster's file; without quorum, copy one file to all nodes";
        let reason = listed("local corosync.conf, by the first digits of SHA-256:", &confs);
        found.push(finding("CONF_DIFFERS_BETWEEN_NODES", "", reason, way_out));
    }
    let mut trees: BTreeMap<u64, Vec<(&str, &str)>> = BTreeMap::new();
    for node in nodes.iter().filter(|node| node.tree_synchronised) {
        trees.entry(node.tree_version).or_default().push((&node.tree_checksum, &node.name));
    }
    for (version, sums) in trees {
        let sums = groups(sums.into_iter());
        if sums.len() > 1 {
            let reason = listed(&format!("checksums of the tree at version {version}"), &sums);
            let way_out =
                "stop the node that is alone with its tree, remove var/lib/quorate/configd there, start it";
            found.push(finding("TREE_DIFFERS", "", reason, way_out));
        }
    }
}

/// Who has which value.
fn groups<'a>(of: impl Iterator<Item = (&'a str, &'a str)>) -> BTreeMap<&'a str, Vec<&'a str>> {
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    of.for_each(|(value, name)| groups.entry(value).or_default().push(name));
    groups
}

fn listed(what: &str, groups: &BTreeMap<&str, Vec<&str>>) -> String {
    let short = |value: &str| value.chars().take(12).collect::<String>();
    let each = groups.iter().map(|(value, names)| format!("{} ({})", short(value), names.join(", ")));
    format!("{what} {}", each.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use quorate_proto::gateway::v1::{DaemonState, LinkFacts};

    use super::*;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn healthy(name: &str) -> Examined {
        let in_days = |days: u64| Some((now() + Duration::from_secs(days * 24 * 3600)).into());
        let facts = NodeFacts {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            address: "10.0.0.1".to_owned(),
            local_conf: "aa".to_owned(),
            cluster_conf: "aa".to_owned(),
            tree_synchronised: true,
            tree_version: 7,
            tree_checksum: "cc".to_owned(),
            free_bytes: Some(FREE_MIN),
            sync_time: Duration::from_millis(1).try_into().ok(),
            certificate_ends: in_days(100),
            authority_ends: in_days(1000),
            quorate: true,
            ..NodeFacts::default()
        };
        let addresses = vec!["10.0.0.1".to_owned()];
        Examined { name: name.to_owned(), addresses, answer: Ok(Answer { facts, clock: None }) }
    }

    fn ids(examined: &[Examined]) -> Vec<String> {
        judge(examined, now()).into_iter().map(|finding| finding.id).collect()
    }

    /// The findings after a change of the second of two nodes.
    fn after(change: impl FnOnce(&mut Answer)) -> Vec<String> {
        let mut nodes = [healthy("n1"), healthy("n2")];
        change(nodes[1].answer.as_mut().unwrap());
        ids(&nodes)
    }

    #[test]
    fn nothing_is_wrong_with_nodes_in_order() {
        assert_eq!(after(|_| {}), [""; 0]);
    }

    #[test]
    fn each_fault_has_its_finding_and_no_other() {
        let link = |connected, milliseconds, mtu| LinkFacts {
            node_id: 1,
            connected,
            latency: Duration::from_millis(milliseconds).try_into().ok(),
            mtu,
            ..LinkFacts::default()
        };
        assert_eq!(after(|node| node.facts.version = "2".into()), ["VERSION_DIFFERS"]);
        assert_eq!(after(|node| node.facts.name = "x".into()), ["NAME_DIFFERS"]);
        assert_eq!(after(|node| node.facts.address = "10.0.0.9".into()), ["ADDRESS_DIFFERS"]);
        assert_eq!(after(|node| node.facts.quorate = false), ["NOT_QUORATE"]);
        assert_eq!(after(|node| node.facts.free_bytes = Some(FREE_MIN - 1)), ["DISK_FULL"]);
        assert_eq!(after(|node| node.facts.sync_time = None), ["DISK_FAILED"]);
        assert_eq!(
            after(|node| node.facts.sync_time = Duration::from_secs(1).try_into().ok()),
            ["DISK_SLOW"]
        );
        assert_eq!(after(|node| node.facts.certificate_ends = Some(now().into())), ["CERTIFICATE_EXPIRES"]);
        assert_eq!(after(|node| node.facts.authority_ends = Some(now().into())), ["AUTHORITY_EXPIRES"]);
        assert_eq!(after(|node| node.facts.tree_checksum = "dd".into()), ["TREE_DIFFERS"]);
        assert_eq!(after(|node| node.facts.links = vec![link(false, 0, 0)]), ["LINK_DOWN"]);
        assert_eq!(after(|node| node.facts.links = vec![link(true, 2, 1500)]), ["LATENCY_HIGH"]);
        let mixed = vec![link(true, 1, 1500), link(true, 1, 9000)];
        assert_eq!(after(|node| node.facts.links = mixed), ["MTU_DIFFERS"]);
        let down = DaemonState { name: "configd".into(), serving: false, reason: "full".into() };
        assert_eq!(after(|node| node.facts.daemons = vec![down]), ["DAEMON_NOT_SERVING"]);
        let conf = after(|node| node.facts.local_conf = "bb".into());
        assert_eq!(conf, ["CONF_DIFFERS", "CONF_DIFFERS_BETWEEN_NODES"]);
    }

    #[test]
    fn a_clock_is_wrong_when_it_is_so_beyond_the_error_of_the_measurement() {
        let clock = |ahead, error| after(|node| node.clock = Some(Clock { ahead, error }));
        assert_eq!(clock(-1.6, 0.5), ["CLOCK_SKEW"]);
        assert_eq!(clock(1.4, 0.5), [""; 0]);
    }

    #[test]
    fn trees_of_different_versions_are_not_compared_and_a_silent_node_is_named() {
        assert_eq!(
            after(|node| (node.facts.tree_version, node.facts.tree_checksum) = (8, "dd".into())),
            [""; 0]
        );
        let mut nodes = [healthy("n1"), healthy("n2")];
        nodes[1].answer = Err("no gateway answers".to_owned());
        let found = judge(&nodes, now());
        assert_eq!((found.len(), found[0].node.as_str()), (1, "n2"));
        assert!(!found[0].way_out.is_empty() && found[0].reason.contains("no gateway answers"));
    }
}
