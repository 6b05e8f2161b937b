//! `pvecm nodes`: the members with their votes and names. Source: spec 4.7.

use super::view::{self, Member};
use crate::{client::Client, error::Error, exit::Exit, output::Output};

/// Lists the members of the present ring with their votes and names.
///
/// Works without quorum. Nodes that are configured but not in the ring are not listed; `pvecm status -o json` has
/// them under "missing".
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  pvecm nodes
  pvecm nodes -o json

Exit status: 0, quorate or not; 1 if there is no ring, or the daemons cannot be reached.")]
pub(crate) struct Args {}

pub(super) async fn run(_args: &Args, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let votes = view::quorum_status(client).await?;
    if votes.ring.is_none() || view::members(&votes).is_empty() {
        return Err(Error::NoRing { reason: votes.reason });
    }
    let members = view::members(&votes);
    out.answer(&members, || text(&members))?;
    Ok(Exit::Success)
}

/// The table, with an empty line before it.
fn text(members: &[Member]) -> String {
    let mut text =
        String::from("\nMembership information\n----------------------\n    Nodeid      Votes Name\n");
    for member in members {
        let local = if member.local { " (local)" } else { "" };
        let name = if member.name.is_empty() { &member.address } else { &member.name };
        text.push_str(&format!("{:>10} {:>10} {name}{local}\n", member.node_id, member.votes));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pvecm::view::samples;

    #[test]
    fn the_table_is_laid_out_as_corosync_quorumtool_does_it() {
        let members = view::members(&samples::four_nodes());
        assert_eq!(text(&members), include_str!("../../tests/data/nodes.txt"));
    }

    #[test]
    fn json_has_the_documented_fields() {
        let members = view::members(&samples::four_nodes());
        let json = serde_json::to_string_pretty(&members).unwrap() + "\n";
        assert_eq!(json, include_str!("../../tests/data/nodes.json"));
    }

    #[test]
    fn a_member_without_a_name_is_listed_by_its_address() {
        let mut votes = samples::four_nodes();
        votes.nodes[2].name.clear();
        assert!(text(&view::members(&votes)).contains("         3          1 10.10.10.3\n"));
    }
}
