//! What the machine asks for, carried out in tasks of their own; each gives its answer back as an input.

use std::{path::Path, sync::Arc};

use migration_core::{
    Channel, Failure, Input, Owner, Ready, Record, Resumed, Side, Sockets, State, Written,
    greeting::Protection, network::Kind, qmp::Command,
};
use quorate_daemon::client::deadline;
use quorate_proto::{
    guest::v1::{
        CommitRequest, EndMigrationRequest, GetOwnerRequest, MonitorRequest, ReadVolumeRequest,
        ReleaseSourceRequest, monitor_request::Command as Monitor,
    },
    migration::v1::{
        DiscardRequest, MigrationType, ResumeRequest, WriteVolumeRequest, receive_request::Begin,
    },
};
use rustls_pki_types::ServerName;
use serde_json::json;
use tokio::sync::{Mutex, mpsc};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::links::{Own, Peer};
use crate::{
    Node,
    begin::Begun,
    error::reason,
    local::{SLOW, WRITE},
    records, tls,
    tunnel::{self, Way},
};

/// Parts of a volume that may be under way.
const PARTS_MAX: usize = 4;

/// The lines to both QEMUs.
#[derive(Default)]
struct Lines {
    own: Option<Own>,
    peer: Option<Peer>,
}

/// Carries out one migration's outputs.
pub(super) struct Steps {
    shared: Arc<Shared>,
}

struct Shared {
    node: Arc<Node>,
    inputs: mpsc::Sender<Input>,
    record: Mutex<Record>,
    begun: Option<Begun>,
    lines: std::sync::Mutex<Lines>,
    closed: CancellationToken,
    id: String,
    vmid: u32,
    target: String,
    paused: bool,
    online: bool,
}

