//! A cluster in one process: real gateways in front of daemons that only pretend.
//!
//! Each node has its directory, its Unix sockets and its loopback address. The tree of the first node
//! becomes the cluster's; a node that joins sees that one from its reload on. A node is in the ring while
//! it has a corosync.conf, unless the test cut it off.

mod daemons;
mod transaction;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use corosync_conf::ClusterConf;
use quorate_daemon::{Daemon, NodeConfig, Root, client::DaemonChannel};
use quorate_proto::gateway::v1::{
    CreateClusterRequest, CreateTokenRequest, JoinClusterRequest, JoinClusterResponse,
    cluster_service_client::ClusterServiceClient,
};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;

use crate::{
    Gateway,
    fingerprint::Fingerprint,
    identity::Identity,
    life_cycle::{ThisNode, ready::Patience},
    member, tls,
};

/// Short enough for tests that wait in vain, long enough for a busy machine.
pub(crate) const PATIENCE: Patience = Patience {
    ring: Duration::from_secs(20),
    sync: Duration::from_secs(20),
    dial: Duration::from_secs(20),
    member: Duration::from_secs(20),
    confirm: Duration::from_secs(20),
    restart: Duration::from_secs(20),
    pause: Duration::from_millis(5),
};

/// For tests in which something never comes about.
pub(crate) fn hasty() -> Patience {
    let brief = Duration::from_millis(300);
    Patience { ring: brief, sync: brief, confirm: brief, restart: brief, ..PATIENCE }
}

/// A file or directory (`None`) of a pretended tree, with its version.
pub(crate) type Entries = BTreeMap<String, (Option<Bytes>, u64)>;

/// A pretended tree.
#[derive(Debug, Default)]
pub(crate) struct FakeTree {
    pub(crate) entries: Entries,
    pub(crate) version: u64,
}

impl FakeTree {
    pub(crate) fn put(&mut self, path: &str, content: Option<Bytes>) -> u64 {
        self.version += 1;
        for (end, _) in path.match_indices('/') {
            self.entries.entry(path[..end].to_owned()).or_insert((None, self.version));
        }
        self.entries.insert(path.to_owned(), (content, self.version));
        self.version
    }
}

/// What all nodes share.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) cluster_tree: Arc<Mutex<FakeTree>>,
    /// Names of the nodes in the ring.
    pub(crate) ring: Mutex<BTreeSet<String>>,
    /// Names of nodes that no packet reaches.
    pub(crate) cut_off: Mutex<BTreeSet<String>>,
    /// Changes with every change of the ring or of the configuration.
    pub(crate) changed: watch::Sender<u64>,
}

