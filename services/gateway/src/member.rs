//! The gateway of another node: connecting to it, and to nobody else.
//!
//! A member is known by a fingerprint (see `tls.rs`). Names of servers play no part.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use quorate_daemon::{
    client::{DaemonChannel, traced},
    status,
};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    Code, Status,
    transport::{Endpoint, Uri},
};

use crate::tls::{self, FingerprintMismatch};

/// Port of a gateway unless an address says otherwise.
pub const PORT: u16 = quorate_daemon::node::GATEWAY_PORT;

/// What kept this node from reaching a member.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name means nothing to the resolver.
    #[error(
        "'{address}' does not resolve to an address; give the IP address of a member, or correct the name"
    )]
    Unresolvable {
        /// What was given.
        address: String,
    },
    /// Nobody answers there.
    #[error("no gateway answers at {address}; check the address, and that the node runs")]
    Unreachable {
        /// Where.
        address: String,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// Nothing came back.
    #[error("{address} did not answer within {} s; is there a firewall in between?", limit.as_secs())]
    TimedOut {
        /// Where.
        address: String,
        /// How long it was tried.
        limit: Duration,
    },
    /// Somebody else answers.
    #[error(
        "{address} is not the cluster that was expected: its fingerprint is {found}, expected was {expected}; \
         the token (or the fingerprint given with it) and this member belong to different clusters; issue a token \
         on a member of the cluster to join",
        found = mismatch.found,
        expected = mismatch.expected
    )]
    OtherCluster {
        /// Where.
        address: String,
        /// Both fingerprints.
        mismatch: FingerprintMismatch,
    },
    /// Something answers that does not speak TLS as a gateway does.
    #[error("what answers at {address} is no gateway, or refuses this node's certificate")]
    Tls {
        /// Where.
        address: String,
        /// What TLS said.
        #[source]
        source: io::Error,
    },
}

impl DialError {
    /// Stable name, in UPPER_SNAKE.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unresolvable { .. } => "PEER_UNRESOLVABLE",
            Self::Unreachable { .. } => "PEER_UNREACHABLE",
            Self::TimedOut { .. } => "PEER_TIMEOUT",
            Self::OtherCluster { .. } => "FINGERPRINT_MISMATCH",
            Self::Tls { .. } => "PEER_TLS_FAILED",
        }
    }

    /// The status for one or more addresses that were tried in vain; that of another cluster tells most.
    ///
    /// # Panics
    /// If there is no error at all.
    #[must_use]
    pub fn status(what: &str, errors: &[Self]) -> Status {
        let telling = errors.iter().find(|error| matches!(error, Self::OtherCluster { .. }));
        let telling = telling.or(errors.first()).expect("at least one address was tried");
        let code = match telling {
            Self::OtherCluster { .. } => Code::FailedPrecondition,
            _ => Code::Unavailable,
        };
        let all: Vec<String> = errors.iter().map(|error| quorate_daemon::telemetry::chain(error)).collect();
        let message = format!("{what}: {}; nothing was changed", all.join("; "));
        let metadata = match telling {
            Self::OtherCluster { mismatch, .. } => {
                vec![("expected", mismatch.expected.to_string()), ("found", mismatch.found.to_string())]
            }
            _ => Vec::new(),
        };
        status::error(code, telling.reason(), message, metadata)
    }
}

/// `host:port` with [`PORT`] where the text has none.
#[must_use]
pub fn with_port(address: &str) -> String {
    if let Ok(ip) = address.trim_matches(['[', ']']).parse::<std::net::IpAddr>() {
        return SocketAddr::new(ip, PORT).to_string();
    }
    let has_port = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if has_port { address.to_owned() } else { format!("{address}:{PORT}") }
}

/// What stands in the place of the port in `host:port`, if it is a number that no port has.
#[must_use]
pub fn impossible_port(address: &str) -> Option<&str> {
    let (host, port) = address.rsplit_once(':')?;
    let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let has_host = !host.contains(':') || host.starts_with('[') && host.ends_with(']');
    (is_number && has_host && !port.parse::<u16>().is_ok_and(|port| port > 0)).then_some(port)
}

