//! Serving a router: on the Unix socket, behind TLS, and metrics over plain HTTP.

use std::{io, time::Duration};

use axum::Router;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{
    service::Routes,
    transport::{Server, server::Connected},
};

/// How long running calls may take to end once the daemon stops.
const DRAIN: Duration = Duration::from_secs(5);
/// A peer is asked for a sign of life so often, and given up after [`KEEPALIVE_ANSWER`].
const KEEPALIVE: Duration = Duration::from_secs(20);
const KEEPALIVE_ANSWER: Duration = Duration::from_secs(10);
/// Calls at a time on one connection.
const STREAMS_MAX: u32 = 256;
/// Bytes of all headers of a call: a join token has less than 2 KiB.
const HEADERS_MAX: u32 = 16 * 1024;

/// Serving ended with an error.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// gRPC.
    #[error("serving calls failed")]
    Calls(#[source] tonic::transport::Error),
    /// Metrics.
    #[error("serving metrics failed")]
    Metrics(#[source] io::Error),
}

/// Answers calls on all connections until `shutdown`; then lets running ones end for a few seconds.
///
/// # Errors
/// [`ServeError::Calls`].
pub async fn calls<I, C>(
    router: Router,
    connections: I,
    shutdown: CancellationToken,
) -> Result<(), ServeError>
where
    I: Stream<Item = io::Result<C>> + Send + 'static,
    C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let served = Server::builder()
        .accept_http1(true)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_ANSWER))
        .max_concurrent_streams(STREAMS_MAX)
        .http2_max_header_list_size(HEADERS_MAX)
        .add_routes(Routes::from(router))
        .serve_with_incoming_shutdown(connections, shutdown.clone().cancelled_owned());
    tokio::select! {
        ended = served => ended.map_err(ServeError::Calls),
        () = drained(shutdown) => Ok(()),
    }
}

/// Answers `GET /metrics` over plain HTTP until `shutdown`.
///
/// # Errors
/// [`ServeError::Metrics`].
pub async fn metrics(
    router: Router,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let served = axum::serve(listener, router).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    tokio::select! {
        ended = served => ended.map_err(ServeError::Metrics),
        () = drained(shutdown) => Ok(()),
    }
}

async fn drained(shutdown: CancellationToken) {
    shutdown.cancelled().await;
    tokio::time::sleep(DRAIN).await;
    tracing::warn!(after = ?DRAIN, "calls did not end in time and are dropped");
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };

    use super::*;

    #[tokio::test]
    async fn metrics_are_plain_http() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let router = Router::new().route("/metrics", get(async || "up 1"));
        let served = tokio::spawn(metrics(router, listener, shutdown.clone()));

        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();

        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("up 1"), "{answer}");
        shutdown.cancel();
        assert!(served.await.unwrap().is_ok());
    }
}
