//! The client of a quorum device, without I/O: how a node asks an arbiter outside of the cluster for a vote.
//!
//! The arbiter is `corosync-qnetd`, TCP port 5403. Every node tells it which ring it is in and with whom; the
//! arbiter, which sees all parts of a divided cluster that still reach it, gives its vote to one of them.
//!
//! Never does: open connections, speak TLS, count votes, decide which part wins (that is the arbiter's).
//!
//! Contract: one [`Input`], then [`Client::poll_output`] until it returns `None`, **in order**: a refusal
//! ([`Output::Vote`]) comes before the answer ([`Output::Send`]) that lets the arbiter give its vote to another
//! part. The client wants [`Input::Timer`] when [`Client::next_deadline`] has passed.
//!
//! The vote is a lease: it ends when the arbiter has not answered for so long that it may soon take this node
//! for dead, before it does so. See `client/lease.rs`.
//!
//! Files: `client/` (the machine), `message.rs` (messages), `tlv.rs` (their fields), `frame.rs` (messages in a
//! stream of bytes), `io.rs` (inputs and outputs), `config.rs`.
//!
//! Sources: corosync-qdevice(8), corosync-qnetd(8); what `corosync-qdevice` 3.0.3 and `corosync-qnetd` 3.0.3 say
//! to each other (`tests/data`).

mod client;
mod config;
mod frame;
mod io;
pub mod message;
mod tlv;

pub use client::{Client, State, Summary};
pub use config::{Algorithm, Config, Encryption, TieBreaker};
pub use frame::{FrameError, Frames};
pub use io::{Input, NodeState, Output, Vote};
pub use message::{DecodeError, ErrorCode, Kind, Message};

/// Port of an arbiter unless the configuration says otherwise.
pub const PORT: u16 = 5403;
