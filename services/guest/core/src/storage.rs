//! `storage.cfg`: which storages there are.
//!
//! ```text
//! dir: local
//!         path /var/lib/vz
//!         content iso,images
//! ```
//!
//! A section for each storage, its settings indented. Without the file there is `local`, as above. Types that are not
//! known, and settings that are not, are no error: other tools may know them.

use std::collections::BTreeMap;

use crate::{property::boolean, volume::is_storage_name};

/// A storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// Its name.
    pub name: String,
    /// Its type, such as `dir`.
    pub kind: String,
    /// Its settings.
    pub settings: BTreeMap<String, String>,
}

/// All storages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageConfig {
    storages: Vec<Storage>,
}

/// Why a text is no `storage.cfg`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// It is no text.
    #[error("it is no UTF-8")]
    NoText,
    /// A line is neither a section's beginning nor a setting.
    #[error("line {line}: '{text}' is neither 'TYPE: NAME' nor an indented setting")]
    Line {
        /// The line, from 1.
        line: usize,
        /// What it says.
        text: String,
    },
    /// A storage stands twice.
    #[error("line {line}: the storage '{name}' stands twice")]
    Twice {
        /// The line, from 1.
        line: usize,
        /// Its name.
        name: String,
    },
}

impl Default for StorageConfig {
    fn default() -> Self {
        let settings = [("path", "/var/lib/vz"), ("content", "images,iso,vztmpl,backup")];
        let settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        Self { storages: vec![Storage { name: "local".to_owned(), kind: "dir".to_owned(), settings }] }
    }
}

impl StorageConfig {
    /// Reads the file.
    ///
    /// # Errors
    /// [`StorageError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, StorageError> {
        let text = std::str::from_utf8(bytes).map_err(|_| StorageError::NoText)?;
        let mut storages: Vec<Storage> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let wrong = || StorageError::Line { line: index + 1, text: line.trim().to_owned() };
            if line.trim().is_empty() || line.trim_start().starts_with('#') {
                continue;
            }
            if line.starts_with([' ', '\t']) {
                let storage = storages.last_mut().ok_or_else(wrong)?;
                let (key, value) = line.trim().split_once(char::is_whitespace).unwrap_or((line.trim(), "1"));
                storage.settings.insert(key.to_owned(), value.trim().to_owned());
                continue;
            }
            let (kind, name) =
                line.split_once(':').map(|(kind, name)| (kind.trim(), name.trim())).ok_or_else(wrong)?;
            if kind.is_empty() || !is_storage_name(name) {
                return Err(wrong());
            }
            if storages.iter().any(|storage| storage.name == name) {
                return Err(StorageError::Twice { line: index + 1, name: name.to_owned() });
            }
            let (name, kind) = (name.to_owned(), kind.to_owned());
            storages.push(Storage { name, kind, settings: BTreeMap::new() });
        }
        let has_local = storages.iter().any(|storage| storage.name == "local");
        if !has_local {
            storages.extend(Self::default().storages);
        }
        Ok(Self { storages })
    }

    /// All, in the order of the file.
    #[must_use]
    pub fn all(&self) -> &[Storage] {
        &self.storages
    }

    /// The storage of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Storage> {
        self.storages.iter().find(|storage| storage.name == name)
    }
}

impl Storage {
    /// Where it lies, as the file says it.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        self.settings.get("path").map(String::as_str)
    }

    /// What it may hold.
    #[must_use]
    pub fn content(&self) -> Vec<&str> {
        let content =
            self.settings.get("content").map_or("images,rootdir,vztmpl,iso,backup,snippets", String::as_str);
        content.split(',').map(str::trim).filter(|word| !word.is_empty()).collect()
    }

    /// Whether all nodes see the same.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        let declared = self.settings.get("shared").and_then(|value| boolean(value)).unwrap_or(false);
        declared || matches!(self.kind.as_str(), "nfs" | "cifs" | "cephfs" | "glusterfs")
    }

    /// Whether a node may use it.
    #[must_use]
    pub fn is_for(&self, node: &str) -> bool {
        let disabled = self.settings.get("disable").and_then(|value| boolean(value)).unwrap_or(false);
        let listed =
            self.settings.get("nodes").is_none_or(|nodes| nodes.split(',').any(|name| name.trim() == node));
        listed && !disabled
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FILE: &str = "dir: local\n\tpath /var/lib/vz\n\tcontent iso,images\n\n# a remark\nnfs: shared-nfs\n\tserver 10.0.0.10\n\
        \tpath /mnt/pve/shared-nfs\n\tnodes node1,node2\n\nlvmthin: fast\n\tvgname pve\n\tdisable\n";

    #[test]
    fn a_file_is_read_with_types_and_settings_that_nobody_knows() {
        let config = StorageConfig::parse(FILE.as_bytes()).unwrap();
        let local = config.get("local").unwrap();
        assert_eq!(
            (local.path(), local.content(), local.is_shared()),
            (Some("/var/lib/vz"), vec!["iso", "images"], false)
        );
        let nfs = config.get("shared-nfs").unwrap();
        assert!(nfs.is_shared() && nfs.is_for("node1") && !nfs.is_for("node3"));
        assert!(!config.get("fast").unwrap().is_for("node1"));
    }

    #[test]
    fn there_is_always_a_local_storage() {
        assert_eq!(StorageConfig::parse(b"").unwrap(), StorageConfig::default());
        assert!(StorageConfig::parse(b"dir: other\n\tpath /x\n").unwrap().get("local").is_some());
    }

    #[test]
    fn a_mistake_is_told_with_its_line() {
        let error = |text: &str| StorageConfig::parse(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(error("\tpath /x\n"), "line 1: 'path /x' is neither 'TYPE: NAME' nor an indented setting");
        assert_eq!(error("dir: a\ndir: a\n"), "line 2: the storage 'a' stands twice");
        assert_eq!(error("dir: a/b\n"), "line 1: 'dir: a/b' is neither 'TYPE: NAME' nor an indented setting");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "([a-z]{0,4}:? ?[a-z.]{0,5}|\t[a-z]{0,4} ?[a-z]{0,4}\n){0,9}") {
            let _ = StorageConfig::parse(text.as_bytes());
        }
    }
}
