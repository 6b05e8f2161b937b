//! What a daemon wants done is done: packets, writes, messages to the neighbours, observations.

use std::time::Duration;

use membership_core::srp::Destination;
use quorate_types::NodeId;

use super::{AMBUSH_DELAY_MAX, BOOT_MAX, Cluster, Event};
use crate::{
    daemon::{DaemonInput, DiskWrite, Effect},
    fault::Daemon,
    history::{Event as Observed, Observation},
    network::Datagram,
};

impl Cluster {
    pub(super) fn carry_out(&mut self, node: NodeId, daemon: Daemon, effect: Effect) {
        match effect {
            Effect::Send { to: Destination::Node(to), packet } => {
                self.send(node, to, &packet.into());
            }
            Effect::Send { to: Destination::All, packet } => {
                let datagram = packet.into();
                for index in 0..self.nodes.len() {
                    let to = self.nodes[index];
                    if to != node {
                        self.send(node, to, &datagram);
                    }
                }
            }
            Effect::Write(write) => self.write(node, daemon, write),
            Effect::Tell(connection, message) => {
                if let Some(link) = self.connections.link(connection) {
                    let other = if link.client() == daemon { link.server() } else { link.client() };
                    self.tell(node, other, connection, message);
                }
            }
            Effect::Observe(event) => self.observe(node, event),
            Effect::Watch(event) => self.watch(node, event),
            Effect::Note(note) => {
                let at = self.now();
                self.trace.note(at, Some(node), &note);
            }
            Effect::Critical(note) => {
                let at = self.now();
                self.trace.note(at, Some(node), &note);
                self.ambush(node);
            }
            Effect::Exit(reason) => {
                let at = self.now();
                self.trace.note(at, Some(node), &format!("{daemon:?} ends itself: {reason}"));
                self.stop(node, daemon);
                // The supervisor starts it again.
                let at = at + self.rng.span(Duration::from_millis(100), BOOT_MAX);
                self.queue.push(at, Event::Start { node, daemon });
            }
        }
    }

    /// Something may go wrong now, in the middle of it.
    pub(super) fn ambush(&mut self, victim: NodeId) {
        let now = self.now();
        if now >= self.setup.safety_length || !self.rng.chance(self.setup.profile.ambush) {
            return;
        }
        let at = now + self.rng.span(Duration::ZERO, AMBUSH_DELAY_MAX);
        for (at, fault) in self.setup.profile.draw(&mut self.rng, &self.nodes, Some(victim), at) {
            self.queue.push(at, Event::Fault(fault));
        }
    }

    pub(super) fn send(&mut self, from: NodeId, to: NodeId, datagram: &Datagram) {
        let now = self.now();
        for at in self.network.carry(now, from, to, datagram.bytes.len()).iter() {
            self.queue.push(at, Event::Datagram { to, datagram: datagram.clone() });
        }
    }

    pub(super) fn write(&mut self, node: NodeId, daemon: Daemon, write: DiskWrite) {
        let now = self.now();
        let early = self.is_reported_early(&write).then(|| write.clone());
        let process = self.process_mut(node, daemon);
        let life = process.life();
        let at = process.disk.submit(now, write);
        self.queue.push(at, Event::DiskDone { node, daemon, life });
        if let Some(write) = early {
            self.input(node, daemon, DaemonInput::Stored(write));
        }
    }

    /// Shows the checkers what was sent, and the reader of the trace what forms a ring.
    fn watch(&mut self, node: NodeId, event: Observed) {
        let at = self.now();
        self.wraps.observe(&event);
        if !matches!(event, Observed::Token(_)) {
            self.trace.remark(at, Some(node), || Some(&event));
        }
        let observation = Observation { at, node, event };
        if let Err(violation) = self.checkers.observe(&observation) {
            self.report(violation);
        }
        if self.history.is_some() {
            self.wire.push(observation);
        }
    }

    pub(super) fn observe(&mut self, node: NodeId, event: Observed) {
        let at = self.now();
        self.trace.note(at, Some(node), &event);
        self.tally.count(&event);
        self.wraps.observe(&event);
        if matches!(event, Observed::Submitted { .. }) {
            self.ambush(node);
        }
        for (pause, node, action) in self.callers.observe(node, &event) {
            self.queue.push(at + pause, Event::Act { node, action });
        }
        let observation = Observation { at, node, event };
        if let Err(violation) = self.checkers.observe(&observation) {
            self.report(violation);
        }
        if let Some(history) = &mut self.history {
            history.push(observation);
        }
    }
}
