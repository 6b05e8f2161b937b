//! Recovery: what some members of the old ring lack is sent again on the new ring, then the new
//! ring is installed on all members within the same rotation.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use quorate_types::NodeId;
use tracing::debug;

use super::{
    ConfigurationChange, Drop, Output, Reason, Ring, State,
    commit::lowest_aru,
    message::{self, CommitEntry, MembCommitToken, OrfToken, Packet},
    order::{Order, Stored, seq_le},
    token::Rotation,
};

/// Rotations without anything to recover before the last message is known.
const QUIET_ROTATIONS_TO_FIX: u32 = 2;
/// Rotations without anything to recover before the wait for all members begins.
const QUIET_ROTATIONS_TO_COUNT: u32 = 3;
/// Rotations in which all members have everything before the ring is installed.
const COMPLETE_ROTATIONS_TO_INSTALL: u32 = 2;

/// What only the recovery state needs.
#[derive(Debug)]
pub(super) struct Recovery {
    /// Messages of the installed ring: kept until the new one is installed.
    pub(super) old: Order,
    /// Members of the new ring (my_new_memb_list).
    pub(super) members: BTreeSet<NodeId>,
    /// The commit token as sent on in this state.
    pub(super) commit_token: MembCommitToken,
    /// The first token was sent (representative only).
    pub(super) originated: bool,
    /// Members of the old ring that came along (my_trans_memb_list).
    transitional: BTreeSet<NodeId>,
    /// Old messages that wait to be sent again.
    queue: VecDeque<Bytes>,
    retrans_flg_set: bool,
    quiet_rotations: u32,
    install_seq: u32,
    complete_rotations: u32,
}

impl Recovery {
    /// Takes the next old message to send again.
    pub(super) fn next_to_send(&mut self) -> Option<Bytes> {
        self.queue.pop_front()
    }

    /// Old messages that wait.
    pub(super) fn backlog(&self) -> usize {
        self.queue.len()
    }

    /// Whether a member was in the installed ring with this node and is the same process still.
    pub(super) fn came_along(&self, node: NodeId) -> bool {
        self.transitional.contains(&node)
    }

    /// Counts one token visit; true when the ring is to be installed.
    /// Source: Totem specification 5.2.
    fn count_visit(&mut self, token: &mut OrfToken) -> bool {
        if !self.queue.is_empty() {
            if token.retrans_flg == 0 {
                token.retrans_flg = 1;
                self.retrans_flg_set = true;
            }
        } else if token.retrans_flg == 1 && self.retrans_flg_set {
            token.retrans_flg = 0;
            self.retrans_flg_set = false;
        }
        self.quiet_rotations = if token.retrans_flg == 0 { self.quiet_rotations + 1 } else { 0 };
        if self.quiet_rotations == QUIET_ROTATIONS_TO_FIX {
            self.install_seq = token.seq;
        }
        let complete =
            self.quiet_rotations >= QUIET_ROTATIONS_TO_COUNT && seq_le(self.install_seq, token.aru);
        self.complete_rotations = if complete { self.complete_rotations + 1 } else { 0 };
        self.complete_rotations == COMPLETE_ROTATIONS_TO_INSTALL
    }
}

impl Ring {
    /// The commit token is complete. Source: Totem specification 5.1.
    pub(super) fn enter_recovery(&mut self, mut token: MembCommitToken) {
        token.nodeid = self.me;
        token.token_seq = token.token_seq.wrapping_add(1);

        let old = std::mem::replace(&mut self.order, Order::new(self.ring_id, self.params.initial_seq));
        let entries: Vec<(NodeId, CommitEntry)> =
            token.members.iter().copied().zip(token.entries.iter().copied()).collect();
        let came_along = |(node, entry): &&(NodeId, CommitEntry)| {
            self.members.contains(node) && entry.ring_id == old.ring_id
        };
        let together: Vec<_> = entries.iter().filter(came_along).collect();
        let mut queue = VecDeque::new();
        if together.iter().any(|(_, entry)| entry.received_flg == 0) {
            let low = lowest_aru(together.iter().map(|(_, entry)| *entry), old.high_seq_received);
            let wanted = |stored: &&Stored| !seq_le(stored.mcast.seq, low);
            queue = old.messages().filter(wanted).map(|stored| stored.raw.clone()).collect();
        }
        debug!(me = %self.me, ring = %self.ring_id, old = %old.ring_id, resend = queue.len(), "recovery");
        let recovery = Recovery {
            members: token.members.iter().copied().collect(),
            transitional: together.iter().map(|(node, _)| *node).collect(),
            queue,
            old,
            commit_token: token.clone(),
            originated: false,
            retrans_flg_set: false,
            quiet_rotations: 0,
            install_seq: self.params.initial_seq,
            complete_rotations: 0,
        };
        self.rotation = Rotation::new(self.params.initial_seq);
        self.change_state(State::Recovery(Box::new(recovery)), Reason::CommitTokenComplete);
        self.keep_pace();
        self.restart_token_timers();
        self.send_commit_token(token);
    }

