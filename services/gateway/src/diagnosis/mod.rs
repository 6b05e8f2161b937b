//! DiagnosticsService: what is found on the nodes, and what is wrong with it. Changes nothing.
//!
//! | file | holds |
//! |---|---|
//! | `facts.rs` | what this node finds out about itself |
//! | `ask.rs` | asking every node, with its clock and within a limit |
//! | `judge.rs` | from what was found to findings: no input, no output |

mod ask;
mod facts;
mod judge;

use std::sync::Arc;

use quorate_proto::gateway::v1::{
    ExamineClusterRequest, ExamineClusterResponse, ExamineNodeRequest, ExamineNodeResponse,
    diagnostics_service_server::DiagnosticsService,
};
use tonic::{Request, Response, Status};

use crate::{health::NodeHealth, life_cycle::ThisNode, roster::Roster};

/// The service.
#[derive(Clone)]
pub struct Diagnostics {
    node: Arc<ThisNode>,
    roster: Roster,
    health: NodeHealth,
}

impl Diagnostics {
    /// The service of this node.
    #[must_use]
    pub fn new(node: Arc<ThisNode>, roster: Roster, health: NodeHealth) -> Self {
        Self { node, roster, health }
    }
}

#[tonic::async_trait]
impl DiagnosticsService for Diagnostics {
    async fn examine_node(
        &self,
        _request: Request<ExamineNodeRequest>,
    ) -> Result<Response<ExamineNodeResponse>, Status> {
        let facts = facts::collect(&self.node, &self.health).await;
        Ok(Response::new(ExamineNodeResponse { facts: Some(facts) }))
    }

    async fn examine_cluster(
        &self,
        _request: Request<ExamineClusterRequest>,
    ) -> Result<Response<ExamineClusterResponse>, Status> {
        let mut examined = ask::all(&self.node, &self.roster, &self.health).await;
        examined.sort_by(|a, b| a.name.cmp(&b.name));
        let findings = judge::judge(&examined, std::time::SystemTime::now());
        let nodes = examined.into_iter().filter_map(|examined| Some(examined.answer.ok()?.facts)).collect();
        Ok(Response::new(ExamineClusterResponse { nodes, findings }))
    }
}
