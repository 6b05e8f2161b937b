//! Messages of the cpg service.
//!
//! | function | size | layout after the header |
//! |---|---:|---|
//! | 0 procjoin, 1 procleave | 168 | group @16, pid u32 @152, reason u32 @160 |
//! | 2 joinlist | 24 + 144 n | entries @24: pid u32 @0, group @8 |
//! | 3 mcast | 184 + n | group @16, length u32 @152, pid @160, source node @168, connection u64 @176 |
//! | 4 downlist of corosync 1 | | ignored |
//! | 5 downlist | 1568 | old members u32 @16, left u32 @24, node ids u32\[384\] @32 |
//! | 6 partial_mcast | 200 + n | group @16, total u32 @152, length @160, pid @168, type @176, source node @184, connection u64 @192 |
//!
//! Source: corosync services, section 4.1.

use bytes::{Buf, Bytes};
use quorate_types::NodeId;

use super::name::{GroupName, NAME_FIELD};
use crate::service::{self, CPG, MessageError, put_u32, read_u32};

const FUNCTION_PROCJOIN: u16 = 0;
const FUNCTION_PROCLEAVE: u16 = 1;
const FUNCTION_JOINLIST: u16 = 2;
const FUNCTION_MCAST: u16 = 3;
const FUNCTION_DOWNLIST_OLD: u16 = 4;
const FUNCTION_DOWNLIST: u16 = 5;
const FUNCTION_PARTIAL_MCAST: u16 = 6;

const PROC_SIZE: usize = 168;
const JOINLIST_HEADER: usize = 24;
const JOINLIST_ENTRY: usize = 8 + NAME_FIELD;
const MCAST_HEADER: usize = 184;
const PARTIAL_HEADER: usize = 200;
const DOWNLIST_SIZE: usize = 1568;
const DOWNLIST_NODES_MAX: usize = 384;

/// Largest payload of one mcast; what is larger travels as partial messages of this size.
/// Source: corosync `lib/cpg.c`, 1 MiB less 1 KiB.
pub const MCAST_PAYLOAD_MAX: usize = 1_047_552;

/// Why a process joined or left a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeReason {
    /// It joined.
    Join,
    /// It left.
    Leave,
    /// Its node left the membership.
    NodeDown,
    /// Its node came (back) with it.
    NodeUp,
    /// It vanished without leaving.
    ProcessDown,
}

/// Which part of a message cut by the client a partial message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Begins a message.
    First,
    /// Continues it.
    Continued,
    /// Ends it.
    Last,
}

/// A message of the cpg service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CpgMessage {
    /// A process of the sender joins.
    ProcJoin {
        /// The group.
        group: GroupName,
        /// The process.
        pid: u32,
        /// Why.
        reason: ChangeReason,
    },
    /// A process of the sender leaves.
    ProcLeave {
        /// The group.
        group: GroupName,
        /// The process.
        pid: u32,
        /// Why.
        reason: ChangeReason,
    },
    /// All processes of the sender, during synchronisation.
    JoinList(Vec<(u32, GroupName)>),
    /// A message to a group.
    Mcast {
        /// The group.
        group: GroupName,
        /// The process that sent it.
        pid: u32,
        /// What it sent.
        payload: Bytes,
    },
    /// The nodes that the sender lost, during synchronisation. For the log only.
    Downlist {
        /// Size of its membership before.
        old_members: u32,
        /// Those of it that are gone.
        left: Vec<u32>,
    },
    /// A part of a message to a group.
    PartialMcast {
        /// The group.
        group: GroupName,
        /// The process that sent it.
        pid: u32,
        /// Length of the whole message in bytes.
        total: u32,
        /// Which part.
        part: Part,
        /// Its bytes.
        payload: Bytes,
    },
    /// Something without effect.
    Ignored,
}

impl CpgMessage {
    /// Decodes function `function`.
    ///
    /// # Errors
    /// [`MessageError`] when the layout does not hold or the function is unknown.
    pub fn from_wire(function: u16, bytes: &Bytes) -> Result<Self, MessageError> {
        match function {
            FUNCTION_PROCJOIN | FUNCTION_PROCLEAVE => {
                let (group, pid) = (GroupName::read(bytes, 16)?, read_u32(bytes, 152)?);
                let reason = ChangeReason::from_wire(read_u32(bytes, 160)?)?;
                Ok(match function {
                    FUNCTION_PROCJOIN => Self::ProcJoin { group, pid, reason },
                    _ => Self::ProcLeave { group, pid, reason },
                })
            }
            FUNCTION_JOINLIST => join_list(bytes),
            FUNCTION_MCAST => Ok(Self::Mcast {
                group: GroupName::read(bytes, 16)?,
                pid: read_u32(bytes, 160)?,
                payload: payload(bytes, MCAST_HEADER, read_u32(bytes, 152)?)?,
            }),
            FUNCTION_DOWNLIST => downlist(bytes),
            FUNCTION_DOWNLIST_OLD => Ok(Self::Ignored),
            FUNCTION_PARTIAL_MCAST => Ok(Self::PartialMcast {
                group: GroupName::read(bytes, 16)?,
                pid: read_u32(bytes, 168)?,
                total: read_u32(bytes, 152)?,
                part: Part::from_wire(read_u32(bytes, 176)?)?,
                payload: payload(bytes, PARTIAL_HEADER, read_u32(bytes, 160)?)?,
            }),
            other => Err(MessageError::BadField { field: "function", value: other.into() }),
        }
    }

