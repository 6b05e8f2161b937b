//! A message of the synchronisation survives being written.

use membership_core::sync::{BUILD_SERVICES_MAX, SyncMessage};

use crate::heap;

/// See the module.
pub fn check(input: &[u8]) {
    heap::within(64 * 1024 + 8 * input.len(), || {
        let Ok(message) = SyncMessage::from_wire(input) else { return };
        if let SyncMessage::ServiceBuild { services, .. } = &message {
            assert!(services.len() <= BUILD_SERVICES_MAX);
        }
        assert_eq!(SyncMessage::from_wire(&message.to_wire()), Ok(message));
    });
}
