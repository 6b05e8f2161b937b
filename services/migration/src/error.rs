//! What goes wrong, as callers see it.

use quorate_daemon::status;
use tonic::{Code, Status};

/// A file, socket or certificate of this node.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The journal of what waits here.
    #[error("cannot use {}", path.display())]
    Journal {
        /// The file.
        path: std::path::PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The node's key and certificates.
    #[error("cannot use the certificate of this node in {}; is it a member of a cluster?", path.display())]
    Identity {
        /// The directory.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Nobody knows this migration.
pub(crate) fn unknown(vmid: u32) -> Status {
    let message = format!("guest {vmid} is not being migrated from this node");
    status::error(Code::NotFound, "MIGRATION_UNKNOWN", message, [("vmid", vmid)])
}

/// Everything that stands in the way of a migration, before anything was changed.
pub(crate) fn preflight(vmid: u32, obstacles: &[String]) -> Status {
    let list = obstacles.join("\n  ");
    let message = format!("guest {vmid} cannot be migrated; nothing was changed:\n  {list}");
    let metadata = [("vmid", vmid.to_string()), ("obstacles", obstacles.len().to_string())];
    status::error(Code::FailedPrecondition, "PREFLIGHT_FAILED", message, metadata)
}

/// A guest that has a migration already.
pub(crate) fn busy(vmid: u32) -> Status {
    let message = format!("guest {vmid} is being migrated already; 'qm migrations' shows how far it is");
    status::error(Code::FailedPrecondition, "MIGRATION_RUNNING", message, [("vmid", vmid)])
}

/// The other node does not answer, or refuses.
pub(crate) fn peer(node: &str, why: &str) -> Status {
    let message = format!("node '{node}' cannot be reached for a migration: {why}");
    status::error(Code::Unavailable, "PEER_UNREACHABLE", message, [("node", node)])
}

/// Whether a status says that what it is about is not there or does not run.
pub(crate) fn reason(status: &Status) -> String {
    status::reason(status).map(|reason| reason.reason).unwrap_or_default()
}
