//! What goes wrong and when: a plan drawn from the seed before the run begins.
//!
//! Every fault comes with its end, so that a plan shortened to its first faults is still a plan.

use std::{collections::BTreeMap, fmt, time::Duration};

use quorate_types::NodeId;

use crate::{
    disk::DiskSpeed,
    event::SimTime,
    network::Quality,
    rng::{MILLION, Rng},
};

/// A daemon of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Daemon {
    /// membershipd: the ring, process groups, synchronisation.
    Membership,
    /// quorumd: votes.
    Quorum,
    /// configd: the replicated tree.
    Config,
}

impl Daemon {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Membership, Self::Quorum, Self::Config];
}

/// One thing that goes wrong, or right again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Power loss: all daemons of the node are gone, unsynced writes may be.
    Crash(NodeId),
    /// The node boots; its daemons start within the next second, in any order.
    Boot(NodeId),
    /// One daemon dies.
    Kill(NodeId, Daemon),
    /// One daemon is started again, if it is not running and the node is up.
    Start(NodeId, Daemon),
    /// membershipd says goodbye and stops, as on an orderly shutdown; the other two stop as well.
    Leave(NodeId),
    /// A daemon gets no processor time.
    Pause(NodeId, Daemon),
    /// It gets time again.
    Resume(NodeId, Daemon),
    /// Nothing passes from any node of the first set to any of the second.
    Block(Vec<NodeId>, Vec<NodeId>),
    /// The end of such a block.
    Unblock(Vec<NodeId>, Vec<NodeId>),
    /// Every link has this quality.
    Links(Quality),
    /// One direction of one link has a quality of its own, or no longer.
    Link(NodeId, NodeId, Option<Quality>),
    /// The disk of a node has this speed.
    Disk(NodeId, DiskSpeed),
    /// A node receives at most one datagram per this time, or without limit again.
    Receiver(NodeId, Option<Duration>),
    /// The next write of configd fails.
    WriteError(NodeId),
    /// The store of a node is empty, as on a new disk; configd is killed first if it runs. It is never drawn from a
    /// seed: a node that forgot what it vouched for may cost the cluster an acknowledged write.
    WipeStore(NodeId),
    /// The ring-sequence file of a node is damaged.
    LoseRingSeq(NodeId),
    /// membershipd reads its configuration again: token, hold and consensus timers are now so many per cent
    /// of what they were at the start.
    Timers(NodeId, u32),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crash(node) => write!(f, "FAULT crash of node {node}"),
            Self::Boot(node) => write!(f, "FAULT node {node} boots"),
            Self::Kill(node, daemon) => write!(f, "FAULT kill {daemon:?} of {node}"),
            Self::Start(node, daemon) => write!(f, "FAULT start {daemon:?} of {node}"),
            Self::Leave(node) => write!(f, "FAULT node {node} leaves in good order"),
            Self::Pause(node, daemon) => write!(f, "FAULT pause {daemon:?} of {node}"),
            Self::Resume(node, daemon) => write!(f, "FAULT resume {daemon:?} of {node}"),
            Self::Block(from, to) => write!(f, "FAULT block {from:?} -> {to:?}"),
            Self::Unblock(from, to) => write!(f, "FAULT unblock {from:?} -> {to:?}"),
            Self::Links(quality) => write!(f, "FAULT links {quality:?}"),
            Self::Link(from, to, quality) => write!(f, "FAULT link {from} -> {to} {quality:?}"),
            Self::Disk(node, speed) => write!(f, "FAULT disk of {node} {speed:?}"),
            Self::Receiver(node, limit) => write!(f, "FAULT receiver of {node} {limit:?}"),
            Self::Timers(node, per_cent) => write!(f, "FAULT timers of {node} at {per_cent} %"),
            Self::LoseRingSeq(node) => write!(f, "FAULT the ring-sequence file of {node} is damaged"),
            Self::WipeStore(node) => write!(f, "FAULT the store of {node} is wiped"),
            Self::WriteError(node) => write!(f, "FAULT the next write of {node} fails"),
        }
    }
}

