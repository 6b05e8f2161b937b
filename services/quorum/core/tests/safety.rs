//! Whatever fails in whatever order: two disjoint parts are never quorate, and a whole cluster is.
//!
//! Without `two_node` and `last_man_standing`, which need fencing (`tests/data` shows where).

mod support;

use std::time::Duration;

use proptest::{collection::vec, prelude::*};
use quorum_core::{QuorumConfig, TieBreaker};
use support::cluster::{Cluster, id};

#[derive(Debug, Clone)]
enum Step {
    /// All nodes that are up form rings: node n goes to the ring of this number.
    Split([u8; 7]),
    /// A ring of some nodes breaks before it is synchronised.
    Abort([bool; 7]),
    Kill(u32),
    Start(u32),
    RestartEngine(u32),
    LoseRing(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::array::uniform7(0u8..3).prop_map(Step::Split),
        1 => prop::array::uniform7(any::<bool>()).prop_map(Step::Abort),
        2 => (1u32..8).prop_map(Step::Kill),
        3 => (1u32..8).prop_map(Step::Start),
        1 => (1u32..8).prop_map(Step::RestartEngine),
        1 => (1u32..8).prop_map(Step::LoseRing),
    ]
}

fn tie_breaker() -> impl Strategy<Value = Option<TieBreaker>> {
    prop_oneof![
        Just(None),
        Just(Some(TieBreaker::Lowest)),
        Just(Some(TieBreaker::Highest)),
        vec(1u32..8, 1..4).prop_map(|list| Some(TieBreaker::List(list.into_iter().map(id).collect()))),
    ]
}

fn cluster(votes: &[u32], wait_for_all: bool, tie_breaker: Option<&TieBreaker>) -> Cluster {
    let mut cluster = Cluster::default();
    for (own, node) in votes.iter().zip(1..) {
        let config = QuorumConfig::majority(*own, votes.iter().sum(), votes.len());
        let config = QuorumConfig { wait_for_all, auto_tie_breaker: tie_breaker.cloned(), ..config };
        cluster.configure(node, config);
    }
    cluster
}

fn up(cluster: &Cluster) -> Vec<u32> {
    cluster.nodes.keys().copied().filter(|node| cluster.is_up(*node)).collect()
}

fn split(cluster: &mut Cluster, rings: &[u8; 7]) {
    for ring in 0..3 {
        let members: Vec<u32> =
            up(cluster).into_iter().filter(|node| rings[*node as usize - 1] == ring).collect();
        if !members.is_empty() {
            cluster.form_ring(&members);
        }
    }
}

fn apply(cluster: &mut Cluster, step: &Step) {
    let is_up = |cluster: &Cluster, node: u32| cluster.is_up(node);
    match step {
        Step::Split(rings) => split(cluster, rings),
        Step::Abort(chosen) => {
            let members: Vec<u32> =
                up(cluster).into_iter().filter(|node| chosen[*node as usize - 1]).collect();
            if !members.is_empty() {
                cluster.abort_ring(&members);
                // Its members form rings of their own next, as every broken ring does.
                members.iter().for_each(|node| cluster.form_ring(&[*node]));
            }
        }
        Step::Kill(node) if is_up(cluster, *node) => cluster.kill(*node),
        Step::Start(node) if cluster.nodes.contains_key(node) && !is_up(cluster, *node) => {
            cluster.start(*node);
            cluster.form_ring(&[*node]);
        }
        Step::RestartEngine(node) if is_up(cluster, *node) => cluster.restart_engine(*node),
        Step::LoseRing(node) if is_up(cluster, *node) => cluster.lose_ring(*node),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn two_disjoint_parts_are_never_quorate(
        votes in vec(prop_oneof![4 => Just(1u32), 1 => 0u32..4], 1..8),
        wait_for_all: bool,
        tie_breaker in tie_breaker(),
        steps in vec(step(), 1..30),
    ) {
        let mut cluster = cluster(&votes, wait_for_all, tie_breaker.as_ref());
        for node in 1..=u32::try_from(votes.len()).unwrap() {
            cluster.start(node);
        }
        cluster.form_ring(&up(&cluster));
        for step in &steps {
            apply(&mut cluster, step);
            cluster.wait(Duration::from_secs(1));
            prop_assert_eq!(cluster.two_primaries(), None, "after {:?}", step);
        }

        // When all are together again all are quorate, and agree.
        for node in 1..=u32::try_from(votes.len()).unwrap() {
            if !cluster.is_up(node) {
                cluster.start(node);
            }
        }
        cluster.form_ring(&up(&cluster));
        let total: u32 = votes.iter().sum();
        for node in cluster.nodes.values() {
            let status = node.status.as_ref().unwrap();
            prop_assert_eq!(status.quorate, total > 0);
            prop_assert_eq!((status.total_votes, status.expected_votes, status.quorum), (total, total, total / 2 + 1));
        }
    }
}
