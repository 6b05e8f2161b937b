//! `pvecm updatecerts`: this node's certificate and what else it publishes, brought up to date. Source: spec 4.10.

use clap::ArgAction;
use quorate_proto::gateway::v1::UpdateCertificatesRequest;
use serde::Serialize;

use super::view;
use crate::{
    client::Client,
    error::Error,
    exit::Exit,
    output::{Output, remark},
    time::{local, timestamp},
};

/// Brings this node's certificate and its entries in the tree up to date.
///
/// gatewayd does it by itself, every hour and after each change; this does it now. A certificate is renewed when it has less
/// than 30 days left, or with --force. Needs quorum. SSH keys are not touched: nothing here uses SSH.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  pvecm updatecerts
  pvecm updatecerts --force               a new certificate in any case")]
pub(crate) struct Args {
    /// Renew the certificate in any case
    #[arg(
        long,
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true",
        hide_default_value = true,
        hide_possible_values = true,
        value_parser = clap::builder::BoolishValueParser::new(),
        value_name = "0|1"
    )]
    force: bool,
    /// Print nothing, and do not fail for want of quorum
    #[arg(long)]
    silent: bool,
}

/// The answer of `pvecm updatecerts -o json`.
#[derive(Debug, Serialize)]
struct Updated {
    /// When the certificate ends.
    expires: Option<String>,
    /// Whether it is a new one.
    renewed: bool,
}

pub(super) async fn run(args: &Args, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let request = client.request(UpdateCertificatesRequest { force: args.force });
    let answer = match client.cluster().update_certificates(request).await {
        Ok(answer) => answer.into_inner(),
        Err(status) if args.silent => {
            remark("warning", &format!("certificates are not up to date: {}", status.message()));
            return Ok(Exit::Success);
        }
        Err(status) => return Err(client.failure()(status)),
    };
    let updated = Updated { expires: view::rfc3339(answer.expires.as_ref()), renewed: answer.renewed };
    let text = || match timestamp(answer.expires.as_ref()) {
        Some(_) if args.silent => String::new(),
        Some(end) if answer.renewed => format!("this node has a new certificate, until {}\n", local(end)),
        Some(end) => format!("this node's certificate is good until {}\n", local(end)),
        None => String::new(),
    };
    out.answer(&updated, text)?;
    Ok(Exit::Success)
}
