//! MigrationSupportService.

use std::sync::Arc;

use guest_core::Vmid;
use quorate_proto::guest::v1::{self as api, migration_support_service_server::MigrationSupportService};
use tonic::{Request, Response, Status, Streaming};

use super::{Answers, finish, qmp_stream};
use crate::guests::Guests;

/// Serves migrationd.
pub(crate) struct Service {
    guests: Arc<Guests>,
}

impl Service {
    pub(crate) fn new(guests: Arc<Guests>) -> Self {
        Self { guests }
    }
}

#[tonic::async_trait]
impl MigrationSupportService for Service {
    async fn begin_migration(
        &self,
        request: Request<api::BeginMigrationRequest>,
    ) -> Result<Response<api::BeginMigrationResponse>, Status> {
        let (guests, request) = (self.guests.clone(), request.into_inner());
        finish(
            async move { guests.begin_migration(Vmid::try_from(request.vmid)?, &request.migration_id).await },
        )
        .await
    }

    async fn end_migration(
        &self,
        request: Request<api::EndMigrationRequest>,
    ) -> Result<Response<api::EndMigrationResponse>, Status> {
        let (guests, request) = (self.guests.clone(), request.into_inner());
        finish(async move {
            let vmid = Vmid::try_from(request.vmid)?;
            guests.end_migration(vmid, &request.migration_id).await?;
            Ok(api::EndMigrationResponse { status: Some(guests.status(vmid).await?) })
        })
        .await
    }

    async fn start_incoming(
        &self,
        request: Request<api::StartIncomingRequest>,
    ) -> Result<Response<api::StartIncomingResponse>, Status> {
        let (guests, request) = (self.guests.clone(), request.into_inner());
        finish(async move { guests.start_incoming(request).await }).await
    }

    async fn stop_incoming(
        &self,
        request: Request<api::StopIncomingRequest>,
    ) -> Result<Response<api::StopIncomingResponse>, Status> {
        let (guests, request) = (self.guests.clone(), request.into_inner());
        finish(async move {
            let stopped = guests.stop_incoming(Vmid::try_from(request.vmid)?, &request.migration_id).await?;
            let (was_running, stderr) = stopped;
            Ok(api::StopIncomingResponse { was_running, stderr })
        })
        .await
    }

    async fn commit(
        &self,
        request: Request<api::CommitRequest>,
    ) -> Result<Response<api::CommitResponse>, Status> {
        let (guests, request) = (self.guests.clone(), request.into_inner());
        finish(async move {
            let vmid = Vmid::try_from(request.vmid)?;
            let version =
                guests.commit(vmid, &request.migration_id, &request.target, &request.volumes).await?;
            Ok(api::CommitResponse { version })
        })
        .await
    }

    async fn get_owner(
        &self,
        request: Request<api::GetOwnerRequest>,
    ) -> Result<Response<api::GetOwnerResponse>, Status> {
        let (guests, request) = (self.guests.clone(), request.into_inner());
        finish(async move { guests.owner(Vmid::try_from(request.vmid)?).await }).await
    }

    async fn resume(
        &self,
        request: Request<api::ResumeRequest>,
    ) -> Result<Response<api::ResumeResponse>, Status> {
        let (guests, request) = (self.guests.clone(), request.into_inner());
        finish(async move {
            let vmid = Vmid::try_from(request.vmid)?;
            guests.resume(vmid, &request.migration_id, request.stay_paused, request.keep_lock).await?;
            Ok(api::ResumeResponse { status: Some(guests.status(vmid).await?) })
        })
        .await
    }

    async fn release_source(
        &self,
        request: Request<api::ReleaseSourceRequest>,
    ) -> Result<Response<api::ReleaseSourceResponse>, Status> {
        let (guests, request) = (self.guests.clone(), request.into_inner());
        finish(async move {
            let vmid = Vmid::try_from(request.vmid)?;
            let api::ReleaseSourceRequest { migration_id, nocheck, free_volumes, .. } = request;
            let (was_running, left_over) =
                guests.release_source(vmid, &migration_id, nocheck, &free_volumes).await?;
            Ok(api::ReleaseSourceResponse { was_running, left_over })
        })
        .await
    }

    type QmpStream = Answers<api::QmpResponse>;

    async fn qmp(
        &self,
        request: Request<Streaming<api::QmpRequest>>,
    ) -> Result<Response<Self::QmpStream>, Status> {
        Ok(Response::new(qmp_stream::open(self.guests.clone(), request.into_inner()).await?))
    }
}
