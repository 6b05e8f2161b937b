//! Names of process groups, and their 136-byte field on the wire.

use std::{fmt, sync::Arc};

use crate::service::{MessageError, put, put_u32, read_u32};

/// Longest name in bytes.
pub const GROUP_NAME_MAX: usize = 128;
/// Length of the field: u32 length, 4 bytes padding, 128 bytes of name.
pub(super) const NAME_FIELD: usize = 136;

/// The name of a process group: 1 to 128 arbitrary bytes, usually text. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupName(Arc<[u8]>);

/// A group name has no bytes or too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a group name has 1 to {GROUP_NAME_MAX} bytes, not {length}")]
pub struct GroupNameError {
    /// How many it has.
    pub length: usize,
}

impl GroupName {
    /// Checks and wraps a name.
    ///
    /// # Errors
    /// [`GroupNameError`] unless it has 1 to [`GROUP_NAME_MAX`] bytes.
    pub fn new(name: impl AsRef<[u8]>) -> Result<Self, GroupNameError> {
        let name = name.as_ref();
        if name.is_empty() || name.len() > GROUP_NAME_MAX {
            return Err(GroupNameError { length: name.len() });
        }
        Ok(Self(name.into()))
    }

    /// The name as bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn put(&self, bytes: &mut [u8], at: usize) {
        put_u32(bytes, at, self.0.len() as u32);
        put(bytes, at + 8, &self.0);
    }

    pub(super) fn read(bytes: &[u8], at: usize) -> Result<Self, MessageError> {
        let length = read_u32(bytes, at)? as usize;
        let field = bytes.get(at + 8..at + NAME_FIELD).ok_or(MessageError::Truncated)?;
        field
            .get(..length)
            .and_then(|name| Self::new(name).ok())
            .ok_or(MessageError::BadField { field: "group name length", value: length as u64 })
    }
}

/// As text; bytes that are no UTF-8 are replaced.
impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        String::from_utf8_lossy(&self.0).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_1_to_128_bytes() {
        assert!(GroupName::new("pve_dcdb_v1").is_ok());
        assert!(GroupName::new([0xff; 128]).is_ok());
        assert_eq!(GroupName::new(""), Err(GroupNameError { length: 0 }));
        assert_eq!(GroupName::new([b'x'; 129]), Err(GroupNameError { length: 129 }));
    }

    #[test]
    fn bytes_behind_the_length_do_not_belong_to_the_name() {
        let mut field = vec![0x7f; NAME_FIELD];
        GroupName::new("ab").unwrap().put(&mut field, 0);
        assert_eq!(GroupName::read(&field, 0), GroupName::new("ab").map_err(|_| MessageError::Truncated));
    }
}
