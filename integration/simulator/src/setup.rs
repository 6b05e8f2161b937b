//! The cluster that a seed stands for: how many nodes, which parameters, how much goes wrong.

use std::{collections::BTreeMap, time::Duration};

use membership_core::{
    feature,
    srp::{Params, TotemSettings},
};
use quorate_types::NodeId;

use crate::{
    checker::{QuorumRule, StoreRule},
    disk::DiskSpeed,
    fault::{Plan, Profile},
    mutation::Mutation,
    network::Quality,
    rng::{MILLION, Rng},
    workload::{Load, Workload},
};

/// Options of votequorum, the same on all nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QuorumOptions {
    /// `two_node`.
    pub two_node: bool,
    /// `wait_for_all`.
    pub wait_for_all: bool,
    /// `auto_tie_breaker`, lowest node.
    pub auto_tie_breaker: bool,
    /// `last_man_standing`.
    pub last_man_standing: bool,
}

impl QuorumOptions {
    /// What these options promise.
    #[must_use]
    pub fn rule(self) -> QuorumRule {
        match self {
            Self { two_node: true, .. } => QuorumRule::TwoNode,
            Self { auto_tie_breaker: true, .. } => QuorumRule::Concurrent,
            Self { last_man_standing: true, .. } => QuorumRule::LastManStanding,
            _ => QuorumRule::Majority,
        }
    }
}

/// Everything that is fixed before a run begins.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The seed of all chance during the run.
    pub seed: u64,
    /// Every node with its votes.
    pub votes: BTreeMap<NodeId, u32>,
    /// The feature level of a node's membershipd from its next start on, if it is not the present one; `None`: it
    /// takes no part, as corosync.
    pub levels: BTreeMap<NodeId, Option<u32>>,
    /// Parameters of the ring.
    pub params: Params,
    /// What every node's ring-sequence file holds before its first start.
    pub ring_seq: u64,
    /// Options of votequorum.
    pub quorum: QuorumOptions,
    /// Links at the start.
    pub quality: Quality,
    /// Disks at the start.
    pub disk: DiskSpeed,
    /// Longest way of a message between two daemons of a node.
    pub ipc_delay_max: Duration,
    /// How far each node's clock is ahead after a million seconds, in seconds.
    pub clock_ppm: BTreeMap<NodeId, i64>,
    /// What goes wrong, and when.
    pub plan: Plan,
    /// How hard the run is: for what goes wrong in response to what happens.
    pub profile: Profile,
    /// What users do, and when.
    pub workload: Workload,
    /// Length of the first phase.
    pub safety_length: Duration,
    /// A deliberate bug.
    pub mutation: Option<Mutation>,
}

/// Nodes get this long to find each other before anything goes wrong; less than that now and then.
const WARM_UP_MAX: Duration = Duration::from_secs(15);

impl Setup {
    /// A healthy cluster of nodes 1 to `count` with a vote each and corosync's default timers: the
    /// beginning of every named scenario.
    ///
    /// # Panics
    /// If `count` is 0.
    #[must_use]
    pub fn healthy(count: u32) -> Self {
        let votes: BTreeMap<NodeId, u32> = node_ids(1..=count).into_iter().map(|node| (node, 1)).collect();
        let params = Params::derive(&TotemSettings::default(), votes.len());
        Self {
            seed: 1,
            votes,
            levels: BTreeMap::new(),
            params: params.expect("the default settings are valid"),
            ring_seq: 0,
            quorum: QuorumOptions::default(),
            quality: Quality::PERFECT,
            disk: DiskSpeed::FAST,
            ipc_delay_max: Duration::from_micros(500),
            clock_ppm: BTreeMap::new(),
            plan: Plan::default(),
            profile: Profile::CALM,
            workload: Workload::default(),
            safety_length: Duration::ZERO,
            mutation: None,
        }
    }

    /// The same with the timers that `pvecm create` writes. Source: spec `pvecm.md`, section 2; the gateway's
    /// `life_cycle/conf.rs`.
    ///
    /// # Panics
    /// If `count` is 0.
    #[must_use]
    pub fn created(count: u32) -> Self {
        let setup = Self::healthy(count);
        let settings =
            TotemSettings { token: Some(1000), token_coefficient: Some(125), ..TotemSettings::default() };
        let params = Params::derive(&settings, setup.votes.len());
        Self { params: params.expect("these settings are valid"), ..setup }
    }

