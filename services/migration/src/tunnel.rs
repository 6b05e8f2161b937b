//! The connections that carry memory and disks: from a socket of the source's QEMU to one of the target's.
//!
//! QEMU talks to sockets of its own node only. Each of its connections is one between the nodes, which says first what it
//! carries (`migration_core::greeting`). Closing the tunnel is a cancel that always works, even when QEMU answers nothing.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use migration_core::greeting::{self, LINE_MAX, Protection, Purpose};
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional_with_sizes},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;

/// Ports of the data, one for each guest that arrives: firewalls know them. Source: Proxmox VE's range.
const PORTS: std::ops::RangeInclusive<u16> = 60_000..=60_050;
/// Bytes that are read at a time.
const BUFFER: usize = 256 * 1024;
/// How long a connection may take until it carries data.
const GREETING: Duration = Duration::from_secs(10);
/// Sent data that nobody acknowledges for so long ends the connection.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// Where the data of one migration goes, as the source sees it.
#[derive(Clone)]
pub(crate) struct Way {
    pub(crate) id: String,
    pub(crate) secret: String,
    pub(crate) endpoint: String,
    pub(crate) target: ServerName<'static>,
    pub(crate) tls: Arc<ClientConfig>,
}

/// The source's end of one channel: takes QEMU's connections at a socket until `closed`.
/// What breaks before data flows is told to `broken`.
pub(crate) fn listen(
    way: Way,
    channel: &'static str,
    protection: Protection,
    socket: &Path,
    closed: CancellationToken,
    broken: impl Fn(String) + Clone + Send + 'static,
) -> io::Result<()> {
    let _ = std::fs::remove_file(socket);
    let listener = UnixListener::bind(socket)?;
    tokio::spawn(async move {
        while let Some(Ok((qemu, _))) = closed.run_until_cancelled(listener.accept()).await {
            let (way, closed, broken) = (way.clone(), closed.clone(), broken.clone());
            tokio::spawn(async move {
                let carried = closed.run_until_cancelled(outgoing(way, channel, protection, qemu)).await;
                if let Some(Err(error)) = carried {
                    broken(error.to_string());
                }
            });
        }
    });
    Ok(())
}

async fn outgoing(way: Way, channel: &str, protection: Protection, qemu: UnixStream) -> io::Result<()> {
    let purpose = Purpose { id: way.id.clone(), channel: channel.to_owned(), secret: way.secret.clone() };
    let mut stream = limit(TcpStream::connect(&way.endpoint)).await?;
    tune(&stream)?;
    stream.write_all(greeting::opening(protection).as_bytes()).await?;
    match protection {
        Protection::Plain => {
            stream.write_all(purpose.line().as_bytes()).await?;
            carry(qemu, stream).await
        }
        Protection::Tls => {
            let connector = TlsConnector::from(way.tls);
            let mut stream = limit(connector.connect(way.target, stream)).await?;
            stream.write_all(purpose.line().as_bytes()).await?;
            carry(qemu, stream).await
        }
    }
}

/// What the target takes.
#[derive(Clone)]
pub(crate) struct Entrance {
    pub(crate) id: String,
    pub(crate) secret: String,
    /// Where QEMU takes the memory.
    pub(crate) memory: PathBuf,
    /// Where QEMU serves the disks.
    pub(crate) disks: PathBuf,
    /// Memory may come in clear.
    pub(crate) plain_memory: bool,
    pub(crate) tls: Arc<ServerConfig>,
}

/// The target's end: takes connections until `closed`. Gives the address.
pub(crate) async fn accept(
    address: IpAddr,
    entrance: Entrance,
    closed: CancellationToken,
) -> io::Result<SocketAddr> {
    let listener = bind(address).await?;
    let bound = listener.local_addr()?;
    tokio::spawn(async move {
        while let Some(Ok((stream, from))) = closed.run_until_cancelled(listener.accept()).await {
            let (entrance, closed) = (entrance.clone(), closed.clone());
            tokio::spawn(async move {
                if let Some(Err(error)) = closed.run_until_cancelled(incoming(entrance, stream)).await {
                    tracing::info!(%from, %error, "a connection of a migration ended");
                }
            });
        }
    });
    Ok(bound)
}

