//! `pvecm cfg status`: this node's replica of the shared tree.

use std::fmt::Write as _;

use quorate_proto::config::v1::{GetStatusRequest, GetStatusResponse, get_status_response::State};
use serde::Serialize;

use crate::{client::Client, error::Error, exit::Exit, output::Output};

/// Shows version, checksum and state of this node's replica.
///
/// Replicas of the same version have the same checksum.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  pvecm cfg status
  pvecm cfg status -o json")]
pub(super) struct Args {}

/// The document of `pvecm cfg status -o json`.
#[derive(Debug, Serialize)]
struct Replica {
    /// standalone, read_only, synchronising, synchronised or failed.
    state: &'static str,
    writable: bool,
    /// Why it is not writable; empty if it is.
    reason: String,
    version: u64,
    checksum: String,
    /// Sequence of the last quorate ring in which this replica was in sync.
    epoch: u64,
    /// Highest version on this node's disk.
    durable_version: u64,
    entries: u64,
    content_bytes: u64,
    /// Oldest version from which a watch may go on.
    oldest_version: u64,
    /// Node ids that take part in replication.
    members: Vec<u32>,
    /// Copies of files that lost a conflict and nobody has looked at yet.
    conflict_copies: u64,
}

impl From<GetStatusResponse> for Replica {
    fn from(status: GetStatusResponse) -> Self {
        let state = status.state();
        Self {
            state: match state {
                State::Standalone => "standalone",
                State::ReadOnly | State::Unspecified => "read_only",
                State::Synchronising => "synchronising",
                State::Synchronised => "synchronised",
                State::Failed => "failed",
            },
            writable: matches!(state, State::Standalone | State::Synchronised),
            reason: status.reason,
            version: status.version,
            checksum: status.checksum,
            epoch: status.epoch,
            durable_version: status.durable_version,
            entries: status.entries,
            content_bytes: status.content_bytes,
            oldest_version: status.oldest_version,
            members: status.members,
            conflict_copies: status.conflict_copies,
        }
    }
}

impl Replica {
    fn text(&self) -> String {
        let members: Vec<String> = self.members.iter().map(u32::to_string).collect();
        let mut text = String::new();
        let mut field = |label: &str, value: &str| {
            let _ = writeln!(text, "{:<18}{value}", format!("{label}:"));
        };
        field("State", self.state);
        if !self.reason.is_empty() {
            field("Reason", &self.reason);
        }
        field("Version", &self.version.to_string());
        field("Checksum", &self.checksum);
        field("Epoch", &self.epoch.to_string());
        field("On disk", &self.durable_version.to_string());
        field("Entries", &self.entries.to_string());
        field("Content bytes", &self.content_bytes.to_string());
        field("Oldest version", &self.oldest_version.to_string());
        field("Members", &members.join(" "));
        field("Conflict copies", &self.conflict_copies.to_string());
        text
    }
}

pub(super) async fn run(_args: &Args, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let request = client.request(GetStatusRequest {});
    let answer = client.config().get_status(request).await.map_err(client.failure())?;
    let replica = Replica::from(answer.into_inner());
    out.answer(&replica, || replica.text())?;
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_says_whether_it_is_writable_and_why_not() {
        let read_only = GetStatusResponse {
            state: State::ReadOnly.into(),
            reason: "no quorum".into(),
            members: vec![1, 3],
            ..GetStatusResponse::default()
        };
        let replica = Replica::from(read_only);
        assert!(!replica.writable);
        let text = replica.text();
        assert!(text.starts_with("State:            read_only\nReason:           no quorum\nVersion:"));
        assert!(text.contains("\nMembers:          1 3\n"));
    }
}
