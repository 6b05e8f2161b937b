//! What can go wrong with a request of the kernel, and the one mapping of it to errno.
//!
//! Source: pmxcfs specification, section 3. Differs: writing to a directory is `EISDIR`; what was surely not done
//! because the replicas are synchronising, or too much waits, is told from what may have been done (`EBUSY`).

use config_store_core::{FILE_MAX, NAME_MAX, OperationError, PathError, RequestError};
use fuser::Errno;
use quorate_daemon::telemetry::chain;

use crate::error::Error;

/// Why a request was refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// No quorum.
    #[error("the configuration is read-only: there is no quorum")]
    ReadOnly,
    /// An entry that is made up by configd.
    #[error("it is made up by configd and cannot be changed")]
    Fixed,
    /// The name or path cannot be one of the tree.
    #[error("it is no name of the tree")]
    Name(#[from] PathError),
    /// The name is no text.
    #[error("its name is not UTF-8")]
    NotText,
    /// There is no such entry, or no longer.
    #[error("it does not exist")]
    NotFound,
    /// The kernel asks for something that is gone: it looks the name up again.
    #[error("it is no longer there")]
    Stale,
    /// Another node removed the file while it was open.
    #[error("another node removed the file while it was open; what was written is lost")]
    Gone,
    /// The name is taken.
    #[error("it exists already")]
    Exists,
    /// A file where a directory is needed.
    #[error("it is not a directory")]
    NotADirectory,
    /// A directory where a file is needed.
    #[error("it is a directory")]
    IsADirectory,
    /// Something in the directory is being written.
    #[error("the directory is not empty")]
    NotEmpty,
    /// Larger than a file may be.
    #[error("a file has at most {FILE_MAX} bytes")]
    TooLarge,
    /// Modes and owners follow from the path.
    #[error("modes and owners follow from the path and cannot be changed")]
    Implied,
    /// There is nothing like that here.
    #[error("there are no links, devices and exchanges here")]
    NotSupported,
    /// An exchange of two entries.
    #[error("entries cannot be exchanged")]
    Flags,
    /// Not what can be written to `.debug`.
    #[error("only 0 or 1 and a new line can be written")]
    Debug,
    /// The handle is not one of ours, or cannot do this.
    #[error("it is not open for that")]
    Handle,
    /// An earlier write of the same file failed.
    #[error("an earlier write failed")]
    Earlier(Errno),
    /// The replica did not answer.
    #[error("the replica did not answer in time; whether it was done is not known")]
    NoAnswer,
    /// The write was refused.
    #[error(transparent)]
    Write(#[from] Error),
}

impl Refused {
    /// What the program gets.
    pub(super) fn errno(&self) -> Errno {
        match self {
            Self::ReadOnly | Self::Fixed => Errno::EACCES,
            Self::Name(PathError::NameTooLong { .. } | PathError::PathTooLong { .. }) => Errno::ENAMETOOLONG,
            // As pmxcfs has it for `.`, `..` and the empty name.
            Self::Name(_) => Errno::EACCES,
            Self::NotText => Errno::EILSEQ,
            Self::NotFound | Self::Gone => Errno::ENOENT,
            Self::Stale => Errno::ESTALE,
            Self::Exists => Errno::EEXIST,
            Self::NotADirectory => Errno::ENOTDIR,
            Self::IsADirectory => Errno::EISDIR,
            Self::NotEmpty => Errno::ENOTEMPTY,
            Self::TooLarge => Errno::EFBIG,
            Self::Implied | Self::NotSupported => Errno::EPERM,
            Self::Flags => Errno::EINVAL,
            Self::Debug => Errno::EIO,
            Self::Handle => Errno::EBADF,
            Self::Earlier(errno) => *errno,
            Self::NoAnswer => Errno::EBUSY,
            Self::Write(error) => of_error(error),
        }
    }

    /// Whether it is an answer that programs ask for, such as whether a lock is taken, and nothing to tell anybody.
    pub(super) fn is_ordinary(&self) -> bool {
        matches!(
            self.errno(),
            Errno::ENOENT | Errno::ESTALE | Errno::EEXIST | Errno::ENOTEMPTY | Errno::ENOTDIR | Errno::EISDIR
        ) && !matches!(self, Self::Gone | Self::Write(Error::Entry(OperationError::GuestExists { .. })))
    }

    /// The reason with its causes.
    pub(super) fn reason(&self) -> String {
        chain(self)
    }
}

fn of_error(error: &Error) -> Errno {
    match error {
        Error::Entry(error) => of_operation(error),
        Error::Request { error, .. } => of_request(error),
        Error::ConfRefused(_) | Error::ConfNotRunnable(_) => Errno::EINVAL,
        Error::Path { source: PathError::NameTooLong { .. } | PathError::PathTooLong { .. }, .. } => {
            Errno::ENAMETOOLONG
        }
        _ => Errno::EIO,
    }
}

fn of_request(error: &RequestError) -> Errno {
    match error {
        RequestError::NotQuorate(_) => Errno::EACCES,
        RequestError::Refused(error) => of_operation(error),
        RequestError::OutcomeUnknown => Errno::EBUSY,
        RequestError::DeadlineExceeded => Errno::ETIMEDOUT,
        RequestError::Overloaded => Errno::EAGAIN,
        RequestError::StoreFailed => Errno::EIO,
    }
}

fn of_operation(error: &OperationError) -> Errno {
    match error {
        OperationError::InTransaction { source, .. } => of_operation(source),
        OperationError::NotFound { .. } => Errno::ENOENT,
        OperationError::AlreadyExists { .. } | OperationError::GuestExists { .. } => Errno::EEXIST,
        OperationError::NotADirectory { .. } => Errno::ENOTDIR,
        OperationError::IsADirectory { .. } => Errno::EISDIR,
        OperationError::NotEmpty { .. } => Errno::ENOTEMPTY,
        OperationError::IntoItself { .. } => Errno::EINVAL,
        OperationError::IsRoot | OperationError::LockHeld { .. } => Errno::EACCES,
        OperationError::Changed { .. } => Errno::ESTALE,
        OperationError::FileTooLarge { .. } => Errno::EFBIG,
        OperationError::TreeFull { .. } | OperationError::TooManyEntries => Errno::ENOSPC,
    }
}

/// A name of the kernel as one of the tree.
pub(super) fn name(name: &std::ffi::OsStr) -> Result<&str, Refused> {
    if name.len() > NAME_MAX {
        return Err(PathError::NameTooLong { length: name.len() }.into());
    }
    name.to_str().ok_or(Refused::NotText)
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};

    use config_store_core::{ConfigPath, Shortfall};

    use super::*;

    fn path() -> ConfigPath {
        "a".parse().expect("a path")
    }

    fn request(error: RequestError) -> Errno {
        Refused::Write(Error::Request {
            context: String::new(),
            error: Box::new(error),
            metadata: Vec::new(),
        })
        .errno()
    }

    fn operation(error: OperationError) -> Errno {
        Refused::Write(Error::Entry(error)).errno()
    }

    #[test]
    fn what_befalls_every_write_has_the_errno_of_the_table() {
        assert_eq!(request(RequestError::NotQuorate(Shortfall::default())), Errno::EACCES);
        assert_eq!(Refused::ReadOnly.errno(), Errno::EACCES);
        assert_eq!(request(RequestError::OutcomeUnknown), Errno::EBUSY);
        assert_eq!(Refused::NoAnswer.errno(), Errno::EBUSY);
        assert_eq!(request(RequestError::StoreFailed), Errno::EIO);
        assert_eq!(request(RequestError::DeadlineExceeded), Errno::ETIMEDOUT);
        assert_eq!(request(RequestError::Overloaded), Errno::EAGAIN);
        assert_eq!(Refused::Write(Error::Stopped).errno(), Errno::EIO);
    }

    #[test]
    fn what_the_tree_refuses_has_the_errno_of_the_table() {
        for (error, errno) in [
            (OperationError::NotFound { path: path() }, Errno::ENOENT),
            (OperationError::AlreadyExists { path: path() }, Errno::EEXIST),
            (OperationError::NotADirectory { path: path() }, Errno::ENOTDIR),
            (OperationError::IsADirectory { path: path() }, Errno::EISDIR),
            (OperationError::NotEmpty { path: path() }, Errno::ENOTEMPTY),
            (OperationError::IntoItself { path: path() }, Errno::EINVAL),
            (OperationError::IsRoot, Errno::EACCES),
            (OperationError::FileTooLarge { path: path(), size: 9 }, Errno::EFBIG),
            (OperationError::TreeFull { size: 9 }, Errno::ENOSPC),
            (OperationError::TooManyEntries, Errno::ENOSPC),
            (OperationError::GuestExists { vmid: 100, path: path() }, Errno::EEXIST),
            (OperationError::LockHeld { path: path(), holder: 1, mtime: 2 }, Errno::EACCES),
        ] {
            assert_eq!(operation(error.clone()), errno, "{error:?}");
            assert_eq!(request(RequestError::Refused(error)), errno);
        }
    }

    #[test]
    fn a_bad_corosync_conf_is_an_invalid_argument() {
        let refused = Refused::Write(Error::ConfRefused(crate::conf_guard::ConfRefusal::NotText));
        assert_eq!(refused.errno(), Errno::EINVAL);
        assert!(refused.reason().contains("not UTF-8"), "{}", refused.reason());
    }

    #[test]
    fn a_taken_lock_is_ordinary_and_a_taken_vmid_is_not() {
        let refused = |error| Refused::Write(Error::Entry(error));
        assert!(refused(OperationError::AlreadyExists { path: path() }).is_ordinary());
        assert!(!refused(OperationError::GuestExists { vmid: 100, path: path() }).is_ordinary());
        assert!(!Refused::ReadOnly.is_ordinary() && !Refused::Gone.is_ordinary());
    }

    #[test]
    fn names_are_text_of_at_most_255_bytes() {
        assert_eq!(name(OsStr::new("a.conf")).ok(), Some("a.conf"));
        let errno = |text: &[u8]| name(OsStr::from_bytes(text)).err().map(|refused| refused.errno());
        assert_eq!(errno(&[b'n'; 255]), None);
        assert_eq!(errno(&[b'n'; 256]), Some(Errno::ENAMETOOLONG));
        assert_eq!(errno(b"\xff"), Some(Errno::EILSEQ));
    }
}
