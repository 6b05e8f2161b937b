//! The votes, through quorumd: whether this replica may write, and how many disks a write needs.

use quorate_daemon::{backoff::Backoff, client::DaemonChannel};
use quorate_proto::quorum::v1::{QuorumStatus, WatchRequest, quorum_service_client::QuorumServiceClient};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;

/// Hands every state of the votes to the driver, `None` while quorumd cannot be asked, until shutdown.
pub(crate) async fn keep_watching(
    channel: DaemonChannel,
    inputs: mpsc::Sender<Option<QuorumStatus>>,
    shutdown: CancellationToken,
) {
    let mut backoff = Backoff::new();
    loop {
        let outcome = tokio::select! {
            outcome = watch_once(channel.clone(), &inputs) => outcome,
            () = shutdown.cancelled() => return,
        };
        if let Err(status) = outcome {
            tracing::debug!(code = ?status.code(), message = status.message(), "the votes cannot be watched");
        }
        if inputs.send(None).await.is_err() {
            return;
        }
        if !backoff.wait(&shutdown).await {
            return;
        }
    }
}

async fn watch_once(
    channel: DaemonChannel,
    inputs: &mpsc::Sender<Option<QuorumStatus>>,
) -> Result<(), tonic::Status> {
    let mut client = QuorumServiceClient::new(channel);
    let mut states = client.watch(WatchRequest {}).await?.into_inner();
    while let Some(state) = states.next().await {
        if inputs.send(state?.status).await.is_err() {
            break;
        }
    }
    Ok(())
}
