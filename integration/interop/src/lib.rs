//! One ring of Quorate's daemons and of corosync's.
//!
//! A [`Ring`] has up to a handful of nodes, each in a network namespace of its own, plugged into a switch that is one
//! more namespace. A node is either `membershipd` and `quorumd` or `corosync`; both read the same corosync.conf. The
//! tests start, stop, kill and separate them, and compare what both sides say of votes and what the members of a
//! process group were delivered on either side.
//!
//! They need root, corosync, libcpg-dev, a C compiler, nftables and iproute2 (`scripts/install-deps test`); without
//! them each test says what is missing and passes.
//!
//! | file | holds |
//! |---|---|
//! | `ring.rs` | [`Ring`]: which nodes there are, start, stop, kill, waiting until all agree |
//! | `node.rs` | [`Node`]: one node of either kind |
//! | `conf.rs` | the corosync.conf that both read |
//! | `namespace.rs` | where nodes live, how they are separated and how packets get lost |
//! | `process.rs` | processes that end with their owner |
//! | `votes.rs` | [`Votes`]: what `corosync-quorumtool` and `QuorumService` say, in one form |
//! | `group/` | [`GroupMember`]: a process of a group on either side |
//! | `payload.rs` | messages made from a seed |
//! | `requirements.rs` | what must be there |
//! | `cpg/cpg-client.c` | the program that uses corosync's own library |

mod conf;
pub mod group;
mod namespace;
mod node;
pub mod payload;
mod process;
mod requirements;
mod ring;
pub mod votes;
mod wait;

pub use conf::{Setup, Timers, Wire};
pub use group::GroupMember;
pub use node::{Kind, Node};
pub use ring::Ring;
pub use votes::Votes;
pub use wait::{PATIENCE, until};
