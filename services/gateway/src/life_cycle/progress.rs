//! What a join tells while it runs.

use quorate_proto::gateway::v1::JoinClusterResponse;
use tokio::sync::mpsc;
use tonic::Status;

/// Tells each step to whoever asked for the join; goes on when nobody listens any more.
#[derive(Clone)]
pub struct Progress(mpsc::Sender<Result<JoinClusterResponse, Status>>);

impl Progress {
    /// Steps go to this channel.
    #[must_use]
    pub fn new(to: mpsc::Sender<Result<JoinClusterResponse, Status>>) -> Self {
        Self(to)
    }

    /// Tells a step.
    pub async fn step(&self, message: impl Into<String>) {
        let message = message.into();
        tracing::info!(message, "join");
        // The operator may have gone; the join goes on.
        let _ = self.0.send(Ok(JoinClusterResponse { message, ..JoinClusterResponse::default() })).await;
    }

    /// Tells the result, the last message.
    pub async fn end(self, result: Result<JoinClusterResponse, Status>) {
        if let Err(status) = &result {
            tracing::error!(reason = status.message(), "join failed");
        }
        let _ = self.0.send(result).await;
    }
}
