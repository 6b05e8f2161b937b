//! One connection to the arbiter. It ends when it is dropped.

use std::io;

use bytes::{Bytes, BytesMut};
use quorate_daemon::{Root, telemetry::chain};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
    task::AbortHandle,
};

use super::tls;

/// Commands that may wait: a node sends a handful of messages when its ring changes.
const COMMANDS_MAX: usize = 64;
/// Events that may wait for the driver.
const EVENTS_MAX: usize = 16;
/// Bytes read at a time: an answer has less than 200.
const READ_SIZE: usize = 4096;

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Command {
    Send(Bytes),
    StartTls,
}

/// What happened.
#[derive(Debug)]
pub(crate) enum Event {
    Connected,
    Secured,
    Received(Bytes),
    Closed(String),
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("cannot connect to {host} port {port}")]
    Connect {
        host: String,
        port: u16,
        #[source]
        source: io::Error,
    },
    #[error("the connection broke")]
    Broken(#[from] io::Error),
    #[error("the quorum device closed the connection")]
    Ended,
    #[error(transparent)]
    Certificates(#[from] tls::TlsError),
    #[error("no encrypted connection with the quorum device")]
    Handshake(#[source] io::Error),
    #[error("nobody uses the connection any more")]
    Unused,
}

/// A connection that is being established or stands.
#[derive(Debug)]
pub(crate) struct Connection {
    commands: mpsc::Sender<Command>,
    events: mpsc::Receiver<Event>,
    task: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    pub(crate) fn open(host: String, port: u16, root: Root) -> Self {
        let (commands, mut to_do) = mpsc::channel(COMMANDS_MAX);
        let (done, events) = mpsc::channel(EVENTS_MAX);
        let task = tokio::spawn(async move {
            let Err(error) = run(host, port, &root, &mut to_do, &done).await;
            let _ = done.send(Event::Closed(chain(&error))).await;
        });
        Self { commands, events, task: task.abort_handle() }
    }

    /// Hands over a command; false if the other end does not read.
    pub(crate) fn command(&self, command: Command) -> bool {
        self.commands.try_send(command).is_ok()
    }

    pub(crate) async fn next_event(&mut self) -> Event {
        let ended = || Event::Closed("the connection ended".to_owned());
        self.events.recv().await.unwrap_or_else(ended)
    }
}

async fn run(
    host: String,
    port: u16,
    root: &Root,
    commands: &mut mpsc::Receiver<Command>,
    events: &mpsc::Sender<Event>,
) -> Result<std::convert::Infallible, ConnectionError> {
    let connected = TcpStream::connect((host.as_str(), port)).await;
    let stream = connected.map_err(|source| ConnectionError::Connect { host, port, source })?;
    // Small messages must not wait for each other; a failure costs time only.
    let _ = stream.set_nodelay(true);
    tell(events, Event::Connected).await?;
    let stream = converse(stream, commands, events).await?;
    let connector = tls::connector(root).await?;
    let stream = connector.connect(tls::server_name(), stream).await.map_err(ConnectionError::Handshake)?;
    tell(events, Event::Secured).await?;
    // TLS within TLS is asked for by nobody.
    converse(stream, commands, events).await?;
    Err(ConnectionError::Unused)
}

async fn tell(events: &mpsc::Sender<Event>, event: Event) -> Result<(), ConnectionError> {
    events.send(event).await.map_err(|_| ConnectionError::Unused)
}

/// Carries bytes until TLS is to start.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    commands: &mut mpsc::Receiver<Command>,
    events: &mpsc::Sender<Event>,
) -> Result<S, ConnectionError> {
    loop {
        let mut buffer = BytesMut::with_capacity(READ_SIZE);
        tokio::select! {
            command = commands.recv() => match command.ok_or(ConnectionError::Unused)? {
                Command::Send(bytes) => {
                    stream.write_all(&bytes).await?;
                    stream.flush().await?;
                }
                Command::StartTls => return Ok(stream),
            },
            read = stream.read_buf(&mut buffer) => {
                if read? == 0 {
                    return Err(ConnectionError::Ended);
                }
                tell(events, Event::Received(buffer.freeze())).await?;
            }
        }
    }
}
