//! `pvecm delnode`: remove a node that is off for good. Source: spec 4.5.

use clap::ArgAction;
use quorate_proto::gateway::v1::RemoveNodeRequest;
use serde::Serialize;

use crate::{
    client::Client,
    error::Error,
    exit::Exit,
    output::{Output, remark},
};

/// Removes a node that is off for good.
///
/// Needs quorum, and runs on another node than the one that goes. Before: move its guests away and switch it off. It
/// must never start again with its old configuration in this network.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  pvecm delnode hp4
  pvecm delnode hp4 --verbose             tell what is left to clean up")]
pub(crate) struct Args {
    /// Name of the node, or one of its addresses
    #[arg(value_name = "NODE")]
    node: String,
    /// Remove it although it is online
    #[arg(
        long,
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        hide_default_value = true,
        hide_possible_values = true,
        value_parser = clap::builder::BoolishValueParser::new(),
        value_name = "0|1"
    )]
    force: bool,
    /// Tell what is left to clean up
    #[arg(long)]
    verbose: bool,
}

/// The answer of `pvecm delnode -o json`.
#[derive(Debug, Serialize)]
struct Removed {
    node: String,
    config_version: u64,
    hints: Vec<String>,
}

pub(super) async fn run(args: Args, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let request = client.request(RemoveNodeRequest { node: args.node.clone(), force: args.force });
    let answer = client.cluster().remove_node(request).await.map_err(client.failure())?.into_inner();
    if args.verbose {
        remark("removed", &format!("{}, config_version is now {}", args.node, answer.config_version));
        answer.hints.iter().for_each(|hint| remark("hint", hint));
    }
    let removed = Removed { node: args.node, config_version: answer.config_version, hints: answer.hints };
    // The original prints nothing on success, and scripts rely on it.
    out.answer(&removed, String::new)?;
    Ok(Exit::Success)
}
