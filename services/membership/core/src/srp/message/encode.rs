//! From packets to bytes.

use bytes::Bytes;
use quorate_types::{NodeId, RingId};

use super::{
    ENCAPSULATED, MAGIC, MCAST_HEADER, Mcast, MembCommitToken, MembJoin, MembMergeDetect, NOT_ENCAPSULATED,
    OrfToken, Packet, TYPE_COMMIT_TOKEN, TYPE_HOLD_CANCEL, TYPE_JOIN, TYPE_MCAST, TYPE_MERGE_DETECT,
    TYPE_ORF_TOKEN, TokenHoldCancel, VERSION,
};

/// Encodes a packet; the opposite of [`decode`](super::decode).
#[must_use]
pub fn encode(packet: &Packet) -> Bytes {
    match packet {
        Packet::OrfToken(token) => token.encode(),
        Packet::Mcast(mcast) => mcast.encode(),
        Packet::MembMergeDetect(detect) => detect.encode(),
        Packet::MembJoin(join) => join.encode(),
        Packet::MembCommitToken(token) => token.encode(),
        Packet::TokenHoldCancel(cancel) => cancel.encode(),
    }
}

impl OrfToken {
    /// The token on the wire.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut w = Writer::new(57 + 16 * self.rtr.len(), TYPE_ORF_TOKEN, 0, self.nodeid, self.target_nodeid);
        w.u32(self.seq).u32(self.token_seq).u32(self.aru).u32(self.aru_addr);
        w.ring_id(self.ring_id).u32(self.backlog).u32(self.fcc).u32(self.retrans_flg);
        w.count(self.rtr.len());
        for item in &self.rtr {
            w.ring_id(item.ring_id).u32(item.seq);
        }
        w.finish()
    }
}

impl Mcast {
    /// The message on the wire.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let encapsulated = if self.encapsulated { ENCAPSULATED } else { NOT_ENCAPSULATED };
        let length = MCAST_HEADER + self.payload.len();
        let mut w = Writer::new(length, TYPE_MCAST, encapsulated, self.nodeid, self.target_nodeid);
        w.u32(self.system_from.get()).u32(self.seq).u32(self.this_seqno).ring_id(self.ring_id);
        w.u32(self.node_id).u32(self.guarantee);
        w.0.extend_from_slice(&self.payload);
        w.finish()
    }
}

impl MembMergeDetect {
    /// The message on the wire.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut w = Writer::new(29, TYPE_MERGE_DETECT, 0, self.nodeid, self.target_nodeid);
        w.u32(self.system_from.get()).ring_id(self.ring_id);
        w.finish()
    }
}

impl MembJoin {
    /// The message on the wire.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let length = 33 + 4 * (self.proc_list.len() + self.failed_list.len());
        let mut w = Writer::new(length, TYPE_JOIN, 0, self.nodeid, self.target_nodeid);
        w.u32(self.system_from.get()).count(self.proc_list.len()).count(self.failed_list.len());
        w.u64(self.ring_seq).nodes(&self.proc_list).nodes(&self.failed_list);
        w.finish()
    }
}

impl MembCommitToken {
    /// The token on the wire.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let length = 41 + 28 * self.members.len();
        let mut w = Writer::new(length, TYPE_COMMIT_TOKEN, 0, self.nodeid, self.target_nodeid);
        w.u32(self.token_seq).ring_id(self.ring_id).u32(self.retrans_flg).u32(self.memb_index);
        w.count(self.members.len()).nodes(&self.members);
        for entry in &self.entries {
            w.ring_id(entry.ring_id).u32(entry.aru).u32(entry.high_delivered).u32(entry.received_flg);
        }
        w.finish()
    }
}

impl TokenHoldCancel {
    /// The message on the wire.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut w = Writer::new(25, TYPE_HOLD_CANCEL, 0, self.nodeid, self.target_nodeid);
        w.ring_id(self.ring_id);
        w.finish()
    }
}

/// Appends fields in order.
struct Writer(Vec<u8>);

impl Writer {
    fn new(length: usize, kind: u8, encapsulated: u8, nodeid: impl Into<Sender>, target_nodeid: u32) -> Self {
        let mut w = Self(Vec::with_capacity(length));
        w.0.extend_from_slice(&MAGIC);
        w.0.extend_from_slice(&[VERSION, kind, encapsulated]);
        let Sender(nodeid) = nodeid.into();
        w.u32(nodeid).u32(target_nodeid);
        w
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn ring_id(&mut self, ring: RingId) -> &mut Self {
        self.u32(ring.rep).u64(ring.seq)
    }

    fn count(&mut self, count: usize) -> &mut Self {
        self.u32(u32::try_from(count).expect("lists are bounded by the protocol"))
    }

    fn nodes(&mut self, nodes: &[NodeId]) -> &mut Self {
        for node in nodes {
            self.u32(node.get());
        }
        self
    }

    fn finish(self) -> Bytes {
        Bytes::from(self.0)
    }
}

/// The header's nodeid: 0 for a leave.
struct Sender(u32);

impl From<NodeId> for Sender {
    fn from(node: NodeId) -> Self {
        Self(node.get())
    }
}

impl From<Option<NodeId>> for Sender {
    fn from(node: Option<NodeId>) -> Self {
        Self(node.map_or(0, NodeId::get))
    }
}
