//! `pvecm status`: the cluster, its votes and its members. Source: spec 4.6.
//!
//! The text is byte for byte what the original prints, for the parsers that read it. What the original does not
//! have (since when, who is missing, how fast a loss is noticed) is in JSON only.

use std::fmt::Write as _;

use jiff::ZonedDateTime;
use quorate_proto::{
    gateway::v1::GetClusterRequest,
    membership::v1::{GetStatusRequest, GetStatusResponse as Ring},
    quorum::v1::QuorumStatus,
    types::v1::RingId,
};
use serde::Serialize;
use tonic::Code;

use super::{
    notices::{self, Transmitting},
    view::{self, ClusterBlock, DeviceBlock, Member, Missing, RingBlock},
};
use crate::{
    client::Client,
    error::Error,
    exit::Exit,
    output::{Output, remark},
    time::ctime,
};

/// Shows the cluster, its votes and its members.
///
/// Works without quorum. The exit status says whether this node may act: 0 quorate, 2 not quorate, 1 unknown because
/// a daemon cannot be reached. JSON also tells who is missing since when, and the longest time in which the silent
/// death of a node is noticed.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  pvecm status
  pvecm status -o json
  pvecm status > /dev/null && echo quorate")]
pub(crate) struct Args {
    /// Whose layout the text follows
    #[arg(long, value_enum, default_value_t, value_name = "LAYOUT")]
    layout: Layout,
}

/// The text's layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Layout {
    /// corosync 3: with cluster information, ring id in hex
    #[default]
    Current,
    /// corosync 2: without cluster information, ring id in decimal
    Legacy,
}

/// The document of `pvecm status -o json`.
#[derive(Debug, Serialize)]
struct Status {
    cluster: ClusterBlock,
    quorum: QuorumBlock,
    votequorum: VotequorumBlock,
    /// Nodes in the present ring, by id.
    members: Vec<Member>,
    /// Nodes that are configured or were seen, and are not in the ring, by id.
    missing: Vec<Missing>,
    /// Absent if none is configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    qdevice: Option<DeviceBlock>,
    ring: RingBlock,
    /// Nodes that were removed and still send packets to this node.
    removed_transmitting: Vec<Transmitting>,
}

/// The block "Quorum information".
#[derive(Debug, Serialize)]
struct QuorumBlock {
    /// When the question was answered, in local time.
    date: String,
    provider: &'static str,
    /// Nodes in the present ring.
    nodes: usize,
    node_id: u32,
    ring_id: RingIdBlock,
    quorate: bool,
    /// When `quorate` last changed.
    since: Option<String>,
    /// Why the node is not quorate; empty if it is.
    reason: String,
}

/// A ring id in its two parts.
#[derive(Debug, Serialize)]
struct RingIdBlock {
    rep: u32,
    seq: u64,
}

/// The block "Votequorum information".
#[derive(Debug, Serialize)]
struct VotequorumBlock {
    expected_votes: u32,
    highest_expected: u32,
    total_votes: u32,
    /// Votes needed.
    quorum: u32,
    activity_blocked: bool,
    flags: Vec<String>,
    /// The override of the expected votes that was asked for at this node, if one is in force.
    expected_override: Option<OverrideBlock>,
}

/// An operator's word on the expected votes.
#[derive(Debug, Serialize)]
struct OverrideBlock {
    expected_votes: u32,
    since: Option<String>,
    /// When it ends by itself; `null` if it does not.
    expires: Option<String>,
}

pub(super) async fn run(args: &Args, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let ring = ring_status(client).await?;
    if ring.node_id == 0 {
        return Err(view::no_ring(client, ring.down_reason).await);
    }
    let votes = match view::quorum_status(client).await {
        Ok(votes) => votes,
        Err(error) => {
            // The original still tells which cluster this is.
            if !out.is_json() && args.layout == Layout::Current {
                out.raw(cluster_text(&ClusterBlock::new(&ring)).as_bytes())?;
            }
            return Err(error);
        }
    };
    let overridden = notices::of_override(&votes);
    let mut status = Status::new(&ring, votes, &ZonedDateTime::now());
    status.removed_transmitting = notices::transmitting(client, &ring).await;
    out.answer(&status, || status.text(args.layout))?;
    overridden.iter().for_each(|notice| remark("note", notice));
    status.removed_transmitting.iter().for_each(|node| remark("warning", &node.text()));
    configuration_notes(client).await;
    Ok(if status.quorum.quorate { Exit::Success } else { Exit::NotQuorate })
}

