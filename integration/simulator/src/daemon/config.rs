//! configd: a replica of the tree, its place in the process group, its callers.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;
use config_store_core::{
    Expect, Extensions, Image, Input, Operation, OperationRequest, Output, Replica, Reply, RequestError,
    RequestId, Settings, State, Transaction,
};
use membership_core::{
    cpg::GroupName,
    stack::{ConfigurationKind, GroupEvent},
};
use quorate_types::NodeId;

use super::{ConnectionId, DaemonInput, DiskWrite, Effect, Link, Message};
use crate::{
    history::{EpochKey, Event, Outcome, Position, WriteId},
    mutation::Mutation,
    rng::{MILLION, Rng},
    workload::{Action, Change},
};

/// The process group of all replicas.
const GROUP: &str = "quorate_config_v1";
/// Files of writes that nobody else touches are called by this and their number.
const OWN: &str = "own-";
/// Between the number of a write and which of its files this is, and between that and how many there are.
const PART: char = '.';
const OF: char = '-';
/// How long callers are patient.
const PATIENCE: Duration = Duration::from_secs(30);
/// With one in so many reads the whole tree is judged: with each, that would be most of what a run costs.
const TREE_EVERY: u64 = 8;
/// Chance that a mutation strikes a message.
const STRIKE: u32 = MILLION / 50;

/// What a caller waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    Write { write: WriteId, attempt: u32 },
    Read { read: u64 },
}

/// configd.
#[derive(Debug)]
pub struct ConfigDaemon {
    replica: Replica,
    membership: Option<ConnectionId>,
    quorum: Option<ConnectionId>,
    waiting: BTreeMap<u64, Waiting>,
    next_handle: u64,
    position: Position,
    mutation: Option<Mutation>,
    rng: Rng,
    effects: VecDeque<Effect>,
}

/// The position of a replica.
#[must_use]
pub fn position(replica: &Replica) -> Position {
    let epoch = replica.epoch();
    let tree = replica.tree();
    let checksum = tree.checksum().to_bytes();
    Position {
        epoch: (epoch.seq, epoch.rep, epoch.round),
        version: tree.version(),
        checksum: u64::from_le_bytes(std::array::from_fn(|at| checksum[at])),
    }
}

impl ConfigDaemon {
    /// Starts the daemon with what its disk holds.
    #[must_use]
    pub fn start(me: NodeId, incarnation: u64, image: Image, mutation: Option<Mutation>, rng: Rng) -> Self {
        let replica = Replica::load(Settings::new(me, incarnation), image);
        let mut daemon = Self {
            position: position(&replica),
            replica,
            membership: None,
            quorum: None,
            waiting: BTreeMap::new(),
            next_handle: 1,
            mutation,
            rng,
            effects: VecDeque::new(),
        };
        daemon.observe_tree();
        daemon
    }

    /// Takes an input.
    pub fn handle(&mut self, now: Instant, input: DaemonInput) {
        match input {
            DaemonInput::Timer => self.input(now, Input::Timer),
            DaemonInput::Stored(DiskWrite::Store(batch, _)) => {
                self.input(now, Input::Stored { batch: batch.id })
            }
            DaemonInput::StoreFailed(batch) => {
                self.input(now, Input::StoreFailed { batch });
                self.effects.push_back(Effect::Exit("the disk refused a write".to_owned()));
            }
            DaemonInput::Connected(connection, Link::ConfigToMembership) => {
                self.membership = Some(connection);
                let group = GroupName::new(GROUP).expect("a short name that is not empty is a group name");
                self.effects.push_back(Effect::Tell(connection, Message::GroupJoin(group)));
            }
            DaemonInput::Connected(connection, Link::ConfigToQuorum) => {
                self.quorum = Some(connection);
                self.effects.push_back(Effect::Tell(connection, Message::Watch));
            }
            DaemonInput::Message(connection, Message::Gone) => self.gone(now, connection),
            DaemonInput::Message(connection, Message::Group(events))
                if self.membership == Some(connection) =>
            {
                self.batch(now, events);
            }
            DaemonInput::Message(connection, Message::Quorum(view)) if self.quorum == Some(connection) => {
                self.input(now, view.map_or(Input::QuorumLost, Input::Quorum));
            }
            DaemonInput::Act(action) => self.act(now, action),
            _ => {}
        }
        self.look();
    }