    /// The cluster of a seed; `count` fixes the number of nodes, otherwise it is 2 to 7.
    #[must_use]
    pub fn generate(seed: u64, count: Option<u32>) -> Self {
        let mut rng = Rng::new(seed);
        let drawn = *rng.pick(&[2, 3, 3, 3, 4, 5, 5, 6, 7]);
        let count = count.unwrap_or(drawn);
        let nodes = if rng.chance(MILLION / 4) { sparse_ids(&mut rng, count) } else { node_ids(1..=count) };
        let weighted = rng.chance(MILLION / 6);
        let votes = nodes.iter().map(|node| (*node, if weighted { rng.between(1, 3) as u32 } else { 1 }));
        let votes: BTreeMap<NodeId, u32> = votes.collect();
        let profile = Profile::generate(&mut rng);
        let load = Load::generate(&mut rng);
        let begin = rng.span(Duration::ZERO, WARM_UP_MAX);
        let end = begin + rng.span(Duration::from_secs(20), Duration::from_secs(120));
        let quorum = quorum_options(&mut rng, &votes, weighted);
        // Chance of its own, so that a seed stands for the same faults whatever programs its nodes run.
        let mut programs = Rng::new(!seed);
        let fast_detection = !programs.chance(MILLION / 8);
        let mut params = params(&mut rng, nodes.len());
        let ring_seq = if rng.chance(MILLION / 2) { begin_near_wrap(&mut rng, &mut params) } else { 0 };
        Self {
            params: Params { fast_detection, ..params },
            levels: levels(&mut programs, &nodes),
            ring_seq,
            quorum,
            quality: profile.base,
            disk: DiskSpeed::FAST,
            ipc_delay_max: rng.span(Duration::from_micros(50), Duration::from_millis(20)),
            clock_ppm: clocks(&mut rng, &nodes),
            plan: Plan::generate(&mut rng, &profile, &nodes, begin, end),
            profile,
            workload: Workload::generate(&mut rng, load, &nodes, begin, end),
            safety_length: end,
            seed: rng.next_u64(),
            mutation: None,
            votes,
        }
    }

    /// What the options promise about writes.
    #[must_use]
    pub fn store_rule(&self) -> StoreRule {
        let all: u32 = self.votes.values().sum();
        let votes_needed = match self.quorum {
            QuorumOptions { two_node: true, .. } | QuorumOptions { last_man_standing: true, .. } => 1,
            QuorumOptions { auto_tie_breaker: true, .. } => all.div_ceil(2),
            _ => all / 2 + 1,
        };
        StoreRule { votes_needed, single_history: !self.quorum.two_node }
    }

    /// The feature level of a node's membershipd; `None` if it takes no part.
    #[must_use]
    pub fn level(&self, node: NodeId) -> Option<u32> {
        self.levels.get(&node).copied().unwrap_or(Some(feature::LEVEL))
    }

    /// The nodes, ascending.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeId> {
        self.votes.keys().copied().collect()
    }
}

fn node_ids(ids: impl IntoIterator<Item = u32>) -> Vec<NodeId> {
    ids.into_iter().map(|id| NodeId::new(id).expect("node ids start at 1")).collect()
}

fn sparse_ids(rng: &mut Rng, count: u32) -> Vec<NodeId> {
    let mut ids = std::collections::BTreeSet::new();
    while ids.len() < count as usize {
        ids.insert(rng.between(1, 60_000) as u32);
    }
    node_ids(ids)
}

/// In half of the clusters all nodes are alike; the others have nodes of a later level, nodes that take no part as
/// corosync, or both.
fn levels(rng: &mut Rng, nodes: &[NodeId]) -> BTreeMap<NodeId, Option<u32>> {
    let others: &[Option<u32>] = match rng.below(8) {
        0..=3 => return BTreeMap::new(),
        4 => &[Some(feature::LEVEL + 1)],
        5 => &[Some(feature::LEVEL + 1), None],
        _ => &[None],
    };
    let drawn: Vec<_> =
        nodes.iter().map(|node| rng.chance(MILLION / 2).then(|| (*node, *rng.pick(others)))).collect();
    drawn.into_iter().flatten().collect()
}

