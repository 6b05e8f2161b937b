//! `pvecm nodes`: the members with their votes and names. Source: spec 4.7.

use quorate_proto::gateway::v1::GetClusterRequest;

use super::view::{self, DeviceBlock, Member};
use crate::{
    client::Client,
    error::Error,
    exit::Exit,
    output::{Output, remark},
    time::{local, timestamp},
};

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
pub(crate) struct Args {
    /// Also tell, on standard error, when each node's certificate ends
    #[arg(long, short)]
    verbose: bool,
}

pub(super) async fn run(args: &Args, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let votes = view::quorum_status(client).await?;
    if votes.ring.is_none() || view::members(&votes).is_empty() {
        return Err(Error::NoRing { reason: votes.reason });
    }
    let members = view::members(&votes);
    let device = votes.device.as_ref().map(DeviceBlock::new);
    out.answer(&members, || text(&members, device.as_ref()))?;
    if args.verbose {
        certificates(client).await?;
    }
    Ok(Exit::Success)
}

/// When the certificates of all nodes end.
async fn certificates(client: &Client) -> Result<(), Error> {
    let answer = client.cluster().get_cluster(client.request(GetClusterRequest {})).await;
    for node in answer.map_err(client.failure())?.into_inner().nodes {
        let end = timestamp(node.certificate_expires.as_ref());
        let end = end.map_or_else(|| "not published".to_owned(), |end| format!("good until {}", local(end)));
        remark("certificate", &format!("{}: {end}", node.name));
    }
    Ok(())
}

/// The table, with an empty line before it.
fn text(members: &[Member], device: Option<&DeviceBlock>) -> String {
    let column = |text: &str| if device.is_some() { format!("{text:>10} ") } else { String::new() };
    let mut text = format!(
        "\nMembership information\n----------------------\n    Nodeid      Votes {}Name\n",
        column("Qdevice")
    );
    for member in members {
        let local = if member.local { " (local)" } else { "" };
        let name = if member.name.is_empty() { &member.address } else { &member.name };
        let device = column(&member.qdevice);
        text.push_str(&format!("{:>10} {:>10} {device}{name}{local}\n", member.node_id, member.votes));
    }
    text + &device.map_or_else(String::new, |device| format!("{:>10} {}", 0, device.line()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pvecm::view::samples;

    #[test]
    fn the_table_is_laid_out_as_corosync_quorumtool_does_it() {
        let members = view::members(&samples::four_nodes());
        assert_eq!(text(&members, None), include_str!("../../tests/data/nodes.txt"));
    }

    #[test]
    fn a_quorum_device_has_a_column_and_a_line() {
        let votes = samples::two_and_arbiter();
        let device = votes.device.as_ref().map(DeviceBlock::new);
        let text = text(&view::members(&votes), device.as_ref());
        assert!(text.ends_with(
            "    Nodeid      Votes    Qdevice Name\n         1          1    A,V,NMW hp1 (local)\n         \
             2          1    A,V,NMW hp2\n         0          1            Qdevice\n"
        ));
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
        assert!(text(&view::members(&votes), None).contains("         3          1 10.10.10.3\n"));
    }
}