/// Says beside the answer what is to be known of corosync.conf: members whose file differs, a change under way. Whoever
/// asks for the status gets it without configd, too.
async fn configuration_notes(client: &Client) {
    let request = client.request(quorate_proto::config::v1::GetStatusRequest {});
    if let Ok(answer) = client.config().get_status(request).await {
        answer.into_inner().configuration_notes.iter().for_each(|note| remark("note", note));
    }
}

/// Asks membershipd for the ring; if it does not answer, the gateway can still tell whether there is a cluster.
async fn ring_status(client: &Client) -> Result<Ring, Error> {
    let failure = match client.membership().get_status(client.request(GetStatusRequest {})).await {
        Ok(answer) => return Ok(answer.into_inner()),
        // No time is left, and who does not answer is known.
        Err(status) if status.code() == Code::DeadlineExceeded => return Err(client.failure()(status)),
        Err(status) => client.failure()(status),
    };
    let cluster = client.cluster().get_cluster(client.request(GetClusterRequest {})).await;
    match cluster {
        Ok(cluster) if cluster.get_ref().cluster_name.is_empty() => Err(Error::NotClustered),
        Ok(_) => Err(failure),
        // It knows better why membershipd is not there, such as a corosync.conf with mistakes.
        Err(status) => Err(client.failure()(status)),
    }
}

impl Status {
    fn new(ring: &Ring, votes: QuorumStatus, now: &ZonedDateTime) -> Self {
        let members = view::members(&votes);
        let missing = view::missing(&votes);
        let ring_id = votes.ring.unwrap_or_default();
        Self {
            cluster: ClusterBlock::new(ring),
            quorum: QuorumBlock {
                date: ctime(now),
                provider: "corosync_votequorum",
                nodes: members.len(),
                node_id: votes.node_id,
                ring_id: RingIdBlock { rep: ring_id.rep, seq: ring_id.seq },
                quorate: votes.quorate,
                since: view::rfc3339(votes.since.as_ref()),
                reason: votes.reason,
            },
            votequorum: VotequorumBlock {
                expected_votes: votes.expected_votes,
                highest_expected: votes.highest_expected,
                total_votes: votes.total_votes,
                quorum: votes.quorum,
                activity_blocked: !votes.quorate,
                flags: votes.flags,
                expected_override: votes.expected_override.as_ref().map(|it| OverrideBlock {
                    expected_votes: it.expected_votes,
                    since: view::rfc3339(it.since.as_ref()),
                    expires: view::rfc3339(it.expires.as_ref()),
                }),
            },
            members,
            missing,
            qdevice: votes.device.as_ref().map(DeviceBlock::new),
            ring: RingBlock::new(ring),
            removed_transmitting: Vec::new(),
        }
    }

    fn text(&self, layout: Layout) -> String {
        let cluster = match layout {
            Layout::Current => cluster_text(&self.cluster) + "\n",
            Layout::Legacy => String::new(),
        };
        [cluster, self.quorum_text(layout), self.votequorum_text(), self.members_text()].concat()
    }

    fn quorum_text(&self, layout: Layout) -> String {
        let quorum = &self.quorum;
        let ring = RingId { rep: quorum.ring_id.rep, seq: quorum.ring_id.seq };
        let ring = match layout {
            Layout::Current => quorate_types::RingId::from(ring).to_string(),
            Layout::Legacy => format!("{}/{}", ring.rep, ring.seq),
        };
        let mut text = heading("Quorum information");
        field(&mut text, "Date:", &quorum.date);
        field(&mut text, "Quorum provider:", quorum.provider);
        field(&mut text, "Nodes:", &quorum.nodes.to_string());
        field(&mut text, "Node ID:", &format!("{:#010x}", quorum.node_id));
        field(&mut text, "Ring ID:", &ring);
        field(&mut text, "Quorate:", if quorum.quorate { "Yes" } else { "No" });
        text.push('\n');
        text
    }

    fn votequorum_text(&self) -> String {
        let votes = &self.votequorum;
        let blocked = if votes.activity_blocked { "Activity blocked" } else { " " };
        let flags: String = votes.flags.iter().map(|flag| format!("{flag} ")).collect();
        let mut text = heading("Votequorum information");
        field(&mut text, "Expected votes:", &votes.expected_votes.to_string());
        field(&mut text, "Highest expected:", &votes.highest_expected.to_string());
        field(&mut text, "Total votes:", &votes.total_votes.to_string());
        field(&mut text, "Quorum:", &format!("{} {blocked}", votes.quorum));
        field(&mut text, "Flags:", &flags);
        text.push('\n');
        text
    }

