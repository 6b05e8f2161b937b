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
/// Needs quorum, and runs on another node than the one that goes. Before: move its guests away, save what must be kept,
/// and switch it off. Its certificate becomes worthless and the ring gets a new key, so that it takes part in nothing
/// should it start again with its old configuration. Its directory is kept below priv/removed in the tree.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  pvecm delnode hp4
  pvecm delnode hp4 --dry-run             tell what would be done, and do nothing
  pvecm delnode hp4 --verbose             tell what was done, and what is left to clean up")]
pub(crate) struct Args {
    /// Name of the node, or one of its addresses
    #[arg(value_name = "NODE")]
    node: String,
    /// Remove it although it is online
    #[arg(
        long,
        visible_alias = "even-if-online",
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
    /// Make all checks, print what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Tell what was done and what is left to clean up
    #[arg(long)]
    verbose: bool,
}

/// The answer of `pvecm delnode -o json`.
#[derive(Debug, Serialize)]
struct Removed {
    node: String,
    /// `totem.config_version` now.
    config_version: u64,
    /// Nothing was changed.
    dry_run: bool,
    /// What was done, or would be.
    steps: Vec<String>,
    hints: Vec<String>,
    /// Where the node's directory is kept in the tree.
    archive: String,
    /// Whether the ring has a new key.
    key_changed: bool,
    /// Guests whose configuration went with the directory.
    guests: Vec<String>,
}

pub(super) async fn run(args: Args, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let (node, dry_run) = (args.node, args.dry_run);
    let request = RemoveNodeRequest { node: node.clone(), force: args.force, validate_only: dry_run };
    let answer = client.cluster().remove_node(client.request(request)).await.map_err(client.failure())?;
    let answer = answer.into_inner();
    let removed = Removed {
        node,
        config_version: answer.config_version,
        dry_run,
        steps: answer.steps,
        hints: answer.hints,
        archive: answer.archive,
        key_changed: answer.key_changed,
        guests: answer.guests,
    };
    if args.verbose {
        let done = if dry_run { "would" } else { "done" };
        removed.steps.iter().for_each(|step| remark(done, step));
        removed.hints.iter().for_each(|hint| remark("hint", hint));
    } else if !removed.guests.is_empty() {
        // Nobody should find out later that guests are gone from the lists.
        remark("warning", &guests(&removed));
    }
    // The original prints nothing on success, and scripts rely on it.
    out.answer(&removed, || text(&removed))?;
    Ok(Exit::Success)
}

fn guests(removed: &Removed) -> String {
    format!(
        "{} guest(s) were configured on '{}': {}; their files are kept below {}/node ('pvecm cfg mv' brings them back)",
        removed.guests.len(),
        removed.node,
        removed.guests.join(", "),
        removed.archive
    )
}

/// Nothing, except where nothing was done.
fn text(removed: &Removed) -> String {
    if !removed.dry_run {
        return String::new();
    }
    let steps: String = removed.steps.iter().map(|step| format!("  - {step}\n")).collect();
    format!("node '{}' could be removed; nothing was changed. It would mean:\n{steps}", removed.node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn success_is_silent_and_a_dry_run_lists_what_would_be_done() {
        let removed = |dry_run| Removed {
            node: "hp4".into(),
            config_version: 7,
            dry_run,
            steps: vec!["it goes".into()],
            hints: Vec::new(),
            archive: "priv/removed/hp4-7".into(),
            key_changed: true,
            guests: vec!["100 (hp4)".into()],
        };
        assert_eq!(text(&removed(false)), "");
        assert!(text(&removed(true)).ends_with("It would mean:\n  - it goes\n"));
        assert!(
            guests(&removed(false)).contains("100 (hp4); their files are kept below priv/removed/hp4-7/node")
        );
    }
}
