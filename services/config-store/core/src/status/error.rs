//! Why the status store refuses something.

use super::{KEY_MAX, LOG_FIELD_MAX, NODE_BYTES_MAX, NODE_KEYS_MAX, RRD_VALUE_MAX, VALUE_MAX};

/// A refusal of the status store; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatusError {
    /// The key is empty, too long, or has a control character.
    #[error("a key has 1 to {KEY_MAX} bytes and no control character; this one has {length} bytes")]
    KeyInvalid {
        /// Its length in bytes.
        length: usize,
    },
    /// The value is too large.
    #[error("the value of '{key}' has {size} bytes, at most {VALUE_MAX} are allowed")]
    ValueTooLarge {
        /// Its key.
        key: String,
        /// Its size in bytes.
        size: usize,
    },
    /// The figures of an `rrd/` key are too long.
    #[error("the figures of '{key}' have {size} bytes, at most {RRD_VALUE_MAX} are allowed")]
    FiguresTooLarge {
        /// Its key.
        key: String,
        /// Their size in bytes.
        size: usize,
    },
    /// The figures of an `rrd/` key are not one line of text.
    #[error("the figures of '{key}' are not one line of text")]
    FiguresInvalid {
        /// Its key.
        key: String,
    },
    /// This node has as many keys or bytes as it may have.
    #[error(
        "this node's status is full: at most {NODE_KEYS_MAX} keys and {NODE_BYTES_MAX} bytes are allowed"
    )]
    Full,
    /// A field of a log entry is too long or has a control character.
    #[error("the {field} of a log entry has at most {LOG_FIELD_MAX} bytes and no control character")]
    LogFieldInvalid {
        /// Which one.
        field: &'static str,
    },
    /// A priority is none of syslog's.
    #[error("{0} is no priority: they go from 0 (emergency) to 7 (debug)")]
    PriorityInvalid(u32),
}
