//! The sender: staged messages become packets when the token comes.
//!
//! One packer per phase, so that an unfinished fragment of an application message never stands in
//! the way of synchronisation. Messages wait whole and are cut at the moment of sending, so a
//! packet is as full as what waits allows.
//!
//! Differs from corosync, which cuts while it stages; any split is legal for a receiver.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

use super::{Group, packet::PACKET_HEADER, packet::put_header};
use crate::srp::Guarantee;

/// A message is not begun in less room than this, in bytes: a short piece costs more than it saves.
const FRAGMENT_MIN: usize = 64;

/// Collects messages and cuts them into packets.
#[derive(Debug)]
pub struct Packer {
    payload_max: usize,
    waiting: VecDeque<Staged>,
    /// Bytes of all messages not yet sent.
    staged_bytes: usize,
    /// Bytes of the first message that earlier packets carried.
    sent: usize,
    /// Fragment number of the last packet when the first message is partly sent, else 0.
    continuation: u8,
    /// The rest of the partly sent message travels alone.
    isolate: bool,
}

/// One message: group header, service header and body, kept apart so that no body is copied twice.
#[derive(Debug)]
struct Staged {
    group: Group,
    head: Bytes,
    body: Bytes,
    guarantee: Guarantee,
}

/// How much a packet must hold to be worth sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// Whatever waits leaves now: the token is here.
    Any,
    /// Only full packets: others still wait in front, so there is time to fill up.
    Full,
}

impl Packer {
    /// A packer for packets of at most `payload_max` bytes (the ring's net MTU).
    ///
    /// # Panics
    /// When there is no room for a fragment.
    #[must_use]
    pub fn new(payload_max: usize) -> Self {
        let mut packer = Self {
            payload_max: 0,
            waiting: VecDeque::new(),
            staged_bytes: 0,
            sent: 0,
            continuation: 0,
            isolate: false,
        };
        packer.set_payload_max(payload_max);
        packer
    }

    /// Changes the size of packets from the next one on.
    ///
    /// # Panics
    /// When there is no room for a fragment.
    pub fn set_payload_max(&mut self, payload_max: usize) {
        assert!(payload_max >= PACKET_HEADER + 2 + FRAGMENT_MIN, "a packet must have room for a fragment");
        self.payload_max = payload_max.min(PACKET_HEADER + 2 + usize::from(u16::MAX));
    }

    /// Adds a message at the end. `head` and `body` travel as one.
    pub fn stage(&mut self, group: Group, head: Bytes, body: Bytes, guarantee: Guarantee) {
        let message = Staged { group, head, body, guarantee };
        self.staged_bytes += message.len();
        self.waiting.push_back(message);
    }

