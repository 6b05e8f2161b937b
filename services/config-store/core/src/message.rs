//! What replicas say to each other in the process group.
//!
//! Every message starts with the same head; little-endian:
//!
//! | field | size | meaning |
//! |---|---|---|
//! | format | 1 | 1 |
//! | kind | 1 | see [`Message`] |
//! | incarnation | 8 | of the sending process: tells its messages from those of a predecessor |
//! | serial | 8 | counts the sender's messages: own messages that come back open the window |
//!
//! A message of an unknown format or kind is dropped by everybody who does not know it; an *operation*
//! that cannot be read makes the replica leave the epoch and come back through a state transfer.

use bytes::{BufMut, Bytes, BytesMut};
use quorate_types::{NodeId, RingId};

use crate::{
    checksum::Checksum,
    epoch::{EPOCHS_MAX, Epoch, Epochs},
    log::ChainHash,
    operation::RequestId,
    wire::{Put, Reader, WireError},
};

const FORMAT: u8 = 1;
/// Largest piece of a transfer or of a file in one message, in bytes.
pub const PIECE_MAX: usize = 256 * 1024;
/// Most members of a group that a message can list.
const MEMBERS_MAX: usize = 4096;
/// Into how many buckets the entries are sorted to find the different ones.
pub(crate) const BUCKETS: usize = 1024;
/// Most inodes asked for in one message.
pub(crate) const WANT_MAX: usize = PIECE_MAX / 8;

/// One round of synchronisation: who started it, and its count there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoundId {
    /// Who started it.
    pub starter: NodeId,
    /// The starter's incarnation.
    pub incarnation: u64,
    /// The starter's count of rounds.
    pub count: u64,
}

/// What a replica has: its answer to the start of a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberState {
    /// The epoch that the replica was last in sync in.
    pub epoch: Epoch,
    /// The highest epoch it promised to take part in.
    pub promised: Epoch,
    /// Version of its tree.
    pub version: u64,
    /// Hash of its history.
    pub chain: ChainHash,
    /// Checksum of its tree.
    pub checksum: Checksum,
    /// The oldest version in its log.
    pub log_first: u64,
    /// Which epochs wrote which versions.
    pub epochs: Epochs,
}

/// What a piece of a transfer belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamKind {
    /// What changed since the receivers' version.
    Delta,
    /// Inodes and hashes of the entries in the buckets that differ.
    Index,
    /// The entries that were asked for.
    Entries,
}

