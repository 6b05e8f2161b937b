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

use bytes::Bytes;
use quorate_types::{NodeId, RingId};

use super::{io::Guarantee, stats::Drop};

/// Most node ids in a list.
pub const PROCESSORS_MAX: usize = 384;
/// Most retransmission requests in a token.
pub const RTR_MAX: usize = 30;
/// Where the packet type is.
pub const TYPE_OFFSET: usize = 3;
/// Packet type of the ORF token.
pub const TYPE_ORF_TOKEN: u8 = 0;

const MAGIC: [u8; 2] = [0x70, 0xc0];
const VERSION: u8 = 3;
const TYPE_MCAST: u8 = 1;
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

/// Decodes a datagram; the payload of an mcast shares its memory.
///
/// # Errors
/// The reason to drop it.
pub fn decode(datagram: &Bytes) -> Result<Packet, Drop> {
    let mut r = Reader { bytes: datagram, at: 0 };
    match r.array::<2>()? {
        MAGIC => {}
        [0xc0, 0x70] => return Err(Drop::BigEndian),
        _ => return Err(Drop::BadMagic),
    }
    let [version, kind, encapsulated] = r.array::<3>()?;
    if version != VERSION {
        return Err(Drop::BadVersion);
    }
    let nodeid = r.u32()?;
    let target_nodeid = r.u32()?;
    let head = Head { encapsulated, nodeid, target_nodeid };
    match kind {
        TYPE_ORF_TOKEN => orf_token(head, &mut r).map(Packet::OrfToken),
        TYPE_MCAST => mcast(head, &mut r, datagram).map(Packet::Mcast),
        TYPE_MERGE_DETECT => merge_detect(head, &mut r).map(Packet::MembMergeDetect),
        TYPE_JOIN => join(head, &mut r).map(Packet::MembJoin),
        TYPE_COMMIT_TOKEN => commit_token(head, &mut r).map(Packet::MembCommitToken),
        TYPE_HOLD_CANCEL => hold_cancel(head, &mut r).map(Packet::TokenHoldCancel),
        _ => Err(Drop::UnknownType),
    }
}

struct Head {
    encapsulated: u8,
    nodeid: u32,
    target_nodeid: u32,
}

fn node(id: u32) -> Result<NodeId, Drop> {
    NodeId::new(id).map_err(|_| Drop::Malformed)
}

fn orf_token(head: Head, r: &mut Reader<'_>) -> Result<OrfToken, Drop> {
    let mut token = OrfToken {
        nodeid: node(head.nodeid)?,
        target_nodeid: head.target_nodeid,
        seq: r.u32()?,
        token_seq: r.u32()?,
        aru: r.u32()?,
        aru_addr: r.u32()?,
        ring_id: r.ring_id()?,
        backlog: r.u32()?,
        fcc: r.u32()?,
        retrans_flg: r.u32()?,
        rtr: Vec::new(),
    };
    let entries = r.count(RTR_MAX)?;
    token.rtr.reserve_exact(RTR_MAX);
    for _ in 0..entries {
        token.rtr.push(RtrItem { ring_id: r.ring_id()?, seq: r.u32()? });
    }
    Ok(token)
}

fn mcast(head: Head, r: &mut Reader<'_>, datagram: &Bytes) -> Result<Mcast, Drop> {
    let encapsulated = match head.encapsulated {
        ENCAPSULATED => true,
        NOT_ENCAPSULATED => false,
        _ => return Err(Drop::Malformed),
    };
    Ok(Mcast {
        nodeid: node(head.nodeid)?,
        target_nodeid: head.target_nodeid,
        encapsulated,
        system_from: r.node()?,
        seq: r.u32()?,
        this_seqno: r.u32()?,
        ring_id: r.ring_id()?,
        node_id: r.u32()?,
        guarantee: r.u32()?,
        payload: datagram.slice(r.at..),
    })
}

fn merge_detect(head: Head, r: &mut Reader<'_>) -> Result<MembMergeDetect, Drop> {
    Ok(MembMergeDetect {
        nodeid: node(head.nodeid)?,
        target_nodeid: head.target_nodeid,
        system_from: r.node()?,
        ring_id: r.ring_id()?,
    })
}

fn join(head: Head, r: &mut Reader<'_>) -> Result<MembJoin, Drop> {
    let system_from = r.node()?;
    let processors = r.count(PROCESSORS_MAX)?;
    let failed = r.count(PROCESSORS_MAX)?;
    let ring_seq = r.u64()?;
    if ring_seq > RING_SEQ_MAX {
        return Err(Drop::Malformed);
    }
    Ok(MembJoin {
        nodeid: NodeId::new(head.nodeid).ok(),
        target_nodeid: head.target_nodeid,
        system_from,
        ring_seq,
        proc_list: r.nodes(processors)?,
        failed_list: r.nodes(failed)?,
    })
}

