//! A replica of the configuration store, node 1 of three: whatever the others send, the tree keeps its rules, only one
//! batch is under way, and answers are given once.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;
use config_store_core::{
    Envelope, Expect, Extensions, Input, Loader, Message, Operation, OperationRequest, Output, QuorumView,
    Replica, RequestId, RoundId, Settings, Signed, State, Transaction,
};
use quorate_types::{NodeId, RingId};

use crate::{feed::Feed, heap};

const NODES: u8 = 3;
const STEPS_MAX: usize = 400;
/// The replica puts in a row at most this much for one input.
const OUTPUTS_MAX: usize = 600;

/// See the module.
pub fn check(input: &[u8]) {
    heap::within((32 << 20) + 256 * input.len(), || Harness::new(&mut Feed(input)).run());
}

struct Harness<'a, 'b> {
    feed: &'a mut Feed<'b>,
    replica: Replica,
    now: Instant,
    /// What the replica sent and has not got back.
    own: VecDeque<Bytes>,
    round: Option<RoundId>,
    asked: BTreeSet<u64>,
    serials: BTreeMap<u32, u64>,
    handles: u64,
}

fn id(n: u32) -> NodeId {
    NodeId::new(n).expect("not 0")
}

impl<'a, 'b> Harness<'a, 'b> {
    fn new(feed: &'a mut Feed<'b>) -> Self {
        let image = Loader::new().finish().expect("an empty store");
        Self {
            feed,
            replica: Replica::load(Settings::new(id(1), 1), image),
            now: Instant::now(),
            own: VecDeque::new(),
            round: None,
            asked: BTreeSet::new(),
            serials: BTreeMap::new(),
            handles: 0,
        }
    }

    fn run(mut self) {
        for _ in 0..STEPS_MAX {
            if self.feed.is_empty() {
                break;
            }
            self.step();
            let state = self.replica.state();
            assert!(self.replica.committed() <= self.replica.tree().version() || state != State::Synced);
            assert!(self.replica.pending_requests() <= self.asked.len());
        }
    }

    fn ring(&mut self) -> RingId {
        RingId { rep: 1, seq: 4 + 4 * u64::from(self.feed.byte() % 2) }
    }

    fn step(&mut self) {
        let op = self.feed.byte();
        match op % 32 {
            0 | 1 => {
                let bits = self.feed.byte() | 1;
                let members =
                    (0..u32::from(NODES)).filter(|n| bits >> n & 1 == 1).map(|n| id(n + 1)).collect();
                let ring = self.ring();
                self.input(Input::Members { ring, members });
            }
            2 | 3 => {
                let bits = self.feed.byte() | 1;
                let (present, absent) =
                    (0..u32::from(NODES)).map(|n| id(n + 1)).partition(|n| bits >> (n.get() - 1) & 1 == 1);
                let present: Vec<NodeId> = present;
                let view = QuorumView {
                    ring: self.ring(),
                    quorate: bits & 8 == 0 && present.len() > 1,
                    expected_votes: 3,
                    quorum: 2,
                    votes: present.into_iter().map(|node| (node, 1)).collect(),
                    absent,
                };
                self.input(Input::Quorum(view));
            }
            4 => self.input(Input::QuorumLost),
            5 => self.input(Input::GroupLost),
            6 => self.input(Input::Transitional),
            7 => self.input(Input::LocalMode(op & 128 != 0)),
            8 | 9 => {
                if let Some(deadline) = self.replica.next_deadline() {
                    self.now = self.now.max(deadline);
                    self.input(Input::Timer);
                    assert!(self.replica.next_deadline() != Some(deadline), "a timer that is never done");
                }
            }
            10 | 11 => self.input(Input::EndOfBatch),
            12 => {
                self.now += Duration::from_millis(self.feed.short().into());
                self.input(Input::Timer);
            }
            13..=19 => {
                // What the replica sent comes back in order.
                let count = if op & 128 == 0 { 1 } else { self.own.len() };
                for _ in 0..count {
                    if let Some(payload) = self.own.pop_front() {
                        self.input(Input::Message { from: id(1), payload });
                    }
                }
                self.input(Input::EndOfBatch);
            }
            20..=22 => self.request(op),
            23 | 24 => {
                let from = self.feed.node(NODES);
                let payload = self.feed.piece();
                self.input(Input::Message { from, payload });
            }
            25..=27 => self.message(),
            _ => self.echo(op),
        }
    }

