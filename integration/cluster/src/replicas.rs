//! What the replicas of the tree say of themselves.

use std::{fmt, time::Duration};

use playground::Node;
use quorate_proto::config::v1::{
    GetStatusRequest, GetStatusResponse, config_service_client::ConfigServiceClient,
    get_status_response::State,
};
use tonic::Request;

use crate::wait;

/// How long a daemon may take to say how it is.
const ANSWER: Duration = Duration::from_secs(5);

/// Version and checksum of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// Its version.
    pub version: u64,
    /// Its checksum.
    pub checksum: String,
}

impl fmt::Display for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "version {} checksum {:.8}", self.version, self.checksum)
    }
}

/// The state of a node's replica.
///
/// # Errors
/// What the gateway says if it cannot be asked.
pub async fn status(node: &Node) -> Result<GetStatusResponse, String> {
    let mut request = Request::new(GetStatusRequest {});
    request.set_timeout(ANSWER);
    let answer = ConfigServiceClient::new(node.gateway()).get_status(request).await;
    Ok(answer.map_err(|status| format!("{}: {}", node.name(), status.message()))?.into_inner())
}

/// Waits until all replicas are in sync at the same version, which must mean the same checksum.
pub async fn same(nodes: &[&Node]) -> Replica {
    wait::until("equal replicas in sync", async || {
        let mut seen = Vec::new();
        for node in nodes {
            let status = status(node).await?;
            let replica = Replica { version: status.version, checksum: status.checksum.clone() };
            seen.push((node.name(), status.state(), replica));
        }
        let (_, _, first) = seen.first().expect("there is at least one node").clone();
        let equal = seen.iter().all(|(_, state, replica)| *state == State::Synchronised && *replica == first);
        let told = |(name, state, replica): &(&str, State, Replica)| format!("{name} {state:?} {replica}");
        if equal { Ok(first) } else { Err(seen.iter().map(told).collect::<Vec<_>>().join(", ")) }
    })
    .await
}

/// Waits until a node's replica is in this state.
pub async fn is(node: &Node, wanted: State) -> GetStatusResponse {
    wait::until(&format!("{} is {wanted:?}", node.name()), async || {
        let status = status(node).await?;
        let state = status.state();
        if state == wanted { Ok(status) } else { Err(format!("{state:?}: {}", status.reason)) }
    })
    .await
}
