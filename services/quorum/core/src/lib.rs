//! Votes and quorum: corosync's votequorum as a state machine without I/O.
//!
//! Each node has votes; the part of the cluster that holds more than half of the expected votes is
//! quorate and may act. The members of a ring tell each other their votes while the ring synchronises,
//! with the messages of corosync's own engine, so that members running either agree.
//!
//! Never does: send packets, decide who is a member, fence, read files or clocks, speak with a quorum
//! device (its answer is an input).
//!
//! Contract: one [`Input`], then [`Votequorum::poll_output`] until it returns `None`, in order. The engine
//! wants [`Input::Timer`] when [`Votequorum::next_deadline`] has passed. After a restart it is given the
//! messages of the current ring again (`SyncStarted`, messages, `SyncActivated`), asks the others for what
//! they have learned since, and comes to the same result.
//!
//! Files: `votequorum.rs` (the machine: inputs, sync), `exchange.rs` (messages of other nodes and to them),
//! `nodes.rs` (a record per node), `recalculate.rs` (votes to quorum), `tie_breaker.rs`,
//! `last_man_standing.rs`, `device.rs` (the arbiter's votes), `expected.rs` (the operator's override), `config.rs`, `status.rs`,
//! `message.rs` (wire format), `io.rs` (inputs and outputs).
//!
//! Sources: votequorum(5); corosync 3.1 `exec/votequorum.c` by its behaviour; service specification,
//! section 3. Where this engine is stricter a line says `Differs:`. All of those lines forbid something
//! that corosync allows and that could make two parts of a cluster quorate at once.
//!
//! ```
//! use std::time::Instant;
//! use quorate_types::{NodeId, RingId};
//! use quorum_core::{Input, Output, QuorumConfig, Votequorum};
//!
//! let me = NodeId::new(1)?;
//! let ring = RingId::new(me, 4);
//! let mut engine = Votequorum::new(me, QuorumConfig::majority(1, 1, 1), None);
//!
//! engine.handle_input(Instant::now(), Input::SyncStarted { ring, members: vec![me], transitional: vec![] });
//! assert!(matches!(engine.poll_output(), Some(Output::SyncMessages { .. })));
//! engine.handle_input(Instant::now(), Input::SyncActivated { ring });
//! assert!(matches!(engine.poll_output(), Some(Output::Changed(status)) if status.quorate));
//! # Ok::<(), quorate_types::NodeIdError>(())
//! ```

mod config;
mod device;
mod exchange;
mod expected;
mod io;
mod last_man_standing;
pub mod message;
mod nodes;
mod recalculate;
mod status;
mod tie_breaker;
mod votequorum;

pub use config::{DeviceConfig, QuorumConfig, TieBreaker};
pub use device::{ANSWER_WAIT, DeviceVote};
pub use expected::ExpectedRefusal;
pub use io::{Input, Output, Stats};
pub use nodes::NodeState;
pub use status::{DeviceStatus, Flags, NodeVotes, Status};
pub use votequorum::Votequorum;
