//! Pretended membershipd, quorumd and configd on real Unix sockets.

use std::{
    collections::BTreeSet,
    pin::Pin,
    sync::{Arc, Mutex},
};

use corosync_conf::ClusterConf;
use futures_util::{Stream, StreamExt as _};
use quorate_daemon::{Daemon, NodeConfig, Root, Server, status};
use quorate_proto::{
    config::v1::{self as config, config_service_server as config_server, get_status_response::State},
    membership::v1::{self as membership, RingState, membership_service_server as membership_server},
    quorum::v1::{self as quorum, QuorumNode, quorum_node, quorum_service_server as quorum_server},
};
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming};

use super::{FakeTree, World, lock};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Answer<T> = Result<Response<T>, Status>;

/// One node's pretended daemons.
#[derive(Clone)]
struct Fake {
    world: Arc<World>,
    name: &'static str,
    root: Root,
    own_tree: Arc<Mutex<FakeTree>>,
}

pub(super) fn start(
    world: &Arc<World>,
    name: &'static str,
    root: &Root,
    own_tree: &Arc<Mutex<FakeTree>>,
    shutdown: &CancellationToken,
) {
    let fake = Fake { world: world.clone(), name, root: root.clone(), own_tree: own_tree.clone() };
    let daemon = |daemon| Daemon::new(daemon, root.clone(), NodeConfig::named(name.parse().unwrap()));
    let serve = |daemon: &Daemon, server: Server| {
        let health = server.health();
        let bound = server.bind(&daemon.socket()).unwrap();
        let (service, shutdown) = (service_of(daemon.name), shutdown.clone());
        tokio::spawn(async move {
            let served = bound.serve(shutdown);
            health.set(service, true).await;
            served.await
        });
    };
    let d = daemon("membershipd");
    serve(&d, Server::new(&d).service(membership_server::MembershipServiceServer::new(fake.clone())));
    let d = daemon("quorumd");
    serve(&d, Server::new(&d).service(quorum_server::QuorumServiceServer::new(fake.clone())));
    let d = daemon("configd");
    serve(&d, Server::new(&d).service(config_server::ConfigServiceServer::new(fake)));
}

fn service_of(daemon: &str) -> &'static str {
    match daemon {
        "membershipd" => "quorate.membership.v1.MembershipService",
        "quorumd" => "quorate.quorum.v1.QuorumService",
        _ => "quorate.config.v1.ConfigService",
    }
}

impl Fake {
    fn has_conf(&self) -> bool {
        self.root.corosync_conf().exists()
    }

    /// The cluster's tree for a member, else its own.
    fn tree(&self) -> Arc<Mutex<FakeTree>> {
        if self.has_conf() { self.world.cluster_tree.clone() } else { self.own_tree.clone() }
    }

    fn conf(&self) -> Option<ClusterConf> {
        let tree = self.tree();
        let content = lock(&tree).entries.get("corosync.conf")?.0.clone()?;
        ClusterConf::parse(std::str::from_utf8(&content).ok()?).ok()
    }

    fn reload_ring(&self) {
        let reachable = !lock(&self.world.cut_off).contains(self.name);
        if self.has_conf() && reachable {
            lock(&self.world.ring).insert(self.name.to_owned());
        } else {
            lock(&self.world.ring).remove(self.name);
        }
        self.world.changed.send_modify(|count| *count += 1);
    }

    fn votes(&self) -> quorum::QuorumStatus {
        let Some(conf) = self.conf().filter(|_| self.has_conf()) else { return Default::default() };
        let ring: BTreeSet<String> = lock(&self.world.ring).clone();
        let in_ring = ring.contains(self.name);
        let online = |name: &str| in_ring && ring.contains(name);
        let total = conf.nodes.iter().filter(|n| online(n.name.as_str())).map(|n| n.votes).sum();
        let expected = conf.expected_votes();
        let needed = expected / 2 + 1;
        let state = |name: &str| {
            if online(name) { quorum_node::State::Member } else { quorum_node::State::Unseen }
        };
        quorum::QuorumStatus {
            quorate: total >= needed,
            expected_votes: expected,
            total_votes: total,
            quorum: needed,
            ring_present: in_ring,
            node_id: conf.node_named(self.name).map_or(0, |node| node.id.get()),
            nodes: conf
                .nodes
                .iter()
                .map(|node| QuorumNode {
                    node_id: node.id.get(),
                    name: node.name.to_string(),
                    address: node.addresses[&0].clone(),
                    votes: node.votes,
                    state: state(node.name.as_str()).into(),
                    ..QuorumNode::default()
                })
                .collect(),
            ..Default::default()
        }
    }