    /// The commit token came round a second time: all members wait for the first token.
    pub(super) fn originate_orf_token(&mut self) {
        let State::Recovery(recovery) = &mut self.state else { return };
        recovery.originated = true;
        recovery.retrans_flg_set = !recovery.queue.is_empty();
        let initial = self.params.initial_seq;
        let token = OrfToken {
            nodeid: self.me,
            target_nodeid: 0,
            seq: initial,
            token_seq: initial,
            aru: initial.wrapping_sub(1),
            aru_addr: self.me.get(),
            ring_id: self.ring_id,
            backlog: 0,
            fcc: 0,
            retrans_flg: u32::from(recovery.retrans_flg_set),
            rtr: Vec::with_capacity(message::RTR_MAX),
        };
        self.restart_token_timers();
        self.pass_on(token);
    }

    /// The part of a token visit that only recovery has.
    pub(super) fn recover_on_visit(&mut self, token: &mut OrfToken) {
        if let State::Recovery(recovery) = &mut self.state
            && recovery.count_visit(token)
        {
            self.enter_operational();
        }
    }

    /// Installs the new ring: the rest of the old messages, the two configuration changes.
    /// Steps are those of Totem specification 5.3.
    fn enter_operational(&mut self) {
        let State::Recovery(recovery) = self.change_state(State::Operational, Reason::Recovered) else {
            unreachable!("only recovery installs a ring");
        };
        let Recovery { mut old, members, transitional, .. } = *recovery;
        // 2. What was recovered belongs to the old ring.
        self.unpack_recovered(&mut old);
        // 3. In order up to the first gap: the old regular configuration.
        while let Some(stored) = old.deliver_next() {
            let stored = stored.clone();
            self.deliver(&stored);
        }
        // 4. Who comes, who goes.
        let left = self.members.difference(&transitional).copied().collect();
        let joined = members.difference(&transitional).copied().collect();
        self.members = members;
        // 5., 6. The transitional configuration.
        self.configuration(ConfigurationChange::Transitional {
            ring: self.ring_id,
            members: transitional.iter().copied().collect(),
            left,
        });
        self.waiting_trans_ack = true;
        // 7. Beyond the gaps only messages of those who came along are certain to be with all.
        let rest: Vec<Stored> = old.messages().cloned().collect();
        for stored in rest.iter().filter(|s| !seq_le(s.mcast.seq, old.high_delivered)) {
            if transitional.contains(&stored.mcast.system_from) {
                self.deliver(stored);
            }
        }
        // 9. The regular configuration.
        self.configuration(ConfigurationChange::Regular {
            ring: self.ring_id,
            members: self.members.iter().copied().collect(),
            joined,
        });
        // 10. The new ring's messages go on after those that carried the recovered ones.
        self.order.release_recovered();
        self.rotation.last_aru = self.params.initial_seq;
        self.proc_list.clone_from(&self.members);
        self.failed_list.clear();
        self.forget_fast_members(|node| transitional.contains(node));
        self.keep_pace();
    }

    fn configuration(&mut self, change: ConfigurationChange) {
        self.outputs.push_back(Output::Configuration(change));
    }

    /// Adds the recovered messages of the old ring to those that are there.
    pub(super) fn unpack_recovered(&mut self, old: &mut Order) {
        let recovered: Vec<Bytes> = self
            .order
            .messages()
            .filter(|stored| stored.mcast.encapsulated)
            .map(|stored| stored.mcast.payload.clone())
            .collect();
        for raw in recovered {
            match message::decode(&raw) {
                Ok(Packet::Mcast(mcast)) => {
                    // Members of other old rings recover their own messages: not ours. Nor is one whose
                    // originator never was in the old ring.
                    if mcast.ring_id == old.ring_id && self.members.contains(&mcast.nodeid) {
                        // A copy of what is here already is the usual case.
                        let _ = old.receive(Stored { raw, mcast });
                    }
                }
                _ => self.drop_packet(Drop::BadRecovered),
            }
        }
    }
}
