//! The machine: connects, introduces this node, tells the arbiter what it must know, and says what it answers.

mod lease;
mod opening;
mod verdict;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;
use quorate_types::{NodeId, RingId};
use tracing::{debug, info, warn};

use self::{lease::Lease, opening::Opening, verdict::Verdict};
use crate::{
    Config, Frames, Input, NodeState, Output, Vote,
    message::{Kind, ListKind, ListedNode, Message},
};

/// Pause before the second attempt to connect. It doubles with every further one.
const PAUSE_MIN: Duration = Duration::from_millis(500);
/// The longest pause: so long an arbiter that is back may be without a node.
const PAUSE_MAX: Duration = Duration::from_secs(8);

/// How far the client is.
#[derive(Debug, Clone)]
enum Phase {
    /// No ring, nothing to tell.
    Idle,
    /// The last attempt failed; the next one is due then.
    Pausing { until: Instant },
    /// A connection is being established.
    Opening(Opening),
    /// The arbiter knows this node.
    Joined(Joined),
}

/// What a connection that stands has.
#[derive(Debug, Clone)]
struct Joined {
    lease: Lease,
    verdict: Verdict,
}

/// What this node last saw of its ring.
#[derive(Debug, Clone, PartialEq, Eq)]
struct View {
    ring: RingId,
    members: Vec<NodeId>,
}

/// The state for an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// This node has no ring.
    Idle,
    /// There is no connection, but one is tried.
    Connecting,
    /// The arbiter knows this node.
    Connected,
}

/// What the client is doing, for an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// See [`State`].
    pub state: State,
    /// What counts.
    pub vote: Vote,
    /// Why there is no connection; empty if there is one, or if the first one was not tried yet.
    pub error: String,
    /// Whether the connection is encrypted.
    pub encrypted: bool,
}

/// The client of one node.
#[derive(Debug, Clone)]
pub struct Client {
    config: Config,
    phase: Phase,
    frames: Frames,
    seq: u32,
    view: Option<View>,
    quorum: Option<(bool, Vec<(NodeId, NodeState)>)>,
    /// What was said last, with the ring.
    said: Option<(RingId, Vote)>,
    failures: u32,
    error: String,
    encrypted: bool,
    outputs: VecDeque<Output>,
}

