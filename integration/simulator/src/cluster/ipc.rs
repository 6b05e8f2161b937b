//! The daemons of a node find each other and talk.

use quorate_types::NodeId;

use super::{Cluster, Event};
use crate::{
    daemon::{ConnectionId, DaemonInput, Link, Message},
    fault::Daemon,
};

impl Cluster {
    pub(super) fn connect_later(&mut self, node: NodeId, link: Link, life: u32) {
        let at = self.now() + self.connections.retry_delay();
        self.queue.push(at, Event::Connect { node, link, life });
    }

    pub(super) fn connect(&mut self, node: NodeId, link: Link, life: u32) {
        let client = self.process(node, link.client());
        if client.life() != life || !client.is_running() || self.connections.is_open(node, link) {
            return;
        }
        if client.is_paused() || !self.process(node, link.server()).is_running() {
            return self.connect_later(node, link, life);
        }
        let lives = (life, self.process(node, link.server()).life());
        let connection = self.connections.open(node, link, lives);
        self.input(node, link.client(), DaemonInput::Connected(connection, link));
    }

    pub(super) fn tell(&mut self, node: NodeId, to: Daemon, connection: ConnectionId, message: Message) {
        let now = self.now();
        let Some((at, life)) = self.connections.carry(now, connection, to) else { return };
        self.queue.push(at, Event::Told { to: (node, to), life, connection, message });
    }

    pub(super) fn told(&mut self, node: NodeId, daemon: Daemon, connection: ConnectionId, message: Message) {
        let paused = self.process(node, daemon).is_paused();
        let lost = matches!(message, Message::Gone) && !paused;
        self.input(node, daemon, DaemonInput::Message(connection, message));
        if lost && let Some(link) = self.connections.lost(connection, daemon) {
            let life = self.process(node, daemon).life();
            self.connect_later(node, link, life);
        }
    }
}