impl Steps {
    pub(super) fn new(
        node: Arc<Node>,
        inputs: mpsc::Sender<Input>,
        record: Record,
        begun: Option<Begun>,
    ) -> Self {
        let shared = Shared {
            id: record.id.clone(),
            vmid: record.vmid,
            target: record.target.clone(),
            paused: record.paused,
            online: record.online,
            record: Mutex::new(record),
            node,
            inputs,
            begun,
            lines: std::sync::Mutex::default(),
            closed: CancellationToken::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Runs a step; its answer goes to the machine.
    fn spawn<F: Future<Output = Input> + Send + 'static>(&self, step: impl FnOnce(Arc<Shared>) -> F) {
        let inputs = self.shared.inputs.clone();
        let work = step(self.shared.clone());
        let work = async move {
            let _ = inputs.send(work.await).await;
        };
        tokio::spawn(tracing::Instrument::instrument(work, tracing::Span::current()));
    }

    pub(super) fn prepare(&self) {
        self.spawn(|shared| async move {
            Input::Prepared(shared.prepare().await.map_err(|status| failure("PREPARE_FAILED", &status)))
        });
    }

    pub(super) fn copy(&self) {
        self.spawn(|shared| async move {
            Input::Copied(shared.copy().await.map_err(|status| failure("COPY_FAILED", &status)))
        });
    }

    pub(super) fn write(&self, state: State) {
        self.spawn(move |shared| async move {
            let mut record = shared.record.lock().await;
            record.state = state;
            let written = records::write(&shared.node.local, &record, false).await;
            Input::Wrote(state, written.map_err(|status| status.message().to_owned()))
        });
    }

    /// To the source's QEMU. Whoever undoes something without a line, such as after a restart, goes through its monitor.
    pub(super) fn to_source(&self, command: Command, undoing: bool) {
        let line = self.shared.lines().own.clone();
        match line {
            Some(line) if !line.is_broken() => line.command(command),
            _ if undoing => self.through_monitor(command),
            _ => {}
        }
    }

    fn through_monitor(&self, command: Command) {
        let shared = self.shared.clone();
        tokio::spawn(async move {
            let qmp = match command.arguments() {
                Some(arguments) => json!({ "execute": command.name(), "arguments": arguments }),
                None => json!({ "execute": command.name() }),
            };
            let monitor = MonitorRequest { vmid: shared.vmid, command: Some(Monitor::Qmp(qmp.to_string())) };
            let answer = shared.node.local.guests().monitor(deadline(monitor, WRITE)).await;
            let side = Side::Source;
            let input = match answer.map(tonic::Response::into_inner) {
                Ok(answer) => {
                    let result = Ok(serde_json::from_str(&answer.output).unwrap_or_default());
                    Input::Reply { side, command, result }
                }
                Err(status) if reason(&status) == "GUEST_STOPPED" => {
                    Input::Lost { side, why: status.message().to_owned() }
                }
                Err(status) if reason(&status) == "MONITOR_REFUSED" => {
                    Input::Reply { side, command, result: Err(status.message().to_owned()) }
                }
                Err(status) => {
                    return tracing::info!(error = status.message(), "cannot talk to the guest's QEMU yet");
                }
            };
            let _ = shared.inputs.send(input).await;
        });
    }

    pub(super) fn to_target(&self, command: Command) {
        if let Some(line) = &self.shared.lines().peer {
            line.command(command);
        }
    }

    pub(super) fn close_tunnel(&self) {
        self.shared.closed.cancel();
    }

    pub(super) fn commit(&self) {
        self.spawn(|shared| async move {
            let volumes = shared.record.lock().await.volumes.clone().into_iter().collect();
            let request = CommitRequest {
                vmid: shared.vmid,
                migration_id: shared.id.clone(),
                target: shared.target.clone(),
                volumes,
            };
            let done = shared.node.local.support().commit(deadline(request, WRITE)).await;
            Input::Commit(written(done.map(drop)))
        });
    }

    pub(super) fn void(&self) {
        self.spawn(|shared| async move {
            let request = EndMigrationRequest { vmid: shared.vmid, migration_id: shared.id.clone() };
            let done = shared.node.local.support().end_migration(deadline(request, WRITE)).await;
            Input::Void(written(done.map(drop)))
        });
    }

    pub(super) fn ask_owner(&self) {
        self.spawn(|shared| async move {
            let ask = deadline(GetOwnerRequest { vmid: shared.vmid }, WRITE);
            let answer = shared.node.local.support().get_owner(ask).await;
            Input::Owner(match answer.map(tonic::Response::into_inner) {
                Ok(owner) if owner.node == shared.target => Ok(Owner::Target),
                Ok(owner) if owner.migration_id == shared.id => Ok(Owner::Source),
                Ok(_) => Ok(Owner::SourceVoid),
                Err(status) => Err(status.message().to_owned()),
            })
        });
    }

    pub(super) fn stop_target(&self) {
        self.spawn(|shared| async move {
            let request = DiscardRequest { migration_id: shared.id.clone(), vmid: shared.vmid };
            let done = async {
                let mut peer = shared.node.peers.migration(&shared.target).await?;
                peer.discard(deadline(request, SLOW)).await
            };
            Input::TargetStopped(done.await.map(drop).map_err(|status| status.message().to_owned()))
        });
    }

    pub(super) fn resume_target(&self) {
        self.spawn(|shared| async move {
            let request = ResumeRequest {
                migration_id: shared.id.clone(),
                vmid: shared.vmid,
                stay_paused: shared.paused,
                offline: !shared.online,
            };
            let done = async {
                let mut peer = shared.node.peers.migration(&shared.target).await?;
                peer.resume(deadline(request, WRITE)).await
            };
            Input::Resumed(match done.await.map(tonic::Response::into_inner) {
                Ok(answer) if answer.alive => Resumed::Done,
                Ok(_) => Resumed::Gone,
                Err(status) => Resumed::Failed(status.message().to_owned()),
            })
        });
    }

    pub(super) fn release_source(&self) {
        self.spawn(|shared| async move {
            let free_volumes = shared.record.lock().await.free_volumes.clone();
            let request = ReleaseSourceRequest {
                vmid: shared.vmid,
                migration_id: shared.id.clone(),
                nocheck: false,
                free_volumes,
            };
            let done = shared.node.local.support().release_source(deadline(request, SLOW)).await;
            Input::Released(done.map(drop).map_err(|status| status.message().to_owned()))
        });
    }

    /// Removes the record; if that cannot be done now, what was left behind is taken up later and finds nothing to do.
    pub(super) async fn forget(&self) {
        self.shared.closed.cancel();
        if let Err(status) = records::forget(&self.shared.node.local, self.shared.vmid).await {
            tracing::warn!(error = status.message(), "the record stays behind");
        }
    }
}

impl Shared {
    fn lines(&self) -> std::sync::MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    async fn prepare(&self) -> Result<Ready, Status> {
        let Some(begun) = &self.begun else { return Err(Status::internal("a plan from before a restart")) };
        let begin = Begin {
            migration_id: self.id.clone(),
            vmid: self.vmid,
            source: self.node.name.clone(),
            config: begun.facts.config.clone(),
            machine: begun.facts.machine.clone(),
            online: self.online,
            volumes: begun.volumes.clone(),
            migration_network: begun.network.clone(),
            migration_type: match begun.kind {
                Kind::Secure => MigrationType::Secure.into(),
                Kind::Insecure => MigrationType::Insecure.into(),
            },
        };
        let (peer, ready) = Peer::open(&self.node, &self.target, begin, self.inputs.clone()).await?;
        self.lines().peer = Some(peer);
        self.record.lock().await.volumes = ready.volumes.clone().into_iter().collect();
        if !self.online {
            return Ok(Ready::default());
        }
        let (own, attached) = Own::attach(&self.node, self.vmid, &self.id, self.inputs.clone()).await?;
        self.lines().own = Some(own);
        let sockets = sockets(&attached.socket_directory, &ready.socket_directory);
        self.open_tunnel(&ready, &sockets, begun.kind)?;
        Ok(Ready { sockets, nodes: ready.block_nodes.into_iter().collect() })
    }