impl Client {
    /// A client without a connection.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            phase: Phase::Idle,
            frames: Frames::new(),
            seq: 0,
            view: None,
            quorum: None,
            said: None,
            failures: 0,
            error: String::new(),
            encrypted: false,
            outputs: VecDeque::new(),
        }
    }

    /// Tells the client what happened. `now` is its only clock.
    pub fn handle_input(&mut self, now: Instant, input: Input) {
        match input {
            Input::Ring { ring, members } => self.enter(now, View { ring, members }),
            Input::RingLost => self.leave(),
            Input::Quorum { quorate, nodes } => self.tell_quorum(quorate, nodes),
            Input::Connected => self.introduce(now),
            Input::Secured => self.secured(now),
            Input::Received(bytes) => self.receive(now, &bytes),
            Input::Closed { reason } => self.fail(now, reason),
            Input::Reconfigure(config) => self.reconfigure(now, config),
            Input::Timer => self.tick(now),
        }
        self.say_vote();
    }

    /// What must be done next, `None` when all is said.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Timer`] is wanted.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Idle => None,
            Phase::Pausing { until } => Some(*until),
            Phase::Opening(opening) => Some(opening.deadline),
            Phase::Joined(joined) => Some(joined.lease.deadline()),
        }
    }

    /// What counts for the present ring.
    #[must_use]
    pub fn vote(&self) -> Vote {
        match &self.phase {
            Phase::Joined(joined) => joined.verdict.vote(),
            _ => Vote::Unreachable,
        }
    }

    /// What the client is doing.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let state = match self.phase {
            Phase::Idle => State::Idle,
            Phase::Pausing { .. } | Phase::Opening(_) => State::Connecting,
            Phase::Joined(_) => State::Connected,
        };
        Summary { state, vote: self.vote(), error: self.error.clone(), encrypted: self.encrypted }
    }

    fn enter(&mut self, now: Instant, view: View) {
        self.view = Some(view);
        match &mut self.phase {
            Phase::Idle | Phase::Pausing { .. } => self.open(now),
            // Told when the arbiter knows this node.
            Phase::Opening(_) => {}
            Phase::Joined(joined) => {
                joined.verdict.forget_ring();
                // First what counts, then what may change it.
                self.say_vote();
                self.tell_members();
            }
        }
    }

    fn leave(&mut self) {
        self.view = None;
        self.quorum = None;
        self.said = None;
        if !matches!(self.phase, Phase::Idle | Phase::Pausing { .. }) {
            self.outputs.push_back(Output::Close);
        }
        self.reset(Phase::Idle);
    }

    fn reset(&mut self, phase: Phase) {
        self.phase = phase;
        self.frames.clear();
        self.encrypted = false;
    }

    /// The connection is of no use: the vote ends at once, a new attempt follows after a pause.
    fn fail(&mut self, now: Instant, reason: String) {
        if matches!(self.phase, Phase::Idle | Phase::Pausing { .. }) {
            return;
        }
        if self.error != reason {
            warn!(
                host = self.config.host,
                port = self.config.port,
                reason,
                "no connection to the quorum device"
            );
        }
        self.error = reason;
        let pause = PAUSE_MIN.saturating_mul(1 << self.failures.min(10)).min(PAUSE_MAX);
        self.failures = self.failures.saturating_add(1);
        self.reset(Phase::Pausing { until: now + pause });
        self.say_vote();
        self.outputs.push_back(Output::Close);
    }

    fn reconfigure(&mut self, now: Instant, config: Config) {
        let is_new = config.needs_new_connection(&self.config);
        let nodes_changed = config.nodes != self.config.nodes;
        self.config = config;
        match self.phase {
            Phase::Idle => {}
            _ if is_new => {
                self.fail(now, "the configuration was changed".to_owned());
                self.failures = 0;
                self.open(now);
            }
            Phase::Joined(_) if nodes_changed => self.tell_config(ListKind::ChangedConfig),
            _ => {}
        }
    }

    fn tick(&mut self, now: Instant) {
        match &self.phase {
            Phase::Pausing { until } if *until <= now => self.open(now),
            Phase::Opening(opening) if opening.deadline <= now => {
                let reason = opening.timed_out(self.config.connect_timeout);
                self.fail(now, reason);
            }
            Phase::Joined(joined) if joined.lease.is_over(now) => {
                self.fail(now, "the quorum device does not answer any more".to_owned());
            }
            Phase::Joined(joined) if joined.lease.is_due(now) => self.ask(now),
            _ => {}
        }
    }

    fn ask(&mut self, now: Instant) {
        let seq = self.send(Message::new(Kind::EchoRequest));
        if let Phase::Joined(joined) = &mut self.phase {
            joined.lease.asked(seq, now);
        }
    }

    fn receive(&mut self, now: Instant, bytes: &[u8]) {
        self.frames.put(bytes);
        loop {
            let message = match self.frames.next_message() {
                Ok(None) => return,
                Ok(Some((kind, fields))) => Message::from_wire(kind, &fields).map_err(|err| err.to_string()),
                Err(err) => Err(err.to_string()),
            };
            match message {
                Ok(message) => self.handle_message(now, &message),
                Err(err) => {
                    return self.fail(now, format!("what answers does not speak as a quorum device: {err}"));
                }
            }
        }
    }

    fn handle_message(&mut self, now: Instant, message: &Message) {
        match (message.kind, &mut self.phase) {
            (Kind::ServerError, _) => {
                let text = message.error.map_or_else(String::new, |code| format!(": {}", code.text()));
                self.fail(now, format!("the quorum device refuses{text}"));
            }
            (_, Phase::Opening(_)) => self.handle_opening(now, message),
            (_, Phase::Joined(joined)) => match message.kind {
                Kind::EchoReply => {
                    if let Some(seq) = message.seq {
                        joined.lease.answered(seq);
                    }
                }
                Kind::VoteInfo => {
                    joined.verdict.hear(message, self.view.as_ref().map(|view| view.ring));
                    // The arbiter may give its vote to others once this is answered.
                    self.say_vote();
                    let seq = message.seq;
                    self.send_with(Message { seq, ..Message::new(Kind::VoteInfoReply) });
                }
                Kind::NodeListReply | Kind::AskForVoteReply | Kind::HeuristicsChangeReply => {
                    joined.verdict.hear(message, self.view.as_ref().map(|view| view.ring));
                }
                Kind::SetOptionReply => {}
                other => debug!(?other, "message of the quorum device ignored"),
            },
            _ => {}
        }
    }

    /// Tells what counts, if it is something else than before.
    fn say_vote(&mut self) {
        let Some(ring) = self.view.as_ref().map(|view| view.ring) else { return };
        let said = Some((ring, self.vote()));
        if self.said != said {
            self.said = said;
            info!(%ring, vote = ?self.vote(), "quorum device");
            self.outputs.push_back(Output::Vote { ring, vote: self.vote() });
        }
    }

    fn tell_config(&mut self, list: ListKind) {
        let nodes = self.config.nodes.iter().map(|node| ListedNode { node: *node, state: None }).collect();
        let config_version = Some(self.config.config_version);
        self.send(Message { list: Some(list), config_version, nodes, ..Message::new(Kind::NodeList) });
    }

    fn tell_members(&mut self) {
        let Some(View { ring, members }) = &self.view else { return };
        let nodes = members.iter().map(|node| ListedNode { node: *node, state: None }).collect();
        let (list, ring) = (Some(ListKind::Membership), Some(*ring));
        self.send(Message { list, ring, nodes, ..Message::new(Kind::NodeList) });
    }

    fn tell_quorum(&mut self, quorate: bool, nodes: Vec<(NodeId, NodeState)>) {
        let quorum = Some((quorate, nodes));
        if self.quorum != quorum {
            self.quorum = quorum;
            if matches!(self.phase, Phase::Joined(_)) {
                self.send_quorum();
            }
        }
    }

    fn send_quorum(&mut self) {
        let Some((quorate, nodes)) = &self.quorum else { return };
        let nodes = nodes.iter().map(|(node, state)| ListedNode { node: *node, state: Some(*state) });
        let (list, quorate, nodes) = (Some(ListKind::Quorum), Some(*quorate), nodes.collect());
        self.send(Message { list, quorate, nodes, ..Message::new(Kind::NodeList) });
    }

    /// Sends a message of this node's own; returns the number that its answer will have.
    fn send(&mut self, message: Message) -> u32 {
        self.seq = self.seq.wrapping_add(1);
        self.send_with(Message { seq: Some(self.seq), ..message });
        self.seq
    }

    fn send_with(&mut self, message: Message) {
        let bytes: Bytes = message.to_wire();
        self.outputs.push_back(Output::Send(bytes));
    }
}
