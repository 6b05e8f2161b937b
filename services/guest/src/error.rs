//! What can go wrong, and the gRPC status of each.

use std::{io, path::PathBuf, time::Duration};

use guest_core::{
    command_line::ReadError, config::ConfigError, keys::KeyError, storage::StorageError, vmid::VmidError,
    volume::VolumeError,
};
use quorate_daemon::{status, telemetry::chain};
use tonic::{Code, Status};

use crate::qmp::QmpError;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A number is no guest's.
    #[error(transparent)]
    Vmid(#[from] VmidError),
    /// No node has the guest.
    #[error("there is no guest {0} in this cluster; `qm list` and `pvecm guests` show those that there are")]
    Unknown(u32),
    /// Another node has the guest.
    #[error("guest {vmid} belongs to node '{node}': run the command there, or move the guest first")]
    Elsewhere {
        /// The guest.
        vmid: u32,
        /// The owner.
        node: String,
    },
    /// The number is taken.
    #[error("guest {vmid} already exists on node '{node}'; choose another number")]
    Exists {
        /// The guest.
        vmid: u32,
        /// The owner.
        node: String,
    },
    /// The configuration is locked.
    #[error(
        "guest {vmid} is locked ({lock}): wait until that ends; if nothing does it any more: qm unlock {vmid}"
    )]
    Locked {
        /// The guest.
        vmid: u32,
        /// The lock.
        lock: String,
    },
    /// The guest has a process.
    #[error("guest {0} runs; stop it first: qm shutdown {0}")]
    Running(u32),
    /// The guest has no process.
    #[error("guest {0} does not run; start it first: qm start {0}")]
    Stopped(u32),
    /// The guest may not be removed.
    #[error("guest {0} is protected; to remove it nevertheless: qm set {0} --protection 0")]
    Protected(u32),
    /// Another node may run the guest.
    #[error(
        "guest {vmid} may still run on node '{node}', which has its lease: start that node, it gives the lease back if \
         the guest does not run there; if it is certainly off: qm start {vmid} --node-is-off {node}"
    )]
    LeaseHeld {
        /// The guest.
        vmid: u32,
        /// Who has the lease.
        node: String,
    },
    /// Who has the lease is there.
    #[error(
        "node '{node}' is not off, it is in the ring: it gives back the lease of guest {vmid} as soon as the guest does not run there"
    )]
    NodePresent {
        /// The guest.
        vmid: u32,
        /// The node.
        node: String,
    },
    /// A configuration cannot be read.
    #[error("the configuration of guest {vmid} cannot be used: {source}")]
    Config {
        /// The guest.
        vmid: u32,
        /// Why.
        source: ConfigError,
    },
    /// A configuration cannot be run.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A key cannot be set.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The configuration is not the one that the caller saw.
    #[error("the configuration of guest {0} was changed by somebody else: read it again")]
    Digest(u32),
    /// A text is no volume.
    #[error(transparent)]
    VolumeName(#[from] VolumeError),
    /// `storage.cfg` makes no sense.
    #[error("storage.cfg: {0}")]
    StorageConfig(#[from] StorageError),
    /// There is no such storage.
    #[error("there is no storage '{0}' in storage.cfg")]
    StorageUnknown(String),
    /// The storage cannot be used here.
    #[error("the storage '{name}' cannot be used on this node: {reason}")]
    StorageUnusable {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
    /// There is no such volume.
    #[error("there is no volume '{0}' on this node")]
    VolumeUnknown(String),
    /// There is such a volume.
    #[error("there is a volume '{0}' already")]
    VolumeExists(String),
    /// A guest uses the volume.
    #[error("the volume '{0}' is in use by a guest that runs")]
    VolumeInUse(String),
    /// A volume cannot be made or read.
    #[error("the volume '{volume}': {reason}")]
    VolumeFailed {
        /// Its name.
        volume: String,
        /// Why.
        reason: String,
    },
    /// A field of the request.
    #[error("{field}: {reason}")]
    Field {
        /// Its name.
        field: &'static str,
        /// Why.
        reason: String,
    },
    /// QEMU did not start.
    #[error("QEMU did not start guest {vmid}: {reason}")]
    Qemu {
        /// The guest.
        vmid: u32,
        /// QEMU's words, or the operating system's.
        reason: String,
    },
    /// QEMU's control socket.
    #[error("QEMU of guest {vmid}")]
    Qmp {
        /// The guest.
        vmid: u32,
        /// Why.
        source: QmpError,
    },
    /// QEMU refused a command of the operator's.
    #[error("{0}")]
    MonitorRefused(String),
    /// The guest did not switch itself off.
    #[error("guest {vmid} did not switch itself off within {} s; to end it at once: qm stop {vmid}", within.as_secs())]
    ShutdownTimeout {
        /// The guest.
        vmid: u32,
        /// The time it was given.
        within: Duration,
    },
    /// The migration is another one.
    #[error("guest {vmid} takes part in another migration, or in none: {reason}")]
    Migration {
        /// The guest.
        vmid: u32,
        /// What was found.
        reason: String,
    },
    /// Somebody else reads the serial port.
    #[error("the serial port of guest {0} is in use by another console")]
    ConsoleInUse(u32),
    /// A file of this node.
    #[error("cannot use {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The tree: what configd said.
    #[error("{}", .0.message())]
    Tree(Box<Status>),
}

impl Error {
    /// For `map_err`: what the operating system says of a file.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    /// For `map_err`: what QEMU's control socket says.
    pub(crate) fn qmp(vmid: guest_core::Vmid) -> impl Fn(QmpError) -> Self {
        move |source| Self::Qmp { vmid: vmid.get(), source }
    }

    /// A refusal with a reason and what it is about.
    fn words(&self) -> (Code, &'static str, Vec<(&'static str, String)>) {
        use Code::{
            Aborted, AlreadyExists, DeadlineExceeded, FailedPrecondition, Internal, InvalidArgument,
            NotFound, ResourceExhausted,
        };
        let vmid = |vmid: &u32| ("vmid", vmid.to_string());
        match self {
            Self::Vmid(_) => (InvalidArgument, "VMID_INVALID", vec![]),
            Self::Unknown(id) => (NotFound, "GUEST_UNKNOWN", vec![vmid(id)]),
            Self::Elsewhere { vmid: id, node } => {
                (FailedPrecondition, "GUEST_ELSEWHERE", vec![vmid(id), ("node", node.clone())])
            }
            Self::Exists { vmid: id, node } => {
                (AlreadyExists, "GUEST_EXISTS", vec![vmid(id), ("node", node.clone())])
            }
            Self::Locked { vmid: id, lock } => {
                (FailedPrecondition, "GUEST_LOCKED", vec![vmid(id), ("lock", lock.clone())])
            }
            Self::Running(id) => (FailedPrecondition, "GUEST_RUNNING", vec![vmid(id)]),
            Self::Stopped(id) => (FailedPrecondition, "GUEST_STOPPED", vec![vmid(id)]),
            Self::Protected(id) => (FailedPrecondition, "GUEST_PROTECTED", vec![vmid(id)]),
            Self::LeaseHeld { vmid: id, node } => {
                (FailedPrecondition, "LEASE_HELD", vec![vmid(id), ("node", node.clone())])
            }
            Self::NodePresent { vmid: id, node } => {
                (FailedPrecondition, "NODE_PRESENT", vec![vmid(id), ("node", node.clone())])
            }
            Self::Config { vmid: id, .. } => (FailedPrecondition, "CONFIG_MALFORMED", vec![vmid(id)]),
            Self::Read(_) => (FailedPrecondition, "CONFIG_MALFORMED", vec![]),
            Self::Key(why) => (InvalidArgument, "KEY_INVALID", vec![("key", why.key.clone())]),
            Self::Digest(id) => (Aborted, "DIGEST_MISMATCH", vec![vmid(id)]),
            Self::VolumeName(_) => (InvalidArgument, "VOLUME_INVALID", vec![]),
            Self::StorageConfig(_) => (FailedPrecondition, "STORAGE_CONFIG_MALFORMED", vec![]),
            Self::StorageUnknown(name) => (NotFound, "STORAGE_UNKNOWN", vec![("storage", name.clone())]),
            Self::StorageUnusable { name, .. } => {
                (FailedPrecondition, "STORAGE_UNUSABLE", vec![("storage", name.clone())])
            }
            Self::VolumeUnknown(volume) => (NotFound, "VOLUME_UNKNOWN", vec![("volume", volume.clone())]),
            Self::VolumeExists(volume) => (AlreadyExists, "VOLUME_EXISTS", vec![("volume", volume.clone())]),
            Self::VolumeInUse(volume) => {
                (FailedPrecondition, "VOLUME_IN_USE", vec![("volume", volume.clone())])
            }
            Self::VolumeFailed { volume, .. } => {
                (FailedPrecondition, "VOLUME_FAILED", vec![("volume", volume.clone())])
            }
            Self::Field { field, .. } => {
                (InvalidArgument, "FIELD_INVALID", vec![("field", (*field).to_owned())])
            }
            Self::Qemu { vmid: id, .. } => (FailedPrecondition, "QEMU_FAILED", vec![vmid(id)]),
            Self::Qmp { vmid: id, .. } => (FailedPrecondition, "QMP_FAILED", vec![vmid(id)]),
            Self::MonitorRefused(_) => (InvalidArgument, "MONITOR_REFUSED", vec![]),
            Self::ShutdownTimeout { vmid: id, .. } => (DeadlineExceeded, "SHUTDOWN_TIMEOUT", vec![vmid(id)]),
            Self::Migration { vmid: id, .. } => (Aborted, "MIGRATION_MISMATCH", vec![vmid(id)]),
            Self::ConsoleInUse(id) => (ResourceExhausted, "CONSOLE_IN_USE", vec![vmid(id)]),
            Self::File { path, .. } => (Internal, "FILE_FAILED", vec![("path", path.display().to_string())]),
            Self::Tree(status) => (status.code(), "TREE", vec![]),
        }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Tree(Box::new(status))
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error {
            Error::Tree(status) => *status,
            Error::File { ref source, ref path } if source.kind() == io::ErrorKind::StorageFull => {
                status::error(
                    Code::ResourceExhausted,
                    "STORAGE_FULL",
                    chain(&error),
                    [("path", path.display())],
                )
            }
            error => {
                let (code, reason, metadata) = error.words();
                status::error(code, reason, chain(&error), metadata)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_carries_its_reason_and_what_it_is_about() {
        let refused = Status::from(Error::LeaseHeld { vmid: 100, node: "hp3".into() });
        let reason = status::reason(&refused).unwrap();
        assert_eq!((refused.code(), reason.reason.as_str()), (Code::FailedPrecondition, "LEASE_HELD"));
        assert_eq!((&*reason.metadata["vmid"], &*reason.metadata["node"]), ("100", "hp3"));
        assert!(refused.message().contains("--node-is-off hp3"));
    }

    #[test]
    fn a_full_disk_is_told_apart() {
        let full = Error::File { path: "/x".into(), source: io::ErrorKind::StorageFull.into() };
        assert_eq!(status::reason(&Status::from(full)).unwrap().reason, "STORAGE_FULL");
    }

    #[test]
    fn what_configd_says_is_passed_on() {
        let said = status::error(Code::FailedPrecondition, "NOT_QUORATE", "1 of 2", [("votes", 1)]);
        let passed = Status::from(Error::from(said));
        assert_eq!(status::reason(&passed).unwrap().reason, "NOT_QUORATE");
    }
}