    fn request(&mut self, op: u8) {
        self.handles += 1;
        let path = ["storage.cfg", "a", "a/b", "qemu-server/100.conf"][usize::from(op >> 5 & 3)];
        let path = path.parse().expect("a path");
        let operation = match self.feed.byte() % 4 {
            0 => Operation::Create { path },
            1 => Operation::Mkdir { path },
            2 => Operation::Delete { path, expect: Expect::Any },
            _ => {
                let made = Operation::Create { path: path.clone() };
                let both = vec![made, Operation::Check { path, expect: Expect::Version(3) }];
                Operation::Transaction(Transaction::new(both).expect("two operations"))
            }
        };
        let request = OperationRequest {
            id: RequestId([self.feed.byte(); 16]),
            mtime: 1,
            trace: None,
            extensions: Extensions::default(),
            operation,
        };
        self.asked.insert(self.handles);
        let deadline = self.now + Duration::from_secs(5);
        self.input(Input::Request { handle: self.handles, request, deadline });
    }

    /// A message of another node that decodes, moved to the present round and epoch.
    fn message(&mut self) {
        let from = self.feed.node(NODES);
        let payload = self.feed.piece();
        let Ok(signed) = Signed::decode(payload) else { return };
        self.send(from, signed.message);
    }

    fn send(&mut self, from: NodeId, message: Message) {
        let (at, here) = (self.round, self.replica.epoch());
        let message = match message {
            Message::State { round, state } => Message::State { round: at.unwrap_or(round), state },
            Message::IndexRequest { round, sums } => {
                Message::IndexRequest { round: at.unwrap_or(round), sums }
            }
            Message::Want { round, last, inodes } => {
                Message::Want { round: at.unwrap_or(round), last, inodes }
            }
            Message::Piece { round, to, kind, first, last, bytes } => {
                Message::Piece { round: at.unwrap_or(round), to, kind, first, last, bytes }
            }
            Message::Ready { round, epoch, checksum } => {
                Message::Ready { round: at.unwrap_or(round), epoch, checksum }
            }
            Message::Operation { head, content, .. } => Message::Operation { epoch: here, head, content },
            Message::Part { request, index, content, .. } => {
                Message::Part { epoch: here, request, index, content }
            }
            Message::OperationOfParts { request, parts, head, .. } => {
                Message::OperationOfParts { epoch: here, request, parts, head }
            }
            Message::Barrier { request, .. } => Message::Barrier { epoch: here, request },
            Message::Durable { position, version, checksum, .. } => {
                Message::Durable { epoch: here, position, version, checksum }
            }
            other => other,
        };
        let serial = self.serials.entry(from.get()).or_default();
        *serial += 1;
        let payload = Signed { incarnation: 9, serial: *serial, message }.encode();
        self.input(Input::Message { from, payload });
    }

    /// Another node says what this one said last, as its own: it agrees.
    fn echo(&mut self, op: u8) {
        let from = id(2 + u32::from(op >> 7));
        let Some(payload) = self.own.front().cloned() else { return };
        let Ok(signed) = Signed::decode(payload) else { panic!("a replica reads what replicas send") };
        self.send(from, signed.message);
    }

    fn input(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            self.replica.handle_input(self.now, input);
            let (mut outputs, mut batches) = (0, 0);
            while let Some(output) = self.replica.poll_output() {
                outputs += 1;
                match output {
                    Output::Multicast(payload) => {
                        let Ok(signed) = Signed::decode(payload.clone()) else { panic!("it cannot be read") };
                        if let Message::SyncStart { round, .. } = signed.message {
                            self.round = Some(round);
                        }
                        self.own.push_back(payload);
                    }
                    Output::Store(batch) => {
                        batches += 1;
                        inputs.push_back(Input::Stored { batch: batch.id });
                    }
                    Output::Reply { handle, .. } => assert!(self.asked.remove(&handle), "answered twice"),
                    Output::Performed { envelope, .. } => {
                        let again = Envelope::decode(envelope.encode_head(), envelope.operation.content());
                        assert_eq!(again, Ok(envelope), "what is performed can be logged");
                    }
                    _ => {}
                }
            }
            assert!(batches <= 1, "{batches} batches at a time");
            assert!(outputs <= OUTPUTS_MAX, "{outputs} outputs for one input");
        }
        self.own.truncate(64);
    }
}