    /// What is to be done.
    pub fn effects(&mut self) -> VecDeque<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// When [`DaemonInput::Timer`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.replica.next_deadline()
    }

    /// The replica.
    #[must_use]
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Test writes whose effect the tree holds, ascending.
    #[must_use]
    pub fn own_writes(&self) -> Vec<WriteId> {
        let entries = self.replica.tree().entries();
        let mut writes: Vec<WriteId> = entries.filter_map(|entry| own_write(&entry.head().name)).collect();
        writes.sort_unstable();
        writes.dedup();
        writes
    }

    /// Test writes of several files of which the tree holds some only.
    #[must_use]
    pub fn torn_writes(&self) -> Vec<WriteId> {
        let mut missing: BTreeMap<WriteId, u64> = BTreeMap::new();
        for (write, files) in self.replica.tree().entries().filter_map(|entry| share(&entry.head().name)) {
            *missing.entry(write).or_insert(files) -= 1;
        }
        missing.into_iter().filter(|(_, missing)| *missing > 0).map(|(write, _)| write).collect()
    }

    fn gone(&mut self, now: Instant, connection: ConnectionId) {
        if self.membership == Some(connection) {
            self.membership = None;
            self.input(now, Input::GroupLost);
        } else if self.quorum == Some(connection) {
            self.quorum = None;
            self.input(now, Input::QuorumLost);
        }
    }

    fn batch(&mut self, now: Instant, events: Vec<GroupEvent>) {
        for event in events {
            let input = match event {
                GroupEvent::Members { ring, members, .. } => {
                    Input::Members { ring, members: members.into_iter().map(|member| member.node).collect() }
                }
                GroupEvent::Configuration { kind: ConfigurationKind::Transitional, .. } => {
                    Input::Transitional
                }
                GroupEvent::Message { .. }
                    if self.mutation == Some(Mutation::DropStoreMessage) && self.rng.chance(STRIKE) =>
                {
                    continue;
                }
                GroupEvent::Message { origin, payload, .. } => Input::Message { from: origin, payload },
                GroupEvent::Joined { .. } | GroupEvent::Configuration { .. } => continue,
            };
            self.input(now, input);
            self.look();
        }
        self.input(now, Input::EndOfBatch);
    }

    fn act(&mut self, now: Instant, action: Action) {
        let handle = self.next_handle;
        self.next_handle += 1;
        let deadline = now + PATIENCE;
        match action {
            Action::Write { write, attempt, change } => {
                self.waiting.insert(handle, Waiting::Write { write, attempt });
                let lasting = matches!(change, Change::Own { .. } | Change::Together { .. });
                self.observe(Event::Submitted { write, attempt, lasting });
                let request = OperationRequest {
                    id: request_id(1, write),
                    mtime: write as u32,
                    trace: None,
                    extensions: Extensions::default(),
                    operation: self.torn(operation(write, change)),
                };
                if self.mutation == Some(Mutation::AcknowledgeAtOnce) {
                    self.waiting.remove(&handle);
                    let Position { epoch, version, .. } = self.position;
                    let outcome = Outcome::Acknowledged { epoch, version: version + 1 };
                    self.observe(Event::Replied { write, attempt, outcome });
                }
                self.input(now, Input::Request { handle, request, deadline });
            }
            Action::Read { read } => {
                self.waiting.insert(handle, Waiting::Read { read });
                self.observe(Event::ReadSubmitted(read));
                if self.mutation == Some(Mutation::ReadAtOnce) {
                    self.waiting.remove(&handle);
                    let version = Some(self.position.version);
                    return self.observe(Event::ReadReplied { read, version });
                }
                self.input(now, Input::Barrier { handle, id: request_id(2, read), deadline });
            }
            Action::Multicast { .. } => {}
        }
    }

    /// What [`Mutation::TearTransaction`] makes of an operation.
    fn torn(&self, operation: Operation) -> Operation {
        match operation {
            Operation::Transaction(all) if self.mutation == Some(Mutation::TearTransaction) => {
                all.operations()[0].clone()
            }
            operation => operation,
        }
    }

    fn input(&mut self, now: Instant, input: Input) {
        self.replica.handle_input(now, input);
        while let Some(output) = self.replica.poll_output() {
            self.output(output);
        }
    }

    fn output(&mut self, output: Output) {
        match output {
            Output::Multicast(payload) => self.multicast(payload),
            Output::Store(batch) => {
                let position = position(&self.replica);
                self.effects.push_back(Effect::Write(DiskWrite::Store(batch, position)));
            }
            Output::Reply { handle, reply } => self.reply(handle, reply),
            Output::StateChanged { from, to, reason } => {
                let note = format!("replica {from:?} -> {to:?} ({reason:?})");
                self.effects.push_back(Effect::Critical(note));
                if (from == State::Synced) != (to == State::Synced) {
                    self.look();
                    self.observe(Event::StoreWritable(to == State::Synced));
                    self.observe_tree();
                }
            }
            Output::ConflictKept { header, paths } => {
                self.note(format!("conflict copy {header:?} of {} entries", paths.len()));
                let writes = paths.iter().filter_map(|path| own_write(path.as_str())).collect();
                self.observe(Event::ConflictKept(writes));
            }
            Output::DivergenceDetected { node, version } => {
                self.observe(Event::Divergence { with: node, version });
            }
            Output::WatchReset { version } => self.observe(Event::WatchReset(version)),
            Output::Changed(changes) => {
                if let Some(cut) = changes.last().filter(|change| change.more) {
                    self.observe(Event::Torn(own_write(cut.path.as_str()).into_iter().collect()));
                }
                self.observe(Event::Watched(changes.iter().map(|change| change.version).collect()));
            }
            Output::Performed { envelope, result: Ok(_), repeated: false } => {
                let paths = envelope.operation.each().iter().map(Operation::path);
                if let Some(write) = paths.filter_map(|path| own_write(path.as_str())).next() {
                    self.observe(Event::Performed(write));
                }
            }
            Output::Performed { .. } | Output::Adopted { .. } | Output::Certain(_) => {}
        }
    }

    fn multicast(&mut self, payload: Bytes) {
        if let Some(connection) = self.membership {
            self.effects.push_back(Effect::Tell(connection, Message::GroupMulticast(payload)));
        }
    }

    fn reply(&mut self, handle: u64, reply: Reply) {
        let Some(waiting) = self.waiting.remove(&handle) else {
            if self.mutation == Some(Mutation::AcknowledgeAtOnce) {
                return;
            }
            return self.observe(Event::StrayReply(handle));
        };
        match waiting {
            Waiting::Write { write, attempt } => {
                let outcome = outcome(&reply);
                if let Err(error) = &reply {
                    self.note(format!("write {write}: {error}"));
                }
                self.observe(Event::Replied { write, attempt, outcome });
            }
            Waiting::Read { read } => {
                let version = reply.ok().map(|applied| applied.version);
                self.look();
                self.observe(Event::ReadReplied { read, version });
                if version.is_some() && read.is_multiple_of(TREE_EVERY) {
                    self.observe_tree();
                }
            }
        }
    }

    fn note(&mut self, note: String) {
        self.effects.push_back(Effect::Note(note));
    }

    fn observe(&mut self, event: Event) {
        self.effects.push_back(Effect::Observe(event));
    }

    /// Reports the position if it is another one than before.
    fn look(&mut self) {
        let now = position(&self.replica);
        if now != self.position {
            self.position = now;
            self.observe(Event::Applied(now));
        }
    }

    fn observe_tree(&mut self) {
        let (position, writes) = (position(&self.replica), self.own_writes());
        self.observe(Event::Tree { position, writes, last: false });
        let torn = self.torn_writes();
        if !torn.is_empty() {
            self.observe(Event::Torn(torn));
        }
    }
}

