//! The five packets of kronosnet, in clear: header, data, ping, pong, path MTU probe and its reply.
//!
//! Every packet begins with six bytes; the rest is listed at each type. Node id and sequence number
//! are big endian, the size of a probe is little endian, a time stamp means something to its sender
//! alone.
//!
//! | offset | size | field |
//! |---:|---:|---|
//! | 0 | 1 | version, 1 |
//! | 1 | 1 | type: 0 data, 0x81 ping, 0x82 pong, 0x83 pmtud, 0x84 pmtud reply |
//! | 2 | 2 | node id of the sender |
//! | 4 | 1 | highest version that the sender speaks; 0 from kronosnet 1.x |
//! | 5 | 1 | 0 |
//!
//! Source: knet specification, sections 1 and 8.

use bytes::Bytes;

/// The one version of the wire format.
pub const VERSION: u8 = 1;
/// Bytes before what depends on the type.
pub const HEADER: usize = 6;
/// Bytes of a data packet before its payload.
pub const DATA_HEADER: usize = 14;
/// Length of a ping and of a pong.
pub const PING_LENGTH: usize = 26;
/// Length of a path MTU reply, and of a probe without its padding.
pub const PMTUD_LENGTH: usize = 9;
/// A packet that is shorter is none. Source: knet specification, 1.
pub const PACKET_MIN: usize = 7;

const TYPE_DATA: u8 = 0;
const TYPE_PING: u8 = 0x81;
const TYPE_PONG: u8 = 0x82;
const TYPE_PMTUD: u8 = 0x83;
const TYPE_PMTUD_REPLY: u8 = 0x84;

/// A decoded packet. Its payload shares the memory of the datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Who sent it, never 0.
    pub node: u16,
    /// Byte 4: the highest version that the sender speaks, 0 from kronosnet 1.x.
    pub max_version: u8,
    /// What it says.
    pub body: Body,
}

/// What a packet says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A packet of the ring, or a fragment of one.
    Data(DataHeader, Bytes),
    /// "Are you there?"
    Ping(Ping),
    /// "I am": the ping, sent back.
    Pong(Ping),
    /// "Does a packet of this size arrive?", and what pads it to that size.
    Pmtud(Pmtud, Bytes),
    /// "It did."
    PmtudReply(Pmtud),
}

/// The header of a data packet, 8 bytes from offset 6.
///
/// | offset | 6 | 8 | 9 | 10 | 11 | 12 | 13 | 14 |
/// |---|---|---|---|---|---|---|---|---|
/// | field | seq | compression | 0 | to_all | fragments | fragment | channel | payload |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataHeader {
    /// The sender's data sequence number: one per packet, the same for all fragments and copies.
    pub seq: u16,
    /// Compression model; 0 = none.
    pub compression: u8,
    /// 1 = to all, 0 = to one node. Informational.
    pub to_all: u8,
    /// How many fragments there are; 1 = the packet is not cut.
    pub fragments: u8,
    /// Which one this is, from 1; 0 when the packet is not cut.
    pub fragment: u8,
    /// The channel; corosync uses 0 alone.
    pub channel: i8,
}

/// A ping or a pong, 20 bytes from offset 6.
///
/// | offset | 6 | 7 | 23 | 25 |
/// |---|---|---|---|---|
/// | field | link | time stamp | seq | timed |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ping {
    /// The link, the same number on both ends.
    pub link: u8,
    /// The pinging node's clock, echoed as it is.
    pub time: [u8; 16],
    /// The sender's present data sequence number; 0 before its first data packet.
    pub seq: u16,
    /// 1 = periodic, 0 = forced, because many data packets went out.
    pub timed: u8,
}

/// A path MTU probe or its reply, 3 bytes from offset 6: link u8, size u16 little endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pmtud {
    /// The link.
    pub link: u8,
    /// The size on the wire that is probed, IP and UDP headers included.
    pub size: u16,
}

/// Why a packet does not decode. It is dropped and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// Shorter than its type needs.
    #[error("the packet ends inside its header")]
    TooShort,
    /// Another version of the wire format.
    #[error("version {0} is not spoken here")]
    BadVersion(u8),
    /// A type that is not one of the five.
    #[error("type {0:#x} is unknown")]
    UnknownType(u8),
    /// Node id 0.
    #[error("the packet names no sender")]
    NoSender,
}

