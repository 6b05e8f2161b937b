//! `pvecm token`: issue, list and revoke join tokens.

use std::time::Duration;

use clap::Subcommand;
use quorate_proto::gateway::v1::{CreateTokenRequest, ListTokensRequest, RevokeTokenRequest, Token};
use quorate_types::NodeName;
use serde::Serialize;

use crate::{
    client::Client,
    error::Error,
    exit::Exit,
    output::{Output, columns, remark},
    time::{local, parse_duration, timestamp},
};

/// Issues, lists and revokes join tokens.
///
/// A token lets one node join once, until it expires. It contains the addresses of the members and the fingerprint of
/// the cluster's certificate. The cluster stores only a hash of it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  pvecm token create
  pvecm token create --lifetime 10m --node hp4
  TOKEN=$(pvecm token create)             standard output holds nothing but the token
  pvecm token list
  pvecm token revoke ID")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

impl Args {
    /// The command as the user knows it.
    pub(super) const fn name(&self) -> &'static str {
        match self.action {
            Action::Create { .. } => "pvecm token create",
            Action::List => "pvecm token list",
            Action::Revoke { .. } => "pvecm token revoke",
        }
    }

    /// Whether it may change something.
    pub(super) const fn may_change(&self) -> bool {
        matches!(self.action, Action::Create { .. } | Action::Revoke { .. })
    }
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Issue a token and print it: it is shown only now
    #[command(after_long_help = "\
Examples:
  pvecm token create
  pvecm token create --lifetime 10m --node hp4
  TOKEN=$(pvecm token create)             standard output holds nothing but the token")]
    Create {
        /// How long it may be used: at most 24h
        #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = parse_duration)]
        lifetime: Duration,
        /// Name of the only node that may use it [default: any]
        #[arg(long, value_name = "NAME")]
        node: Option<NodeName>,
    },
    /// List the tokens that were neither used nor have expired
    #[command(
        visible_alias = "ls",
        after_long_help = "\
Examples:
  pvecm token list
  pvecm token list -o json"
    )]
    List,
    /// Make a token worthless
    #[command(after_long_help = "\
Examples:
  pvecm token revoke 2bed202c9b2faca0")]
    Revoke {
        /// Id of the token, as in the list
        #[arg(value_name = "ID")]
        id: String,
    },
}

/// A new token, as `-o json` prints it. Times are RFC 3339 in UTC.
#[derive(Debug, Serialize)]
struct Issued {
    token: String,
    token_id: String,
    expires: Option<String>,
}

/// A token in the list, as `-o json` prints it.
#[derive(Debug, Serialize)]
struct Listed {
    token_id: String,
    expires: Option<String>,
    /// Empty: any node.
    node: String,
    issued_by: String,
}

impl From<Token> for Listed {
    fn from(token: Token) -> Self {
        let expires = timestamp(token.expires.as_ref()).map(|time| time.to_string());
        Self { token_id: token.token_id, expires, node: token.node_name, issued_by: token.issued_by }
    }
}

pub(super) async fn run(args: Args, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    match args.action {
        Action::Create { lifetime, node } => create(lifetime, node, client, out).await,
        Action::List => list(client, out).await,
        Action::Revoke { id } => revoke(id, client, out).await,
    }
}

async fn create(
    lifetime: Duration,
    node: Option<NodeName>,
    client: &Client,
    out: &mut Output<'_>,
) -> Result<Exit, Error> {
    let too_long = || Error::Parameters(vec!["lifetime: too long".into()]);
    let request = CreateTokenRequest {
        lifetime: Some(prost_types::Duration::try_from(lifetime).map_err(|_| too_long())?),
        node_name: node.map(|name| name.to_string()).unwrap_or_default(),
    };
    let answer =
        client.cluster().create_token(client.request(request)).await.map_err(client.failure())?.into_inner();
    let expires = timestamp(answer.expires.as_ref());
    if !out.is_json()
        && let Some(expires) = expires
    {
        remark("note", &format!("works once, until {}; its id is {}", local(expires), answer.token_id));
    }
    let issued = Issued {
        token: answer.token,
        token_id: answer.token_id,
        expires: expires.map(|time| time.to_string()),
    };
    out.answer(&issued, || format!("{}\n", issued.token))?;
    Ok(Exit::Success)
}

async fn list(client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let request = client.request(ListTokensRequest {});
    let tokens = client.cluster().list_tokens(request).await.map_err(client.failure())?.into_inner().tokens;
    let mut rows = vec![["ID", "EXPIRES", "NODE", "ISSUED BY"].map(str::to_owned).to_vec()];
    for token in &tokens {
        let expires = timestamp(token.expires.as_ref()).map_or_else(|| "-".to_owned(), local);
        let node = if token.node_name.is_empty() { "any" } else { &token.node_name };
        rows.push(vec![token.token_id.clone(), expires, node.to_owned(), token.issued_by.clone()]);
    }
    let tokens: Vec<Listed> = tokens.into_iter().map(Listed::from).collect();
    out.answer(&tokens, || columns(&rows))?;
    Ok(Exit::Success)
}

async fn revoke(id: String, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let request = client.request(RevokeTokenRequest { token_id: id.clone() });
    client.cluster().revoke_token(request).await.map_err(client.failure())?;
    out.answer(&serde_json::json!({ "token_id": id, "revoked": true }), String::new)?;
    Ok(Exit::Success)
}
