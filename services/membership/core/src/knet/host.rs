//! One host: its links, whether one of them is usable, and what was received from it.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use super::{config::LinkMode, fragments::Reassembly, link::Link, window::Window};

/// Another node.
#[derive(Debug, Default)]
pub(super) struct Host {
    /// By number.
    pub(super) links: BTreeMap<u8, Link>,
    /// It had a usable link when that was last looked at.
    pub(super) reachable: bool,
    /// Which of its packets were seen.
    pub(super) window: Window,
    /// Its incomplete packets.
    pub(super) reassembly: Reassembly,
}

impl Host {
    /// The usable links over which this node sends data in this mode; in round robin one per turn.
    #[must_use]
    pub(super) fn chosen_links(&self, mode: LinkMode) -> Vec<(u8, SocketAddr)> {
        let usable = self.links.iter().filter(|(_, link)| link.is_usable());
        match mode {
            LinkMode::Active | LinkMode::RoundRobin => {
                usable.map(|(&number, link)| (number, link.remote)).collect()
            }
            LinkMode::Passive => {
                // Of equal ones the first.
                let best = usable.rev().max_by_key(|(_, link)| link.settings.priority);
                best.map(|(&number, link)| (number, link.remote)).into_iter().collect()
            }
        }
    }

    /// The link that this source address and port belong to; `preferred` is tried first.
    #[must_use]
    pub(super) fn link_of(&self, from: SocketAddr, preferred: u8) -> Option<u8> {
        let is_from = |number: &u8| self.links.get(number).is_some_and(|link| is_same(link.remote, from));
        Some(preferred).filter(is_from).or_else(|| self.links.keys().copied().find(is_from))
    }

    /// Whether this source address is that of the link.
    #[must_use]
    pub(super) fn is_address_of(&self, number: u8, from: IpAddr) -> bool {
        let is_address = |link: &Link| link.remote.ip().to_canonical() == from.to_canonical();
        self.links.get(&number).is_some_and(is_address)
    }

    /// Forgets what was received: the host has begun again or was lost.
    pub(super) fn forget_received(&mut self) {
        self.window = Window::default();
        self.reassembly.clear();
    }
}

fn is_same(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && a.ip().to_canonical() == b.ip().to_canonical()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::knet::{config::LinkSettings, link::MtuPolicy};

    fn address(link: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, link, 2], 5405 + u16::from(link)))
    }

    /// A host with links 0, 1, 2 of these priorities; a link of priority 0 is down.
    fn host(priorities: [u8; 3]) -> Host {
        let now = Instant::now();
        let mut host = Host::default();
        for (number, priority) in (0u8..).zip(priorities) {
            let settings = LinkSettings { priority, ..LinkSettings::default() };
            let mut link = Link::new(now, address(number), settings, MtuPolicy::Fixed(1500));
            for _ in 0..if priority > 0 { 3 } else { 2 } {
                link.take_pong(now, Duration::from_millis(1));
            }
            host.links.insert(number, link);
        }
        host
    }

    fn chosen(host: &Host, mode: LinkMode) -> Vec<u8> {
        host.chosen_links(mode).into_iter().map(|(number, _)| number).collect()
    }

    #[test]
    fn passive_takes_the_usable_link_of_the_highest_priority() {
        assert_eq!(chosen(&host([1, 1, 1]), LinkMode::Passive), [0]);
        assert_eq!(chosen(&host([1, 7, 7]), LinkMode::Passive), [1]);
        assert_eq!(chosen(&host([0, 1, 7]), LinkMode::Passive), [2]);
        assert_eq!(chosen(&host([0, 0, 0]), LinkMode::Passive), []);
    }

    #[test]
    fn the_other_modes_take_all_usable_links() {
        assert_eq!(chosen(&host([1, 0, 9]), LinkMode::Active), [0, 2]);
        assert_eq!(chosen(&host([1, 0, 9]), LinkMode::RoundRobin), [0, 2]);
    }

    #[test]
    fn a_source_is_known_by_address_and_port() {
        let host = host([1, 1, 1]);
        assert_eq!(host.link_of(address(1), 0), Some(1));
        assert_eq!(host.link_of(SocketAddr::new(address(1).ip(), 5405), 1), None);
        let mapped: SocketAddr = "[::ffff:10.0.1.2]:5406".parse().unwrap();
        assert_eq!(host.link_of(mapped, 1), Some(1));
        assert!(host.is_address_of(1, mapped.ip()) && !host.is_address_of(0, mapped.ip()));
    }
}
