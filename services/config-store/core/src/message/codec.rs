//! Messages to bytes and back.

use bytes::{BufMut, Bytes, BytesMut};

use super::{BUCKETS, MemberState, Message, PIECE_MAX, RoundId, Signed, StreamKind, WANT_MAX};
use crate::{
    checksum::Checksum,
    epoch::{EPOCHS_MAX, Epochs},
    operation::RequestId,
    wire::{Put, Reader, WireError},
};

pub(super) const FORMAT: u8 = 1;
/// Most members of a group that a message can list.
const MEMBERS_MAX: usize = 4096;

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
