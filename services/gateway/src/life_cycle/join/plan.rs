//! What can be checked before anybody is asked: the token, this node's state, its addresses.

use std::{net::IpAddr, time::SystemTime};

use quorate_daemon::status;
use quorate_proto::gateway::v1::JoinClusterRequest;
use tonic::{Code, Status};

use super::super::{ThisNode, address, create::in_cluster, guests, ready, space};
use crate::{
    fingerprint::Fingerprint,
    member,
    refusal::{Checks, prefixed},
    token::{JoinToken, unix_seconds},
};

/// Guests that a refusal names; more are counted.
const GUESTS_NAMED: usize = 10;

/// Everything decided before a member is asked.
pub(super) struct Plan {
    /// The token.
    pub(super) token: JoinToken,
    /// Where to find a member, as `host:port`, in the order in which to try.
    pub(super) members: Vec<String>,
    /// Whom to trust.
    pub(super) trusted: Fingerprint,
    /// The id wanted; 0 for any.
    pub(super) node_id: u32,
    /// The votes wanted.
    pub(super) votes: u32,
    /// This node's addresses, one per link.
    pub(super) addresses: Vec<IpAddr>,
    /// Things the operator should know.
    pub(super) warnings: Vec<String>,
}

/// Checks the request and this node.
///
/// # Errors
/// INVALID_ARGUMENT, reason `TOKEN_MALFORMED`, or for a bad fingerprint; FAILED_PRECONDITION with all failed
/// checks; UNAVAILABLE if configd does not answer.
pub(super) async fn make(node: &ThisNode, request: JoinClusterRequest) -> Result<Plan, Status> {
    let token = read_token(&request.token)?;
    let trusted = match request.fingerprint.as_str() {
        "" => token.fingerprint,
        text => text.parse().map_err(|why| status::invalid_field("fingerprint", format!("{why}")))?,
    };
    let what = format!("cannot join cluster '{}'", token.cluster);
    let (mut checks, mut warnings) = (Checks::default(), Vec::new());
    check_expiry(&token, SystemTime::now(), &mut checks);
    in_cluster(node, &what, &mut checks).await?;
    ready::all_answer(&node.daemons, &mut checks).await;
    space::check(&node.root, &mut checks);
    check_guests(node, &what, request.force, &mut checks, &mut warnings).await?;
    let addresses = address::resolve(&request.link_addresses, node.address, &mut checks, &mut warnings).await;
    let members = members(&request.address, &token);
    if let Some(port) = member::impossible_port(&request.address) {
        let why = format!("'{}': {port} is no port; ports go from 1 to 65535", request.address);
        checks.fail("PEER_ADDRESS_INVALID", &request.address, why);
    }
    if members.is_empty() {
        checks.fail("NO_MEMBER_ADDRESS", token.id, "the token names no member; give the address of one");
    }
    checks.finish(&what)?;
    let votes = request.votes.unwrap_or(1);
    Ok(Plan { token, members, trusted, node_id: request.node_id, votes, addresses, warnings })
}

fn read_token(text: &str) -> Result<JoinToken, Status> {
    text.parse().map_err(|why| {
        let message = format!("cannot join: {why}; nothing was changed");
        status::error(Code::InvalidArgument, "TOKEN_MALFORMED", message, [("", ""); 0])
    })
}

fn check_expiry(token: &JoinToken, now: SystemTime, checks: &mut Checks) {
    if token.is_expired(now) {
        let ago = unix_seconds(now) - token.expires;
        let why = format!(
            "join token {} expired {} ago by this node's clock; issue a new one on a member",
            token.id,
            duration(ago)
        );
        checks.fail("TOKEN_EXPIRED", token.id, why);
    }
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} minutes", seconds / 60),
        _ => format!("{} hours", seconds / 3600),
    }
}

/// The given address, else those of the token. A given one that is wrong is to be told, not to be passed over.
fn members(given: &str, token: &JoinToken) -> Vec<String> {
    if given.is_empty() { token.addresses.clone() } else { vec![member::with_port(given)] }
}

async fn check_guests(
    node: &ThisNode,
    what: &str,
    force: bool,
    checks: &mut Checks,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    let entries = node.tree.list("nodes").await;
    let entries = entries.map_err(|status| prefixed(&format!("{what}: cannot read the tree"), &status))?;
    let guests = guests::of(&entries);
    if guests.is_empty() {
        return Ok(());
    }
    let mut named = guests.iter().take(GUESTS_NAMED).cloned().collect::<Vec<_>>().join(", ");
    if guests.len() > GUESTS_NAMED {
        named.push_str(&format!(" and {} more", guests.len() - GUESTS_NAMED));
    }
    if force {
        warnings.push(format!("the configuration of guests {named} was set aside with the old tree"));
    } else {
        let why = format!(
            "this node has guests {named}; joining replaces its configuration tree, and guest numbers may \
             collide: back them up and remove them, or set them aside with --force"
        );
        checks.fail("GUESTS_PRESENT", guests.len(), why);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::{Secret, TokenId};

    fn token() -> JoinToken {
        JoinToken {
            cluster: "demo".into(),
            addresses: vec!["10.0.0.1:8006".into(), "10.0.0.2:9006".into()],
            fingerprint: Fingerprint([0; 32]),
            id: TokenId([0; 8]),
            secret: Secret([0; 32]),
            expires: 1_000,
        }
    }

    #[test]
    fn the_given_address_is_tried_alone_else_the_tokens_in_order() {
        assert_eq!(members("", &token()), ["10.0.0.1:8006", "10.0.0.2:9006"]);
        assert_eq!(members("n7", &token()), ["n7:8006"]);
    }

    #[test]
    fn an_expired_token_says_since_when() {
        let mut checks = Checks::default();
        let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_600);
        check_expiry(&token(), now, &mut checks);
        let status = checks.finish("cannot join").unwrap_err();
        assert!(status.message().contains("expired 10 minutes ago"), "{}", status.message());
    }

    #[test]
    fn a_token_that_is_none_is_told_as_such() {
        let status = read_token("rubbish!").err().unwrap();
        assert_eq!(status::reason(&status).unwrap().reason, "TOKEN_MALFORMED");
    }
}
