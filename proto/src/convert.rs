//! Conversions between generated messages and the types that the rest of Quorate uses.

use quorate_types::RingId;

use crate::types::v1;

impl From<RingId> for v1::RingId {
    fn from(ring: RingId) -> Self {
        Self { rep: ring.rep, seq: ring.seq }
    }
}

impl From<v1::RingId> for RingId {
    fn from(ring: v1::RingId) -> Self {
        Self { rep: ring.rep, seq: ring.seq }
    }
}
