//! A node's tree through the file system that it mounts.
//!
//! A file system tells no versions and has no linearizable read: what is read is this replica's, and that a file is
//! missing, too. A file is written under
//! another name and renamed, as programs do that must never leave half a file: the rename is what takes effect. The mount
//! may be in a namespace of its own, so it is looked for in configd's.

use std::{
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use playground::Node;
use tokio::fs;

use super::Client;
use crate::{
    content,
    linear::{Answer, Call, Expect},
    workload::DIRECTORY,
};

/// How long a call may take: the file system waits for quorum no longer than this.
const CALL: Duration = Duration::from_secs(10);

/// A client of one node's mount.
#[derive(Debug)]
pub struct MountClient {
    node: Node,
    written: AtomicU64,
}

/// The mount of one process.
struct Mounted {
    process: i32,
    tree: PathBuf,
}

impl MountClient {
    /// The mount of a node, below `etc/pve` of its root.
    ///
    /// # Errors
    /// If nothing is mounted there.
    pub fn new(node: &Node) -> io::Result<Self> {
        let point = node.root().mount_point();
        let mounts = node.pid("configd").map(|process| format!("/proc/{process}/mounts"));
        let mounts = std::fs::read_to_string(mounts.unwrap_or_else(|| "/proc/self/mounts".to_owned()))?;
        let is_mounted = mounts.lines().any(|line| line.split(' ').nth(1) == point.to_str());
        if is_mounted {
            return Ok(Self { node: node.clone(), written: AtomicU64::new(0) });
        }
        Err(io::Error::new(io::ErrorKind::NotFound, format!("nothing is mounted at {}", point.display())))
    }

    /// The mount, if it is there: without it, all files seem to be missing.
    async fn mounted(&self) -> Option<Mounted> {
        let process = self.node.pid("configd")?;
        let point = self.node.root().mount_point();
        let tree =
            Path::new("/proc").join(process.to_string()).join("root").join(point.strip_prefix("/").ok()?);
        fs::try_exists(tree.join(DIRECTORY)).await.ok().filter(|exists| *exists)?;
        Some(Mounted { process, tree })
    }

    /// Makes a call while the same mount is there.
    async fn with_mount<T>(&self, call: impl AsyncFnOnce(PathBuf) -> io::Result<T>) -> Option<io::Result<T>> {
        let made = async {
            let before = self.mounted().await?;
            let made = call(before.tree).await;
            let after = self.mounted().await?;
            (before.process == after.process).then_some(made)
        };
        tokio::time::timeout(CALL, made).await.ok().flatten()
    }

    /// Writes a file that has no reader yet; its name is nobody else's.
    async fn prepare(&self, tree: &Path, value: u64) -> io::Result<PathBuf> {
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let name = format!("{DIRECTORY}/{}.{number}.{value}.tmp", self.node.name());
        let path = tree.join(name);
        fs::write(&path, content::encode(value)).await?;
        // An error of closing was told to nobody: half a file must not take effect.
        let read = fs::read(&path).await?;
        if content::decode(&read) == value { Ok(path) } else { Err(io::ErrorKind::WriteZero.into()) }
    }
}

/// What a failure of the file system says about the step that takes effect.
fn failure(error: &io::Error) -> Answer {
    match error.kind() {
        // No quorum: nothing was done.
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Answer::Refused,
        _ => Answer::Unknown,
    }
}

#[tonic::async_trait]
impl Client for MountClient {
    fn node(&self) -> &str {
        self.node.name()
    }

    fn reads_linearizable(&self) -> bool {
        false
    }

    async fn get(&self, path: &str, _fresh: bool) -> Answer {
        let path = path.to_owned();
        match self.with_mount(async move |tree| fs::read(tree.join(path)).await).await {
            Some(Ok(content)) => Answer::Found { value: content::decode(&content), version: None },
            Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => Answer::Missing,
            _ => Answer::Unknown,
        }
    }

    async fn write(&self, path: &str, call: Call, _request: [u8; 16]) -> Answer {
        let path = path.to_owned();
        let done = match call {
            Call::Put { expect: Expect::Any, value } => {
                let Some(Ok(prepared)) =
                    self.with_mount(async move |tree| self.prepare(&tree, value).await).await
                else {
                    return Answer::Refused;
                };
                self.with_mount(async move |tree| fs::rename(prepared, tree.join(path)).await).await
            }
            Call::Delete { expect: Expect::Any } => {
                self.with_mount(async move |tree| fs::remove_file(tree.join(path)).await).await
            }
            // A file system knows no versions.
            _ => return Answer::Refused,
        };
        match done {
            Some(Ok(())) => Answer::Done { version: None },
            // The kernel looks a name up before it asks to remove it, and is told what this replica has: the answer of
            // a local read, which says nothing of the cluster.
            Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => Answer::Refused,
            Some(Err(error)) => failure(&error),
            None => Answer::Unknown,
        }
    }
}
