//! The link to membershipd: votequorum's part in the ring's synchronisation, over a gRPC stream.
//!
//! The link is kept up for good. What it says arrives at the driver in order: attached, then events,
//! then lost; and so on from the beginning. membershipd repeats to a late attachment what the engine
//! has missed of the present ring.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures_util::future::OptionFuture;
use quorate_daemon::{
    backoff::Backoff,
    client::{DEADLINE, DaemonChannel, deadline},
    telemetry::chain,
};
use quorate_proto::membership::v1::{
    AttachServiceRequest, AttachServiceResponse, ListMembersRequest, Member, ServiceEvent,
    attach_service_request::{Attach, Request, SyncMessages},
    membership_service_client::MembershipServiceClient,
    service_event::Event,
};
use quorate_types::{NodeId, RingId};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Status, Streaming};

/// corosync's number of the votequorum service.
const VOTEQUORUM: u32 = 5;

/// Messages that may wait for membershipd. A synchronisation needs two and each operator's command one:
/// more than this means that membershipd no longer reads.
const OUTGOING_MAX: usize = 64;

/// What the link tells the driver.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// membershipd takes messages from now on.
    Attached(Attachment),
    /// What one token visit brought, in the ring's order.
    Ring(Vec<RingEvent>),
    /// How nodes were last seen by membershipd: asked for after each synchronisation.
    Members(Vec<Departure>),
    /// The link broke; nothing is known about the ring any more. Why, in a few words.
    Lost(String),
}

/// Something that happened in the ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RingEvent {
    /// A new configuration; votequorum's messages for it are awaited.
    SyncStarted {
        /// The new ring.
        ring: RingId,
        /// Its members, ascending.
        members: Vec<NodeId>,
        /// Those that came along from this node's previous ring.
        transitional: Vec<NodeId>,
    },
    /// A complete message of votequorum.
    Message {
        /// Its sender.
        from: NodeId,
        /// Its bytes, header included.
        message: Bytes,
    },
    /// The ring is synchronised.
    SyncActivated {
        /// The ring.
        ring: RingId,
    },
    /// The ring changed again before it was synchronised.
    SyncAborted,
    /// This node has no ring.
    RingDown {
        /// Why; empty if it is not known.
        reason: String,
    },
    /// Another member had all nodes read corosync.conf again.
    ConfigurationReloaded,
}

/// How a node that is not in the ring left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Departure {
    /// The node.
    pub(crate) node: NodeId,
    /// Whether it said good-bye.
    pub(crate) left_cleanly: bool,
}

/// The way to membershipd while the link stands. Dropping it ends the link, which then begins anew.
#[derive(Debug)]
pub(crate) struct Attachment {
    outgoing: mpsc::Sender<AttachServiceRequest>,
    _detach: DropGuard,
}

/// membershipd does not take messages: the attachment is of no use any more.
#[derive(Debug, thiserror::Error)]
#[error("membershipd does not read what is sent to it")]
pub(crate) struct NotRead;

impl Attachment {
    /// Answers [`RingEvent::SyncStarted`].
    pub(crate) fn sync_messages(&self, ring: RingId, messages: Vec<Bytes>) -> Result<(), NotRead> {
        self.send(Request::SyncMessages(SyncMessages { ring: Some(ring.into()), messages }))
    }

    /// Sends one complete message in the ring's order.
    pub(crate) fn multicast(&self, message: Bytes) -> Result<(), NotRead> {
        self.send(Request::Multicast(message))
    }

