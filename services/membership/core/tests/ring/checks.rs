//! What must hold for every run: the properties of extended virtual synchrony.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use membership_core::srp::{ConfigurationChange, Delivery, seq_lt};
use quorate_types::{NodeId, RingId};

use super::network::{Event, Network};

/// One life of a node in one regular configuration.
#[derive(Debug, Clone)]
pub(crate) struct Epoch {
    pub(crate) node: NodeId,
    pub(crate) ring: RingId,
    pub(crate) members: Vec<NodeId>,
    pub(crate) regular: Vec<Delivery>,
    pub(crate) transitional: Vec<Delivery>,
    /// The next ring and those who went there together, unless the node stopped first.
    pub(crate) next: Option<(RingId, Vec<NodeId>)>,
}

/// Splits each node's log at the configuration changes.
pub(crate) fn epochs(network: &Network) -> Vec<Epoch> {
    let mut all = Vec::new();
    for (node, n) in &network.nodes {
        let mut open: Option<Epoch> = None;
        let mut moving: Option<(RingId, Vec<NodeId>)> = None;
        for event in &n.log {
            match event {
                Event::Started => {
                    all.extend(open.take());
                    moving = None;
                }
                Event::Deliver(delivery) => {
                    let epoch = open.as_mut().expect("nothing is delivered before the first configuration");
                    assert_eq!(delivery.ring, epoch.ring, "node {node} delivers a message of another ring");
                    if moving.is_some() {
                        epoch.transitional.push(delivery.clone());
                    } else {
                        epoch.regular.push(delivery.clone());
                    }
                }
                Event::Change(ConfigurationChange::Transitional { ring, members, left }) => {
                    if let Some(epoch) = &open {
                        assert!(members.contains(node), "node {node} moves with itself");
                        let mut both: Vec<NodeId> = members.iter().chain(left).copied().collect();
                        both.sort_unstable();
                        assert_eq!(both, epoch.members, "node {node}: all stay or leave");
                    }
                    moving = Some((*ring, members.clone()));
                }
                Event::Change(ConfigurationChange::Regular { ring, members, .. }) => {
                    assert!(members.contains(node), "node {node} installs a ring without itself");
                    let (to, together) = moving.take().expect("a transitional change comes first");
                    assert_eq!(to, *ring);
                    if let Some(mut epoch) = open.take() {
                        assert!(epoch.ring < *ring, "node {node}: ring ids grow");
                        epoch.next = Some((to, together));
                        all.push(epoch);
                    }
                    open = Some(Epoch {
                        node: *node,
                        ring: *ring,
                        members: members.clone(),
                        regular: Vec::new(),
                        transitional: Vec::new(),
                        next: None,
                    });
                }
                Event::Safe(ring, _) => {
                    assert_eq!(open.as_ref().map(|e| e.ring), Some(*ring));
                    assert!(moving.is_none());
                }
            }
        }
        all.extend(open);
    }
    all
}

/// All properties at once.
pub(crate) fn check(network: &Network) {
    let epochs = epochs(network);
    members_agree(&epochs);
    order_is_strict(&epochs);
    those_who_move_together_saw_the_same(&epochs);
    others_saw_prefixes(&epochs);
    nothing_is_delivered_twice(network);
    safe_is_received_by_all(network, &epochs);
    behind_a_gap_only_those_who_came_along_are_heard(&epochs);
}

fn members_agree(epochs: &[Epoch]) {
    let mut known: BTreeMap<RingId, &Vec<NodeId>> = BTreeMap::new();
    for epoch in epochs {
        let members = known.entry(epoch.ring).or_insert(&epoch.members);
        assert_eq!(**members, epoch.members, "members of {}", epoch.ring);
    }
}

fn order_is_strict(epochs: &[Epoch]) {
    for epoch in epochs {
        let seqs: Vec<u32> =
            epoch.regular.iter().chain(&epoch.transitional).map(|delivery| delivery.seq).collect();
        assert!(seqs.windows(2).all(|w| seq_lt(w[0], w[1])), "node {} ring {}", epoch.node, epoch.ring);
        let no_gap = epoch.regular.windows(2).all(|w| w[1].seq == w[0].seq.wrapping_add(1));
        assert!(no_gap, "node {} delivers a regular message behind a gap", epoch.node);
    }
}

fn those_who_move_together_saw_the_same(epochs: &[Epoch]) {
    for a in epochs {
        for b in epochs.iter().filter(|b| b.ring == a.ring && b.node > a.node) {
            let (Some((next_a, with_a)), Some((next_b, with_b))) = (&a.next, &b.next) else { continue };
            if next_a != next_b {
                continue;
            }
            assert_eq!(with_a.contains(&b.node), with_b.contains(&a.node));
            if !with_a.contains(&b.node) {
                continue;
            }
            assert_eq!(with_a, with_b, "{} and {} move together", a.node, b.node);
            assert_eq!(a.regular, b.regular, "{} and {} in {}", a.node, b.node, a.ring);
            assert_eq!(a.transitional, b.transitional, "{} and {} after {}", a.node, b.node, a.ring);
        }
    }
}

fn others_saw_prefixes(epochs: &[Epoch]) {
    for a in epochs {
        for b in epochs.iter().filter(|b| b.ring == a.ring && b.node > a.node) {
            let common = a.regular.len().min(b.regular.len());
            assert_eq!(a.regular[..common], b.regular[..common], "{} and {}", a.node, b.node);
        }
    }
}

fn nothing_is_delivered_twice(network: &Network) {
    for node in network.nodes.keys() {
        let mut seen: BTreeSet<Bytes> = BTreeSet::new();
        for payload in network.delivered(*node) {
            assert!(seen.insert(payload.clone()), "node {node} delivers {payload:?} twice");
        }
    }
}

/// What one node was told is safe, every member of that ring delivers unless it fails.
fn safe_is_received_by_all(network: &Network, epochs: &[Epoch]) {
    let mut safe: BTreeMap<RingId, u32> = BTreeMap::new();
    for n in network.nodes.values() {
        for event in &n.log {
            if let Event::Safe(ring, seq) = event {
                let known = safe.entry(*ring).or_insert(*seq);
                if seq_lt(*known, *seq) {
                    *known = *seq;
                }
            }
        }
    }
    for epoch in epochs.iter().filter(|e| e.next.is_some()) {
        let Some(safe) = safe.get(&epoch.ring) else { continue };
        let delivered: BTreeSet<u32> =
            epoch.regular.iter().chain(&epoch.transitional).map(|delivery| delivery.seq).collect();
        for ((_, seq), _) in network.ordered.range((epoch.ring, 0)..=(epoch.ring, u32::MAX)) {
            if !seq_lt(*safe, *seq) {
                assert!(delivered.contains(seq), "node {} lacks safe {seq} of {}", epoch.node, epoch.ring);
            }
        }
    }
}

fn behind_a_gap_only_those_who_came_along_are_heard(epochs: &[Epoch]) {
    for epoch in epochs {
        let Some((_, together)) = &epoch.next else { continue };
        for delivery in &epoch.transitional {
            assert!(together.contains(&delivery.origin), "node {} hears {delivery:?}", epoch.node);
        }
    }
}