impl Packet {
    /// Decodes a packet in clear. Bytes after a ping, a pong or a reply are ignored.
    ///
    /// # Errors
    /// [`PacketError`] when the layout does not hold; nothing of the packet may be used then.
    pub fn from_wire(packet: &Bytes) -> Result<Self, PacketError> {
        if packet.len() < PACKET_MIN {
            return Err(PacketError::TooShort);
        }
        let (head, rest) = packet.split_first_chunk::<HEADER>().ok_or(PacketError::TooShort)?;
        let [version, kind, high, low, max_version, _] = *head;
        if version != VERSION {
            return Err(PacketError::BadVersion(version));
        }
        let body = match kind {
            TYPE_DATA => data(packet, rest)?,
            TYPE_PING => Body::Ping(ping(rest)?),
            TYPE_PONG => Body::Pong(ping(rest)?),
            TYPE_PMTUD => Body::Pmtud(pmtud(rest)?, packet.slice(PMTUD_LENGTH..)),
            TYPE_PMTUD_REPLY => Body::PmtudReply(pmtud(rest)?),
            _ => return Err(PacketError::UnknownType(kind)),
        };
        let node = u16::from_be_bytes([high, low]);
        if node == 0 {
            return Err(PacketError::NoSender);
        }
        Ok(Self { node, max_version, body })
    }

    /// Encodes it: head, and what follows as it is (a payload or padding, else nothing).
    #[must_use]
    pub fn to_wire(&self) -> (Head, Bytes) {
        let mut head = match &self.body {
            Body::Data(header, _) => data_head(self.node, header),
            Body::Ping(ping) => ping_head(self.node, TYPE_PING, ping),
            Body::Pong(ping) => ping_head(self.node, TYPE_PONG, ping),
            Body::Pmtud(pmtud, _) => pmtud_head(self.node, TYPE_PMTUD, *pmtud),
            Body::PmtudReply(pmtud) => pmtud_head(self.node, TYPE_PMTUD_REPLY, *pmtud),
        };
        head.bytes[4] = self.max_version;
        let rest = match &self.body {
            Body::Data(_, rest) | Body::Pmtud(_, rest) => rest.clone(),
            Body::Ping(_) | Body::Pong(_) | Body::PmtudReply(_) => Bytes::new(),
        };
        (head, rest)
    }
}

/// The first bytes of a packet, without payload or padding: no allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    bytes: [u8; PING_LENGTH],
    length: usize,
}

impl Head {
    fn new(node: u16, kind: u8) -> Self {
        let mut bytes = [0; PING_LENGTH];
        bytes[0] = VERSION;
        bytes[1] = kind;
        bytes[2..4].copy_from_slice(&node.to_be_bytes());
        Self { bytes, length: HEADER }
    }

