//! The messages of corosync's votequorum, service 5, as they travel in the ring.
//!
//! Every message starts with the header of 16 bytes; numbers are little endian; padding is sent as 0.
//!
//! | offset | size | header |
//! |---:|---:|---|
//! | 0 | 4 | id: service 5 in the upper half, function in the lower |
//! | 8 | 4 | size of the whole message |
//!
//! | offset | size | nodeinfo (32 bytes) | reconfigure (32 bytes) |
//! |---:|---:|---|---|
//! | 16 | 4 | node; 0 is the quorum device | node |
//! | 20 | 4 | votes | value |
//! | 24 | 4 | expected votes | parameter (1 byte) |
//! | 28 | 4 | flags | |
//!
//! Source: service specification, 1 and 3.1 to 3.3.

use bytes::{BufMut, Bytes, BytesMut};

/// Number of the votequorum service.
pub const SERVICE: u16 = 5;

const NODE_INFO: u16 = 0;
const RECONFIGURE: u16 = 1;
const QDEVICE_REG: u16 = 2;
const QDEVICE_RECONFIGURE: u16 = 3;
const QDEVICE_EXTRA: u16 = 4;

const HEADER_LEN: usize = 16;
const NODE_INFO_LEN: usize = 32;
const RECONFIGURE_LEN: usize = 32;
const QDEVICE_REG_LEN: usize = 280;
const QDEVICE_NAME_LEN: usize = 255;
const QDEVICE_RECONFIGURE_LEN: usize = 528;

/// State of a node as it tells others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NodeFlags(u32);

impl NodeFlags {
    /// Was quorate when it sent this.
    pub const QUORATE: Self = Self(1);
    /// Leaves for good.
    pub const LEAVING: Self = Self(2);
    /// Still waits for all nodes.
    pub const WAIT_FOR_ALL: Self = Self(4);
    /// Has never seen another node since its start.
    pub const FIRST: Self = Self(8);
    /// Has a quorum device registered.
    pub const QDEVICE_REGISTERED: Self = Self(16);
    /// Its quorum device is there.
    pub const QDEVICE_ALIVE: Self = Self(32);
    /// Its quorum device votes for its part.
    pub const QDEVICE_CAST_VOTE: Self = Self(64);
    /// That vote is enough for all members of its ring.
    pub const QDEVICE_MASTER_WINS: Self = Self(128);

    /// From the number on the wire; unknown bits are kept.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The number on the wire.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether all bits of the other are set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// With these bits set or cleared.
    #[must_use]
    pub const fn with(self, other: Self, set: bool) -> Self {
        if set { Self(self.0 | other.0) } else { Self(self.0 & !other.0) }
    }
}

/// What a node says about itself, or about its quorum device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeInfo {
    /// The node; 0 is the quorum device.
    pub node: u32,
    /// Its votes.
    pub votes: u32,
    /// Votes that it expects in the cluster.
    pub expected_votes: u32,
    /// Its state when it sent this: during a sync that of the ring before.
    pub flags: NodeFlags,
}

/// What a reconfigure message changes on all members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parameter {
    /// Expected votes of all members.
    ExpectedVotes,
    /// Votes of the node named.
    NodeVotes,
    /// Ends the wait for all nodes.
    CancelWaitForAll,
    /// Not known to this version; to be ignored.
    Unknown(u8),
}

impl Parameter {
    const fn from_wire(byte: u8) -> Self {
        match byte {
            1 => Self::ExpectedVotes,
            2 => Self::NodeVotes,
            3 => Self::CancelWaitForAll,
            other => Self::Unknown(other),
        }
    }

    const fn to_wire(self) -> u8 {
        match self {
            Self::ExpectedVotes => 1,
            Self::NodeVotes => 2,
            Self::CancelWaitForAll => 3,
            Self::Unknown(other) => other,
        }
    }
}

/// A change of votes, for all members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reconfigure {
    /// The node concerned.
    pub node: u32,
    /// The new value.
    pub value: u32,
    /// What gets it.
    pub parameter: Parameter,
}