    fn open_tunnel(
        &self,
        ready: &quorate_proto::migration::v1::receive_response::Ready,
        sockets: &Sockets,
        kind: Kind,
    ) -> Result<(), Status> {
        let refuse =
            |why: String| Status::failed_precondition(format!("no tunnel to '{}': {why}", self.target));
        let target = ServerName::try_from(self.target.clone()).map_err(|error| refuse(error.to_string()))?;
        let tls = tls::client(self.node.peers.root(), &[]);
        let tls = tls.map_err(|error| refuse(quorate_daemon::telemetry::chain(&error)))?;
        let way = Way {
            id: self.id.clone(),
            secret: ready.secret.clone(),
            endpoint: ready.endpoint.clone(),
            target,
            tls,
        };
        let memory = if kind == Kind::Insecure { Protection::Plain } else { Protection::Tls };
        let channels = [
            (Channel::Memory, "memory", memory, &sockets.source_memory),
            // Disks hold more than memory does, and for longer: never in clear.
            (Channel::Disks, "disks", Protection::Tls, &sockets.source_disks),
        ];
        for (channel, name, protection, socket) in channels {
            let inputs = self.inputs.clone();
            let broken = move |why| drop(inputs.try_send(Input::Broken(channel, why)));
            let opened =
                tunnel::listen(way.clone(), name, protection, Path::new(socket), self.closed.clone(), broken);
            opened.map_err(|error| refuse(format!("{socket}: {error}")))?;
        }
        Ok(())
    }

    /// Copies the files of all disks, one after the other.
    async fn copy(&self) -> Result<(), Status> {
        let volumes = self.record.lock().await.volumes.clone();
        for (from, to) in volumes {
            self.copy_one(&from, &to).await?;
        }
        Ok(())
    }

    async fn copy_one(&self, from: &str, to: &str) -> Result<(), Status> {
        let read = ReadVolumeRequest { volume_id: from.to_owned() };
        let mut parts = self.node.local.storage().read_volume(read).await?.into_inner();
        let (sender, stream) = mpsc::channel(PARTS_MAX);
        let mut peer = self.node.peers.migration(&self.target).await?;
        let written = tokio::spawn(async move { peer.write_volume(ReceiverStream::new(stream)).await });
        let mut first = WriteVolumeRequest {
            migration_id: self.id.clone(),
            volume_id: to.to_owned(),
            ..WriteVolumeRequest::default()
        };
        while let Some(part) = parts.next().await {
            // Dropping the sender without `complete` makes the target refuse the file.
            let part = part?;
            let request = WriteVolumeRequest {
                file_bytes: part.file_bytes,
                offset: part.offset,
                data: part.data,
                ..std::mem::take(&mut first)
            };
            if sender.send(request).await.is_err() {
                break;
            }
        }
        let _ = sender.send(WriteVolumeRequest { complete: true, ..first }).await;
        drop(sender);
        written.await.map_err(|error| Status::internal(error.to_string()))?.map(drop)
    }
}

fn sockets(source: &str, target: &str) -> Sockets {
    Sockets {
        source_memory: format!("{source}/mig-memory"),
        source_disks: format!("{source}/mig-disks"),
        target_memory: format!("{target}/mig-memory"),
        target_disks: format!("{target}/mig-disks"),
    }
}

fn failure(fallback: &'static str, status: &Status) -> Failure {
    Failure::new(fallback, status.message())
}

/// That it can never take place any more is said by the configuration: it names another migration, or lies elsewhere.
fn written(done: Result<(), Status>) -> Written {
    match done {
        Ok(()) => Written::Done,
        Err(status)
            if ["MIGRATION_MISMATCH", "GUEST_ELSEWHERE", "GUEST_UNKNOWN"]
                .contains(&reason(&status).as_str()) =>
        {
            Written::Mismatch
        }
        Err(status) => Written::Failed(status.message().to_owned()),
    }
}
