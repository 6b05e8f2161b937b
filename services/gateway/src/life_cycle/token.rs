//! Join tokens: issue, list, revoke, and use.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use quorate_daemon::status;
use quorate_proto::gateway::v1::{
    CreateTokenRequest, CreateTokenResponse, ListTokensResponse, RevokeTokenRequest, Token,
};
use quorate_types::NodeName;
use tonic::{Code, Status};

use super::{ThisNode, conf};
use crate::{
    auth::PresentedToken,
    refusal::prefixed,
    token::{
        ADDRESSES_MAX, JoinToken, LIFETIME_DEFAULT, LIFETIME_MAX, Secret, TOKEN_DIRECTORY, TokenId,
        TokenRecord, unix_seconds,
    },
    tree::{self, Tree, is_version_mismatch},
};

/// Issues a token: single use, expiring. Tokens that have expired are cleared away.
///
/// # Errors
/// INVALID_ARGUMENT for a lifetime or node name that cannot be; FAILED_PRECONDITION, reason
/// `NOT_IN_CLUSTER` or `NOT_QUORATE`.
pub async fn create(node: &ThisNode, request: CreateTokenRequest) -> Result<CreateTokenResponse, Status> {
    let what = "cannot issue a join token";
    let lifetime = lifetime(request.lifetime)?;
    if !request.node_name.is_empty() {
        let checked = request.node_name.parse::<NodeName>();
        checked.map_err(|why| status::invalid_field("node_name", why.to_string()))?;
    }
    let present = conf::read(&node.tree, what).await?;
    let Some(fingerprint) = node.identity.current().ca_fingerprint() else {
        return Err(conf::not_in_cluster(what));
    };
    node.require_quorum(what).await?;
    clear_expired(&node.tree).await;
    let expires = SystemTime::now() + lifetime;
    let token = JoinToken {
        cluster: present.conf.totem.cluster_name.clone(),
        addresses: gateways(node, &present.conf).await,
        fingerprint,
        id: TokenId::random(),
        secret: Secret::random(),
        expires: unix_seconds(expires),
    };
    let record = TokenRecord::of(&token, &request.node_name, node.name.as_str());
    let stored = node.tree.write(&token.id.path(), record.to_json(), Some(0)).await;
    stored.map_err(|status| prefixed(what, &status))?;
    tracing::info!(token_id = %token.id, expires = token.expires, node = request.node_name, "join token issued");
    Ok(CreateTokenResponse {
        token: token.to_string(),
        token_id: token.id.to_string(),
        expires: Some(timestamp(token.expires)),
    })
}

fn lifetime(asked: Option<prost_types::Duration>) -> Result<Duration, Status> {
    let Some(asked) = asked else { return Ok(LIFETIME_DEFAULT) };
    let asked = Duration::try_from(asked).unwrap_or_default();
    if asked < Duration::from_secs(1) || asked > LIFETIME_MAX {
        let hours = LIFETIME_MAX.as_secs() / 3600;
        return Err(status::invalid_field("lifetime", format!("must be from 1 second to {hours} hours")));
    }
    Ok(asked)
}

/// Where gateways of the cluster listen, this node's first.
pub(super) async fn gateways(node: &ThisNode, conf: &corosync_conf::ClusterConf) -> Vec<String> {
    let mut addresses = vec![node.gateway()];
    for other in conf.nodes.iter().filter(|other| other.name != node.name) {
        if addresses.len() == ADDRESSES_MAX {
            break;
        }
        addresses.extend(gateway_of(&node.tree, other.name.as_str()).await);
    }
    addresses
}

/// Where a node's gateway listens, if it is known.
pub(crate) async fn gateway_of(tree: &Tree, name: &str) -> Option<String> {
    let file = tree.read(&tree::gateway_path(name)).await.ok()??;
    Some(file.text().trim().to_owned()).filter(|address| !address.is_empty())
}

/// A file in the tokens' directory that is a token's.
struct Stored {
    id: TokenId,
    record: TokenRecord,
    version: u64,
}

async fn stored(tree: &Tree) -> Result<Vec<Stored>, Status> {
    let mut found = Vec::new();
    for entry in tree.list(TOKEN_DIRECTORY).await? {
        let Some(id) = entry.path.rsplit('/').next().and_then(|name| name.parse().ok()) else { continue };
        let Some(file) = tree.read(&entry.path).await? else { continue };
        match TokenRecord::from_json(&file.content) {
            Ok(record) => found.push(Stored { id, record, version: file.version }),
            Err(error) => {
                tracing::warn!(
                    path = entry.path,
                    error = quorate_daemon::telemetry::chain(&error),
                    "not a token"
                );
            }
        }
    }
    Ok(found)
}