/// The first free port of the range.
async fn bind(address: IpAddr) -> io::Result<TcpListener> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for port in PORTS {
        match TcpListener::bind((address, port)).await {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn incoming(entrance: Entrance, mut stream: TcpStream) -> io::Result<()> {
    tune(&stream)?;
    let opening = limit(line(&mut stream)).await?;
    match greeting::parse_opening(&opening).map_err(io::Error::other)? {
        Protection::Plain => {
            let purpose = limit(line(&mut stream)).await?;
            let socket = admit(&entrance, &purpose, Protection::Plain)?;
            carry(UnixStream::connect(socket).await?, stream).await
        }
        Protection::Tls => {
            let acceptor = TlsAcceptor::from(entrance.tls.clone());
            let mut stream = limit(acceptor.accept(stream)).await?;
            let purpose = limit(line(&mut stream)).await?;
            let socket = admit(&entrance, &purpose, Protection::Tls)?;
            carry(UnixStream::connect(socket).await?, stream).await
        }
    }
}

/// Which socket a connection may go to: disks never in clear, memory only if that was asked for.
fn admit<'a>(entrance: &'a Entrance, purpose: &[u8], protection: Protection) -> io::Result<&'a Path> {
    let refused = || io::Error::new(io::ErrorKind::PermissionDenied, "a connection that was not agreed on");
    let purpose = Purpose::parse(purpose).map_err(io::Error::other)?;
    if purpose.id != entrance.id || purpose.secret != entrance.secret {
        return Err(refused());
    }
    match (purpose.channel.as_str(), protection) {
        ("memory", Protection::Tls) => Ok(&entrance.memory),
        ("memory", Protection::Plain) if entrance.plain_memory => Ok(&entrance.memory),
        ("disks", Protection::Tls) => Ok(&entrance.disks),
        _ => Err(refused()),
    }
}

/// One short line, byte by byte: what follows belongs to QEMU.
async fn line(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    while line.len() < LINE_MAX {
        match stream.read_u8().await? {
            b'\n' => return Ok(line),
            byte => line.push(byte),
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "no end of a line"))
}

async fn limit<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(GREETING, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED))
}

/// Carries both ways until both have ended. That QEMU leaves without a farewell is no error.
async fn carry(mut qemu: UnixStream, mut other: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    match copy_bidirectional_with_sizes(&mut qemu, &mut other, BUFFER, BUFFER).await {
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn line(channel: &str, secret: &str) -> String {
        let (id, channel, secret) = ("m100-1".to_owned(), channel.to_owned(), secret.to_owned());
        Purpose { id, channel, secret }.line().trim_end().to_owned()
    }

    /// Whether an entrance lets a connection in.
    fn admits(plain_memory: bool, line: &str, protection: Protection) -> bool {
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::server::ResolvesServerCertUsingSni::new()));
        let entrance = Entrance {
            id: "m100-1".to_owned(),
            secret: SECRET.to_owned(),
            memory: "memory".into(),
            disks: "disks".into(),
            plain_memory,
            tls: Arc::new(config),
        };
        admit(&entrance, line.as_bytes(), protection).is_ok()
    }

    #[test]
    fn disks_are_never_taken_in_clear_and_memory_only_where_that_was_asked_for() {
        for insecure in [false, true] {
            assert!(admits(insecure, &line("disks", SECRET), Protection::Tls));
            assert!(!admits(insecure, &line("disks", SECRET), Protection::Plain));
            assert!(admits(insecure, &line("memory", SECRET), Protection::Tls));
            assert_eq!(admits(insecure, &line("memory", SECRET), Protection::Plain), insecure);
        }
    }

    #[test]
    fn who_does_not_know_the_secret_is_refused() {
        assert!(!admits(true, &line("memory", "another"), Protection::Plain));
        assert!(!admits(true, "nonsense", Protection::Plain));
    }
}
