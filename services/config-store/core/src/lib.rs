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