/// Faults in the order of their time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Each with its time.
    pub faults: Vec<(SimTime, Fault)>,
}

/// How hard a run is: drawn from the seed, so that some seeds only lose packets and others only crash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Mean time between two faults.
    pub interval: Duration,
    /// Weight of each kind of fault; a weight of 0 switches the kind off.
    pub weights: BTreeMap<Kind, u32>,
    /// Quality of the links while nothing else is said.
    pub base: Quality,
    /// Chance, in parts per million, that something goes wrong right after a daemon entered a critical
    /// state: where a fault at a random time hardly ever strikes.
    pub ambush: u32,
}

/// The kinds of fault that a plan is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Power loss and boot.
    Crash,
    /// Orderly leave and boot.
    Leave,
    /// Death of one daemon and its restart.
    Kill,
    /// Pause of one daemon or of all three.
    Pause,
    /// Two or three groups that do not hear each other.
    Partition,
    /// Some nodes hear others that do not hear them.
    OneWay,
    /// A node is not heard by anyone: what it sends while it has the token is with itself alone.
    Mute,
    /// Worse links for all.
    BadLinks,
    /// One worse link.
    BadLink,
    /// A disk that stalls.
    SlowDisk,
    /// A node that receives slowly.
    SlowReceiver,
    /// A write that fails.
    WriteError,
    /// Other timers, at one node after the other.
    Reload,
}

impl Kind {
    const ALL: [Self; 13] = [
        Self::Crash,
        Self::Leave,
        Self::Kill,
        Self::Pause,
        Self::Partition,
        Self::OneWay,
        Self::Mute,
        Self::BadLinks,
        Self::BadLink,
        Self::SlowDisk,
        Self::SlowReceiver,
        Self::WriteError,
        Self::Reload,
    ];
}

fn quality(rng: &mut Rng, worst_loss: u32) -> Quality {
    let mut often =
        |chance: u32, most: u32| if rng.chance(chance) { rng.below(u64::from(most)) as u32 } else { 0 };
    let loss = often(MILLION / 2, worst_loss);
    let duplicate = often(MILLION / 3, MILLION / 20);
    let reorder = often(MILLION / 3, MILLION / 20);
    let stale = often(MILLION / 4, MILLION / 200);
    let delay_min = rng.span(Duration::from_micros(30), Duration::from_millis(1));
    let delay_max = delay_min + rng.span(Duration::from_micros(20), Duration::from_millis(3));
    let bytes_max = if rng.chance(MILLION / 12) { rng.between(100, 2000) as usize } else { usize::MAX };
    Quality { loss, duplicate, reorder, stale, bytes_max, delay_min, delay_max }
}

impl Profile {
    /// Nothing goes wrong.
    pub const CALM: Self = Self {
        interval: Duration::from_secs(1),
        weights: BTreeMap::new(),
        base: Quality::PERFECT,
        ambush: 0,
    };

    /// The profile of a seed.
    #[must_use]
    pub fn generate(rng: &mut Rng) -> Self {
        let interval = rng.span(Duration::from_millis(500), Duration::from_secs(20));
        let weights = Kind::ALL.map(|kind| {
            let weight = if rng.chance(MILLION / 2) { rng.between(1, 10) as u32 } else { 0 };
            (kind, weight)
        });
        let base = if rng.chance(MILLION / 2) { Quality::PERFECT } else { quality(rng, MILLION / 20) };
        let ambush = *rng.pick(&[0, 0, MILLION / 500, MILLION / 100, MILLION / 25]);
        Self { interval, weights: weights.into_iter().collect(), base, ambush }
    }

