//! Which datagram goes over which link to which addresses, reckoned once per change of links.
//!
//! A packet to all is encrypted once; each route carries the same datagram.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use quorate_types::NodeId;

use super::{config::LinkMode, host::Host, io::Recipients};

/// One link, and those who are reached over it.
#[derive(Debug, Clone)]
pub(super) struct Route {
    /// The link.
    pub(super) link: u8,
    /// The hosts.
    pub(super) nodes: Vec<NodeId>,
    /// Their addresses.
    pub(super) to: Recipients,
}

/// All routes. In round robin there are several turns, else one.
#[derive(Debug, Default)]
pub(super) struct Routes {
    mode: LinkMode,
    /// The links of each reachable host.
    links: BTreeMap<NodeId, Vec<(u8, SocketAddr)>>,
    /// To all, by turn; empty when nobody is reachable.
    all: Vec<Arc<[Route]>>,
    /// To one host, by turn.
    single: BTreeMap<NodeId, Vec<Arc<[Route]>>>,
    turn: usize,
}

impl Routes {
    /// Reckons the routes to these hosts.
    pub(super) fn rebuild(&mut self, mode: LinkMode, hosts: &BTreeMap<NodeId, Host>) {
        self.mode = mode;
        self.links = hosts
            .iter()
            .map(|(&node, host)| (node, host.chosen_links(mode)))
            .filter(|(_, links)| !links.is_empty())
            .collect();
        self.single = self.links.iter().map(|(&node, links)| (node, single(mode, node, links))).collect();
        let turns = match (mode, self.links.is_empty()) {
            (_, true) => 0,
            (LinkMode::RoundRobin, false) => self.links.values().map(Vec::len).fold(1, least_common_multiple),
            (LinkMode::Passive | LinkMode::Active, false) => 1,
        };
        self.all = (0..turns).map(|turn| self.to_all(turn)).collect();
        self.turn = 0;
    }

    /// The routes of the next packet to all; empty when nobody is reachable.
    pub(super) fn next_to_all(&mut self) -> Arc<[Route]> {
        Self::take_turn(&self.all, &mut self.turn)
    }

    /// The routes of the next packet to this host; empty when it is not reachable.
    pub(super) fn next_to(&mut self, node: NodeId) -> Arc<[Route]> {
        let turns = self.single.get(&node).map_or(&[][..], Vec::as_slice);
        Self::take_turn(turns, &mut self.turn)
    }

    /// Whether data goes over this link of the host.
    #[must_use]
    pub(super) fn is_active(&self, node: NodeId, link: u8) -> bool {
        self.links.get(&node).is_some_and(|links| links.iter().any(|(number, _)| *number == link))
    }

    fn take_turn(turns: &[Arc<[Route]>], turn: &mut usize) -> Arc<[Route]> {
        if turns.is_empty() {
            return Arc::default();
        }
        let routes = Arc::clone(&turns[*turn % turns.len()]);
        *turn = turn.wrapping_add(1);
        routes
    }

    fn to_all(&self, turn: usize) -> Arc<[Route]> {
        let mut by_link: BTreeMap<u8, (Vec<NodeId>, Vec<SocketAddr>)> = BTreeMap::new();
        for (&node, links) in &self.links {
            let links = match self.mode {
                LinkMode::RoundRobin => &links[turn % links.len()..][..1],
                LinkMode::Passive | LinkMode::Active => links,
            };
            for &(link, address) in links {
                let (nodes, addresses) = by_link.entry(link).or_default();
                nodes.push(node);
                addresses.push(address);
            }
        }
        let route = |(link, (nodes, addresses)): (u8, (Vec<NodeId>, Vec<SocketAddr>))| Route {
            link,
            nodes,
            to: Recipients::Many(addresses.into()),
        };
        by_link.into_iter().map(route).collect()
    }
}

fn single(mode: LinkMode, node: NodeId, links: &[(u8, SocketAddr)]) -> Vec<Arc<[Route]>> {
    let route =
        |&(link, address): &(u8, SocketAddr)| Route { link, nodes: vec![node], to: Recipients::One(address) };
    match mode {
        LinkMode::RoundRobin => links.iter().map(|link| [route(link)].into()).collect(),
        LinkMode::Passive | LinkMode::Active => vec![links.iter().map(route).collect()],
    }
}

fn least_common_multiple(a: usize, b: usize) -> usize {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    a / x * b
}
