//! Random runs: faults and crashes first, then peace, in which everything must come right.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use membership_core::srp::Params;
use quorate_types::NodeId;

use super::{
    checks,
    network::{Faults, Network, id},
};

/// How many seeds an ordinary test run takes; `RING_SEEDS=from..to` sets others.
const SEEDS: std::ops::Range<u64> = 0..60;

struct Run {
    network: Network,
    /// Messages handed to a node in its present life.
    sent: BTreeMap<NodeId, Vec<Bytes>>,
    number: u64,
}

fn params(seed: u64) -> Params {
    let mut params = Params::default();
    params.token = Duration::from_millis(400);
    params.token_retransmit = Duration::from_millis(60);
    params.hold = Duration::from_millis(40);
    params.consensus = Duration::from_millis(500);
    if seed % 2 == 1 {
        params.initial_seq = 0xffff_fe00;
    }
    if seed % 3 == 1 {
        params.send_join = Duration::from_millis(20);
    }
    if seed % 7 == 3 {
        params.fail_recv_const = 40;
    }
    if seed % 5 == 2 {
        params.cancel_token_hold_on_retransmit = true;
    }
    params
}

impl Run {
    fn new(seed: u64) -> Self {
        let count = 2 + (seed % 4) as u32;
        let mut network = Network::new(count, seed, params(seed));
        let rough = network.rng.below(3);
        network.faults = match rough {
            0 => Faults::default(),
            1 => Faults { loss: 5, duplicate: 3, reorder: 5 },
            _ => Faults { loss: 20, duplicate: 10, reorder: 20 },
        };
        Self { network, sent: BTreeMap::new(), number: 0 }
    }

    fn start(&mut self, node: NodeId) {
        self.sent.insert(node, Vec::new());
        self.network.start_node(node);
    }

    fn multicast(&mut self, node: NodeId) {
        self.number += 1;
        let payload = Bytes::from(format!("{node}/{}", self.number));
        if self.network.nodes[&node].frozen_until.is_none() {
            self.sent.get_mut(&node).unwrap().push(payload.clone());
            self.network.multicast(node, payload);
        }
    }

    fn any(&mut self) -> NodeId {
        let count = self.network.nodes.len() as u64;
        id(1 + self.network.rng.below(count) as u32)
    }

    fn act(&mut self) {
        let node = self.any();
        let up = self.network.nodes[&node].up;
        match self.network.rng.below(100) {
            0..70 if up => {
                for _ in 0..1 + self.network.rng.below(30) {
                    self.multicast(node);
                }
            }
            70..74 if up => self.network.crash(node),
            74..77 if up => self.network.leave(node),
            70..86 if !up => self.start(node),
            86..89 if up && self.network.nodes[&node].frozen_until.is_none() => {
                let time = Duration::from_millis(50 + self.network.rng.below(2000));
                self.network.freeze(node, time);
            }
            89..93 => {
                for n in self.network.ids() {
                    let group = self.network.rng.below(2) as u32;
                    self.network.groups.insert(n, group);
                }
            }
            93..97 => self.network.heal(),
            _ => {}
        }
    }

    fn storm(&mut self) {
        for node in self.network.ids() {
            self.start(node);
        }
        for _ in 0..80 {
            self.act();
            let pause = self.network.rng.below(150);
            let pause = if self.network.rng.percent(10) { pause * 10 } else { pause };
            self.network.run(Duration::from_millis(pause));
        }
    }

    fn peace(&mut self) {
        self.network.faults = Faults::default();
        self.network.heal();
        for node in self.network.ids() {
            if !self.network.nodes[&node].up {
                self.start(node);
            }
        }
        self.network.run(Duration::from_secs(3));
        self.network.settle(Duration::from_secs(30));
        for node in self.network.ids() {
            self.multicast(node);
        }
        self.network.run(Duration::from_secs(3));
        assert!(self.network.is_settled(), "the ring stays");
        checks::check(&self.network);
        for (node, sent) in &self.sent {
            let own = |p: &Bytes| p.starts_with(format!("{node}/").as_bytes());
            let mut delivered = self.network.delivered(*node);
            delivered.retain(own);
            // A node that came back may see messages of its former life.
            delivered.retain(|p| sent.contains(p));
            assert_eq!(&delivered, sent, "node {node} delivers all that it sent, in order");
        }
    }
}

fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("RING_SEEDS") else { return SEEDS };
    let (from, to) = text.split_once("..").expect("RING_SEEDS=from..to");
    from.parse().expect("a number")..to.parse().expect("a number")
}

#[test]
fn random_runs_keep_all_properties_and_come_right_in_peace() {
    for seed in seeds() {
        let result = std::panic::catch_unwind(|| {
            let mut run = Run::new(seed);
            run.storm();
            run.peace();
        });
        if let Err(panic) = result {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