    /// The message with which a process joins.
    #[must_use]
    pub fn proc_join(group: &GroupName, pid: u32) -> Bytes {
        proc(FUNCTION_PROCJOIN, group, pid, ChangeReason::Join)
    }

    /// The message with which a process leaves.
    #[must_use]
    pub fn proc_leave(group: &GroupName, pid: u32, reason: ChangeReason) -> Bytes {
        proc(FUNCTION_PROCLEAVE, group, pid, reason)
    }

    /// The message with all processes of this node.
    #[must_use]
    pub fn join_list(processes: &[(u32, GroupName)]) -> Bytes {
        let size = JOINLIST_HEADER + JOINLIST_ENTRY * processes.len();
        let mut out = service::message(service::id(CPG, FUNCTION_JOINLIST), size, size);
        for (index, (pid, group)) in processes.iter().enumerate() {
            let at = JOINLIST_HEADER + JOINLIST_ENTRY * index;
            put_u32(&mut out, at, *pid);
            group.put(&mut out, at + 8);
        }
        out.into()
    }

    /// The message with the nodes that this node lost; no more than 384 are named.
    #[must_use]
    pub fn downlist(old_members: usize, left: impl Iterator<Item = NodeId>) -> Bytes {
        let mut out = service::message(service::id(CPG, FUNCTION_DOWNLIST), DOWNLIST_SIZE, DOWNLIST_SIZE);
        let mut count = 0;
        for (index, node) in left.take(DOWNLIST_NODES_MAX).enumerate() {
            put_u32(&mut out, 32 + 4 * index, node.get());
            count += 1;
        }
        put_u32(&mut out, 16, old_members as u32);
        put_u32(&mut out, 24, count);
        out.into()
    }

    /// The header of a message to a group whose `length` bytes of payload follow.
    #[must_use]
    pub fn mcast_header(group: &GroupName, pid: u32, me: NodeId, length: usize) -> Bytes {
        let id = service::id(CPG, FUNCTION_MCAST);
        let mut out = service::message(id, MCAST_HEADER, MCAST_HEADER + length);
        group.put(&mut out, 16);
        put_u32(&mut out, 152, length as u32);
        put_u32(&mut out, 160, pid);
        put_u32(&mut out, 168, me.get());
        out.into()
    }

    /// The header of one part of a message to a group; `length` bytes of payload follow.
    #[must_use]
    pub fn partial_header(
        group: &GroupName,
        pid: u32,
        me: NodeId,
        (part, length, total): (Part, usize, usize),
    ) -> Bytes {
        let id = service::id(CPG, FUNCTION_PARTIAL_MCAST);
        let mut out = service::message(id, PARTIAL_HEADER, PARTIAL_HEADER + length);
        group.put(&mut out, 16);
        put_u32(&mut out, 152, total as u32);
        put_u32(&mut out, 160, length as u32);
        put_u32(&mut out, 168, pid);
        put_u32(&mut out, 176, part.to_wire());
        put_u32(&mut out, 184, me.get());
        out.into()
    }
}

impl ChangeReason {
    /// The number on the wire, 1 to 5.
    #[must_use]
    pub const fn to_wire(self) -> u32 {
        match self {
            Self::Join => 1,
            Self::Leave => 2,
            Self::NodeDown => 3,
            Self::NodeUp => 4,
            Self::ProcessDown => 5,
        }
    }

    fn from_wire(value: u32) -> Result<Self, MessageError> {
        Ok(match value {
            1 => Self::Join,
            2 => Self::Leave,
            3 => Self::NodeDown,
            4 => Self::NodeUp,
            5 => Self::ProcessDown,
            other => return Err(MessageError::BadField { field: "reason", value: other.into() }),
        })
    }
}

impl Part {
    const fn to_wire(self) -> u32 {
        match self {
            Self::First => 1,
            Self::Continued => 2,
            Self::Last => 3,
        }
    }

