//! A client of QEMU's control socket.
//!
//! Each command has a number of its own: an answer that comes after its caller has given up is dropped, and the
//! connection stays usable. Events go to whoever listens, also those that nobody here knows.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use guest_core::qmp::{Event, Message, Refusal, command};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{broadcast, oneshot},
};
use tokio_util::sync::CancellationToken;

/// How long an answer may take if the caller says nothing else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// How long QEMU may take to greet: a second client is not greeted until the first one leaves.
const GREETING: Duration = Duration::from_secs(10);
/// The longest line: QEMU's longest answers have some hundred KiB.
const LINE_MAX: u64 = 16 << 20;
/// Events that a slow listener may be behind.
const EVENTS_MAX: usize = 1024;

/// Why a command has no result.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// There is no socket, or nobody listens.
    #[error("its control socket cannot be reached")]
    Connect(#[source] std::io::Error),
    /// QEMU did not greet.
    #[error("its control socket does not answer: QEMU hangs, or another client has the socket")]
    NoGreeting,
    /// QEMU refused.
    #[error("it refused '{command}'")]
    Refused {
        /// The command.
        command: String,
        /// Its words.
        source: Refusal,
    },
    /// No answer came in time.
    #[error("it did not answer '{command}' within {within:?}")]
    TimedOut {
        /// The command.
        command: String,
        /// The time it had.
        within: Duration,
    },
    /// The connection is closed: the process ended, or is ending.
    #[error("it has closed its control socket")]
    Closed,
}

type Waiting = Arc<Mutex<BTreeMap<u64, oneshot::Sender<Result<Value, Refusal>>>>>;

/// A connection.
#[derive(Debug, Clone)]
pub(crate) struct Qmp {
    writer: Arc<tokio::sync::Mutex<OwnedWriteHalf>>,
    waiting: Waiting,
    next_id: Arc<AtomicU64>,
    events: broadcast::Sender<Event>,
    closed: CancellationToken,
    version: String,
}

impl Qmp {
    /// Connects, and allows out-of-band commands.
    ///
    /// # Errors
    /// [`QmpError`].
    pub(crate) async fn connect(socket: &Path) -> Result<Self, QmpError> {
        let stream = UnixStream::connect(socket).await.map_err(QmpError::Connect)?;
        let (reader, writer) = stream.into_split();
        let mut reader = BufReader::new(reader);
        let greeting =
            tokio::time::timeout(GREETING, line(&mut reader)).await.map_err(|_| QmpError::NoGreeting)?;
        let greeting = greeting.and_then(|line| Message::parse(&line).ok());
        let Some(Message::Greeting { version, oob }) = greeting else { return Err(QmpError::Closed) };
        let qmp = Self {
            writer: Arc::new(tokio::sync::Mutex::new(writer)),
            waiting: Waiting::default(),
            next_id: Arc::default(),
            events: broadcast::Sender::new(EVENTS_MAX),
            closed: CancellationToken::new(),
            version,
        };
        tokio::spawn(qmp.clone().read(reader));
        let enable = if oob { json!({ "enable": ["oob"] }) } else { Value::Null };
        qmp.execute("qmp_capabilities", enable, false, GREETING).await?;
        Ok(qmp)
    }

    /// QEMU's version.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Events from now on.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Ends when QEMU closes the connection.
    pub(crate) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Executes a command and waits for its result.
    ///
    /// # Errors
    /// [`QmpError`].
    pub(crate) async fn execute(
        &self,
        name: &str,
        arguments: Value,
        oob: bool,
        within: Duration,
    ) -> Result<Value, QmpError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        let _given_up = Forget { waiting: &self.waiting, id };
        self.lock().insert(id, answer);
        let sent = async {
            let line = command(id, name, &arguments, oob);
            self.writer.lock().await.write_all(&line).await.map_err(|_| QmpError::Closed)?;
            tokio::select! {
                result = answered => result.map_err(|_| QmpError::Closed),
                () = self.closed.cancelled() => Err(QmpError::Closed),
            }
        };
        let timed_out = |_| QmpError::TimedOut { command: name.to_owned(), within };
        let result = tokio::time::timeout(within, sent).await.map_err(timed_out)??;
        result.map_err(|source| QmpError::Refused { command: name.to_owned(), source })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, oneshot::Sender<Result<Value, Refusal>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read(self, mut reader: BufReader<OwnedReadHalf>) {
        while let Some(line) = line(&mut reader).await {
            match Message::parse(&line) {
                Ok(Message::Reply { id, result }) => {
                    if let Some(caller) = self.lock().remove(&id) {
                        let _ = caller.send(result);
                    }
                }
                // Nobody may be listening.
                Ok(Message::Event(event)) => drop(self.events.send(event)),
                Ok(Message::Greeting { .. }) => {}
                Ok(Message::Unasked(refusal)) => tracing::warn!(%refusal, "QEMU refused what was no command"),
                Err(error) => tracing::warn!(%error, "dropped"),
            }
        }
        self.closed.cancel();
    }
}

/// Forgets a command whose caller has given up, or has its answer.
struct Forget<'a> {
    waiting: &'a Waiting,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// The next line; `None` at the end, or if it is too long.
async fn line(reader: &mut BufReader<OwnedReadHalf>) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    reader.take(LINE_MAX).read_until(b'\n', &mut line).await.ok()?;
    line.ends_with(b"\n").then_some(line)
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    const GREETS: &str = "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 2, \"minor\": 0, \"major\": 10}}, \"capabilities\": [\"oob\"]}}\n{\"return\": {}, \"id\": 0}\n";

    /// A socket that says the greeting, and then what the test says.
    async fn pretended() -> (tempfile::TempDir, Qmp, UnixStream) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("qmp.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let accept = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(GREETS.as_bytes()).await.unwrap();
            stream
        };
        let (qmp, stream) = tokio::join!(Qmp::connect(&socket), accept);
        (dir, qmp.unwrap(), stream)
    }

    #[tokio::test]
    async fn an_answer_that_comes_too_late_does_no_harm() {
        let (_dir, qmp, mut qemu) = pretended().await;
        let late = qmp.execute("query-status", Value::Null, false, Duration::from_millis(1)).await;
        assert!(matches!(late, Err(QmpError::TimedOut { .. })), "{late:?}");
        qemu.write_all(b"{\"return\": 1, \"id\": 1}\n{\"return\": 2, \"id\": 2}\n").await.unwrap();
        let next = qmp.execute("query-status", Value::Null, false, PATIENCE);
        // The answer to the second command may be read before it is sent: it is then asked for again.
        let answer = async { qemu.write_all(b"{\"return\": 2, \"id\": 2}\n").await };
        let (next, _) = tokio::join!(next, answer);
        assert_eq!(next.unwrap(), json!(2));
    }

    #[tokio::test]
    async fn the_end_of_the_process_ends_every_command() {
        let (_dir, qmp, qemu) = pretended().await;
        let (ended, ()) =
            tokio::join!(qmp.execute("quit", Value::Null, false, PATIENCE), async { drop(qemu) });
        assert!(matches!(ended, Err(QmpError::Closed)), "{ended:?}");
        qmp.closed().await;
    }

    #[tokio::test]
    async fn events_that_nobody_knows_are_passed_on() {
        let (_dir, qmp, mut qemu) = pretended().await;
        let mut events = qmp.subscribe();
        qemu.write_all(b"{\"event\": \"NEW\", \"data\": {\"a\": 1}}\n").await.unwrap();
        assert_eq!(events.recv().await.unwrap().name, "NEW");
        assert_eq!(qmp.version(), "10.0.2");
    }
}