    fn ring(&self) -> membership::GetStatusResponse {
        let ring = lock(&self.world.ring).clone();
        let conf = self.conf().filter(|_| ring.contains(self.name));
        let Some(conf) = conf else {
            return membership::GetStatusResponse { state: RingState::Down.into(), ..Default::default() };
        };
        let members = conf.nodes.iter().filter(|node| ring.contains(node.name.as_str()));
        membership::GetStatusResponse {
            state: RingState::Operational.into(),
            synchronised: true,
            node_id: conf.node_named(self.name).map_or(0, |node| node.id.get()),
            members: members.map(|node| node.id.get()).collect(),
            ..Default::default()
        }
    }

    /// Something whenever the world changes, at first at once.
    fn watch<T: Send + 'static>(&self, now: impl Fn(&Self) -> T + Send + 'static) -> Answers<T> {
        let fake = self.clone();
        Box::pin(WatchStream::new(self.world.changed.subscribe()).map(move |_| Ok(now(&fake))))
    }
}

fn mismatch(path: &str) -> Status {
    status::error(Code::Aborted, "VERSION_MISMATCH", format!("{path} was changed"), [("path", path)])
}

#[tonic::async_trait]
impl config_server::ConfigService for Fake {
    async fn get(&self, request: Request<config::GetRequest>) -> Answer<config::GetResponse> {
        let path = request.into_inner().path;
        let tree = self.tree();
        let tree = lock(&tree);
        match tree.entries.get(&path) {
            Some((Some(content), version)) => {
                let entry = config::Entry { path, version: *version, ..Default::default() };
                Ok(Response::new(config::GetResponse { entry: Some(entry), content: content.clone() }))
            }
            _ => Err(Status::not_found(path)),
        }
    }

    async fn put(&self, request: Request<config::PutRequest>) -> Answer<config::PutResponse> {
        let request = request.into_inner();
        if self.has_conf() && !self.votes().quorate {
            return Err(status::error(Code::FailedPrecondition, "NOT_QUORATE", "no quorum", [("", ""); 0]));
        }
        let tree = self.tree();
        let mut tree = lock(&tree);
        let present = tree.entries.get(&request.path).map_or(0, |(_, version)| *version);
        if request.expected_version.is_some_and(|expected| expected != present) {
            return Err(mismatch(&request.path));
        }
        tree.put(&request.path, Some(request.content));
        drop(tree);
        self.world.changed.send_modify(|count| *count += 1);
        Ok(Response::new(config::PutResponse::default()))
    }

    async fn list(&self, request: Request<config::ListRequest>) -> Answer<config::ListResponse> {
        let below = request.into_inner().path;
        let tree = self.tree();
        let tree = lock(&tree);
        let entries = tree
            .entries
            .iter()
            .filter(|(path, _)| below.is_empty() || path.starts_with(&format!("{below}/")))
            .map(|(path, (content, version))| config::Entry {
                path: path.clone(),
                kind: match content {
                    Some(_) => config::EntryKind::File.into(),
                    None => config::EntryKind::Directory.into(),
                },
                version: *version,
                ..Default::default()
            })
            .collect();
        Ok(Response::new(config::ListResponse { entries, next_page_token: String::new() }))
    }

    async fn mkdir(&self, request: Request<config::MkdirRequest>) -> Answer<config::MkdirResponse> {
        let tree = self.tree();
        lock(&tree).put(&request.into_inner().path, None);
        Ok(Response::new(config::MkdirResponse::default()))
    }

    async fn rename(&self, _request: Request<config::RenameRequest>) -> Answer<config::RenameResponse> {
        Err(Status::unimplemented("not pretended"))
    }

    async fn delete(&self, request: Request<config::DeleteRequest>) -> Answer<config::DeleteResponse> {
        let config::DeleteRequest { path, expected_version, .. } = request.into_inner();
        let tree = self.tree();
        let mut tree = lock(&tree);
        let delete = config::transact_operation::Delete { path, expected_version };
        tree.perform(config::transact_operation::Operation::Delete(delete))?;
        tree.version += 1;
        Ok(Response::new(config::DeleteResponse { version: tree.version }))
    }

    type WatchStream = Answers<config::WatchResponse>;

    async fn transact(&self, request: Request<config::TransactRequest>) -> Answer<config::TransactResponse> {
        if self.has_conf() && !self.votes().quorate {
            return Err(status::error(Code::FailedPrecondition, "NOT_QUORATE", "no quorum", [("", ""); 0]));
        }
        let tree = self.tree();
        let mut tree = lock(&tree);
        let mut copy = FakeTree { entries: tree.entries.clone(), version: tree.version };
        for one in request.into_inner().operations {
            copy.perform(one.operation.expect("an operation"))?;
        }
        *tree = copy;
        drop(tree);
        self.world.changed.send_modify(|count| *count += 1);
        Ok(Response::new(config::TransactResponse::default()))
    }

    async fn watch(&self, _request: Request<config::WatchRequest>) -> Answer<Self::WatchStream> {
        Ok(Response::new(Fake::watch(self, |_| config::WatchResponse::default())))
    }