/// Half of the clusters have perfect clocks, in the others each is wrong by up to half a percent.
fn clocks(rng: &mut Rng, nodes: &[NodeId]) -> BTreeMap<NodeId, i64> {
    let most = *rng.pick(&[0, 5000]);
    nodes.iter().map(|node| (*node, rng.between(0, 2 * most) as i64 - most as i64)).collect()
}

fn quorum_options(rng: &mut Rng, votes: &BTreeMap<NodeId, u32>, weighted: bool) -> QuorumOptions {
    let mut options = QuorumOptions { wait_for_all: rng.chance(MILLION / 4), ..QuorumOptions::default() };
    match rng.below(6) {
        0 if votes.len() == 2 && !weighted => {
            options.two_node = true;
            options.wait_for_all = true;
        }
        1 if votes.len().is_multiple_of(2) && !weighted => options.auto_tie_breaker = true,
        2 if votes.len() > 2 && !weighted => options.last_man_standing = true,
        _ => {}
    }
    options
}

fn params(rng: &mut Rng, nodes: usize) -> Params {
    let defaults = rng.chance(MILLION / 3);
    let mut one_of = |values: &[u32]| Some(*rng.pick(values)).filter(|_| !defaults);
    let settings = TotemSettings {
        token: one_of(&[500, 1000, 3000, 5000]),
        token_coefficient: one_of(&[0, 100, 650]),
        join: one_of(&[30, 50, 100]),
        merge: one_of(&[50, 200, 1000]),
        fail_recv_const: one_of(&[50, 500, 2500]),
        seqno_unchanged_const: one_of(&[3, 10, 30]),
        window_size: one_of(&[4, 50, 300]),
        max_messages: one_of(&[1, 17, 60]),
        miss_count_const: one_of(&[0, 5]),
        cancel_token_hold_on_retransmit: one_of(&[0, 1]).map(|value| value == 1),
        send_join: one_of(&[0, 0, 80]),
        net_mtu: one_of(&[300, 1410, 1410, 65_446]),
        ..TotemSettings::default()
    };
    Params::derive(&settings, nodes).expect("every drawn value is valid")
}

/// Numbers of messages and tokens begin so close to their end that most rings get there; the ring sequence,
/// which has 64 bits, is about to need more than 32. Returns the latter.
fn begin_near_wrap(rng: &mut Rng, params: &mut Params) -> u64 {
    let most = *rng.pick(&[3, 30, 300]);
    params.initial_seq = u32::MAX - rng.below(most) as u32;
    u64::from(u32::MAX) - rng.below(30)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_cover_every_size_and_half_of_them_begin_near_the_wrap() {
        let setups: Vec<Setup> = (0..300).map(|seed| Setup::generate(seed, None)).collect();
        for count in 2..=7 {
            assert!(setups.iter().any(|setup| setup.votes.len() == count), "{count}");
        }
        let near_wrap =
            setups.iter().filter(|setup| setup.params.initial_seq != 0 && setup.ring_seq != 0).count();
        assert!((100..200).contains(&near_wrap), "{near_wrap}");
    }

    #[test]
    fn half_of_the_clusters_are_all_alike_and_the_others_mixed() {
        let setups: Vec<Setup> = (0..300).map(|seed| Setup::generate(seed, None)).collect();
        let level = |level: Option<u32>| {
            setups.iter().filter(|setup| setup.levels.values().any(|other| *other == level)).count()
        };
        let alike = setups.iter().filter(|setup| setup.levels.is_empty()).count();
        assert!((130..210).contains(&alike), "{alike}");
        assert!(level(None) > 60 && level(Some(2)) > 30, "{} {}", level(None), level(Some(2)));
    }

    #[test]
    fn a_fixed_number_of_nodes_is_kept() {
        assert!((0..20).all(|seed| Setup::generate(seed, Some(4)).votes.len() == 4));
    }
}
