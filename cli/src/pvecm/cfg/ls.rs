//! `pvecm cfg ls`: list a directory.

use quorate_proto::config::v1::ListRequest;

use super::entry::Entry;
use crate::{
    client::Client,
    error::Error,
    exit::Exit,
    output::{Output, columns},
};

/// Lists a directory of the shared tree. Works without quorum.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  pvecm cfg ls
  pvecm cfg ls nodes -r -l")]
pub(super) struct Args {
    /// Path of the directory [default: the root of the tree]
    #[arg(value_name = "PATH", default_value = "", hide_default_value = true)]
    path: String,
    /// With version, writer, size and time of the last change
    #[arg(long, short)]
    long: bool,
    /// All that is below, not only the direct entries
    #[arg(long, short)]
    recursive: bool,
}

pub(super) async fn run(args: Args, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let entries = entries(&args, client).await?;
    out.answer(&entries, || if args.long { long(&entries) } else { short(&entries) })?;
    Ok(Exit::Success)
}

/// All pages of the list.
async fn entries(args: &Args, client: &Client) -> Result<Vec<Entry>, Error> {
    let mut entries = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = client.request(ListRequest {
            path: args.path.clone(),
            recursive: args.recursive,
            page_size: 0,
            page_token,
        });
        let page = client.config().list(request).await.map_err(client.failure())?.into_inner();
        entries.extend(page.entries.into_iter().map(Entry::from));
        if page.next_page_token.is_empty() {
            return Ok(entries);
        }
        page_token = page.next_page_token;
    }
}

fn short(entries: &[Entry]) -> String {
    entries.iter().map(|entry| entry.name() + "\n").collect()
}

fn long(entries: &[Entry]) -> String {
    let header = ["VERSION", "WRITER", "SIZE", "MODIFIED", "PATH"].map(str::to_owned).to_vec();
    let rows: Vec<Vec<String>> = std::iter::once(header).chain(entries.iter().map(Entry::row)).collect();
    columns(&rows)
}
