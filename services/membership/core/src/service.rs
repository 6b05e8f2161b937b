//! The 16-byte header of every message above totempg, the table of services, and the few helpers
//! with which all message formats are read and written.
//!
//! | offset | size | field |
//! |---:|---:|---|
//! | 0 | 4 | id: service << 16 \| function, or 0/1 in the group "sync" |
//! | 8 | 4 | size of the whole message |
//!
//! The structures above totempg are laid out by a C compiler: fields are aligned to 8 bytes unless
//! noted, padding holds anything and is sent as zero. Source: corosync services, sections 1 and 2.

use bytes::Bytes;
use quorate_types::RingId;

/// Length of the message header in bytes.
pub const HEADER: usize = 16;

/// Service numbers from here on are undefined behaviour in corosync: never sent, never accepted.
pub const SERVICES_MAX: u16 = 64;

/// cmap: announces the version of the configuration.
pub const CMAP: u16 = 0;
/// cfg: administration.
pub const CFG: u16 = 1;
/// cpg: process groups.
pub const CPG: u16 = 2;
/// quorum: takes part in synchronisation, has no messages.
pub const QUORUM: u16 = 3;
/// votequorum: lives in another process.
pub const VOTEQUORUM: u16 = 5;

/// Feature levels: ours alone, unknown to corosync, which takes part in its barrier all the same.
pub const FEATURES: u16 = 40;

/// The services of this node that take part in synchronisation, whatever is attached.
pub const SYNCHRONISED: [u16; 4] = [CMAP, CPG, QUORUM, VOTEQUORUM];

/// A message for a service, its header checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceMessage {
    /// The service, below [`SERVICES_MAX`].
    pub service: u16,
    /// The function of that service.
    pub function: u16,
    /// The whole message, header included, of the size that the header states.
    pub bytes: Bytes,
}

/// Why a message was not dispatched. It is dropped and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Shorter than its layout, or than the size that it states.
    #[error("the message ends early")]
    Truncated,
    /// The service number is out of range.
    #[error("message id {id:#x} names no service")]
    ServiceOutOfRange {
        /// The id field.
        id: u32,
    },
    /// A field holds a value that it cannot have.
    #[error("field {field} holds {value}")]
    BadField {
        /// Its name in the layout tables.
        field: &'static str,
        /// What it holds.
        value: u64,
    },
}

impl ServiceMessage {
    /// Reads the header of a message of the group "a". Bytes beyond the stated size are cut off.
    ///
    /// # Errors
    /// [`MessageError`] when the header or the stated size does not fit.
    pub fn from_wire(bytes: Bytes) -> Result<Self, MessageError> {
        let (id, size) = header(&bytes)?;
        let (service, function) = ((id >> 16) as u16, (id & 0xffff) as u16);
        if service >= SERVICES_MAX {
            return Err(MessageError::ServiceOutOfRange { id });
        }
        Ok(Self { service, function, bytes: bytes.slice(..size) })
    }
}

/// Reads id and size. The size lies between [`HEADER`] and the length of the message.
///
/// # Errors
/// [`MessageError`] when it does not.
pub(crate) fn header(bytes: &[u8]) -> Result<(u32, usize), MessageError> {
    let id = read_u32(bytes, 0)?;
    let size = read_u32(bytes, 8)? as usize;
    if bytes.len() < HEADER || size > bytes.len() {
        return Err(MessageError::Truncated);
    }
    if size < HEADER {
        return Err(MessageError::BadField { field: "size", value: size as u64 });
    }
    Ok((id, size))
}

/// The id of a function of a service.
pub(crate) const fn id(service: u16, function: u16) -> u32 {
    ((service as u32) << 16) | function as u32
}

/// A message of `length` zero bytes whose header states `total` bytes (more when a body follows).
pub(crate) fn message(id: u32, length: usize, total: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    put(&mut bytes, 0, &id.to_le_bytes());
    put_u32(&mut bytes, 8, u32::try_from(total).expect("messages are far below 4 GiB"));
    bytes
}

pub(crate) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

pub(crate) fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    put(bytes, at, &value.to_le_bytes());
}

/// A ring id takes 12 bytes: rep, then seq without padding.
pub(crate) fn put_ring(bytes: &mut [u8], at: usize, ring: RingId) {
    put_u32(bytes, at, ring.rep);
    put(bytes, at + 4, &ring.seq.to_le_bytes());
}

pub(crate) fn read_ring(bytes: &[u8], at: usize) -> Result<RingId, MessageError> {
    Ok(RingId { rep: read_u32(bytes, at)?, seq: read_u64(bytes, at + 4)? })
}

pub(crate) fn read_u32(bytes: &[u8], at: usize) -> Result<u32, MessageError> {
    array(bytes, at).map(u32::from_le_bytes).ok_or(MessageError::Truncated)
}

pub(crate) fn read_u64(bytes: &[u8], at: usize) -> Result<u64, MessageError> {
    array(bytes, at).map(u64::from_le_bytes).ok_or(MessageError::Truncated)
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_le_bytes)
}

pub(crate) fn u8_at(bytes: &[u8], at: usize) -> Option<u8> {
    bytes.get(at).copied()
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_names_its_service_and_function() {
        let bytes = Bytes::from(message(id(VOTEQUORUM, 1), 32, 32));
        let read = ServiceMessage::from_wire(bytes.clone());
        assert_eq!(read, Ok(ServiceMessage { service: 5, function: 1, bytes }));
    }

    #[test]
    fn a_size_beyond_the_message_or_below_the_header_is_refused() {
        let with_size = |size| ServiceMessage::from_wire(message(id(CPG, 3), 32, size).into());
        assert_eq!(with_size(33), Err(MessageError::Truncated));
        assert_eq!(with_size(8), Err(MessageError::BadField { field: "size", value: 8 }));
        assert_eq!(with_size(24).map(|read| read.bytes.len()), Ok(24));
    }

    #[test]
    fn a_service_beyond_the_table_is_refused() {
        let read = ServiceMessage::from_wire(message(id(64, 0), 16, 16).into());
        assert_eq!(read, Err(MessageError::ServiceOutOfRange { id: 64 << 16 }));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = ServiceMessage::from_wire(bytes.into());
        }
    }
}
