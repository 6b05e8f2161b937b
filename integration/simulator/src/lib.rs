//! Deterministic simulator of whole clusters: all protocol cores, one clock, one seed.
//!
//! A node is a machine with three daemons and a disk each: membershipd (`membership-core`, the ring
//! with everything on it), quorumd (`quorum-core`) and configd (`config-store-core`). The daemons here are thin: they
//! move inputs and outputs as the real ones do, with simulated sockets, files and connections. Two test
//! clients per node, the *probes*, multicast numbered messages with agreed and with safe delivery.
//!
//! A run has two phases. *Safety*: everything may go wrong at any time, nothing wrong may happen.
//! *Liveness*: everything is repaired, and within a bound all nodes must share one ring, be quorate, in sync and
//! hold the same tree. Checkers see only what clients of the daemons and their disks show.
//!
//! What it never does: open a socket or a file, look at a clock, start a thread (the program `simulate` runs
//! several runs side by side), iterate over anything in an order that is not determined. A run depends on its
//! seed alone; the same seed gives the same trace, and its hash proves it.
//!
//! # How to replay
//!
//! `simulate --seeds 1..1000` stops at the first seed that fails and prints the end of its trace. `simulate
//! --seed 42 --verbose` prints all of it, a line per event: seconds, node, what happened. From there, write the
//! story as a test with [`scenario::Scenario`], then fix the core.
//!
//! Which checker, mutation and test stands for which property and scenario: `docs/protocols/correctness.md`.
//!
//! # Map
//!
//! | file | what |
//! |---|---|
//! | `simulation.rs` | one run: the two phases, the report |
//! | `calm.rs` | hours without faults, to see that nothing raises a false alarm |
//! | `scale.rs`, `scale/` | how times grow with the number of nodes; the picture of it |
//! | `setup.rs` | what a seed stands for: nodes, parameters, options |
//! | `fault.rs`, `workload.rs` | what goes wrong and what users do, drawn before the run |
//! | `cluster.rs`, `cluster/` | the run itself: queue, machines, connections |
//! | `daemon/` | the glue around each core |
//! | `network.rs`, `disk.rs`, `process.rs` | the faulty world |
//! | `event.rs`, `trace.rs`, `rng.rs` | virtual time, the record, chance |
//! | `history.rs` | what is observable |
//! | `checker/` | what must hold, one file per property |
//! | `mutation.rs` | deliberate bugs that prove the checkers |
//! | `scenario.rs` | a cluster driven by hand, for `tests/*.rs` |
//!
//! Sources: the properties are those of Moser, Amir, Melliar-Smith and Agarwal, *Extended Virtual Synchrony*
//! (ICDCS 1994); the manner of testing is that of FoundationDB and of TigerBeetle's VOPR.

#![forbid(unsafe_code)]

pub mod calm;
pub mod checker;
pub mod cluster;
pub mod daemon;
pub mod disk;
pub mod event;
pub mod fault;
pub mod history;
pub mod mutation;
pub mod network;
pub mod process;
pub mod rng;
pub mod scale;
pub mod scenario;
pub mod setup;
pub mod simulation;
pub mod trace;
pub mod workload;
