//! Taking a guest: volumes, a QEMU that waits, the entrance of the tunnel, and the source's commands to that QEMU.

use std::{net::IpAddr, path::Path, sync::Arc};

use migration_core::{network::Cidr, network::only_address, qmp::allowed_at_target};
use quorate_daemon::{client::deadline, status};
use quorate_proto::{
    guest::v1::{
        AllocateVolumeRequest, QmpRequest, QmpResponse, StartIncomingRequest, StartIncomingResponse,
        qmp_request::{Attach, Command as QmpCommand, Request as ToQmp},
        qmp_response::{Reply as QmpReply, Response as FromQmp, reply::Result as QmpResult},
    },
    migration::v1::{
        MigrationType, ReceiveRequest, ReceiveResponse,
        receive_request::{Begin, Command, Request as Asked},
        receive_response::{Event, Ready, Reply, Response as Told, reply::Result as Returned},
    },
};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};

use crate::{
    Node, error,
    incoming::{self, Entry},
    local::SLOW,
    tls,
    tunnel::{self, Entrance},
};

/// Answers and events that may wait for the source.
const WAITING_MAX: usize = 64;

pub(crate) type Answers = mpsc::Sender<Result<ReceiveResponse, Status>>;

/// The addresses of this node's interfaces that are up.
pub(crate) fn addresses() -> Vec<IpAddr> {
    let Ok(all) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    let up = all.filter(|interface| interface.flags.contains(nix::net::if_::InterfaceFlags::IFF_UP));
    up.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    })
    .collect()
}

/// Where this node takes data: its one address in the network, or without one that of its gateway.
pub(crate) async fn address(node: &Node, network: &str) -> Result<IpAddr, String> {
    let gateway = node.peers.gateway(&node.name).await.map_err(|status| status.message().to_owned())?;
    let own = gateway.parse::<std::net::SocketAddr>().map(|socket| socket.ip());
    let own = own.map_err(|_| format!("this node's gateway listens at '{gateway}', which is no address"))?;
    if network.is_empty() {
        return Ok(own);
    }
    let network: Cidr =
        network.parse().map_err(|error: migration_core::network::CidrError| error.to_string())?;
    let mut all = addresses();
    if own.is_loopback() {
        // Nodes that share a machine have an address each, and one loopback interface: only its own counts.
        all = vec![own];
    }
    only_address(&node.name, network, &all).map_err(|error| error.to_string())
}

/// Takes a guest until the source's stream ends.
pub(crate) async fn receive(
    node: Arc<Node>,
    begin: Begin,
    mut asked: Streaming<ReceiveRequest>,
    answers: Answers,
) {
    let id = begin.migration_id.clone();
    let closed = CancellationToken::new();
    node.incoming.lead(&id, true);
    let served = serve(&node, begin, &mut asked, &answers, &closed).await;
    closed.cancel();
    node.incoming.lead(&id, false);
    if let Err(status) = served {
        let _ = answers.send(Err(status)).await;
    }
}

async fn serve(
    node: &Arc<Node>,
    begin: Begin,
    asked: &mut Streaming<ReceiveRequest>,
    answers: &Answers,
    closed: &CancellationToken,
) -> Result<(), Status> {
    let (ready, qmp) = match get_ready(node, &begin, closed).await {
        Ok(ready) => ready,
        Err(status) => {
            // Nothing has come yet: what was made for it goes at once.
            if let Some(entry) = node.incoming.get(&begin.migration_id) {
                let _ = incoming::discard(node, &entry).await;
            }
            return Err(status);
        }
    };
    tell(answers, Told::Ready(ready)).await;
    let Some((commands, mut said)) = qmp else {
        // Offline there is no QEMU: the stream only says that the source is there.
        while asked.next().await.is_some() {}
        return Ok(());
    };
    loop {
        tokio::select! {
            request = asked.next() => match request {
                Some(Ok(ReceiveRequest { request: Some(Asked::Command(command)) })) => {
                    pass(command, &commands, answers).await;
                }
                Some(Ok(_)) => {}
                _ => return Ok(()),
            },
            answer = said.next() => match answer {
                Some(Ok(answer)) => translate(answer, answers).await,
                _ => {
                    tell(answers, Told::Closed("its guest daemon went away".into())).await;
                    return Ok(());
                }
            },
        }
    }
}

type Qmp = (mpsc::Sender<QmpRequest>, Streaming<QmpResponse>);

/// Everything that must be there before the source sends.
async fn get_ready(
    node: &Arc<Node>,
    begin: &Begin,
    closed: &CancellationToken,
) -> Result<(Ready, Option<Qmp>), Status> {
    let mut entry = Entry {
        id: begin.migration_id.clone(),
        vmid: begin.vmid,
        source: begin.source.clone(),
        online: begin.online,
        volumes: Vec::new(),
    };
    let mut ready = Ready::default();
    note(node, &entry)?;
    for volume in &begin.volumes {
        let request = AllocateVolumeRequest {
            storage: volume.storage.clone(),
            vmid: begin.vmid,
            virtual_bytes: volume.virtual_bytes,
            format: volume.format.clone(),
            name: String::new(),
        };
        let made = node.local.storage().allocate_volume(deadline(request, SLOW)).await?.into_inner();
        let Some(made) = made.volume else { return Err(Status::internal("guestd made no volume")) };
        entry.volumes.push(made.volume_id.clone());
        note(node, &entry)?;
        ready.volumes.insert(volume.volume_id.clone(), made.volume_id);
    }
    if !begin.online {
        return Ok((ready, None));
    }
    let started = start_incoming(node, begin, &ready).await?;
    ready.block_nodes = started.block_nodes;
    ready.socket_directory = started.socket_directory;
    ready.secret = format!("{:032x}", rand::random::<u128>());
    ready.endpoint = open(node, begin, &ready, closed).await?;
    let qmp = attach(node, begin).await?;
    Ok((ready, Some(qmp)))
}

