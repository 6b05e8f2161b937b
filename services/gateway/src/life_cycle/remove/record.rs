//! What the tree keeps of a node that was removed, in `priv/removed/NAME-VERSION`: `removed.json`, this record, and `node`, its
//! former directory. VERSION is the `totem.config_version` without it, so that a name can come and go again.

use serde::{Deserialize, Serialize};
use tonic::Status;

use crate::tree::Tree;

/// Where the tree keeps what was removed.
pub const DIRECTORY: &str = "priv/removed";
const RECORD: &str = "removed.json";

/// A node that was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// Its name.
    pub name: String,
    /// Its id.
    pub node_id: u32,
    /// Its addresses, by which it is known if it still sends.
    pub addresses: Vec<String>,
    /// `totem.config_version` without it.
    pub config_version: u64,
    /// When, in Unix seconds by the clock of the member that did it.
    pub removed: u64,
    /// Which member did it.
    pub removed_by: String,
    /// SHA-256 of its certificate, which is worthless since; empty if it had published none.
    pub certificate: String,
    /// The ring has to get a new key yet.
    pub key_due: bool,
}

impl Removed {
    /// Where this node's things are kept.
    #[must_use]
    pub fn archive(&self) -> String {
        archive(&self.name, self.config_version)
    }

    /// The text of the file.
    ///
    /// # Panics
    /// Never: it has texts and numbers only.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).expect("texts and numbers can be written");
        text.push(b'\n');
        text
    }
}

/// Where the things of a node are kept that is not in this version any more.
#[must_use]
pub fn archive(name: &str, config_version: u64) -> String {
    format!("{DIRECTORY}/{name}-{config_version}")
}

/// The file of a record.
#[must_use]
pub fn path(archive: &str) -> String {
    format!("{archive}/{RECORD}")
}

/// All records with the path and version of each; what is none is logged and passed over.
///
/// # Errors
/// What configd says.
pub async fn all(tree: &Tree) -> Result<Vec<(String, u64, Removed)>, Status> {
    let mut found = Vec::new();
    for entry in tree.list(DIRECTORY).await? {
        let parts: Vec<&str> = entry.path.split('/').collect();
        if !matches!(parts[..], [_, _, _, RECORD]) {
            continue;
        }
        let Some(file) = tree.read(&entry.path).await? else { continue };
        match serde_json::from_slice(&file.content) {
            Ok(removed) => found.push((entry.path, file.version, removed)),
            Err(error) => tracing::warn!(path = entry.path, %error, "not the record of a removed node"),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_back_as_written() {
        let removed = Removed {
            name: "n4".into(),
            node_id: 4,
            addresses: vec!["10.0.0.4".into()],
            config_version: 7,
            removed: 1_700_000_000,
            removed_by: "n1".into(),
            certificate: String::new(),
            key_due: true,
        };
        assert_eq!(removed.archive(), "priv/removed/n4-7");
        assert_eq!(serde_json::from_slice::<Removed>(&removed.to_json()).unwrap(), removed);
    }
}
