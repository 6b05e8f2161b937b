//! One membership of one process group: a stream in each direction.

use membership_core::{
    cpg::GroupName,
    srp::Guarantee,
    stack::{ClientId, GroupEvent, LeaveReason},
};
use quorate_proto::membership::v1::{
    Delivery, GroupRequest, GroupResponse,
    group_request::{Join, Request},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{RESPONSES_MAX, ResponseStream, convert};
use crate::{
    error::Error,
    handle::{Events, RingHandle},
};

/// Largest message of a group member, as in corosync's CPG library.
const MESSAGE_MAX: usize = 1_047_552;

/// Joins as the first message says, then moves messages both ways until either side ends.
pub(super) async fn serve(
    ring: RingHandle,
    mut requests: Streaming<GroupRequest>,
) -> Result<ResponseStream<GroupResponse>, Status> {
    let join = match requests.message().await?.and_then(|first| first.request) {
        Some(Request::Join(join)) => join,
        _ => return Err(Error::Protocol("the first message of a group stream must be join").into()),
    };
    let (group, delivery) = check(&join)?;
    let (client, events) = ring.join(group, join.pid, delivery).await?;
    let (sender, receiver) = mpsc::channel(RESPONSES_MAX);
    tokio::spawn(async move {
        let reason = tokio::select! {
            () = forward(events, sender) => LeaveReason::ProcessDown,
            reason = take(&ring, client, requests) => reason,
        };
        ring.leave_group(client, reason).await;
    });
    Ok(ReceiverStream::new(receiver))
}

fn check(join: &Join) -> Result<(GroupName, Guarantee), Error> {
    let group = GroupName::new(join.group.as_bytes()).map_err(|_| Error::GroupName(join.group.len()))?;
    let delivery = match Delivery::try_from(join.delivery) {
        Ok(Delivery::Agreed) => Guarantee::Agreed,
        Ok(Delivery::Safe) => Guarantee::Safe,
        Ok(Delivery::Unspecified) | Err(_) => {
            return Err(Error::Protocol("join.delivery must be DELIVERY_AGREED or DELIVERY_SAFE"));
        }
    };
    Ok((group, delivery))
}

/// Hands batches to the member, until the ring or the member ends the stream.
async fn forward(mut events: Events<GroupEvent>, sender: mpsc::Sender<Result<GroupResponse, Status>>) {
    while let Some(batch) = events.recv().await {
        let ended = batch.is_err();
        let response = batch
            .map(|events| GroupResponse {
                events: events.into_iter().filter_map(convert::group_event).collect(),
            })
            .map_err(Status::from);
        if sender.send(response).await.is_err() || ended {
            return;
        }
    }
}

/// Takes messages from the member; says how it left.
async fn take(ring: &RingHandle, client: ClientId, mut requests: Streaming<GroupRequest>) -> LeaveReason {
    loop {
        match requests.message().await {
            Ok(Some(GroupRequest { request: Some(Request::Multicast(multicast)) })) => {
                if let Some(long) = multicast.payloads.iter().find(|payload| payload.len() > MESSAGE_MAX) {
                    tracing::warn!(
                        length = long.len(),
                        max = MESSAGE_MAX,
                        "a group member sent a message that is too long"
                    );
                    return LeaveReason::ProcessDown;
                }
                if ring.multicast(client, multicast.payloads).await.is_err() {
                    return LeaveReason::ProcessDown;
                }
            }
            // A second join or an empty request changes nothing.
            Ok(Some(_)) => {}
            Ok(None) => return LeaveReason::Leave,
            Err(_) => return LeaveReason::ProcessDown,
        }
    }
}
