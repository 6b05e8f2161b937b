//! The records of migrations in the cluster's tree.

use migration_core::Record;
use quorate_daemon::client::deadline;
use quorate_proto::config::v1::{DeleteRequest, GetRequest, ListRequest, PutRequest};
use tonic::{Code, Status};

use crate::local::{Local, READ, WRITE};

/// Directory of all records.
const DIRECTORY: &str = "migrations";

/// Writes a record; `new`: only if there is none for this guest.
pub(crate) async fn write(local: &Local, record: &Record, new: bool) -> Result<(), Status> {
    let put = PutRequest {
        path: Record::path(record.vmid),
        content: record.encode().into(),
        expected_version: new.then_some(0),
        request_id: Vec::new().into(),
        make_parents: true,
    };
    local.config().put(deadline(put, WRITE)).await.map(drop)
}

/// Removes the record of a guest; it is no error if there is none.
pub(crate) async fn forget(local: &Local, vmid: u32) -> Result<(), Status> {
    let delete = DeleteRequest { path: Record::path(vmid), ..DeleteRequest::default() };
    match local.config().delete(deadline(delete, WRITE)).await {
        Err(status) if status.code() != Code::NotFound => Err(status),
        _ => Ok(()),
    }
}

/// All records, as this node's replica has them.
pub(crate) async fn all(local: &Local) -> Result<Vec<Record>, Status> {
    let list = ListRequest { path: DIRECTORY.to_owned(), page_size: 10_000, ..ListRequest::default() };
    let entries = match local.config().list(deadline(list, READ)).await {
        Ok(answer) => answer.into_inner().entries,
        Err(status) if status.code() == Code::NotFound => return Ok(Vec::new()),
        Err(status) => return Err(status),
    };
    let mut records = Vec::new();
    for entry in entries {
        let get = GetRequest { path: entry.path.clone(), linearizable: false };
        // It may have been removed since.
        let Ok(answer) = local.config().get(deadline(get, READ)).await else { continue };
        match Record::parse(&answer.into_inner().content) {
            Ok(record) => records.push(record),
            Err(error) => tracing::warn!(path = entry.path, %error, "is no record of a migration"),
        }
    }
    Ok(records)
}
