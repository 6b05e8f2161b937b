//! The service for other nodes' migrationd.

use std::sync::Arc;

use quorate_daemon::{client::deadline, status};
use quorate_proto::{
    guest::v1::{GetOwnerRequest, ListStoragesRequest, WriteVolumeRequest as GuestWriteVolumeRequest},
    migration::v1::{
        DiscardRequest, DiscardResponse, InspectRequest, InspectResponse, ReceiveRequest, ReceiveResponse,
        ResumeRequest, ResumeResponse, WriteVolumeRequest, WriteVolumeResponse,
        migration_peer_service_server::MigrationPeerService,
    },
};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Code, Request, Response, Status, Streaming};

use crate::{
    Node, incoming,
    local::{READ, WRITE},
    receive,
};

/// Memory that is left to the host when a guest arrives.
const SPARE_MEMORY_MIB: u64 = 64;
/// Parts of a volume that may be under way.
const PARTS_MAX: usize = 4;

pub(crate) struct Service {
    node: Arc<Node>,
}

impl Service {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self { node }
    }

    /// What this node's storages have against the guest's disks.
    async fn storages(&self, wanted: &InspectRequest, obstacles: &mut Vec<String>) -> Result<(), Status> {
        let ask = deadline(ListStoragesRequest {}, READ);
        let storages = self.node.local.storage().list_storages(ask).await?.into_inner().storages;
        let name = &self.node.name;
        for (storage, bytes) in &wanted.storages {
            match storages.iter().find(|known| &known.name == storage) {
                None => obstacles.push(format!(
                    "node '{name}' has no storage '{storage}'; name another with --targetstorage"
                )),
                Some(known) if !known.active => {
                    obstacles.push(format!(
                        "storage '{storage}' cannot be used on node '{name}': {}",
                        known.problem
                    ));
                }
                Some(known) if !known.content.iter().any(|content| content == "images") => {
                    obstacles.push(format!("storage '{storage}' on node '{name}' takes no disks of guests"));
                }
                Some(known) if known.free_bytes < *bytes => obstacles.push(format!(
                    "storage '{storage}' on node '{name}' has {} MiB free, {} MiB are needed",
                    known.free_bytes >> 20,
                    bytes.div_ceil(1 << 20)
                )),
                Some(_) => {}
            }
        }
        Ok(())
    }
}

/// Memory that this host can still give, in MiB. Source: proc(5), `MemAvailable`.
fn available_mib() -> Option<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib / 1024)
}

#[tonic::async_trait]
impl MigrationPeerService for Service {
    type ReceiveStream = ReceiverStream<Result<ReceiveResponse, Status>>;

    async fn inspect(&self, request: Request<InspectRequest>) -> Result<Response<InspectResponse>, Status> {
        let wanted = request.into_inner();
        let mut obstacles = Vec::new();
        let address = match receive::address(&self.node, &wanted.migration_network).await {
            Ok(address) => address.to_string(),
            Err(why) => {
                obstacles.push(why);
                String::new()
            }
        };
        self.storages(&wanted, &mut obstacles).await?;
        let needed = wanted.memory_mib + SPARE_MEMORY_MIB;
        if let Some(available) = available_mib().filter(|available| *available < needed) {
            let name = &self.node.name;
            obstacles
                .push(format!("node '{name}' has {available} MiB of memory left, {needed} MiB are needed"));
        }
        let software_version = env!("CARGO_PKG_VERSION").to_owned();
        Ok(Response::new(InspectResponse { obstacles, address, software_version }))
    }

    async fn receive(
        &self,
        request: Request<Streaming<ReceiveRequest>>,
    ) -> Result<Response<Self::ReceiveStream>, Status> {
        let mut asked = request.into_inner();
        let begin = receive::first(&mut asked).await?;
        let (answers, told) = receive::answers();
        tokio::spawn(receive::receive(self.node.clone(), begin, asked, answers));
        Ok(Response::new(told))
    }

    async fn write_volume(
        &self,
        request: Request<Streaming<WriteVolumeRequest>>,
    ) -> Result<Response<WriteVolumeResponse>, Status> {
        let mut parts = request.into_inner();
        let Some(first) = parts.next().await.transpose()? else {
            return Err(status::invalid_field("volume_id", "the first message names the volume"));
        };
        // Only what was made for this very migration.
        let known = self.node.incoming.get(&first.migration_id);
        if !known.is_some_and(|entry| entry.volumes.contains(&first.volume_id)) {
            let message = format!("volume '{}' was not made for this migration", first.volume_id);
            return Err(status::error(
                Code::PermissionDenied,
                "VOLUME_FOREIGN",
                message,
                [("volume", first.volume_id)],
            ));
        }
        let (sender, stream) = mpsc::channel(PARTS_MAX);
        let mut storage = self.node.local.storage();
        let written = tokio::spawn(async move { storage.write_volume(ReceiverStream::new(stream)).await });
        let mut next = Some(first);
        while let Some(part) = next {
            let part = GuestWriteVolumeRequest {
                volume_id: part.volume_id,
                file_bytes: part.file_bytes,
                offset: part.offset,
                data: part.data,
                complete: part.complete,
            };
            if sender.send(part).await.is_err() {
                break;
            }
            next = parts.next().await.transpose()?;
        }
        drop(sender);
        let written = written.await.map_err(|error| Status::internal(error.to_string()))??.into_inner();
        Ok(Response::new(WriteVolumeResponse { bytes_written: written.bytes_written }))
    }

    async fn discard(&self, request: Request<DiscardRequest>) -> Result<Response<DiscardResponse>, Status> {
        let DiscardRequest { migration_id, vmid } = request.into_inner();
        let Some(entry) = self.node.incoming.get(&migration_id) else {
            return Ok(Response::new(DiscardResponse::default()));
        };
        let owner = self.node.local.support().get_owner(deadline(GetOwnerRequest { vmid }, WRITE)).await?;
        if owner.into_inner().node == self.node.name {
            let message = format!("guest {vmid} belongs to this node: it is not discarded");
            return Err(status::error(Code::FailedPrecondition, "GUEST_IS_HERE", message, [("vmid", vmid)]));
        }
        let stderr = incoming::discard(&self.node, &entry).await?;
        Ok(Response::new(DiscardResponse { stderr }))
    }

    async fn resume(&self, request: Request<ResumeRequest>) -> Result<Response<ResumeResponse>, Status> {
        let ResumeRequest { migration_id, vmid, stay_paused, offline } = request.into_inner();
        let alive = incoming::resume(&self.node, &migration_id, vmid, stay_paused, offline).await?;
        Ok(Response::new(ResumeResponse { alive }))
    }
}