/// One message of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// The ring is quorate: all participants say what they have. The last one delivered counts.
    SyncStart {
        /// The round.
        round: RoundId,
        /// The ring whose quorum the starter saw.
        ring: RingId,
        /// Who takes part; a member that does not answer in time is left out of the next round.
        participants: Vec<NodeId>,
    },
    /// What the sender has.
    State {
        /// The round this answers.
        round: RoundId,
        /// What it has.
        state: MemberState,
    },
    /// The sender diverged and asks the winner what differs. Sums of entry hashes per bucket; none to
    /// have all buckets compared.
    IndexRequest {
        /// The round.
        round: RoundId,
        /// One sum per bucket, or none.
        sums: Vec<u64>,
    },
    /// The entries that the sender of an `IndexRequest` needs.
    Want {
        /// The round.
        round: RoundId,
        /// Whether these are the last ones.
        last: bool,
        /// Their inodes.
        inodes: Vec<u64>,
    },
    /// A piece of a transfer from the winner.
    Piece {
        /// The round.
        round: RoundId,
        /// Whom it is for.
        to: Vec<NodeId>,
        /// What it belongs to.
        kind: StreamKind,
        /// Whether the transfer begins with it.
        first: bool,
        /// Whether the transfer ends with it.
        last: bool,
        /// The bytes.
        bytes: Bytes,
    },
    /// The sender has the winner's state and its promise of the new epoch on disk.
    Ready {
        /// The round.
        round: RoundId,
        /// The epoch that it promised.
        epoch: Epoch,
        /// Checksum of what it has.
        checksum: Checksum,
    },
    /// The sender is in the group but not in the epoch, and wants to be.
    SyncRequest,
    /// An operation whose content fits into one piece.
    Operation {
        /// The epoch it is meant for; in any other one it is dropped.
        epoch: Epoch,
        /// The operation without its content.
        head: Bytes,
        /// The content.
        content: Bytes,
    },
    /// A piece of the content of the sender's next operation.
    Part {
        /// The epoch it is meant for.
        epoch: Epoch,
        /// The operation's request.
        request: RequestId,
        /// Counts the parts of one operation from 0.
        index: u16,
        /// The bytes.
        content: Bytes,
    },
    /// An operation whose content came in parts.
    OperationOfParts {
        /// The epoch it is meant for.
        epoch: Epoch,
        /// The operation's request.
        request: RequestId,
        /// How many parts there were.
        parts: u16,
        /// The operation without its content.
        head: Bytes,
    },
    /// Nothing changes: whoever sent it wants to know that the majority is with it.
    Barrier {
        /// The epoch it is meant for.
        epoch: Epoch,
        /// Identifies it to its sender.
        request: RequestId,
    },
    /// The sender has stored everything up to a position of the epoch.
    Durable {
        /// The epoch.
        epoch: Epoch,
        /// How many operations and barriers of the epoch are done and, if they changed something, stored.
        position: u64,
        /// Version of the tree at that position.
        version: u64,
        /// Checksum of the tree at that position.
        checksum: Checksum,
    },
}

/// A message with who sent it as which process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Incarnation of the sending process.
    pub incarnation: u64,
    /// Counts the sender's messages.
    pub serial: u64,
    /// The message.
    pub message: Message,
}

impl Signed {
    /// The bytes for the group.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(128);
        out.put_u8(FORMAT);
        out.put_u8(self.message.kind());
        out.put_u64_le(self.incarnation);
        out.put_u64_le(self.serial);
        self.message.encode_body(&mut out);
        out.freeze()
    }

    /// Reads a message of the group.
    ///
    /// # Errors
    /// [`WireError`] when the bytes are no message that this version knows.
    pub fn decode(bytes: Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let format = reader.u8()?;
        if format != FORMAT {
            return Err(WireError::Unknown { what: "message format", value: format.into() });
        }
        let kind = reader.u8()?;
        let incarnation = reader.u64()?;
        let serial = reader.u64()?;
        let message = Message::decode_body(kind, reader)?;
        Ok(Self { incarnation, serial, message })
    }
}

impl Message {
    fn kind(&self) -> u8 {
        match self {
            Self::SyncStart { .. } => 1,
            Self::State { .. } => 2,
            Self::IndexRequest { .. } => 3,
            Self::Want { .. } => 4,
            Self::Piece { .. } => 5,
            Self::Ready { .. } => 6,
            Self::SyncRequest => 7,
            Self::Operation { .. } => 8,
            Self::Part { .. } => 9,
            Self::OperationOfParts { .. } => 10,
            Self::Barrier { .. } => 11,
            Self::Durable { .. } => 12,
        }
    }