    fn from_wire(value: u32) -> Result<Self, MessageError> {
        Ok(match value {
            1 => Self::First,
            2 => Self::Continued,
            3 => Self::Last,
            other => return Err(MessageError::BadField { field: "type", value: other.into() }),
        })
    }
}

fn proc(function: u16, group: &GroupName, pid: u32, reason: ChangeReason) -> Bytes {
    let mut out = service::message(service::id(CPG, function), PROC_SIZE, PROC_SIZE);
    group.put(&mut out, 16);
    put_u32(&mut out, 152, pid);
    put_u32(&mut out, 160, reason.to_wire());
    out.into()
}

fn join_list(bytes: &[u8]) -> Result<CpgMessage, MessageError> {
    let entries = bytes.get(JOINLIST_HEADER..).ok_or(MessageError::Truncated)?.chunks(JOINLIST_ENTRY);
    let entry = |entry: &[u8]| Ok((read_u32(entry, 0)?, GroupName::read(entry, 8)?));
    Ok(CpgMessage::JoinList(entries.map(entry).collect::<Result<_, _>>()?))
}

fn downlist(bytes: &[u8]) -> Result<CpgMessage, MessageError> {
    let count = read_u32(bytes, 24)? as usize;
    if count > DOWNLIST_NODES_MAX {
        return Err(MessageError::BadField { field: "left nodes", value: count as u64 });
    }
    let left = (0..count).map(|index| read_u32(bytes, 32 + 4 * index)).collect::<Result<_, _>>()?;
    Ok(CpgMessage::Downlist { old_members: read_u32(bytes, 16)?, left })
}

fn payload(bytes: &Bytes, header: usize, length: u32) -> Result<Bytes, MessageError> {
    let mut payload = bytes.clone();
    if payload.len() < header || payload.len() - header < length as usize {
        return Err(MessageError::Truncated);
    }
    payload.advance(header);
    payload.truncate(length as usize);
    Ok(payload)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn group() -> GroupName {
        GroupName::new("grpA").unwrap()
    }

    fn me() -> NodeId {
        NodeId::new(1).unwrap()
    }

    fn read(wire: &Bytes) -> CpgMessage {
        let message = service::ServiceMessage::from_wire(wire.clone()).unwrap();
        assert_eq!(message.bytes.len(), wire.len());
        CpgMessage::from_wire(message.function, &message.bytes).unwrap()
    }

    #[test]
    fn a_message_travels_with_its_payload() {
        let header = CpgMessage::mcast_header(&group(), 7, me(), 3);
        let wire = Bytes::from([&header[..], b"abc"].concat());
        let payload = Bytes::from_static(b"abc");
        assert_eq!(read(&wire), CpgMessage::Mcast { group: group(), pid: 7, payload });
    }

    #[test]
    fn a_part_travels_with_its_place_in_the_whole() {
        let header = CpgMessage::partial_header(&group(), 7, me(), (Part::Last, 3, 2_000_000));
        let wire = Bytes::from([&header[..], b"abc"].concat());
        let payload = Bytes::from_static(b"abc");
        let part = Part::Last;
        let expected = CpgMessage::PartialMcast { group: group(), pid: 7, total: 2_000_000, part, payload };
        assert_eq!(read(&wire), expected);
    }

    #[test]
    fn lists_travel() {
        let processes = vec![(1, group()), (2, GroupName::new([9; 128]).unwrap())];
        let wire = CpgMessage::join_list(&processes);
        assert_eq!(wire.len(), 24 + 2 * 144);
        assert_eq!(read(&wire), CpgMessage::JoinList(processes));
        let wire = CpgMessage::downlist(3, [me()].into_iter());
        assert_eq!(wire.len(), 1568);
        assert_eq!(read(&wire), CpgMessage::Downlist { old_members: 3, left: vec![1] });
    }

    #[test]
    fn lengths_beyond_the_message_are_refused() {
        let header = CpgMessage::mcast_header(&group(), 7, me(), 3);
        assert_eq!(CpgMessage::from_wire(FUNCTION_MCAST, &header), Err(MessageError::Truncated));
        let mut wire = CpgMessage::proc_join(&group(), 7).to_vec();
        wire[16] = 129;
        let refused = CpgMessage::from_wire(FUNCTION_PROCJOIN, &wire.into());
        assert!(matches!(refused, Err(MessageError::BadField { .. })));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(
            function in 0..8u16,
            name_length in 0..200u32,
            bytes in proptest::collection::vec(any::<u8>(), 0..500),
        ) {
            let mut bytes = bytes;
            let _ = CpgMessage::from_wire(function, &bytes.clone().into());
            if bytes.len() > 20 {
                put_u32(&mut bytes, 16, name_length);
                let _ = CpgMessage::from_wire(function, &bytes.into());
            }
        }
    }
}
