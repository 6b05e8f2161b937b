//! `ConfigService`: checks and converts requests, asks the driver through its handle, converts answers.

use std::time::{Duration, Instant};

use bytes::Bytes;
use config_store_core::{ConfigPath, Expect, FILE_MAX, Operation, OperationError, RequestId};
use quorate_daemon::{
    caller,
    timeout::{self, GRPC_TIMEOUT},
};
use quorate_proto::config::v1::{
    DeleteRequest, DeleteResponse, Entry, EntryKind, GetRequest, GetResponse, GetStatusRequest,
    GetStatusResponse, ListRequest, ListResponse, MkdirRequest, MkdirResponse, PutRequest, PutResponse,
    ReloadRequest, ReloadResponse, RenameRequest, RenameResponse, TransactRequest, TransactResponse,
    WatchRequest, WatchResponse, config_service_server::ConfigService,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::{
    commit::{Ask, Committer},
    conf_change::ConfNotes,
    error::Error,
    handle::{Burst, ReplicaHandle, Watch},
    mount::Mounted,
    read, transact,
    view::View,
};

/// Entries of a list answer unless asked otherwise, and at most.
const PAGE_SIZE: usize = 1000;
const PAGE_SIZE_MAX: usize = 10_000;
/// How long a write waits for its acknowledgement if the caller sets no deadline.
const WRITE_DEADLINE: Duration = Duration::from_secs(30);
/// Between two signs of life of a quiet watch.
const WATCH_SIGN_OF_LIFE: Duration = Duration::from_secs(30);
/// Answers of a watch that wait in the connection.
const WATCH_ANSWERS_MAX: usize = 16;

/// The service. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Grpc {
    replica: ReplicaHandle,
    view: View,
    committer: Committer,
    mount: Mounted,
    notes: ConfNotes,
}

impl Grpc {
    pub(crate) fn new(
        replica: ReplicaHandle,
        view: View,
        committer: Committer,
        mount: Mounted,
        notes: ConfNotes,
    ) -> Self {
        Self { replica, view, committer, mount, notes }
    }

    async fn commit(&self, operation: Operation, ask: Ask<'_>) -> Result<(u64, Option<Entry>), Error> {
        let (applied, entry) = self.committer.commit(operation, ask).await?;
        Ok((applied.version, entry))
    }

    /// Makes every missing directory above `path`, then perhaps `path` itself.
    async fn make_directories(
        &self,
        path: &ConfigPath,
        deadline: Instant,
        caller: &str,
    ) -> Result<Option<Entry>, Error> {
        let mut at = ConfigPath::root();
        let mut last = None;
        for name in path.names() {
            at = at.join(name).map_err(|source| Error::Path { path: path.to_string(), source })?;
            let ask = Ask { id: fresh_id(), deadline, caller };
            match self.commit(Operation::Mkdir { path: at.clone() }, ask).await {
                Ok((_, entry)) => last = entry,
                Err(Error::Entry(OperationError::AlreadyExists { .. })) => last = None,
                Err(error) => return Err(error),
            }
        }
        Ok(last)
    }

    fn entry_of(&self, path: &ConfigPath) -> Result<Entry, Error> {
        let Some(parent) = path.parent() else { return Err(Error::Entry(OperationError::IsRoot)) };
        let siblings = read::list(&self.view.tree(), &parent, false, "", usize::MAX)?;
        let found = siblings.into_iter().find(|entry| entry.path == path.as_str());
        found.ok_or_else(|| Error::Entry(OperationError::NotFound { path: path.clone() }))
    }
}

/// What stands already where a directory is to be made.
fn must_be_directory(present: Entry, path: ConfigPath) -> Result<Entry, Error> {
    match present.kind() {
        EntryKind::Directory => Ok(present),
        _ => Err(Error::Entry(OperationError::NotADirectory { path })),
    }
}

fn parse(path: &str) -> Result<ConfigPath, Error> {
    path.parse().map_err(|source| Error::Path { path: path.to_owned(), source })
}

fn fresh_id() -> RequestId {
    RequestId(rand::random())
}