    /// Bytes that wait, group headers included.
    #[must_use]
    pub fn staged_bytes(&self) -> usize {
        self.staged_bytes
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Forgets what waits, except the rest of a message that receivers already have the start of.
    pub fn clear_unsent(&mut self) {
        self.waiting.truncate(usize::from(self.sent > 0));
        self.staged_bytes = self.waiting.iter().map(Staged::len).sum::<usize>() - self.sent;
    }

    /// The membership changed: the rest of a partly sent message shares its packet with nothing,
    /// because new members cannot assemble it and corosync drops such packets whole.
    pub fn isolate_continuation(&mut self) {
        self.isolate = self.sent > 0;
    }

    /// Cuts the next packet, with the strongest guarantee that one of its messages asked for.
    pub fn next_packet(&mut self, fill: Fill) -> Option<(Bytes, Guarantee)> {
        let room = self.payload_max - PACKET_HEADER;
        if self.waiting.is_empty() || (fill == Fill::Full && self.staged_bytes < room) {
            return None;
        }
        let plan = self.plan(room);
        // As long as it gets: receivers keep slices of it for as long as they need the message.
        let size = PACKET_HEADER + plan.lengths.iter().map(|length| 2 + length).sum::<usize>();
        let mut out = BytesMut::with_capacity(size);
        let fragmented = if plan.cut { next_fragment(self.continuation) } else { 0 };
        put_header(&mut out, fragmented, self.continuation, plan.lengths.iter().copied());
        let guarantee = self.copy_pieces(&mut out, &plan.lengths);
        self.continuation = fragmented;
        debug_assert!(out.len() <= self.payload_max, "a packet never exceeds its limit");
        Some((out.freeze(), guarantee))
    }

    /// Chooses the pieces of the next packet: their lengths, and whether the last one is cut.
    fn plan(&self, mut room: usize) -> Plan {
        let mut plan = Plan { lengths: Vec::new(), cut: false };
        let mut sent = self.sent;
        for message in &self.waiting {
            let remaining = message.len() - sent;
            let space = room.saturating_sub(2);
            let begins = !plan.lengths.is_empty();
            let stays_whole = message.is_control() && message.len() + 2 <= self.payload_max - PACKET_HEADER;
            if begins && remaining > space && (space < FRAGMENT_MIN || stays_whole) {
                break;
            }
            let length = remaining.min(space);
            plan.lengths.push(length);
            plan.cut = length < remaining;
            room -= 2 + length;
            if plan.cut || room < 2 || (sent > 0 && self.isolate) {
                break;
            }
            sent = 0;
        }
        plan
    }

    fn copy_pieces(&mut self, out: &mut BytesMut, lengths: &[usize]) -> Guarantee {
        let mut guarantee = Guarantee::Agreed;
        for &length in lengths {
            let front = self.waiting.front().expect("a piece was planned for every message in order");
            if front.guarantee == Guarantee::Safe {
                guarantee = Guarantee::Safe;
            }
            front.copy(self.sent, length, out);
            self.sent += length;
            self.staged_bytes -= length;
            if self.sent == front.len() {
                self.waiting.pop_front();
                self.sent = 0;
                self.isolate = false;
            }
        }
        guarantee
    }
}

struct Plan {
    lengths: Vec<usize>,
    cut: bool,
}

impl Staged {
    fn blocks(&self) -> [&[u8]; 3] {
        [self.group.header(), &self.head, &self.body]
    }

    fn len(&self) -> usize {
        self.blocks().iter().map(|block| block.len()).sum()
    }

    /// A message of a service itself, not of a client: a join or leave of a process, votes. It is never
    /// cut if it fits into a packet: nodes that join between two fragments could not assemble it, and would
    /// never learn what the others know.
    fn is_control(&self) -> bool {
        self.body.is_empty()
    }

