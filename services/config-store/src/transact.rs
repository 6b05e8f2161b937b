//! `Transact`: from a message to operations that happen together.

use bytes::Bytes;
use config_store_core::{ConfigPath, Expect, Operation, Transaction};
use quorate_proto::config::v1::{TransactOperation, transact_operation as wire};

use crate::error::Error;

/// The transaction that a caller asks for.
///
/// # Errors
/// An operation that is none, or bounds that are not kept.
pub(crate) fn operation(operations: Vec<TransactOperation>) -> Result<Operation, Error> {
    let operations = operations.into_iter().enumerate().map(|(index, one)| {
        let problem = |problem: String| Error::TransactionOperation { index, problem };
        single(one).map_err(problem)
    });
    let transaction = Transaction::new(operations.collect::<Result<_, _>>()?).map_err(Error::Transaction)?;
    Ok(Operation::Transaction(transaction))
}

fn single(one: TransactOperation) -> Result<Operation, String> {
    Ok(match one.operation.ok_or("it is empty")? {
        wire::Operation::Put(put) => {
            let expect = expect(put.expected_version);
            Operation::Put { path: path(&put.path)?, expect, content: put.content }
        }
        wire::Operation::Mkdir(mkdir) => Operation::Mkdir { path: path(&mkdir.path)? },
        wire::Operation::Rename(rename) => Operation::Rename {
            from: path(&rename.from)?,
            to: path(&rename.to)?,
            expect: rename.expected_version.map_or(Expect::Any, Expect::Version),
            no_replace: rename.no_replace,
        },
        wire::Operation::Delete(delete) => Operation::Delete {
            path: path(&delete.path)?,
            expect: delete.expected_version.map_or(Expect::Any, Expect::Version),
        },
        wire::Operation::Check(check) => {
            let expect = check_expect(check.expected_version, &check.expected_sha256)?;
            Operation::Check { path: path(&check.path)?, expect }
        }
    })
}

fn path(text: &str) -> Result<ConfigPath, String> {
    text.parse().map_err(|error| format!("'{text}' is no path of the tree: {error}"))
}

/// What a version in a request asks for; 0 that there is no such entry.
pub(crate) fn expect(version: Option<u64>) -> Expect {
    match version {
        None => Expect::Any,
        Some(0) => Expect::Absent,
        Some(version) => Expect::Version(version),
    }
}

fn check_expect(version: Option<u64>, digest: &Bytes) -> Result<Expect, String> {
    match (version, digest.is_empty()) {
        (None, true) => Ok(Expect::Present),
        (Some(_), true) => Ok(expect(version)),
        (None, false) => match <[u8; 32]>::try_from(digest.as_ref()) {
            Ok(digest) => Ok(Expect::Digest(digest)),
            Err(_) => Err(format!("a SHA-256 has 32 bytes, this one has {}", digest.len())),
        },
        (Some(_), false) => Err("a check expects a version or a digest, not both".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expected_version: Option<u64>, expected_sha256: &'static [u8]) -> TransactOperation {
        let (path, expected_sha256) = ("a".to_owned(), Bytes::from_static(expected_sha256));
        let check = wire::Check { path, expected_version, expected_sha256 };
        TransactOperation { operation: Some(wire::Operation::Check(check)) }
    }

    fn expected(one: TransactOperation) -> Result<Expect, String> {
        match single(one)? {
            Operation::Check { expect, .. } => Ok(expect),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn version_zero_expects_that_there_is_no_file() {
        assert_eq!(expect(Some(0)), Expect::Absent);
        assert_eq!(expect(Some(7)), Expect::Version(7));
        assert_eq!(expect(None), Expect::Any);
    }

    #[test]
    fn a_check_expects_existence_a_version_or_a_digest() {
        assert_eq!(expected(check(None, b"")), Ok(Expect::Present));
        assert_eq!(expected(check(Some(0), b"")), Ok(Expect::Absent));
        assert_eq!(expected(check(Some(9), b"")), Ok(Expect::Version(9)));
        assert_eq!(expected(check(None, &[7; 32])), Ok(Expect::Digest([7; 32])));
        assert!(expected(check(None, &[7; 31])).unwrap_err().contains("this one has 31"));
        assert!(expected(check(Some(9), &[7; 32])).unwrap_err().contains("not both"));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let told = |operations| operation(operations).unwrap_err().to_string();
        assert!(told(vec![]).contains("no transaction"));
        let empty = TransactOperation { operation: None };
        assert!(told(vec![check(None, b""), empty]).contains("operation 1 of the transaction is not valid"));
        let mkdir = wire::Operation::Mkdir(wire::Mkdir { path: "/abs".to_owned() });
        assert!(told(vec![TransactOperation { operation: Some(mkdir) }]).contains("'/abs' is no path"));
    }
}
