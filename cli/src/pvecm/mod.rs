//! `pvecm`: create, join, inspect and shrink a cluster, and work with its replicated files.
//!
//! One file per command. Each has its `Args` (what can be typed) and a `run` (one call, one answer).

mod add;
mod apiver;
pub(crate) mod cfg;
mod completion;
mod create;
mod delnode;
mod doctor;
mod expected;
mod global;
mod guests;
mod help;
mod keygen;
mod links;
mod log;
mod man;
mod netcheck;
mod nodes;
mod notices;
mod qdevice;
mod run;
mod status;
mod token;
mod updatecerts;
mod view;

pub use global::Global;
pub use run::main;

use clap::{Parser, Subcommand};

/// Manages a cluster of nodes: membership, votes, and the files that all nodes share.
///
/// Every command talks to the gateway of one node through its Unix socket, run/quorate/gatewayd.sock below --root.
#[derive(Debug, Parser)]
#[command(
    name = "pvecm",
    version,
    disable_help_subcommand = true,
    arg_required_else_help = true,
    subcommand_required = true,
    max_term_width = 100,
    after_long_help = EXAMPLES
)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  pvecm create lab                        make this node the first of a cluster
  pvecm token create                      on a member: a token for one new node
  pvecm add 10.0.0.1 --token TOKEN        on the new node: join
  pvecm status                            who is there, and may this node act?
  pvecm cfg put datacenter.cfg FILE       write a file that all nodes share

Exit status:
  0    success; status: the node is quorate
  1    status, nodes, expected: the engine cannot be reached or refuses
  2    status: the node is not quorate
  2    netcheck: the network does not keep to the limits; doctor: something is wrong
  255  any other failure, wrong usage included

Options may also be written with one dash (-votes 1) and with '-' or '_' between their words.";

/// The commands. What `help` says about each stands at its `Args`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Create(create::Args),
    Add(add::Args),
    Status(status::Args),
    Nodes(nodes::Args),
    Expected(expected::Args),
    Delnode(delnode::Args),
    Doctor(doctor::Args),
    Qdevice(qdevice::Args),
    Netcheck(netcheck::Args),
    Token(token::Args),
    Cfg(cfg::Args),
    Guests(guests::Args),
    Log(log::Args),
    Keygen(keygen::Args),
    Updatecerts(updatecerts::Args),
    Apiver(apiver::Args),
    Completion(completion::Args),
    Man(man::Args),
    Help(help::Args),
}
