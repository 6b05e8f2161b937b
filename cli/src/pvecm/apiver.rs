//! `pvecm apiver`: the version of the join protocol. Source: spec 4.14.

use crate::{error::Error, exit::Exit, output::Output};

/// Version of the join protocol, as the reference counts it.
const VERSION: u32 = 1;

/// Prints the version of the join protocol.
///
/// Works without a cluster and without a running daemon.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  pvecm apiver
  pvecm apiver -o json")]
pub(crate) struct Args {}

pub(super) fn run(_args: &Args, out: &mut Output<'_>) -> Result<Exit, Error> {
    out.answer(&serde_json::json!({ "apiversion": VERSION }), || format!("{VERSION}\n"))?;
    Ok(Exit::Success)
}