    async fn get_status(
        &self,
        _request: Request<config::GetStatusRequest>,
    ) -> Answer<config::GetStatusResponse> {
        let state = match (self.has_conf(), self.votes().quorate) {
            (false, _) => State::Standalone,
            (true, true) => State::Synchronised,
            (true, false) => State::ReadOnly,
        };
        Ok(Response::new(config::GetStatusResponse { state: state.into(), ..Default::default() }))
    }

    async fn reload(&self, request: Request<config::ReloadRequest>) -> Answer<config::ReloadResponse> {
        if request.into_inner().discard_tree {
            lock(&self.own_tree).entries.clear();
        }
        Ok(Response::new(config::ReloadResponse { backup_path: "backup".into() }))
    }
}

#[tonic::async_trait]
impl quorum_server::QuorumService for Fake {
    async fn get_status(
        &self,
        _request: Request<quorum::GetStatusRequest>,
    ) -> Answer<quorum::GetStatusResponse> {
        Ok(Response::new(quorum::GetStatusResponse { status: Some(self.votes()) }))
    }

    type WatchStream = Answers<quorum::WatchResponse>;

    async fn watch(&self, _request: Request<quorum::WatchRequest>) -> Answer<Self::WatchStream> {
        let now = |fake: &Fake| quorum::WatchResponse { status: Some(fake.votes()) };
        Ok(Response::new(Fake::watch(self, now)))
    }

    async fn set_expected(
        &self,
        _request: Request<quorum::SetExpectedRequest>,
    ) -> Answer<quorum::SetExpectedResponse> {
        Err(Status::unimplemented("not pretended"))
    }

    async fn reload(&self, _request: Request<quorum::ReloadRequest>) -> Answer<quorum::ReloadResponse> {
        Ok(Response::new(quorum::ReloadResponse::default()))
    }
}

#[tonic::async_trait]
impl membership_server::MembershipService for Fake {
    async fn get_status(
        &self,
        _request: Request<membership::GetStatusRequest>,
    ) -> Answer<membership::GetStatusResponse> {
        Ok(Response::new(self.ring()))
    }

    async fn check_configuration(
        &self,
        _request: Request<membership::CheckConfigurationRequest>,
    ) -> Answer<membership::CheckConfigurationResponse> {
        Ok(Response::new(membership::CheckConfigurationResponse {}))
    }

    async fn list_members(
        &self,
        _request: Request<membership::ListMembersRequest>,
    ) -> Answer<membership::ListMembersResponse> {
        Ok(Response::new(membership::ListMembersResponse::default()))
    }

    async fn list_links(
        &self,
        _request: Request<membership::ListLinksRequest>,
    ) -> Answer<membership::ListLinksResponse> {
        Err(status::error(Code::FailedPrecondition, "NO_LINKS", "there are none", [("links", 0)]))
    }

    type WatchConfigurationsStream = Answers<membership::WatchConfigurationsResponse>;

    async fn watch_configurations(
        &self,
        _request: Request<membership::WatchConfigurationsRequest>,
    ) -> Answer<Self::WatchConfigurationsStream> {
        Ok(Response::new(Fake::watch(self, |_| membership::WatchConfigurationsResponse::default())))
    }

    type GroupStream = Answers<membership::GroupResponse>;

    /// Answers each request with one event that carries its payload: shows both directions at once.
    async fn group(
        &self,
        request: Request<Streaming<membership::GroupRequest>>,
    ) -> Answer<Self::GroupStream> {
        use membership::{GroupEvent, group_event, group_request};
        let echo = request.into_inner().map(|request| {
            let payload = match request?.request {
                Some(group_request::Request::Multicast(sent)) => sent.payloads.concat().into(),
                _ => bytes::Bytes::from_static(b"joined"),
            };
            let message = group_event::Message { payload, ..Default::default() };
            let event = GroupEvent { event: Some(group_event::Event::Message(message)) };
            Ok(membership::GroupResponse { events: vec![event] })
        });
        Ok(Response::new(Box::pin(echo)))
    }

    type AttachServiceStream = Answers<membership::AttachServiceResponse>;

    async fn attach_service(
        &self,
        _request: Request<Streaming<membership::AttachServiceRequest>>,
    ) -> Answer<Self::AttachServiceStream> {
        Err(Status::unimplemented("not pretended"))
    }

    async fn reload(
        &self,
        _request: Request<membership::ReloadRequest>,
    ) -> Answer<membership::ReloadResponse> {
        self.reload_ring();
        Ok(Response::new(membership::ReloadResponse::default()))
    }

    async fn leave(&self, _request: Request<membership::LeaveRequest>) -> Answer<membership::LeaveResponse> {
        lock(&self.world.ring).remove(self.name);
        self.world.changed.send_modify(|count| *count += 1);
        Ok(Response::new(membership::LeaveResponse {}))
    }
}