/// Best effort: what stays is cleared away the next time.
async fn clear_expired(tree: &Tree) {
    let now = SystemTime::now();
    for token in stored(tree).await.unwrap_or_default().into_iter().filter(|t| t.record.is_expired(now)) {
        if let Err(status) = tree.delete(&token.id.path(), Some(token.version)).await {
            tracing::debug!(token_id = %token.id, code = ?status.code(), "expired token stays");
        }
    }
}

/// Tokens that may still be used, by expiry.
///
/// # Errors
/// What configd says.
pub async fn list(node: &ThisNode) -> Result<ListTokensResponse, Status> {
    let now = SystemTime::now();
    let mut tokens =
        stored(&node.tree).await.map_err(|status| prefixed("cannot list the join tokens", &status))?;
    tokens.retain(|token| !token.record.is_expired(now));
    tokens.sort_by_key(|token| (token.record.expires, token.id));
    let tokens = tokens
        .into_iter()
        .map(|Stored { id, record, .. }| Token {
            token_id: id.to_string(),
            expires: Some(timestamp(record.expires)),
            node_name: record.node_name,
            issued_by: record.issued_by,
        })
        .collect();
    Ok(ListTokensResponse { tokens })
}

/// Makes a token worthless.
///
/// # Errors
/// INVALID_ARGUMENT for what is no token id, NOT_FOUND, reason `TOKEN_UNKNOWN`; what configd says.
pub async fn revoke(node: &ThisNode, request: &RevokeTokenRequest) -> Result<(), Status> {
    let id = request.token_id.parse::<TokenId>();
    let id = id.map_err(|_| status::invalid_field("token_id", "a token's id has 16 hex digits"))?;
    let what = format!("cannot revoke join token {id}");
    if node.tree.delete(&id.path(), None).await.map_err(|status| prefixed(&what, &status))? {
        tracing::info!(token_id = %id, "join token revoked");
        return Ok(());
    }
    let message = format!("{what}: there is no such token; 'pvecm token list' shows those that there are");
    Err(status::error(Code::NotFound, "TOKEN_UNKNOWN", message, [("token_id", id)]))
}

/// Uses a token up: of two callers at the same time one succeeds.
///
/// # Errors
/// FAILED_PRECONDITION, reason `TOKEN_USED`; what configd says.
pub async fn consume(tree: &Tree, what: &str, presented: &PresentedToken) -> Result<(), Status> {
    let id = presented.token.id;
    match tree.delete(&id.path(), Some(presented.version)).await {
        Ok(true) => Ok(()),
        Err(status) if !is_version_mismatch(&status) => Err(prefixed(what, &status)),
        Ok(false) | Err(_) => {
            let message = format!("{what}: join token {id} was used meanwhile; issue a new one on a member");
            Err(status::error(Code::FailedPrecondition, "TOKEN_USED", message, [("token_id", id)]))
        }
    }
}

/// Gives a token back that was used up for something that then failed. Best effort.
pub async fn give_back(tree: &Tree, presented: &PresentedToken) -> bool {
    let given = tree.write(&presented.token.id.path(), presented.record.to_json(), Some(0)).await;
    given.is_ok()
}

/// A time in Unix seconds, for an answer.
#[must_use]
pub fn timestamp(seconds: u64) -> prost_types::Timestamp {
    prost_types::Timestamp::from(UNIX_EPOCH + Duration::from_secs(seconds.min(u64::from(u32::MAX) * 2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn duration(seconds: i64) -> Option<prost_types::Duration> {
        Some(prost_types::Duration { seconds, nanos: 0 })
    }

    #[test]
    fn a_lifetime_is_an_hour_by_default_and_a_day_at_most() {
        assert_eq!(lifetime(None).unwrap(), LIFETIME_DEFAULT);
        assert_eq!(lifetime(duration(86_400)).unwrap(), LIFETIME_MAX);
        for bad in [0, -1, 86_401, i64::MAX] {
            assert_eq!(lifetime(duration(bad)).unwrap_err().code(), Code::InvalidArgument, "{bad}");
        }
    }
}
