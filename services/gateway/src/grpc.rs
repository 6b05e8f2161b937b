//! ClusterService: hands each call to the life cycle.
//!
//! What changes something runs as a task of its own, so that a caller who goes away in the middle does
//! not leave half of it behind.

use std::sync::Arc;

use quorate_proto::gateway::v1::{
    AdmitNodeRequest, AdmitNodeResponse, ConfirmNodeRequest, ConfirmNodeResponse, CreateClusterRequest,
    CreateClusterResponse, CreateTokenRequest, CreateTokenResponse, GetClusterRequest, GetClusterResponse,
    GetNodeRequest, GetNodeResponse, JoinClusterRequest, JoinClusterResponse, ListRemovedNodesRequest,
    ListRemovedNodesResponse, ListTokensRequest, ListTokensResponse, OverrideVotesRequest,
    OverrideVotesResponse, RemoveNodeRequest, RemoveNodeResponse, RevokeTokenRequest, RevokeTokenResponse,
    UpdateCertificatesRequest, UpdateCertificatesResponse, WithdrawNodeRequest, WithdrawNodeResponse,
    cluster_service_server::ClusterService,
};
use quorate_types::NodeName;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};
use tracing::Instrument as _;

use crate::{
    auth::{Caller, PresentedToken},
    health::NodeHealth,
    life_cycle::{
        ThisNode, admit, confirm, create, expected, join, progress::Progress, remove, removed, token, view,
        withdraw,
    },
    roster::Roster,
    upkeep,
};

/// Steps of a join that may wait for a slow reader: more than a join has.
const STEPS: usize = 64;

/// The service of the gateway itself.
#[derive(Clone)]
pub struct Cluster {
    node: Arc<ThisNode>,
    roster: Roster,
    health: NodeHealth,
    running: TaskTracker,
}

impl Cluster {
    /// The service of this node; what it starts is counted by `running`.
    #[must_use]
    pub fn new(node: Arc<ThisNode>, roster: Roster, health: NodeHealth, running: TaskTracker) -> Self {
        Self { node, roster, health, running }
    }

    /// Runs to its end even if the caller goes away.
    async fn finish<T, F>(&self, work: impl FnOnce(Arc<ThisNode>) -> F) -> Result<Response<T>, Status>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Status>> + Send + 'static,
    {
        let running = self.running.spawn(work(self.node.clone()).in_current_span());
        let ended =
            running.await.map_err(|_| Status::internal("the operation ended with a bug; see the log"));
        ended?.map(Response::new)
    }
}

/// Who calls, as the door found out.
fn node_of<T>(request: &Request<T>) -> Result<NodeName, Status> {
    match request.extensions().get::<Caller>() {
        Some(Caller::Node { name }) => Ok(name.clone()),
        _ => Err(Status::unauthenticated("this call needs a certificate of a node")),
    }
}

/// Who asks, for the cluster log.
fn caller_of<T>(request: &Request<T>) -> String {
    request.extensions().get::<Caller>().map_or_else(String::new, Caller::describe)
}

fn token_of<T>(request: &Request<T>) -> Result<PresentedToken, Status> {
    match request.extensions().get::<Caller>() {
        Some(Caller::Joiner(presented)) => Ok((**presented).clone()),
        _ => Err(Status::unauthenticated("this call needs a join token")),
    }
}

#[tonic::async_trait]
impl ClusterService for Cluster {
    async fn create_cluster(
        &self,
        request: Request<CreateClusterRequest>,
    ) -> Result<Response<CreateClusterResponse>, Status> {
        let request = request.into_inner();
        self.finish(async move |node| create::create(&node, request).await).await
    }

    type JoinClusterStream = ReceiverStream<Result<JoinClusterResponse, Status>>;

    async fn join_cluster(
        &self,
        request: Request<JoinClusterRequest>,
    ) -> Result<Response<Self::JoinClusterStream>, Status> {
        let (to, steps) = mpsc::channel(STEPS);
        let (node, request) = (self.node.clone(), request.into_inner());
        let work = async move {
            let progress = Progress::new(to);
            let result = join::join(&node, request, &progress).await;
            progress.end(result).await;
        };
        self.running.spawn(work.in_current_span());
        Ok(Response::new(ReceiverStream::new(steps)))
    }

    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenResponse>, Status> {
        let request = request.into_inner();
        self.finish(async move |node| token::create(&node, request).await).await
    }

    async fn list_tokens(
        &self,
        _request: Request<ListTokensRequest>,
    ) -> Result<Response<ListTokensResponse>, Status> {
        token::list(&self.node).await.map(Response::new)
    }

    async fn revoke_token(
        &self,
        request: Request<RevokeTokenRequest>,
    ) -> Result<Response<RevokeTokenResponse>, Status> {
        token::revoke(&self.node, request.get_ref()).await?;
        Ok(Response::new(RevokeTokenResponse {}))
    }

    async fn admit_node(
        &self,
        request: Request<AdmitNodeRequest>,
    ) -> Result<Response<AdmitNodeResponse>, Status> {
        let presented = token_of(&request)?;
        let request = request.into_inner();
        self.finish(async move |node| admit::admit(&node, &presented, request).await).await
    }

    async fn confirm_node(
        &self,
        request: Request<ConfirmNodeRequest>,
    ) -> Result<Response<ConfirmNodeResponse>, Status> {
        let caller = node_of(&request)?;
        let request = request.into_inner();
        self.finish(async move |node| {
            let config_version = confirm::confirm(&node, &caller, &request).await?;
            Ok(ConfirmNodeResponse { config_version })
        })
        .await
    }

    async fn withdraw_node(
        &self,
        request: Request<WithdrawNodeRequest>,
    ) -> Result<Response<WithdrawNodeResponse>, Status> {
        let caller = node_of(&request)?;
        let request = request.into_inner();
        self.finish(async move |node| {
            withdraw::withdraw(&node, &caller, &request).await?;
            Ok(WithdrawNodeResponse {})
        })
        .await
    }

    async fn remove_node(
        &self,
        request: Request<RemoveNodeRequest>,
    ) -> Result<Response<RemoveNodeResponse>, Status> {
        let caller = caller_of(&request);
        let request = request.into_inner();
        self.finish(async move |node| remove::remove(&node, &caller, &request).await).await
    }

    async fn override_votes(
        &self,
        request: Request<OverrideVotesRequest>,
    ) -> Result<Response<OverrideVotesResponse>, Status> {
        let caller = caller_of(&request);
        let request = request.into_inner();
        self.finish(async move |node| expected::expect(&node, &caller, &request).await).await
    }

    async fn update_certificates(
        &self,
        request: Request<UpdateCertificatesRequest>,
    ) -> Result<Response<UpdateCertificatesResponse>, Status> {
        let force = request.into_inner().force;
        self.finish(async move |node| upkeep::update(&node, force).await).await
    }

    async fn list_removed_nodes(
        &self,
        _request: Request<ListRemovedNodesRequest>,
    ) -> Result<Response<ListRemovedNodesResponse>, Status> {
        let nodes = removed::list(&self.node).await?;
        Ok(Response::new(ListRemovedNodesResponse { nodes }))
    }

    async fn get_cluster(
        &self,
        _request: Request<GetClusterRequest>,
    ) -> Result<Response<GetClusterResponse>, Status> {
        Ok(Response::new(view::cluster(&self.node, &self.roster).await?))
    }

    async fn get_node(&self, _request: Request<GetNodeRequest>) -> Result<Response<GetNodeResponse>, Status> {
        Ok(Response::new(view::node(&self.node, &self.health).await))
    }
}
