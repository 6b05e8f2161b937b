//! The membership of node 2 of three: whatever the others send, in whatever order, it goes on; what it puts out for
//! one input and what it keeps are bounded, and nobody is in its tables who is not in its ring.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use bytes::Bytes;
use membership_core::{
    cpg::GroupName,
    feature,
    service::VOTEQUORUM,
    srp::{
        Guarantee, Params, StateName,
        message::{
            CommitEntry, Mcast, MembCommitToken, MembJoin, MembMergeDetect, OrfToken, Packet, RtrItem,
            TokenHoldCancel, decode, encode,
        },
    },
    stack::{Input, LeaveReason, Output, ServiceEvent, Stack, StackConfig},
};
use quorate_types::{NodeId, RingId};

use crate::{feed::Feed, heap};

const ME: u32 = 2;
const NODES: u8 = 3;
/// What one input may make this node send: the messages of a token visit, the token, joins.
const SENDS_MAX: usize = 64;
/// Inputs in one run.
const STEPS_MAX: usize = 400;
/// Timers that may be due at one moment.
const TIMERS_AT_ONCE_MAX: usize = 8;

/// See the module.
pub fn check(input: &[u8]) {
    heap::within((48 << 20) + 64 * input.len(), || Harness::new(&mut Feed(input)).run());
}

fn id(n: u32) -> NodeId {
    NodeId::new(n).expect("not 0")
}

struct Harness<'a, 'b> {
    feed: &'a mut Feed<'b>,
    stack: Stack,
    now: Instant,
    /// The last token that went out: the one that comes next may be like it.
    token: Option<OrfToken>,
    commit: Option<MembCommitToken>,
    left: bool,
}

impl<'a, 'b> Harness<'a, 'b> {
    fn new(feed: &'a mut Feed<'b>) -> Self {
        let bits = feed.byte();
        let initial_seq = if bits & 1 == 0 { 0 } else { 0xffff_ffe0 };
        let stack = Stack::new(StackConfig {
            me: id(ME),
            members: (1..=u32::from(NODES)).map(id).collect(),
            params: Params { initial_seq, ..Params::default() },
            config_version: u64::from(bits >> 1 & 1),
            feature_level: (bits & 4 == 0).then_some(feature::LEVEL),
            seed: 7,
        });
        Self { feed, stack, now: Instant::now(), token: None, commit: None, left: false }
    }

    fn run(mut self) {
        self.input(Input::Start { stored_ring_seq: 8 });
        for _ in 0..STEPS_MAX {
            if self.feed.is_empty() {
                break;
            }
            self.step();
            self.look();
        }
        // It still works: alone or not, its timers lead somewhere.
        for _ in 0..20 {
            self.timer();
        }
    }

    fn step(&mut self) {
        let op = self.feed.byte();
        match op % 32 {
            0..=3 => self.timer(),
            4 => {
                self.now += Duration::from_millis(u64::from(self.feed.short()));
                self.input(Input::Timer);
            }
            5..=8 => {
                let datagram = self.feed.piece();
                self.input(Input::Datagram(datagram));
            }
            9..=14 => self.recorded(op),
            15..=18 => self.send_token(),
            19 | 20 => self.send_commit(),
            21 | 22 => self.send_join(op),
            23 | 24 => self.send_message(op),
            25 => {
                let (from, ring_id) = (self.feed.node(NODES), self.ring());
                let packet = match op >> 5 & 1 {
                    0 => Packet::TokenHoldCancel(TokenHoldCancel { nodeid: from, target_nodeid: 0, ring_id }),
                    _ => {
                        let ring_id = RingId { rep: from.get(), seq: self.feed.long() };
                        let detect =
                            MembMergeDetect { nodeid: from, target_nodeid: 0, system_from: from, ring_id };
                        Packet::MembMergeDetect(detect)
                    }
                };
                self.input(Input::Datagram(encode(&packet)));
            }
            26 => self.form(),
            _ => self.request(op),
        }
    }

