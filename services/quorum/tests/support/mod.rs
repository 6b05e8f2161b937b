//! A quorumd in this process, and a membershipd that does what the test says.

#![allow(clippy::unwrap_used, reason = "helpers of tests: a failure ends the test")]
// Each test file is a crate of its own and uses a part of this.
#![allow(dead_code)]

pub(crate) mod arbiter;

use std::{
    fs,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use quorate_daemon::{
    Daemon, Failure, NodeConfig, Root, Server, client::DaemonChannel, client::daemon_channel,
};
use quorate_proto::{
    membership::v1::{
        AttachServiceRequest, AttachServiceResponse, CheckConfigurationRequest, CheckConfigurationResponse,
        GetStatusRequest, GetStatusResponse, GroupRequest, GroupResponse, LeaveRequest, LeaveResponse,
        ListLinksRequest, ListLinksResponse, ListMembersRequest, ListMembersResponse, Member, ReloadRequest,
        ReloadResponse, ServiceEvent, WatchConfigurationsRequest, WatchConfigurationsResponse,
        attach_service_request::Request as Asked,
        membership_service_server::{MembershipService, MembershipServiceServer},
        service_event::{ConfigurationReloaded, Event, Message, RingDown, SyncActivated, SyncStarted},
    },
    quorum::v1::{
        GetStatusRequest as GetQuorum, QuorumStatus, WatchRequest, WatchResponse,
        quorum_service_client::QuorumServiceClient,
    },
    types::v1::RingId,
};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

/// How long a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// Awaits something that must happen.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

/// The text of a corosync.conf with these nodes (name, id, votes) and further lines of the quorum section.
pub(crate) fn corosync_conf(version: u64, nodes: &[(&str, u32, u32)], quorum: &str) -> String {
    let nodes: String = nodes
        .iter()
        .map(|(name, id, votes)| {
            format!(
                "  node {{\n    name: {name}\n    nodeid: {id}\n    quorum_votes: {votes}\n    \
                 ring0_addr: 10.0.0.{id}\n  }}\n"
            )
        })
        .collect();
    format!(
        "totem {{\n  version: 2\n  cluster_name: demo\n  config_version: {version}\n}}\n\
         nodelist {{\n{nodes}}}\nquorum {{\n  provider: corosync_votequorum\n{quorum}}}\n"
    )
}

/// Three nodes with one vote each.
pub(crate) fn three_nodes() -> String {
    corosync_conf(7, &[("hp1", 1, 1), ("hp2", 2, 1), ("hp3", 3, 1)], "")
}

/// A node with a quorumd and a scripted membershipd.
pub(crate) struct Node {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) daemon: Daemon,
    membershipd: Daemon,
    attachments: mpsc::UnboundedReceiver<Attached>,
    pub(crate) members: Arc<Mutex<Vec<Member>>>,
    ended: Option<JoinHandle<Result<(), Failure>>>,
}

impl Node {
    /// hp1, with this corosync.conf or in no cluster.
    pub(crate) fn start(conf: Option<&str>) -> Self {
        Self::start_as("hp1", conf)
    }

    /// The same for a node of another name.
    pub(crate) fn start_as(name: &str, conf: Option<&str>) -> Self {
        let named = name;
        let dir = tempfile::tempdir().unwrap();
        let daemon_named =
            |name| Daemon::new(name, Root::new(dir.path()), NodeConfig::named(named.parse().unwrap()));
        let (daemon, membershipd) = (daemon_named(quorumd::NAME), daemon_named("membershipd"));
        let (attached, attachments) = mpsc::unbounded_channel();
        let members = Arc::default();
        let scripted = Scripted { attached, members: Arc::clone(&members) };
        let server = Server::new(&membershipd).service(MembershipServiceServer::new(scripted));
        tokio::spawn(server.bind(&membershipd.socket()).unwrap().serve(membershipd.shutdown.clone()));
        let mut node = Self { dir, daemon, membershipd, attachments, members, ended: None };
        if let Some(conf) = conf {
            node.write_conf(conf);
        }
        node.start_quorumd();
        node
    }

