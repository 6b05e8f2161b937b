//! Messages of corosync's cfg service: administration by one node for all.
//!
//! | function | size | layout |
//! |---|---:|---|
//! | 1 killnode | 288 | node u32 @16, length of the reason u16 @24 (with its NUL), text\[256\] @32 |
//! | 2 shutdown | 16 | |
//! | 3 reload_config | 32 | node u32 @16, connection u64 @24 |
//! | 4 crypto_reconfig | 24 | phase u32 @16 |
//!
//! Source: corosync services, section 5.

use bytes::Bytes;
use quorate_types::NodeId;

use crate::service::{self, CFG, MessageError, put, put_u32, read_u32, u16_at};

const FUNCTION_KILLNODE: u16 = 1;
const FUNCTION_SHUTDOWN: u16 = 2;
const FUNCTION_RELOAD: u16 = 3;
const FUNCTION_CRYPTO: u16 = 4;
const REASON_MAX: usize = 256;

/// A message of the cfg service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CfgMessage {
    /// The named node ends itself at once, without a leave message.
    KillNode {
        /// Node id, unchecked: whoever has it obeys.
        node: u32,
        /// Text for the log, at most 255 bytes.
        reason: String,
    },
    /// The sender shuts down.
    Shutdown,
    /// Every node reads its configuration file again.
    ReloadConfig {
        /// The node on which someone asked for it.
        source: u32,
    },
    /// A step of a change of keys; meant for the sender alone.
    CryptoReconfig {
        /// 1 activate, 2 clean up.
        phase: u32,
    },
    /// A function that has no effect here.
    Other {
        /// Its number.
        function: u16,
    },
}

impl CfgMessage {
    /// Decodes function `function`.
    ///
    /// # Errors
    /// [`MessageError`] when the layout does not hold.
    pub fn from_wire(function: u16, bytes: &[u8]) -> Result<Self, MessageError> {
        Ok(match function {
            FUNCTION_KILLNODE => Self::KillNode { node: read_u32(bytes, 16)?, reason: reason(bytes)? },
            FUNCTION_SHUTDOWN => Self::Shutdown,
            FUNCTION_RELOAD => Self::ReloadConfig { source: read_u32(bytes, 16)? },
            FUNCTION_CRYPTO => Self::CryptoReconfig { phase: read_u32(bytes, 16)? },
            function => Self::Other { function },
        })
    }

    /// The message that makes `node` end itself. A long reason is cut.
    #[must_use]
    pub fn kill_node(node: NodeId, reason: &str) -> Bytes {
        let mut out = service::message(service::id(CFG, FUNCTION_KILLNODE), 288, 288);
        let mut length = reason.len().min(REASON_MAX - 1);
        while !reason.is_char_boundary(length) {
            length -= 1;
        }
        put_u32(&mut out, 16, node.get());
        put_u32(&mut out, 24, length as u32 + 1);
        put(&mut out, 32, &reason.as_bytes()[..length]);
        out.into()
    }

    /// The message that makes every node read its configuration again.
    #[must_use]
    pub fn reload_config(me: NodeId) -> Bytes {
        let mut out = service::message(service::id(CFG, FUNCTION_RELOAD), 32, 32);
        put_u32(&mut out, 16, me.get());
        out.into()
    }
}

fn reason(bytes: &[u8]) -> Result<String, MessageError> {
    let length = usize::from(u16_at(bytes, 24).ok_or(MessageError::Truncated)?).min(REASON_MAX);
    let text = bytes.get(32..32 + length).ok_or(MessageError::Truncated)?;
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn killnode_carries_node_and_reason() {
        let node = NodeId::new(3).unwrap();
        for reason in ["", "wrong version", &"ä".repeat(200)] {
            let wire = CfgMessage::kill_node(node, reason);
            let read = CfgMessage::from_wire(FUNCTION_KILLNODE, &wire).unwrap();
            let CfgMessage::KillNode { node: 3, reason: arrived } = read else {
                panic!("not a killnode: {read:?}");
            };
            assert!(reason.starts_with(&arrived) && arrived.len() >= reason.len().min(254));
        }
    }

    #[test]
    fn unknown_functions_are_named() {
        assert_eq!(CfgMessage::from_wire(0, &[0; 16]), Ok(CfgMessage::Other { function: 0 }));
        assert!(CfgMessage::from_wire(1, &[0; 40]).is_ok());
        assert_eq!(CfgMessage::from_wire(1, &[0; 20]), Err(MessageError::Truncated));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(
            function in 0..6u16,
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let _ = CfgMessage::from_wire(function, &bytes);
        }
    }
}
