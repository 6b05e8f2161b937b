//! quorumd: the votequorum engine, attached to membershipd as a service, watched by configd.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Instant,
};

use config_store_core::QuorumView;
use membership_core::stack::ServiceEvent;
use quorate_types::NodeId;
use quorum_core::{Input, NodeState, Output, QuorumConfig, Status, TieBreaker, Votequorum};

use super::{ConnectionId, DaemonInput, DiskWrite, Effect, Link, Message};
use crate::{history::Event, mutation::Mutation, setup::QuorumOptions};

/// quorumd.
#[derive(Debug)]
pub struct QuorumDaemon {
    engine: Votequorum,
    configured: BTreeSet<NodeId>,
    membership: Option<ConnectionId>,
    watchers: BTreeSet<ConnectionId>,
    status: Option<Status>,
    mutation: Option<Mutation>,
    effects: VecDeque<Effect>,
}

/// The configuration of votequorum for a node.
#[must_use]
fn quorum_config(me: NodeId, votes: &BTreeMap<NodeId, u32>, options: QuorumOptions) -> QuorumConfig {
    let own = votes.get(&me).copied().unwrap_or(0);
    QuorumConfig {
        two_node: options.two_node,
        wait_for_all: options.wait_for_all || options.two_node,
        last_man_standing: options.last_man_standing,
        auto_tie_breaker: options.auto_tie_breaker.then_some(TieBreaker::Lowest),
        ..QuorumConfig::majority(own, votes.values().sum(), votes.len())
    }
}

impl QuorumDaemon {
    /// Starts the daemon; `tracking` is what its disk holds.
    #[must_use]
    pub fn start(
        me: NodeId,
        votes: &BTreeMap<NodeId, u32>,
        options: QuorumOptions,
        tracking: Option<u32>,
        mutation: Option<Mutation>,
    ) -> Self {
        Self {
            engine: Votequorum::new(me, quorum_config(me, votes, options), tracking),
            configured: votes.keys().copied().collect(),
            membership: None,
            watchers: BTreeSet::new(),
            status: None,
            mutation,
            effects: VecDeque::new(),
        }
    }

    /// Takes an input.
    pub fn handle(&mut self, now: Instant, input: DaemonInput) {
        match input {
            DaemonInput::Timer => self.input(now, Input::Timer),
            DaemonInput::Connected(connection, Link::QuorumToMembership) => {
                self.membership = Some(connection);
                self.effects.push_back(Effect::Tell(connection, Message::Attach));
            }
            DaemonInput::Message(connection, Message::Watch) => {
                self.watchers.insert(connection);
                let view = self.view();
                self.effects.push_back(Effect::Tell(connection, Message::Quorum(view)));
            }
            DaemonInput::Message(connection, Message::Gone) if self.membership == Some(connection) => {
                self.membership = None;
                self.input(now, Input::RingLost);
            }
            DaemonInput::Message(connection, Message::Gone) => {
                self.watchers.remove(&connection);
            }
            DaemonInput::Message(connection, Message::Service(event))
                if self.membership == Some(connection) =>
            {
                self.input(now, engine_input(event));
            }
            DaemonInput::Configure(config) => self.input(now, Input::Reconfigure(*config)),
            DaemonInput::SetExpected(expected) => self.input(now, Input::SetExpected { expected }),
            _ => {}
        }
    }

    /// What is to be done.
    pub fn effects(&mut self) -> VecDeque<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// When [`DaemonInput::Timer`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.engine.next_deadline()
    }

    /// The last published status.
    #[must_use]
    pub fn status(&self) -> Option<&Status> {
        self.status.as_ref()
    }

    fn input(&mut self, now: Instant, input: Input) {
        self.engine.handle_input(now, input);
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::SyncMessages { ring, messages } => {
                    self.tell_membership(Message::SyncMessages(ring, messages));
                }
                Output::Multicast(message) => self.tell_membership(Message::ServiceMulticast(message)),
                Output::Changed(status) => self.publish(status),
                Output::StoreExpectedTracking(votes) => {
                    self.effects.push_back(Effect::Write(DiskWrite::Tracking(votes)));
                }
                Output::ExpectedAccepted { expected } => {
                    self.effects.push_back(Effect::Note(format!("expected votes {expected} accepted")));
                }
                Output::ExpectedRefused(refusal) => {
                    self.effects.push_back(Effect::Note(format!("expected votes refused: {refusal}")));
                }
            }
        }
    }

    fn tell_membership(&mut self, message: Message) {
        if let Some(connection) = self.membership {
            self.effects.push_back(Effect::Tell(connection, message));
        }
    }

    fn publish(&mut self, mut status: Status) {
        if self.mutation == Some(Mutation::IgnoreQuorum) {
            status.quorate = true;
        }
        let members = status.nodes.iter().filter(|node| node.state == NodeState::Member);
        let event = Event::Quorum {
            quorate: status.quorate,
            ring: status.ring,
            members: members.map(|node| node.node).collect(),
            expected_votes: status.expected_votes,
        };
        self.status = Some(status);
        self.effects.push_back(Effect::Observe(event));
        let view = self.view();
        for watcher in &self.watchers {
            self.effects.push_back(Effect::Tell(*watcher, Message::Quorum(view.clone())));
        }
    }

    /// What configd is told; `None` without a ring.
    fn view(&self) -> Option<QuorumView> {
        let status = self.status.as_ref()?;
        let members = status.nodes.iter().filter(|node| node.state == NodeState::Member);
        let votes: BTreeMap<NodeId, u32> = members.map(|node| (node.node, node.votes)).collect();
        Some(QuorumView {
            ring: status.ring?,
            quorate: status.quorate,
            expected_votes: status.expected_votes,
            quorum: status.quorum,
            absent: self.configured.iter().copied().filter(|node| !votes.contains_key(node)).collect(),
            votes,
        })
    }
}

fn engine_input(event: ServiceEvent) -> Input {
    match event {
        ServiceEvent::SyncStarted { ring, members, transitional } => {
            Input::SyncStarted { ring, members, transitional }
        }
        ServiceEvent::Message { from, message } => Input::Message { from, message },
        ServiceEvent::SyncActivated { ring } => Input::SyncActivated { ring },
        ServiceEvent::SyncAborted => Input::SyncAborted,
    }
}
