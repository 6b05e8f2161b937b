//! A cluster driven by hand: for tests that tell a story.
//!
//! Nodes are named by their numbers. [`Scenario::ends_well`] ends every story: everything is repaired,
//! the cluster must come together again, and all checkers have their say about the whole of it.

use std::{collections::BTreeMap, time::Duration};

use membership_core::srp::{Pace, StateName};
use quorate_types::{NodeId, RingId};

use crate::{
    checker::NodeState,
    cluster::Cluster,
    fault::{Daemon, Fault},
    history::{Change as RingChange, Event, MessageId, Observation, Outcome, Probe, WriteId},
    network::{NetworkStats, Quality},
    setup::Setup,
    simulation::heal,
    trace::Lines,
    workload::{Action, Change},
};

/// Enough for a healthy cluster to come together, whatever its timers.
const FORM_BOUND: Duration = Duration::from_secs(60);

/// A cluster and those who use it.
pub struct Scenario {
    cluster: Cluster,
    blocks: Vec<(Vec<NodeId>, Vec<NodeId>)>,
    last_message: MessageId,
    last_write: WriteId,
}

fn node(id: u32) -> NodeId {
    NodeId::new(id).expect("nodes of a scenario are numbered from 1")
}

fn nodes(ids: &[u32]) -> Vec<NodeId> {
    ids.iter().copied().map(node).collect()
}

impl Scenario {
    /// A healthy cluster of nodes 1 to `count`, with corosync's default timers, that has come together.
    #[must_use]
    pub fn formed(count: u32) -> Self {
        Self::formed_from(Setup::healthy(count))
    }

    /// The same from a setup of one's own.
    ///
    /// # Panics
    /// If the nodes do not come together.
    #[must_use]
    pub fn formed_from(setup: Setup) -> Self {
        let mut scenario = Self::booting(setup);
        let all: Vec<u32> = scenario.cluster.setup().nodes().into_iter().map(NodeId::get).collect();
        scenario.expect(FORM_BOUND, "the cluster forms", |now| now.share_a_ring(&all) && now.all_writable());
        scenario
    }

    /// A cluster whose nodes are just being switched on.
    #[must_use]
    pub fn booting(setup: Setup) -> Self {
        let mut cluster = Cluster::new(setup, Lines::Tail);
        cluster.keep_history();
        Self { cluster, blocks: Vec::new(), last_message: 0, last_write: 0 }
    }

    /// The cluster itself.
    pub fn cluster(&mut self) -> &mut Cluster {
        &mut self.cluster
    }

    // What happens

    /// Time passes.
    ///
    /// # Panics
    /// If a checker sees a violation.
    pub fn pass(&mut self, span: Duration) {
        self.cluster.run_for(span);
        self.assert_no_violation("while time passed");
    }

