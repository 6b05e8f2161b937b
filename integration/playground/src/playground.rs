//! All nodes of a directory.

use std::{
    env, fs,
    future::pending,
    path::{Path, PathBuf},
};

use futures_util::future::join_all;

use crate::{
    Error, Groups, Interrupt, Node, Setup, network,
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
    /// [`Error`]; all that was made before is removed again.
    pub async fn up(dir: &Path, setup: &Setup) -> Result<Self, Error> {
        Self::up_unless(dir, setup, pending()).await
    }

    /// The same, unless a signal comes before the nodes run. Dropping this future instead would leave them.
    ///
    /// # Errors
    /// [`Error`], one of them [`Error::Interrupted`]; all that was made before is removed again.
    pub async fn up_unless(
        dir: &Path,
        setup: &Setup,
        interrupted: impl Future<Output = Interrupt>,
    ) -> Result<Self, Error> {
        let made = create_dirs(dir)?;
        let result = Self::up_in(dir, setup, interrupted).await;
        if result.is_err() {
            for dir in made {
                // The nodes are gone. What else lies there is somebody else's, and stays.
                let _ = fs::remove_dir(dir);
            }
        }
        result
    }

    async fn up_in(
        dir: &Path,
        setup: &Setup,
        interrupted: impl Future<Output = Interrupt>,
    ) -> Result<Self, Error> {
        let dir = dir.canonicalize().map_err(Error::file("find", dir))?;
        if Plan::exists(&dir) {
            return Err(Error::Exists { dir });
        }
        let plan = Plan::new(&dir, setup)?;
        let playground = Self::of(dir, plan)?;
        // From here on, what lies in the nodes' roots was made by this call.
        playground.refuse_leftovers()?;
        let started = async {
            playground.plan.store(&playground.dir)?;
            playground.start_all().await
        };
        let started = tokio::select! {
            biased;
            interrupt = interrupted => Err(Error::Interrupted(interrupt)),
            started = started => started,
        };
        let Err(error) = started else { return Ok(playground) };
        match playground.clear().await {
            Ok(()) => Err(error),
            Err(source) => {
                Err(Error::Left { error: error.into(), dir: playground.dir, source: source.into() })
            }
        }
    }

    fn refuse_leftovers(&self) -> Result<(), Error> {
        let mut roots = self.nodes.iter().map(|node| node.root().as_path());
        match roots.find(|root| root.exists()) {
            Some(root) => Err(Error::Leftover { root: root.to_owned(), dir: self.dir.clone() }),
            None => Ok(()),
        }
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
        all(self.nodes.iter().map(Node::start)).await
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
        self.clear().await?;
        // Somebody else's files may lie next to the nodes.
        let _ = fs::remove_dir(&self.dir);
        Ok(())
    }

    /// Kills all nodes at once; what they stored stays.
    ///
    /// # Errors
    /// [`Error::Signal`], [`Error::Timeout`]; the other nodes are killed nevertheless.
    pub async fn kill(&self) -> Result<(), Error> {
        all(self.nodes.iter().map(|node| node.kill(None))).await
    }

    /// Leaves nothing but the directory.
    async fn clear(&self) -> Result<(), Error> {
        // Nothing of this is kept, so there is nothing to be stopped in order.
        self.kill().await?;
        network::remove(&self.plan)?;
        for node in &self.nodes {
            let root = node.root().as_path();
            if root.exists() {
                fs::remove_dir_all(root).map_err(Error::file("remove", root))?;
            }
        }
        Plan::remove(&self.dir)
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

/// Creates a directory and those that it lies in; what was missing, the innermost first.
fn create_dirs(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let missing = dir.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists());
    let missing = missing.map(Path::to_owned).collect();
    fs::create_dir_all(dir).map_err(Error::file("create", dir))?;
    Ok(missing)
}

/// Waits for all at once; the first error, in order, counts. They are no tasks: when this future is dropped, none of
/// them goes on.
async fn all(acts: impl Iterator<Item = impl Future<Output = Result<(), Error>>>) -> Result<(), Error> {
    join_all(acts).await.into_iter().collect()
}
