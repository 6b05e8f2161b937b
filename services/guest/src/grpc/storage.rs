//! StorageService.

use std::sync::Arc;

use guest_core::{Vmid, VolumeId};
use quorate_proto::guest::v1::{self as api, storage_service_server::StorageService};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Answers, finish};
use crate::{error::Error, guests::Guests, transfer};

/// Serves volumes.
pub(crate) struct Service {
    guests: Arc<Guests>,
}

impl Service {
    pub(crate) fn new(guests: Arc<Guests>) -> Self {
        Self { guests }
    }

    /// Where an existing volume lies.
    async fn existing(&self, volume: &str) -> Result<std::path::PathBuf, Error> {
        let volume: VolumeId = volume.parse()?;
        Ok(self.guests.volume(&volume).await?.path.into())
    }
}

#[tonic::async_trait]
impl StorageService for Service {
    async fn list_storages(
        &self,
        _: Request<api::ListStoragesRequest>,
    ) -> Result<Response<api::ListStoragesResponse>, Status> {
        Ok(Response::new(api::ListStoragesResponse { storages: self.guests.storages().await? }))
    }

    async fn list_volumes(
        &self,
        request: Request<api::ListVolumesRequest>,
    ) -> Result<Response<api::ListVolumesResponse>, Status> {
        let request = request.into_inner();
        let vmid = match request.vmid {
            0 => None,
            number => Some(Vmid::try_from(number).map_err(Error::from)?),
        };
        let volumes = self.guests.volumes(&request.storage, vmid).await?;
        Ok(Response::new(api::ListVolumesResponse { volumes }))
    }

    async fn allocate_volume(
        &self,
        request: Request<api::AllocateVolumeRequest>,
    ) -> Result<Response<api::AllocateVolumeResponse>, Status> {
        let (guests, request) = (self.guests.clone(), request.into_inner());
        finish(async move {
            let vmid = Vmid::try_from(request.vmid)?;
            let format = Some(request.format.as_str()).filter(|format| !format.is_empty());
            let format = format.map(str::parse).transpose()?;
            let volume =
                guests.allocate(&request.storage, vmid, request.virtual_bytes, format, &request.name).await?;
            Ok(api::AllocateVolumeResponse { volume: Some(volume) })
        })
        .await
    }

    async fn free_volume(
        &self,
        request: Request<api::FreeVolumeRequest>,
    ) -> Result<Response<api::FreeVolumeResponse>, Status> {
        let volume: VolumeId = request.into_inner().volume_id.parse().map_err(Error::from)?;
        let existed = self.guests.free(&volume).await?;
        Ok(Response::new(api::FreeVolumeResponse { existed }))
    }

    async fn get_volume(
        &self,
        request: Request<api::GetVolumeRequest>,
    ) -> Result<Response<api::GetVolumeResponse>, Status> {
        let volume: VolumeId = request.into_inner().volume_id.parse().map_err(Error::from)?;
        Ok(Response::new(api::GetVolumeResponse { volume: Some(self.guests.volume(&volume).await?) }))
    }

    type ReadVolumeStream = Answers<api::ReadVolumeResponse>;

    async fn read_volume(
        &self,
        request: Request<api::ReadVolumeRequest>,
    ) -> Result<Response<Self::ReadVolumeStream>, Status> {
        let path = self.existing(&request.into_inner().volume_id).await?;
        Ok(Response::new(Box::pin(ReceiverStream::new(transfer::read(path)))))
    }

    async fn write_volume(
        &self,
        request: Request<Streaming<api::WriteVolumeRequest>>,
    ) -> Result<Response<api::WriteVolumeResponse>, Status> {
        let mut parts = request.into_inner();
        let first = parts
            .message()
            .await?
            .ok_or_else(|| quorate_daemon::status::invalid_field("volume_id", "a volume is needed"))?;
        let path = self.existing(&first.volume_id).await?;
        let bytes_written = transfer::write(path, first, parts).await?;
        Ok(Response::new(api::WriteVolumeResponse { bytes_written }))
    }
}
