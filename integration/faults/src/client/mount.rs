//! A node's tree through the file system that it mounts.
//!
//! A file system tells no versions and has no linearizable read: what is read is this replica's. A file is written under
//! its own name by one `write` and `close`, as the file system's promise is for that.

use std::{io, path::PathBuf, time::Duration};

use playground::Node;
use tokio::io::AsyncWriteExt as _;

use super::Client;
use crate::{
    content,
    linear::{Answer, Call, Expect},
};

/// How long a call may take: the file system waits for quorum no longer than this.
const CALL: Duration = Duration::from_secs(10);

/// A client of one node's mount.
#[derive(Debug, Clone)]
pub struct MountClient {
    node: String,
    tree: PathBuf,
}

impl MountClient {
    /// The mount of a node, below `etc/pve` of its root.
    ///
    /// # Errors
    /// If nothing is mounted there.
    pub fn new(node: &Node) -> io::Result<Self> {
        let tree = node.root().as_path().join("etc/pve");
        let mounts = std::fs::read_to_string("/proc/self/mounts")?;
        let is_mounted = mounts.lines().any(|line| line.split(' ').nth(1) == tree.to_str());
        if is_mounted {
            return Ok(Self { node: node.name().to_owned(), tree });
        }
        Err(io::Error::new(io::ErrorKind::NotFound, format!("nothing is mounted at {}", tree.display())))
    }

    async fn put(&self, path: PathBuf, expect: Expect, value: u64) -> io::Result<()> {
        let mut options = tokio::fs::OpenOptions::new();
        options.write(true);
        match expect {
            Expect::Absent => options.create_new(true),
            _ => options.create(true).truncate(true),
        };
        let mut file = options.open(path).await?;
        file.write_all(&content::encode(value)).await?;
        file.flush().await?;
        // An error of closing is told to nobody: this asks for it.
        file.sync_all().await
    }
}

/// What a failure of the file system says about a write.
fn failure(error: &io::Error) -> Answer {
    match error.kind() {
        io::ErrorKind::NotFound => Answer::Missing,
        io::ErrorKind::AlreadyExists => Answer::Unexpected,
        // No quorum: nothing was written.
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Answer::Refused,
        _ => Answer::Unknown,
    }
}

#[tonic::async_trait]
impl Client for MountClient {
    fn node(&self) -> &str {
        &self.node
    }

    fn reads_linearizable(&self) -> bool {
        false
    }

    async fn get(&self, path: &str, _fresh: bool) -> Answer {
        let read = tokio::time::timeout(CALL, tokio::fs::read(self.tree.join(path))).await;
        match read {
            Ok(Ok(content)) => Answer::Found { value: content::decode(&content), version: None },
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Answer::Missing,
            _ => Answer::Unknown,
        }
    }

    async fn write(&self, path: &str, call: Call, _request: [u8; 16]) -> Answer {
        let path = self.tree.join(path);
        let write = async {
            match call {
                Call::Put { expect: expect @ (Expect::Any | Expect::Absent), value } => {
                    self.put(path, expect, value).await
                }
                Call::Delete { expect: Expect::Any } => tokio::fs::remove_file(path).await,
                // A file system knows no versions.
                _ => return Answer::Refused,
            }
            .map_or_else(|error| failure(&error), |()| Answer::Done { version: None })
        };
        tokio::time::timeout(CALL, write).await.unwrap_or(Answer::Unknown)
    }
}
