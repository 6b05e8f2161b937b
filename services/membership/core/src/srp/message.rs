//! The six packets of the ring on the wire.
//!
//! All fields are packed and little endian. Every packet begins with the common header:
//!
//! | offset | size | field |
//! |---:|---:|---|
//! | 0 | 2 | magic 0xC070 |
//! | 2 | 1 | version 3 |
//! | 3 | 1 | type |
//! | 4 | 1 | encapsulated: mcast only, 1 = recovery copy, 2 = normal |
//! | 5 | 4 | nodeid: the sender; of an mcast the originator; 0 in a leave |
//! | 9 | 4 | target_nodeid: knet only; elsewhere without meaning, possibly garbage |
//!
//! A ring id is 12 bytes: representative u32, sequence u64. Source: Totem specification, section 1;
//! corosync totemsrp.c, the packed structs at its head.

mod decode;
mod encode;

use bytes::Bytes;
use quorate_types::{NodeId, RingId};

pub use self::{decode::decode, encode::encode};
use super::io::Guarantee;

/// Most node ids in a list.
pub const PROCESSORS_MAX: usize = 384;
/// Most retransmission requests in a token.
pub const RTR_MAX: usize = 30;
/// Where the packet type is.
pub const TYPE_OFFSET: usize = 3;
/// Packet type of the ORF token.
pub const TYPE_ORF_TOKEN: u8 = 0;
/// Packet type of a message.
pub const TYPE_MCAST: u8 = 1;

const MAGIC: [u8; 2] = [0x70, 0xc0];
const VERSION: u8 = 3;
const TYPE_MERGE_DETECT: u8 = 2;
const TYPE_JOIN: u8 = 3;
const TYPE_COMMIT_TOKEN: u8 = 4;
const TYPE_HOLD_CANCEL: u8 = 5;
const ENCAPSULATED: u8 = 1;
const NOT_ENCAPSULATED: u8 = 2;
const MCAST_HEADER: usize = 45;
/// Ring sequences above this are refused, so that adding to one never overflows.
pub(super) const RING_SEQ_MAX: u64 = u64::MAX >> 1;

/// A decoded packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// Type 0.
    OrfToken(OrfToken),
    /// Type 1.
    Mcast(Mcast),
    /// Type 2.
    MembMergeDetect(MembMergeDetect),
    /// Type 3.
    MembJoin(MembJoin),
    /// Type 4.
    MembCommitToken(MembCommitToken),
    /// Type 5.
    TokenHoldCancel(TokenHoldCancel),
}

/// The circulating token: ordering, reliability, flow control. 57 + 16·n bytes.
///
/// | offset | 13 | 17 | 21 | 25 | 29 | 41 | 45 | 49 | 53 | 57 |
/// |---|---|---|---|---|---|---|---|---|---|---|
/// | field | seq | token_seq | aru | aru_addr | ring_id | backlog | fcc | retrans_flg | n | n × (ring_id, seq) |
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrfToken {
    /// The sender.
    pub nodeid: NodeId,
    /// Header field `target_nodeid`.
    pub target_nodeid: u32,
    /// The highest message sequence number assigned on this ring.
    pub seq: u32,
    /// Incremented by every node that handles the token.
    pub token_seq: u32,
    /// All received up to.
    pub aru: u32,
    /// Who lowered `aru`; 0 = nobody.
    pub aru_addr: u32,
    /// The ring.
    pub ring_id: RingId,
    /// Messages that wait at all members.
    pub backlog: u32,
    /// Messages multicast in the last rotation.
    pub fcc: u32,
    /// Recovery: somebody still has old messages to send.
    pub retrans_flg: u32,
    /// Retransmission requests, at most [`RTR_MAX`].
    pub rtr: Vec<RtrItem>,
}

/// A request to send a message again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtrItem {
    /// The ring of the message.
    pub ring_id: RingId,
    /// Its sequence number.
    pub seq: u32,
}

