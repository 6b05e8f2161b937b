//! `pvecm cfg get`: print a file.

use quorate_proto::config::v1::GetRequest;
use serde::Serialize;

use super::entry::Entry;
use crate::{client::Client, error::Error, exit::Exit, output::Output};

/// Prints a file of the shared tree.
///
/// The answer is this node's replica, which may lie a moment behind; it works without quorum. JSON has the
/// attributes and the content, as "content" if it is text and as bytes in "content_bytes" otherwise.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  pvecm cfg get datacenter.cfg
  pvecm cfg get datacenter.cfg --linearizable")]
pub(super) struct Args {
    /// Path of the file
    #[arg(value_name = "PATH")]
    path: String,
    /// Ask the cluster for the newest state first: needs quorum
    #[arg(long)]
    linearizable: bool,
}

/// The document of `pvecm cfg get -o json`.
#[derive(Debug, Serialize)]
struct File {
    #[serde(flatten)]
    entry: Entry,
    /// If it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    /// If it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    content_bytes: Option<Vec<u8>>,
}

pub(super) async fn run(args: Args, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let request = client.request(GetRequest { path: args.path, linearizable: args.linearizable });
    let answer = client.config().get(request).await.map_err(client.failure())?.into_inner();
    if !out.is_json() {
        out.raw(&answer.content)?;
        return Ok(Exit::Success);
    }
    let (content, content_bytes) = match String::from_utf8(answer.content.into()) {
        Ok(text) => (Some(text), None),
        Err(error) => (None, Some(error.into_bytes())),
    };
    let file = File { entry: Entry::of(answer.entry)?, content, content_bytes };
    out.answer(&file, String::new)?;
    Ok(Exit::Success)
}
