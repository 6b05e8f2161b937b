//! membershipd: the stack, its two test clients, and the connections of quorumd and configd.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use bytes::{BufMut, Bytes, BytesMut};
use membership_core::{
    cpg::GroupName,
    srp::{ConfigurationChange, Guarantee},
    stack::{
        ClientId, ConfigurationKind, GroupEvent, Input, LeaveReason, Output, Stack, StackConfig, StackStatus,
    },
};
use quorate_types::NodeId;

use super::{ConnectionId, DaemonInput, DiskWrite, Effect, Message};
use crate::{
    history::{Change, Event, MessageId, Probe},
    mutation::Mutation,
    rng::{MILLION, Rng},
    trace::hash_bytes,
    workload::Action,
};

/// The number of votequorum.
const VOTEQUORUM: u16 = 5;
/// Ids of the two probes as clients; connections are numbered from 1 and never get there.
const PROBE_CLIENTS: [ClientId; 2] = [ClientId::MAX, ClientId::MAX - 1];
/// Chance that a mutation strikes a delivery.
const STRIKE: u32 = MILLION / 50;
/// Bytes of a probe message before its filling: number and checksum.
const PROBE_HEADER: usize = 16;

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Client {
    Quorum,
    Config,
}

/// membershipd.
#[derive(Debug)]
pub struct MembershipDaemon {
    pub(super) me: NodeId,
    pub(super) stack: Stack,
    connections: BTreeMap<ConnectionId, Client>,
    /// Its own feature level.
    level: Option<u32>,
    pub(super) mutation: Option<Mutation>,
    pub(super) rng: Rng,
    /// A delivery that [`Mutation::SwapDeliveries`] or [`Mutation::DeliverAfterChange`] holds back.
    held: Option<(Probe, GroupEvent)>,
    /// A packet of its own that a mutation hands back to the stack.
    pub(super) returned: Option<Bytes>,
    /// Messages of configd that wait while the send queue is nearly full.
    pending: VecDeque<(ConnectionId, Bytes)>,
    flow_open: bool,
    /// What the present input has delivered to configd.
    batch: Vec<GroupEvent>,
    /// Clients that were refused: as in the real daemon, their stream ends.
    lost: Vec<ConnectionId>,
    pub(super) effects: VecDeque<Effect>,
}

fn probe_client(probe: Probe) -> ClientId {
    PROBE_CLIENTS[probe as usize]
}

fn probe_group(probe: Probe) -> GroupName {
    GroupName::new(format!("probe-{probe:?}")).expect("a short name that is not empty is a group name")
}

/// A message that can be recognised, and told from a damaged one: number, checksum, filling.
fn probe_payload(message: MessageId, size: usize) -> Bytes {
    let mut payload = BytesMut::with_capacity(size.max(PROBE_HEADER));
    payload.put_u64_le(message);
    payload.put_u64_le(0);
    payload.resize(size.max(PROBE_HEADER), message as u8);
    let checksum = hash_bytes(&payload);
    payload[8..16].copy_from_slice(&checksum.to_le_bytes());
    payload.freeze()
}

fn read_probe_payload(payload: &Bytes) -> Option<MessageId> {
    let message = u64::from_le_bytes(payload.get(..8)?.try_into().ok()?);
    (*payload == probe_payload(message, payload.len())).then_some(message)
}

impl MembershipDaemon {
    /// Starts the daemon with the ring sequence that its disk holds.
    #[must_use]
    pub fn start(
        now: Instant,
        config: StackConfig,
        ring_seq: u64,
        mutation: Option<Mutation>,
        rng: Rng,
    ) -> Self {
        let mut daemon = Self {
            me: config.me,
            level: config.feature_level,
            stack: Stack::new(config),
            connections: BTreeMap::new(),
            mutation,
            rng,
            held: None,
            returned: None,
            pending: VecDeque::new(),
            flow_open: true,
            batch: Vec::new(),
            lost: Vec::new(),
            effects: VecDeque::new(),
        };
        daemon.input(now, Input::Start { stored_ring_seq: ring_seq });
        for probe in Probe::ALL {
            let delivery = match probe {
                Probe::Safe if mutation != Some(Mutation::SafeIsAgreed) => Guarantee::Safe,
                _ => Guarantee::Agreed,
            };
            let (client, group) = (probe_client(probe), probe_group(probe));
            daemon.input(now, Input::GroupJoin { client, pid: probe as u32 + 1, group, delivery });
        }
        daemon
    }