    fn encode_body(&self, out: &mut BytesMut) {
        match self {
            Self::SyncStart { round, ring, participants } => {
                put_round(out, round);
                out.put_ring(*ring);
                out.put_nodes(participants);
            }
            Self::State { round, state } => {
                put_round(out, round);
                put_state(out, state);
            }
            Self::IndexRequest { round, sums } => {
                put_round(out, round);
                put_numbers(out, sums);
            }
            Self::Want { round, last, inodes } => {
                put_round(out, round);
                out.put_u8((*last).into());
                put_numbers(out, inodes);
            }
            Self::Piece { round, to, kind, first, last, bytes } => {
                put_round(out, round);
                out.put_nodes(to);
                out.put_u8(*kind as u8);
                out.put_u8((*first).into());
                out.put_u8((*last).into());
                out.put_slice(bytes);
            }
            Self::Ready { round, epoch, checksum } => {
                put_round(out, round);
                out.put_epoch(*epoch);
                out.put_slice(&checksum.to_bytes());
            }
            Self::SyncRequest => {}
            Self::Operation { .. } | Self::Part { .. } | Self::OperationOfParts { .. } => {
                self.encode_operation(out);
            }
            Self::Barrier { epoch, request } => {
                out.put_epoch(*epoch);
                out.put_slice(&request.0);
            }
            Self::Durable { epoch, position, version, checksum } => {
                out.put_epoch(*epoch);
                out.put_u64_le(*position);
                out.put_u64_le(*version);
                out.put_slice(&checksum.to_bytes());
            }
        }
    }

    fn encode_operation(&self, out: &mut BytesMut) {
        match self {
            Self::Operation { epoch, head, content } => {
                out.put_epoch(*epoch);
                out.put_long(head);
                out.put_slice(content);
            }
            Self::Part { epoch, request, index, content } => {
                out.put_epoch(*epoch);
                out.put_slice(&request.0);
                out.put_u16_le(*index);
                out.put_slice(content);
            }
            Self::OperationOfParts { epoch, request, parts, head } => {
                out.put_epoch(*epoch);
                out.put_slice(&request.0);
                out.put_u16_le(*parts);
                out.put_slice(head);
            }
            _ => unreachable!("only operations are encoded here"),
        }
    }

    fn decode_body(kind: u8, mut body: Reader) -> Result<Self, WireError> {
        let message = match kind {
            1 => Self::SyncStart {
                round: round(&mut body)?,
                ring: body.ring()?,
                participants: body.nodes(MEMBERS_MAX)?,
            },
            2 => Self::State { round: round(&mut body)?, state: state(&mut body)? },
            3 => Self::IndexRequest { round: round(&mut body)?, sums: numbers(&mut body, BUCKETS)? },
            4 => Self::Want {
                round: round(&mut body)?,
                last: body.flag("last")?,
                inodes: numbers(&mut body, WANT_MAX)?,
            },
            5 => {
                return Ok(Self::Piece {
                    round: round(&mut body)?,
                    to: body.nodes(MEMBERS_MAX)?,
                    kind: stream_kind(body.u8()?)?,
                    first: body.flag("first")?,
                    last: body.flag("last")?,
                    bytes: body.rest(),
                });
            }
            6 => Self::Ready {
                round: round(&mut body)?,
                epoch: body.epoch()?,
                checksum: Checksum::from_bytes(body.array()?),
            },
            7 => Self::SyncRequest,
            8..=10 => return Self::decode_operation(kind, body),
            11 => Self::Barrier { epoch: body.epoch()?, request: RequestId(body.array()?) },
            12 => Self::Durable {
                epoch: body.epoch()?,
                position: body.u64()?,
                version: body.u64()?,
                checksum: Checksum::from_bytes(body.array()?),
            },
            kind => return Err(WireError::Unknown { what: "message kind", value: kind.into() }),
        };
        body.finish()?;
        Ok(message)
    }

    fn decode_operation(kind: u8, mut body: Reader) -> Result<Self, WireError> {
        let epoch = body.epoch()?;
        if kind == 8 {
            let head = body.long("operation head", PIECE_MAX)?;
            return Ok(Self::Operation { epoch, head, content: body.rest() });
        }
        let request = RequestId(body.array()?);
        let number = body.u16()?;
        Ok(match kind {
            9 => Self::Part { epoch, request, index: number, content: body.rest() },
            _ => Self::OperationOfParts { epoch, request, parts: number, head: body.rest() },
        })
    }
}

fn put_round(out: &mut BytesMut, round: &RoundId) {
    out.put_u32_le(round.starter.get());
    out.put_u64_le(round.incarnation);
    out.put_u64_le(round.count);
}