    fn put(&mut self, field: &[u8]) {
        self.bytes[self.length..self.length + field.len()].copy_from_slice(field);
        self.length += field.len();
    }

    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// The head of a data packet.
#[must_use]
pub fn data_head(node: u16, header: &DataHeader) -> Head {
    let mut head = Head::new(node, TYPE_DATA);
    head.put(&header.seq.to_be_bytes());
    head.put(&[header.compression, 0, header.to_all, header.fragments, header.fragment]);
    head.put(&header.channel.to_be_bytes());
    head
}

fn ping_head(node: u16, kind: u8, ping: &Ping) -> Head {
    let mut head = Head::new(node, kind);
    head.put(&[ping.link]);
    head.put(&ping.time);
    head.put(&ping.seq.to_be_bytes());
    head.put(&[ping.timed]);
    head
}

fn pmtud_head(node: u16, kind: u8, pmtud: Pmtud) -> Head {
    let mut head = Head::new(node, kind);
    head.put(&[pmtud.link]);
    head.put(&pmtud.size.to_le_bytes());
    head
}

fn data(packet: &Bytes, rest: &[u8]) -> Result<Body, PacketError> {
    let &[high, low, compression, _, to_all, fragments, fragment, channel] =
        rest.first_chunk().ok_or(PacketError::TooShort)?;
    let seq = u16::from_be_bytes([high, low]);
    let channel = i8::from_be_bytes([channel]);
    let header = DataHeader { seq, compression, to_all, fragments, fragment, channel };
    Ok(Body::Data(header, packet.slice(DATA_HEADER..)))
}

fn ping(rest: &[u8]) -> Result<Ping, PacketError> {
    let (&[link], rest) = rest.split_first_chunk().ok_or(PacketError::TooShort)?;
    let (&time, rest) = rest.split_first_chunk().ok_or(PacketError::TooShort)?;
    let &[high, low, timed] = rest.first_chunk().ok_or(PacketError::TooShort)?;
    Ok(Ping { link, time, seq: u16::from_be_bytes([high, low]), timed })
}

fn pmtud(rest: &[u8]) -> Result<Pmtud, PacketError> {
    let &[link, low, high] = rest.first_chunk().ok_or(PacketError::TooShort)?;
    Ok(Pmtud { link, size: u16::from_le_bytes([low, high]) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wire(packet: &Packet) -> Bytes {
        let (head, rest) = packet.to_wire();
        [head.as_slice(), &rest].concat().into()
    }

    fn ping() -> impl Strategy<Value = Ping> {
        any::<(u8, [u8; 16], u16, u8)>().prop_map(|(link, time, seq, timed)| Ping { link, time, seq, timed })
    }

    fn pmtud() -> impl Strategy<Value = Pmtud> {
        any::<(u8, u16)>().prop_map(|(link, size)| Pmtud { link, size })
    }

    fn rest() -> impl Strategy<Value = Bytes> {
        prop::collection::vec(any::<u8>(), 0..80).prop_map(Bytes::from)
    }

    fn data() -> impl Strategy<Value = Body> {
        (any::<(u16, u8, u8, u8, u8, i8)>(), rest()).prop_map(|(fields, payload)| {
            let (seq, compression, to_all, fragments, fragment, channel) = fields;
            Body::Data(DataHeader { seq, compression, to_all, fragments, fragment, channel }, payload)
        })
    }

    fn body() -> impl Strategy<Value = Body> {
        prop_oneof![
            data(),
            ping().prop_map(Body::Ping),
            ping().prop_map(Body::Pong),
            (pmtud(), rest()).prop_map(|(pmtud, padding)| Body::Pmtud(pmtud, padding)),
            pmtud().prop_map(Body::PmtudReply),
        ]
    }

    #[test]
    fn the_fields_are_where_the_specification_has_them() {
        let time = *b"0123456789abcdef";
        let ping = Packet {
            node: 0x0102,
            max_version: 0,
            body: Body::Ping(Ping { link: 3, time, seq: 0x0405, timed: 1 }),
        };
        assert_eq!(&wire(&ping)[..], b"\x01\x81\x01\x02\0\0\x030123456789abcdef\x04\x05\x01");
        let probe = Body::PmtudReply(Pmtud { link: 1, size: 1500 });
        let reply = Packet { node: 7, max_version: 1, body: probe };
        assert_eq!(&wire(&reply)[..], b"\x01\x84\0\x07\x01\0\x01\xdc\x05");
    }

    #[test]
    fn what_is_no_packet_is_refused_by_name() {
        let refused = |bytes: &[u8]| Packet::from_wire(&Bytes::copy_from_slice(bytes)).unwrap_err();

        assert_eq!(refused(&[1, 0, 0, 1, 0, 0]), PacketError::TooShort);
        assert_eq!(refused(&[2, 0, 0, 1, 0, 0, 0]), PacketError::BadVersion(2));
        assert_eq!(refused(&[1, 0x80, 0, 1, 0, 0, 0]), PacketError::UnknownType(0x80));
        assert_eq!(refused(&[1, 0x84, 0, 0, 0, 0, 0, 0, 0]), PacketError::NoSender);
        assert_eq!(refused(&[1, 0x81, 0, 1, 0, 0, 0, 0, 0]), PacketError::TooShort);
        assert_eq!(refused(&[1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0]), PacketError::TooShort);
    }

    proptest! {
        #[test]
        fn every_packet_survives_the_way_over_the_wire(
            node in 1u16..,
            max_version in any::<u8>(),
            body in body(),
        ) {
            let packet = Packet { node, max_version, body };

            prop_assert_eq!(Packet::from_wire(&wire(&packet)), Ok(packet));
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(kind in 0usize..6, bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut bytes = bytes;
            let kinds = [TYPE_DATA, TYPE_PING, TYPE_PONG, TYPE_PMTUD, TYPE_PMTUD_REPLY];
            if let (Some(kind), true) = (kinds.get(kind), bytes.len() > 1) {
                bytes[..2].copy_from_slice(&[VERSION, *kind]);
            }
            let _ = Packet::from_wire(&bytes.into());
        }
    }
}
