//! The process groups of all configd processes, through membershipd: one of the replicas, one of the status stores.
//!
//! A task for each keeps the stream open: it connects, joins, hands batches over, and tells when the stream is lost. What
//! was to be sent on a lost stream is lost with it; who is above starts afresh with the next one.

use std::sync::Arc;

use bytes::Bytes;
use quorate_daemon::{backoff::Backoff, client::DaemonChannel};
use quorate_proto::membership::v1::{
    Delivery, GroupEvent, GroupRequest, group_request, membership_service_client::MembershipServiceClient,
};
use tokio::sync::{Notify, mpsc};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;

/// Name of the replicas' group. The number changes when its messages do.
pub(crate) const CONFIG_GROUP: &str = "quorate_config_v1";
/// Name of the status stores' group.
pub(crate) const STATUS_GROUP: &str = "quorate_status_v1";
/// Batches that may wait between the stream and who is above, either way.
const BATCHES_MAX: usize = 256;
/// Messages of one multicast request, so that no request exceeds what membershipd takes.
const MESSAGES_PER_REQUEST: usize = 32;
/// Largest gRPC message: a batch of what one token visit delivers.
const RESPONSE_MAX: usize = 64 << 20;
/// What a group tells who is above.
#[derive(Debug)]
pub(crate) enum GroupInput {
    /// A stream is open: messages go here.
    Joined(mpsc::UnboundedSender<Vec<Bytes>>),
    /// What one token visit delivered.
    Batch(Vec<GroupEvent>),
    /// The stream is lost.
    Lost,
}

/// Keeps the group joined until shutdown; `rejoin` ends the present membership and begins another.
pub(crate) async fn keep_joined(
    group: &'static str,
    channel: DaemonChannel,
    inputs: mpsc::Sender<GroupInput>,
    rejoin: Arc<Notify>,
    shutdown: CancellationToken,
) {
    let mut backoff = Backoff::new();
    loop {
        let outcome = tokio::select! {
            outcome = join_once(group, channel.clone(), &inputs) => outcome,
            () = rejoin.notified() => Ok(()),
            () = shutdown.cancelled() => return,
        };
        match outcome {
            Ok(()) => tracing::info!(group, "the group's stream ended"),
            Err(status) => {
                tracing::debug!(group, code = ?status.code(), message = status.message(), "the group's stream is lost")
            }
        }
        if inputs.send(GroupInput::Lost).await.is_err() {
            return;
        }
        if !backoff.wait(&shutdown).await {
            return;
        }
    }
}

async fn join_once(
    group: &'static str,
    channel: DaemonChannel,
    inputs: &mpsc::Sender<GroupInput>,
) -> Result<(), tonic::Status> {
    let (requests, request_stream) = mpsc::channel(BATCHES_MAX);
    let join = group_request::Join {
        group: group.to_owned(),
        pid: std::process::id(),
        delivery: Delivery::Agreed.into(),
    };
    // The channel is new and has room.
    let _ = requests.try_send(GroupRequest { request: Some(group_request::Request::Join(join)) });
    let mut client = MembershipServiceClient::new(channel)
        .max_decoding_message_size(RESPONSE_MAX)
        .max_encoding_message_size(RESPONSE_MAX);
    let mut responses = client.group(ReceiverStream::new(request_stream)).await?.into_inner();
    // Unbounded, but what is in it is bounded by who sends: the replica and the status store
    // hold back what exceeds their windows.
    let (messages, mut outgoing) = mpsc::unbounded_channel();
    if inputs.send(GroupInput::Joined(messages)).await.is_err() {
        return Ok(());
    }
    let forward = async {
        while let Some(batch) = outgoing.recv().await {
            for part in batch.chunks(MESSAGES_PER_REQUEST) {
                let multicast = group_request::Multicast { payloads: part.to_vec() };
                let request = GroupRequest { request: Some(group_request::Request::Multicast(multicast)) };
                if requests.send(request).await.is_err() {
                    return;
                }
            }
        }
    };
    let receive = async {
        while let Some(response) = responses.next().await {
            if inputs.send(GroupInput::Batch(response?.events)).await.is_err() {
                break;
            }
        }
        Ok(())
    };
    tokio::select! {
        () = forward => Ok(()),
        received = receive => received,
    }
}
