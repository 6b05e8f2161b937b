//! The group header that starts every message: which of corosync's two internal groups it is for.
//!
//! Not to be confused with process groups. u16 count, u16 length of each name, the names back to
//! back; then the message, without any alignment.

use bytes::{Buf, Bytes};

use crate::service::u16_at;

/// An internal group of corosync.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// "a": messages of services.
    Service,
    /// "sync": barriers and service lists of the synchronisation.
    Sync,
}

impl Group {
    /// The header as it travels.
    #[must_use]
    pub const fn header(self) -> &'static [u8] {
        match self {
            Self::Service => b"\x01\x00\x01\x00a",
            Self::Sync => b"\x01\x00\x04\x00sync",
        }
    }

    /// Splits a message into its group and what follows. `None` when it is malformed or for no
    /// group known here.
    #[must_use]
    pub fn split(mut message: Bytes) -> Option<(Self, Bytes)> {
        let count = usize::from(u16_at(&message, 0)?);
        let mut start = 2 + 2 * count;
        let mut found = None;
        for index in 0..count {
            let end = start + usize::from(u16_at(&message, 2 + 2 * index)?);
            found = match message.get(start..end)? {
                b"a" => found.or(Some(Self::Service)),
                b"sync" => found.or(Some(Self::Sync)),
                _ => found,
            };
            start = end;
        }
        let group = found?;
        message.advance(start);
        Some((group, message))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_groups_are_recognised_and_others_ignored() {
        let message = |head: &[u8]| Bytes::from([head, b"rest"].concat());
        let rest = Bytes::from_static(b"rest");
        assert_eq!(Group::split(message(Group::Service.header())), Some((Group::Service, rest.clone())));
        assert_eq!(Group::split(message(Group::Sync.header())), Some((Group::Sync, rest.clone())));
        assert_eq!(Group::split(message(b"\x02\0\x01\0\x01\0xa")), Some((Group::Service, rest)));
        assert_eq!(Group::split(message(b"\x01\0\x01\0b")), None);
        assert_eq!(Group::split(Bytes::from_static(b"\x01\0\x04\0syn")), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(message in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Group::split(Bytes::from(message));
        }
    }
}
