//! Transactions: several operations that happen together or not at all.
//!
//! Each operation is judged on the tree as the ones before it leave it, at the transaction's place in the group's
//! order; the first that is refused undoes all. Each change has a version of its own (the inode rule stays), and all of
//! them are stored, shown to watchers and sent to latecomers together.
//!
//! Names and contents do not fit into the head of an envelope, so they travel together as its content:
//!
//! | field | size | meaning |
//! |---|---|---|
//! | count | 2 | how many operations follow |
//! | kind | 1 | which operation |
//! | body | 2 + n | its fields |
//! | content | 4 + n | bytes of a file |

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    operation::Operation,
    path::PATH_MAX,
    wire::{Put, Reader, WireError},
};

/// Most operations of one transaction, checks included.
pub const TRANSACTION_OPERATIONS_MAX: usize = 256;
/// Most bytes of file content in one transaction.
pub const TRANSACTION_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Two paths, an expectation and what is around them.
const FIELDS_MAX: usize = 2 * (PATH_MAX + 2) + 64;
/// Longest transaction as it travels.
pub(crate) const ENCODED_MAX: usize = 2 + TRANSACTION_BYTES_MAX + TRANSACTION_OPERATIONS_MAX * FIELDS_MAX;

/// Why operations make no transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// There is none.
    #[error("a transaction without operations does nothing")]
    Empty,
    /// There are too many.
    #[error("a transaction has at most {TRANSACTION_OPERATIONS_MAX} operations, this one has {0}")]
    TooMany(usize),
    /// They carry too much.
    #[error("a transaction carries at most {TRANSACTION_BYTES_MAX} bytes of content, this one has {0}")]
    TooLarge(usize),
    /// One of them is a transaction.
    #[error("operation {0} is a transaction itself")]
    Nested(usize),
}

/// Operations that happen together or not at all: 1 to [`TRANSACTION_OPERATIONS_MAX`], none of them a transaction,
/// with at most [`TRANSACTION_BYTES_MAX`] bytes of content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    operations: Vec<Operation>,
    /// Encoded once: the bytes are counted, sent and hashed.
    encoded: Bytes,
}

impl Transaction {
    /// A transaction of these operations, in this order.
    ///
    /// # Errors
    /// [`TransactionError`] when there are none, too many, or one that may not be there.
    pub fn new(operations: Vec<Operation>) -> Result<Self, TransactionError> {
        check(&operations)?;
        let encoded = encode(&operations);
        Ok(Self { operations, encoded })
    }

    /// Its operations; never none.
    #[must_use]
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    pub(crate) fn encoded(&self) -> &Bytes {
        &self.encoded
    }

    pub(crate) fn decode(encoded: Bytes) -> Result<Self, WireError> {
        let mut reader = Reader::new(encoded.clone());
        let count = usize::from(reader.u16()?);
        if count > TRANSACTION_OPERATIONS_MAX {
            let max = TRANSACTION_OPERATIONS_MAX;
            return Err(WireError::TooLong { what: "transaction", length: count, max });
        }
        let operations: Result<Vec<_>, WireError> = (0..count).map(|_| operation(&mut reader)).collect();
        reader.finish()?;
        let operations = operations?;
        let bad = |_| WireError::Unknown { what: "operations of a transaction", value: count as u64 };
        check(&operations).map_err(bad)?;
        Ok(Self { operations, encoded })
    }
}

fn check(operations: &[Operation]) -> Result<(), TransactionError> {
    let bytes: usize = operations.iter().map(|operation| operation.content().len()).sum();
    let nested = operations.iter().position(|operation| matches!(operation, Operation::Transaction(_)));
    match operations.len() {
        0 => Err(TransactionError::Empty),
        count if count > TRANSACTION_OPERATIONS_MAX => Err(TransactionError::TooMany(count)),
        _ => match nested {
            Some(index) => Err(TransactionError::Nested(index)),
            None if bytes > TRANSACTION_BYTES_MAX => Err(TransactionError::TooLarge(bytes)),
            None => Ok(()),
        },
    }
}

fn encode(operations: &[Operation]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u16_le(u16::try_from(operations.len()).expect("the number is bounded"));
    for operation in operations {
        let mut body = BytesMut::new();
        operation.encode_body(&mut body);
        out.put_u8(operation.kind());
        out.put_short(&body);
        out.put_long(&operation.content());
    }
    out.freeze()
}

/// Contents are copied: a file of the tree must not keep the whole transaction in memory.
fn operation(reader: &mut Reader) -> Result<Operation, WireError> {
    let kind = reader.u8()?;
    let body = reader.short()?;
    let content = reader.long("content in a transaction", TRANSACTION_BYTES_MAX)?;
    Operation::decode_body(kind, body, Bytes::copy_from_slice(&content))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::operation::tests::operations;

    fn put(bytes: usize) -> Operation {
        let path = "f".parse().unwrap();
        Operation::Put { path, expect: crate::Expect::Any, content: Bytes::from(vec![7; bytes]) }
    }

    #[test]
    fn the_bounds_are_kept() {
        let made =
            |operations: Vec<Operation>| Transaction::new(operations).map(|made| made.operations.len());
        assert_eq!(made(vec![]), Err(TransactionError::Empty));
        assert_eq!(made(vec![put(1); 256]), Ok(256));
        assert_eq!(made(vec![put(1); 257]), Err(TransactionError::TooMany(257)));
        assert_eq!(made(vec![put(1 << 20); 4]), Ok(4));
        assert_eq!(
            made(vec![put(1 << 20), put((3 << 20) + 1)]),
            Err(TransactionError::TooLarge((4 << 20) + 1))
        );
        let inner = Operation::Transaction(Transaction::new(vec![put(1)]).unwrap());
        assert_eq!(made(vec![put(1), inner]), Err(TransactionError::Nested(1)));
    }

    #[test]
    fn the_longest_transaction_is_within_what_replicas_collect() {
        let name = vec!["n".repeat(255); 16].join("/");
        let path: crate::ConfigPath = name[..PATH_MAX].parse().unwrap();
        let expect = crate::Expect::Digest([7; 32]);
        let rename = Operation::Rename { from: path.clone(), to: path, expect, no_replace: false };
        let longest = Transaction::new(vec![rename; TRANSACTION_OPERATIONS_MAX]).unwrap();
        assert!(longest.encoded.len() + TRANSACTION_BYTES_MAX <= ENCODED_MAX, "{}", longest.encoded.len());
    }

    #[test]
    fn a_transaction_within_a_transaction_is_not_read() {
        let mut bytes = encode(&[put(1)]).to_vec();
        bytes[2] = Operation::Transaction(Transaction::new(vec![put(1)]).unwrap()).kind();
        assert!(Transaction::decode(Bytes::from(bytes)).is_err());
    }

    proptest! {
        #[test]
        fn every_transaction_is_read_back_as_written(operations in proptest::collection::vec(operations(), 1..9)) {
            let written = Transaction::new(operations).unwrap();
            prop_assert_eq!(Transaction::decode(written.encoded.clone()), Ok(written));
        }

        #[test]
        fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Transaction::decode(Bytes::from(bytes));
        }

        #[test]
        fn a_damaged_transaction_never_panics(
            operations in proptest::collection::vec(operations(), 1..5),
            at in any::<prop::sample::Index>(),
            bit in 0..8,
        ) {
            let mut bytes = encode(&operations).to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            let _ = Transaction::decode(Bytes::from(bytes));
        }
    }
}
