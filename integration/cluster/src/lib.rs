//! Hands and eyes of the cluster tests: real daemons, real UDP, `pvecm` as the hand.
//!
//! Each test has a [`Lab`]: a playground in a directory of its own, gone at its end, also if the test fails. What a
//! test waits for is named and has a deadline; whoever gives up says what was seen last. Nothing here sleeps for a
//! guessed time.
//!
//! | file | holds |
//! |---|---|
//! | `lab.rs` | [`Lab`]: nodes, a cluster of them, the end of both |
//! | `cli.rs` | `pvecm` with a deadline |
//! | `wait.rs` | waiting for conditions |
//! | `replicas.rs` | what the replicas of the tree say of themselves |
//! | `writer.rs` | a stream of `pvecm cfg put`, and what became of each |
//! | `metrics.rs` | the page of metrics of a node |
//! | `mount.rs` | the tree as files |
//!
//! A function here panics when what it promises does not hold: it is the assertion of a test.

pub mod cli;
mod lab;
pub mod metrics;
pub mod mount;
pub mod replicas;
pub mod wait;
pub mod writer;

pub use lab::{Lab, PATIENCE};
