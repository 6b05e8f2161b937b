//! What can go wrong in configd, and the one mapping of it to gRPC.

use std::{io, path::PathBuf};

use config_store_core::{ConfigPath, OperationError, PathError, RequestError, TransactionError};
use quorate_daemon::{status, telemetry::chain};
use tonic::{Code, Status};

use crate::rocks::StoreError;

/// An error of configd.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store cannot be used.
    #[error("the store cannot be used")]
    Store(#[from] StoreError),
    /// corosync.conf cannot be read.
    #[error("cannot read {path}")]
    ReadConf {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// corosync.conf is not valid.
    #[error("{path} has mistakes")]
    Conf {
        /// The file.
        path: PathBuf,
        /// All of them.
        #[source]
        source: corosync_conf::ConfErrors,
    },
    /// The old tree cannot be set aside.
    #[error("cannot set the old tree aside as {path}")]
    SetAside {
        /// Where it should lie.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// The store's thread cannot be started.
    #[error("cannot start the store's thread")]
    Thread(#[source] io::Error),
    /// The driver has ended.
    #[error("the replica has stopped")]
    Stopped,
    /// A path is not valid.
    #[error("'{path}' is no path of the tree")]
    Path {
        /// What was given.
        path: String,
        /// Why it is not.
        #[source]
        source: PathError,
    },
    /// There is no such entry, or it is of the wrong kind.
    #[error(transparent)]
    Entry(OperationError),
    /// This may not become the cluster's corosync.conf.
    #[error("corosync.conf stays as it is, nothing was changed")]
    ConfRefused(#[source] crate::conf_guard::ConfRefusal),
    /// This node's ring could not run with it.
    #[error("corosync.conf stays as it is, nothing was changed: {0}")]
    ConfNotRunnable(String),
    /// A request id has the wrong length.
    #[error("a request id has 16 bytes, this one has {0}")]
    RequestId(usize),
    /// Operations make no transaction.
    #[error("this is no transaction, nothing was changed")]
    Transaction(#[source] TransactionError),
    /// An operation of a transaction is not valid.
    #[error("operation {index} of the transaction is not valid, nothing was changed: {problem}")]
    TransactionOperation {
        /// Which one, from 0.
        index: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// Nothing is known of what was at a path.
    #[error("no version of '{path}' is kept on this node")]
    NoHistory {
        /// The path.
        path: ConfigPath,
    },
    /// A content of the past is not here.
    #[error(
        "the content of '{path}' at version {version} is not kept on this node; another node may have it, see 'pvecm cfg history'"
    )]
    VersionNotKept {
        /// The path.
        path: ConfigPath,
        /// The version.
        version: u64,
    },
    /// There is no such conflict copy.
    #[error("there is no conflict copy {number} on this node")]
    NoConflict {
        /// Its number.
        number: u64,
    },
    /// A page token is not one of ours.
    #[error("the page token is not from an answer of this service")]
    PageToken,
    /// A write was not, or perhaps not, performed.
    #[error("{context}")]
    Request {
        /// What it means for the caller, with numbers and names.
        context: String,
        /// What is known.
        error: Box<RequestError>,
        /// The same for programs.
        metadata: Vec<(&'static str, String)>,
    },
    /// A watch cannot resume that far back.
    #[error(
        "changes before version {oldest} are no longer kept: read what you need again, then watch from the version of that answer"
    )]
    Compacted {
        /// The oldest version from which a watch may resume.
        oldest: u64,
    },
    /// A watcher did not read its changes for too long.
    #[error("changes were not read fast enough; resume from the last version")]
    SlowReader,
}

impl Error {
    /// The reason that clients see and may rely on.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Store(_) | Self::Thread(_) => "STORE_FAILED",
            Self::ReadConf { .. } | Self::Conf { .. } => "CONFIG_INVALID",
            Self::ConfRefused(_) | Self::ConfNotRunnable(_) => "CONFIGURATION_INVALID",
            Self::SetAside { .. } => "TREE_NOT_SET_ASIDE",
            Self::Stopped => "STOPPED",
            Self::Path { .. } => "PATH_INVALID",
            Self::Entry(error) => operation_reason(error),
            Self::RequestId(_) => "REQUEST_ID_INVALID",
            Self::Transaction(_) | Self::TransactionOperation { .. } => "TRANSACTION_INVALID",
            Self::NoHistory { .. } => "HISTORY_NOT_FOUND",
            Self::VersionNotKept { .. } => "VERSION_NOT_KEPT",
            Self::NoConflict { .. } => "CONFLICT_NOT_FOUND",
            Self::PageToken => "PAGE_TOKEN_INVALID",
            Self::Request { error, .. } => request_reason(error),
            Self::Compacted { .. } => "COMPACTED",
            Self::SlowReader => "SLOW_READER",
        }
    }

    fn code(&self) -> Code {
        match self {
            Self::Store(_) | Self::Thread(_) | Self::SetAside { .. } => Code::Internal,
            Self::ReadConf { .. } | Self::Conf { .. } | Self::ConfRefused(_) | Self::ConfNotRunnable(_) => {
                Code::FailedPrecondition
            }
            Self::Stopped => Code::Unavailable,
            Self::Path { .. }
            | Self::RequestId(_)
            | Self::Transaction(_)
            | Self::TransactionOperation { .. }
            | Self::PageToken => Code::InvalidArgument,
            Self::Entry(error) => operation_code(error),
            Self::Request { error, .. } => request_code(error),
            Self::NoHistory { .. } | Self::NoConflict { .. } => Code::NotFound,
            Self::Compacted { .. } | Self::VersionNotKept { .. } => Code::OutOfRange,
            Self::SlowReader => Code::ResourceExhausted,
        }
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Request { metadata, .. } => metadata.clone(),
            Self::Compacted { oldest } => vec![("oldest_version", oldest.to_string())],
            Self::Entry(OperationError::InTransaction { index, path, .. }) => {
                vec![("index", index.to_string()), ("path", path.to_string())]
            }
            Self::TransactionOperation { index, .. } => vec![("index", index.to_string())],
            _ => Vec::new(),
        }
    }
}

