//! The replicated tree as the gateway uses it: whole files, by path and version.

use bytes::Bytes;
use quorate_daemon::{
    Root,
    client::{DaemonChannel, deadline},
    status,
};
use quorate_proto::config::v1::{
    DeleteRequest, Entry, GetRequest, ListRequest, MkdirRequest, PutRequest, TransactRequest,
    config_service_client::ConfigServiceClient,
};
use tonic::{Code, Status};

use crate::{
    absent,
    batch::Batch,
    client::{Daemons, READ, WRITE},
};

/// The cluster's configuration.
pub const COROSYNC_CONF: &str = "corosync.conf";
/// The cluster CA's certificate.
pub const CA_CERTIFICATE: &str = "pve-root-ca.pem";
/// The cluster CA's key.
pub const CA_KEY: &str = "priv/pve-root-ca.key";

/// Entries per page of a listing: the most that configd gives.
const PAGE: u32 = 10_000;

/// A node's published certificate.
#[must_use]
pub fn certificate_path(node: &str) -> String {
    format!("nodes/{node}/pve-ssl.pem")
}

/// Where a node's gateway listens, as `address:port`.
#[must_use]
pub fn gateway_path(node: &str) -> String {
    format!("nodes/{node}/gateway")
}

/// That a node was admitted and has not been confirmed: its id.
#[must_use]
pub fn joining_path(node: &str) -> String {
    format!("nodes/{node}/joining")
}

/// A file of the tree.
#[derive(Debug, Clone)]
pub struct File {
    /// Its whole content.
    pub content: Bytes,
    /// Its version: what a conditional write names.
    pub version: u64,
}

/// The tree, through this node's configd.
#[derive(Clone)]
pub struct Tree {
    root: Root,
    client: ConfigServiceClient<DaemonChannel>,
}

impl File {
    /// The content as text; what is no UTF-8 becomes a replacement character.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.content).into_owned()
    }
}

impl Tree {
    /// The tree behind this node's configd.
    #[must_use]
    pub fn new(daemons: &Daemons) -> Self {
        Self { root: daemons.root().clone(), client: daemons.config() }
    }

    /// What configd said, or that it does not answer.
    fn failed(&self, status: Status) -> Status {
        absent::explained(&self.root, "configd", status)
    }

    /// Reads a file; `None` if there is none.
    ///
    /// # Errors
    /// What configd says, UNAVAILABLE if it does not answer.
    pub async fn read(&self, path: &str) -> Result<Option<File>, Status> {
        let request = GetRequest { path: path.to_owned(), linearizable: false };
        match self.client.clone().get(deadline(request, READ)).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                let version = answer.entry.map_or(0, |entry| entry.version);
                Ok(Some(File { content: answer.content, version }))
            }
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(self.failed(status)),
        }
    }

    /// Writes a file, and the directories on the way to it. With `expected` only if the file's version is
    /// that; 0 stands for no file.
    ///
    /// # Errors
    /// What configd says; see [`is_version_mismatch`].
    pub async fn write(
        &self,
        path: &str,
        content: impl Into<Bytes>,
        expected: Option<u64>,
    ) -> Result<(), Status> {
        let request = PutRequest {
            path: path.to_owned(),
            content: content.into(),
            expected_version: expected,
            request_id: Bytes::new(),
            make_parents: true,
        };
        self.client
            .clone()
            .put(deadline(request, WRITE))
            .await
            .map(drop)
            .map_err(|status| self.failed(status))
    }

    /// Makes a directory and those above it; one that exists is fine.
    ///
    /// # Errors
    /// What configd says.
    pub async fn make_directory(&self, path: &str) -> Result<(), Status> {
        let request = MkdirRequest { path: path.to_owned(), parents: true, request_id: Bytes::new() };
        self.client
            .clone()
            .mkdir(deadline(request, WRITE))
            .await
            .map(drop)
            .map_err(|status| self.failed(status))
    }

    /// Deletes a file, with `expected` only in that version; says whether there was one.
    ///
    /// # Errors
    /// What configd says; see [`is_version_mismatch`].
    pub async fn delete(&self, path: &str, expected: Option<u64>) -> Result<bool, Status> {
        let request =
            DeleteRequest { path: path.to_owned(), expected_version: expected, request_id: Bytes::new() };
        match self.client.clone().delete(deadline(request, WRITE)).await {
            Ok(_) => Ok(true),
            Err(status) if status.code() == Code::NotFound => Ok(false),
            Err(status) => Err(self.failed(status)),
        }
    }

    /// Makes all changes of a batch, or none.
    ///
    /// # Errors
    /// What configd says; see [`is_stale`].
    pub async fn transact(&self, batch: Batch) -> Result<(), Status> {
        let request = TransactRequest { operations: batch.into_operations(), request_id: Bytes::new() };
        self.client
            .clone()
            .transact(deadline(request, WRITE))
            .await
            .map(drop)
            .map_err(|status| self.failed(status))
    }

    /// Everything below a directory, by path; nothing if there is no such directory.
    ///
    /// # Errors
    /// What configd says.
    pub async fn list(&self, path: &str) -> Result<Vec<Entry>, Status> {
        let mut entries = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = ListRequest { path: path.to_owned(), recursive: true, page_size: PAGE, page_token };
            let page = match self.client.clone().list(deadline(request, READ)).await {
                Ok(page) => page.into_inner(),
                Err(status) if status.code() == Code::NotFound => return Ok(entries),
                Err(status) => return Err(self.failed(status)),
            };
            entries.extend(page.entries);
            if page.next_page_token.is_empty() {
                return Ok(entries);
            }
            page_token = page.next_page_token;
        }
    }
}

/// Whether a conditional write or deletion failed because somebody else was first.
#[must_use]
pub fn is_version_mismatch(status: &Status) -> bool {
    status::reason(status).is_some_and(|reason| reason.reason == "VERSION_MISMATCH")
}

/// Whether a batch failed because the tree is not any more as it was when the batch was made.
#[must_use]
pub fn is_stale(status: &Status) -> bool {
    status::reason(status).is_some_and(|reason| {
        matches!(
            reason.reason.as_str(),
            "VERSION_MISMATCH" | "NOT_FOUND" | "ALREADY_EXISTS" | "NOT_EMPTY" | "IS_A_DIRECTORY"
        )
    })
}
