//! `pvecm doctor`: what is wrong with the cluster, and what to do about it.

mod bundle;

use std::{path::PathBuf, time::Duration};

use quorate_proto::gateway::v1::{ExamineClusterRequest, ExamineClusterResponse, Finding, NodeFacts};
use serde::Serialize;
use tonic::Request;

use super::view::rfc3339;
use crate::{
    client::Client,
    error::Error,
    exit::Exit,
    output::{Output, columns, printable},
    time::milliseconds,
};

/// How long all nodes together may take: each has ten seconds, and five to be reached.
const PATIENCE: Duration = Duration::from_secs(20);

/// Examines all nodes: clocks, versions, names, addresses, links, disks, certificates, files that differ.
///
/// Changes nothing, and is safe at any time, also without quorum. The exit status is 0 if nothing is wrong, and 2
/// otherwise; each finding has a stable name, the reason, and the way out.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  pvecm doctor
  pvecm doctor -o json
  pvecm doctor --bundle /tmp/lab.tar      for those who help: findings, configuration, logs")]
pub(crate) struct Args {
    /// Write findings, status, configuration and logs of this node to a tar archive; no keys, no tokens
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
}

/// The document of `pvecm doctor -o json`.
#[derive(Debug, Serialize)]
struct Document {
    /// The nodes that answered, by name.
    nodes: Vec<Node>,
    findings: Vec<Found>,
}

/// A node that answered.
#[derive(Debug, Serialize)]
struct Node {
    name: String,
    version: String,
    address: String,
    quorate: bool,
    tree_version: u64,
    tree_checksum: String,
    free_bytes: Option<u64>,
    /// Time until a block of 4 KiB is on the disk.
    sync_ms: Option<u64>,
    certificate_ends: Option<String>,
    authority_ends: Option<String>,
}

/// Something that is wrong.
#[derive(Debug, Serialize)]
struct Found {
    id: String,
    /// The node; `null` if it is about all.
    node: Option<String>,
    reason: String,
    way_out: String,
}

impl From<NodeFacts> for Node {
    fn from(facts: NodeFacts) -> Self {
        Self {
            quorate: facts.quorate,
            tree_version: facts.tree_version,
            free_bytes: facts.free_bytes,
            sync_ms: milliseconds(facts.sync_time.as_ref()),
            certificate_ends: rfc3339(facts.certificate_ends.as_ref()),
            authority_ends: rfc3339(facts.authority_ends.as_ref()),
            name: facts.name,
            version: facts.version,
            address: facts.address,
            tree_checksum: facts.tree_checksum,
        }
    }
}

impl From<Finding> for Found {
    fn from(finding: Finding) -> Self {
        let Finding { id, node, reason, way_out } = finding;
        Self { id, node: Some(node).filter(|node| !node.is_empty()), reason, way_out }
    }
}

impl From<ExamineClusterResponse> for Document {
    fn from(answer: ExamineClusterResponse) -> Self {
        let nodes = answer.nodes.into_iter().map(Node::from).collect();
        Self { nodes, findings: answer.findings.into_iter().map(Found::from).collect() }
    }
}

pub(super) async fn run(args: &Args, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let mut request = Request::new(ExamineClusterRequest {});
    request.set_timeout(client.timeout_or(PATIENCE));
    let answer = client.diagnostics().examine_cluster(request).await.map_err(client.failure())?;
    let document = Document::from(answer.into_inner());
    if let Some(file) = &args.bundle {
        bundle::write(file, client, &document).await?;
    }
    out.answer(&document, || text(&document))?;
    Ok(if document.findings.is_empty() { Exit::Success } else { Exit::Unfit })
}

fn text(document: &Document) -> String {
    let header = ["NODE", "VERSION", "ADDRESS", "QUORATE", "TREE", "DISK SYNC", "CERTIFICATE ENDS"];
    let row = |node: &Node| {
        let sync = node.sync_ms.map_or_else(|| "-".to_owned(), |time| format!("{time} ms"));
        let ends = node.certificate_ends.as_deref().and_then(|time| time.split('T').next()).unwrap_or("-");
        let quorate = if node.quorate { "yes" } else { "no" };
        let cells =
            [&node.name, &node.version, &node.address, quorate, &node.tree_version.to_string(), &sync, ends];
        cells.map(|cell| printable(cell).into_owned()).to_vec()
    };
    let rows: Vec<Vec<String>> =
        std::iter::once(header.map(str::to_owned).to_vec()).chain(document.nodes.iter().map(row)).collect();
    let mut text = columns(&rows);
    for finding in &document.findings {
        let node = finding.node.as_deref().map_or_else(String::new, |node| format!(" {node}"));
        let (reason, way_out) = (printable(&finding.reason), printable(&finding.way_out));
        text += &format!("\n{}{}: {reason}\n  {way_out}\n", finding.id, printable(&node));
    }
    let count = document.findings.len();
    text += &match count {
        0 => "\nnothing is wrong\n".to_owned(),
        1 => "\n1 finding\n".to_owned(),
        count => format!("\n{count} findings\n"),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(findings: Vec<Finding>) -> Document {
        let facts =
            NodeFacts { name: "hp1".into(), version: "1.0".into(), quorate: true, ..NodeFacts::default() };
        Document::from(ExamineClusterResponse { nodes: vec![facts], findings })
    }

    #[test]
    fn a_finding_is_told_with_node_reason_and_way_out() {
        let finding = Finding {
            id: "DISK_FULL".into(),
            node: "hp1".into(),
            reason: "3 MiB are free".into(),
            way_out: "make room".into(),
        };
        let text = text(&document(vec![finding]));
        assert!(text.contains("\nDISK_FULL hp1: 3 MiB are free\n  make room\n\n1 finding\n"), "{text}");
    }

    #[test]
    fn json_has_the_documented_fields() {
        let about_all = Finding { id: "VERSION_DIFFERS".into(), ..Finding::default() };
        let json = serde_json::to_value(document(vec![about_all])).unwrap();
        assert_eq!(json["findings"][0]["node"], serde_json::Value::Null);
        assert_eq!(json["nodes"][0]["name"], "hp1");
        assert!(text(&document(Vec::new())).ends_with("\nnothing is wrong\n"));
    }
}