    /// Copies `length` bytes from offset `start` of the message.
    fn copy(&self, mut start: usize, mut length: usize, out: &mut BytesMut) {
        for block in self.blocks() {
            let from = start.min(block.len());
            let take = length.min(block.len() - from);
            out.put_slice(&block[from..from + take]);
            start -= from;
            length -= take;
        }
    }
}

/// Fragment numbers run from 1 to 255 and start again at 1; 0 means "not fragmented".
fn next_fragment(continuation: u8) -> u8 {
    continuation.checked_add(1).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::Packet;

    fn stage(packer: &mut Packer, length: usize) {
        packer.stage(Group::Service, Bytes::new(), vec![7; length].into(), Guarantee::Agreed);
    }

    fn next(packer: &mut Packer) -> Packet {
        let (wire, _) = packer.next_packet(Fill::Any).expect("something waits");
        Packet::from_wire(&wire).expect("own packets decode")
    }

    fn lengths(packet: &Packet) -> Vec<usize> {
        packet.pieces.iter().map(Bytes::len).collect()
    }

    #[test]
    fn a_control_message_is_never_cut_when_it_fits_into_a_packet() {
        // given a client's message that leaves some room, and a control message that needs more
        let mut packer = Packer::new(1410);
        stage(&mut packer, 1200);
        packer.stage(Group::Service, vec![1; 300].into(), Bytes::new(), Guarantee::Agreed);
        // when both are sent
        let (first, second) = (next(&mut packer), next(&mut packer));
        // then each has a packet of its own
        assert_eq!((lengths(&first), first.fragmented), (vec![1205], 0));
        assert_eq!((lengths(&second), second.continuation), (vec![305], 0));
        // and one that is larger than a packet is cut all the same
        packer.stage(Group::Service, vec![1; 1568].into(), Bytes::new(), Guarantee::Agreed);
        assert_eq!(next(&mut packer).fragmented, 1);
    }

    #[test]
    fn small_messages_share_a_packet() {
        // given three small messages
        let mut packer = Packer::new(1410);
        for length in [0, 10, 20] {
            stage(&mut packer, length);
        }
        // when the token comes
        let packet = next(&mut packer);
        // then all are in one packet
        assert_eq!((lengths(&packet), packet.fragmented), (vec![5, 15, 25], 0));
        assert!(packer.is_empty());
        assert_eq!(packer.staged_bytes(), 0);
    }

    #[test]
    fn a_large_message_is_cut_and_the_next_one_follows_its_tail() {
        let mut packer = Packer::new(1410);
        stage(&mut packer, 2000);
        stage(&mut packer, 10);
        let (first, second) = (next(&mut packer), next(&mut packer));
        assert_eq!((lengths(&first), first.fragmented, first.continuation), (vec![1400], 1, 0));
        assert_eq!((lengths(&second), second.fragmented, second.continuation), (vec![605, 15], 0, 1));
    }

    #[test]
    fn after_a_membership_change_the_tail_travels_alone() {
        let mut packer = Packer::new(1410);
        stage(&mut packer, 2000);
        stage(&mut packer, 10);
        next(&mut packer);
        // when members join between the two fragments
        packer.isolate_continuation();
        // then no complete message can be lost with the tail
        assert_eq!(lengths(&next(&mut packer)), vec![605]);
        assert_eq!(lengths(&next(&mut packer)), vec![15]);
    }

    #[test]
    fn clearing_keeps_the_rest_of_a_message_that_is_partly_sent() {
        let mut packer = Packer::new(1410);
        stage(&mut packer, 2000);
        stage(&mut packer, 10);
        next(&mut packer);
        packer.clear_unsent();
        assert_eq!(packer.staged_bytes(), 605);
        assert_eq!(lengths(&next(&mut packer)), vec![605]);
        assert!(packer.is_empty());
    }

    #[test]
    fn clearing_forgets_everything_when_no_message_is_partly_sent() {
        let mut packer = Packer::new(1410);
        stage(&mut packer, 2000);
        packer.clear_unsent();
        assert_eq!((packer.staged_bytes(), packer.is_empty()), (0, true));
    }

    #[test]
    fn fragment_numbers_skip_zero_when_they_wrap() {
        // given a message of 300 fragments
        let mut packer = Packer::new(110);
        stage(&mut packer, 300 * 100 - 5);
        // when it is sent
        let packets: Vec<_> = (0..300).map(|_| next(&mut packer)).collect();
        // then number 255 is followed by 1 and only the last packet is unfragmented
        assert_eq!((packets[254].fragmented, packets[255].fragmented), (255, 1));
        assert!(packets[..299].iter().all(|packet| packet.fragmented != 0));
        assert_eq!(packets[299].fragmented, 0);
    }

    #[test]
    fn partly_filled_packets_wait_while_others_are_in_front() {
        let mut packer = Packer::new(1410);
        stage(&mut packer, 1000);
        assert!(packer.next_packet(Fill::Full).is_none());
        stage(&mut packer, 1000);
        assert!(packer.next_packet(Fill::Full).is_some());
        assert!(packer.next_packet(Fill::Full).is_none());
    }

    #[test]
    fn one_safe_message_makes_the_packet_safe() {
        let mut packer = Packer::new(1410);
        stage(&mut packer, 1);
        packer.stage(Group::Service, Bytes::new(), Bytes::new(), Guarantee::Safe);
        assert_eq!(packer.next_packet(Fill::Any).map(|(_, guarantee)| guarantee), Some(Guarantee::Safe));
    }
}