/// The caller's id, or one of our own if it chose none.
fn request_id(bytes: &Bytes) -> Result<RequestId, Error> {
    if bytes.is_empty() {
        return Ok(fresh_id());
    }
    <[u8; 16]>::try_from(bytes.as_ref()).map(RequestId).map_err(|_| Error::RequestId(bytes.len()))
}

/// When the answer must be there: a little before the caller gives up, so that it learns what is known
/// and not only that time is over; or our own deadline.
fn deadline<T>(request: &Request<T>) -> Instant {
    let wanted = request.metadata().get(GRPC_TIMEOUT).and_then(|value| value.to_str().ok());
    let wanted = wanted.and_then(timeout::parse).unwrap_or(WRITE_DEADLINE).min(WRITE_DEADLINE);
    Instant::now() + timeout::ahead_of(wanted)
}

#[tonic::async_trait]
impl ConfigService for Grpc {
    type WatchStream = ReceiverStream<Result<WatchResponse, Status>>;

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let deadline = deadline(&request);
        let request = request.into_inner();
        let path = parse(&request.path)?;
        if request.linearizable {
            self.replica.barrier(deadline).await?;
        }
        let (entry, content) = read::get(&self.view.tree(), &path)?;
        Ok(Response::new(GetResponse { entry: Some(entry), content }))
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let (deadline, caller) = (deadline(&request), caller::of(&request));
        let request = request.into_inner();
        let path = parse(&request.path)?;
        let id = request_id(&request.request_id)?;
        if request.content.len() > FILE_MAX {
            let size = request.content.len();
            return Err(Error::Entry(OperationError::FileTooLarge { path, size }).into());
        }
        // A file that must be there already has its directories; none is made for one that is not.
        let must_exist = request.expected_version.is_some_and(|version| version > 0);
        if request.make_parents
            && !must_exist
            && let Some(parent) = path.parent()
        {
            self.make_directories(&parent, deadline, &caller).await?;
        }
        let operation = Operation::Put {
            path,
            expect: transact::expect(request.expected_version),
            content: request.content,
        };
        let (_, entry) = self.commit(operation, Ask { id, deadline, caller: &caller }).await?;
        Ok(Response::new(PutResponse { entry }))
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        let request = request.into_inner();
        let path = parse(&request.path)?;
        if !request.page_token.is_empty() && request.page_token.parse::<ConfigPath>().is_err() {
            return Err(Error::PageToken.into());
        }
        let limit = match usize::try_from(request.page_size) {
            Ok(0) => PAGE_SIZE,
            Ok(size) => size.min(PAGE_SIZE_MAX),
            Err(_) => PAGE_SIZE_MAX,
        };
        let mut entries =
            read::list(&self.view.tree(), &path, request.recursive, &request.page_token, limit + 1)?;
        let more = entries.len() > limit;
        entries.truncate(limit);
        let next_page_token =
            entries.last().filter(|_| more).map(|last| last.path.clone()).unwrap_or_default();
        Ok(Response::new(ListResponse { entries, next_page_token }))
    }

    async fn mkdir(&self, request: Request<MkdirRequest>) -> Result<Response<MkdirResponse>, Status> {
        let (deadline, caller) = (deadline(&request), caller::of(&request));
        let request = request.into_inner();
        let path = parse(&request.path)?;
        let entry = if request.parents {
            self.make_directories(&path, deadline, &caller).await?
        } else {
            let ask = Ask { id: request_id(&request.request_id)?, deadline, caller: &caller };
            self.commit(Operation::Mkdir { path: path.clone() }, ask).await?.1
        };
        let entry = match entry {
            Some(entry) => entry,
            None => must_be_directory(self.entry_of(&path)?, path)?,
        };
        Ok(Response::new(MkdirResponse { entry: Some(entry) }))
    }

    async fn rename(&self, request: Request<RenameRequest>) -> Result<Response<RenameResponse>, Status> {
        let (deadline, caller) = (deadline(&request), caller::of(&request));
        let request = request.into_inner();
        let (from, to) = (parse(&request.from)?, parse(&request.to)?);
        let operation = Operation::Rename { from, to, expect: Expect::Any, no_replace: false };
        let ask = Ask { id: request_id(&request.request_id)?, deadline, caller: &caller };
        let (_, entry) = self.commit(operation, ask).await?;
        Ok(Response::new(RenameResponse { entry }))
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Result<Response<DeleteResponse>, Status> {
        let (deadline, caller) = (deadline(&request), caller::of(&request));
        let request = request.into_inner();
        let operation = Operation::Delete {
            path: parse(&request.path)?,
            expect: request.expected_version.map_or(Expect::Any, Expect::Version),
        };
        let ask = Ask { id: request_id(&request.request_id)?, deadline, caller: &caller };
        let (version, _) = self.commit(operation, ask).await?;
        Ok(Response::new(DeleteResponse { version }))
    }

    async fn transact(
        &self,
        request: Request<TransactRequest>,
    ) -> Result<Response<TransactResponse>, Status> {
        let (deadline, caller) = (deadline(&request), caller::of(&request));
        let request = request.into_inner();
        let ask = Ask { id: request_id(&request.request_id)?, deadline, caller: &caller };
        let operation = transact::operation(request.operations)?;
        let (applied, changes) = self.committer.transact(operation, ask).await?;
        Ok(Response::new(TransactResponse { version: applied.version, changes }))
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        let watch = self.replica.watch(parse(&request.prefix)?, request.after_version).await?;
        let (sender, receiver) = mpsc::channel(WATCH_ANSWERS_MAX);
        tokio::spawn(forward(watch, sender));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        let status = self.replica.status().await?;
        Ok(Response::new(GetStatusResponse {
            mount: self.mount.to_string(),
            configuration_notes: self.notes.get(),
            ..status
        }))
    }

    async fn reload(&self, request: Request<ReloadRequest>) -> Result<Response<ReloadResponse>, Status> {
        let backup_path = self.replica.reload(request.into_inner().discard_tree).await?;
        Ok(Response::new(ReloadResponse { backup_path }))
    }
}

