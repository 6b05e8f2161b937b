//! A version of a file, as it is asked for and printed.

use bytes::Bytes;
use quorate_proto::config::v1::{
    FileVersion, GetRequest, GetVersionRequest, GetVersionResponse, ListVersionsRequest, file_version::Kind,
};
use serde::Serialize;
use tonic::Code;

use crate::{
    client::Client,
    error::Error,
    output::printable,
    time::{local, timestamp},
};

/// A version of a path, as `-o json` prints it.
#[derive(Debug, Serialize)]
pub(super) struct Version {
    /// Version of the tree that made it.
    pub(super) version: u64,
    /// `created`, `written`, `moved here`, `moved away`, `deleted` or `found`.
    pub(super) kind: &'static str,
    pub(super) path: String,
    /// Where it came from or went to.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) other_path: String,
    /// Node id of who did it; 0 outside a cluster.
    pub(super) writer: u32,
    /// Who asked for it; empty if that is not known.
    pub(super) caller: String,
    /// RFC 3339 in UTC, by the writer's clock.
    pub(super) modified: Option<String>,
    /// In bytes; absent if this node does not have the content.
    pub(super) size: Option<u64>,
    /// In hex.
    pub(super) sha256: Option<String>,
    #[serde(skip)]
    local_time: String,
}

impl From<FileVersion> for Version {
    fn from(version: FileVersion) -> Self {
        let kind = match version.kind() {
            Kind::Created => "created",
            Kind::Written => "written",
            Kind::MovedHere => "moved here",
            Kind::MovedAway => "moved away",
            Kind::Deleted => "deleted",
            Kind::Found => "found",
            Kind::Unspecified => "unknown",
        };
        let modified = timestamp(version.modified.as_ref());
        let kept = version.content_kept;
        Self {
            version: version.version,
            kind,
            path: version.path,
            other_path: version.other_path,
            writer: version.writer,
            caller: version.caller,
            modified: modified.map(|time| time.to_string()),
            size: kept.then_some(version.size),
            sha256: kept.then(|| hex(&version.sha256)),
            local_time: modified.map_or_else(|| "-".to_owned(), local),
        }
    }
}

impl Version {
    /// Version, time, node, who, what, size, and a path that is another one than was asked for.
    pub(super) fn row(&self, asked: &str) -> Vec<String> {
        let caller = if self.caller.is_empty() { "-" } else { &self.caller };
        let what = match (self.kind, self.other_path.as_str()) {
            ("moved here", from) => format!("moved here from {}", printable(from)),
            ("moved away", to) => format!("moved to {}", printable(to)),
            (kind, _) => kind.to_owned(),
        };
        let size = self.size.map_or_else(|| "-".to_owned(), |size| size.to_string());
        let path = if self.path == asked { String::new() } else { printable(&self.path).into_owned() };
        let (version, writer) = (self.version.to_string(), self.writer.to_string());
        vec![version, self.local_time.clone(), writer, printable(caller).into_owned(), size, what, path]
    }
}

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The versions of a path, the newest first.
pub(super) async fn list(
    client: &Client,
    path: &str,
    limit: u32,
    before: u64,
) -> Result<Vec<FileVersion>, Error> {
    let request = client.request(ListVersionsRequest { path: path.to_owned(), limit, before });
    let answer = client.history().list_versions(request).await.map_err(client.failure())?;
    Ok(answer.into_inner().versions)
}

/// What a path held at a version.
pub(super) async fn get(client: &Client, path: &str, version: u64) -> Result<GetVersionResponse, Error> {
    let request = client.request(GetVersionRequest { path: path.to_owned(), version });
    Ok(client.history().get_version(request).await.map_err(client.failure())?.into_inner())
}

/// The version and content of a file now; `None` if there is none.
pub(super) async fn present(client: &Client, path: &str) -> Result<Option<(u64, Bytes)>, Error> {
    let request = client.request(GetRequest { path: path.to_owned(), linearizable: false });
    match client.config().get(request).await {
        Ok(answer) => {
            let answer = answer.into_inner();
            Ok(Some((answer.entry.unwrap_or_default().version, answer.content)))
        }
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(client.failure()(status)),
    }
}
