//! What membershipd sends and receives, as the checkers see it, and as a mutation spoils it.

use std::time::Instant;

use bytes::Bytes;
use membership_core::{
    srp::{
        Destination, RingProgress,
        message::{OrfToken, Packet, TYPE_MCAST, TYPE_OFFSET, decode, encode},
    },
    stack::Input,
};

use super::{Effect, MembershipDaemon};
use crate::{
    history::{Event, Holdings, Token},
    mutation::Mutation,
    rng::MILLION,
};

/// Decodes what is no message: messages are many, and judged where they are delivered.
fn control(packet: &Bytes) -> Option<Packet> {
    if packet.get(TYPE_OFFSET) == Some(&TYPE_MCAST) { None } else { decode(packet).ok() }
}

impl MembershipDaemon {
    /// A datagram has arrived.
    pub(super) fn receive(&mut self, now: Instant, packet: Bytes) {
        let control = self.mutation.and_then(|mutation| Some((mutation, control(&packet)?)));
        let packet = match control {
            Some((Mutation::IgnoreJoins, Packet::MembJoin(_))) => return,
            Some((Mutation::ReleaseEarly, Packet::OrfToken(mut token))) => {
                token.aru = token.seq;
                encode(&Packet::OrfToken(token))
            }
            _ => packet,
        };
        self.input(now, Input::Datagram(packet));
    }

    /// A datagram leaves.
    pub(super) fn send(&mut self, to: Destination, packet: Bytes) {
        let Some(control) = control(&packet) else {
            return self.effects.push_back(Effect::Send { to, packet });
        };
        let Some(mutation) = self.mutation else {
            return self.send_control(to, &control, packet);
        };
        for control in self.spoil(mutation, control) {
            let packet = encode(&control);
            self.send_control(to, &control, packet);
        }
    }

    fn send_control(&mut self, to: Destination, control: &Packet, packet: Bytes) {
        self.effects.extend(self.seen(control).map(Effect::Watch));
        self.effects.push_back(Effect::Send { to, packet });
    }

    fn seen(&self, control: &Packet) -> Option<Event> {
        Some(match control {
            Packet::OrfToken(token) => {
                let OrfToken { ring_id: ring, token_seq, seq, aru, .. } = *token;
                // A daemon that was paused can send the token that it held and lose patience within one input.
                // What it has is then that of the ring before, which says nothing about this one.
                let RingProgress { ring: of, aru: own_aru, released } = self.stack.progress();
                let own = (of == ring).then_some(Holdings { aru: own_aru, released });
                Event::Token(Token { ring, token_seq, seq, aru, own })
            }
            Packet::MembCommitToken(token) => Event::CommitToken {
                ring: token.ring_id,
                token_seq: token.token_seq,
                members: token.members.clone(),
            },
            Packet::MembJoin(join) => {
                Event::Join { known: join.proc_list.clone(), failed: join.failed_list.clone() }
            }
            _ => return None,
        })
    }

    /// What leaves instead of this packet.
    fn spoil(&mut self, mutation: Mutation, mut control: Packet) -> Vec<Packet> {
        match (mutation, &mut control) {
            (Mutation::RaiseAru, Packet::OrfToken(token)) if self.strikes() => token.aru = token.seq,
            (Mutation::LowerTokenSeq, Packet::OrfToken(token)) if self.strikes() => {
                token.seq = token.seq.wrapping_sub(1);
            }
            (Mutation::ForkToken, Packet::OrfToken(token)) if self.strikes() => {
                let mut second = token.clone();
                second.token_seq = second.token_seq.wrapping_add(1);
                return vec![control, Packet::OrfToken(second)];
            }
            (Mutation::SkipCommitRound, Packet::MembCommitToken(token))
                if token.ring_id.rep == self.me.get() && token.memb_index > 1 =>
            {
                let mut returned = token.clone();
                returned.token_seq = returned.token_seq.wrapping_add(1);
                self.returned = Some(encode(&Packet::MembCommitToken(returned)));
            }
            (Mutation::ForgetFailed, Packet::MembJoin(join))
                if !join.is_leave() && self.rng.chance(MILLION / 2) =>
            {
                join.failed_list.clear();
            }
            _ => {}
        }
        vec![control]
    }
}