/// First what was missed, then each burst, and a sign of life now and then.
async fn forward(watch: Watch, sender: mpsc::Sender<Result<WatchResponse, Status>>) {
    let answer = |burst: Burst| WatchResponse { changes: burst.changes, version: burst.version };
    let Watch { backlog, mut bursts } = watch;
    let mut version = 0;
    for missed in backlog {
        version = missed.version;
        if sender.send(Ok(answer(missed))).await.is_err() {
            return;
        }
    }
    loop {
        let next = tokio::select! {
            next = bursts.recv() => next,
            () = tokio::time::sleep(WATCH_SIGN_OF_LIFE) => Some(Ok(Burst { changes: Vec::new(), version })),
            () = sender.closed() => return,
        };
        let Some(next) = next else { return };
        if let Ok(burst) = &next {
            version = burst.version;
        }
        let ended = next.is_err();
        if sender.send(next.map(answer).map_err(Status::from)).await.is_err() || ended {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_comes_before_the_caller_gives_up() {
        let mut request = Request::new(());
        request.set_timeout(Duration::from_secs(2));
        let left = deadline(&request).saturating_duration_since(Instant::now());
        assert!(left > Duration::from_millis(1700) && left <= Duration::from_millis(1800), "{left:?}");
    }

    #[test]
    fn only_a_directory_may_stand_where_one_is_to_be_made() {
        let present = |kind: EntryKind| Entry { kind: kind.into(), ..Entry::default() };
        let path = || "a/b".parse::<ConfigPath>().expect("a path");
        assert!(must_be_directory(present(EntryKind::Directory), path()).is_ok());
        let refused = must_be_directory(present(EntryKind::File), path());
        assert!(matches!(refused, Err(Error::Entry(OperationError::NotADirectory { .. }))));
    }

    #[test]
    fn a_request_id_has_sixteen_bytes_or_is_chosen() {
        assert!(request_id(&Bytes::new()).is_ok());
        assert_eq!(request_id(&Bytes::from_static(&[7; 16])).ok(), Some(RequestId([7; 16])));
        assert!(matches!(request_id(&Bytes::from_static(b"short")), Err(Error::RequestId(5))));
    }
}
