//! The only message of corosync's cmap service: the version of the configuration file.
//!
//! Announced in every synchronisation and when it changes, so that a node with a stale
//! corosync.conf is found out. corosync ends itself then; here the driver decides.
//!
//! | offset | field |
//! |---:|---|
//! | 16 | u8 reason |
//! | 24 | u8 number of items |
//! | 48 | items: key length u16, key\[256\] @8, type u8 @264, value length u64 @272, value @280 |
//!
//! Source: corosync services, section 6.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_types::NodeId;

use crate::service::{self, CMAP, MessageError, put, put_u32, read_u64, u8_at, u16_at};

const FUNCTION_MCAST: u16 = 0;
const ITEMS: usize = 48;
const ITEM_HEADER: usize = 280;
const KEY: &[u8] = b"totem.config_version";
const TYPE_U64: u8 = 8;

/// Why a version is announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Part of a synchronisation.
    Sync,
    /// It changed.
    NewConfigVersion,
}

/// An announcement of the configuration version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfigVersion {
    /// Why now.
    pub reason: Reason,
    /// `totem.config_version`; `None` when the file has none.
    pub version: Option<u64>,
}

impl ConfigVersion {
    /// The complete message.
    #[must_use]
    pub fn to_wire(self) -> Bytes {
        let value = self.version.map_or(&[][..], |_| &[0; 8]);
        let size = ITEMS + ITEM_HEADER + value.len();
        let mut out = service::message(service::id(CMAP, FUNCTION_MCAST), size, size);
        out[16] = u8::from(self.reason == Reason::NewConfigVersion);
        out[24] = 1;
        put(&mut out, ITEMS, &(KEY.len() as u16).to_le_bytes());
        put(&mut out, ITEMS + 8, KEY);
        if let Some(version) = self.version {
            out[ITEMS + 264] = TYPE_U64;
            put_u32(&mut out, ITEMS + 272, 8);
            put(&mut out, ITEMS + ITEM_HEADER, &version.to_le_bytes());
        }
        out.into()
    }

    /// Finds the version in an announcement. Other keys are passed over.
    ///
    /// # Errors
    /// [`MessageError`] when the layout does not hold.
    pub fn from_wire(bytes: &[u8]) -> Result<Self, MessageError> {
        let byte = |at| u8_at(bytes, at).ok_or(MessageError::Truncated);
        let reason = match byte(16)? {
            0 => Reason::Sync,
            1 => Reason::NewConfigVersion,
            other => return Err(MessageError::BadField { field: "reason", value: other.into() }),
        };
        let mut version = None;
        let mut rest = bytes;
        let mut start = ITEMS;
        for _ in 0..byte(24)? {
            rest = rest.get(start..).ok_or(MessageError::Truncated)?;
            let (found, length) = item(rest)?;
            version = version.or(found);
            start = length;
        }
        Ok(Self { reason, version })
    }
}

/// Reads one item: the version if it is that, and the padded length of the item.
fn item(bytes: &[u8]) -> Result<(Option<u64>, usize), MessageError> {
    let key_length = usize::from(u16_at(bytes, 0).ok_or(MessageError::Truncated)?);
    let kind = u8_at(bytes, 264).ok_or(MessageError::Truncated)?;
    let stated = read_u64(bytes, 272)?;
    let value_length = usize::try_from(stated)
        .ok()
        .filter(|length| *length <= bytes.len())
        .ok_or(MessageError::BadField { field: "value length", value: stated })?;
    let is_version = bytes.get(8..8 + key_length.min(256)) == Some(KEY) && kind == TYPE_U64;
    let version = if is_version { Some(read_u64(bytes, ITEM_HEADER)?) } else { None };
    Ok((version, (ITEM_HEADER + value_length).next_multiple_of(8)))
}

/// What this node announces and what the others announced.
#[derive(Debug)]
pub struct Cmap {
    own: Option<u64>,
    peers: BTreeMap<NodeId, Option<u64>>,
}

impl Cmap {
    /// `config_version` 0 means that the file has none.
    #[must_use]
    pub fn new(config_version: u64) -> Self {
        Self { own: Some(config_version).filter(|version| *version != 0), peers: BTreeMap::new() }
    }

    /// The announcement of this node.
    #[must_use]
    pub fn announcement(&self, reason: Reason) -> Bytes {
        ConfigVersion { reason, version: self.own }.to_wire()
    }

    /// Takes over a new version. True when it has changed and must be announced.
    pub fn set_version(&mut self, config_version: u64) -> bool {
        let own = Some(config_version).filter(|version| *version != 0);
        std::mem::replace(&mut self.own, own) != own
    }

    /// Notes what a node announced.
    ///
    /// # Errors
    /// [`MessageError`] when the message is malformed; nothing is noted then.
    pub fn accept(&mut self, from: NodeId, message: &[u8]) -> Result<(), MessageError> {
        let announced = ConfigVersion::from_wire(message)?;
        self.peers.insert(from, announced.version);
        Ok(())
    }

    /// Forgets nodes that are not members any more.
    pub fn retain_members(&mut self, members: &[NodeId]) {
        self.peers.retain(|node, _| members.contains(node));
    }

    /// The version of each member that announced one (`None`: announced that it has none).
    #[must_use]
    pub fn peers(&self) -> &BTreeMap<NodeId, Option<u64>> {
        &self.peers
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn version_travels_and_its_absence_too() {
        for (version, size) in [(Some(7), 336), (None, 328)] {
            let sent = ConfigVersion { reason: Reason::NewConfigVersion, version };
            assert_eq!(sent.to_wire().len(), size);
            assert_eq!(ConfigVersion::from_wire(&sent.to_wire()), Ok(sent));
        }
    }

    #[test]
    fn an_unchanged_version_is_not_announced_again() {
        let mut cmap = Cmap::new(7);
        assert!(!cmap.set_version(7));
        assert!(cmap.set_version(8));
        assert!(cmap.set_version(0));
    }

    #[test]
    fn a_value_longer_than_the_message_is_refused() {
        let mut wire = ConfigVersion { reason: Reason::Sync, version: Some(1) }.to_wire().to_vec();
        wire[ITEMS + 279] = 0xff;
        assert!(matches!(ConfigVersion::from_wire(&wire), Err(MessageError::BadField { .. })));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
            count in any::<u8>(),
            length in prop_oneof![0..20u64, any::<u64>()],
        ) {
            let mut bytes = bytes;
            let _ = ConfigVersion::from_wire(&bytes);
            if bytes.len() > 328 {
                bytes[16] = 0;
                bytes[24] = count;
                put(&mut bytes, ITEMS + 272, &length.to_le_bytes());
                let _ = ConfigVersion::from_wire(&bytes);
            }
        }
    }
}
