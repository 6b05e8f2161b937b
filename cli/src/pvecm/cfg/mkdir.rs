//! `pvecm cfg mkdir`: make a directory.

use quorate_proto::config::v1::MkdirRequest;

use super::entry::Entry;
use crate::{client::Client, error::Error, exit::Exit, output::Output};

/// Makes a directory in the shared tree. Needs quorum.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  pvecm cfg mkdir priv/lock
  pvecm cfg mkdir -p a/b/c")]
pub(super) struct Args {
    /// Path of the directory
    #[arg(value_name = "PATH")]
    path: String,
    /// Make missing parents, and accept that it exists
    #[arg(long, short)]
    parents: bool,
}

pub(super) async fn run(args: Args, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let may_lack_parents = !args.parents && args.path.contains('/');
    let request = client.request(MkdirRequest {
        path: args.path,
        parents: args.parents,
        request_id: Default::default(),
    });
    let answer = client.config().mkdir(request).await.map_err(client.failure());
    let answer = answer.map_err(|error| error.hinting_at_parents(may_lack_parents))?.into_inner();
    out.answer(&Entry::of(answer.entry)?, String::new)?;
    Ok(Exit::Success)
}
