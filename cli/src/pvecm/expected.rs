//! `pvecm expected`: override the expected votes at run time. Source: spec 4.8.

use quorate_proto::quorum::v1::SetExpectedRequest;
use serde::Serialize;

use crate::{
    client::Client,
    error::Error,
    exit::Exit,
    number::positive,
    output::{Output, remark},
};

/// What the operator takes upon himself.
const WARNING: &str = "the expected votes are overridden on all members of this part of the cluster until the next \
    restart or configuration change; if the missing nodes still run elsewhere, both parts may act, and what one of \
    them writes is set aside when they meet";

/// Overrides the number of expected votes at run time.
///
/// For the one case that the missing nodes are certainly off: the members that are left become quorate when the new
/// number makes their votes a majority. Nothing is written to the configuration. Not less than the votes that are
/// present.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  pvecm expected 1                        the only survivor becomes quorate

Exit status: 0, or 1 if quorumd cannot be reached or refuses.")]
pub(crate) struct Args {
    /// The new number of expected votes
    #[arg(value_name = "VOTES", allow_negative_numbers = true, value_parser = positive)]
    votes: u32,
}

/// The answer of `pvecm expected -o json`.
#[derive(Debug, Serialize)]
struct Expected {
    expected_votes: u32,
    total_votes: u32,
    quorum: u32,
    quorate: bool,
}

pub(super) async fn run(args: &Args, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let request = client.request(SetExpectedRequest { expected_votes: args.votes });
    let answer = client.quorum().set_expected(request).await.map_err(client.failure())?;
    let status = answer.into_inner().status.ok_or(Error::Incomplete("the answer"))?;
    remark("warning", WARNING);
    let expected = Expected {
        expected_votes: status.expected_votes,
        total_votes: status.total_votes,
        quorum: status.quorum,
        quorate: status.quorate,
    };
    out.answer(&expected, String::new)?;
    Ok(Exit::Success)
}
