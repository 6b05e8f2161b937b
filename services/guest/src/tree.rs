//! The replicated tree as guests need it.

use std::time::Duration;

use bytes::Bytes;
use guest_core::Vmid;
use quorate_daemon::{
    Root,
    client::{DaemonChannel, daemon_channel, deadline},
    status,
};
use quorate_proto::config::v1::{
    AppendLogRequest, DeleteRequest, GetRequest, GetStatusRequest, ListGuestsRequest, ListRequest,
    MkdirRequest, PutRequest, TransactOperation, TransactRequest, config_service_client::ConfigServiceClient,
    get_status_response::State, status_service_client::StatusServiceClient, transact_operation::Operation,
};
use tonic::{Code, Status};

/// Deadline of what only reads this node's replica.
const READ: Duration = quorate_daemon::client::DEADLINE;
/// Deadline of what asks the cluster.
const WRITE: Duration = Duration::from_secs(20);
/// Entries of one page.
const PAGE: u32 = 10_000;
/// Syslog's priority of what is worth knowing.
pub(crate) const INFO: u32 = 6;
/// Syslog's priority of what went wrong.
pub(crate) const ERROR: u32 = 3;

/// A file.
#[derive(Debug, Clone)]
pub(crate) struct File {
    /// Its content.
    pub(crate) content: Bytes,
    /// Its version.
    pub(crate) version: u64,
}

/// Where a guest is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The node that owns it.
    pub(crate) node: String,
    /// `qemu` or `lxc`.
    pub(crate) kind: String,
}

/// The tree behind this node's configd.
#[derive(Clone)]
pub(crate) struct Tree {
    config: ConfigServiceClient<DaemonChannel>,
    status: StatusServiceClient<DaemonChannel>,
}

impl Tree {
    pub(crate) fn new(root: &Root) -> Self {
        let channel = daemon_channel(root, "configd");
        Self { config: ConfigServiceClient::new(channel.clone()), status: StatusServiceClient::new(channel) }
    }

    /// Reads a file from this node's replica; `None` if there is none.
    pub(crate) async fn read(&self, path: &str) -> Result<Option<File>, Status> {
        self.get(path, false).await
    }

    /// Asks the cluster for a file's newest state: needs quorum.
    pub(crate) async fn read_newest(&self, path: &str) -> Result<Option<File>, Status> {
        self.get(path, true).await
    }

    async fn get(&self, path: &str, linearizable: bool) -> Result<Option<File>, Status> {
        let limit = if linearizable { WRITE } else { READ };
        let request = GetRequest { path: path.to_owned(), linearizable };
        match self.config.clone().get(deadline(request, limit)).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                let version = answer.entry.map_or(0, |entry| entry.version);
                Ok(Some(File { content: answer.content, version }))
            }
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// Writes a file if its version is this; 0: if there is none.
    pub(crate) async fn put(&self, path: &str, content: String, expected: u64) -> Result<u64, Status> {
        let request = PutRequest {
            path: path.to_owned(),
            content: content.into(),
            expected_version: Some(expected),
            request_id: Bytes::new(),
            make_parents: true,
        };
        let answer = self.config.clone().put(deadline(request, WRITE)).await?;
        Ok(answer.into_inner().entry.map_or(0, |entry| entry.version))
    }

    /// Deletes a file in this version.
    pub(crate) async fn delete(&self, path: &str, version: u64) -> Result<(), Status> {
        let request = DeleteRequest {
            path: path.to_owned(),
            expected_version: Some(version),
            request_id: Bytes::new(),
        };
        self.config.clone().delete(deadline(request, WRITE)).await.map(drop)
    }

    /// Does all of it or nothing; gives the tree's version.
    pub(crate) async fn transact(&self, operations: Vec<Operation>) -> Result<u64, Status> {
        let operations =
            operations.into_iter().map(|one| TransactOperation { operation: Some(one) }).collect();
        let request = TransactRequest { operations, request_id: Bytes::new() };
        Ok(self.config.clone().transact(deadline(request, WRITE)).await?.into_inner().version)
    }

    /// Makes a directory unless it is there.
    pub(crate) async fn make_directory(&self, path: &str) -> Result<(), Status> {
        let look = ListRequest { path: path.to_owned(), page_size: 1, ..ListRequest::default() };
        match self.config.clone().list(deadline(look, READ)).await {
            Err(status) if status.code() == Code::NotFound => {}
            found => return found.map(drop),
        }
        let request = MkdirRequest { path: path.to_owned(), parents: true, request_id: Bytes::new() };
        self.config.clone().mkdir(deadline(request, WRITE)).await.map(drop)
    }

    /// Names in a directory; none if it does not exist.
    pub(crate) async fn names(&self, path: &str) -> Result<Vec<String>, Status> {
        let request = ListRequest { path: path.to_owned(), page_size: PAGE, ..ListRequest::default() };
        match self.config.clone().list(deadline(request, READ)).await {
            Ok(page) => {
                let entries = page.into_inner().entries.into_iter();
                Ok(entries.filter_map(|entry| Some(entry.path.rsplit_once('/')?.1.to_owned())).collect())
            }
            Err(status) if status.code() == Code::NotFound => Ok(Vec::new()),
            Err(status) => Err(status),
        }
    }

    /// Where a guest is, as this node's replica has it.
    pub(crate) async fn place(&self, vmid: Vmid) -> Result<Option<Place>, Status> {
        let guests =
            self.status.clone().list_guests(deadline(ListGuestsRequest {}, READ)).await?.into_inner();
        let found = guests.guests.into_iter().find(|guest| guest.vmid == vmid.get());
        Ok(found.map(|guest| Place { node: guest.node, kind: guest.r#type }))
    }

    /// Whether the tree can be written now.
    pub(crate) async fn is_writable(&self) -> bool {
        let status = self.config.clone().get_status(deadline(GetStatusRequest {}, READ)).await;
        status.is_ok_and(|status| matches!(status.get_ref().state(), State::Standalone | State::Synchronised))
    }

    /// Adds an entry to the cluster log; one that cannot be added is lost.
    pub(crate) async fn log(&self, priority: u32, message: String) {
        let user = "root@pam".to_owned();
        let request = AppendLogRequest {
            user,
            tag: crate::NAME.to_owned(),
            pid: std::process::id(),
            priority,
            message,
        };
        if let Err(status) = self.status.clone().append_log(deadline(request, READ)).await {
            tracing::warn!(reason = status.message(), "the cluster log takes no entry");
        }
    }
}

/// Whether a write was refused since somebody else was first.
pub(crate) fn is_version_mismatch(status: &Status) -> bool {
    status::reason(status).is_some_and(|reason| reason.reason == "VERSION_MISMATCH")
}
