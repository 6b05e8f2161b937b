//! The section `quorum.device` of corosync.conf: added and taken away.

use corosync_conf::{ClusterConf, Tree};

use crate::error::Error;

/// What the operator wants.
pub(super) struct Plan {
    pub(super) host: String,
    pub(super) port: u16,
    /// `None`: what fits the number of nodes.
    pub(super) algorithm: Option<String>,
    pub(super) is_encrypted: bool,
    pub(super) force: bool,
}

/// A changed corosync.conf.
#[derive(Debug)]
pub(super) struct Edited {
    pub(super) text: String,
    pub(super) config_version: u64,
    pub(super) algorithm: String,
    pub(super) votes: u32,
}

const DEFAULT_PORT: u16 = 5403;

/// Options that no device goes with, and what they would do.
const OFF: [&str; 2] = ["quorum.two_node", "quorum.wait_for_all"];

/// Adds the device. With two nodes `two_node` goes, because the device takes its place.
pub(super) fn add(mut tree: Tree, conf: &ClusterConf, plan: &Plan) -> Result<Edited, Error> {
    let is_even = conf.nodes.len().is_multiple_of(2);
    let mut problems = Vec::new();
    if conf.quorum.device.is_some() && !plan.force {
        problems
            .push("there is a quorum device already; remove it first ('pvecm qdevice remove')".to_owned());
    }
    if !is_even && !plan.force {
        problems.push(format!(
            "with {} nodes, an odd number, a device makes the loss of the arbiter matter more than it helps; \
             --force sets it up with algorithm lms",
            conf.nodes.len()
        ));
    }
    let algorithm =
        plan.algorithm.clone().unwrap_or_else(|| if is_even { "ffsplit" } else { "lms" }.to_owned());
    if algorithm == "ffsplit" && conf.nodes.iter().any(|node| node.votes > 1) {
        problems.push("ffsplit needs nodes of one vote each; use --algorithm lms".to_owned());
    }
    if !problems.is_empty() {
        return Err(Error::Parameters(problems));
    }
    for key in ["votes", "net.host", "net.port", "net.algorithm", "net.tls", "model"] {
        tree.unset(&format!("quorum.device.{key}"));
    }
    if conf.quorum.two_node {
        OFF.into_iter().for_each(|key| _ = tree.unset(key));
    }
    let port = plan.port.to_string();
    let settings = [
        ("quorum.device.model", "net"),
        ("quorum.device.net.host", plan.host.as_str()),
        ("quorum.device.net.algorithm", algorithm.as_str()),
        ("quorum.device.net.tls", if plan.is_encrypted { "required" } else { "off" }),
    ];
    let votes = (algorithm == "ffsplit").then_some(("quorum.device.votes", "1"));
    let port = (plan.port != DEFAULT_PORT).then_some(("quorum.device.net.port", port.as_str()));
    for (key, value) in settings.into_iter().chain(votes).chain(port) {
        tree.set(key, value).map_err(|mistake| Error::Parameters(vec![mistake.to_string()]))?;
    }
    finish(tree, algorithm)
}

/// Takes the device away.
pub(super) fn remove(mut tree: Tree, conf: &ClusterConf) -> Result<Edited, Error> {
    if conf.quorum.device.is_none() {
        return Err(Error::Parameters(vec!["no quorum device is configured".to_owned()]));
    }
    tree.remove_section("quorum.device");
    finish(tree, String::new())
}

fn finish(mut tree: Tree, algorithm: String) -> Result<Edited, Error> {
    let mistake = |mistake: &dyn std::fmt::Display| Error::Parameters(vec![mistake.to_string()]);
    let config_version = tree.bump_version().map_err(|error| mistake(&error))?;
    let conf = ClusterConf::from_tree(&tree).map_err(|error| mistake(&error))?;
    Ok(Edited { text: tree.print(), config_version, algorithm, votes: conf.device_votes().unwrap_or(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(nodes: u32, quorum: &str) -> (Tree, ClusterConf) {
        let nodes: String = (1..=nodes)
            .map(|id| format!(" node {{\n name: hp{id}\n nodeid: {id}\n ring0_addr: 10.0.0.{id}\n }}\n"))
            .collect();
        let text = format!(
            "totem {{\n version: 2\n cluster_name: lab\n config_version: 4\n}}\nnodelist {{\n{nodes}}}\n\
             quorum {{\n provider: corosync_votequorum\n{quorum}}}\n"
        );
        (Tree::parse(&text).unwrap(), ClusterConf::parse(&text).unwrap())
    }

    fn plan(force: bool) -> Plan {
        let host = "10.0.0.9".to_owned();
        Plan { host, port: 5403, algorithm: None, is_encrypted: true, force }
    }

    fn section(edited: &Edited) -> corosync_conf::Device {
        ClusterConf::parse(&edited.text).unwrap().quorum.device.unwrap()
    }

    #[test]
    fn an_even_number_of_nodes_gets_ffsplit_with_one_vote_in_place_of_two_node() {
        let (tree, conf) = conf(2, " two_node: 1\n");
        let edited = add(tree, &conf, &plan(false)).unwrap();

        assert_eq!((edited.config_version, edited.votes, edited.algorithm.as_str()), (5, 1, "ffsplit"));
        assert!(!edited.text.contains("two_node"));
        assert_eq!(section(&edited).net.unwrap().host, "10.0.0.9");
        assert_eq!(ClusterConf::parse(&edited.text).unwrap().expected_votes(), 3);
    }

    #[test]
    fn an_odd_number_needs_force_and_gets_lms() {
        let (tree, conf) = conf(3, "");
        let Err(Error::Parameters(problems)) = add(tree.clone(), &conf, &plan(false)) else {
            panic!("accepted")
        };
        assert!(problems[0].contains("3 nodes, an odd number"), "{problems:?}");

        let edited = add(tree, &conf, &plan(true)).unwrap();
        assert_eq!((edited.votes, edited.algorithm.as_str()), (2, "lms"));
        assert_eq!(section(&edited).votes, None);
    }

    #[test]
    fn a_second_device_is_refused_and_removing_leaves_nothing_of_it() {
        let (tree, before) = conf(2, "");
        let added = add(tree, &before, &plan(false)).unwrap();
        let (tree, with) = (Tree::parse(&added.text).unwrap(), ClusterConf::parse(&added.text).unwrap());
        assert!(matches!(add(tree.clone(), &with, &plan(false)), Err(Error::Parameters(_))));

        let removed = remove(tree, &with).unwrap();
        assert_eq!(removed.config_version, 6);
        assert!(!removed.text.contains("device"), "{}", removed.text);
        assert!(remove(Tree::parse(&removed.text).unwrap(), &before).is_err());
    }
}
