//! The `nodelist` section: who belongs to the cluster, with which votes and addresses.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
};

use quorate_types::{NodeId, NodeName};

use crate::{
    Reason, Tree,
    read::{Mistakes, Scope},
    totem::LINKS_MAX,
};

/// A `node` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// `name`, or without one the host name in `ring0_addr`.
    pub name: NodeName,
    /// `nodeid`.
    pub id: NodeId,
    /// `quorum_votes`, default 1. A node that is being added may have 0.
    pub votes: u32,
    /// `ring0_addr` to `ring7_addr`: IP address or host name per link.
    pub addresses: BTreeMap<u8, String>,
    /// Line of the section, for later messages about this node.
    pub line: u32,
}

/// Where each value was first seen, to find those that are there twice.
#[derive(Default)]
struct Seen(BTreeMap<String, u32>);

impl Seen {
    fn check(&mut self, mistakes: &mut Mistakes, scope: &Scope<'_>, key: &str, value: String) {
        let line = scope.line_of(key);
        match self.0.get(&value) {
            Some(&first_line) => mistakes.add(line, scope.path(key), Reason::Duplicate { value, first_line }),
            None => _ = self.0.insert(value, line),
        }
    }
}

/// The nodes by id. Those with mistakes are left out.
pub(crate) fn read(tree: &Tree, mistakes: &mut Mistakes) -> Vec<Node> {
    let sections = Scope::each(tree, "nodelist.node");
    if sections.is_empty() {
        let nodelist = Scope::all(tree, "nodelist");
        mistakes.add(nodelist.line(), "nodelist.node", Reason::Missing);
    }
    let (mut names, mut ids, mut addresses) = <(Seen, Seen, Seen)>::default();
    let mut nodes = Vec::new();
    for scope in sections {
        let name = read_name(&scope, mistakes);
        let id = read_id(&scope, mistakes);
        let votes = scope.u32(mistakes, "quorum_votes").unwrap_or(1);
        let links = read_addresses(&scope, mistakes);
        if let Some(name) = &name {
            names.check(mistakes, &scope, "name", name.to_string());
        }
        if let Some(id) = id {
            ids.check(mistakes, &scope, "nodeid", id.to_string());
        }
        for (link, address) in &links {
            addresses.check(mistakes, &scope, &format!("ring{link}_addr"), comparable(address));
        }
        if let (Some(name), Some(id)) = (name, id) {
            nodes.push(Node { name, id, votes, addresses: links, line: scope.line() });
        }
    }
    nodes.sort_by_key(|node| node.id);
    nodes
}

/// Without a `name`, the host name of the first address is the name, as `pvecm` has it.
fn read_name(scope: &Scope<'_>, mistakes: &mut Mistakes) -> Option<NodeName> {
    if scope.text("name").is_some() {
        return scope.parsed(mistakes, "name");
    }
    let address = scope.text("ring0_addr").filter(|address| address.parse::<IpAddr>().is_err());
    let name = address.and_then(|address| address.parse().ok());
    if name.is_none() {
        scope.require(mistakes, "name");
    }
    name
}

fn read_id(scope: &Scope<'_>, mistakes: &mut Mistakes) -> Option<NodeId> {
    scope.require(mistakes, "nodeid");
    let id: u32 = scope.number(mistakes, "nodeid", (1, u32::MAX.into()))?;
    NodeId::new(id).ok()
}

fn read_addresses(scope: &Scope<'_>, mistakes: &mut Mistakes) -> BTreeMap<u8, String> {
    scope.require(mistakes, "ring0_addr");
    let mut addresses = BTreeMap::new();
    for key in scope.keys() {
        let Some(link) = link_of(&key.key) else { continue };
        if is_address(&key.value) {
            addresses.insert(link, key.value.clone());
        } else {
            mistakes.add(key.line, scope.path(&key.key), Reason::Address { value: key.value.clone() });
        }
    }
    addresses
}

/// The number in `ring3_addr`.
fn link_of(key: &str) -> Option<u8> {
    let number = key.strip_prefix("ring")?.strip_suffix("_addr")?;
    (0..LINKS_MAX).find(|link| link.to_string() == number)
}

/// An IP address or what a resolver may know. Not more is checked: the resolver has the last word.
pub(crate) fn is_address(value: &str) -> bool {
    let host_name = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && !label.starts_with('-')
    };
    is_ip(value) || value.split('.').all(host_name)
}

/// An IP address; an IPv6 address may carry its zone (`fe80::1%eth0`).
pub(crate) fn is_ip(value: &str) -> bool {
    let zoned =
        || value.split_once('%').is_some_and(|(ip, zone)| !zone.is_empty() && ip.parse::<Ipv6Addr>().is_ok());
    value.parse::<IpAddr>().is_ok() || zoned()
}

/// One spelling for each address.
fn comparable(address: &str) -> String {
    address.parse::<IpAddr>().map_or_else(|_| address.to_ascii_lowercase(), |ip| ip.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_ip_addresses_or_host_names() {
        for good in ["10.0.0.1", "fe80::1", "fe80::1%eth0", "node1", "node1.example.com", "my_host"] {
            assert!(is_address(good), "{good}");
        }
        for bad in ["a b", "a..b", "-a", "%eth0", "10.0.0.1/24", ":", "ä"] {
            assert!(!is_address(bad), "{bad}");
        }
    }

    #[test]
    fn link_numbers_run_from_0_to_7() {
        assert_eq!(link_of("ring0_addr"), Some(0));
        assert_eq!(link_of("ring7_addr"), Some(7));
        for other in ["ring8_addr", "ring_addr", "ring07_addr", "ring0", "name"] {
            assert_eq!(link_of(other), None, "{other}");
        }
    }
}
