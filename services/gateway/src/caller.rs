//! Proving who calls: the user behind the Unix socket, the certificate or the token of a remote call.

use std::time::SystemTime;

use http::{HeaderMap, header, request::Parts};
use quorate_daemon::status;
use tonic::{
    Code, Status,
    transport::server::{TcpConnectInfo, TlsConnectInfo, UdsConnectInfo},
};

use crate::{
    auth::{Caller, PresentedToken},
    roster::Roster,
    token::{JoinToken, TokenRecord},
    tree::Tree,
};

const ROOT_UID: u32 = 0;

/// Finds out who calls.
#[derive(Clone)]
pub struct Identifier {
    socket_owner: u32,
    roster: Roster,
    tree: Tree,
}

impl Identifier {
    /// Local callers must be `socket_owner` or root.
    #[must_use]
    pub fn new(socket_owner: u32, roster: Roster, tree: Tree) -> Self {
        Self { socket_owner, roster, tree }
    }

    /// Who makes this call. A call that shows nothing is anonymous; one that shows something wrong fails.
    ///
    /// # Errors
    /// PERMISSION_DENIED for a foreign user or a worthless certificate, UNAUTHENTICATED for a token that
    /// is none, UNAVAILABLE if the token cannot be checked at present.
    pub async fn identify(&self, call: &Parts) -> Result<Caller, Status> {
        if let Some(socket) = call.extensions.get::<UdsConnectInfo>() {
            let local = self.local(socket)?;
            return match bearer(&call.headers) {
                Some(token) => self.joiner(token).await,
                None => Ok(local),
            };
        }
        if let Some(token) = bearer(&call.headers) {
            return self.joiner(token).await;
        }
        let tls = call.extensions.get::<TlsConnectInfo<TcpConnectInfo>>();
        match tls.and_then(TlsConnectInfo::peer_certs).and_then(|chain| chain.first().cloned()) {
            Some(certificate) => {
                let name = self.roster.node_of(&certificate).await?;
                Ok(Caller::Node { name })
            }
            None => Ok(Caller::Anonymous),
        }
    }

    fn local(&self, socket: &UdsConnectInfo) -> Result<Caller, Status> {
        local_user(socket.peer_cred.map(|peer| peer.uid()), self.socket_owner)
    }

    async fn joiner(&self, text: Result<&str, Status>) -> Result<Caller, Status> {
        let token: JoinToken =
            text?.parse().map_err(|error| refused("TOKEN_MALFORMED", format!("{error}"), ""))?;
        let id = token.id.to_string();
        let file = self.tree.read(&token.id.path()).await?;
        let Some(file) = file else { return Err(self.unknown(&token, &id).await) };
        let record = TokenRecord::from_json(&file.content).map_err(|error| {
            status::error(Code::DataLoss, "TOKEN_RECORD_DAMAGED", error.to_string(), [("token_id", &id)])
        })?;
        if !record.belongs_to(&token) {
            return Err(self.unknown(&token, &id).await);
        }
        if record.is_expired(SystemTime::now()) {
            let message = format!("join token {id} has expired; issue a new one on a member");
            return Err(refused("TOKEN_EXPIRED", message, &id));
        }
        Ok(Caller::Joiner(Box::new(PresentedToken { token, record, version: file.version })))
    }

    async fn unknown(&self, token: &JoinToken, id: &str) -> Status {
        let ours = self.roster.conf().await.map(|conf| conf.totem.cluster_name);
        match ours {
            Some(ours) if ours != token.cluster => {
                let message = format!(
                    "the join token is for cluster '{}', this node is in cluster '{ours}'",
                    token.cluster
                );
                refused("TOKEN_FOREIGN_CLUSTER", message, id)
            }
            _ => {
                let message = format!(
                    "join token {id} is not known here: it was used, revoked or never issued; issue a new \
                     one on a member"
                );
                refused("TOKEN_UNKNOWN", message, id)
            }
        }
    }
}

/// The operator is whoever owns the socket, and root.
fn local_user(uid: Option<u32>, owner: u32) -> Result<Caller, Status> {
    match uid {
        Some(uid) if uid == owner || uid == ROOT_UID => Ok(Caller::Local { uid }),
        uid => {
            let uid = uid.map_or_else(|| "unknown".to_owned(), |uid| uid.to_string());
            let message = format!("this socket is for user {owner} and root; the call comes from user {uid}");
            Err(status::error(Code::PermissionDenied, "FOREIGN_USER", message, [("uid", uid)]))
        }
    }
}

fn refused(reason: &'static str, message: String, id: &str) -> Status {
    status::error(Code::Unauthenticated, reason, message, [("token_id", id)])
}

/// The token in `authorization: Bearer <token>`; `None` if there is no such header.
fn bearer(headers: &HeaderMap) -> Option<Result<&str, Status>> {
    let value = headers.get(header::AUTHORIZATION)?;
    let token = value.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    Some(token.ok_or_else(|| {
        let message = "the authorization header is not 'Bearer <join token>'".to_owned();
        refused("TOKEN_MALFORMED", message, "")
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())])
    }

    #[test]
    fn a_bearer_token_is_found_in_either_case_of_the_scheme() {
        assert_eq!(bearer(&headers("Bearer abc")).unwrap().unwrap(), "abc");
        assert_eq!(bearer(&headers("bearer abc")).unwrap().unwrap(), "abc");
        assert!(bearer(&HeaderMap::new()).is_none());
    }

    #[test]
    fn only_the_sockets_owner_and_root_are_the_operator() {
        assert_eq!(local_user(Some(1000), 1000).unwrap(), Caller::Local { uid: 1000 });
        assert_eq!(local_user(Some(0), 1000).unwrap(), Caller::Local { uid: 0 });
        for foreign in [Some(1001), None] {
            let status = local_user(foreign, 1000).unwrap_err();
            assert_eq!(status::reason(&status).unwrap().reason, "FOREIGN_USER");
        }
    }

    #[test]
    fn another_scheme_is_refused_by_name() {
        for other in ["Basic abc", "Bearer", ""] {
            let status = bearer(&headers(other)).unwrap().unwrap_err();
            assert_eq!(status::reason(&status).unwrap().reason, "TOKEN_MALFORMED", "{other}");
        }
    }
}