impl World {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            cluster_tree: Arc::default(),
            ring: Mutex::default(),
            cut_off: Mutex::default(),
            changed: watch::Sender::new(0),
        })
    }

    pub(crate) fn cut_off(&self, name: &str) {
        lock(&self.cut_off).insert(name.to_owned());
        lock(&self.ring).remove(name);
        self.changed.send_modify(|count| *count += 1);
    }

    pub(crate) fn conf(&self) -> ClusterConf {
        let tree = lock(&self.cluster_tree);
        let content = tree.entries["corosync.conf"].0.clone().unwrap();
        ClusterConf::parse(std::str::from_utf8(&content).unwrap()).unwrap()
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        lock(&self.cluster_tree).entries.keys().cloned().collect()
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

/// A node: pretended daemons and a real gateway.
pub(crate) struct TestNode {
    pub(crate) name: &'static str,
    pub(crate) root: Root,
    pub(crate) address: SocketAddr,
    pub(crate) node: Arc<ThisNode>,
    pub(crate) own_tree: Arc<Mutex<FakeTree>>,
    pub(crate) daemons: CancellationToken,
    _running: DropGuard,
    _directory: tempfile::TempDir,
}

impl TestNode {
    /// Starts a node in no cluster. The first node's tree is the one that the cluster will have.
    pub(crate) async fn start(world: &Arc<World>, name: &'static str, first: bool) -> Self {
        Self::start_with(world, name, first, PATIENCE).await
    }

    pub(crate) async fn start_with(
        world: &Arc<World>,
        name: &'static str,
        first: bool,
        patience: Patience,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        let own_tree = if first { world.cluster_tree.clone() } else { Arc::default() };
        let shutdown = CancellationToken::new();
        let daemons = shutdown.child_token();
        daemons::start(world, name, &root, &own_tree, &daemons);
        let mut config = NodeConfig::named(name.parse().unwrap());
        let last: u8 = name.trim_start_matches('n').parse().unwrap();
        config.address = Some([127, 0, 0, last].into());
        config.gateway_port = 0;
        let mut daemon = Daemon::new("gatewayd", root.clone(), config);
        daemon.shutdown = shutdown.clone();
        let gateway = Gateway::build(daemon, patience).await.map_err(|f| f.error().to_string()).unwrap();
        let (address, node) = (gateway.address().unwrap(), gateway.node());
        tokio::spawn(gateway.run());
        Self {
            name,
            root,
            address,
            node,
            own_tree,
            daemons,
            _running: shutdown.drop_guard(),
            _directory: directory,
        }
    }

    /// The operator's channel.
    pub(crate) fn local(&self) -> DaemonChannel {
        quorate_daemon::client::socket_channel(self.root.socket("gatewayd"))
    }

    /// The operator's client.
    pub(crate) fn operator(&self) -> ClusterServiceClient<DaemonChannel> {
        ClusterServiceClient::new(self.local())
    }

    pub(crate) fn identity(&self) -> Arc<Identity> {
        self.node.identity.current()
    }

    /// A channel through the TLS port, with somebody's certificate or none.
    pub(crate) async fn remote(&self, shown: Option<&Identity>) -> DaemonChannel {
        let fingerprint = Fingerprint::of(&self.identity().chain[0]);
        let config = tls::client_config(fingerprint, shown).unwrap();
        member::connect(&self.address.to_string(), config, PATIENCE.dial).await.unwrap()
    }

    pub(crate) async fn create(&self) -> Result<(), Status> {
        let request = CreateClusterRequest { cluster_name: "demo".into(), ..CreateClusterRequest::default() };
        self.operator().create_cluster(request).await.map(drop)
    }

    pub(crate) async fn token(&self) -> String {
        let answer = self.operator().create_token(CreateTokenRequest::default()).await;
        answer.unwrap().into_inner().token
    }

    /// Joins and gives the last message.
    pub(crate) async fn join(&self, request: JoinClusterRequest) -> Result<JoinClusterResponse, Status> {
        let mut steps = self.operator().join_cluster(request).await?.into_inner();
        loop {
            let step = steps.message().await?.expect("the last message says so");
            if step.done {
                return Ok(step);
            }
        }
    }

    pub(crate) async fn join_with(&self, token: &str) -> Result<JoinClusterResponse, Status> {
        self.join(JoinClusterRequest { token: token.to_owned(), ..JoinClusterRequest::default() }).await
    }

    pub(crate) fn is_in_cluster(&self) -> bool {
        self.root.corosync_conf().exists()
    }
}

/// A cluster of n1 and n2.
pub(crate) async fn pair() -> (Arc<World>, TestNode, TestNode) {
    let world = World::new();
    let n1 = TestNode::start(&world, "n1", true).await;
    n1.create().await.unwrap();
    let n2 = TestNode::start(&world, "n2", false).await;
    n2.join_with(&n1.token().await).await.unwrap();
    (world, n1, n2)
}

/// The reason of a refusal.
pub(crate) fn reason(status: &Status) -> String {
    let reason = quorate_daemon::status::reason(status);
    reason.unwrap_or_else(|| panic!("no reason: {status:?}")).reason
}