fn operation_reason(error: &OperationError) -> &'static str {
    match error {
        OperationError::NotFound { .. } => "NOT_FOUND",
        OperationError::AlreadyExists { .. } => "ALREADY_EXISTS",
        OperationError::NotADirectory { .. } => "NOT_A_DIRECTORY",
        OperationError::IsADirectory { .. } => "IS_A_DIRECTORY",
        OperationError::NotEmpty { .. } => "NOT_EMPTY",
        OperationError::IntoItself { .. } => "INTO_ITSELF",
        OperationError::IsRoot => "IS_ROOT",
        OperationError::Changed { .. } => "VERSION_MISMATCH",
        OperationError::FileTooLarge { .. } => "FILE_TOO_LARGE",
        OperationError::TreeFull { .. } => "TREE_FULL",
        OperationError::TooManyEntries => "TOO_MANY_ENTRIES",
        OperationError::GuestExists { .. } => "GUEST_EXISTS",
        OperationError::LockHeld { .. } => "LOCK_HELD",
        OperationError::InTransaction { source, .. } => operation_reason(source),
    }
}

fn operation_code(error: &OperationError) -> Code {
    match error {
        OperationError::NotFound { .. } => Code::NotFound,
        OperationError::AlreadyExists { .. } | OperationError::GuestExists { .. } => Code::AlreadyExists,
        OperationError::NotADirectory { .. }
        | OperationError::IsADirectory { .. }
        | OperationError::NotEmpty { .. } => Code::FailedPrecondition,
        OperationError::IntoItself { .. } | OperationError::IsRoot => Code::InvalidArgument,
        OperationError::Changed { .. } | OperationError::LockHeld { .. } => Code::Aborted,
        OperationError::FileTooLarge { .. }
        | OperationError::TreeFull { .. }
        | OperationError::TooManyEntries => Code::ResourceExhausted,
        OperationError::InTransaction { source, .. } => operation_code(source),
    }
}

fn request_reason(error: &RequestError) -> &'static str {
    match error {
        RequestError::NotQuorate(_) => "NOT_QUORATE",
        RequestError::Refused(error) => operation_reason(error),
        RequestError::OutcomeUnknown => "OUTCOME_UNKNOWN",
        RequestError::DeadlineExceeded => "SYNCHRONISING",
        RequestError::Overloaded => "OVERLOADED",
        RequestError::StoreFailed => "STORE_FAILED",
    }
}

fn request_code(error: &RequestError) -> Code {
    match error {
        RequestError::NotQuorate(_) => Code::FailedPrecondition,
        RequestError::Refused(error) => operation_code(error),
        RequestError::OutcomeUnknown => Code::Unknown,
        RequestError::DeadlineExceeded => Code::DeadlineExceeded,
        RequestError::Overloaded => Code::ResourceExhausted,
        RequestError::StoreFailed => Code::Internal,
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        status::error(error.code(), error.reason(), chain(&error), error.metadata())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_quorate_is_a_failed_precondition_with_its_numbers() {
        let error = Error::Request {
            context: "votes present 1 of 3, 2 needed".to_owned(),
            error: Box::new(RequestError::NotQuorate(config_store_core::Shortfall::default())),
            metadata: vec![("votes_present", "1".to_owned())],
        };
        let status = Status::from(error);
        let reason = status::reason(&status).expect("every error has a reason");
        assert_eq!((status.code(), reason.reason.as_str()), (Code::FailedPrecondition, "NOT_QUORATE"));
        assert_eq!(reason.metadata.get("votes_present").map(String::as_str), Some("1"));
    }

    #[test]
    fn a_refused_transaction_has_the_reason_of_its_operation_and_says_which_one_it_was() {
        let path: config_store_core::ConfigPath = "a".parse().expect("a path");
        let source = Box::new(OperationError::Changed { path: path.clone(), version: 7 });
        let status = Status::from(Error::Entry(OperationError::InTransaction { index: 3, path, source }));
        let reason = status::reason(&status).expect("reason");
        assert_eq!((status.code(), reason.reason.as_str()), (Code::Aborted, "VERSION_MISMATCH"));
        assert_eq!(reason.metadata.get("index").map(String::as_str), Some("3"));
        assert!(status.message().contains("operation 3 of the transaction, on 'a'"), "{}", status.message());
        assert!(status.message().contains("version 7"), "{}", status.message());
    }

    #[test]
    fn a_changed_file_asks_the_caller_to_read_again() {
        let path = "a".parse().expect("a path");
        let status = Status::from(Error::Entry(OperationError::Changed { path, version: 7 }));
        assert_eq!(status.code(), Code::Aborted);
        assert_eq!(status::reason(&status).expect("reason").reason, "VERSION_MISMATCH");
    }
}
