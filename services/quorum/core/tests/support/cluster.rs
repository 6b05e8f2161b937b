//! Several engines in rings: what one multicasts all members of its ring get, in one order.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;
use quorate_types::{NodeId, RingId};
use quorum_core::{
    ANSWER_WAIT, DeviceVote, ExpectedRefusal, Input, Output, QuorumConfig, Status, Votequorum,
};

pub(crate) fn id(node: u32) -> NodeId {
    NodeId::new(node).expect("tables count nodes from 1")
}

/// A node: its engine while it is up, and what survives a restart.
pub(crate) struct Node {
    pub(crate) config: QuorumConfig,
    pub(crate) engine: Option<Votequorum>,
    tracking: Option<u32>,
    /// Last word on `SetExpected`.
    answer: Option<Result<u32, ExpectedRefusal>>,
    /// Last published state.
    pub(crate) status: Option<Status>,
    sync_messages: Vec<Bytes>,
    ring: Option<RingId>,
    /// What its quorum device says about whatever ring it is in.
    device: DeviceVote,
}

/// A synchronised ring and what was said in it, for those that start late.
#[derive(Default)]
struct Ring {
    members: Vec<u32>,
    log: Vec<(u32, Bytes)>,
}

pub(crate) struct Cluster {
    pub(crate) nodes: BTreeMap<u32, Node>,
    rings: BTreeMap<RingId, Ring>,
    now: Instant,
    seq: u64,
    /// Multicasts under way: sender and message.
    wire: VecDeque<(u32, Bytes)>,
    /// Whether an operator has taken safety into his own hands.
    pub(crate) overridden: bool,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            nodes: BTreeMap::new(),
            rings: BTreeMap::new(),
            now: Instant::now(),
            seq: 0,
            wire: VecDeque::new(),
            overridden: false,
        }
    }
}

impl Cluster {
    pub(crate) fn configure(&mut self, node: u32, config: QuorumConfig) {
        let is_new = !self.nodes.contains_key(&node);
        if is_new {
            let node_state = Node {
                config,
                engine: None,
                tracking: None,
                answer: None,
                status: None,
                sync_messages: Vec::new(),
                ring: None,
                device: DeviceVote::Unreachable,
            };
            self.nodes.insert(node, node_state);
        } else {
            self.node(node).config = config.clone();
            self.input(node, Input::Reconfigure(config));
            self.deliver();
        }
    }

    pub(crate) fn start(&mut self, node: u32) {
        let state = self.node(node);
        assert!(state.engine.is_none(), "node {node} is up already");
        state.engine = Some(Votequorum::new(id(node), state.config.clone(), state.tracking));
        self.drain(node);
    }

    pub(crate) fn kill(&mut self, node: u32) {
        let state = self.node(node);
        (state.engine, state.status, state.ring) = (None, None, None);
        state.sync_messages.clear();
    }

    pub(crate) fn leave(&mut self, node: u32) {
        self.input(node, Input::Leave);
        self.deliver();
        self.kill(node);
    }

    /// The engine's process ends and starts again while the ring goes on.
    pub(crate) fn restart_engine(&mut self, node: u32) {
        let Some(ring) = self.node(node).ring else { return };
        self.kill(node);
        self.start(node);
        self.node(node).ring = Some(ring);
        let (members, log) = (self.rings[&ring].members.clone(), self.rings[&ring].log.clone());
        self.input(node, Self::sync_started(ring, &members));
        self.node(node).sync_messages.clear();
        for (from, message) in log {
            self.input(node, Input::Message { from: id(from), message });
        }
        // What it multicasts so far was told again, not asked for.
        self.wire.clear();
        self.input(node, Input::SyncActivated { ring });
        self.deliver();
    }

    /// Forms and synchronises a ring of these nodes, which are up.
    pub(crate) fn form_ring(&mut self, members: &[u32]) {
        let ring = self.start_ring(members);
        self.rings.insert(ring, Ring { members: members.to_vec(), log: Vec::new() });
        for &member in members {
            self.node(member).ring = Some(ring);
        }
        for &sender in members {
            for message in std::mem::take(&mut self.node(sender).sync_messages) {
                self.deliver_in(ring, sender, message);
            }
        }
        for &member in members {
            self.input(member, Input::SyncActivated { ring });
        }
        self.deliver();
    }

    /// A ring of these nodes that breaks when all have told their votes.
    pub(crate) fn abort_ring(&mut self, members: &[u32]) {
        self.start_ring(members);
        for &sender in members {
            for message in std::mem::take(&mut self.node(sender).sync_messages) {
                for &member in members {
                    self.input(member, Input::Message { from: id(sender), message: message.clone() });
                }
            }
        }
        for &member in members {
            self.input(member, Input::SyncAborted);
        }
        self.wire.clear();
    }

    pub(crate) fn lose_ring(&mut self, node: u32) {
        self.node(node).ring = None;
        self.input(node, Input::RingLost);
    }

    pub(crate) fn set_expected(&mut self, node: u32, expected: u32) -> Result<u32, ExpectedRefusal> {
        self.input(node, Input::SetExpected { expected });
        let answer = self.node(node).answer.take().expect("SetExpected is always answered");
        self.overridden |= answer.is_ok();
        self.deliver();
        answer
    }

    pub(crate) fn cancel_wait(&mut self, node: u32) {
        self.overridden = true;
        self.input(node, Input::CancelWaitForAll);
        self.deliver();
    }

