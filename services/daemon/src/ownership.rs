//! Whose data lies in `var/lib/quorate`: a node never starts with the data of another one.
//!
//! The first daemon to start writes the node's name into `var/lib/quorate/node-name`; every later start compares.
//! A ring id or a replica that is copied to a second node would break the promises of both.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use quorate_types::NodeName;

use crate::paths::Root;

/// Mode of `var/lib/quorate`.
const PRIVATE: u32 = 0o700;

/// Why the data below the root may not be used.
#[derive(Debug, thiserror::Error)]
pub enum OwnershipError {
    /// The data belongs to another node.
    #[error(
        "the data in {} belongs to node '{owner}', but this node is '{node}'; \
         use the right --root, correct 'name' in etc/quorate/node.toml, or move the directory away to start empty",
        directory.display()
    )]
    OtherNode {
        /// Where the data lies.
        directory: PathBuf,
        /// Whose it is.
        owner: String,
        /// Who wants to start.
        node: NodeName,
    },
    /// The mark of ownership cannot be read or written.
    #[error("cannot read or write {}", path.display())]
    Mark {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Makes sure that the data below `root` is this node's, marking it on the first start.
///
/// # Errors
/// [`OwnershipError`]; nothing was changed then.
pub fn claim(root: &Root, node: &NodeName) -> Result<(), OwnershipError> {
    let path = root.owner_mark();
    let failed = |source| OwnershipError::Mark { path: path.clone(), source };
    loop {
        match fs::read_to_string(&path) {
            Ok(owner) if owner.trim_end() == node.as_str() => return Ok(()),
            Ok(owner) => {
                let directory = path.parent().unwrap_or(Path::new("/")).to_owned();
                return Err(OwnershipError::OtherNode {
                    directory,
                    owner: owner.trim_end().to_owned(),
                    node: node.clone(),
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => mark(&path, node).map_err(failed)?,
            Err(error) => return Err(failed(error)),
        }
    }
}

/// Writes the mark in one step. Daemons that start at the same time may all try: the first one wins, and
/// the others read what it wrote.
fn mark(path: &Path, node: &NodeName) -> io::Result<()> {
    make_private(path.parent().unwrap_or(Path::new("/")))?;
    let staged = path.with_extension(std::process::id().to_string());
    let written = write_synced(&staged, node);
    let linked = written.and_then(|()| fs::hard_link(&staged, path));
    fs::remove_file(&staged)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn write_synced(path: &Path, node: &NodeName) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    writeln!(file, "{node}")?;
    file.sync_all()
}

/// Makes the directory for its owner alone: in it lie the replicated tree with the cluster's CA key, and the node's.
fn make_private(directory: &Path) -> io::Result<()> {
    if let Some(parent) = directory.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::DirBuilder::new().recursive(true).mode(PRIVATE).create(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> NodeName {
        name.parse().unwrap()
    }

    #[test]
    fn the_first_start_marks_the_data_and_later_starts_find_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(dir.path());

        assert!(claim(&root, &name("hp1")).is_ok());
        assert!(claim(&root, &name("hp1")).is_ok());
        assert_eq!(fs::read_to_string(root.owner_mark()).unwrap(), "hp1\n");
        let directory = root.owner_mark().parent().unwrap().to_owned();
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "the mark and nothing else");
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(directory).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o700, "the CA's key will lie in it");
    }

    #[test]
    fn data_of_another_node_is_refused_with_both_names() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(dir.path());
        claim(&root, &name("hp1")).unwrap();

        let error = claim(&root, &name("hp2")).unwrap_err().to_string();

        assert!(error.contains("belongs to node 'hp1'") && error.contains("this node is 'hp2'"), "{error}");
    }
}
