//! Whole nodes on one machine, with real processes and real sockets.
//!
//! A playground is a directory with one root per node (`DIR/hp1`, `DIR/hp2`, ...) and a `quorate-node` for each. In
//! *loopback* mode, which needs no privileges, node `i` has the address `127.x.y.i`; `x` and `y` come from a hash of
//! the directory, so that many playgrounds run side by side. In *netns* mode, as root, each node has a network
//! namespace of its own and `10.77.0.i`, and all are plugged into a bridge in one more namespace.
//!
//! The demo, the cluster tests and the documentation start from here:
//!
//! ```no_run
//! # async fn example() -> Result<(), playground::Error> {
//! use playground::{Mode, Playground, Setup};
//!
//! let setup = Setup { nodes: 3, mode: Mode::Loopback, subnet: None, environment: Default::default() };
//! let playground = Playground::up(std::path::Path::new("/tmp/lab"), &setup).await?;
//! let hp1 = playground.node("hp1")?;
//! hp1.command("pvecm").args(["create", "lab"]).status().expect("pvecm runs");
//! hp1.kill(None).await?;
//! playground.down().await
//! # }
//! ```
//!
//! Every wait ends: with what was waited for, or with an error that says what was not seen in time.
//!
//! | file | holds |
//! |---|---|
//! | `playground.rs` | [`Playground`]: up, open, partition, heal, down |
//! | `node.rs` | [`Node`]: start, stop, kill, run a command |
//! | `process.rs` | process ids, signals, waiting for an end |
//! | `interrupt.rs` | the signals that end `playground` itself |
//! | `plan.rs` | names and addresses, kept in `DIR/playground.json` |
//! | `network/` | the two modes |
//! | `shell.rs` | running `pvecm` on a node |
//! | `votes.rs` | following a node's votes |
//! | `report.rs` | what `playground status` prints |
//! | `demo/` | the walk through a cluster's life that `make demo` shows |

pub mod demo;
mod error;
mod interrupt;
mod network;
mod node;
mod plan;
mod playground;
mod process;
mod report;
pub mod shell;
pub mod votes;

pub use error::Error;
pub use interrupt::{Interrupt, Interrupts};
pub use node::Node;
pub use plan::{Groups, GroupsError, Mode, Setup};
pub use playground::Playground;
pub use report::{NodeReport, report};
