//! Cuts what a probe saw into segments: one per configuration of each of its lives.
//!
//! Shared by the checkers that compare what several members delivered in one ring.

use std::collections::{BTreeMap, BTreeSet};

use quorate_types::{NodeId, RingId};

use crate::history::{Change, Event, MessageId, Observation, Probe};

/// One delivered message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Delivery {
    /// Its place in the ring's order.
    pub(super) seq: u32,
    /// The message.
    pub(super) message: MessageId,
    /// Its sender.
    pub(super) origin: NodeId,
    /// It began before some members of the ring joined.
    pub(super) spans_change: bool,
    /// The last place of this ring that the sender had delivered when it sent.
    pub(super) after: Option<u32>,
}

/// How a segment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The node is still in it.
    Open,
    /// The node installed the next ring.
    Moved(RingId),
    /// The daemon stopped.
    Stopped,
}

/// What one probe saw from one regular configuration to the next.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    /// Whose.
    pub(super) node: NodeId,
    /// The ring.
    pub(super) ring: RingId,
    /// Its members.
    pub(super) members: Vec<NodeId>,
    /// The ring before.
    pub(super) came_from: Option<RingId>,
    /// Those who came into the ring together with this node.
    pub(super) came_with: Vec<NodeId>,
    /// The probe was in its group before the ring was installed.
    pub(super) from_start: bool,
    /// Delivered in the regular configuration.
    pub(super) regular: Vec<Delivery>,
    /// Who moves on together, once the transitional configuration was seen.
    pub(super) moving_on: Option<Vec<NodeId>>,
    /// Delivered in the transitional configuration.
    pub(super) transitional: Vec<Delivery>,
    /// How it ended.
    pub(super) end: End,
}

impl Segment {
    /// All deliveries in order.
    pub(super) fn deliveries(&self) -> impl Iterator<Item = &Delivery> {
        self.regular.iter().chain(&self.transitional)
    }
}

/// All segments so far, of both probes.
#[derive(Debug, Default)]
pub(super) struct Lives {
    segments: BTreeMap<(Probe, RingId), Vec<Segment>>,
    open: BTreeMap<(Probe, NodeId), RingId>,
    joined: BTreeSet<(Probe, NodeId)>,
    /// Announced by a transitional configuration of a probe that is in no ring yet.
    coming_with: BTreeMap<(Probe, NodeId), Vec<NodeId>>,
    /// The last place that each probe delivered, and had delivered when it sent a message.
    last: BTreeMap<(Probe, NodeId), (RingId, u32)>,
    sent_after: BTreeMap<MessageId, (RingId, u32)>,
    /// The first message of each sender that anyone delivered in a ring, of either probe.
    first: BTreeMap<(RingId, NodeId), MessageId>,
}

impl Lives {
    /// All segments of a ring, for one probe.
    pub(super) fn rings(&self) -> impl Iterator<Item = (Probe, RingId, &[Segment])> {
        self.segments.iter().map(|(&(probe, ring), segments)| (probe, ring, &segments[..]))
    }

    /// The segment that a probe of a node is in.
    pub(super) fn current(&mut self, probe: Probe, node: NodeId) -> Option<&mut Segment> {
        let ring = *self.open.get(&(probe, node))?;
        let segments = self.segments.get_mut(&(probe, ring))?;
        segments.iter_mut().rev().find(|segment| segment.node == node)
    }

    /// Whether the node installed the ring, in any of its lives.
    pub(super) fn has_installed(&self, ring: RingId, node: NodeId) -> bool {
        let segments = self.segments.get(&(Probe::Agreed, ring));
        segments.is_some_and(|segments| segments.iter().any(|segment| segment.node == node))
    }

