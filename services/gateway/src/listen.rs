//! The TLS port: accepts connections, shakes hands, hands them to the server.
//!
//! Bounds: so many connections at a time, the rest wait in the kernel's backlog; so long for a
//! handshake; peers that have gone silent are noticed by the server's keepalive pings. Each handshake
//! uses the identity of that moment, so a change of certificates needs no restart.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::{Connected, TcpConnectInfo, TlsConnectInfo};

/// Connections at a time, handshakes included: two orders of magnitude above what a cluster of 32
/// nodes and their operators need.
const CONNECTIONS_MAX: usize = 1024;
/// How long a handshake may take. Source: GHSA-6vch-q96h-7gc3, for why there is a limit at all.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Pause after a failed accept, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections that have shaken hands and wait for the server to take them: it takes them at once.
const READY: usize = 16;

/// What a port is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// Calls over TLS.
    Gateway,
    /// Metrics.
    Metrics,
}

impl Port {
    /// The key of node.toml that sets the port.
    const fn port_key(self) -> &'static str {
        match self {
            Self::Gateway => "gateway_port",
            Self::Metrics => "metrics_listen",
        }
    }

    /// The key of node.toml that sets the address.
    const fn address_key(self) -> &'static str {
        match self {
            Self::Gateway => "address",
            Self::Metrics => "metrics_listen",
        }
    }
}

/// The port cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// Somebody else has it.
    #[error(
        "cannot listen on {address}: port {port} is in use by another program; stop it, or set \
         '{key}' in {node_toml} to a free port",
        port = address.port(),
        key = what.port_key()
    )]
    InUse {
        /// Address and port.
        address: SocketAddr,
        /// What for.
        what: Port,
        /// The file that sets the port.
        node_toml: String,
    },
    /// The address is not this machine's.
    #[error(
        "cannot listen on {address}: {ip} is no address of this machine; set '{key}' in {node_toml}",
        ip = address.ip(),
        key = what.address_key()
    )]
    NotLocal {
        /// Address and port.
        address: SocketAddr,
        /// What for.
        what: Port,
        /// The file that sets the address.
        node_toml: String,
    },
    /// The operating system refuses for another reason.
    #[error("cannot listen on {address}; another port can be set as '{}' in {node_toml}", what.port_key())]
    Refused {
        /// Address and port.
        address: SocketAddr,
        /// What for.
        what: Port,
        /// The file that sets the port.
        node_toml: String,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
}

/// Takes the port.
///
/// # Errors
/// [`PortError`], which says what to change where.
pub async fn bind(
    address: SocketAddr,
    what: Port,
    node_toml: &std::path::Path,
) -> Result<TcpListener, PortError> {
    let node_toml = node_toml.display().to_string();
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => PortError::InUse { address, what, node_toml },
        io::ErrorKind::AddrNotAvailable => PortError::NotLocal { address, what, node_toml },
        _ => PortError::Refused { address, what, node_toml, source },
    })
}

/// A connection that has shaken hands. Counts as one of `CONNECTIONS_MAX` until it is dropped.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    _permit: OwnedSemaphorePermit,
}

/// Accepts connections until `shutdown`, or until nobody takes them any more.
pub async fn accept(
    listener: TcpListener,
    config: watch::Receiver<Arc<ServerConfig>>,
    ready: mpsc::Sender<io::Result<Connection>>,
    shutdown: CancellationToken,
) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut handshakes = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            Some(_) = handshakes.join_next() => continue,
            accepted = next(&listener, &connections) => accepted,
        };
        let Some((stream, peer, permit)) = accepted else { continue };
        let acceptor = TlsAcceptor::from(config.borrow().clone());
        let ready = ready.clone();
        handshakes.spawn(async move {
            match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => {
                    // The server is gone: the connection closes, as all others do.
                    let _ = ready.send(Ok(Connection { stream, _permit: permit })).await;
                }
                Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
                Err(_) => tracing::debug!(%peer, limit = ?HANDSHAKE, "TLS handshake took too long"),
            }
        });
    }
}

/// The queue between [`accept`] and the server.
#[must_use]
pub fn queue() -> (mpsc::Sender<io::Result<Connection>>, mpsc::Receiver<io::Result<Connection>>) {
    mpsc::channel(READY)
}

async fn next(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = connections.clone().acquire_owned().await.expect("the semaphore is never closed");
    match listener.accept().await {
        Ok((stream, peer)) => {
            // Without it small answers wait for the peer's acknowledgement.
            let _ = stream.set_nodelay(true);
            Some((stream, peer, permit))
        }
        Err(error) => {
            tracing::warn!(%error, "cannot accept a connection");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = TlsConnectInfo<TcpConnectInfo>;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[tokio::test]
    async fn a_port_in_use_is_one_error_with_address_port_and_way_out() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();

        for (what, key) in [(Port::Gateway, "gateway_port"), (Port::Metrics, "metrics_listen")] {
            let error =
                bind(address, what, Path::new("/etc/quorate/node.toml")).await.unwrap_err().to_string();
            assert!(error.contains(&address.to_string()), "{error}");
            assert!(error.contains(&format!("'{key}' in /etc/quorate/node.toml")), "{error}");
        }
    }

    #[tokio::test]
    async fn an_address_of_another_machine_is_named_as_such() {
        let address = "192.0.2.1:8006".parse().unwrap();
        let error = bind(address, Port::Gateway, Path::new("node.toml")).await.unwrap_err();
        assert!(matches!(error, PortError::NotLocal { .. }), "{error}");
    }
}
