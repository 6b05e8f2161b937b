//! Connections between the daemons of a node: in order, with a small delay, broken by the death of
//! either end.

use std::{collections::BTreeMap, time::Duration};

use quorate_types::NodeId;

use crate::{
    daemon::{ConnectionId, Link},
    event::SimTime,
    fault::Daemon,
    rng::Rng,
};

/// A client tries to connect again after at most this long.
const RETRY_MAX: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Connection {
    node: NodeId,
    link: Link,
    client_life: u32,
    server_life: u32,
    /// Arrival of the last message at the client and at the server.
    last: (SimTime, SimTime),
    /// Both ends live.
    open: bool,
}

/// All connections of all nodes.
#[derive(Debug)]
pub(super) struct Connections {
    rng: Rng,
    delay_max: Duration,
    last_id: ConnectionId,
    all: BTreeMap<ConnectionId, Connection>,
    /// What each client believes to be connected to.
    believed: BTreeMap<(NodeId, Link), ConnectionId>,
}

impl Connections {
    pub(super) fn new(rng: Rng, delay_max: Duration) -> Self {
        Self { rng, delay_max, last_id: 0, all: BTreeMap::new(), believed: BTreeMap::new() }
    }

    pub(super) fn retry_delay(&mut self) -> Duration {
        self.rng.span(Duration::from_millis(1), RETRY_MAX)
    }

    /// Whether the client believes that it is connected.
    pub(super) fn is_open(&self, node: NodeId, link: Link) -> bool {
        self.believed.contains_key(&(node, link))
    }

    pub(super) fn open(&mut self, node: NodeId, link: Link, lives: (u32, u32)) -> ConnectionId {
        self.last_id += 1;
        let (client_life, server_life) = lives;
        let last = (SimTime::ZERO, SimTime::ZERO);
        let connection = Connection { node, link, client_life, server_life, last, open: true };
        self.all.insert(self.last_id, connection);
        self.believed.insert((node, link), self.last_id);
        self.last_id
    }

    /// The link of an open connection.
    pub(super) fn link(&self, id: ConnectionId) -> Option<Link> {
        self.all.get(&id).filter(|connection| connection.open).map(|connection| connection.link)
    }

    /// Open connections of a daemon.
    pub(super) fn of(&self, node: NodeId, daemon: Daemon) -> Vec<(Link, ConnectionId)> {
        let is_end = |link: Link| link.client() == daemon || link.server() == daemon;
        let mine = self
            .all
            .iter()
            .filter(|(_, connection)| connection.open && connection.node == node && is_end(connection.link));
        mine.map(|(id, connection)| (connection.link, *id)).collect()
    }

    /// When a message sent now arrives at this end, and the life that it is meant for.
    pub(super) fn carry(&mut self, now: SimTime, id: ConnectionId, to: Daemon) -> Option<(SimTime, u32)> {
        let connection = self.all.get_mut(&id).filter(|connection| connection.open)?;
        let to_client = connection.link.client() == to;
        let last = if to_client { &mut connection.last.0 } else { &mut connection.last.1 };
        let at = now + self.rng.span(Duration::from_micros(10), self.delay_max);
        *last = at.max(*last + Duration::from_nanos(1));
        let life = if to_client { connection.client_life } else { connection.server_life };
        Some((*last, life))
    }

    /// One end is gone. If it was the client, its next life begins without a connection.
    pub(super) fn close(&mut self, id: ConnectionId) {
        if let Some(connection) = self.all.get_mut(&id) {
            connection.open = false;
        }
    }

    /// The daemon has seen that the other end is gone. Returns the link if the daemon is the client
    /// and so has to connect again.
    pub(super) fn lost(&mut self, id: ConnectionId, daemon: Daemon) -> Option<Link> {
        let connection = self.all.remove(&id)?;
        let link = connection.link;
        if link.client() != daemon {
            return None;
        }
        self.forget(connection.node, link, id);
        Some(link)
    }

    /// A client died: it believes nothing any more.
    pub(super) fn client_died(&mut self, node: NodeId, daemon: Daemon) {
        self.believed.retain(|(owner, link), _| *owner != node || link.client() != daemon);
    }

    fn forget(&mut self, node: NodeId, link: Link, id: ConnectionId) {
        if self.believed.get(&(node, link)) == Some(&id) {
            self.believed.remove(&(node, link));
        }
    }
}
