//! The service for everybody: `qm migrate` and what shows migrations.

use std::{pin::Pin, sync::Arc};

use quorate_daemon::{caller, client::deadline, status};
use quorate_proto::{
    config::v1::ListGuestsRequest,
    migration::v1::{
        CancelRequest, CancelResponse, CheckRequest, CheckResponse, ListRequest, ListResponse,
        MigrateRequest, MigrateResponse, Migration, migration_service_server::MigrationService,
    },
};
use tokio_stream::{Stream, StreamExt as _, wrappers::BroadcastStream};
use tonic::{Code, Request, Response, Status};

use crate::{
    Node, begin, error,
    error::reason,
    local::{READ, SLOW},
    records, source,
};

pub(crate) struct Service {
    node: Arc<Node>,
}

impl Service {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self { node }
    }

    /// The other node that has the guest; `None` if it is this one. A call that was passed on already is not again.
    async fn elsewhere<T>(&self, request: &Request<T>, vmid: u32) -> Result<Option<String>, Status> {
        let guests =
            self.node.local.status().list_guests(deadline(ListGuestsRequest {}, READ)).await?.into_inner();
        let Some(guest) = guests.guests.into_iter().find(|guest| guest.vmid == vmid) else {
            let message = format!("there is no guest {vmid} in the cluster; 'qm list' shows those of a node");
            return Err(status::error(Code::NotFound, "GUEST_UNKNOWN", message, [("vmid", vmid)]));
        };
        if guest.node == self.node.name {
            return Ok(None);
        }
        if caller::of(request).starts_with("node:") {
            let message = format!("guest {vmid} is on node '{}'", guest.node);
            let metadata = [("vmid", vmid.to_string()), ("node", guest.node)];
            return Err(status::error(Code::FailedPrecondition, "GUEST_ELSEWHERE", message, metadata));
        }
        Ok(Some(guest.node))
    }
}

type Told = Pin<Box<dyn Stream<Item = Result<MigrateResponse, Status>> + Send>>;

#[tonic::async_trait]
impl MigrationService for Service {
    type MigrateStream = Told;

    async fn migrate(&self, request: Request<MigrateRequest>) -> Result<Response<Told>, Status> {
        let vmid = request.get_ref().vmid;
        if let Some(owner) = self.elsewhere(&request, vmid).await? {
            let mut peer = self.node.peers.service(&owner).await?;
            let stream = peer.migrate(request.into_inner()).await?.into_inner();
            return Ok(Response::new(Box::pin(stream)));
        }
        let beginning = self.node.running.begin(vmid).ok_or_else(|| error::busy(vmid))?;
        let begun = begin::begin(&self.node, request.get_ref(), false).await?;
        let told = source::start(self.node.clone(), begun);
        drop(beginning);
        // Who is too slow to read misses numbers, never the end.
        let told = BroadcastStream::new(told).filter_map(|message| message.ok().map(Ok));
        Ok(Response::new(Box::pin(told)))
    }

    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let Some(wanted) = request.get_ref().migrate.clone() else {
            return Err(status::invalid_field("migrate", "says what is to be checked"));
        };
        if let Some(owner) = self.elsewhere(&request, wanted.vmid).await? {
            let mut peer = self.node.peers.service(&owner).await?;
            return peer.check(deadline(request.into_inner(), SLOW)).await;
        }
        let _beginning = self.node.running.begin(wanted.vmid).ok_or_else(|| error::busy(wanted.vmid))?;
        let obstacles = match begin::begin(&self.node, &wanted, true).await {
            Ok(_) => Vec::new(),
            Err(status) if reason(&status) == "PREFLIGHT_FAILED" => {
                status.message().lines().skip(1).map(|line| line.trim().to_owned()).collect()
            }
            Err(status) => return Err(status),
        };
        Ok(Response::new(CheckResponse { obstacles }))
    }

    async fn cancel(&self, request: Request<CancelRequest>) -> Result<Response<CancelResponse>, Status> {
        let vmid = request.get_ref().vmid;
        if let Some(migration_id) = self.node.running.cancel(vmid).await {
            return Ok(Response::new(CancelResponse { migration_id }));
        }
        match self.elsewhere(&request, vmid).await? {
            Some(owner) => {
                let mut peer = self.node.peers.service(&owner).await?;
                peer.cancel(deadline(request.into_inner(), READ)).await
            }
            None => Err(error::unknown(vmid)),
        }
    }

    async fn list(&self, _: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        let mut records = records::all(&self.node.local).await?;
        records.sort_by_key(|record| record.vmid);
        let migration = |record: migration_core::Record| Migration {
            migration_id: record.id,
            vmid: record.vmid,
            source: record.source,
            target: record.target,
            state: record.state.as_str().to_owned(),
            online: record.online,
            started: record.started,
        };
        Ok(Response::new(ListResponse { migrations: records.into_iter().map(migration).collect() }))
    }
}