    /// Lets time pass, timer by timer.
    pub(crate) fn wait(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            let deadline = |node: &Node| node.engine.as_ref().and_then(Votequorum::next_deadline);
            let next = self.nodes.iter().filter_map(|(id, node)| Some((deadline(node)?, *id))).min();
            match next.filter(|(at, _)| *at <= end) {
                Some((at, node)) => {
                    self.now = self.now.max(at);
                    self.input(node, Input::Timer);
                    self.deliver();
                }
                None => break,
            }
        }
        self.now = end;
    }

    /// A made-up event of one node, outside of any ring.
    pub(crate) fn input(&mut self, node: u32, input: Input) {
        let now = self.now;
        if let Some(engine) = &mut self.node(node).engine {
            engine.handle_input(now, input);
        }
        self.drain(node);
    }

    /// Takes what is on its way to the members of the sender's ring.
    pub(crate) fn deliver(&mut self) {
        while let Some((sender, message)) = self.wire.pop_front() {
            if let Some(ring) = self.node(sender).ring {
                self.deliver_in(ring, sender, message);
            }
        }
    }

    pub(crate) fn is_up(&self, node: u32) -> bool {
        self.nodes.get(&node).is_some_and(|node| node.engine.is_some())
    }

    /// Two quorate nodes that are not in each other's ring, if there are any.
    pub(crate) fn two_primaries(&self) -> Option<(u32, u32)> {
        let quorate: Vec<(u32, BTreeSet<u32>)> = self
            .nodes
            .iter()
            .filter(|(_, node)| {
                node.ring.is_some() && node.status.as_ref().is_some_and(|status| status.quorate)
            })
            .map(|(node, state)| (*node, self.members_of(state)))
            .collect();
        let mut pairs = quorate.iter().flat_map(|a| quorate.iter().map(move |b| (a, b)));
        pairs.find(|(a, b)| a.1.is_disjoint(&b.1)).map(|(a, b)| (a.0, b.0))
    }

    fn members_of(&self, node: &Node) -> BTreeSet<u32> {
        let ring = node.ring.and_then(|ring| self.rings.get(&ring));
        ring.map(|ring| ring.members.iter().copied().collect()).unwrap_or_default()
    }

    fn start_ring(&mut self, members: &[u32]) -> RingId {
        self.seq += 4;
        let ring = RingId::new(id(members[0]), self.seq);
        for &member in members {
            assert!(self.is_up(member), "node {member} is not up");
            self.input(member, Self::sync_started(ring, members));
        }
        for &member in members {
            let vote = self.node(member).device;
            self.input(member, Input::Device { ring, vote });
        }
        if members.iter().any(|member| self.node(*member).device == DeviceVote::Undecided) {
            self.now += ANSWER_WAIT;
            members.iter().for_each(|member| self.input(*member, Input::Timer));
        }
        ring
    }

    /// What the quorum device says to a node from now on.
    pub(crate) fn device(&mut self, node: u32, vote: DeviceVote) {
        self.node(node).device = vote;
        if let Some(ring) = self.node(node).ring.filter(|_| self.is_up(node)) {
            self.input(node, Input::Device { ring, vote });
            self.deliver();
        }
    }

    fn sync_started(ring: RingId, members: &[u32]) -> Input {
        let members: Vec<NodeId> = members.iter().map(|member| id(*member)).collect();
        Input::SyncStarted { ring, members, transitional: Vec::new() }
    }

    fn deliver_in(&mut self, ring: RingId, sender: u32, message: Bytes) {
        let members = {
            let ring = self.rings.get_mut(&ring).expect("nodes are in rings that were formed");
            // As the membership daemon keeps it: the last of its kind, by function and node (and parameter).
            let kind = |message: &Bytes| {
                (message[0], message[16..20].to_vec(), (message[0] == 1).then_some(message[24]))
            };
            ring.log.retain(|(from, earlier)| *from != sender || kind(earlier) != kind(&message));
            ring.log.push((sender, message.clone()));
            ring.members.clone()
        };
        for member in members {
            if self.node(member).ring == Some(ring) {
                self.input(member, Input::Message { from: id(sender), message: message.clone() });
            }
        }
    }

    fn drain(&mut self, node: u32) {
        let state = self.nodes.get_mut(&node).expect("the table declares its nodes");
        let Some(engine) = &mut state.engine else { return };
        while let Some(output) = engine.poll_output() {
            match output {
                Output::SyncMessages { messages, .. } => state.sync_messages = messages,
                Output::Multicast(message) => self.wire.push_back((node, message)),
                Output::Changed(status) => {
                    assert_eq!(status, engine.status(), "what is published is what is answered");
                    assert_eq!(status.quorate, status.flags.quorate);
                    assert!(!(status.quorate && status.waiting_for_all));
                    state.status = Some(status);
                }
                Output::StoreExpectedTracking(expected) => state.tracking = Some(expected),
                Output::ExpectedAccepted { expected } => state.answer = Some(Ok(expected)),
                Output::ExpectedRefused(refusal) => state.answer = Some(Err(refusal)),
            }
        }
    }

    fn node(&mut self, node: u32) -> &mut Node {
        self.nodes.get_mut(&node).unwrap_or_else(|| panic!("the table declares no node {node}"))
    }
}