    fn members_text(&self) -> String {
        let mut text = heading("Membership information");
        if let Some(device) = &self.qdevice {
            return text + &self.members_and_device(device);
        }
        text.push_str("    Nodeid      Votes Name\n");
        for member in &self.members {
            let local = if member.local { " (local)" } else { "" };
            let name = if member.address.is_empty() { &member.name } else { &member.address };
            let _ = writeln!(text, "{:#010x} {:>10} {name}{local}", member.node_id, member.votes);
        }
        text
    }

    fn members_and_device(&self, device: &DeviceBlock) -> String {
        let mut text = String::from("    Nodeid      Votes    Qdevice Name\n");
        for member in &self.members {
            let Member { node_id, votes, qdevice, .. } = member;
            let local = if member.local { " (local)" } else { "" };
            let name = if member.address.is_empty() { &member.name } else { &member.address };
            let _ = writeln!(text, "{node_id:#010x} {votes:>10} {qdevice:>10} {name}{local}");
        }
        let _ = write!(text, "{:#010x} {}", 0, device.line());
        text
    }
}

fn cluster_text(cluster: &ClusterBlock) -> String {
    let mut text = heading("Cluster information");
    field(&mut text, "Name:", &cluster.name);
    field(&mut text, "Config Version:", &cluster.config_version.to_string());
    field(&mut text, "Transport:", &cluster.transport);
    field(&mut text, "Secure auth:", if cluster.secure_auth { "on" } else { "off" });
    text
}

/// A title and a line under it.
fn heading(title: &str) -> String {
    format!("{title}\n{}\n", "-".repeat(title.len()))
}

/// A label and its value, which starts in column 19.
fn field(text: &mut String, label: &str, value: &str) {
    let _ = writeln!(text, "{label:<18}{value}");
}

#[cfg(test)]
mod tests {
    use jiff::{Timestamp, tz::TimeZone};
    use quorate_proto::quorum::v1::quorum_device::Vote;

    use super::*;
    use crate::pvecm::view::samples;

    fn status(ring: &Ring, votes: QuorumStatus) -> Status {
        let now = "2026-03-07T09:15:02Z".parse::<Timestamp>().unwrap().to_zoned_datetime(TimeZone::UTC);
        Status::new(ring, votes, &now)
    }

    #[test]
    fn a_quorate_cluster_is_laid_out_byte_for_byte_as_the_original_does_it() {
        let text = status(&samples::ring(), samples::four_nodes()).text(Layout::Current);
        assert_eq!(text, include_str!("../../tests/data/status-quorate.txt"));
    }

    #[test]
    fn a_minority_is_shown_as_blocked_with_a_blank_after_the_empty_flags() {
        let text = status(&samples::ring(), samples::one_of_four()).text(Layout::Current);
        assert_eq!(text, include_str!("../../tests/data/status-blocked.txt"));
    }

    #[test]
    fn every_flag_is_followed_by_one_blank() {
        let mut votes = samples::four_nodes();
        votes.flags = vec!["2Node".into(), "Quorate".into(), "WaitForAll".into()];
        let text = status(&samples::ring(), votes).text(Layout::Current);
        assert!(text.contains("\nFlags:            2Node Quorate WaitForAll \n"));
    }

    #[test]
    fn the_legacy_layout_has_no_cluster_block_and_a_decimal_ring_id() {
        let text = status(&samples::ring(), samples::four_nodes()).text(Layout::Legacy);
        assert!(text.starts_with("Quorum information\n------------------\n"));
        assert!(text.contains("Ring ID:          1/756\n"));
    }

    #[test]
    fn a_quorum_device_has_a_column_and_a_line_as_corosync_prints_them() {
        let text = status(&samples::ring(), samples::two_and_arbiter()).text(Layout::Current);
        let table = "    Nodeid      Votes    Qdevice Name\n\
                     0x00000001          1    A,V,NMW 10.10.10.1 (local)\n\
                     0x00000002          1    A,V,NMW 10.10.10.2\n\
                     0x00000000          1            Qdevice\n";
        assert!(text.ends_with(table), "{text}");
        assert!(text.contains("\nFlags:            Quorate Qdevice \n"));

        let mut votes = samples::two_and_arbiter();
        votes.device.as_mut().unwrap().vote = Vote::Refused.into();
        let text = status(&samples::ring(), votes).text(Layout::Current);
        assert!(text.ends_with("0x00000000          0            Qdevice (votes 1)\n"), "{text}");
    }

    #[test]
    fn json_has_the_documented_fields() {
        let document = status(&samples::ring(), samples::one_of_four());
        let json = serde_json::to_string_pretty(&document).unwrap() + "\n";
        assert_eq!(json, include_str!("../../tests/data/status-blocked.json"));
    }
}
