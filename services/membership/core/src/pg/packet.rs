//! The payload of one ring multicast: a few pieces of messages with their lengths.
//!
//! | offset | size | field |
//! |---:|---:|---|
//! | 0 | 2 | version, 0 |
//! | 2 | 2 | type, 0 |
//! | 4 | 1 | fragmented: 0, or the number of the fragment that continues in the next packet |
//! | 5 | 1 | continuation: 0, or the number of the fragment that this packet continues |
//! | 6 | 2 | number of pieces |
//! | 8 | 2 each | length of each piece |
//! | | | the pieces, back to back |

use bytes::{BufMut, Bytes, BytesMut};

use crate::service::{u8_at, u16_at};

/// Bytes before the table of lengths.
pub const PACKET_HEADER: usize = 8;

/// One decoded payload. Its pieces share the memory of the datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// 0 when the last piece ends its message, else the number under which the next packet continues.
    pub fragmented: u8,
    /// 0 when the first piece starts a message, else the fragment number that it continues.
    pub continuation: u8,
    /// Pieces in order; only the first may continue and only the last may be continued.
    pub pieces: Vec<Bytes>,
}

/// Why a payload is no totempg packet. The packet is dropped and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// Shorter than its header and table of lengths.
    #[error("the packet ends inside its header")]
    Truncated,
    /// Version or type is not 0.
    #[error("version {version} type {kind} is not spoken here")]
    UnknownKind {
        /// The version field.
        version: u16,
        /// The type field.
        kind: u16,
    },
    /// The lengths do not add up to the size of the packet.
    #[error("the pieces take {expected} bytes, the packet has {actual}")]
    Lengths {
        /// Header, table and pieces as declared.
        expected: usize,
        /// Size of the packet.
        actual: usize,
    },
    /// It has no piece at all.
    #[error("the packet has no pieces")]
    Empty,
}

impl Packet {
    /// Decodes the payload of a ring multicast.
    ///
    /// # Errors
    /// [`PacketError`] when the layout does not hold; nothing of the packet may be used then.
    pub fn from_wire(payload: &Bytes) -> Result<Self, PacketError> {
        let (version, kind) = (field16(payload, 0)?, field16(payload, 2)?);
        if version != 0 || kind != 0 {
            return Err(PacketError::UnknownKind { version, kind });
        }
        let count = usize::from(field16(payload, 6)?);
        if count == 0 {
            return Err(PacketError::Empty);
        }
        let mut start = PACKET_HEADER + 2 * count;
        let mut pieces = Vec::with_capacity(count.min(payload.len()));
        for index in 0..count {
            let end = start + usize::from(field16(payload, PACKET_HEADER + 2 * index)?);
            if end > payload.len() {
                return Err(PacketError::Lengths { expected: end, actual: payload.len() });
            }
            pieces.push(payload.slice(start..end));
            start = end;
        }
        if start != payload.len() {
            return Err(PacketError::Lengths { expected: start, actual: payload.len() });
        }
        let flag = |at| u8_at(payload, at).ok_or(PacketError::Truncated);
        Ok(Self { fragmented: flag(4)?, continuation: flag(5)?, pieces })
    }

    /// Encodes it.
    ///
    /// # Panics
    /// When a piece is longer than 65,535 bytes or there are more pieces than that: the packer's
    /// limits exclude both.
    #[must_use]
    pub fn to_wire(&self) -> Bytes {
        let size = PACKET_HEADER + self.pieces.iter().map(|piece| 2 + piece.len()).sum::<usize>();
        let mut out = BytesMut::with_capacity(size);
        put_header(&mut out, self.fragmented, self.continuation, self.pieces.iter().map(Bytes::len));
        for piece in &self.pieces {
            out.put_slice(piece);
        }
        out.freeze()
    }
}

/// Writes the header and the table of lengths.
pub(super) fn put_header(
    out: &mut BytesMut,
    fragmented: u8,
    continuation: u8,
    lengths: impl ExactSizeIterator<Item = usize>,
) {
    out.put_u32_le(0);
    out.put_u8(fragmented);
    out.put_u8(continuation);
    out.put_u16_le(u16::try_from(lengths.len()).expect("a packet holds fewer pieces than bytes"));
    for length in lengths {
        out.put_u16_le(u16::try_from(length).expect("a piece fits in one packet"));
    }
}

fn field16(payload: &[u8], at: usize) -> Result<u16, PacketError> {
    u16_at(payload, at).ok_or(PacketError::Truncated)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_that_do_not_add_up_are_refused() {
        // given a packet with two pieces
        let packet =
            Packet { fragmented: 0, continuation: 0, pieces: vec![Bytes::from_static(b"ab"), Bytes::new()] };
        let mut wire = packet.to_wire().to_vec();
        // when one byte follows the last piece
        wire.push(0);
        // then it is refused
        let refused = Packet::from_wire(&wire.into());
        assert_eq!(refused, Err(PacketError::Lengths { expected: 14, actual: 15 }));
    }

    #[test]
    fn a_packet_without_pieces_or_of_another_version_is_refused() {
        assert_eq!(Packet::from_wire(&Bytes::from_static(&[0; 8])), Err(PacketError::Empty));
        let other = Packet::from_wire(&Bytes::from_static(&[1, 0, 0, 0, 0, 0, 1, 0, 0, 0]));
        assert_eq!(other, Err(PacketError::UnknownKind { version: 1, kind: 0 }));
        assert_eq!(Packet::from_wire(&Bytes::from_static(&[0; 5])), Err(PacketError::Truncated));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Packet::from_wire(&Bytes::from(payload));
        }

        #[test]
        fn what_decodes_encodes_to_the_same_bytes(
            flags in any::<(u8, u8)>(),
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..9),
        ) {
            let pieces = pieces.into_iter().map(Bytes::from).collect();
            let packet = Packet { fragmented: flags.0, continuation: flags.1, pieces };
            prop_assert_eq!(Packet::from_wire(&packet.to_wire()), Ok(packet));
        }
    }
}
