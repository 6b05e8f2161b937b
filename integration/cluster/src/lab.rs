//! Nodes for one test, gone at its end.

use std::{collections::BTreeMap, path::PathBuf, thread, time::Duration};

use playground::{Mode, Node, Playground, Setup};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{cli, replicas, wait};

/// How long anything may take until a test gives up: generous, for a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How many labs run at a time: their nodes share the processors with each other.
static LABS: Semaphore = Semaphore::const_new(2);

/// The nodes of one test. Dropping it kills them; their logs stay if the test fails, and are named.
pub struct Lab {
    playground: Playground,
    _turn: SemaphorePermit<'static>,
}

impl Lab {
    /// Starts nodes that are in no cluster.
    pub async fn nodes(count: u8) -> Self {
        Self::nodes_with(count, BTreeMap::new()).await
    }

    /// The same, with environment variables for all nodes and for the commands on them.
    pub async fn nodes_with(count: u8, environment: BTreeMap<String, String>) -> Self {
        let turn = LABS.acquire().await.expect("the semaphore is never closed");
        let setup = Setup { nodes: count, mode: Mode::Loopback, subnet: None, environment };
        let playground = Playground::up(&directory(), &setup).await;
        let playground = playground.unwrap_or_else(|error| panic!("no playground: {error}"));
        Self { playground, _turn: turn }
    }

    /// Starts nodes and makes a cluster of them: quorate, in sync, a vote each.
    pub async fn cluster(count: u8) -> Self {
        let lab = Self::nodes(count).await;
        lab.form().await;
        lab
    }

    /// The same with a ring that is not encrypted.
    pub async fn cluster_over(transport: &str, count: u8) -> Self {
        let lab = Self::nodes(count).await;
        lab.form_over(transport).await;
        lab
    }

    /// Makes a cluster of all nodes, through `pvecm` alone.
    pub async fn form(&self) {
        self.form_over("knet").await;
    }

    async fn form_over(&self, transport: &str) {
        let nodes = self.all();
        cli::done(nodes[0], &["create", "lab", "--transport", transport]).await;
        for node in &nodes[1..] {
            self.join(node).await;
        }
        self.settled(&nodes).await;
    }

    /// Makes a node a member, which must succeed.
    pub async fn join(&self, node: &Node) {
        let member = self.node(1);
        let token = cli::token(member).await;
        cli::done(node, &["add", &member.address().to_string(), "--token", &token]).await;
    }

    /// Waits until these nodes, and no others, are quorate with each other and have equal replicas.
    pub async fn settled(&self, nodes: &[&Node]) -> replicas::Replica {
        let members: Vec<u32> = nodes.iter().map(|node| number(node)).collect();
        wait::quorate_with(nodes, &members).await;
        replicas::same(nodes).await
    }

    /// The node of this number, from 1; in the cluster it has the same id.
    #[must_use]
    pub fn node(&self, number: usize) -> &Node {
        &self.playground.nodes()[number - 1]
    }

    /// All nodes.
    #[must_use]
    pub fn all(&self) -> Vec<&Node> {
        self.playground.nodes().iter().collect()
    }

    /// The playground below.
    #[must_use]
    pub fn playground(&self) -> &Playground {
        &self.playground
    }
}

/// The number in a node's name, which is its id as well.
fn number(node: &Node) -> u32 {
    let digits = node.name().trim_start_matches("hp");
    digits.parse().expect("nodes of a playground are called hp1, hp2 and so on")
}

fn directory() -> PathBuf {
    let dir = tempfile::Builder::new().prefix("quorate-test-").tempdir();
    dir.expect("the directory for temporary files can be used").keep()
}

impl Drop for Lab {
    fn drop(&mut self) {
        let playground = self.playground.clone();
        let failed = thread::panicking();
        // A runtime of its own: the test's may be shutting down.
        let ended = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime
                .expect("the operating system gives a process its threads")
                .block_on(end(&playground, failed));
        });
        let _ = ended.join();
    }
}

async fn end(playground: &Playground, failed: bool) {
    if !failed {
        if let Err(error) = playground.down().await {
            eprintln!("{} is left behind: {error}", playground.dir().display());
        }
        return;
    }
    for node in playground.nodes() {
        if let Err(error) = node.kill(None).await {
            eprintln!("{} is left running: {error}", node.name());
        }
    }
    let _ = playground.heal();
    eprintln!("the nodes' logs are kept: {}/hp*/var/log/quorate/", playground.dir().display());
}
