//! From bytes to packets. Every length is checked before it is used.

use bytes::Bytes;
use quorate_types::{NodeId, RingId};

use super::{
    super::stats::Drop, CommitEntry, ENCAPSULATED, MAGIC, Mcast, MembCommitToken, MembJoin, MembMergeDetect,
    NOT_ENCAPSULATED, OrfToken, PROCESSORS_MAX, Packet, RING_SEQ_MAX, RTR_MAX, RtrItem, TYPE_COMMIT_TOKEN,
    TYPE_HOLD_CANCEL, TYPE_JOIN, TYPE_MCAST, TYPE_MERGE_DETECT, TYPE_ORF_TOKEN, TokenHoldCancel, VERSION,
};

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

#[cfg(test)]
mod tests {
    use super::{super::TYPE_OFFSET, *};

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
