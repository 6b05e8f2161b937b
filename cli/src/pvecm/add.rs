//! `pvecm add`: make this node a member of an existing cluster. Source: spec 4.2, with a token in place of the
//! password.

use std::io::{self, IsTerminal, Write};

use clap::ArgAction;
use quorate_daemon::client::deadline;
use quorate_proto::gateway::v1::{JoinClusterRequest, JoinClusterResponse};
use serde::Serialize;
use tonic::{Request, Status};

use super::links::LinkOptions;
use crate::{
    client::Client,
    error::Error,
    exit::Exit,
    number::{count, positive},
    output::{Output, remark},
};

/// Time for all steps of joining when nothing else is asked for: two minutes.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(120);

/// Makes this node a member of an existing cluster.
///
/// Needs a token, which `pvecm token create` prints on a member; it works once and expires. The token names the
/// cluster's certificate, so that this node talks to nobody else. All of this node's shared files are replaced by
/// the cluster's. The cluster keeps its quorum if joining fails half-way.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  pvecm add 10.0.0.1 --token TOKEN
  QUORATE_TOKEN=TOKEN pvecm add hp1 --link0 10.0.0.2
  pvecm add hp1:8006                      ask for the token on the terminal")]
pub(crate) struct Args {
    /// Address or host name of any member, with an optional :PORT
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: String,
    /// Join token; asked for on the terminal if it is not given
    #[arg(long, env = "QUORATE_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
    /// Id of this node [default: the lowest that is free]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = positive)]
    nodeid: Option<u32>,
    /// Votes of this node
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = count, default_value = "1")]
    votes: u32,
    /// SHA-256 of the member's certificate: 32 hex pairs joined by ':' [default: the one in the token]
    #[arg(long, value_name = "FINGERPRINT")]
    fingerprint: Option<String>,
    /// Set this node's files aside even if they hold guests
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
    pub(crate) force: bool,
    /// Accepted and ignored: a node joins with a token over TLS, never over SSH
    #[arg(
        long = "use_ssh",
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
    use_ssh: bool,
    #[command(flatten)]
    links: LinkOptions,
}

/// One step of joining, as `pvecm add -o json` prints it, one per line.
#[derive(Debug, Serialize)]
struct Step {
    message: String,
    done: bool,
    /// Id that this node got; only in the last step.
    node_id: Option<u32>,
    warnings: Vec<String>,
}

impl From<JoinClusterResponse> for Step {
    fn from(step: JoinClusterResponse) -> Self {
        let node_id = step.done.then_some(step.node_id);
        Self { message: step.message, done: step.done, node_id, warnings: step.warnings }
    }
}

pub(super) async fn run(args: Args, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let links = args.links.links()?;
    let fingerprint = args.fingerprint.as_deref().map(checked_fingerprint).transpose()?.unwrap_or_default();
    links.notes.iter().for_each(|note| remark("note", note));
    if args.use_ssh {
        remark("note", "use_ssh has no effect: a node joins with a token over TLS, never over SSH");
    }
    let token = match args.token {
        Some(token) => token,
        None => ask_for_token()?,
    };
    let request = JoinClusterRequest {
        address: args.address,
        token: token.trim().to_owned(),
        node_id: args.nodeid.unwrap_or(0),
        votes: Some(args.votes),
        link_addresses: links.addresses,
        fingerprint,
        force: args.force,
    };
    let within = client.timeout_or(TIMEOUT);
    let joining = join(client, deadline(request, within), out);
    let expired = |_| Status::deadline_exceeded(format!("not joined within {} s", within.as_secs_f32()));
    tokio::time::timeout(within, joining).await.map_err(expired)?
}

/// Prints each step until the last one.
async fn join(
    client: &Client,
    request: Request<JoinClusterRequest>,
    out: &mut Output<'_>,
) -> Result<Exit, Error> {
    let mut steps = client.cluster().join_cluster(request).await.map_err(client.failure())?.into_inner();
    while let Some(step) = steps.message().await? {
        let step = Step::from(step);
        step.warnings.iter().for_each(|warning| remark("warning", warning));
        out.line(&step, || step.message.clone())?;
        if step.done {
            return Ok(Exit::Success);
        }
    }
    Err(Error::Incomplete("joining"))
}

/// 32 hex pairs joined by colons, in lower case. Source: spec 1, formats.
fn checked_fingerprint(text: &str) -> Result<String, Error> {
    let pairs: Vec<&str> = text.split(':').collect();
    let is_pair = |pair: &&str| pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit());
    if pairs.len() == 32 && pairs.iter().all(is_pair) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(Error::Parameters(vec![format!("fingerprint: '{text}' is not 32 hex pairs joined by ':'")]))
    }
}

/// Asks for the token on the terminal.
fn ask_for_token() -> Result<String, Error> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(Error::TokenMissing);
    }
    let mut stderr = io::stderr().lock();
    write!(stderr, "Join token (from `pvecm token create` on a member): ")?;
    stderr.flush()?;
    let mut line = String::new();
    stdin.read_line(&mut line).map_err(|source| Error::ReadInput { path: "/dev/stdin".into(), source })?;
    if line.trim().is_empty() { Err(Error::TokenMissing) } else { Ok(line) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_32_hex_pairs_in_any_case() {
        let upper = ["AB"; 32].join(":");
        assert_eq!(checked_fingerprint(&upper).unwrap(), ["ab"; 32].join(":"));
        for wrong in ["", "ab", &["ab"; 31].join(":"), &["xy"; 32].join(":"), &["ab"; 32].join("-")] {
            assert!(checked_fingerprint(wrong).is_err(), "{wrong}");
        }
    }
}
