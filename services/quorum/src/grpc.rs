//! QuorumService: checks the request, asks the driver, answers. No decision is made here.

use std::{pin::Pin, time::Duration};

use futures_util::stream::Stream;
use quorate_proto::quorum::v1::{
    GetStatusRequest, GetStatusResponse, ReloadRequest, ReloadResponse, SetExpectedRequest,
    SetExpectedResponse, WatchRequest, WatchResponse, quorum_service_server::QuorumService,
};
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::{driver::QuorumHandle, error};

/// Serves the votes.
pub(crate) struct Service {
    handle: QuorumHandle,
    shutdown: CancellationToken,
}

impl Service {
    pub(crate) fn new(handle: QuorumHandle, shutdown: CancellationToken) -> Self {
        Self { handle, shutdown }
    }
}

#[tonic::async_trait]
impl QuorumService for Service {
    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        Ok(Response::new(GetStatusResponse { status: Some(self.handle.status()) }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let states = self.handle.watch().map(|status| Ok(WatchResponse { status: Some(status) }));
        let shutdown = self.shutdown.clone();
        let stopping = futures_util::stream::once(async move {
            shutdown.cancelled().await;
            Err(Status::unavailable("quorumd is stopping"))
        });
        let mut ended = false;
        let until_stopping = states.merge(stopping).take_while(move |item| {
            let before = ended;
            ended |= item.is_err();
            !before
        });
        Ok(Response::new(Box::pin(until_stopping)))
    }

    async fn set_expected(
        &self,
        request: Request<SetExpectedRequest>,
    ) -> Result<Response<SetExpectedResponse>, Status> {
        let SetExpectedRequest { expected_votes, lifetime } = request.into_inner();
        let lifetime =
            lifetime.map(|it| Duration::try_from(it).unwrap_or_default()).filter(|it| !it.is_zero());
        let status =
            self.handle.set_expected(expected_votes, lifetime).await.map_err(|err| error::status(&err))?;
        Ok(Response::new(SetExpectedResponse { status: Some(status) }))
    }

    async fn reload(&self, _: Request<ReloadRequest>) -> Result<Response<ReloadResponse>, Status> {
        let config_version = self.handle.reload().await.map_err(|err| error::status(&err))?;
        Ok(Response::new(ReloadResponse { config_version }))
    }
}