fn round(body: &mut Reader) -> Result<RoundId, WireError> {
    Ok(RoundId { starter: body.node()?, incarnation: body.u64()?, count: body.u64()? })
}

fn put_state(out: &mut BytesMut, state: &MemberState) {
    out.put_epoch(state.epoch);
    out.put_epoch(state.promised);
    out.put_u64_le(state.version);
    out.put_slice(&state.chain);
    out.put_slice(&state.checksum.to_bytes());
    out.put_u64_le(state.log_first);
    put_epochs(out, &state.epochs);
}

fn state(body: &mut Reader) -> Result<MemberState, WireError> {
    Ok(MemberState {
        epoch: body.epoch()?,
        promised: body.epoch()?,
        version: body.u64()?,
        chain: body.array()?,
        checksum: Checksum::from_bytes(body.array()?),
        log_first: body.u64()?,
        epochs: epochs(body)?,
    })
}

/// Appends a table of epochs.
pub(crate) fn put_epochs(out: &mut BytesMut, epochs: &Epochs) {
    out.put_count(epochs.starts().len());
    for (epoch, version) in epochs.starts() {
        out.put_epoch(*epoch);
        out.put_u64_le(*version);
    }
}

/// Reads a table of epochs.
pub(crate) fn epochs(body: &mut Reader) -> Result<Epochs, WireError> {
    let count = body.count("epochs", 24, EPOCHS_MAX)?;
    let starts: Result<Vec<_>, WireError> = (0..count).map(|_| Ok((body.epoch()?, body.u64()?))).collect();
    Ok(Epochs::new(starts?))
}

fn put_numbers(out: &mut BytesMut, numbers: &[u64]) {
    out.put_count(numbers.len());
    numbers.iter().for_each(|number| out.put_u64_le(*number));
}

fn numbers(body: &mut Reader, max: usize) -> Result<Vec<u64>, WireError> {
    let count = body.count("numbers", 8, max)?;
    (0..count).map(|_| body.u64()).collect()
}

