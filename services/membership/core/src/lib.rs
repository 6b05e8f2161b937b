//! Ring membership and ordered messages, as corosync 3 speaks them, without I/O.
//!
//! One layer per module, each a state machine on top of the one before: [`srp`] orders packets and
//! agrees on the members of a ring.

pub mod cfg;
pub mod cmap;
pub mod cpg;
pub mod pg;
pub mod service;
pub mod srp;
pub mod sync;
