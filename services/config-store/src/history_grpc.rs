//! `HistoryService`: what files were before, copies of the tree, and conflict copies.

use bytes::Bytes;
use config_store_core::{ConfigPath, ConflictItem, Entry, OperationError, Tree};
use corosync_conf::ClusterConf;
use quorate_proto::config::v1::{
    BackupRequest, BackupResponse, DropConflictRequest, DropConflictResponse, GetConflictRequest,
    GetConflictResponse, GetVersionRequest, GetVersionResponse, ListConflictsRequest, ListConflictsResponse,
    ListVersionsRequest, ListVersionsResponse, backup_response as backup, get_conflict_response as conflict,
    history_service_server::HistoryService,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::{conf_guard::COROSYNC_CONF, convert, error::Error, handle::ReplicaHandle, view::View};

/// Versions of an answer unless asked otherwise, and at most.
const VERSIONS: usize = 100;
const VERSIONS_MAX: usize = 1000;
/// Answers of a stream that wait in the connection: each has at most one file.
const ANSWERS_MAX: usize = 4;

/// The service. Cheap to clone.
#[derive(Clone)]
pub(crate) struct HistoryGrpc {
    replica: ReplicaHandle,
    view: View,
    /// This node's name.
    node: String,
}

impl HistoryGrpc {
    pub(crate) fn new(replica: ReplicaHandle, view: View, node: String) -> Self {
        Self { replica, view, node }
    }

    fn header(&self, tree: &Tree) -> backup::Header {
        let conf: ConfigPath = COROSYNC_CONF.parse().expect("a plain name is a path");
        let conf = tree.get(&conf).and_then(|entry| std::str::from_utf8(entry.content()).ok());
        let cluster = conf.and_then(|conf| ClusterConf::parse(conf).ok()).map(|conf| conf.totem.cluster_name);
        backup::Header {
            cluster: cluster.unwrap_or_default(),
            node: self.node.clone(),
            version: tree.version(),
            checksum: tree.checksum().to_string(),
            entries: tree.entry_count() as u64,
            content_bytes: tree.byte_count() as u64,
        }
    }
}

fn parse(path: &str) -> Result<ConfigPath, Error> {
    path.parse().map_err(|source| Error::Path { path: path.to_owned(), source })
}

type Stream<T> = ReceiverStream<Result<T, Status>>;

#[tonic::async_trait]
impl HistoryService for HistoryGrpc {
    type BackupStream = Stream<BackupResponse>;
    type GetConflictStream = Stream<GetConflictResponse>;

    async fn list_versions(
        &self,
        request: Request<ListVersionsRequest>,
    ) -> Result<Response<ListVersionsResponse>, Status> {
        let request = request.into_inner();
        let limit = match usize::try_from(request.limit) {
            Ok(0) => VERSIONS,
            Ok(limit) => limit.min(VERSIONS_MAX),
            Err(_) => VERSIONS_MAX,
        };
        let before = if request.before == 0 { u64::MAX } else { request.before };
        let path = parse(&request.path)?;
        let versions = self.replica.versions(path.clone(), before, limit).await?;
        if versions.is_empty() && before == u64::MAX {
            return Err(Error::NoHistory { path }.into());
        }
        Ok(Response::new(ListVersionsResponse { versions: versions.iter().map(convert::version).collect() }))
    }

    async fn get_version(
        &self,
        request: Request<GetVersionRequest>,
    ) -> Result<Response<GetVersionResponse>, Status> {
        let GetVersionRequest { path, version } = request.into_inner();
        let path = parse(&path)?;
        let found = self.replica.versions(path.clone(), version.saturating_add(1), 1).await?;
        let Some(found) = found.into_iter().next() else {
            return Err(Error::VersionNotKept { path, version }.into());
        };
        if found.kind.is_end() {
            return Err(Error::Entry(OperationError::NotFound { path }).into());
        }
        let content = match &found.content {
            Some(content) => self.replica.kept_content(found.inode, *content).await?,
            None => None,
        };
        let content = content.ok_or(Error::VersionNotKept { path, version: found.version })?;
        Ok(Response::new(GetVersionResponse { version: Some(convert::version(&found)), content }))
    }

    async fn backup(&self, _: Request<BackupRequest>) -> Result<Response<Self::BackupStream>, Status> {
        let tree = self.view.tree().clone();
        let header = self.header(&tree);
        let (sender, receiver) = mpsc::channel(ANSWERS_MAX);
        tokio::spawn(async move {
            let first = BackupResponse { part: Some(backup::Part::Header(header)) };
            if sender.send(Ok(first)).await.is_err() {
                return;
            }
            for (path, inode) in walk(&tree) {
                let Some(entry) = tree.entry(inode) else { continue };
                let part = Some(backup::Part::Item(item(&path, entry)));
                if sender.send(Ok(BackupResponse { part })).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn list_conflicts(
        &self,
        _: Request<ListConflictsRequest>,
    ) -> Result<Response<ListConflictsResponse>, Status> {
        Ok(Response::new(ListConflictsResponse { conflicts: self.replica.conflicts().await? }))
    }

    async fn get_conflict(
        &self,
        request: Request<GetConflictRequest>,
    ) -> Result<Response<Self::GetConflictStream>, Status> {
        let number = request.into_inner().number;
        let first = self.replica.conflict_items(number, 0).await?;
        if first.is_empty() {
            return Err(Error::NoConflict { number }.into());
        }
        let (sender, receiver) = mpsc::channel(ANSWERS_MAX);
        tokio::spawn(send_conflict(self.replica.clone(), number, first, sender));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn drop_conflict(
        &self,
        request: Request<DropConflictRequest>,
    ) -> Result<Response<DropConflictResponse>, Status> {
        let number = request.into_inner().number;
        let entries = self.replica.drop_conflict(number).await?;
        tracing::info!(number, entries, "conflict copy removed");
        Ok(Response::new(DropConflictResponse { entries }))
    }
}

/// Paths and inodes of a whole tree, each directory before what is in it.
fn walk(tree: &Tree) -> Vec<(ConfigPath, u64)> {
    let mut found = Vec::with_capacity(tree.entry_count());
    let mut open = vec![(ConfigPath::root(), config_store_core::ROOT)];
    while let Some((path, directory)) = open.pop() {
        for child in tree.children(directory) {
            let Ok(path) = path.join(&child.head().name) else { continue };
            found.push((path.clone(), child.inode()));
            if child.is_directory() {
                open.push((path, child.inode()));
            }
        }
    }
    found
}

fn item(path: &ConfigPath, entry: &Entry) -> backup::Item {
    let sha256 = Bytes::copy_from_slice(entry.digest());
    backup::Item { entry: Some(convert::entry(path, entry)), content: entry.content().clone(), sha256 }
}

/// Sends one part of a copy after the other, as they are read.
async fn send_conflict(
    replica: ReplicaHandle,
    number: u64,
    first: Vec<(u32, ConflictItem)>,
    sender: mpsc::Sender<Result<GetConflictResponse, Status>>,
) {
    let mut items = first;
    while let Some(last) = items.last().map(|(index, _)| *index) {
        for (_, item) in items {
            let Some(part) = part(item) else { continue };
            if sender.send(Ok(GetConflictResponse { part: Some(part) })).await.is_err() {
                return;
            }
        }
        items = match replica.conflict_items(number, last.saturating_add(1)).await {
            Ok(items) => items,
            Err(error) => return drop(sender.send(Err(error.into())).await),
        };
    }
}

fn part(item: ConflictItem) -> Option<conflict::Part> {
    match item {
        ConflictItem::Header(_) => None,
        ConflictItem::Entry { path, entry } => {
            let content = entry.content().clone();
            Some(conflict::Part::Item(conflict::Item { entry: Some(convert::entry(&path, &entry)), content }))
        }
        ConflictItem::Record(record) => {
            Some(conflict::Part::Change(convert::change(&record.change, &Tree::new())))
        }
    }
}

#[cfg(test)]
mod tests {
    use config_store_core::{Expect, Operation};

    use super::*;

    #[test]
    fn every_directory_comes_before_what_is_in_it() {
        let mut tree = Tree::new();
        let path = |text: &str| text.parse::<ConfigPath>().expect("a path");
        for directory in ["b", "b/c", "a"] {
            tree.apply(1, 1, &Operation::Mkdir { path: path(directory) }).expect("made");
        }
        // This one comes to a directory that is newer than itself.
        let put = Operation::Put { path: path("f"), expect: Expect::Any, content: Bytes::new() };
        tree.apply(1, 1, &put).expect("written");
        let rename =
            Operation::Rename { from: path("f"), to: path("b/c/f"), expect: Expect::Any, no_replace: false };
        tree.apply(1, 1, &rename).expect("moved");

        let found: Vec<String> = walk(&tree).iter().map(|(path, _)| path.to_string()).collect();

        assert_eq!(found.len(), 4);
        for (at, path) in found.iter().enumerate() {
            if let Some((parent, _)) = path.rsplit_once('/') {
                assert!(found[..at].iter().any(|before| before == parent), "{found:?}");
            }
        }
    }
}