    /// Takes an input.
    pub fn handle(&mut self, now: Instant, input: DaemonInput) {
        match input {
            DaemonInput::Datagram(datagram) => self.receive(now, datagram.bytes),
            DaemonInput::Timer => self.input(now, Input::Timer),
            DaemonInput::Stored(DiskWrite::RingSeq(ring_seq)) => {
                self.input(now, Input::Stored { ring_seq });
            }
            DaemonInput::Message(connection, message) => self.message(now, connection, message),
            DaemonInput::Act(Action::Multicast { probe, message, size }) => {
                self.probe(now, probe, message, size);
            }
            DaemonInput::Leave => self.input(now, Input::Leave),
            DaemonInput::Reconfigure(params) => {
                let members = self.stack.status().configured;
                let params = *params;
                self.input(now, Input::Reconfigure { members, params, config_version: 1 });
            }
            _ => {}
        }
        if let Some(packet) = self.returned.take() {
            self.input(now, Input::Datagram(packet));
        }
        self.send_pending(now);
        if !self.batch.is_empty() {
            let batch = std::mem::take(&mut self.batch);
            self.tell(Client::Config, Message::Group(batch));
        }
        while let Some(connection) = self.lost.pop() {
            self.effects.push_back(Effect::Tell(connection, Message::Gone));
            self.message(now, connection, Message::Gone);
        }
    }