/// The write that made this file, if it is one that nobody else touches.
fn own_write(name: &str) -> Option<WriteId> {
    let number = name.strip_prefix(OWN)?;
    number.split_once(PART).map_or(number, |(number, _)| number).parse().ok()
}

/// The write that made this file together with others, and how many files it made.
fn share(name: &str) -> Option<(WriteId, u64)> {
    let (_, part) = name.split_once(PART)?;
    Some((own_write(name)?, part.split_once(OF)?.1.parse().ok()?))
}

fn request_id(kind: u8, number: u64) -> RequestId {
    let mut id = [kind; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    RequestId(id)
}

fn epoch_key(epoch: config_store_core::Epoch) -> EpochKey {
    (epoch.seq, epoch.rep, epoch.round)
}

fn outcome(reply: &Reply) -> Outcome {
    match reply {
        Ok(applied) => Outcome::Acknowledged { epoch: epoch_key(applied.epoch), version: applied.version },
        Err(RequestError::OutcomeUnknown | RequestError::StoreFailed) => Outcome::Unknown,
        Err(_) => Outcome::Refused,
    }
}

fn operation(write: WriteId, change: Change) -> Operation {
    let path = |name: String| name.parse().expect("the names of test files are valid");
    let shared = |file: u64| path(format!("shared-{file}"));
    let content = |size: usize| Bytes::from(vec![write as u8; size]);
    match change {
        Change::Own { size } => {
            let expect = if write.is_multiple_of(2) { Expect::Absent } else { Expect::Any };
            Operation::Put { path: path(format!("{OWN}{write}")), expect, content: content(size) }
        }
        Change::Together { files, size, needs } => {
            let name = |part: u64| path(format!("{OWN}{write}{PART}{part}{OF}{files}"));
            let put = |part| Operation::Put { path: name(part), expect: Expect::Any, content: content(size) };
            let need = |file| Operation::Check { path: shared(file), expect: Expect::Present };
            let operations = (1..=files).map(put).chain(needs.map(need)).collect();
            Operation::Transaction(Transaction::new(operations).expect("a few short files"))
        }
        Change::Shared { file, size } => {
            Operation::Put { path: shared(file), expect: Expect::Any, content: content(size) }
        }
        Change::Delete { file } => Operation::Delete { path: shared(file), expect: Expect::Any },
        Change::Rename { from, to } => {
            let (from, to) = (shared(from), shared(to));
            Operation::Rename { from, to, expect: Expect::Any, no_replace: false }
        }
    }
}
