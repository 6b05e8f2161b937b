//! Ring membership and ordered messages, as corosync 3 speaks them, without I/O.
//!
//! One layer per module, each a state machine on top of the one before:
//!
//! - [`srp`] orders packets and agrees on the members of a ring
//! - [`pg`] makes messages of any size out of packets
//! - [`sync`] brings all members to a common state after a change, service by service
//! - [`cpg`] keeps process groups; [`cmap`] and [`cfg`](mod@cfg) are corosync's two small services
//! - [`knet`] keeps the encrypted links that the packets travel over
//! - [`feature`] finds out what all members can do beyond corosync, such as notice a loss sooner
//! - [`strangers`] remembers who sends without being configured
//! - [`stack`] is all of it: the only module that a driver or a simulator talks to
//!
//! Nothing in here opens a socket or a file, reads a clock, starts a thread or draws a random
//! number of its own. The contract is the same everywhere: `handle_input(now, input)`, then
//! `poll_output` until it returns `None`, then wait for the next input or for `next_deadline`.
//!
//! Sources: Amir et al., *The Totem single-ring ordering and membership protocol*, ACM TOCS 13(4),
//! 1995; corosync 3.1 on the wire.

pub mod cfg;
pub mod cmap;
pub mod cpg;
pub mod feature;
pub mod knet;
pub mod pg;
pub mod service;
pub mod srp;
pub mod stack;
pub mod strangers;
pub mod sync;
