//! Whole nodes under faults, and a judgement of everything that their clients saw.
//!
//! Nodes of a playground run in network namespaces. Clients of every node write, read, watch and lock a few files at
//! once; a nemesis kills, stops, cuts off, fills disks and loses packets, as a seed says. Everything is recorded by one
//! clock, to a file with a line per event; at the end all faults are undone and everything is read everywhere. Then
//! the record is judged, by functions that know nothing of processes:
//!
//! | | what must hold |
//! |---|---|
//! | [`linear`] | writes and linearizable reads of one file have one order that explains every answer |
//! | [`check::local`] | what a node showed and was acknowledged, this node shows until it is replaced |
//! | [`check::watch`] | watchers see every version once, in order, and the same everywhere |
//! | [`check::lock`] | a lock has one holder |
//! | [`check::end`] | healed replicas are equal and hold every file alike |
//!
//! | file | holds |
//! |---|---|
//! | `record.rs` | what is recorded, and the recorder |
//! | `content.rs` | unique contents that show whether they are whole |
//! | `client/` | the ways to a node's tree |
//! | `workload/` | writers, readers, watchers, lockers |
//! | `nemesis/` | what goes wrong, and how |
//! | `lab.rs` | the nodes, their disks, and the end of both |
//! | `run.rs` | from the first node to the verdict |

pub mod check;
pub mod client;
pub mod content;
pub mod lab;
pub mod linear;
pub mod nemesis;
pub mod record;
pub mod run;
pub mod workload;