/// A quorum device is registered on the sender, or no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QdeviceRegistration {
    /// Whether it is there.
    pub register: bool,
    /// Its name, at most 254 bytes.
    pub name: String,
}

/// A votequorum message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Function 0.
    NodeInfo(NodeInfo),
    /// Function 1.
    Reconfigure(Reconfigure),
    /// Function 2.
    QdeviceRegistration(QdeviceRegistration),
    /// Functions 3 and 4, about a quorum device: read as far as needed to ignore them.
    QdeviceOther,
}

/// Why bytes are no votequorum message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Shorter than its header.
    #[error("{0} bytes are less than a header")]
    Short(usize),
    /// A message of another service, or of a function that this version does not know.
    #[error("message id {0:#x} is none of votequorum")]
    Id(u32),
    /// The size in the header is not that of the bytes, or not that of this function.
    #[error("message {id:#x} of {length} bytes says its size is {size}")]
    Size {
        /// Message id.
        id: u32,
        /// Size in the header.
        size: u32,
        /// Bytes there are.
        length: usize,
    },
}

impl Message {
    /// Reads a message.
    ///
    /// # Errors
    /// The bytes are not a message of this service.
    pub fn from_wire(bytes: &[u8]) -> Result<Self, MessageError> {
        if bytes.len() < HEADER_LEN {
            return Err(MessageError::Short(bytes.len()));
        }
        let (id, size, length) = (u32_at(bytes, 0), u32_at(bytes, 8), bytes.len());
        let function = match id.checked_sub(u32::from(SERVICE) << 16).map(u16::try_from) {
            Some(Ok(function)) => function,
            _ => return Err(MessageError::Id(id)),
        };
        let expected = match function {
            NODE_INFO => NODE_INFO_LEN,
            RECONFIGURE => RECONFIGURE_LEN,
            QDEVICE_REG => QDEVICE_REG_LEN,
            QDEVICE_RECONFIGURE => QDEVICE_RECONFIGURE_LEN,
            QDEVICE_EXTRA => length,
            _ => return Err(MessageError::Id(id)),
        };
        if length != expected || usize::try_from(size) != Ok(length) {
            return Err(MessageError::Size { id, size, length });
        }
        Ok(match function {
            NODE_INFO => Self::NodeInfo(NodeInfo {
                node: u32_at(bytes, 16),
                votes: u32_at(bytes, 20),
                expected_votes: u32_at(bytes, 24),
                flags: NodeFlags(u32_at(bytes, 28)),
            }),
            RECONFIGURE => Self::Reconfigure(Reconfigure {
                node: u32_at(bytes, 16),
                value: u32_at(bytes, 20),
                parameter: Parameter::from_wire(bytes[24]),
            }),
            QDEVICE_REG => Self::QdeviceRegistration(QdeviceRegistration {
                register: u32_at(bytes, 16) == 1,
                name: name_at(bytes, 20),
            }),
            _ => Self::QdeviceOther,
        })
    }
}

impl NodeInfo {
    /// The message.
    #[must_use]
    pub fn to_wire(&self) -> Bytes {
        let mut bytes = header(NODE_INFO, NODE_INFO_LEN);
        for field in [self.node, self.votes, self.expected_votes, self.flags.0] {
            bytes.put_u32_le(field);
        }
        bytes.freeze()
    }
}

impl Reconfigure {
    /// The message.
    #[must_use]
    pub fn to_wire(&self) -> Bytes {
        let mut bytes = header(RECONFIGURE, RECONFIGURE_LEN);
        bytes.put_u32_le(self.node);
        bytes.put_u32_le(self.value);
        bytes.put_u8(self.parameter.to_wire());
        bytes.put_bytes(0, 7);
        bytes.freeze()
    }
}