/// One ordered message. 45 bytes and the payload.
///
/// | offset | 13 | 17 | 21 | 25 | 37 | 41 | 45 |
/// |---|---|---|---|---|---|---|---|
/// | field | system_from | seq | this_seqno | ring_id | node_id | guarantee | payload |
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mcast {
    /// The originator.
    pub nodeid: NodeId,
    /// Header field `target_nodeid`.
    pub target_nodeid: u32,
    /// The payload is a complete mcast of the old ring.
    pub encapsulated: bool,
    /// The originator; of a recovery copy the node that sends it again.
    pub system_from: NodeId,
    /// The sequence number.
    pub seq: u32,
    /// The originator's own count of messages.
    pub this_seqno: u32,
    /// The ring.
    pub ring_id: RingId,
    /// Always 0.
    pub node_id: u32,
    /// 0 agreed, 1 safe.
    pub guarantee: u32,
    /// What the layer above gave.
    pub payload: Bytes,
}

/// "I am the representative of this ring." 29 bytes: system_from at 13, ring_id at 17.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MembMergeDetect {
    /// The sender.
    pub nodeid: NodeId,
    /// Header field `target_nodeid`.
    pub target_nodeid: u32,
    /// The sender.
    pub system_from: NodeId,
    /// Its ring.
    pub ring_id: RingId,
}

/// A proposal of members, or a leave. 33 + 4·(p + f) bytes.
///
/// | offset | 13 | 17 | 21 | 25 | 33 | 33 + 4·p |
/// |---|---|---|---|---|---|---|
/// | field | system_from | p | f | ring_seq | proc_list | failed_list |
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MembJoin {
    /// The sender; `None` (0 on the wire) marks a leave.
    pub nodeid: Option<NodeId>,
    /// Header field `target_nodeid`.
    pub target_nodeid: u32,
    /// The sender.
    pub system_from: NodeId,
    /// Sequence of the sender's ring id.
    pub ring_seq: u64,
    /// Nodes that the sender knows of, in any order.
    pub proc_list: Vec<NodeId>,
    /// Nodes that it considers failed.
    pub failed_list: Vec<NodeId>,
}

/// The token that forms a ring. 41 + 28·n bytes.
///
/// | offset | 13 | 17 | 29 | 33 | 37 | 41 | 41 + 4·n |
/// |---|---|---|---|---|---|---|---|
/// | field | token_seq | ring_id | retrans_flg | memb_index | n | node ids | n entries of 24 bytes |
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MembCommitToken {
    /// The sender.
    pub nodeid: NodeId,
    /// Header field `target_nodeid`.
    pub target_nodeid: u32,
    /// Incremented on every send.
    pub token_seq: u32,
    /// The ring that is formed.
    pub ring_id: RingId,
    /// Always 0.
    pub retrans_flg: u32,
    /// How many entries are filled.
    pub memb_index: u32,
    /// The members in ring order, strictly ascending.
    pub members: Vec<NodeId>,
    /// What each member has, in the same order; all zero until filled.
    pub entries: Vec<CommitEntry>,
}

/// What one member brings to the new ring: ring_id, aru at 12, high_delivered at 16, received_flg
/// at 20.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CommitEntry {
    /// Its old ring.
    pub ring_id: RingId,
    /// All received up to, there.
    pub aru: u32,
    /// All delivered up to, there.
    pub high_delivered: u32,
    /// 1 = it has no gap.
    pub received_flg: u32,
}

/// "Let the token go." 25 bytes: ring_id at 13.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenHoldCancel {
    /// The sender.
    pub nodeid: NodeId,
    /// Header field `target_nodeid`.
    pub target_nodeid: u32,
    /// Its ring.
    pub ring_id: RingId,
}

impl Mcast {
    /// What the sender asked for.
    #[must_use]
    pub fn guarantee(&self) -> Guarantee {
        if self.guarantee == 1 { Guarantee::Safe } else { Guarantee::Agreed }
    }
}

impl MembJoin {
    /// The sender leaves the ring.
    #[must_use]
    pub fn is_leave(&self) -> bool {
        self.nodeid.is_none()
    }
}
