//! What a question to the status service can be refused for, and the one mapping of it to gRPC.

use config_store_core::status::StatusError;
use quorate_daemon::status;
use tonic::{Code, Status};

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QueryError {
    /// The store refuses it.
    #[error(transparent)]
    Store(#[from] StatusError),
    /// No such node is in corosync.conf.
    #[error("there is no node '{node}'")]
    NodeUnknown {
        /// What was asked for.
        node: String,
    },
    /// The node has no such key.
    #[error("node '{node}' has told nothing under '{key}'")]
    KeyUnknown {
        /// The node.
        node: String,
        /// The key.
        key: String,
    },
    /// No guest may have this number.
    #[error("{vmid} is no number of a guest: they begin with 100; 0 stands for all")]
    VmidInvalid {
        /// What was asked for.
        vmid: u32,
    },
    /// There is no such guest.
    #[error("there is no guest {vmid}")]
    GuestUnknown {
        /// What was asked for.
        vmid: u32,
    },
    /// No property may have this name, or too few or too many were asked for.
    #[error("'{name}' is no property: 1 to 255 names are asked for, each beginning with a small letter")]
    PropertyInvalid {
        /// The first wrong one; empty if it is the number of them.
        name: String,
    },
    /// A token or its secret is no single word.
    #[error("a token and its secret are one word each")]
    TokenInvalid,
    /// The token is not in priv/token.cfg.
    #[error("the token is not known")]
    TokenUnknown,
    /// There is no such generated file.
    #[error("there is no generated file '{name}'")]
    FileUnknown {
        /// What was asked for.
        name: String,
    },
}

impl QueryError {
    /// The code, the reason that programs may rely on, and the number that pmxcfs gives.
    fn kind(&self) -> (Code, &'static str, &'static str) {
        use Code::{InvalidArgument, NotFound, ResourceExhausted};
        match self {
            Self::Store(error) => match error {
                StatusError::KeyInvalid { .. } => (InvalidArgument, "KEY_INVALID", "EINVAL"),
                StatusError::FiguresInvalid { .. } => (InvalidArgument, "FIGURES_INVALID", "EINVAL"),
                StatusError::ValueTooLarge { .. } | StatusError::FiguresTooLarge { .. } => {
                    (ResourceExhausted, "VALUE_TOO_LARGE", "EFBIG")
                }
                StatusError::Full => (ResourceExhausted, "STATUS_FULL", "ENOSPC"),
                StatusError::LogFieldInvalid { .. } | StatusError::PriorityInvalid(_) => {
                    (InvalidArgument, "LOG_ENTRY_INVALID", "EINVAL")
                }
            },
            Self::NodeUnknown { .. } => (NotFound, "NODE_UNKNOWN", "ENOENT"),
            Self::KeyUnknown { .. } => (NotFound, "KEY_UNKNOWN", "ENOENT"),
            Self::VmidInvalid { .. } => (InvalidArgument, "VMID_INVALID", "EINVAL"),
            Self::GuestUnknown { .. } => (NotFound, "GUEST_UNKNOWN", "ENOENT"),
            Self::PropertyInvalid { .. } => (InvalidArgument, "PROPERTY_INVALID", "EINVAL"),
            Self::TokenInvalid => (InvalidArgument, "TOKEN_INVALID", "EINVAL"),
            Self::TokenUnknown => (NotFound, "TOKEN_UNKNOWN", "ENOENT"),
            Self::FileUnknown { .. } => (NotFound, "FILE_UNKNOWN", "ENOENT"),
        }
    }
}

impl From<QueryError> for Status {
    fn from(error: QueryError) -> Self {
        let (code, reason, errno) = error.kind();
        status::error(code, reason, error.to_string(), [("errno", errno)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_carries_the_number_of_pmxcfs() {
        let too_large = StatusError::ValueTooLarge { key: "k".into(), size: 40_000 };
        for (error, code, errno) in [
            (QueryError::from(too_large), Code::ResourceExhausted, "EFBIG"),
            (StatusError::KeyInvalid { length: 300 }.into(), Code::InvalidArgument, "EINVAL"),
            (QueryError::VmidInvalid { vmid: 7 }, Code::InvalidArgument, "EINVAL"),
            (QueryError::KeyUnknown { node: "n".into(), key: "k".into() }, Code::NotFound, "ENOENT"),
        ] {
            let status = Status::from(error);
            let reason = status::reason(&status).expect("every error has a reason");
            assert_eq!(
                (status.code(), reason.metadata.get("errno").map(String::as_str)),
                (code, Some(errno))
            );
        }
    }
}
