//! All nodes of a directory.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use tokio::task::JoinSet;

use crate::{
    Error, Groups, Node, Setup, network,
    plan::{Mode, Plan},
};

/// The nodes of a directory.
#[derive(Debug, Clone)]
pub struct Playground {
    dir: PathBuf,
    plan: Plan,
    nodes: Vec<Node>,
}

impl Playground {
    /// Sets up a directory and starts its nodes; they are in no cluster yet.
    ///
    /// # Errors
    /// [`Error`]; what was started before is stopped again.
    pub async fn up(dir: &Path, setup: &Setup) -> Result<Self, Error> {
        fs::create_dir_all(dir).map_err(Error::file("create", dir))?;
        let dir = dir.canonicalize().map_err(Error::file("find", dir))?;
        if Plan::exists(&dir) {
            return Err(Error::Exists { dir });
        }
        let plan = Plan::new(&dir, setup)?;
        plan.store(&dir)?;
        let playground = Self::of(dir, plan)?;
        if let Err(error) = playground.start_all().await {
            // What went wrong first is the error to tell.
            let _ = playground.stop_all().await;
            let _ = network::remove(&playground.plan);
            let _ = Plan::remove(&playground.dir);
            return Err(error);
        }
        Ok(playground)
    }

    /// The playground of a directory that was set up before.
    ///
    /// # Errors
    /// [`Error::Missing`] and what reading can end with.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let Ok(dir) = dir.canonicalize() else { return Err(Error::Missing { dir: dir.to_owned() }) };
        let plan = Plan::load(&dir)?;
        Self::of(dir, plan)
    }

    fn of(dir: PathBuf, plan: Plan) -> Result<Self, Error> {
        let bin_dir = bin_dir()?;
        let nodes = plan.nodes.iter().map(|node| Node::new(&plan, node, &dir, &bin_dir)).collect();
        Ok(Self { dir, plan, nodes })
    }

    /// Where it is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// How its nodes reach each other.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.plan.mode
    }

    /// Its nodes, in order.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node of this name.
    ///
    /// # Errors
    /// [`Error::NoSuchNode`].
    pub fn node(&self, name: &str) -> Result<&Node, Error> {
        let known = || self.nodes.iter().map(|node| node.name().to_owned()).collect();
        let found = self.nodes.iter().find(|node| node.name() == name);
        found.ok_or_else(|| Error::NoSuchNode { name: name.to_owned(), known: known() })
    }

    async fn start_all(&self) -> Result<(), Error> {
        network::create(&self.plan)?;
        each(&self.nodes, |node| async move { node.start().await }).await
    }

    async fn stop_all(&self) -> Result<(), Error> {
        each(&self.nodes, |node| async move { node.stop().await }).await
    }

    /// Keeps groups of nodes apart. An earlier partition is replaced.
    ///
    /// # Errors
    /// [`Error::Groups`], [`Error::NeedsRoot`], [`Error::Program`], [`Error::Command`].
    pub fn partition(&self, groups: &Groups) -> Result<(), Error> {
        network::partition(&self.plan, groups)
    }

    /// Drops what a node sends to the others' rings; it goes on hearing them. An earlier partition is replaced.
    ///
    /// # Errors
    /// [`Error::NoSuchNode`], [`Error::LoopbackOnly`], [`Error::NeedsRoot`], [`Error::Program`], [`Error::Command`].
    pub fn mute(&self, node: &str) -> Result<(), Error> {
        let name = self.node(node)?.name();
        let own = self.plan.nodes.iter().find(|own| own.name == name);
        network::mute(&self.plan, own.expect("every node is in the plan"))
    }

    /// Ends a partition, or a node's silence.
    ///
    /// # Errors
    /// [`Error::Program`], [`Error::Command`].
    pub fn heal(&self) -> Result<(), Error> {
        network::heal(&self.plan)
    }

    /// Stops all nodes and removes them with all that they stored.
    ///
    /// # Errors
    /// [`Error`]; the playground is then still there.
    pub async fn down(&self) -> Result<(), Error> {
        // Nothing of this is kept, so there is nothing to be stopped in order.
        each(&self.nodes, |node| async move { node.kill(None).await }).await?;
        network::remove(&self.plan)?;
        for node in &self.nodes {
            let root = node.root().as_path();
            if root.exists() {
                fs::remove_dir_all(root).map_err(Error::file("remove", root))?;
            }
        }
        Plan::remove(&self.dir)?;
        // Somebody else's files may lie next to the nodes.
        let _ = fs::remove_dir(&self.dir);
        Ok(())
    }
}

/// Where the programs lie: `QUORATE_BIN_DIR`, else next to this one. A test lies one level deeper.
fn bin_dir() -> Result<PathBuf, Error> {
    if let Some(dir) = env::var_os("QUORATE_BIN_DIR") {
        return Ok(dir.into());
    }
    let own = env::current_exe().map_err(Error::file("find", "/proc/self/exe"))?;
    let dir = own.parent().expect("a program lies in a directory");
    let dir = if dir.ends_with("deps") { dir.parent().unwrap_or(dir) } else { dir };
    Ok(dir.to_owned())
}

/// Does the same on all nodes at once; the first error counts.
async fn each<F>(nodes: &[Node], act: impl Fn(Node) -> F) -> Result<(), Error>
where
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let mut acts: JoinSet<_> = nodes.iter().cloned().map(act).collect();
    let mut result = Ok(());
    while let Some(ended) = acts.join_next().await {
        let ended = ended.unwrap_or_else(|broken| std::panic::resume_unwind(broken.into_panic()));
        result = result.and(ended);
    }
    result
}