    /// What is to be done.
    pub fn effects(&mut self) -> VecDeque<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// When [`DaemonInput::Timer`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.stack.next_deadline()
    }

    /// The stack's own view, for the liveness checker.
    #[must_use]
    pub fn status(&self) -> StackStatus {
        self.stack.status()
    }

    fn probe(&mut self, now: Instant, probe: Probe, message: MessageId, size: usize) {
        let payload = probe_payload(message, size);
        let size = payload.len();
        self.effects.push_back(Effect::Observe(Event::Sent { probe, message, size }));
        if self.mutation == Some(Mutation::LoseOwn) && self.strikes() {
            return;
        }
        let at = self.effects.len();
        self.input(now, Input::GroupMulticast { client: probe_client(probe), payload });
        let refused = self
            .effects
            .iter()
            .skip(at)
            .any(|effect| matches!(effect, Effect::Note(note) if note.starts_with("refused")));
        if refused {
            self.effects.remove(at - 1);
        }
    }

    fn message(&mut self, now: Instant, connection: ConnectionId, message: Message) {
        match message {
            Message::Attach => {
                self.connections.insert(connection, Client::Quorum);
                self.input(now, Input::ServiceAttach { service: VOTEQUORUM });
            }
            Message::ServiceMulticast(message) => {
                self.input(now, Input::ServiceMulticast { service: VOTEQUORUM, message });
            }
            Message::SyncMessages(ring, messages) => {
                self.input(now, Input::SyncMessages { service: VOTEQUORUM, ring, messages });
            }
            Message::GroupJoin(group) => {
                self.connections.insert(connection, Client::Config);
                let (client, pid) = (connection, 1000 + connection as u32);
                self.input(now, Input::GroupJoin { client, pid, group, delivery: Guarantee::Agreed });
            }
            Message::GroupMulticast(payload) => self.pending.push_back((connection, payload)),
            Message::Gone => match self.connections.remove(&connection) {
                Some(Client::Quorum) => self.input(now, Input::ServiceDetach { service: VOTEQUORUM }),
                Some(Client::Config) => {
                    self.pending.retain(|(owner, _)| *owner != connection);
                    let reason = LeaveReason::ProcessDown;
                    self.input(now, Input::GroupLeave { client: connection, reason });
                }
                None => {}
            },
            other => self.effects.push_back(Effect::Note(format!("unexpected {other:?}"))),
        }
    }

    /// Hands over what configd sends, as long as the send queue has room.
    fn send_pending(&mut self, now: Instant) {
        while self.flow_open
            && let Some((client, payload)) = self.pending.pop_front()
        {
            self.input(now, Input::GroupMulticast { client, payload });
        }
    }

    pub(super) fn input(&mut self, now: Instant, input: Input) {
        self.stack.handle_input(now, input);
        while let Some(output) = self.stack.poll_output() {
            self.output(output);
        }
    }

    fn output(&mut self, output: Output) {
        match output {
            Output::Send { to, packet } => self.send(to, packet),
            Output::StoreRingSeq(seq) => {
                self.effects.push_back(Effect::Write(DiskWrite::RingSeq(seq)));
            }
            Output::StateChanged { from, to, reason } => {
                let note = format!("state {from:?} -> {to:?} ({reason:?})");
                self.effects.push_back(Effect::Critical(note));
            }
            Output::Configuration(change) => self.configuration(change),
            Output::FeaturesAgreed { ring, agreed } => {
                let own = self.level.filter(|_| self.mutation == Some(Mutation::LevelOfOneself));
                let (level, fast) = (own.unwrap_or(agreed.level), agreed.has_fast_detection());
                self.observe(Event::FeaturesAgreed { ring, level, fast });
            }
            Output::SyncCompleted { ring, .. } => self.observe(Event::SyncCompleted(ring)),
            Output::Group { client, event } => self.group_event(client, event),
            Output::Flow { open } => self.flow_open = open,
            Output::GroupRefused { client, reason } if PROBE_CLIENTS.contains(&client) => {
                self.note(format!("refused: {reason}"));
            }
            Output::GroupRefused { client, reason } => {
                self.note(format!("refused to configd: {reason}"));
                self.lost.push(client);
            }
            Output::Service { event, .. } => self.tell(Client::Quorum, Message::Service(event)),
            Output::Killed { by, reason } => {
                self.effects.push_back(Effect::Exit(format!("killed by {by}: {reason}")));
            }
            Output::CryptoPhase { phase } => self.note(format!("crypto phase {phase}")),
            Output::ReloadRequested { by } => self.note(format!("reload requested by {by}")),
        }
    }

    fn note(&mut self, note: String) {
        self.effects.push_back(Effect::Note(note));
    }

    fn observe(&mut self, event: Event) {
        self.effects.push_back(Effect::Observe(event));
    }

    fn tell(&mut self, client: Client, message: Message) {
        let connection = self.connections.iter().find(|(_, other)| **other == client);
        if let Some((&connection, _)) = connection {
            self.effects.push_back(Effect::Tell(connection, message));
        }
    }

    fn configuration(&mut self, change: ConfigurationChange) {
        let mut change = match change {
            ConfigurationChange::Transitional { ring, mut members, left } => {
                if self.mutation == Some(Mutation::LeftCameAlong) {
                    members.extend(left);
                }
                Change::Transitional { next: ring, members }
            }
            ConfigurationChange::Regular { ring, members, .. } => Change::Regular { ring, members },
        };
        if self.mutation == Some(Mutation::LeaveSelfOut)
            && let Change::Regular { members, .. } = &mut change
        {
            members.retain(|member| *member != self.me);
        }
        let is_regular = matches!(change, Change::Regular { .. });
        self.observe(Event::Ring(change));
        if is_regular
            && self.mutation == Some(Mutation::DeliverAfterChange)
            && let Some((probe, event)) = self.held.take()
        {
            self.probe_event(probe, event);
        }
    }

    /// Whether a mutation strikes now.
    pub(super) fn strikes(&mut self) -> bool {
        self.rng.chance(STRIKE)
    }

    fn group_event(&mut self, client: ClientId, event: GroupEvent) {
        let Some(probe) = Probe::ALL.into_iter().find(|probe| probe_client(*probe) == client) else {
            return self.batch.push(event);
        };
        let strikes = matches!(event, GroupEvent::Message { .. }) && self.strikes();
        match (self.mutation, event) {
            (Some(Mutation::DropDelivery), _) if strikes => {}
            (Some(Mutation::DuplicateDelivery), event) if strikes => {
                self.probe_event(probe, event.clone());
                self.probe_event(probe, event);
            }
            (
                Some(Mutation::CorruptDelivery),
                GroupEvent::Message { ring, seq, origin, pid, payload, spans_change },
            ) if strikes => {
                let mut payload = payload.to_vec();
                let at = self.rng.index(payload.len());
                payload[at] ^= 1;
                let payload = Bytes::from(payload);
                let event = GroupEvent::Message { ring, seq, origin, pid, payload, spans_change };
                self.probe_event(probe, event);
            }
            (
                Some(Mutation::MisplaceDelivery),
                GroupEvent::Message { ring, seq, origin, pid, payload, spans_change },
            ) if strikes => {
                let seq = seq.wrapping_sub(50);
                self.probe_event(
                    probe,
                    GroupEvent::Message { ring, seq, origin, pid, payload, spans_change },
                );
            }
            (Some(Mutation::DeliverAfterChange), event) if strikes && probe == Probe::Agreed => {
                self.held.get_or_insert((probe, event));
            }
            (Some(Mutation::SwapDeliveries), event) if strikes && self.held.is_none() => {
                self.held = Some((probe, event));
            }
            (Some(Mutation::SwapDeliveries), event) => {
                self.probe_event(probe, event);
                if let Some((probe, event)) = self.held.take_if(|(held, _)| *held == probe) {
                    self.probe_event(probe, event);
                }
            }
            (_, event) => self.probe_event(probe, event),
        }
    }

    fn probe_event(&mut self, probe: Probe, event: GroupEvent) {
        let event = match event {
            GroupEvent::Joined { .. } => Event::ProbeJoined(probe),
            GroupEvent::Members { ring, seq, members, .. } => {
                let members: Vec<NodeId> = members.into_iter().map(|member| member.node).collect();
                Event::GroupMembers { probe, ring, seq, members }
            }
            GroupEvent::Message { ring, seq, origin, payload, spans_change, .. } => {
                let message = read_probe_payload(&payload);
                Event::Delivered { probe, message, origin, ring, seq, spans_change }
            }
            // The agreed probe is judged by what watchers see.
            GroupEvent::Configuration { .. } if probe == Probe::Agreed => return,
            GroupEvent::Configuration { ring, kind: ConfigurationKind::Transitional, members } => {
                Event::ProbeRing(probe, Change::Transitional { next: ring, members })
            }
            GroupEvent::Configuration { ring, kind: ConfigurationKind::Regular, members } => {
                Event::ProbeRing(probe, Change::Regular { ring, members })
            }
        };
        self.observe(event);
    }
}
