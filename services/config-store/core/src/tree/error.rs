//! Why an operation was refused: the same answer on every replica.

use super::{ENTRIES_MAX, FILE_MAX, TREE_BYTES_MAX};
use crate::path::ConfigPath;

/// Why an operation was refused. The tree is untouched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperationError {
    /// A path, or a directory on the way to it, does not exist. (`ENOENT`)
    #[error("'{path}' does not exist")]
    NotFound {
        /// What is missing.
        path: ConfigPath,
    },
    /// The name is taken. (`EEXIST`)
    #[error("'{path}' exists already")]
    AlreadyExists {
        /// The name.
        path: ConfigPath,
    },
    /// A file stands where a directory is needed. (`ENOTDIR`)
    #[error("'{path}' is not a directory")]
    NotADirectory {
        /// The file.
        path: ConfigPath,
    },
    /// A directory stands where a file is needed. (`EISDIR`)
    #[error("'{path}' is a directory")]
    IsADirectory {
        /// The directory.
        path: ConfigPath,
    },
    /// The directory has entries: it can be neither removed, renamed nor replaced. (`ENOTEMPTY`)
    #[error("the directory '{path}' is not empty")]
    NotEmpty {
        /// The directory.
        path: ConfigPath,
    },
    /// A directory was to be moved below itself. (`EINVAL`)
    #[error("the directory '{path}' cannot move below itself")]
    IntoItself {
        /// The directory.
        path: ConfigPath,
    },
    /// The root directory cannot be changed itself. (`EACCES`)
    #[error("the root directory cannot be changed")]
    IsRoot,
    /// The entry is not what the caller expected it to be. Read it again, then retry. (`ABORTED`)
    #[error("'{path}' changed since it was read: it is at version {version}; read it again")]
    Changed {
        /// The entry.
        path: ConfigPath,
        /// The version of its last change.
        version: u64,
    },
    /// The file would be larger than the limit. (`EFBIG`)
    #[error("the file '{path}' would have {size} bytes, at most {FILE_MAX} are allowed")]
    FileTooLarge {
        /// The file.
        path: ConfigPath,
        /// Its size after the operation.
        size: usize,
    },
    /// All files together would be larger than the limit. (`ENOSPC`)
    #[error("all files together would have {size} bytes, at most {TREE_BYTES_MAX} are allowed")]
    TreeFull {
        /// Their size after the operation.
        size: usize,
    },
    /// There are as many entries as there may be. (`ENOSPC`)
    #[error("there are {ENTRIES_MAX} entries, no more are allowed")]
    TooManyEntries,
    /// The VMID belongs to another guest. (`EEXIST`)
    #[error("VMID {vmid} is in use by '{path}'")]
    GuestExists {
        /// The number.
        vmid: u32,
        /// The configuration that has it.
        path: ConfigPath,
    },
    /// A lock directory was to be refreshed by another node than its holder, made older, or renamed.
    /// (`EACCES`)
    #[error("the lock '{path}' is held by node {holder} since {mtime}")]
    LockHeld {
        /// The lock.
        path: ConfigPath,
        /// Node id of the holder; 0 stand-alone.
        holder: u32,
        /// When the holder took or refreshed it, by its clock in whole UTC seconds.
        mtime: u32,
    },
    /// An operation of a transaction was refused, and with it the whole transaction.
    #[error("operation {index} of the transaction, on '{path}', is refused")]
    InTransaction {
        /// Which one, from 0.
        index: usize,
        /// Its path.
        path: ConfigPath,
        /// Why.
        #[source]
        source: Box<OperationError>,
    },
}

impl OperationError {
    /// Why the operation itself was refused: what is inside of [`OperationError::InTransaction`].
    #[must_use]
    pub fn cause(&self) -> &Self {
        match self {
            Self::InTransaction { source, .. } => source.cause(),
            cause => cause,
        }
    }
}