fn stream_kind(code: u8) -> Result<StreamKind, WireError> {
    Ok(match code {
        0 => StreamKind::Delta,
        1 => StreamKind::Index,
        2 => StreamKind::Entries,
        value => return Err(WireError::Unknown { what: "stream kind", value: value.into() }),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node() -> impl Strategy<Value = NodeId> {
        (1..=u32::MAX).prop_filter_map("not zero", |id| NodeId::new(id).ok())
    }

    fn rounds() -> impl Strategy<Value = RoundId> {
        (node(), any::<u64>(), any::<u64>())
            .prop_map(|(starter, incarnation, count)| RoundId { starter, incarnation, count })
    }

    fn epoch() -> impl Strategy<Value = Epoch> {
        (any::<u64>(), any::<u32>(), any::<u32>()).prop_map(|(seq, rep, round)| Epoch { seq, rep, round })
    }

    fn bytes() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
    }

    fn states() -> impl Strategy<Value = MemberState> {
        let epochs = proptest::collection::vec((epoch(), any::<u64>()), 0..5).prop_map(Epochs::new);
        (epoch(), epoch(), any::<u64>(), any::<[u8; 32]>(), any::<[u8; 32]>(), any::<u64>(), epochs).prop_map(
            |(epoch, promised, version, chain, sum, log_first, epochs)| MemberState {
                epoch,
                promised,
                version,
                chain,
                checksum: Checksum::from_bytes(sum),
                log_first,
                epochs,
            },
        )
    }

    fn sync_messages() -> impl Strategy<Value = Message> {
        let nodes = proptest::collection::vec(node(), 0..5).boxed();
        let ring = (any::<u32>(), any::<u64>()).prop_map(|(rep, seq)| RingId { rep, seq });
        let numbers = proptest::collection::vec(any::<u64>(), 0..9);
        let kinds = prop_oneof![
            Just(StreamKind::Delta),
            Just(StreamKind::Index),
            Just(StreamKind::Entries)
        ];
        prop_oneof![
            (rounds(), ring, nodes.clone())
                .prop_map(|(round, ring, participants)| Message::SyncStart { round, ring, participants }),
            (rounds(), states()).prop_map(|(round, state)| Message::State { round, state }),
            (rounds(), numbers.clone()).prop_map(|(round, sums)| Message::IndexRequest { round, sums }),
            (rounds(), any::<bool>(), numbers)
                .prop_map(|(round, last, inodes)| Message::Want { round, last, inodes }),
            (rounds(), nodes, kinds, any::<bool>(), any::<bool>(), bytes()).prop_map(
                |(round, to, kind, first, last, bytes)| Message::Piece { round, to, kind, first, last, bytes }
            ),
            (rounds(), epoch(), any::<[u8; 32]>()).prop_map(|(round, epoch, sum)| Message::Ready {
                round,
                epoch,
                checksum: Checksum::from_bytes(sum)
            }),
            Just(Message::SyncRequest),
        ]
    }

    fn operation_messages() -> impl Strategy<Value = Message> {
        let request = any::<[u8; 16]>().prop_map(RequestId);
        prop_oneof![
            (epoch(), bytes(), bytes())
                .prop_map(|(epoch, head, content)| Message::Operation { epoch, head, content }),
            (epoch(), request.clone(), any::<u16>(), bytes()).prop_map(
                |(epoch, request, index, content)| Message::Part { epoch, request, index, content }
            ),
            (epoch(), request.clone(), any::<u16>(), bytes()).prop_map(|(epoch, request, parts, head)| {
                Message::OperationOfParts { epoch, request, parts, head }
            }),
            (epoch(), request).prop_map(|(epoch, request)| Message::Barrier { epoch, request }),
            (epoch(), any::<u64>(), any::<u64>(), any::<[u8; 32]>()).prop_map(
                |(epoch, position, version, sum)| Message::Durable {
                    epoch,
                    position,
                    version,
                    checksum: Checksum::from_bytes(sum)
                }
            ),
        ]
    }

    proptest! {
        #[test]
        fn every_message_is_read_back_as_written(
            message in prop_oneof![sync_messages(), operation_messages()],
            incarnation: u64,
            serial: u64,
        ) {
            let signed = Signed { incarnation, serial, message };
            prop_assert_eq!(Signed::decode(signed.encode()), Ok(signed));
        }

        #[test]
        fn decoding_never_panics(kind in 0u8..16, bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let framed = [vec![FORMAT, kind], bytes].concat();
            let _ = Signed::decode(Bytes::from(framed));
        }

        #[test]
        fn a_damaged_or_cut_message_never_panics(
            message in prop_oneof![sync_messages(), operation_messages()],
            at in any::<prop::sample::Index>(),
            bit in 0..8,
        ) {
            let mut bytes = Signed { incarnation: 1, serial: 2, message }.encode().to_vec();
            let at = at.index(bytes.len());
            let _ = Signed::decode(Bytes::copy_from_slice(&bytes[..at]));
            bytes[at] ^= 1_u8 << bit;
            let _ = Signed::decode(Bytes::from(bytes));
        }
    }

    #[test]
    fn the_future_is_refused_by_name() {
        let mut bytes = Signed { incarnation: 1, serial: 2, message: Message::SyncRequest }.encode().to_vec();
        bytes[1] = 99;
        let unknown = WireError::Unknown { what: "message kind", value: 99 };
        assert_eq!(Signed::decode(Bytes::copy_from_slice(&bytes)), Err(unknown));
        bytes[0] = 2;
        let unknown = WireError::Unknown { what: "message format", value: 2 };
        assert_eq!(Signed::decode(Bytes::from(bytes)), Err(unknown));
    }
}
