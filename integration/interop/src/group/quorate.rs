//! A member of a group through membershipd's API.

use anyhow::Context as _;
use bytes::Bytes;
use quorate_proto::membership::v1::{
    Delivery, GroupRequest, GroupResponse, group_event::Event, group_request,
    membership_service_client::MembershipServiceClient,
};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{Message, Record};
use crate::{
    Node,
    payload::{hash, payload},
};

/// Requests that may wait for the daemon.
const REQUESTS_MAX: usize = 64;
/// Largest response: a batch of messages of 1 MiB each.
const RESPONSE_MAX: usize = 64 << 20;
/// Added to the node's id to make a process id that no test process has.
const PIDS: u32 = 5_000_000;

/// Joins a group: what is sent to it and what comes from it. It is left when the requests end.
///
/// # Errors
/// membershipd refuses.
pub async fn join(
    node: &Node,
    group: &str,
) -> anyhow::Result<(mpsc::Sender<GroupRequest>, Streaming<GroupResponse>)> {
    let (requests, stream) = mpsc::channel(REQUESTS_MAX);
    let join =
        group_request::Join { group: group.to_owned(), pid: pid(node), delivery: Delivery::Agreed.into() };
    requests.send(GroupRequest { request: Some(group_request::Request::Join(join)) }).await?;
    let client = MembershipServiceClient::new(node.channel("membershipd"));
    let mut client = client.max_decoding_message_size(RESPONSE_MAX);
    let responses = client.group(ReceiverStream::new(stream)).await?.into_inner();
    Ok((requests, responses))
}

/// A request that sends these messages.
#[must_use]
pub fn multicast(payloads: Vec<Bytes>) -> GroupRequest {
    let multicast = group_request::Multicast { payloads };
    GroupRequest { request: Some(group_request::Request::Multicast(multicast)) }
}

/// How many messages were delivered at once.
#[must_use]
pub fn messages(response: &GroupResponse) -> usize {
    response.events.iter().filter(|event| matches!(event.event, Some(Event::Message(_)))).count()
}

fn pid(node: &Node) -> u32 {
    PIDS + node.id()
}

/// The requests of a member.
pub(super) struct Client {
    requests: mpsc::Sender<GroupRequest>,
}

impl Client {
    pub(super) async fn join(
        node: &Node,
        group: &str,
        record: watch::Sender<Record>,
    ) -> anyhow::Result<(Self, u32)> {
        let (requests, responses) = join(node, group).await?;
        tokio::spawn(async move {
            if let Err(error) = follow(responses, &record).await {
                eprintln!("group stream: {error:#}");
            }
            record.send_modify(|record| record.ended = true);
        });
        Ok((Self { requests }, pid(node)))
    }

    pub(super) async fn send(&mut self, size: usize, seed: u64, count: u64) -> anyhow::Result<()> {
        for number in 0..count {
            let request = multicast(vec![payload(size, seed + number)]);
            self.requests.send(request).await.context("the group's stream has ended")?;
        }
        Ok(())
    }
}

async fn follow(
    mut responses: Streaming<GroupResponse>,
    record: &watch::Sender<Record>,
) -> anyhow::Result<()> {
    while let Some(response) = responses.message().await? {
        record.send_modify(|record| {
            for event in response.events.into_iter().filter_map(|event| event.event) {
                match event {
                    Event::Message(message) => {
                        let sender = message.sender.unwrap_or_default();
                        record.messages.push(Message {
                            node: sender.node_id,
                            pid: sender.pid,
                            length: message.payload.len(),
                            hash: hash(&message.payload),
                        });
                    }
                    Event::Members(members) => {
                        let members = members.members.iter().map(|process| (process.node_id, process.pid));
                        record.memberships.push(members.collect());
                    }
                    Event::Configuration(_) => {}
                }
            }
        });
    }
    Ok(())
}
