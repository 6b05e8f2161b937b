//! Commit: the commit token goes round and collects what each member has.

use quorate_types::{NodeId, RingId};

use super::{
    Destination, Drop, Output, OwnCopy, Reason, Ring, State,
    flow::Flow,
    message::{CommitEntry, MembCommitToken},
    order::{seq_lt, seq_min},
    timer::Timer,
};

/// What only the commit state needs.
#[derive(Debug)]
pub(super) struct Commit {
    /// The commit token as this node sent it, or will send it once the ring sequence is stored.
    token: MembCommitToken,
    stored: bool,
}

impl Commit {
    /// The members of the ring to be, ascending.
    pub(super) fn members(&self) -> &[NodeId] {
        &self.token.members
    }
}

impl Ring {
    /// All agreed and this node is the representative: propose the ring.
    pub(super) fn create_commit_token(&mut self) {
        let members: Vec<NodeId> = self.candidates().collect();
        let token = MembCommitToken {
            nodeid: self.me,
            target_nodeid: 0,
            token_seq: 0,
            ring_id: RingId::new(self.me, self.token_ring_id_seq + 4),
            retrans_flg: 0,
            memb_index: 0,
            entries: vec![CommitEntry::default(); members.len()],
            members,
        };
        self.enter_commit(token, Reason::Consensus);
    }

    /// A commit token arrived. Source: Totem specification 4.4.
    pub(super) fn handle_commit_token(&mut self, token: MembCommitToken) {
        match &self.state {
            State::Stopped | State::Operational => self.drop_packet(Drop::WrongState),
            State::Gather(_) => {
                let mine = token.members.get(token.memb_index as usize) == Some(&self.me);
                let agreed = token.members.iter().copied().eq(self.candidates());
                if mine && agreed && token.ring_id.seq > self.ring_id.seq {
                    self.enter_commit(token, Reason::CommitTokenReceived);
                } else {
                    self.drop_packet(Drop::UnexpectedCommitToken);
                }
            }
            State::Commit(commit) => {
                let complete = token.memb_index as usize == token.members.len();
                let newer = seq_lt(commit.token.token_seq, token.token_seq)
                    || token.members.len() == 1 && commit.token.token_seq == token.token_seq;
                let same = token.ring_id == self.ring_id && token.members == commit.token.members;
                if same && complete && newer && commit.stored {
                    self.enter_recovery(token);
                } else {
                    self.drop_packet(Drop::DuplicateToken);
                }
            }
            State::Recovery(recovery) => {
                // Differs: only the copy that went round in recovery starts the ring. In corosync a
                // retransmission of the first rotation does too, when the others are not ready yet.
                let newer =
                    seq_lt(recovery.commit_token.token_seq, token.token_seq) || token.members.len() == 1;
                let same = token.ring_id == self.ring_id && token.members == recovery.commit_token.members;
                if self.is_representative() && same && newer && !recovery.originated {
                    self.originate_orf_token();
                } else {
                    self.drop_packet(Drop::DuplicateToken);
                }
            }
        }
    }

    /// Fills this node's entry and takes over the new ring id. The commit token leaves once the
    /// ring sequence is on stable storage.
    fn enter_commit(&mut self, mut token: MembCommitToken, reason: Reason) {
        self.fill_entry(&mut token);
        token.nodeid = self.me;
        token.token_seq = token.token_seq.wrapping_add(1);
        self.ring_id = token.ring_id;
        self.token_ring_id_seq = token.ring_id.seq;
        self.flow = Flow::default();
        self.cancel_timers(&[Timer::Join, Timer::SendJoin, Timer::Consensus]);
        self.change_state(State::Commit(Box::new(Commit { token, stored: false })), reason);
        self.keep_pace();
        self.restart_token_timers();
        self.outputs.push_back(Output::StoreRingSeq(self.ring_id.seq));
    }

    fn fill_entry(&self, token: &mut MembCommitToken) {
        let index = token.memb_index as usize;
        let order = &self.order;
        token.entries[index] = CommitEntry {
            ring_id: order.ring_id,
            aru: order.aru,
            high_delivered: order.high_delivered,
            received_flg: u32::from(order.aru == order.high_seq_received),
        };
        let same_ring = |entry: &CommitEntry| entry.ring_id == order.ring_id;
        let filled = &mut token.entries[..=index];
        let later = |a: u32, b: u32| if seq_lt(a, b) { b } else { a };
        let high_aru = filled.iter().filter(|e| same_ring(e)).map(|e| e.aru).fold(order.aru, later);
        for entry in filled.iter_mut().filter(|e| same_ring(e) && seq_lt(e.aru, high_aru)) {
            entry.received_flg = 0;
        }
        token.memb_index += 1;
    }

    /// The ring sequence is stored: a crash can no longer make this node use it again.
    pub(super) fn handle_stored(&mut self, ring_seq: u64) {
        if let State::Commit(commit) = &mut self.state
            && ring_seq == self.ring_id.seq
            && !commit.stored
        {
            commit.stored = true;
            let token = commit.token.clone();
            self.send_commit_token(token);
        }
    }

    /// Sends the commit token to the next member, or keeps it on a ring of one.
    pub(super) fn send_commit_token(&mut self, mut token: MembCommitToken) {
        self.stats.memb_commit_token.tx += 1;
        let next = self.next_in(&token.members);
        if next == self.me {
            self.own_copies.push_back(OwnCopy::CommitToken(token));
        } else {
            // For knet, which routes by it; elsewhere the field has no meaning.
            token.target_nodeid = next.get();
            let packet = token.encode();
            if matches!(self.state, State::Recovery(_)) {
                self.rotation.remember(next, packet.clone());
            }
            self.send(Destination::Node(next), packet);
        }
    }

    /// The member after this node in ring order.
    pub(super) fn next_in(&self, members: &[NodeId]) -> NodeId {
        let after = members.iter().find(|n| **n > self.me).or(members.first());
        *after.expect("this node is a member of its own ring")
    }

    /// The commit token may be lost: send it again, unless it waits for storage.
    pub(super) fn retransmit_commit_token(&mut self) {
        if let State::Commit(commit) = &self.state
            && commit.stored
        {
            let token = commit.token.clone();
            self.stats.token_retx += 1;
            self.send_commit_token(token);
        }
    }
}

/// The lowest aru of those that came from the same old ring: from there on messages are exchanged.
pub(super) fn lowest_aru(entries: impl Iterator<Item = CommitEntry>, high_seq: u32) -> u32 {
    entries.map(|entry| entry.aru).fold(high_seq, seq_min)
}
