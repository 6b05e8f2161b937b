//! The stream of an engine that takes part in the synchronisation from another process.

use quorate_proto::membership::v1::{
    AttachServiceRequest, AttachServiceResponse,
    attach_service_request::{Attach, Request},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{RESPONSES_MAX, ResponseStream, convert};
use crate::{
    error::Error,
    handle::{Events, RingHandle, ServiceEvent},
};

/// corosync's service id of votequorum: the only engine outside this process.
const VOTEQUORUM: u16 = 5;

/// Attaches as the first message says, then moves messages both ways until either side ends.
pub(super) async fn serve(
    ring: RingHandle,
    mut requests: Streaming<AttachServiceRequest>,
) -> Result<ResponseStream<AttachServiceResponse>, Status> {
    let service = match requests.message().await?.and_then(|first| first.request) {
        Some(Request::Attach(Attach { service })) => service,
        _ => return Err(Error::Protocol("the first message of a service stream must be attach").into()),
    };
    let service =
        u16::try_from(service).ok().filter(|&id| id == VOTEQUORUM).ok_or(Error::NotAttachable(service))?;
    let (attachment, events) = ring.attach(service).await?;
    let (sender, receiver) = mpsc::channel(RESPONSES_MAX);
    tokio::spawn(async move {
        tokio::select! {
            () = forward(events, sender) => {}
            () = take(&ring, service, attachment, requests) => {}
        }
        ring.detach(service, attachment).await;
    });
    Ok(ReceiverStream::new(receiver))
}

async fn forward(
    mut events: Events<ServiceEvent>,
    sender: mpsc::Sender<Result<AttachServiceResponse, Status>>,
) {
    while let Some(batch) = events.recv().await {
        let ended = batch.is_err();
        let response = batch
            .map(|events| AttachServiceResponse {
                events: events.into_iter().map(convert::service_event).collect(),
            })
            .map_err(Status::from);
        if sender.send(response).await.is_err() || ended {
            return;
        }
    }
}

async fn take(
    ring: &RingHandle,
    service: u16,
    attachment: u64,
    mut requests: Streaming<AttachServiceRequest>,
) {
    while let Ok(Some(request)) = requests.message().await {
        match request.request {
            Some(Request::SyncMessages(answer)) => {
                if let Some(id) = answer.ring {
                    ring.sync_messages(service, attachment, id.into(), answer.messages).await;
                }
            }
            Some(Request::Multicast(message)) => ring.service_multicast(service, attachment, message).await,
            // A second attach or an empty request changes nothing.
            Some(Request::Attach(_)) | None => {}
        }
    }
}
