//! `pvecm create`: make this node the first of a new cluster. Source: spec 4.1.

use quorate_proto::gateway::v1::{self as proto, CreateClusterRequest};
use quorate_types::ClusterName;
use serde::Serialize;

use super::links::{LegacyOptions, LinkOptions};
use crate::{
    client::Client,
    error::Error,
    exit::Exit,
    number::positive,
    output::{Output, remark},
    time::milliseconds,
};

/// Makes this node the first of a new cluster.
///
/// The node must be in no cluster yet. Its files stay as they are and become the cluster's. The name of a cluster
/// can never be changed.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  pvecm create lab
  pvecm create lab --link0 10.0.0.1 --nodeid 1 --votes 1
  pvecm create lab --link0 10.0.0.1 --link1 10.1.0.1,priority=20
  pvecm create lab --ring0_addr 10.0.0.1")]
pub(crate) struct Args {
    /// Name of the cluster: letters, digits and inner hyphens, at most 15
    #[arg(value_name = "CLUSTERNAME")]
    name: ClusterName,
    /// Id of this node
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = positive, default_value = "1")]
    nodeid: u32,
    /// Votes of this node
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = positive, default_value = "1")]
    votes: u32,
    /// How the ring's packets travel; only knet has several links, and only knet encrypts
    #[arg(long, value_enum, value_name = "NAME", default_value = "knet")]
    transport: Transport,
    #[command(flatten)]
    links: LinkOptions,
    #[command(flatten)]
    legacy: LegacyOptions,
}

/// How the ring's packets travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Transport {
    /// Up to eight links, encrypted
    Knet,
    /// One link, not encrypted, one datagram for each node
    Udpu,
    /// One link, not encrypted, multicast
    Udp,
}

/// The answer of `pvecm create -o json`.
#[derive(Debug, Serialize)]
struct Created {
    cluster_name: String,
    corosync_conf: String,
    detection_worst_case_ms: Option<u64>,
    warnings: Vec<String>,
}

pub(super) async fn run(args: Args, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let links = args.links.links_with(&args.legacy)?;
    links.notes.iter().for_each(|note| remark("note", note));
    let name = args.name.to_string();
    let request = CreateClusterRequest {
        cluster_name: name.clone(),
        node_id: args.nodeid,
        votes: Some(args.votes),
        link_addresses: links.addresses,
        link_priorities: links.priorities,
        transport: match args.transport {
            Transport::Knet => proto::Transport::Knet,
            Transport::Udpu => proto::Transport::Udpu,
            Transport::Udp => proto::Transport::Udp,
        }
        .into(),
        link_mode: if links.active { proto::LinkMode::Active } else { proto::LinkMode::Passive }.into(),
    };
    let answer = client.cluster().create_cluster(client.request(request)).await.map_err(client.failure())?;
    let answer = answer.into_inner();
    answer.warnings.iter().for_each(|warning| remark("warning", warning));
    let created = Created {
        cluster_name: name,
        corosync_conf: answer.corosync_conf,
        detection_worst_case_ms: milliseconds(answer.detection_worst_case.as_ref()),
        warnings: answer.warnings,
    };
    out.answer(&created, || text(&created))?;
    Ok(Exit::Success)
}

fn text(created: &Created) -> String {
    let mut text = format!("cluster {} created, this node is its first member\n", created.cluster_name);
    if let Some(worst) = created.detection_worst_case_ms {
        text.push_str(&format!("a node that dies silently is noticed within {worst} ms\n"));
    }
    text
}
