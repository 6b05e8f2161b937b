//! One operation of a transaction on the pretended tree, refused as configd refuses it.

use quorate_daemon::status;
use quorate_proto::config::v1::transact_operation::Operation;
use tonic::{Code, Status};

use super::FakeTree;

fn refused(code: Code, reason: &'static str, path: &str) -> Status {
    status::error(code, reason, format!("{path}: {reason}"), [("path", path)])
}

impl FakeTree {
    pub(super) fn perform(&mut self, operation: Operation) -> Result<(), Status> {
        match operation {
            Operation::Put(put) => {
                self.expect_parent(&put.path)?;
                self.expect(&put.path, put.expected_version)?;
                self.put(&put.path, Some(put.content));
            }
            Operation::Mkdir(mkdir) => {
                self.expect_parent(&mkdir.path)?;
                if self.entries.contains_key(&mkdir.path) {
                    return Err(refused(Code::AlreadyExists, "ALREADY_EXISTS", &mkdir.path));
                }
                self.put(&mkdir.path, None);
            }
            Operation::Rename(rename) => {
                self.expect_parent(&rename.to)?;
                self.expect(&rename.from, rename.expected_version)?;
                let moved = self.entries.remove(&rename.from);
                let (content, _) = moved.ok_or_else(|| refused(Code::NotFound, "NOT_FOUND", &rename.from))?;
                self.put(&rename.to, content);
            }
            Operation::Delete(delete) => {
                self.expect(&delete.path, delete.expected_version)?;
                let below = format!("{}/", delete.path);
                if self.entries.keys().any(|path| path.starts_with(&below)) {
                    return Err(refused(Code::FailedPrecondition, "NOT_EMPTY", &delete.path));
                }
                let deleted = self.entries.remove(&delete.path);
                deleted.ok_or_else(|| refused(Code::NotFound, "NOT_FOUND", &delete.path))?;
            }
            Operation::Check(check) => self.expect(&check.path, check.expected_version)?,
        }
        Ok(())
    }

    fn expect(&self, path: &str, version: Option<u64>) -> Result<(), Status> {
        let present = self.entries.get(path).map_or(0, |(_, version)| *version);
        match version {
            Some(version) if version != present => Err(refused(Code::Aborted, "VERSION_MISMATCH", path)),
            _ => Ok(()),
        }
    }

    fn expect_parent(&self, path: &str) -> Result<(), Status> {
        let Some((parent, _)) = path.rsplit_once('/') else { return Ok(()) };
        let there = self.entries.get(parent).is_some_and(|(content, _)| content.is_none());
        if there { Ok(()) } else { Err(refused(Code::NotFound, "NOT_FOUND", parent)) }
    }
}