    /// A recorded packet, moved to the present ring.
    fn recorded(&mut self, op: u8) {
        let datagram = self.feed.piece();
        let ring = self.stack.status().ring;
        let Ok(packet) = decode(&datagram) else { return self.input(Input::Datagram(datagram)) };
        let packet = match packet {
            Packet::Mcast(mut mcast) => {
                mcast.ring_id = ring.ring;
                if op & 32 == 0 {
                    mcast.seq = ring.high_seq_received.wrapping_add(1);
                }
                Packet::Mcast(mcast)
            }
            Packet::OrfToken(mut token) => {
                token.ring_id = ring.ring;
                Packet::OrfToken(token)
            }
            Packet::MembJoin(mut join) => {
                join.ring_seq = ring.ring.seq;
                Packet::MembJoin(join)
            }
            other => other,
        };
        self.input(Input::Datagram(encode(&packet)));
    }

    fn ring(&mut self) -> RingId {
        let ring = self.stack.status().ring.ring;
        match self.feed.byte() {
            255 => RingId { rep: self.feed.byte().into(), seq: self.feed.long() },
            254 => RingId { seq: ring.seq.wrapping_add(4), ..ring },
            253 => RingId { seq: ring.seq.wrapping_sub(4), ..ring },
            _ => ring,
        }
    }

    /// A number near to the present one, or any.
    fn near(&mut self, present: u32) -> u32 {
        match self.feed.byte() {
            255 => self.feed.word(),
            254 => present.wrapping_add(self.feed.short().into()),
            253 => present.wrapping_sub(self.feed.short().into()),
            252 => present ^ 0x8000_0000,
            step => present.wrapping_add(u32::from(step % 5)).wrapping_sub(u32::from(step / 5 % 2)),
        }
    }

    fn send_token(&mut self) {
        let ring_id = self.ring();
        let high = self.stack.status().ring.high_seq_received;
        let last = self.token.clone();
        let sent = |field: fn(&OrfToken) -> u32| last.as_ref().map_or(0, field);
        let requests = match self.feed.byte() {
            few @ 0..=3 => few,
            many @ 250..=255 => 25 + (many - 250),
            _ => 0,
        };
        let token = OrfToken {
            nodeid: self.feed.node(NODES),
            target_nodeid: 0,
            seq: self.near(high),
            token_seq: self.near(sent(|token| token.token_seq).wrapping_add(1)),
            aru: self.near(high),
            aru_addr: u32::from(self.feed.byte() % 4),
            ring_id,
            backlog: self.near(sent(|token| token.backlog)),
            fcc: self.near(sent(|token| token.fcc)),
            retrans_flg: u32::from(self.feed.byte() & 1),
            rtr: (0..requests).map(|_| RtrItem { ring_id: self.ring(), seq: self.near(high) }).collect(),
        };
        self.input(Input::Datagram(encode(&Packet::OrfToken(token))));
    }

    fn members(&mut self) -> Vec<NodeId> {
        let bits = u32::from(self.feed.byte());
        let members: BTreeSet<_> =
            (1..=8).filter(|n| bits >> (n - 1) & 1 == 1).map(id).chain([id(ME)]).collect();
        members.into_iter().collect()
    }

    fn send_commit(&mut self) {
        let token = match self.commit.clone() {
            // The one that this node sent, come round.
            Some(mut token) if self.feed.byte() < 200 => {
                token.token_seq = self.near(token.token_seq.wrapping_add(1));
                token.memb_index = token.members.len() as u32;
                for entry in &mut token.entries {
                    if *entry == CommitEntry::default() {
                        entry.ring_id = RingId { rep: self.feed.byte().into(), seq: 8 };
                        entry.aru = self.feed.byte().into();
                        entry.received_flg = u32::from(self.feed.byte() & 1);
                    }
                }
                token
            }
            _ => {
                let members = self.members();
                let seq = self.stack.status().ring.ring.seq.wrapping_add(4);
                let ring_id = RingId { rep: members[0].get(), seq };
                let high = self.stack.status().ring.high_seq_received;
                let entries = members.iter().map(|member| CommitEntry {
                    ring_id: self.stack.status().ring.ring,
                    aru: if *member == id(ME) { 0 } else { high },
                    high_delivered: high,
                    received_flg: 0,
                });
                let index = members.iter().position(|member| *member == id(ME));
                let entries = entries.collect();
                let memb_index = index.unwrap_or_default() as u32;
                let nodeid = self.feed.node(NODES);
                let token_seq = self.near(0);
                MembCommitToken {
                    nodeid,
                    target_nodeid: 0,
                    token_seq,
                    ring_id,
                    retrans_flg: 0,
                    memb_index,
                    members,
                    entries,
                }
            }
        };
        self.input(Input::Datagram(encode(&Packet::MembCommitToken(token))));
    }

