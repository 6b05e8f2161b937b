//! The header of all services; the messages of cfg and cmap survive being written.

use bytes::Bytes;
use membership_core::{
    cfg::{self, CfgMessage},
    cmap::{Cmap, ConfigVersion},
    service::{HEADER, SERVICES_MAX, ServiceMessage},
};
use quorate_types::NodeId;

use crate::heap;

/// See the module.
pub fn check(input: &[u8]) {
    heap::within(64 * 1024 + 8 * input.len(), || {
        for function in 0..6 {
            administration(function, input);
        }
        if let Ok(version) = ConfigVersion::from_wire(input) {
            assert_eq!(ConfigVersion::from_wire(&version.to_wire()), Ok(version));
            let mut cmap = Cmap::new(1);
            assert_eq!(cmap.accept(NodeId::new(1).expect("not 0"), input), Ok(()));
        }
        if let Ok(message) = ServiceMessage::from_wire(Bytes::copy_from_slice(input)) {
            assert!(message.service < SERVICES_MAX && message.bytes.len() >= HEADER);
            assert!(input.starts_with(&message.bytes));
            administration(message.function, &message.bytes);
        }
    });
}

fn administration(function: u16, bytes: &[u8]) {
    let Ok(message) = CfgMessage::from_wire(function, bytes) else { return };
    let again = match &message {
        CfgMessage::KillNode { node, reason } => {
            // An invalid byte became one character of three.
            assert!(reason.len() <= 3 * 256);
            let Ok(node) = NodeId::new(*node) else { return };
            CfgMessage::kill_node(node, reason)
        }
        CfgMessage::ReloadConfig { source } => {
            let Ok(source) = NodeId::new(*source) else { return };
            CfgMessage::reload_config(source)
        }
        CfgMessage::CryptoReconfig { phase } => cfg::crypto_reconfig(*phase),
        CfgMessage::Shutdown | CfgMessage::Other { .. } => return,
    };
    let read = CfgMessage::from_wire(function, &again);
    match (message, read) {
        (CfgMessage::KillNode { reason, .. }, Ok(CfgMessage::KillNode { reason: cut, .. })) => {
            assert!(reason.starts_with(&cut) && (cut == reason || cut.len() > 251));
        }
        (message, read) => assert_eq!(read, Ok(message)),
    }
}
