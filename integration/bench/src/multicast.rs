//! Group messages: one sender, a receiver on every node, latencies of the sender's own messages.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use playground::{Node, Playground};
use quorate_daemon::client::daemon_channel;
use quorate_proto::membership::v1::{
    Delivery, GroupRequest, GroupResponse, group_event::Event, group_request,
    membership_service_client::MembershipServiceClient,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::report::Latencies;

const REQUESTS_MAX: usize = 1024;
const JOIN_DEADLINE: Duration = Duration::from_secs(10);
const MESSAGE_MAX: usize = 64 << 20;

/// How many messages of which size, how many of them at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) count: usize,
    pub(crate) window: usize,
    pub(crate) size: usize,
}

struct Member {
    requests: mpsc::Sender<GroupRequest>,
    responses: Streaming<GroupResponse>,
}

pub(crate) async fn run(playground: &Playground, node: &str, load: Load) -> anyhow::Result<()> {
    let sender = playground.node(node)?;
    let mut receivers = Vec::new();
    for other in playground.nodes().iter().filter(|other| other.name() != node) {
        let mut member = join(other).await?;
        receivers.push(tokio::spawn(async move {
            // Held to the end: the group is left when the requests end.
            let _requests = &member.requests;
            let mut count = 0;
            while count < load.count {
                let Some(response) = member.responses.message().await? else {
                    bail!("a receiver lost its stream")
                };
                count += messages(&response);
            }
            Ok(())
        }));
    }
    let mut member = join(sender).await?;
    let begun = Instant::now();
    let latencies = send(&mut member, load).await?;
    latencies.print(&format!("multicast of {} bytes, {} under way", load.size, load.window), begun.elapsed());
    for receiver in receivers {
        receiver.await??;
    }
    println!(
        "delivered on all {} nodes after {:.2} s",
        playground.nodes().len(),
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

async fn join(node: &Node) -> anyhow::Result<Member> {
    let (requests, stream) = mpsc::channel(REQUESTS_MAX);
    let join = group_request::Join {
        group: "bench".to_owned(),
        pid: std::process::id(),
        delivery: Delivery::Agreed.into(),
    };
    requests.send(GroupRequest { request: Some(group_request::Request::Join(join)) }).await?;
    let channel = daemon_channel(node.root(), "membershipd");
    let mut client = MembershipServiceClient::new(channel).max_decoding_message_size(MESSAGE_MAX);
    let mut responses = client.group(ReceiverStream::new(stream)).await?.into_inner();
    let joined = async {
        loop {
            let response = responses.message().await?.context("the stream ended before the join")?;
            if response.events.iter().any(|event| matches!(event.event, Some(Event::Members(_)))) {
                return anyhow::Ok(());
            }
        }
    };
    tokio::time::timeout(JOIN_DEADLINE, joined).await.context("joining took too long")??;
    Ok(Member { requests, responses })
}

async fn send(member: &mut Member, load: Load) -> anyhow::Result<Latencies> {
    let payload = Bytes::from(vec![b'x'; load.size]);
    let mut under_way = VecDeque::new();
    let mut latencies = Latencies::new();
    let (mut sent, mut received) = (0, 0);
    while received < load.count {
        let room = (load.window - under_way.len()).min(load.count - sent);
        if room > 0 {
            let multicast = group_request::Multicast { payloads: vec![payload.clone(); room] };
            under_way.extend(std::iter::repeat_n(Instant::now(), room));
            sent += room;
            member
                .requests
                .send(GroupRequest { request: Some(group_request::Request::Multicast(multicast)) })
                .await?;
        }
        let response = member.responses.message().await?.context("the sender lost its stream")?;
        for _ in 0..messages(&response) {
            received += 1;
            if let Some(begun) = under_way.pop_front() {
                latencies.record(begun.elapsed());
            }
        }
    }
    Ok(latencies)
}

fn messages(response: &GroupResponse) -> usize {
    response.events.iter().filter(|event| matches!(event.event, Some(Event::Message(_)))).count()
}
