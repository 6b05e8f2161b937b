//! A replicated message and an operation survive being written.

use bytes::Bytes;
use config_store_core::{Envelope, Message, Signed};

use crate::heap;

/// See the module.
pub fn check(input: &[u8]) {
    heap::within(256 * 1024 + 16 * input.len(), || {
        let bytes = Bytes::copy_from_slice(input);
        if let Ok(signed) = Signed::decode(bytes.clone()) {
            assert_eq!(Signed::decode(signed.encode()).as_ref(), Ok(&signed));
            if let Message::Operation { head, content, .. } = signed.message {
                operation(head, content);
            }
        }
        let (head, content) = (bytes.slice(..bytes.len() / 2), bytes.slice(bytes.len() / 2..));
        operation(head, content);
        operation(bytes, Bytes::new());
    });
}

fn operation(head: Bytes, content: Bytes) {
    if let Ok(envelope) = Envelope::decode(head, content) {
        let again = Envelope::decode(envelope.encode_head(), envelope.operation.content());
        assert_eq!(again, Ok(envelope));
    }
}