    fn send_join(&mut self, op: u8) {
        let system_from = self.feed.node(NODES);
        let seq = self.stack.status().ring.ring.seq;
        let join = MembJoin {
            nodeid: (op & 32 == 0).then_some(system_from),
            target_nodeid: 0,
            system_from,
            ring_seq: if op & 64 == 0 { seq } else { self.feed.long() >> 1 },
            proc_list: self.members(),
            failed_list: if op & 128 == 0 { Vec::new() } else { self.members() },
        };
        self.input(Input::Datagram(encode(&Packet::MembJoin(join))));
    }

    fn send_message(&mut self, op: u8) {
        let high = self.stack.status().ring.high_seq_received;
        let (nodeid, ring_id) = (id(1 + u32::from(self.feed.byte() % 6)), self.ring());
        let mcast = Mcast {
            nodeid,
            target_nodeid: 0,
            encapsulated: op & 32 != 0,
            system_from: if op & 64 == 0 { nodeid } else { self.feed.node(NODES) },
            seq: self.near(high.wrapping_add(1)),
            this_seqno: 0,
            ring_id,
            node_id: 0,
            guarantee: u32::from(op >> 7),
            payload: self.feed.piece(),
        };
        self.input(Input::Datagram(encode(&Packet::Mcast(mcast))));
    }

    /// The others do what they must, so that a ring of `members` is formed.
    fn form(&mut self) {
        let members = self.members();
        for from in members.iter().copied().filter(|member| *member != id(ME)) {
            let gathering = self.stack.status().ring;
            let join = MembJoin {
                nodeid: Some(from),
                target_nodeid: 0,
                system_from: from,
                ring_seq: gathering.ring.seq,
                proc_list: members
                    .iter()
                    .copied()
                    .chain(gathering.gathering)
                    .collect::<BTreeSet<_>>()
                    .into_iter()
                    .collect(),
                failed_list: gathering.failed,
            };
            self.input(Input::Datagram(encode(&Packet::MembJoin(join))));
        }
        for _ in 0..40 {
            let status = self.stack.status().ring;
            match status.state {
                StateName::Gather if status.gathering.first() != Some(&id(ME)) => {
                    let members: Vec<_> =
                        status.gathering.iter().copied().filter(|n| !status.failed.contains(n)).collect();
                    let Some(index) = members.iter().position(|n| *n == id(ME)) else { return };
                    let token = MembCommitToken {
                        nodeid: members[0],
                        target_nodeid: 0,
                        token_seq: 1,
                        ring_id: RingId { rep: members[0].get(), seq: status.ring.seq.wrapping_add(4) },
                        retrans_flg: 0,
                        memb_index: index as u32,
                        entries: vec![CommitEntry::default(); members.len()],
                        members,
                    };
                    self.input(Input::Datagram(encode(&Packet::MembCommitToken(token))));
                }
                StateName::Commit | StateName::Recovery if self.token.is_none() => {
                    let Some(mut token) = self.commit.clone() else { return };
                    token.token_seq = token.token_seq.wrapping_add(1);
                    token.memb_index = token.members.len() as u32;
                    self.input(Input::Datagram(encode(&Packet::MembCommitToken(token))));
                    if status.state == StateName::Recovery && !status.representative {
                        self.first_token(status.ring);
                    }
                }
                StateName::Recovery | StateName::Operational => {
                    let Some(mut token) = self.token.clone() else { return };
                    token.token_seq = token.token_seq.wrapping_add(1);
                    self.input(Input::Datagram(encode(&Packet::OrfToken(token))));
                    if status.state == StateName::Operational {
                        return;
                    }
                }
                _ => return,
            }
        }
    }