/// Connects to a member and gives a channel that goes to it, also after a loss of the connection.
///
/// # Errors
/// [`DialError`].
pub async fn connect(
    address: &str,
    config: Arc<ClientConfig>,
    limit: Duration,
) -> Result<DaemonChannel, DialError> {
    let stream = dial(address, config.clone(), limit).await?;
    let first = Arc::new(Mutex::new(Some(stream)));
    let again = address.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let ready = first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (again, config) = (again.clone(), config.clone());
        async move {
            match ready {
                Some(stream) => Ok(TokioIo::new(stream)),
                None => dial(&again, config, limit).await.map(TokioIo::new).map_err(io::Error::other),
            }
        }
    });
    let endpoint = Endpoint::from_static("http://member").connect_timeout(limit);
    Ok(traced(endpoint.connect_with_connector_lazy(connector)))
}

async fn dial(
    address: &str,
    config: Arc<ClientConfig>,
    limit: Duration,
) -> Result<TlsStream<TcpStream>, DialError> {
    let address = address.to_owned();
    let timed_out = DialError::TimedOut { address: address.clone(), limit };
    tokio::time::timeout(limit, dial_unlimited(address, config)).await.unwrap_or(Err(timed_out))
}

async fn dial_unlimited(
    address: String,
    config: Arc<ClientConfig>,
) -> Result<TlsStream<TcpStream>, DialError> {
    let found: Vec<SocketAddr> = match tokio::net::lookup_host(&address).await {
        Ok(found) => found.collect(),
        Err(_) => Vec::new(),
    };
    if found.is_empty() {
        return Err(DialError::Unresolvable { address });
    }
    let unreachable = |source| DialError::Unreachable { address: address.clone(), source };
    let stream = TcpStream::connect(&found[..]).await.map_err(unreachable)?;
    // Without it the small messages of a handshake wait for each other; a failure costs time only.
    let _ = stream.set_nodelay(true);
    let name = ServerName::IpAddress(found[0].ip().into());
    TlsConnector::from(config).connect(name, stream).await.map_err(|source| {
        match tls::fingerprint_mismatch(&source) {
            Some(mismatch) => DialError::OtherCluster { address, mismatch },
            None => DialError::Tls { address, source },
        }
    })
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::fingerprint::Fingerprint;

    fn config() -> Arc<ClientConfig> {
        tls::client_config(Fingerprint([0; 32]), None).unwrap()
    }

    #[test]
    fn a_port_that_cannot_be_is_told_apart_from_an_address() {
        for (address, port) in [("n1:0", "0"), ("n1:65536", "65536"), ("[fd00::1]:99999", "99999")] {
            assert_eq!(impossible_port(address), Some(port), "{address}");
        }
        for address in ["n1", "n1:8006", "fd00::99999", "fd00::1", "[fd00::1]:1", "n1:", "n1:x"] {
            assert_eq!(impossible_port(address), None, "{address}");
        }
    }

    async fn refused(address: &str, limit: Duration) -> DialError {
        dial(address, config(), limit).await.err().unwrap()
    }

    #[test]
    fn an_address_without_port_gets_the_gateways() {
        let table = [
            ("n1", "n1:8006"),
            ("n1:9006", "n1:9006"),
            ("10.0.0.1", "10.0.0.1:8006"),
            ("10.0.0.1:9006", "10.0.0.1:9006"),
            ("fd00::1", "[fd00::1]:8006"),
            ("[fd00::1]", "[fd00::1]:8006"),
            ("[fd00::1]:9006", "[fd00::1]:9006"),
        ];
        for (given, expected) in table {
            assert_eq!(with_port(given), expected);
        }
    }

    #[tokio::test]
    async fn each_way_not_to_reach_a_member_has_its_own_error() {
        let patient = Duration::from_secs(20);
        assert_eq!(refused("no-such-host.invalid:8006", patient).await.reason(), "PEER_UNRESOLVABLE");

        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = closed.local_addr().unwrap().to_string();
        let silent = refused(&address, Duration::from_millis(50)).await;
        assert_eq!(silent.reason(), "PEER_TIMEOUT");
        drop(closed);
        assert_eq!(refused(&address, patient).await.reason(), "PEER_UNREACHABLE");
    }

    #[test]
    fn of_several_errors_the_status_is_that_of_the_other_cluster() {
        let mismatch = FingerprintMismatch { expected: Fingerprint([1; 32]), found: Fingerprint([2; 32]) };
        let errors = [
            DialError::Unresolvable { address: "n1:8006".into() },
            DialError::OtherCluster { address: "n2:8006".into(), mismatch },
        ];
        let status = DialError::status("cannot join", &errors);
        assert_eq!(status::reason(&status).unwrap().reason, "FINGERPRINT_MISMATCH");
        assert!(status.message().contains("'n1:8006' does not resolve"), "{}", status.message());
    }
}