    /// Stops membershipd and waits until nobody listens any more.
    pub(crate) async fn stop_membershipd(&mut self) {
        self.membershipd.shutdown.cancel();
        let gone = async {
            while self.membershipd.socket().exists() {
                tokio::task::yield_now().await;
            }
        };
        soon("membershipd ends", gone).await;
    }

    pub(crate) fn start_quorumd(&mut self) {
        self.daemon = Daemon::new(quorumd::NAME, self.daemon.root.clone(), self.daemon.node.clone());
        self.ended = Some(tokio::spawn(quorumd::run(self.daemon.clone())));
    }

    /// Stops quorumd as SIGTERM does; returns how it ended.
    pub(crate) async fn stop_quorumd(&mut self) -> Result<(), Failure> {
        self.daemon.shutdown.cancel();
        soon("quorumd ends", self.ended.take().unwrap()).await.unwrap()
    }

    /// How quorumd ended by itself.
    pub(crate) async fn ended(&mut self) -> Result<(), Failure> {
        self.ended.take().unwrap().await.unwrap()
    }

    pub(crate) fn write_conf(&self, text: &str) {
        let path = self.daemon.root.corosync_conf();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn channel(&self) -> DaemonChannel {
        daemon_channel(&self.daemon.root, quorumd::NAME)
    }

    pub(crate) fn client(&self) -> QuorumServiceClient<DaemonChannel> {
        QuorumServiceClient::new(self.channel())
    }

    pub(crate) async fn status(&self) -> QuorumStatus {
        self.client().get_status(GetQuorum {}).await.unwrap().into_inner().status.unwrap()
    }

    pub(crate) async fn watch(&self) -> Watch {
        let mut client = self.client();
        let states = soon("quorumd answers", async {
            loop {
                match client.watch(WatchRequest {}).await {
                    Ok(states) => return states.into_inner(),
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        });
        Watch { states: states.await, seen: Vec::new() }
    }

    /// Waits until quorumd attaches.
    pub(crate) async fn attached(&mut self) -> Attached {
        soon("quorumd attaches", self.attachments.recv()).await.unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.daemon.shutdown.cancel();
        self.membershipd.shutdown.cancel();
    }
}

/// A stream of states.
pub(crate) struct Watch {
    states: Streaming<WatchResponse>,
    seen: Vec<QuorumStatus>,
}

impl Watch {
    /// The next state.
    pub(crate) async fn next(&mut self) -> Result<QuorumStatus, Status> {
        let state = soon("a state is published", self.states.message()).await?;
        let state = state.expect("the stream goes on").status.unwrap();
        self.seen.push(state.clone());
        Ok(state)
    }

    /// The first state from now on for which this is true.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&QuorumStatus) -> bool) -> QuorumStatus {
        let found = timeout(PATIENCE, async {
            loop {
                let state = self.next().await.unwrap();
                if wanted(&state) {
                    return state;
                }
            }
        });
        match found.await {
            Ok(state) => state,
            Err(_) => panic!("none of these was it: {:#?}", self.seen),
        }
    }
}

/// The other end of quorumd's link.
pub(crate) struct Attached {
    requests: Streaming<AttachServiceRequest>,
    events: mpsc::Sender<Result<AttachServiceResponse, Status>>,
}

impl Attached {
    pub(crate) async fn request(&mut self) -> Option<Asked> {
        let request = soon("quorumd sends", self.requests.message()).await;
        request.ok().flatten().map(|request| request.request.unwrap())
    }

    pub(crate) async fn send(&self, events: Vec<Event>) {
        let events = events.into_iter().map(|event| ServiceEvent { event: Some(event) }).collect();
        self.events.send(Ok(AttachServiceResponse { events })).await.expect("quorumd is attached");
    }

    /// A whole synchronisation of a ring with these nodes (id, votes, expected votes), the first of them
    /// quorumd's own.
    pub(crate) async fn form_ring(&mut self, seq: u64, members: &[(u32, u32, u32)]) {
        self.form_ring_of(seq, members[0].0, members).await;
    }

    /// The same for a ring whose representative is another node.
    pub(crate) async fn form_ring_of(&mut self, seq: u64, rep: u32, members: &[(u32, u32, u32)]) {
        let ring = Some(RingId { rep, seq });
        let ids: Vec<u32> = members.iter().map(|member| member.0).collect();
        let started = SyncStarted { ring, members: ids.clone(), transitional: vec![ids[0]] };
        self.send(vec![Event::SyncStarted(started)]).await;
        let own = loop {
            match self.request().await.expect("the answer to the start of the synchronisation") {
                Asked::SyncMessages(own) if own.ring == ring => break own.messages,
                _ => {}
            }
        };
        let mut events: Vec<_> = own.into_iter().map(|message| message_event(ids[0], message)).collect();
        for (id, votes, expected) in &members[1..] {
            events.push(message_event(*id, nodeinfo(*id, *votes, *expected, 0)));
            events.push(message_event(*id, nodeinfo(0, 0, 0, 0)));
        }
        events.push(Event::SyncActivated(SyncActivated { ring }));
        self.send(events).await;
    }

    /// Another member had all nodes read corosync.conf again.
    pub(crate) async fn configuration_reloaded(&self) {
        self.send(vec![Event::ConfigurationReloaded(ConfigurationReloaded::default())]).await;
    }

    pub(crate) async fn ring_down(&self) {
        self.send(vec![Event::RingDown(RingDown::default())]).await;
    }

    /// Hands quorumd's next multicast back to it, as the ring does.
    pub(crate) async fn deliver_next_multicast(&mut self, from: u32) -> Bytes {
        loop {
            if let Asked::Multicast(message) = self.request().await.expect("a multicast") {
                self.send(vec![message_event(from, message.clone())]).await;
                return message;
            }
        }
    }
}

fn message_event(from: u32, message: Bytes) -> Event {
    Event::Message(Message { from, message })
}

/// votequorum's nodeinfo as on the wire. Source: corosync services specification, 3.1.
pub(crate) fn nodeinfo(node: u32, votes: u32, expected: u32, flags: u32) -> Bytes {
    let mut message = Vec::new();
    for field in [0x0005_0000_u32, 0, 32, 0, node, votes, expected, flags] {
        message.extend(field.to_le_bytes());
    }
    message.into()
}

/// membershipd, as far as quorumd uses it.
struct Scripted {
    attached: mpsc::UnboundedSender<Attached>,
    members: Arc<Mutex<Vec<Member>>>,
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl MembershipService for Scripted {
    async fn list_members(
        &self,
        _: Request<ListMembersRequest>,
    ) -> Result<Response<ListMembersResponse>, Status> {
        Ok(Response::new(ListMembersResponse { members: self.members.lock().unwrap().clone() }))
    }

    type AttachServiceStream = Responses<AttachServiceResponse>;

    async fn attach_service(
        &self,
        request: Request<Streaming<AttachServiceRequest>>,
    ) -> Result<Response<Self::AttachServiceStream>, Status> {
        let mut requests = request.into_inner();
        let first = requests.message().await?.and_then(|request| request.request);
        assert!(matches!(first, Some(Asked::Attach(attach)) if attach.service == 5), "votequorum attaches");
        let (events, responses) = mpsc::channel(16);
        self.attached.send(Attached { requests, events }).expect("the test waits");
        let responses =
            ReceiverStream::new(responses).chain(tokio_stream::once(Err(Status::unavailable("gone"))));
        Ok(Response::new(Box::pin(responses)))
    }

    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn list_links(&self, _: Request<ListLinksRequest>) -> Result<Response<ListLinksResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    type WatchConfigurationsStream = Responses<WatchConfigurationsResponse>;

    async fn watch_configurations(
        &self,
        _: Request<WatchConfigurationsRequest>,
    ) -> Result<Response<Self::WatchConfigurationsStream>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    type GroupStream = Responses<GroupResponse>;

    async fn group(
        &self,
        _: Request<Streaming<GroupRequest>>,
    ) -> Result<Response<Self::GroupStream>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn reload(&self, _: Request<ReloadRequest>) -> Result<Response<ReloadResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn check_configuration(
        &self,
        _: Request<CheckConfigurationRequest>,
    ) -> Result<Response<CheckConfigurationResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn leave(&self, _: Request<LeaveRequest>) -> Result<Response<LeaveResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }
}