    fn first_token(&mut self, ring_id: RingId) {
        let initial = self.stack.status().ring.high_seq_received;
        let token = OrfToken {
            nodeid: id(1),
            target_nodeid: 0,
            seq: initial,
            token_seq: initial,
            aru: initial,
            aru_addr: 0,
            ring_id,
            backlog: 0,
            fcc: 0,
            retrans_flg: 0,
            rtr: Vec::new(),
        };
        self.input(Input::Datagram(encode(&Packet::OrfToken(token))));
    }

    fn request(&mut self, op: u8) {
        let client = u64::from(self.feed.byte() % 4);
        let group = GroupName::new([b'a' + op % 3]).expect("one byte");
        let input = match self.feed.byte() % 16 {
            0..=3 => {
                let delivery = if op & 128 == 0 { Guarantee::Agreed } else { Guarantee::Safe };
                Input::GroupJoin { client, pid: 7 + client as u32, group, delivery }
            }
            4..=7 => {
                Input::GroupMulticast { client, payload: vec![op; usize::from(self.feed.short())].into() }
            }
            8 => Input::GroupLeave { client, reason: LeaveReason::Leave },
            9 => Input::GroupLeave { client, reason: LeaveReason::ProcessDown },
            10 => Input::ServiceAttach { service: VOTEQUORUM },
            11 => Input::ServiceDetach { service: VOTEQUORUM },
            12 => Input::ReloadConfig,
            13 => Input::CryptoReconfig { phase: 1 },
            14 => Input::KillNode { node: self.feed.node(NODES), reason: "fuzz".to_owned() },
            _ => {
                self.left |= op & 128 != 0;
                if self.left { Input::Leave } else { Input::Timer }
            }
        };
        self.input(input);
    }

    fn timer(&mut self) {
        let Some(deadline) = self.stack.next_deadline() else {
            assert!(self.left, "a started stack always waits for something");
            return;
        };
        self.now = self.now.max(deadline);
        for _ in 0..TIMERS_AT_ONCE_MAX {
            self.input(Input::Timer);
            let is_alone = self.stack.status().ring.members.len() <= 1;
            if is_alone || self.stack.next_deadline() > Some(self.now) {
                return;
            }
        }
        assert!(self.left || self.stack.next_deadline() > Some(self.now), "a timer that is never done");
    }

    fn input(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            self.stack.handle_input(self.now, input);
            let mut sends = 0;
            while let Some(output) = self.stack.poll_output() {
                match output {
                    Output::Send { packet, .. } => {
                        sends += 1;
                        self.note(&packet);
                    }
                    Output::StoreRingSeq(ring_seq) => inputs.push(Input::Stored { ring_seq }),
                    Output::Service { service, event: ServiceEvent::SyncStarted { ring, .. } } => {
                        inputs.push(Input::SyncMessages { service, ring, messages: Vec::new() });
                    }
                    _ => {}
                }
            }
            assert!(sends <= SENDS_MAX, "{sends} datagrams for one input");
        }
    }

    /// What this node sends, it can read itself.
    fn note(&mut self, packet: &Bytes) {
        match decode(packet) {
            Ok(Packet::OrfToken(token)) => self.token = Some(token),
            Ok(Packet::MembCommitToken(token)) => {
                self.commit = Some(token);
                self.token = None;
            }
            Ok(_) => {}
            Err(reason) => panic!("this node sent what it would drop as {}", reason.name()),
        }
    }

    fn look(&mut self) {
        let status = self.stack.status();
        let known: BTreeSet<_> = status.ring.members.iter().copied().collect();
        assert!(status.ring.gathering.len() <= 384 && status.ring.failed.len() <= 384 + 1);
        assert!(status.config_versions.len() <= known.len().max(1), "versions of strangers");
        assert!(status.feature_levels.keys().all(|node| known.contains(node)), "features of strangers");
        if status.synchronised {
            let groups = self.stack.groups().groups();
            let strangers =
                groups.flat_map(|(_, of)| of).filter(|member| !known.contains(&member.node)).count();
            assert_eq!(strangers, 0, "strangers in groups");
        }
    }
}