impl QdeviceRegistration {
    /// The message.
    #[must_use]
    pub fn to_wire(&self) -> Bytes {
        let mut bytes = header(QDEVICE_REG, QDEVICE_REG_LEN);
        bytes.put_u32_le(self.register.into());
        let name = self.name.as_bytes();
        bytes.put_slice(&name[..name.len().min(QDEVICE_NAME_LEN - 1)]);
        bytes.put_bytes(0, QDEVICE_REG_LEN - bytes.len());
        bytes.freeze()
    }
}

fn name_at(bytes: &[u8], offset: usize) -> String {
    let field = &bytes[offset..offset + QDEVICE_NAME_LEN];
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}

fn header(function: u16, length: usize) -> BytesMut {
    let mut bytes = BytesMut::with_capacity(length);
    bytes.put_u32_le(u32::from(SERVICE) << 16 | u32::from(function));
    bytes.put_u32_le(0);
    bytes.put_u32_le(u32::try_from(length).expect("lengths are constants below 1 KiB"));
    bytes.put_u32_le(0);
    bytes
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    let field = bytes[offset..offset + 4].try_into().expect("the slice has four bytes");
    u32::from_le_bytes(field)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nodeinfo_is_written_as_corosync_writes_it() {
        let info = NodeInfo { node: 2, votes: 1, expected_votes: 3, flags: NodeFlags::QUORATE };
        let expected = b"\0\0\x05\0\0\0\0\0\x20\0\0\0\0\0\0\0\x02\0\0\0\x01\0\0\0\x03\0\0\0\x01\0\0\0";
        assert_eq!(&info.to_wire()[..], expected);
        assert_eq!(Message::from_wire(expected), Ok(Message::NodeInfo(info)));
    }

    #[test]
    fn other_messages_of_a_quorum_device_are_accepted_and_ignored() {
        for (function, length) in [(3u8, 528u16), (4, 40)] {
            let mut bytes = vec![0; length.into()];
            (bytes[0], bytes[2]) = (function, 5);
            bytes[8..10].copy_from_slice(&length.to_le_bytes());
            assert_eq!(Message::from_wire(&bytes), Ok(Message::QdeviceOther), "{function}");
        }
    }

    #[test]
    fn a_registration_has_the_form_of_corosyncs() {
        let registration = QdeviceRegistration { register: true, name: "Qdevice".to_owned() };
        let bytes = registration.to_wire();
        assert_eq!(&bytes[..28], b"\x02\0\x05\0\0\0\0\0\x18\x01\0\0\0\0\0\0\x01\0\0\0Qdevice\0");
        assert_eq!(bytes.len(), 280);
        assert_eq!(Message::from_wire(&bytes), Ok(Message::QdeviceRegistration(registration)));
    }

    #[test]
    fn a_message_of_another_size_is_refused() {
        let bytes = NodeInfo { node: 1, votes: 1, expected_votes: 1, flags: NodeFlags::default() }.to_wire();
        let size = |size, length| Err(MessageError::Size { id: 0x50000, size, length });
        assert_eq!(Message::from_wire(&bytes[..31]), size(32, 31));
        assert_eq!(Message::from_wire(&[&bytes[..], &[0]].concat()), size(32, 33));
        assert_eq!(Message::from_wire(&bytes[..15]), Err(MessageError::Short(15)));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..600), service: bool) {
            if let (true, Some(start)) = (service, bytes.get_mut(..4)) {
                start.copy_from_slice(&[start[0] % 6, 0, 5, 0]);
            }
            _ = Message::from_wire(&bytes);
        }

        #[test]
        fn what_is_written_is_read(node: u32, votes: u32, expected_votes: u32, flags: u32, parameter: u8) {
            let info = NodeInfo { node, votes, expected_votes, flags: NodeFlags(flags) };
            prop_assert_eq!(Message::from_wire(&info.to_wire()), Ok(Message::NodeInfo(info)));
            let change = Reconfigure { node, value: votes, parameter: Parameter::from_wire(parameter) };
            prop_assert_eq!(Message::from_wire(&change.to_wire()), Ok(Message::Reconfigure(change)));
        }
    }
}