    /// Time passes until the condition holds.
    ///
    /// # Panics
    /// If it does not within the bound, or a checker sees a violation.
    pub fn expect(&mut self, bound: Duration, what: &str, mut condition: impl FnMut(&View<'_>) -> bool) {
        let holds = self.cluster.run_until(bound, |cluster| condition(&View { cluster }));
        self.assert_no_violation(what);
        assert!(holds, "not within {bound:?}: {what}\n{}", self.story());
    }

    /// Time passes up to the very event that brings a node's ring into this state, at most five seconds.
    ///
    /// # Panics
    /// If it does not come there.
    pub fn expect_state(&mut self, id: u32, state: StateName) {
        let reached = self.cluster.run_until_state(Duration::from_secs(5), node(id), state);
        self.assert_no_violation("on the way to a state");
        assert!(reached, "node {id} never was in {state:?}\n{}", self.story());
    }

    /// Something goes wrong, or right again.
    pub fn fault(&mut self, fault: Fault) {
        self.cluster.fault(fault);
    }

    /// The power of a node fails.
    pub fn crash(&mut self, id: u32) {
        self.fault(Fault::Crash(node(id)));
    }

    /// The node is switched on again.
    pub fn boot(&mut self, id: u32) {
        self.fault(Fault::Boot(node(id)));
    }

    /// One daemon of a node dies.
    pub fn kill(&mut self, id: u32, daemon: Daemon) {
        self.fault(Fault::Kill(node(id), daemon));
    }

    /// One daemon of a node is started.
    pub fn start(&mut self, id: u32, daemon: Daemon) {
        self.fault(Fault::Start(node(id), daemon));
    }

    /// All daemons of a node get no time.
    pub fn pause(&mut self, id: u32) {
        Daemon::ALL.into_iter().for_each(|daemon| self.fault(Fault::Pause(node(id), daemon)));
    }

    /// They get time again.
    pub fn resume(&mut self, id: u32) {
        Daemon::ALL.into_iter().for_each(|daemon| self.fault(Fault::Resume(node(id), daemon)));
    }

    /// Nothing passes between the groups any more, until [`Scenario::join_again`].
    pub fn partition(&mut self, groups: &[&[u32]]) {
        for one in groups {
            for other in groups.iter().filter(|other| *other != one) {
                self.block(one, other);
            }
        }
    }

    /// Nothing passes from one group to another any more, until [`Scenario::join_again`].
    pub fn block(&mut self, from: &[u32], to: &[u32]) {
        self.fault(Fault::Block(nodes(from), nodes(to)));
        self.blocks.push((nodes(from), nodes(to)));
    }

    /// All partitions and blocks end.
    pub fn join_again(&mut self) {
        for (from, to) in std::mem::take(&mut self.blocks) {
            self.fault(Fault::Unblock(from, to));
        }
    }

    /// All links are like this from now on.
    pub fn links(&mut self, quality: Quality) {
        self.fault(Fault::Links(quality));
    }

    /// The agreed probe of a node multicasts a message.
    pub fn send(&mut self, id: u32, size: usize) -> MessageId {
        self.send_by(id, Probe::Agreed, size)
    }

    /// A probe of a node multicasts a message.
    pub fn send_by(&mut self, id: u32, probe: Probe, size: usize) -> MessageId {
        self.last_message += 1;
        let message = self.last_message;
        self.cluster.act(node(id), Action::Multicast { probe, message, size });
        message
    }

    /// Someone writes a new file at a node.
    pub fn write(&mut self, id: u32) -> WriteId {
        self.last_write += 1;
        self.write_again(id, self.last_write, 0)
    }

    /// Someone repeats a write at a node.
    pub fn write_again(&mut self, id: u32, write: WriteId, attempt: u32) -> WriteId {
        let change = Change::Own { size: 100 };
        self.cluster.act(node(id), Action::Write { write, attempt, change });
        write
    }

    /// Someone asks a node for a linearizable read.
    pub fn read(&mut self, id: u32) -> u64 {
        self.last_write += 1;
        self.cluster.act(node(id), Action::Read { read: self.last_write });
        self.last_write
    }

    // What is seen

    /// The cluster as it is now.
    #[must_use]
    pub fn now(&self) -> View<'_> {
        View { cluster: &self.cluster }
    }

    /// Everything that was observed so far.
    #[must_use]
    pub fn history(&self) -> &[Observation] {
        self.cluster.history()
    }

    /// Every token, commit token and join that was sent so far.
    #[must_use]
    pub fn wire(&self) -> &[Observation] {
        self.cluster.wire()
    }

    /// Counters of the network.
    #[must_use]
    pub fn network_stats(&self) -> NetworkStats {
        self.cluster.network_stats()
    }

    /// The last transitional configuration of a node: who came along.
    #[must_use]
    pub fn came_along(&self, id: u32) -> Vec<u32> {
        let last = self.history().iter().rev().find_map(|observation| match &observation.event {
            Event::Ring(RingChange::Transitional { members, .. }) if observation.node == node(id) => {
                Some(members.clone())
            }
            _ => None,
        });
        last.unwrap_or_default().into_iter().map(NodeId::get).collect()
    }

    /// How a write ended, if it has: its last answer.
    #[must_use]
    pub fn outcome(&self, asked: WriteId) -> Option<Outcome> {
        self.history().iter().rev().find_map(|observation| match &observation.event {
            Event::Replied { write, outcome, .. } if *write == asked => Some(*outcome),
            _ => None,
        })
    }

