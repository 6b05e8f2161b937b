//! The gRPC service: checks and converts requests, asks the ring through its handle, converts answers.

mod attach;
mod convert;
mod group;
mod watch;

use quorate_proto::membership::v1::{
    AttachServiceRequest, AttachServiceResponse, CheckConfigurationRequest, CheckConfigurationResponse,
    GetStatusRequest, GetStatusResponse, GroupRequest, GroupResponse, LeaveRequest, LeaveResponse,
    ListLinksRequest, ListLinksResponse, ListMembersRequest, ListMembersResponse, ReloadRequest,
    ReloadResponse, WatchConfigurationsRequest, WatchConfigurationsResponse,
    membership_service_server::MembershipService,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    config::{ConfigError, ConfigSource},
    handle::RingHandle,
};

/// Batches that wait in a response stream; the ring's own bound per client comes before it.
const RESPONSES_MAX: usize = 16;

/// The service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Grpc {
    ring: RingHandle,
    source: ConfigSource,
}

impl Grpc {
    /// Serves this ring; Reload reads the configuration from `source`.
    #[must_use]
    pub fn new(ring: RingHandle, source: ConfigSource) -> Self {
        Self { ring, source }
    }
}

type ResponseStream<T> = ReceiverStream<Result<T, Status>>;

#[tonic::async_trait]
impl MembershipService for Grpc {
    type WatchConfigurationsStream = ResponseStream<WatchConfigurationsResponse>;
    type GroupStream = ResponseStream<GroupResponse>;
    type AttachServiceStream = ResponseStream<AttachServiceResponse>;

    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        let snapshot = self.ring.snapshot().await?;
        Ok(Response::new(convert::status(snapshot, self.source.node_name())))
    }

    async fn list_members(
        &self,
        _: Request<ListMembersRequest>,
    ) -> Result<Response<ListMembersResponse>, Status> {
        let snapshot = self.ring.snapshot().await?;
        let members = snapshot.up.map_or_else(Vec::new, convert::members);
        Ok(Response::new(ListMembersResponse { members }))
    }

    async fn list_links(&self, _: Request<ListLinksRequest>) -> Result<Response<ListLinksResponse>, Status> {
        let snapshot = self.ring.snapshot().await?;
        let links = snapshot.up.map_or_else(Vec::new, |up| up.links.into_iter().map(convert::link).collect());
        Ok(Response::new(ListLinksResponse { links }))
    }

    async fn watch_configurations(
        &self,
        _: Request<WatchConfigurationsRequest>,
    ) -> Result<Response<Self::WatchConfigurationsStream>, Status> {
        Ok(Response::new(watch::configurations(&self.ring)))
    }

    async fn group(
        &self,
        request: Request<Streaming<GroupRequest>>,
    ) -> Result<Response<Self::GroupStream>, Status> {
        Ok(Response::new(group::serve(self.ring.clone(), request.into_inner()).await?))
    }

    async fn attach_service(
        &self,
        request: Request<Streaming<AttachServiceRequest>>,
    ) -> Result<Response<Self::AttachServiceStream>, Status> {
        Ok(Response::new(attach::serve(self.ring.clone(), request.into_inner()).await?))
    }

    async fn reload(&self, _: Request<ReloadRequest>) -> Result<Response<ReloadResponse>, Status> {
        let config = self.source.load().map_err(|source| crate::error::Error::Config {
            state: "the ring goes on with the settings it has",
            source,
        })?;
        let config_version = config.as_ref().map_or(0, |config| config.config_version);
        let needs_restart = self.ring.configure(config).await?;
        Ok(Response::new(ReloadResponse { config_version, needs_restart }))
    }

    async fn check_configuration(
        &self,
        request: Request<CheckConfigurationRequest>,
    ) -> Result<Response<CheckConfigurationResponse>, Status> {
        let text = request.into_inner().corosync_conf;
        match self.source.check(&text) {
            // Without this node there is no ring to run: no mistake of the file.
            Ok(_) | Err(ConfigError::NotListed { .. }) => Ok(Response::new(CheckConfigurationResponse {})),
            Err(source) => Err(crate::error::Error::Config { state: "nothing was changed", source }.into()),
        }
    }

    async fn leave(&self, _: Request<LeaveRequest>) -> Result<Response<LeaveResponse>, Status> {
        self.ring.leave_ring().await?;
        Ok(Response::new(LeaveResponse {}))
    }
}
