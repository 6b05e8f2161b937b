//! Random runs: faults and crashes first, then peace, in which everything must come right.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use membership_core::srp::{Params, Phase};
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
    /// Longest pause between two acts, in milliseconds.
    pause: u64,
    /// Most messages in one act.
    burst: u64,
}

fn params(seed: u64) -> Params {
    let mut params = Params {
        token: Duration::from_millis(400),
        token_retransmit: Duration::from_millis(60),
        hold: Duration::from_millis(40),
        consensus: Duration::from_millis(500),
        ..Params::default()
    };
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
            1 => Faults { loss: 5, duplicate: 3, reorder: 5, corrupt: 0 },
            _ => Faults { loss: 20, duplicate: 10, reorder: 20, corrupt: 0 },
        };
        network.store_delay = [0, 0, 30, 600][network.rng.below(4) as usize];
        let pause = [150, 150, 40, 8][network.rng.below(4) as usize];
        let burst = [30, 30, 300, 3][network.rng.below(4) as usize];
        Self { network, sent: BTreeMap::new(), number: 0, pause, burst }
    }

    fn start(&mut self, node: NodeId) {
        self.sent.insert(node, Vec::new());
        self.network.start_node(node);
    }

    fn multicast(&mut self, node: NodeId) {
        self.number += 1;
        let payload = Bytes::from(format!("{node}/{}", self.number));
        let n = &self.network.nodes[&node];
        if n.frozen_until.is_none() && n.ring.queue_room(Phase::Normal) > 0 {
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
                for _ in 0..1 + self.network.rng.below(self.burst) {
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
            93..96 => self.network.heal(),
            _ => {
                let to = self.any();
                self.network.deaf.insert((node, to));
            }
        }
    }

    fn storm(&mut self) {
        for node in self.network.ids() {
            self.start(node);
        }
        let acts = if self.pause < 150 { 200 } else { 80 };
        for _ in 0..acts {
            self.act();
            let pause = self.network.rng.below(self.pause);
            let pause = if self.network.rng.percent(10) { pause * 10 } else { pause };
            self.network.run(Duration::from_millis(pause));
        }
    }

    fn peace(&mut self) {
        self.network.faults = Faults::default();
        self.network.store_delay = 0;
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

impl Run {
    fn summary(&self, seed: u64) {
        let epochs = checks::epochs(&self.network);
        let transitional: usize = epochs.iter().map(|e| e.transitional.len()).sum();
        let regular: usize = epochs.iter().map(|e| e.regular.len()).sum();
        let stats: Vec<_> = self.network.nodes.values().map(|n| n.ring.stats().clone()).collect();
        eprintln!(
            "seed {seed}: {} nodes, {} packets, {} epochs, {regular} + {transitional} deliveries, \
             {} recovered, {} retransmitted, {} messages {:?}",
            self.network.nodes.len(),
            self.network.sent,
            epochs.len(),
            stats.iter().map(|s| s.recovered_tx).sum::<u64>(),
            stats.iter().map(|s| s.mcast_retx).sum::<u64>(),
            self.number,
            self.network.now - self.network.start,
        );
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
            if std::env::var("RING_VERBOSE").is_ok() {
                run.summary(seed);
            }
        });
        if let Err(panic) = result {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn damaged_packets_never_make_a_ring_panic() {
    for seed in seeds() {
        let mut run = Run::new(seed);
        run.network.faults.corrupt = 1 + seed % 20;
        let survived = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run.storm()));
        assert!(survived.is_ok(), "seed {seed}");
    }
}
