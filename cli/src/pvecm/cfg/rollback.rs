//! `pvecm cfg rollback`: write an old version of a file again.

use quorate_proto::config::v1::PutRequest;

use super::{entry::Entry, version};
use crate::{client::Client, error::Error, exit::Exit, output::Output};

/// Writes a file as it was at a version, as a new version: nothing is lost by it.
///
/// Works for files that were deleted; missing directories are made. If somebody else writes the file at the same moment,
/// nothing is changed. What it would change is shown by `pvecm cfg diff PATH VERSION`. Needs quorum.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  pvecm cfg history storage.cfg
  pvecm cfg diff storage.cfg 1180
  pvecm cfg rollback storage.cfg 1180")]
pub(super) struct Args {
    /// Path of the file
    #[arg(value_name = "PATH")]
    path: String,
    /// Version of the tree, from `pvecm cfg history`
    #[arg(value_name = "VERSION", value_parser = crate::number::version)]
    version: u64,
}

pub(super) async fn run(args: Args, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let old = version::get(client, &args.path, args.version).await?;
    let present = version::present(client, &args.path).await?;
    let expected_version = Some(present.map_or(0, |(version, _)| version));
    let request = client.request(PutRequest {
        path: args.path,
        content: old.content,
        expected_version,
        request_id: Default::default(),
        make_parents: true,
    });
    let answer = client.config().put(request).await.map_err(client.failure())?.into_inner();
    let entry = Entry::of(answer.entry)?;
    let from = old.version.map_or(args.version, |old| old.version);
    out.answer(&entry, || format!("{}: version {from} again, as version {}\n", entry.name(), entry.version))?;
    Ok(Exit::Success)
}