fn commit_token(head: Head, r: &mut Reader<'_>) -> Result<MembCommitToken, Drop> {
    let mut token = MembCommitToken {
        nodeid: node(head.nodeid)?,
        target_nodeid: head.target_nodeid,
        token_seq: r.u32()?,
        ring_id: r.ring_id()?,
        retrans_flg: r.u32()?,
        memb_index: r.u32()?,
        members: Vec::new(),
        entries: Vec::new(),
    };
    let members = r.count(PROCESSORS_MAX)?;
    token.members = r.nodes(members)?;
    let ascending = token.members.is_sorted_by(|a, b| a < b);
    let represented = token.members.first().is_some_and(|rep| rep.get() == token.ring_id.rep);
    if !ascending || !represented || token.memb_index as usize > members {
        return Err(Drop::Malformed);
    }
    for _ in 0..members {
        let (ring_id, aru) = (r.ring_id()?, r.u32()?);
        token.entries.push(CommitEntry { ring_id, aru, high_delivered: r.u32()?, received_flg: r.u32()? });
    }
    Ok(token)
}

fn hold_cancel(head: Head, r: &mut Reader<'_>) -> Result<TokenHoldCancel, Drop> {
    Ok(TokenHoldCancel {
        nodeid: node(head.nodeid)?,
        target_nodeid: head.target_nodeid,
        ring_id: r.ring_id()?,
    })
}

/// Reads fields in order; running out of bytes is [`Drop::Malformed`].
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Drop> {
        let end = self.at.checked_add(N).ok_or(Drop::Malformed)?;
        let field = self.bytes.get(self.at..end).ok_or(Drop::Malformed)?;
        self.at = end;
        field.try_into().map_err(|_| Drop::Malformed)
    }

    fn u32(&mut self) -> Result<u32, Drop> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Drop> {
        self.array().map(u64::from_le_bytes)
    }

    fn ring_id(&mut self) -> Result<RingId, Drop> {
        let ring = RingId { rep: self.u32()?, seq: self.u64()? };
        if ring.seq > RING_SEQ_MAX { Err(Drop::Malformed) } else { Ok(ring) }
    }

    fn node(&mut self) -> Result<NodeId, Drop> {
        node(self.u32()?)
    }

    fn nodes(&mut self, count: usize) -> Result<Vec<NodeId>, Drop> {
        (0..count).map(|_| self.node()).collect()
    }

    fn count(&mut self, max: usize) -> Result<usize, Drop> {
        let count = usize::try_from(self.u32()?).map_err(|_| Drop::TooLong)?;
        if count > max { Err(Drop::TooLong) } else { Ok(count) }
    }
}

/// Encodes a packet; the opposite of [`decode`].
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

#[cfg(test)]
mod tests {
    use super::*;

    fn cancel() -> Vec<u8> {
        let nodeid = NodeId::new(2).unwrap();
        let ring_id = RingId { rep: 1, seq: 9 };
        TokenHoldCancel { nodeid, target_nodeid: 0, ring_id }.encode().to_vec()
    }

    fn reason(bytes: Vec<u8>) -> Drop {
        decode(&Bytes::from(bytes)).unwrap_err()
    }

    #[test]
    fn each_header_mistake_has_its_own_reason() {
        let patched = |at: usize, value: u8| {
            let mut bytes = cancel();
            bytes[at] = value;
            bytes
        };

        assert_eq!(reason(patched(0, 0x71)), Drop::BadMagic);
        assert_eq!(reason(patched(2, 2)), Drop::BadVersion);
        assert_eq!(reason(patched(TYPE_OFFSET, 6)), Drop::UnknownType);
        assert_eq!(reason(patched(5, 0)), Drop::Malformed);
        let mut swapped = cancel();
        swapped.swap(0, 1);
        assert_eq!(reason(swapped), Drop::BigEndian);
    }

    #[test]
    fn packet_cut_anywhere_is_malformed() {
        let whole = cancel();

        for length in 0..whole.len() {
            assert_eq!(reason(whole[..length].to_vec()), Drop::Malformed, "{length} bytes");
        }
    }

    #[test]
    fn trailing_bytes_of_a_token_are_ignored() {
        let mut longer = cancel();
        longer.extend_from_slice(b"trailing");

        assert!(matches!(decode(&Bytes::from(longer)), Ok(Packet::TokenHoldCancel(_))));
    }

    #[test]
    fn counts_above_their_limit_are_refused_before_they_are_used() {
        let me = NodeId::new(1).unwrap();
        let join = MembJoin {
            nodeid: Some(me),
            target_nodeid: 0,
            system_from: me,
            ring_seq: 1,
            proc_list: vec![me],
            failed_list: vec![],
        };
        for (at, count) in [(17, 385_u32), (17, u32::MAX), (21, 385), (21, u32::MAX)] {
            let mut bytes = join.encode().to_vec();
            bytes[at..at + 4].copy_from_slice(&count.to_le_bytes());
            assert_eq!(reason(bytes), Drop::TooLong, "count {count} at {at}");
        }
    }
}