    /// The answer to a read: `None` while there is none, `Some(None)` if it failed.
    #[must_use]
    pub fn answer(&self, asked: u64) -> Option<Option<u64>> {
        self.history().iter().rev().find_map(|observation| match &observation.event {
            Event::ReadReplied { read, version } if *read == asked => Some(*version),
            _ => None,
        })
    }

    /// The nodes that delivered a message.
    #[must_use]
    pub fn delivered(&self, asked: MessageId) -> Vec<u32> {
        let mut ids: Vec<u32> = self
            .history()
            .iter()
            .filter(|observation| {
                matches!(observation.event, Event::Delivered { message: Some(message), .. } if message == asked)
            })
            .map(|observation| observation.node.get())
            .collect();
        ids.sort_unstable();
        ids
    }

    /// The story ends: everything is repaired, and everything must be well.
    ///
    /// # Panics
    /// If it is not.
    pub fn ends_well(mut self) {
        heal(&mut self.cluster);
        self.assert_no_violation("at the end");
    }

    fn assert_no_violation(&self, what: &str) {
        if let Some((at, violation)) = self.cluster.violation() {
            panic!("{what}: after {at:?}: {violation}\n{}", self.story());
        }
    }

    fn story(&self) -> String {
        let lines: Vec<&str> = self.cluster.trace().tail().collect();
        let last = lines.len().saturating_sub(60);
        [lines[last..].join("\n"), self.cluster.describe().join("\n")].join("\n")
    }
}

/// The cluster at one moment.
pub struct View<'a> {
    cluster: &'a Cluster,
}

impl View<'_> {
    fn states(&self) -> BTreeMap<u32, NodeState> {
        self.cluster.states().map(|state| (state.node.get(), state)).collect()
    }

    fn state(&self, id: u32) -> NodeState {
        self.states().remove(&id).expect("the node is one of the cluster")
    }

    /// The state of the ring protocol at a node.
    #[must_use]
    pub fn ring_state(&self, id: u32) -> Option<StateName> {
        self.cluster.ring_state(node(id))
    }

    /// The ring that a node is in, if it is operational.
    #[must_use]
    pub fn ring(&self, id: u32) -> Option<RingId> {
        self.state(id).ring
    }

    /// The members of a node's ring.
    #[must_use]
    pub fn members(&self, id: u32) -> Vec<u32> {
        self.state(id).members.into_iter().map(NodeId::get).collect()
    }

    /// Whether these nodes, and only these, are in one ring and have synchronised.
    #[must_use]
    pub fn share_a_ring(&self, ids: &[u32]) -> bool {
        let states = self.states();
        let mut of = ids.iter().map(|id| &states[id]);
        let rings: Vec<_> = of.clone().map(|state| state.ring).collect();
        let same = rings.iter().all(|ring| ring.is_some() && *ring == rings[0]);
        same && of.all(|state| state.in_sync && state.members == nodes(ids))
    }

    /// The feature level of the ring that a node is in; 0 until it has synchronised.
    #[must_use]
    pub fn feature_level(&self, id: u32) -> u32 {
        self.cluster.membership_status(node(id)).map_or(0, |status| status.features.level)
    }

    /// The timers in force at a node that runs.
    #[must_use]
    pub fn pace(&self, id: u32) -> Option<Pace> {
        self.cluster.membership_status(node(id)).map(|status| status.ring.pace)
    }

    /// Whether a node may act.
    #[must_use]
    pub fn is_quorate(&self, id: u32) -> bool {
        self.state(id).quorate
    }

    /// Whether the store of a node takes writes.
    #[must_use]
    pub fn is_writable(&self, id: u32) -> bool {
        self.state(id).writable
    }

    /// Whether the stores of all nodes take writes.
    #[must_use]
    pub fn all_writable(&self) -> bool {
        self.states().values().all(|state| state.writable)
    }

    /// The version of a node's tree.
    #[must_use]
    pub fn version(&self, id: u32) -> u64 {
        self.state(id).position.map_or(0, |position| position.version)
    }

    /// Whether these stores hold the same.
    #[must_use]
    pub fn hold_the_same(&self, ids: &[u32]) -> bool {
        let states = self.states();
        ids.iter().all(|id| states[id].position.is_some() && states[id].position == states[&ids[0]].position)
    }
}
