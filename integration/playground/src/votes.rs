//! Votes as a node counts them, followed through its watch stream.

use std::time::Duration;

use quorate_proto::quorum::v1::{
    QuorumStatus, WatchRequest, WatchResponse, quorum_node::State, quorum_service_client::QuorumServiceClient,
};
use tonic::Streaming;

use crate::{Error, Node};

/// The stream of one node's votes.
pub struct Votes {
    node: String,
    stream: Streaming<WatchResponse>,
}

impl Votes {
    /// Opens the stream; its first element is the present state.
    ///
    /// # Errors
    /// What the gateway says.
    pub async fn of(node: &Node) -> Result<Self, tonic::Status> {
        let stream = QuorumServiceClient::new(node.gateway()).watch(WatchRequest {}).await?.into_inner();
        Ok(Self { node: node.name().to_owned(), stream })
    }

    /// Waits until the votes are as wanted.
    ///
    /// # Errors
    /// [`Error::Timeout`] with what was wanted; also if the stream ends.
    pub async fn until(
        &mut self,
        what: &str,
        within: Duration,
        wanted: impl Fn(&QuorumStatus) -> bool,
    ) -> Result<QuorumStatus, Error> {
        let mut last = None;
        let seen = async {
            while let Ok(Some(answer)) = self.stream.message().await {
                let Some(status) = answer.status else { continue };
                if wanted(&status) {
                    return Some(status);
                }
                last = Some(status);
            }
            None
        };
        let seen = tokio::time::timeout(within, seen).await.ok().flatten();
        let node = &self.node;
        seen.ok_or_else(|| Error::Timeout {
            what: format!("{what} on {node}; last seen: {}", told(last)),
            within,
        })
    }
}

/// The ids of the members of the present ring.
pub fn members(status: &QuorumStatus) -> Vec<u32> {
    let members = status.nodes.iter().filter(|node| node.state() == State::Member);
    members.map(|node| node.node_id).collect()
}

fn told(status: Option<QuorumStatus>) -> String {
    status.map_or_else(
        || "nothing".to_owned(),
        |status| {
            let QuorumStatus { quorate, expected_votes, total_votes, quorum, .. } = status;
            let members = members(&status);
            format!("quorate {quorate}, members {members:?}, {total_votes} of {expected_votes} votes, {quorum} needed")
        },
    )
}