fn note(node: &Node, entry: &Entry) -> Result<(), Status> {
    node.incoming.note(entry).map_err(|error| Status::internal(format!("cannot write the journal: {error}")))
}

async fn start_incoming(node: &Node, begin: &Begin, ready: &Ready) -> Result<StartIncomingResponse, Status> {
    let request = StartIncomingRequest {
        vmid: begin.vmid,
        migration_id: begin.migration_id.clone(),
        config: begin.config.clone(),
        volumes: ready.volumes.clone(),
        machine: begin.machine.clone(),
        source: begin.source.clone(),
    };
    Ok(node.local.support().start_incoming(deadline(request, SLOW)).await?.into_inner())
}

/// Opens the entrance of the tunnel.
async fn open(
    node: &Node,
    begin: &Begin,
    ready: &Ready,
    closed: &CancellationToken,
) -> Result<String, Status> {
    let refuse =
        |why: String| status::error(Code::FailedPrecondition, "NO_ENTRANCE", why, [("node", &node.name)]);
    let address = address(node, &begin.migration_network).await.map_err(refuse)?;
    let tls = tls::server(node.peers.root());
    let tls = tls.map_err(|error| refuse(quorate_daemon::telemetry::chain(&error)))?;
    let directory = Path::new(&ready.socket_directory);
    let entrance = Entrance {
        id: begin.migration_id.clone(),
        secret: ready.secret.clone(),
        memory: directory.join("mig-memory"),
        disks: directory.join("mig-disks"),
        plain_memory: begin.migration_type() == MigrationType::Insecure,
        tls,
    };
    let bound = tunnel::accept(address, entrance, closed.clone()).await;
    let bound =
        bound.map_err(|error| refuse(format!("no port of 60000 to 60050 is free at {address}: {error}")))?;
    Ok(bound.to_string())
}

async fn attach(node: &Node, begin: &Begin) -> Result<Qmp, Status> {
    let (commands, to_guestd) = mpsc::channel(WAITING_MAX);
    let attach = Attach { vmid: begin.vmid, migration_id: begin.migration_id.clone() };
    let first = QmpRequest { request: Some(ToQmp::Attach(attach)) };
    let _ = commands.send(first).await;
    let said = node.local.support().qmp(ReceiverStream::new(to_guestd)).await?.into_inner();
    Ok((commands, said))
}

/// Passes a command on, if it is one that a source may send.
async fn pass(command: Command, commands: &mpsc::Sender<QmpRequest>, answers: &Answers) {
    if !allowed_at_target(&command.execute) {
        let error = format!("'{}' is not for the source to send", command.execute);
        let reply = Reply { id: command.id, result: Some(Returned::Error(error)) };
        return tell(answers, Told::Reply(reply)).await;
    }
    let command = QmpCommand {
        id: command.id,
        execute: command.execute,
        arguments: command.arguments,
        oob: false,
        timeout_ms: 0,
    };
    let _ = commands.send(QmpRequest { request: Some(ToQmp::Command(command)) }).await;
}

async fn translate(answer: QmpResponse, answers: &Answers) {
    let told = match answer.response {
        Some(FromQmp::Reply(reply)) => Told::Reply(plain(reply)),
        Some(FromQmp::Event(event)) => Told::Event(Event { name: event.name, data: event.data }),
        Some(FromQmp::Closed(closed)) => Told::Closed(format!("QEMU ended: {}", closed.stderr.trim())),
        Some(FromQmp::Attached(_)) | None => return,
    };
    tell(answers, told).await;
}

/// An answer of QEMU in few words.
fn plain(reply: QmpReply) -> Reply {
    let result = match reply.result {
        Some(QmpResult::Returned(json)) => Returned::Returned(json),
        Some(QmpResult::Error(error)) => Returned::Error(error.description),
        Some(QmpResult::TimedOut(_)) | None => Returned::Error("QEMU does not answer".into()),
    };
    Reply { id: reply.id, result: Some(result) }
}

async fn tell(answers: &Answers, told: Told) {
    let _ = answers.send(Ok(ReceiveResponse { response: Some(told) })).await;
}

/// A stream for answers.
pub(crate) fn answers() -> (Answers, ReceiverStream<Result<ReceiveResponse, Status>>) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    (sender, ReceiverStream::new(receiver))
}

/// The first request must say which guest.
pub(crate) async fn first(asked: &mut Streaming<ReceiveRequest>) -> Result<Begin, Status> {
    match asked.next().await {
        Some(Ok(ReceiveRequest { request: Some(Asked::Begin(begin)) })) => {
            let good = begin.migration_id.parse::<migration_core::MigrationId>();
            good.map_err(|error| status::invalid_field("migration_id", error.to_string()))?;
            Ok(begin)
        }
        Some(Err(status)) => Err(status),
        _ => Err(error::peer("source", "its first message does not say which guest comes")),
    }
}
