//! What can go wrong in membershipd, and the one mapping of it to gRPC.

use std::{borrow::Cow, io, net::SocketAddr, path::PathBuf};

use tonic::{Code, Status};

/// An error of membershipd.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// corosync.conf or node.toml is not usable.
    #[error("configuration is not usable, {state}")]
    Config {
        /// What holds now.
        state: &'static str,
        /// What is wrong, with file, line and key.
        #[source]
        source: crate::config::ConfigError,
    },
    /// The ring's address cannot be bound.
    #[error("cannot bind the ring to UDP {address}; {way_out}")]
    Bind {
        /// Address and port.
        address: SocketAddr,
        /// What to do about it.
        way_out: &'static str,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// The ring's links cannot be set up as configured.
    #[error("the links of the ring cannot be set up")]
    Links(#[source] membership_core::knet::ConfigError),
    /// The key of the ring cannot be used.
    #[error(
        "the packets of the ring cannot be protected as corosync.conf says (secauth, crypto_cipher, crypto_hash, keyfile)"
    )]
    Crypto(#[source] membership_core::knet::CryptoError),
    /// The ring id file cannot be read or written.
    #[error("cannot keep the ring id in {path}")]
    RingId {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// The daemon's state directory cannot be made.
    #[error("cannot make the state directory {path}")]
    StateDir {
        /// The directory.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// The ring's thread cannot be started.
    #[error("cannot start the ring's thread")]
    Thread(#[source] io::Error),
    /// The ring's thread has ended.
    #[error("the ring has stopped")]
    Stopped,
    /// This node is not part of a cluster, or has left the ring.
    #[error("this node has no ring: {0}")]
    NoRing(Cow<'static, str>),
    /// The group name is empty or too long.
    #[error("a group name has 1 to 128 bytes, this one has {0}")]
    GroupName(usize),
    /// A message is larger than the ring takes.
    #[error("a message may have {max} bytes, this one has {length}")]
    MessageTooLong {
        /// Its size in bytes.
        length: usize,
        /// The most that is allowed.
        max: usize,
    },
    /// A stream did not begin as it must, or an enum is not set.
    #[error("{0}")]
    Protocol(&'static str),
    /// The member did not read its events for too long.
    #[error("events were not read fast enough: {0} batches are waiting")]
    SlowReader(usize),
    /// The service cannot be attached.
    #[error("service {0} cannot be attached; only votequorum (5) can")]
    NotAttachable(u32),
    /// Another engine has attached itself in place of this one.
    #[error("another engine has attached itself to service {0}")]
    Replaced(u16),
    /// The ring refused a message.
    #[error("the ring refused the message: {0}")]
    Refused(String),
}

impl Error {
    /// The reason that clients see and may rely on.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Config { .. } => "CONFIG_INVALID",
            Self::Bind { .. } => "ADDRESS_NOT_USABLE",
            Self::Links(_) => "LINKS_NOT_USABLE",
            Self::Crypto(_) => "KEY_NOT_USABLE",
            Self::RingId { .. } => "RING_ID_NOT_STORED",
            Self::StateDir { .. } => "STATE_DIRECTORY_NOT_USABLE",
            Self::Thread(_) => "THREAD_NOT_STARTED",
            Self::Stopped => "STOPPED",
            Self::NoRing(_) => "NO_RING",
            Self::GroupName(_) => "GROUP_NAME_INVALID",
            Self::MessageTooLong { .. } => "MESSAGE_TOO_LONG",
            Self::Protocol(_) => "STREAM_PROTOCOL",
            Self::SlowReader(_) => "SLOW_READER",
            Self::NotAttachable(_) => "SERVICE_NOT_ATTACHABLE",
            Self::Replaced(_) => "SERVICE_REPLACED",
            Self::Refused(_) => "RING_REFUSED",
        }
    }

    fn code(&self) -> Code {
        match self {
            Self::Config { .. } | Self::Bind { .. } | Self::Links(_) | Self::Crypto(_) => {
                Code::FailedPrecondition
            }
            Self::RingId { .. } | Self::StateDir { .. } | Self::Thread(_) => Code::Internal,
            Self::Stopped | Self::NoRing(_) => Code::Unavailable,
            Self::GroupName(_) | Self::MessageTooLong { .. } | Self::Protocol(_) | Self::NotAttachable(_) => {
                Code::InvalidArgument
            }
            Self::SlowReader(_) | Self::Refused(_) => Code::ResourceExhausted,
            Self::Replaced(_) => Code::Aborted,
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        quorate_daemon::status::error(
            error.code(),
            error.reason(),
            quorate_daemon::telemetry::chain(&error),
            std::iter::empty::<(String, String)>(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_a_stable_reason_in_upper_snake_case() {
        let address = "127.0.0.1:5405".parse().expect("address");
        let io = || io::Error::from(io::ErrorKind::AddrInUse);
        let errors = [
            Error::Bind { address, way_out: "choose another port", source: io() },
            Error::RingId { path: PathBuf::from("ringid_1"), source: io() },
            Error::Thread(io()),
            Error::Stopped,
            Error::NoRing("it is not part of a cluster".into()),
            Error::GroupName(0),
            Error::MessageTooLong { length: 2, max: 1 },
            Error::Protocol("the first message must be join"),
            Error::SlowReader(9),
            Error::NotAttachable(2),
            Error::Replaced(5),
            Error::Refused("the queue is full".to_owned()),
        ];
        for error in errors {
            let reason = error.reason();
            assert!(reason.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'), "{reason}");
            assert_ne!(Status::from(error).code(), Code::Unknown, "{reason}");
        }
    }
}
