//! The way to another daemon of this node: a channel over its Unix socket.
//!
//! A channel connects at the first call and again after the other daemon was restarted; while nobody
//! listens, calls fail with UNAVAILABLE at once. It is cheap to clone and to be kept for good.

use std::{path::PathBuf, time::Duration};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::{
    Request,
    transport::{Channel, Endpoint, Uri},
};
use tower::Layer as _;

use crate::{
    paths::Root,
    rpc::client::{ClientLayer, ClientService},
};

/// Deadline of calls that only read the other daemon's memory.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// How long a connection may take to be established.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a daemon with running streams is asked for a sign of life, and how long it may take to
/// answer. A process that is stopped, not dead, keeps its socket open: without this its streams would
/// stay silent for good. Together the longest time for which what a daemon said last is told on, such as "quorate".
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(2);

/// A channel with spans and trace context; generated clients are made from it.
pub type DaemonChannel = ClientService<Channel>;

/// The channel to a daemon of this node.
#[must_use]
pub fn daemon_channel(root: &Root, daemon: &str) -> DaemonChannel {
    socket_channel(root.socket(daemon))
}

/// The channel to whoever serves a Unix socket.
#[must_use]
pub fn socket_channel(socket: PathBuf) -> DaemonChannel {
    let connect = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://localhost")
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .connect_with_connector_lazy(connect);
    traced(channel)
}

/// Gives any channel spans and trace context.
#[must_use]
pub fn traced(channel: Channel) -> DaemonChannel {
    ClientLayer.layer(channel)
}

/// A request that must be answered within `timeout`, else it ends with DEADLINE_EXCEEDED. The other
/// side learns of it and stops working, too.
pub fn deadline<T>(message: T, timeout: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}
