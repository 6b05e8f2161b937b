//! Rules between options, and the checks before a node may join.

use crate::{
    ClusterConf, ConfError, Node, Quorum, Reason, Totem, Transport,
    nodelist::is_ip,
    read::{Mistakes, Scope},
};

/// What speaks against adding a node to this configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JoinCheck {
    /// A node must not be added while there are any.
    pub errors: Vec<ConfError>,
    /// Worth telling.
    pub warnings: Vec<ConfError>,
}

/// Options that exclude each other. Source: votequorum(5); service specification, 3.6 and 3.7.
pub(crate) fn options(
    quorum: &Quorum,
    scope: &Scope<'_>,
    nodes: &[Node],
    expected: u32,
    mistakes: &mut Mistakes,
) {
    let tie_breaker = quorum.auto_tie_breaker.is_some();
    let device = quorum.device.is_some();
    let mut conflict = |both: bool, key: &str, with: &'static str| {
        if both {
            mistakes.add(scope.line_of(key), scope.path(key), Reason::Conflict { with });
        }
    };
    conflict(quorum.two_node && tie_breaker, "two_node", "auto_tie_breaker");
    conflict(quorum.two_node && device, "two_node", "a quorum device");
    conflict(tie_breaker && device, "auto_tie_breaker", "a quorum device");
    conflict(quorum.last_man_standing && device, "last_man_standing", "a quorum device");
    conflict(quorum.allow_downscale && device, "allow_downscale", "a quorum device");
    // A node that is being added has no vote yet.
    if quorum.last_man_standing
        && let Some(node) = nodes.iter().find(|node| node.votes > 1)
    {
        let reason = Reason::NeedsSingleVotes { node: node.name.to_string(), votes: node.votes };
        mistakes.add(scope.line_of("last_man_standing"), scope.path("last_man_standing"), reason);
    }
    if tie_breaker && expected % 2 == 1 && !quorum.wait_for_all {
        let reason = Reason::OddTieBreaker { expected };
        mistakes.add(scope.line_of("auto_tie_breaker"), scope.path("auto_tie_breaker"), reason);
    }
}

/// Only knet has several links. Source: `corosync -t` 3.1.7.
pub(crate) fn links(totem: &Totem, nodes: &[Node], mistakes: &mut Mistakes) {
    if totem.transport == Transport::Knet {
        return;
    }
    let spare = |node: &Node| node.addresses.keys().copied().find(|&link| link > 0);
    for (node, link) in nodes.iter().filter_map(|node| Some((node, spare(node)?))) {
        let reason = Reason::SingleLink { transport: totem.transport };
        mistakes.add(node.line, format!("nodelist.node.ring{link}_addr"), reason);
    }
}

/// Options that have no effect.
pub(crate) fn warnings(quorum: &Quorum, scope: &Scope<'_>, nodes: &[Node]) -> Vec<ConfError> {
    let two_node_ignored = quorum.two_node && nodes.len() > 2;
    let reason = Reason::IgnoredWithNodes { nodes: nodes.len() };
    let warning = || ConfError::new(scope.line_of("two_node"), scope.path("two_node"), reason);
    two_node_ignored.then(warning).into_iter().collect()
}

impl ClusterConf {
    /// Checks that every node has the same links, and what else is wise before a node is added.
    /// Source: pvecm specification, 3.3.
    #[must_use]
    pub fn check_for_join(&self) -> JoinCheck {
        let mut check = JoinCheck { errors: self.link_mistakes(), warnings: Vec::new() };
        if !self.totem.is_protected() {
            check.warnings.push(ConfError::new(0, "totem.secauth", Reason::Unprotected));
        }
        for node in &self.nodes {
            for (link, address) in node.addresses.iter().filter(|(_, address)| !is_ip(address)) {
                let reason = Reason::HostName { value: address.clone() };
                check.warnings.push(ConfError::new(
                    node.line,
                    format!("nodelist.node.ring{link}_addr"),
                    reason,
                ));
            }
        }
        check
    }

    /// With interface sections they say which links there are, else every address that any node has.
    fn link_mistakes(&self) -> Vec<ConfError> {
        let interfaces = &self.totem.interfaces;
        let mut links: Vec<u8> = if interfaces.is_empty() {
            self.nodes.iter().flat_map(|node| node.addresses.keys().copied()).collect()
        } else {
            interfaces.iter().map(|interface| interface.link).collect()
        };
        links.sort_unstable();
        links.dedup();
        let mut mistakes = Vec::new();
        for node in &self.nodes {
            let mut add = |link: u8, reason| {
                mistakes.push(ConfError::new(node.line, format!("nodelist.node.ring{link}_addr"), reason));
            };
            let name = || node.name.to_string();
            for &link in node.addresses.keys().filter(|link| !links.contains(link)) {
                add(link, Reason::LinkWithoutInterface { node: name(), link });
            }
            for &link in links.iter().filter(|link| !node.addresses.contains_key(link)) {
                add(link, Reason::LinkWithoutAddress { node: name(), link });
            }
        }
        mistakes
    }
}