    fn send(&self, request: Request) -> Result<(), NotRead> {
        self.outgoing.try_send(AttachServiceRequest { request: Some(request) }).map_err(|_| NotRead)
    }
}

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("membershipd is not reachable")]
    Attach(#[source] Said),
    #[error("membershipd did not answer within {DEADLINE:?}")]
    AttachTimeout,
    #[error("the link to membershipd broke")]
    Broken(#[source] Said),
    #[error("membershipd ended the link")]
    Ended,
    #[error("membershipd sent an event that makes no sense: {0}")]
    BadEvent(&'static str),
    #[error("the driver asked for a new link")]
    Detached,
    #[error("the driver is gone")]
    DriverGone,
}

/// What a status says to people; its code goes without saying here.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Said(String);

impl From<Status> for Said {
    fn from(status: Status) -> Self {
        let told = status.message();
        Self(if told.is_empty() { status.code().description() } else { told }.to_owned())
    }
}

/// Keeps the link up as long as there is a driver. The driver's last messages are still sent.
pub(crate) async fn keep_attached(
    channel: DaemonChannel,
    driver: mpsc::Sender<LinkEvent>,
    shutdown: CancellationToken,
) {
    let mut backoff = Backoff::new();
    loop {
        let reason = match attach(channel.clone(), &driver).await {
            LinkError::DriverGone => return,
            err => chain(&err),
        };
        tracing::debug!(reason, "not attached to membershipd");
        if driver.send(LinkEvent::Lost(reason)).await.is_err() || !backoff.wait(&shutdown).await {
            return;
        }
    }
}

/// Attaches and hands over events until the link ends.
async fn attach(channel: DaemonChannel, driver: &mpsc::Sender<LinkEvent>) -> LinkError {
    let mut client = MembershipServiceClient::new(channel);
    let opened = tokio::select! {
        opened = open(&mut client) => opened,
        () = driver.closed() => return LinkError::DriverGone,
    };
    let (attachment, mut events, detached) = match opened {
        Ok(opened) => opened,
        Err(err) => return err,
    };
    if let Err(err) = tell(driver, LinkEvent::Attached(attachment)).await {
        return err;
    }
    let Err(ended) = hand_over(client, &mut events, driver, &detached).await;
    if matches!(ended, LinkError::Detached | LinkError::DriverGone) {
        // The driver has dropped its end; what it has sent before must not be cut off.
        let drained = async { while let Ok(Some(_)) = events.message().await {} };
        let _ = tokio::time::timeout(DETACH_DEADLINE, drained).await;
    }
    ended
}

/// Time for membershipd to take the last messages before a link is given up.
const DETACH_DEADLINE: Duration = Duration::from_secs(1);

type Opened = (Attachment, Streaming<AttachServiceResponse>, CancellationToken);

async fn open(client: &mut MembershipServiceClient<DaemonChannel>) -> Result<Opened, LinkError> {
    let (outgoing, requests) = mpsc::channel(OUTGOING_MAX);
    let attach = Request::Attach(Attach { service: VOTEQUORUM });
    let first = AttachServiceRequest { request: Some(attach) };
    outgoing.try_send(first).expect("the channel is empty and has a receiver");
    let answer = client.attach_service(ReceiverStream::new(requests));
    let answer = tokio::time::timeout(DEADLINE, answer).await.map_err(|_| LinkError::AttachTimeout)?;
    let events = answer.map_err(|status| LinkError::Attach(status.into()))?.into_inner();
    let detached = CancellationToken::new();
    let attachment = Attachment { outgoing, _detach: detached.clone().drop_guard() };
    Ok((attachment, events, detached))
}

async fn hand_over(
    client: MembershipServiceClient<DaemonChannel>,
    events: &mut Streaming<AttachServiceResponse>,
    driver: &mpsc::Sender<LinkEvent>,
    detached: &CancellationToken,
) -> Result<Infallible, LinkError> {
    let mut members = OptionFuture::from(None);
    loop {
        tokio::select! {
            batch = events.message() => {
                let batch = batch.map_err(|status| LinkError::Broken(status.into()))?;
                let batch = batch.ok_or(LinkError::Ended)?.events;
                let batch = batch.into_iter().map(ring_event).collect::<Result<Vec<_>, _>>()?;
                if batch.iter().any(|event| matches!(event, RingEvent::SyncActivated { .. })) {
                    members = Some(Box::pin(departures(client.clone()))).into();
                }
                tell(driver, LinkEvent::Ring(batch)).await?;
            }
            Some(answer) = &mut members => {
                members = None.into();
                match answer {
                    Ok(departures) => tell(driver, LinkEvent::Members(departures)).await?,
                    Err(status) => tracing::debug!(%status, "how nodes left is not known"),
                }
            }
            () = detached.cancelled() => return Err(LinkError::Detached),
        }
    }
}

async fn tell(driver: &mpsc::Sender<LinkEvent>, event: LinkEvent) -> Result<(), LinkError> {
    driver.send(event).await.map_err(|_| LinkError::DriverGone)
}

/// Time for a question whose answer only makes a sentence more precise.
const MEMBERS_DEADLINE: Duration = Duration::from_secs(2);

async fn departures(mut client: MembershipServiceClient<DaemonChannel>) -> Result<Vec<Departure>, Status> {
    let answer = client.list_members(deadline(ListMembersRequest {}, MEMBERS_DEADLINE)).await?.into_inner();
    Ok(answer.members.iter().filter_map(departure).collect())
}

fn departure(member: &Member) -> Option<Departure> {
    let node = NodeId::new(member.node_id).ok()?;
    (!member.online).then_some(Departure { node, left_cleanly: member.left_cleanly })
}

fn ring_event(event: ServiceEvent) -> Result<RingEvent, LinkError> {
    match event.event.ok_or(LinkError::BadEvent("no event"))? {
        Event::SyncStarted(started) => Ok(RingEvent::SyncStarted {
            ring: ring_id(started.ring)?,
            members: node_ids(&started.members)?,
            transitional: node_ids(&started.transitional)?,
        }),
        Event::Message(message) => {
            Ok(RingEvent::Message { from: node_id(message.from)?, message: message.message })
        }
        Event::SyncActivated(activated) => Ok(RingEvent::SyncActivated { ring: ring_id(activated.ring)? }),
        Event::SyncAborted(_) => Ok(RingEvent::SyncAborted),
        Event::RingDown(down) => Ok(RingEvent::RingDown { reason: down.reason }),
        Event::ConfigurationReloaded(_) => Ok(RingEvent::ConfigurationReloaded),
    }
}

fn ring_id(ring: Option<quorate_proto::types::v1::RingId>) -> Result<RingId, LinkError> {
    ring.map(RingId::from).ok_or(LinkError::BadEvent("no ring"))
}

fn node_id(id: u32) -> Result<NodeId, LinkError> {
    NodeId::new(id).map_err(|_| LinkError::BadEvent("node id 0"))
}

fn node_ids(ids: &[u32]) -> Result<Vec<NodeId>, LinkError> {
    ids.iter().copied().map(node_id).collect()
}

#[cfg(test)]
mod tests {
    use quorate_proto::membership::v1::service_event::{Message, SyncStarted};

    use super::*;

    #[test]
    fn events_without_what_they_need_are_refused() {
        let bad = [
            None,
            Some(Event::SyncStarted(SyncStarted { ring: None, members: vec![1], transitional: vec![] })),
            Some(Event::Message(Message { from: 0, message: Bytes::new() })),
        ];

        for event in bad {
            assert!(matches!(ring_event(ServiceEvent { event }), Err(LinkError::BadEvent(_))));
        }
    }

    #[test]
    fn only_nodes_that_are_gone_have_departed() {
        let member = |online| Member { node_id: 2, online, left_cleanly: true, ..Member::default() };

        assert_eq!(departure(&member(true)), None);
        assert!(departure(&member(false)).is_some_and(|departure| departure.left_cleanly));
    }
}
