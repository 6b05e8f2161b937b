//! Another configuration: hosts and links come, go or change, and the others do not notice.

use std::{net::SocketAddr, time::Instant};

use quorate_types::NodeId;

use super::{
    Links,
    config::CheckedConfig,
    link::{Link, MtuPolicy},
};

impl Links {
    /// Takes over another configuration. This node's id stays what it was.
    pub(super) fn reconfigure(&mut self, now: Instant, config: CheckedConfig) {
        let me = self.config.me;
        self.config = CheckedConfig { me, ..config };
        let wanted = self.config.config.hosts.clone();
        wanted.values().flat_map(|links| links.values()).for_each(|at| self.strangers.forget(at.ip()));
        let gone = self.hosts.keys().filter(|node| !wanted.contains_key(node)).copied();
        for node in gone.collect::<Vec<_>>() {
            self.remove_links(node, |_, _| true);
            self.refresh();
            let incomplete = self.hosts.remove(&node).map_or(0, |host| host.reassembly.given_up());
            self.stats.incomplete += incomplete;
        }
        for (node, addresses) in wanted {
            self.remove_links(node, |number, link| addresses.get(&number) != Some(&link.remote));
            for (number, remote) in addresses {
                self.configure_link(now, node, number, remote);
            }
        }
        self.deadline_moved = true;
        self.refresh();
    }

    fn remove_links(&mut self, node: NodeId, is_gone: impl Fn(u8, &Link) -> bool) {
        let Some(host) = self.hosts.get_mut(&node) else {
            return;
        };
        let gone: Vec<u8> =
            host.links.iter().filter(|(number, link)| is_gone(**number, link)).map(|(&n, _)| n).collect();
        let removed: Vec<(u8, Option<Link>)> = gone.into_iter().map(|n| (n, host.links.remove(&n))).collect();
        for (number, _) in removed.into_iter().filter(|(_, link)| link.as_ref().is_some_and(Link::is_up)) {
            self.link_changed(node, number, false);
        }
    }

    fn configure_link(&mut self, now: Instant, node: NodeId, number: u8, remote: SocketAddr) {
        let settings = self.config.link(number);
        let interval = self.config.config.pmtud_interval;
        let policy = self.config.config.mtu.map_or(MtuPolicy::Discover(interval), MtuPolicy::Fixed);
        let host = self.hosts.entry(node).or_default();
        let link = host.links.entry(number).or_insert_with(|| Link::new(now, remote, settings, policy));
        link.settings = settings;
        let begins = link.set_policy(policy);
        let probe = if begins { link.begin_discovery(now) } else { None };
        self.send_probe(node, number, probe);
    }
}
