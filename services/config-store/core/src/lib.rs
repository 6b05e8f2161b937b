//! The replicated tree.
#![forbid(unsafe_code)]
pub mod checksum;
pub mod entry;
pub mod epoch;
pub mod guest;
pub mod log;
pub mod operation;
pub mod path;
pub mod tree;
pub mod wire;
pub mod ack;pub mod batch;pub mod conflict;pub mod load;pub mod message;pub mod outbox;pub mod quorum;pub mod request;pub mod sync;pub mod transfer;
