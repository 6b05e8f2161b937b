//! Rings on a bench: real peers to reach a state, crafted packets to leave it.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;
use quorate_types::{NodeId, RingId};

use super::super::{
    Destination, Guarantee, Input, Output, Params, Phase, Ring, StateName,
    message::{self, CommitEntry, Mcast, MembCommitToken, MembJoin, OrfToken, Packet},
};

pub(super) fn id(n: u32) -> NodeId {
    NodeId::new(n).unwrap()
}

pub(super) fn ids(list: &[u32]) -> Vec<NodeId> {
    list.iter().map(|n| id(*n)).collect()
}

pub(super) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Rings that hear each other at once, and everything that went over the wire.
pub(super) struct Bench {
    pub(super) now: Instant,
    pub(super) rings: BTreeMap<u32, Ring>,
    pub(super) wire: Vec<(u32, Packet)>,
    pub(super) outputs: BTreeMap<u32, Vec<Output>>,
    /// Answer [`Output::StoreRingSeq`] at once.
    pub(super) stores: bool,
    mail: VecDeque<(u32, Bytes)>,
}

impl Bench {
    pub(super) fn new(nodes: &[u32]) -> Self {
        let ring = |n: &u32| (*n, Ring::new(id(*n), Params::default(), 1));
        Self {
            now: Instant::now(),
            rings: nodes.iter().map(ring).collect(),
            wire: Vec::new(),
            outputs: BTreeMap::new(),
            stores: true,
            mail: VecDeque::new(),
        }
    }

    /// All nodes in one operational, idle ring.
    pub(super) fn operational(nodes: &[u32]) -> Self {
        let mut bench = Self::new(nodes);
        for n in nodes {
            bench.input(*n, Input::Start { stored_ring_seq: 0 });
        }
        for _ in 0..10 {
            bench.settle();
            bench.pass(ms(50));
        }
        bench.settle();
        for n in nodes {
            assert_eq!(bench.rings[n].status().members, ids(nodes));
            bench.input(*n, Input::TransitionalAck);
        }
        bench.settle();
        bench.wire.clear();
        bench.outputs.clear();
        bench
    }

    /// One input to one node; what it sends waits for [`Self::settle`].
    pub(super) fn input(&mut self, node: u32, input: Input) {
        let now = self.now;
        self.rings.get_mut(&node).unwrap().handle_input(now, input);
        while let Some(output) = self.rings.get_mut(&node).unwrap().poll_output() {
            match &output {
                Output::Send { to, packet } => self.post(node, *to, packet.clone()),
                Output::StoreRingSeq(ring_seq) if self.stores => {
                    let ring_seq = *ring_seq;
                    self.rings.get_mut(&node).unwrap().handle_input(now, Input::Stored { ring_seq });
                }
                _ => {}
            }
            self.outputs.entry(node).or_default().push(output);
        }
    }

    fn post(&mut self, from: u32, to: Destination, packet: Bytes) {
        self.wire.push((from, message::decode(&packet).unwrap()));
        for n in self.rings.keys() {
            if *n != from && (to == Destination::All || to == Destination::Node(id(*n))) {
                self.mail.push_back((*n, packet.clone()));
            }
        }
    }

    pub(super) fn packet(&mut self, node: u32, packet: &Packet) {
        self.input(node, Input::Datagram(message::encode(packet)));
    }

    pub(super) fn multicast(&mut self, node: u32, payload: &'static str) {
        let payload = Bytes::from_static(payload.as_bytes());
        self.input(node, Input::Multicast { payload, phase: Phase::Normal, guarantee: Guarantee::Agreed });
    }

    /// Delivers all mail and runs all timers that are due, until nothing is left.
    pub(super) fn settle(&mut self) {
        loop {
            while let Some((to, packet)) = self.mail.pop_front() {
                self.input(to, Input::Datagram(packet));
            }
            let due = |r: &Ring| r.next_deadline().is_some_and(|at| at <= self.now);
            let Some(node) = self.rings.iter().find(|(_, r)| due(r)).map(|(n, _)| *n) else { return };
            self.input(node, Input::Timer);
        }
    }

    /// The process of a node ends and begins anew.
    pub(super) fn restart(&mut self, node: u32, stored_ring_seq: u64) {
        self.rings.insert(node, Ring::new(id(node), Params::default(), 1));
        self.input(node, Input::Start { stored_ring_seq });
    }

    /// Drops all mail.
    pub(super) fn lose(&mut self) {
        self.mail.clear();
    }

    /// Lets time pass and runs the timers; mail stays where it is.
    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        let next = |bench: &Self| bench.rings.values().filter_map(Ring::next_deadline).min();
        while let Some(at) = next(self).filter(|at| *at <= until) {
            self.now = self.now.max(at);
            let node = *self.rings.iter().find(|(_, r)| r.next_deadline() == Some(at)).unwrap().0;
            self.input(node, Input::Timer);
        }
        self.now = until;
    }

    pub(super) fn state(&self, node: u32) -> StateName {
        self.rings[&node].status().state
    }

    pub(super) fn ring_id(&self, node: u32) -> RingId {
        self.rings[&node].status().ring
    }

    /// What a node sent since the last call, as packets.
    pub(super) fn sent(&mut self) -> Vec<Packet> {
        self.wire.drain(..).map(|(_, packet)| packet).collect()
    }
}

pub(super) fn join(from: u32, ring_seq: u64, proc_list: &[u32], failed_list: &[u32]) -> Packet {
    Packet::MembJoin(MembJoin {
        nodeid: Some(id(from)),
        target_nodeid: 0,
        system_from: id(from),
        ring_seq,
        proc_list: ids(proc_list),
        failed_list: ids(failed_list),
    })
}

pub(super) fn leave(from: u32, ring_seq: u64, proc_list: &[u32], failed_list: &[u32]) -> Packet {
    match join(from, ring_seq, proc_list, failed_list) {
        Packet::MembJoin(join) => Packet::MembJoin(MembJoin { nodeid: None, ..join }),
        other => other,
    }
}

pub(super) fn mcast(from: u32, ring_id: RingId, seq: u32, payload: &'static str) -> Mcast {
    Mcast {
        nodeid: id(from),
        target_nodeid: 0,
        encapsulated: false,
        system_from: id(from),
        seq,
        this_seqno: 0,
        ring_id,
        node_id: 0,
        guarantee: 0,
        payload: Bytes::from_static(payload.as_bytes()),
    }
}

pub(super) fn token(from: u32, ring_id: RingId, seq: u32, token_seq: u32, aru: u32) -> OrfToken {
    OrfToken {
        nodeid: id(from),
        target_nodeid: 0,
        seq,
        token_seq,
        aru,
        aru_addr: 0,
        ring_id,
        backlog: 0,
        fcc: 0,
        retrans_flg: 0,
        rtr: Vec::new(),
    }
}

pub(super) fn commit_token(from: u32, seq: u64, members: &[u32]) -> MembCommitToken {
    MembCommitToken {
        nodeid: id(from),
        target_nodeid: 0,
        token_seq: 1,
        ring_id: RingId::new(id(members[0]), seq),
        retrans_flg: 0,
        memb_index: 0,
        members: ids(members),
        entries: vec![CommitEntry::default(); members.len()],
    }
}
