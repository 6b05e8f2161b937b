//! The driver's lines to the two QEMUs: this node's through guestd, the target's through its migrationd.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use migration_core::{Input, Side, qmp::Command};
use quorate_proto::{
    guest::v1::{
        QmpRequest, QmpResponse,
        qmp_request::{Attach, Command as QmpCommand, Request as ToQmp},
        qmp_response::{Attached, Response as FromQmp, reply::Result as QmpResult},
    },
    migration::v1::{
        ReceiveRequest, ReceiveResponse,
        receive_request::{Begin, Command as PeerCommand, Request as Asked},
        receive_response::{Ready, Response as Told, reply::Result as Returned},
    },
};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Status, Streaming};

use crate::{Node, error};

/// Commands that may wait for a QEMU.
const COMMANDS_MAX: usize = 64;
/// How long a command may take that is no query: longer than the machine's own limits.
const COMMAND_MS: u64 = 15_000;

/// Commands under way, by the id that their answers carry.
#[derive(Default)]
struct Asking {
    next: AtomicU64,
    open: Mutex<BTreeMap<u64, Command>>,
}

impl Asking {
    fn ask(&self, command: Command) -> u64 {
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(id, command);
        id
    }

    fn answered(&self, id: u64) -> Option<Command> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&id)
    }
}

/// A line to one QEMU.
#[derive(Clone)]
pub(super) struct Link<T> {
    commands: mpsc::Sender<T>,
    asking: Arc<Asking>,
    /// The line is dead.
    broken: Arc<AtomicBool>,
}

impl<T> Link<T> {
    fn new(commands: mpsc::Sender<T>) -> Self {
        Self { commands, asking: Arc::default(), broken: Arc::default() }
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    fn send(&self, request: T) {
        // A line that takes nothing any more is dead, or so far behind that the machine's limits end it.
        if self.commands.try_send(request).is_err() {
            self.broken.store(true, Ordering::Relaxed);
        }
    }
}

fn arguments(command: &Command) -> String {
    command.arguments().map(|arguments| arguments.to_string()).unwrap_or_default()
}

fn value(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_default()
}

/// To the source's QEMU.
pub(super) type Own = Link<QmpRequest>;

impl Own {
    /// Attaches to the guest's QEMU. Everything that it says is given to `inputs`.
    pub(super) async fn attach(
        node: &Node,
        vmid: u32,
        migration_id: &str,
        inputs: mpsc::Sender<Input>,
    ) -> Result<(Self, Attached), Status> {
        let (commands, to_guestd) = mpsc::channel(COMMANDS_MAX);
        let attach = Attach { vmid, migration_id: migration_id.to_owned() };
        let _ = commands.send(QmpRequest { request: Some(ToQmp::Attach(attach)) }).await;
        let mut said = node.local.support().qmp(ReceiverStream::new(to_guestd)).await?.into_inner();
        let link = Self::new(commands);
        let Some(FromQmp::Attached(attached)) = said.next().await.transpose()?.and_then(|said| said.response)
        else {
            return Err(Status::unavailable("guestd did not say what it attached to"));
        };
        tokio::spawn(link.clone().listen(said, inputs));
        Ok((link, attached))
    }

    pub(super) fn command(&self, command: Command) {
        let request = QmpCommand {
            execute: command.name().to_owned(),
            arguments: arguments(&command),
            oob: command.out_of_band(),
            timeout_ms: COMMAND_MS,
            id: self.asking.ask(command),
        };
        self.send(QmpRequest { request: Some(ToQmp::Command(request)) });
    }

    async fn listen(self, mut said: Streaming<QmpResponse>, inputs: mpsc::Sender<Input>) {
        let mut why = "its guest daemon went away".to_owned();
        let mut dead = false;
        while let Some(Ok(answer)) = said.next().await {
            let input = match answer.response {
                Some(FromQmp::Reply(reply)) => {
                    let Some(command) = self.asking.answered(reply.id) else { continue };
                    let result = match reply.result {
                        Some(QmpResult::Returned(json)) => Ok(value(&json)),
                        Some(QmpResult::Error(error)) => Err(error.description),
                        Some(QmpResult::TimedOut(_)) | None => Err("no answer in time".to_owned()),
                    };
                    Input::Reply { side: Side::Source, command, result }
                }
                Some(FromQmp::Event(event)) => match super::event(&event.name, &event.data) {
                    Some(event) => Input::Event { side: Side::Source, event },
                    None => continue,
                },
                Some(FromQmp::Closed(closed)) => {
                    why = format!("its process ended: {}", closed.stderr.trim());
                    dead = true;
                    break;
                }
                Some(FromQmp::Attached(_)) | None => continue,
            };
            if inputs.send(input).await.is_err() {
                return;
            }
        }
        self.broken.store(true, Ordering::Relaxed);
        // That guestd went away says nothing of the guest: whoever undoes something uses its monitor.
        let input = if dead {
            Input::Lost { side: Side::Source, why }
        } else {
            Input::Broken(migration_core::Channel::Memory, why)
        };
        let _ = inputs.send(input).await;
    }
}

/// To the target.
pub(super) type Peer = Link<ReceiveRequest>;

impl Peer {
    /// Has the target get ready.
    pub(super) async fn open(
        node: &Node,
        target: &str,
        begin: Begin,
        inputs: mpsc::Sender<Input>,
    ) -> Result<(Self, Ready), Status> {
        let (commands, to_peer) = mpsc::channel(COMMANDS_MAX);
        let _ = commands.send(ReceiveRequest { request: Some(Asked::Begin(begin)) }).await;
        let mut peer = node.peers.migration(target).await?;
        let mut said = peer.receive(ReceiverStream::new(to_peer)).await?.into_inner();
        let first = said.next().await.transpose()?.and_then(|said| said.response);
        let Some(Told::Ready(ready)) = first else {
            return Err(error::peer(target, "it did not say that it is ready"));
        };
        let link = Self::new(commands);
        tokio::spawn(link.clone().listen(said, inputs));
        Ok((link, ready))
    }

    pub(super) fn command(&self, command: Command) {
        let request = PeerCommand {
            execute: command.name().to_owned(),
            arguments: arguments(&command),
            id: self.asking.ask(command),
        };
        self.send(ReceiveRequest { request: Some(Asked::Command(request)) });
    }

    async fn listen(self, mut said: Streaming<ReceiveResponse>, inputs: mpsc::Sender<Input>) {
        let mut why = "the stream to it ended".to_owned();
        loop {
            let answer = match said.next().await {
                Some(Ok(answer)) => answer,
                Some(Err(status)) => {
                    status.message().clone_into(&mut why);
                    break;
                }
                None => break,
            };
            let input = match answer.response {
                Some(Told::Reply(reply)) => {
                    let Some(command) = self.asking.answered(reply.id) else { continue };
                    let result = match reply.result {
                        Some(Returned::Returned(json)) => Ok(value(&json)),
                        Some(Returned::Error(error)) => Err(error),
                        None => Err("no answer".to_owned()),
                    };
                    Input::Reply { side: Side::Target, command, result }
                }
                Some(Told::Event(event)) => match super::event(&event.name, &event.data) {
                    Some(event) => Input::Event { side: Side::Target, event },
                    None => continue,
                },
                Some(Told::Closed(words)) => {
                    why = words;
                    break;
                }
                Some(Told::Ready(_)) | None => continue,
            };
            if inputs.send(input).await.is_err() {
                return;
            }
        }
        self.broken.store(true, Ordering::Relaxed);
        let _ = inputs.send(Input::Lost { side: Side::Target, why }).await;
    }
}
