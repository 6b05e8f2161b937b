//! The two messages of the group "sync".
//!
//! | message | id | size | layout |
//! |---|---:|---:|---|
//! | barrier | 0 | 32 | ring id @16 |
//! | service_build | 1 | 552 | ring id @16, count i32 @32, service ids i32[128] @40 |

use bytes::Bytes;
use quorate_types::RingId;

use crate::service::{self, MessageError, put_ring, put_u32, read_ring, read_u32};

const ID_BARRIER: u32 = 0;
const ID_SERVICE_BUILD: u32 = 1;
const BARRIER_SIZE: usize = 32;
const SERVICE_BUILD_SIZE: usize = 552;

/// Entries of a service list.
pub const BUILD_SERVICES_MAX: usize = 128;

/// A message of the group "sync".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyncMessage {
    /// The sender has finished the current service.
    Barrier {
        /// The ring of its round.
        ring: RingId,
    },
    /// The services that the sender synchronises.
    ServiceBuild {
        /// The ring of its round.
        ring: RingId,
        /// At most [`BUILD_SERVICES_MAX`] service ids.
        services: Vec<i32>,
    },
}

impl SyncMessage {
    /// The ring that the message belongs to.
    #[must_use]
    pub fn ring(&self) -> RingId {
        match self {
            Self::Barrier { ring } | Self::ServiceBuild { ring, .. } => *ring,
        }
    }

    /// The complete message.
    ///
    /// # Panics
    /// When the list is longer than [`BUILD_SERVICES_MAX`]: there are fewer services than that.
    #[must_use]
    pub fn to_wire(&self) -> Bytes {
        let mut out = match self {
            Self::Barrier { .. } => service::message(ID_BARRIER, BARRIER_SIZE, BARRIER_SIZE),
            Self::ServiceBuild { services, .. } => {
                assert!(services.len() <= BUILD_SERVICES_MAX, "the list of services has 128 places");
                let mut out = service::message(ID_SERVICE_BUILD, SERVICE_BUILD_SIZE, SERVICE_BUILD_SIZE);
                put_u32(&mut out, 32, services.len() as u32);
                for (index, id) in services.iter().enumerate() {
                    service::put(&mut out, 40 + 4 * index, &id.to_le_bytes());
                }
                out
            }
        };
        put_ring(&mut out, 16, self.ring());
        out.into()
    }

    /// Decodes a message.
    ///
    /// # Errors
    /// [`MessageError`] when the layout does not hold.
    pub fn from_wire(bytes: &[u8]) -> Result<Self, MessageError> {
        let (id, _) = service::header(bytes)?;
        let ring = read_ring(bytes, 16)?;
        match id {
            ID_BARRIER => Ok(Self::Barrier { ring }),
            ID_SERVICE_BUILD => {
                let count = read_u32(bytes, 32)? as usize;
                if count > BUILD_SERVICES_MAX {
                    return Err(MessageError::BadField { field: "count", value: count as u64 });
                }
                let id = |index| read_u32(bytes, 40 + 4 * index).map(u32::cast_signed);
                Ok(Self::ServiceBuild { ring, services: (0..count).map(id).collect::<Result<_, _>>()? })
            }
            id => Err(MessageError::BadField { field: "id", value: id.into() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RING: RingId = RingId { rep: 1, seq: 9 };

    #[test]
    fn both_messages_travel() {
        let build = SyncMessage::ServiceBuild { ring: RING, services: vec![0, 2, 3, 5] };
        for (message, size) in [(SyncMessage::Barrier { ring: RING }, 32), (build, 552)] {
            assert_eq!(message.to_wire().len(), size);
            assert_eq!(SyncMessage::from_wire(&message.to_wire()), Ok(message));
        }
    }

    #[test]
    fn a_count_beyond_the_list_is_refused() {
        let mut wire = SyncMessage::ServiceBuild { ring: RING, services: vec![] }.to_wire().to_vec();
        wire[32] = 129;
        let refused = SyncMessage::from_wire(&wire);
        assert_eq!(refused, Err(MessageError::BadField { field: "count", value: 129 }));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(id in 0..3u8, bytes in proptest::collection::vec(any::<u8>(), 1..600)) {
            let mut bytes = bytes;
            let _ = SyncMessage::from_wire(&bytes);
            bytes[0] = id;
            let _ = SyncMessage::from_wire(&bytes);
        }
    }
}
