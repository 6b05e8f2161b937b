//! `pvecm cfg mv`: rename.

use quorate_proto::config::v1::RenameRequest;

use super::entry::Entry;
use crate::{client::Client, error::Error, exit::Exit, output::Output};

/// Renames a file or an empty directory of the shared tree; a file replaces a file in one step. Needs quorum.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  pvecm cfg mv corosync.conf.new corosync.conf")]
pub(super) struct Args {
    /// The present path
    #[arg(value_name = "FROM")]
    from: String,
    /// The new path
    #[arg(value_name = "TO")]
    to: String,
}

pub(super) async fn run(args: Args, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let request =
        client.request(RenameRequest { from: args.from, to: args.to, request_id: Default::default() });
    let answer = client.config().rename(request).await.map_err(client.failure())?.into_inner();
    out.answer(&Entry::of(answer.entry)?, String::new)?;
    Ok(Exit::Success)
}
