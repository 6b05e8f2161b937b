//! What is wrong with a history, and which operations show it.

use super::Value;

/// Why a history is not linearizable. Operations are named by their ids.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// The recorder is wrong, not the register.
    #[error("operation {operation} cannot have been answered like this")]
    Meaningless {
        /// The operation.
        operation: u64,
    },
    /// The recorder is wrong, not the register.
    #[error("operations {first} and {second} write the same value, which a history must not hold")]
    SameValue {
        /// One writer.
        first: u64,
        /// The other.
        second: u64,
    },
    /// A value out of nowhere.
    #[error("operation {operation} read the value {value}, which nobody wrote")]
    NeverWritten {
        /// The reader.
        operation: u64,
        /// What it read.
        value: Value,
    },
    /// A refused write has an effect.
    #[error("operation {operation} read what operation {writer} wrote, which was refused")]
    WasRefused {
        /// The reader.
        operation: u64,
        /// The writer.
        writer: u64,
    },
    /// An effect before its cause.
    #[error("operation {operation} read what operation {writer} wrote, which began only afterwards")]
    FromTheFuture {
        /// The reader.
        operation: u64,
        /// The writer.
        writer: u64,
    },
    /// One write, several versions.
    #[error("what operation {writer} wrote has version {version}, and for operation {operation} another one")]
    SeveralVersions {
        /// The writer.
        writer: u64,
        /// The version that was known first.
        version: u64,
        /// Who was told of another.
        operation: u64,
    },
    /// Two writes, one version: a divided cluster has two histories.
    #[error("operations {first} and {second} both made version {version}")]
    SameVersion {
        /// One writer.
        first: u64,
        /// The other.
        second: u64,
        /// The version.
        version: u64,
    },
    /// No order explains the answers.
    #[error("no order explains the answer of operation {operation}, given operations {because:?}")]
    NoOrder {
        /// The operation at whose end the last possible order was gone.
        operation: u64,
        /// What it contradicts, as far as it can be told: whose value it should have found, what came instead, and
        /// whose end had made that necessary.
        because: Vec<u64>,
    },
    /// Not judged: too many orders are possible.
    #[error("not judged: at the end of operation {operation} there are more than {states} possible states")]
    TooHard {
        /// Where the search gave up.
        operation: u64,
        /// The limit.
        states: usize,
    },
}

impl Flaw {
    /// The operations that show it, the one that was noticed first.
    #[must_use]
    pub fn operations(&self) -> Vec<u64> {
        match self {
            Self::Meaningless { operation }
            | Self::NeverWritten { operation, .. }
            | Self::TooHard { operation, .. } => vec![*operation],
            Self::SameValue { first, second } | Self::SameVersion { first, second, .. } => {
                vec![*first, *second]
            }
            Self::WasRefused { operation, writer }
            | Self::FromTheFuture { operation, writer }
            | Self::SeveralVersions { operation, writer, .. } => vec![*operation, *writer],
            Self::NoOrder { operation, because } => [&[*operation], because.as_slice()].concat(),
        }
    }
}
