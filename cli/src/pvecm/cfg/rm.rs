//! `pvecm cfg rm`: delete.

use quorate_proto::config::v1::DeleteRequest;

use crate::{client::Client, error::Error, exit::Exit, output::Output};

/// Deletes a file or an empty directory of the shared tree. Needs quorum.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  pvecm cfg rm old.cfg
  pvecm cfg rm old.cfg --expected-version 17   only if nobody wrote since")]
pub(super) struct Args {
    /// Path of the file or directory
    #[arg(value_name = "PATH")]
    path: String,
    /// Delete only if its version is this
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = crate::number::version)]
    expected_version: Option<u64>,
}

pub(super) async fn run(args: Args, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let request = client.request(DeleteRequest {
        path: args.path.clone(),
        expected_version: args.expected_version,
        request_id: Default::default(),
    });
    let answer = client.config().delete(request).await.map_err(client.failure())?.into_inner();
    out.answer(&serde_json::json!({ "path": args.path, "version": answer.version }), String::new)?;
    Ok(Exit::Success)
}
