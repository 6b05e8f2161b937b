//! Moving a guest from one node to another: who does what next, and what is undone when something breaks.
//!
//! No sockets, no clock, no files. The driver hands in what happened ([`Migration::handle_input`],
//! [`Migration::handle_timeout`]) and carries out what comes back ([`Migration::poll_output`]), in order, until there
//! is nothing more; then it waits for the next input or for [`Migration::poll_timeout`].
//!
//! # The one rule
//!
//! A guest belongs to the node under which its configuration lies. The move of the configuration ([`Output::Commit`]) is
//! the moment at which it changes its owner, and [`Output::Void`] makes that move impossible for ever: of the two, the
//! cluster accepts the one that comes first. Hence
//!
//! - the target never runs the guest before the commit: its QEMU is paused, and its own daemon asks the cluster first;
//! - the source never runs the guest again after a commit that may have happened: it asks first, or makes it void.
//!
//! # States
//!
//! | state | owner | if anything breaks |
//! |---|---|---|
//! | `preparing`, `mirroring`, `precopy` | source | undone: the guest has never stopped |
//! | `switching` (the guest is stopped) | source | undone, and the guest goes on at the source |
//! | `committed` | target | finished: the target goes on, the source only ends its process |
//!
//! Each is written to the cluster's tree before the step that it names is taken, so that a daemon that was killed knows
//! what may have happened: see [`Migration::recover`].
//!
//! | file | holds |
//! |---|---|
//! | `machine/` | [`Migration`]: one file for each part of the way |
//! | `plan.rs`, `record.rs` | what is to be done; what the tree keeps of it |
//! | `qmp.rs` | the commands, answers and events of QEMU that matter here |
//! | `network.rs` | which of a node's addresses carries the data |
//! | `greeting.rs` | the first bytes on a connection between two nodes |

pub mod greeting;
mod machine;
pub mod network;
mod plan;
pub mod qmp;
mod record;

pub use machine::{
    Channel, Failure, Input, Migration, Outcome, Output, Owner, Progress, Ready, Resumed, Side, Sockets,
    Timings, Written,
};
pub use plan::{Disk, MigrationId, MigrationIdError, Plan};
pub use record::{Record, RecordError, State};