    /// Whether the segment's node may lack a message because it was not there when it began.
    ///
    /// A message may begin in one ring and end in the next; who was not in the first one with the sender
    /// cannot assemble it (Totem specification 6.4: "this is normal, not an error"). That is at most
    /// one message per sender and ring, the first one, those who deliver it are told, and it concerns only
    /// those who met the sender after the last ring in which it got any message through.
    pub(super) fn may_lack(&self, segment: &Segment, delivery: &Delivery) -> bool {
        let (node, origin) = (segment.node, delivery.origin);
        if !delivery.spans_change || self.first.get(&(segment.ring, origin)) != Some(&delivery.message) {
            return false;
        }
        let mut ring = segment.ring;
        loop {
            let segments = self.segments.get(&(Probe::Agreed, ring)).map_or(&[][..], Vec::as_slice);
            let Some(here) = segments.iter().rev().find(|segment| segment.node == node) else { return true };
            if !here.came_with.contains(&origin) {
                return true;
            }
            let Some(before) = here.came_from else { return false };
            if self.first.contains_key(&(before, origin)) {
                return false;
            }
            ring = before;
        }
    }

    /// Takes the next observation.
    pub(super) fn observe(&mut self, observation: &Observation) {
        let node = observation.node;
        match &observation.event {
            Event::MembershipStarted { .. } | Event::MembershipStopped => self.stop(node),
            Event::Ring(change) => self.change(Probe::Agreed, node, change),
            Event::ProbeRing(probe, change) => self.change(*probe, node, change),
            Event::ProbeJoined(probe) => {
                self.joined.insert((*probe, node));
            }
            Event::Sent { probe, message, .. } => {
                if let Some(last) = self.last.get(&(*probe, node)) {
                    self.sent_after.insert(*message, *last);
                }
            }
            Event::Delivered { probe, message: Some(message), origin, seq, ring, spans_change } => {
                let first = self.first.entry((*ring, *origin)).or_insert(*message);
                *first = (*first).min(*message);
                let after =
                    self.sent_after.get(message).filter(|(known, _)| known == ring).map(|(_, seq)| *seq);
                let (seq, spans_change) = (*seq, *spans_change);
                let delivery = Delivery { seq, message: *message, origin: *origin, spans_change, after };
                self.last.insert((*probe, node), (*ring, seq));
                if let Some(segment) = self.current(*probe, node) {
                    let in_transitional = segment.moving_on.is_some();
                    let list = if in_transitional { &mut segment.transitional } else { &mut segment.regular };
                    list.push(delivery);
                }
            }
            _ => {}
        }
    }

    fn stop(&mut self, node: NodeId) {
        for probe in Probe::ALL {
            if let Some(segment) = self.current(probe, node) {
                segment.end = End::Stopped;
            }
            self.open.remove(&(probe, node));
            self.joined.remove(&(probe, node));
            self.last.remove(&(probe, node));
            self.coming_with.remove(&(probe, node));
        }
    }

    fn change(&mut self, probe: Probe, node: NodeId, change: &Change) {
        match change {
            Change::Transitional { members, .. } => match self.current(probe, node) {
                Some(segment) => segment.moving_on = Some(members.clone()),
                None => {
                    self.coming_with.insert((probe, node), members.clone());
                }
            },
            Change::Regular { ring, members } => self.install(probe, node, *ring, members),
        }
    }

    fn install(&mut self, probe: Probe, node: NodeId, ring: RingId, members: &[NodeId]) {
        let (came_from, came_with) = match self.current(probe, node) {
            Some(segment) => {
                segment.end = End::Moved(ring);
                (Some(segment.ring), segment.moving_on.clone().unwrap_or_default())
            }
            None => (None, self.coming_with.remove(&(probe, node)).unwrap_or_default()),
        };
        self.open.insert((probe, node), ring);
        self.segments.entry((probe, ring)).or_default().push(Segment {
            node,
            ring,
            members: members.to_vec(),
            came_from,
            came_with,
            from_start: self.joined.contains(&(probe, node)),
            regular: Vec::new(),
            moving_on: None,
            transitional: Vec::new(),
            end: End::Open,
        });
    }
}