    /// Draws one thing that goes wrong at `at`, with its end; nothing if every kind is switched off. What
    /// concerns one node often concerns the victim, if one is named.
    #[must_use]
    pub fn draw(
        &self,
        rng: &mut Rng,
        nodes: &[NodeId],
        victim: Option<NodeId>,
        at: SimTime,
    ) -> Vec<(SimTime, Fault)> {
        let total: u32 = self.weights.values().sum();
        if total == 0 {
            return Vec::new();
        }
        let mut drawn = rng.below(u64::from(total)) as u32;
        let kind = self.weights.iter().find(|(_, weight)| {
            let here = drawn < **weight;
            drawn = drawn.saturating_sub(**weight);
            here
        });
        let (kind, _) = kind.expect("a draw below the total of the weights falls on one of them");
        let drawn = *rng.pick(nodes);
        let node = victim.filter(|_| rng.chance(MILLION / 2)).unwrap_or(drawn);
        let mut faults = Vec::new();
        add(rng, &mut faults, *kind, at, node, nodes, self);
        faults
    }
}

impl Plan {
    /// Draws the faults between `begin` and `end` for these nodes. What is broken at the end stays
    /// broken: healing is the business of the liveness phase.
    #[must_use]
    pub fn generate(
        rng: &mut Rng,
        profile: &Profile,
        nodes: &[NodeId],
        begin: SimTime,
        end: SimTime,
    ) -> Self {
        let mut faults = vec![(SimTime::ZERO, Fault::Links(profile.base))];
        let mut at = begin;
        loop {
            at += rng.span(Duration::from_millis(1), profile.interval * 2);
            if at >= end {
                break;
            }
            faults.extend(profile.draw(rng, nodes, None, at));
        }
        faults.sort_by_key(|(at, _)| *at);
        Self { faults }
    }
}

/// How long a fault lasts: mostly around the protocol's own timeouts, where it hurts most.
fn length(rng: &mut Rng) -> Duration {
    let most = *rng.pick(&[20, 300, 1500, 5000, 15_000, 40_000]);
    rng.span(Duration::from_millis(1), Duration::from_millis(most))
}

/// Two non-empty groups of the nodes.
fn split(rng: &mut Rng, nodes: &[NodeId]) -> (Vec<NodeId>, Vec<NodeId>) {
    let mut all = nodes.to_vec();
    rng.shuffle(&mut all);
    let most = all.len().saturating_sub(1).max(1) as u64;
    let rest = all.split_off(rng.between(1, most) as usize);
    all.sort_unstable();
    let mut rest = rest;
    rest.sort_unstable();
    (all, rest)
}

