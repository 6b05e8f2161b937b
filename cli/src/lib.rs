//! The command line of a Quorate cluster.
//!
//! A command here parses what was typed, makes a call or two, and prints the answer. It holds no state, reads no
//! file of the cluster and decides nothing: whatever needs knowledge of the cluster is a question to a daemon.
//! All calls go to one socket, `run/quorate/gatewayd.sock` below the node's root; the gateway passes them on.
//!
//! One command is one trace: `client` opens a CLIENT span, and the daemons' spans become its children.
//!
//! Map of the files
//!
//! - `args.rs`: the spellings of older `pvecm`s, rewritten before clap sees them
//! - `client.rs`: the channel to the gateway, deadlines, the runtime, the trace
//! - `output.rs`: standard output, text or JSON; a closed pipe is not an error
//! - `error.rs`, `exit.rs`: what went wrong, as `error[REASON]: message` and as an exit status
//! - `time.rs`, `number.rs`: how times, durations and numbers are read and printed
//! - `pvecm/`: one file per command, named as it is typed
//! - `qm/`: virtual machines
//!
//! Source: the `pvecm` specification (sections cited as "spec 4.6" in the files below).

pub mod args;
pub mod client;
pub mod error;
pub mod exit;
pub mod number;
pub mod output;
pub mod pvecm;
pub mod qm;
pub mod time;