fn add(
    rng: &mut Rng,
    faults: &mut Vec<(SimTime, Fault)>,
    kind: Kind,
    at: SimTime,
    node: NodeId,
    nodes: &[NodeId],
    profile: &Profile,
) {
    let until = at + length(rng);
    match kind {
        Kind::Crash => {
            // Sometimes the power fails for several at once.
            let also = if rng.chance(MILLION / 4) { split(rng, nodes).0 } else { vec![node] };
            for node in also {
                faults.push((at, Fault::Crash(node)));
                faults.push((until + rng.span(Duration::ZERO, Duration::from_secs(2)), Fault::Boot(node)));
            }
        }
        Kind::Leave => faults.extend([(at, Fault::Leave(node)), (until, Fault::Boot(node))]),
        Kind::Kill => {
            let daemon = *rng.pick(&Daemon::ALL);
            faults.extend([(at, Fault::Kill(node, daemon)), (until, Fault::Start(node, daemon))]);
        }
        Kind::Pause => {
            let one = *rng.pick(&Daemon::ALL);
            let all = rng.chance(MILLION / 2);
            for daemon in Daemon::ALL.into_iter().filter(|daemon| all || *daemon == one) {
                faults.extend([(at, Fault::Pause(node, daemon)), (until, Fault::Resume(node, daemon))]);
            }
        }
        Kind::Partition => {
            let (one, two) = split(rng, nodes);
            for (from, to) in [(one.clone(), two.clone()), (two, one)] {
                if !from.is_empty() && !to.is_empty() {
                    faults.extend([
                        (at, Fault::Block(from.clone(), to.clone())),
                        (until, Fault::Unblock(from, to)),
                    ]);
                }
            }
        }
        Kind::OneWay => {
            let (from, to) = split(rng, nodes);
            if !to.is_empty() {
                faults.extend([
                    (at, Fault::Block(from.clone(), to.clone())),
                    (until, Fault::Unblock(from, to)),
                ]);
            }
        }
        Kind::Mute => {
            let others: Vec<NodeId> = nodes.iter().copied().filter(|other| *other != node).collect();
            faults.extend([
                (at, Fault::Block(vec![node], others.clone())),
                (until, Fault::Unblock(vec![node], others)),
            ]);
        }
        Kind::BadLinks => {
            let bad = quality(rng, MILLION / 4);
            faults.extend([(at, Fault::Links(bad)), (until, Fault::Links(profile.base))]);
        }
        Kind::BadLink => {
            let to = *rng.pick(nodes);
            let bad = quality(rng, MILLION);
            faults.extend([(at, Fault::Link(node, to, Some(bad))), (until, Fault::Link(node, to, None))]);
        }
        Kind::SlowDisk => {
            faults.extend([
                (at, Fault::Disk(node, DiskSpeed::SLOW)),
                (until, Fault::Disk(node, DiskSpeed::FAST)),
            ]);
        }
        Kind::Reload => {
            let per_cent = *rng.pick(&[50, 80, 150, 300]);
            for node in nodes {
                let later = rng.span(Duration::ZERO, Duration::from_secs(2));
                faults.extend([
                    (at + later, Fault::Timers(*node, per_cent)),
                    (until + later, Fault::Timers(*node, 100)),
                ]);
            }
        }
        Kind::WriteError => faults.push((at, Fault::WriteError(node))),
        Kind::SlowReceiver => {
            let per_datagram = rng.span(Duration::from_micros(100), Duration::from_millis(2));
            faults.extend([
                (at, Fault::Receiver(node, Some(per_datagram))),
                (until, Fault::Receiver(node, None)),
            ]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(count: u32) -> Vec<NodeId> {
        (1..=count).map(|id| NodeId::new(id).unwrap()).collect()
    }

    fn plan(seed: u64, count: u32) -> Plan {
        let mut rng = Rng::new(seed);
        let profile = Profile::generate(&mut rng);
        Plan::generate(&mut rng, &profile, &nodes(count), SimTime::from_secs(5), SimTime::from_secs(60))
    }

    #[test]
    fn a_seed_gives_one_plan_in_the_order_of_time() {
        for seed in 0..50 {
            let one = plan(seed, 5);
            assert_eq!(one, plan(seed, 5));
            assert!(one.faults.is_sorted_by_key(|(at, _)| *at));
        }
    }

    #[test]
    fn every_kind_of_fault_turns_up() {
        let all: Vec<Fault> =
            (0..100).flat_map(|seed| plan(seed, 3).faults).map(|(_, fault)| fault).collect();
        let kinds: std::collections::BTreeSet<String> = all
            .iter()
            .map(|fault| format!("{fault:?}").split(['(', ' ']).next().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(kinds.len(), 15, "{kinds:?}");
    }

    #[test]
    fn every_block_has_two_sides_and_an_end() {
        for seed in 0..100 {
            let plan = plan(seed, 4);
            let blocks = plan.faults.iter().filter(|(_, fault)| matches!(fault, Fault::Block(..))).count();
            let ends = plan.faults.iter().filter(|(_, fault)| matches!(fault, Fault::Unblock(..))).count();
            assert_eq!(blocks, ends);
            for (_, fault) in plan.faults {
                if let Fault::Block(from, to) = fault {
                    assert!(!from.is_empty() && !to.is_empty());
                    assert!(from.iter().all(|node| !to.contains(node)));
                }
            }
        }
    }
}
