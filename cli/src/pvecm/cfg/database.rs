//! Reading the database of a Proxmox node: `/var/lib/pve-cluster/config.db`.
//!
//! Source: pmxcfs specification, 7.1: one table `tree` of inode, parent, version, writer, mtime, type (8 a file, 4 a
//! directory), name and data; inode 0 holds the tree's own version and is at the same time the parent of what is at the
//! top.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use bytes::Bytes;
use rusqlite::{Connection, OpenFlags};

use super::copy::{BYTES_MAX, Copied, Copy, ENTRIES_MAX, FILE_MAX, Node, path_problem, vmid};

const ROOT: i64 = 0;
const TYPE_DIRECTORY: i64 = 4;
const TYPE_FILE: i64 = 8;

/// Why a database cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// SQLite cannot read it.
    #[error("it cannot be read as the database of a Proxmox node")]
    Sqlite(#[from] rusqlite::Error),
    /// It has more than a tree may have.
    #[error("it has more than a tree may have: {ENTRIES_MAX} entries, {BYTES_MAX} bytes")]
    TooLarge,
    /// Its rows make no tree; one sentence each.
    #[error("its rows make no tree: {}", .0.join("; "))]
    NoTree(Vec<String>),
}

struct Row {
    parent: i64,
    version: i64,
    mtime: i64,
    kind: i64,
    name: String,
    data: Vec<u8>,
}

/// Reads the whole tree.
pub(super) fn read(path: &Path) -> Result<Copy, DatabaseError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    copy(&rows(&Connection::open_with_flags(path, flags)?)?)
}

fn rows(database: &Connection) -> Result<BTreeMap<i64, Row>, DatabaseError> {
    let select = "SELECT inode, parent, version, mtime, type, name, data FROM tree WHERE inode != 0";
    let mut statement = database.prepare(select)?;
    let mut found = statement.query(())?;
    let (mut rows, mut bytes) = (BTreeMap::new(), 0);
    while let Some(row) = found.next()? {
        let data: Option<Vec<u8>> = row.get(6)?;
        let data = data.unwrap_or_default();
        bytes += data.len();
        let made = Row {
            parent: row.get(1)?,
            version: row.get(2)?,
            mtime: row.get(3)?,
            kind: row.get(4)?,
            name: row.get(5)?,
            data,
        };
        rows.insert(row.get(0)?, made);
        if bytes > BYTES_MAX || rows.len() > ENTRIES_MAX {
            return Err(DatabaseError::TooLarge);
        }
    }
    Ok(rows)
}

fn copy(rows: &BTreeMap<i64, Row>) -> Result<Copy, DatabaseError> {
    let mut problems = Vec::new();
    let mut copy = Copy::new();
    let mut guests: BTreeMap<u32, String> = BTreeMap::new();
    for (inode, row) in rows {
        let made = path_of(*inode, rows).and_then(|path| Ok((node(&path, row)?, path)));
        let (node, path) = match made {
            Ok(made) => made,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        if let Some(vmid) = vmid(&path).filter(|_| matches!(node, Node::File(_)))
            && let Some(other) = guests.insert(vmid, path.clone())
        {
            problems.push(format!("VMID {vmid} is used by '{other}' and '{path}'"));
        }
        let version = row.version.try_into().unwrap_or_default();
        let copied = Copied { node, version, modified: row.mtime.try_into().unwrap_or_default() };
        if copy.insert(path.clone(), copied).is_some() {
            problems.push(format!("'{path}' is there twice"));
        }
    }
    if problems.is_empty() { Ok(copy) } else { Err(DatabaseError::NoTree(problems)) }
}

fn path_of(inode: i64, rows: &BTreeMap<i64, Row>) -> Result<String, String> {
    let (mut names, mut seen, mut at) = (Vec::new(), BTreeSet::new(), inode);
    while at != ROOT {
        let row = rows.get(&at).ok_or_else(|| format!("entry {inode} has no directory ({at} is missing)"))?;
        if !seen.insert(at) {
            return Err(format!("entry {inode} is below itself"));
        }
        if at != inode && row.kind != TYPE_DIRECTORY {
            return Err(format!("entry {inode} is below '{}', which is no directory", row.name));
        }
        if row.name.contains('/') {
            return Err(format!("entry {at} has the name '{}'", row.name));
        }
        names.push(row.name.as_str());
        at = row.parent;
    }
    names.reverse();
    let path = names.join("/");
    match path_problem(&path) {
        Some(problem) => Err(format!("entry {inode}, '{path}': {problem}")),
        None => Ok(path),
    }
}

fn node(path: &str, row: &Row) -> Result<Node, String> {
    match row.kind {
        TYPE_DIRECTORY => Ok(Node::Directory),
        TYPE_FILE if row.data.len() > FILE_MAX => Err(format!("'{path}' has more than 1 MiB")),
        TYPE_FILE => Ok(Node::File(Bytes::copy_from_slice(&row.data))),
        other => Err(format!("'{path}' is neither file nor directory, but of type {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Made<'a> = (i64, i64, i64, &'a str, Option<&'a [u8]>);

    fn database(path: &Path, rows: &[Made<'_>]) {
        let database = Connection::open(path).unwrap();
        let table = "CREATE TABLE tree (inode INTEGER PRIMARY KEY NOT NULL, parent INTEGER NOT NULL, version INTEGER NOT NULL, writer INTEGER NOT NULL, mtime INTEGER NOT NULL, type INTEGER NOT NULL, name TEXT NOT NULL, data BLOB)";
        database.execute(table, ()).unwrap();
        for (inode, parent, kind, name, data) in rows {
            let row = (inode, parent, 9, 1, 1_700_000_000, kind, name, data);
            let insert = "INSERT INTO tree VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
            database.execute(insert, row).unwrap();
        }
    }

    fn imported(rows: &[Made<'_>]) -> Result<Copy, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.db");
        database(&path, rows);
        read(&path).map_err(|error| error.to_string())
    }

    const VERSION: Made<'static> = (0, 0, 8, "__version__", None);

    #[test]
    fn files_and_directories_come_with_their_paths_whatever_their_order() {
        let copy = imported(&[
            VERSION,
            (2, 5, 8, "100.conf", Some(b"name: web\n")),
            (3, 0, 4, "nodes", None),
            (4, 3, 4, "hp1", None),
            (5, 4, 4, "qemu-server", None),
            (6, 0, 8, "user.cfg", None),
        ]);
        let copy = copy.unwrap();
        let paths: Vec<&str> = copy.keys().map(String::as_str).collect();
        let expected =
            ["nodes", "nodes/hp1", "nodes/hp1/qemu-server", "nodes/hp1/qemu-server/100.conf", "user.cfg"];
        assert_eq!(paths, expected);
        let guest = &copy["nodes/hp1/qemu-server/100.conf"];
        assert_eq!(guest.node, Node::File(Bytes::from_static(b"name: web\n")));
        assert_eq!((guest.version, guest.modified), (9, 1_700_000_000));
        assert_eq!(copy["user.cfg"].node, Node::File(Bytes::new()));
    }

    #[test]
    fn every_problem_is_told_by_name() {
        let told = imported(&[
            VERSION,
            (2, 0, 4, "nodes", None),
            (3, 2, 4, "a", None),
            (4, 3, 4, "lxc", None),
            (5, 3, 4, "qemu-server", None),
            (6, 4, 8, "100.conf", Some(b"x")),
            (7, 5, 8, "100.conf", Some(b"x")),
            (8, 99, 8, "orphan", None),
            (9, 10, 4, "one", None),
            (10, 9, 4, "other", None),
            (11, 0, 8, "..", None),
            (12, 0, 10, "link", None),
            (13, 6, 8, "below-a-file", None),
            (14, 0, 4, "nodes", None),
        ]);
        let told = told.unwrap_err();
        for part in [
            "VMID 100 is used by 'nodes/a/lxc/100.conf' and 'nodes/a/qemu-server/100.conf'",
            "entry 8 has no directory (99 is missing)",
            "entry 9 is below itself",
            "entry 11, '..'",
            "'link' is neither file nor directory, but of type 10",
            "entry 13 is below '100.conf', which is no directory",
            "'nodes' is there twice",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }

    #[test]
    fn another_database_and_no_database_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        assert!(matches!(read(&path), Err(DatabaseError::Sqlite(_))), "there is none, and none is made");
        assert!(!path.exists());
        std::fs::write(
            &path,
            "no database at all, but longer than a header of one hundred bytes, which it is not",
        )
        .unwrap();
        assert!(matches!(read(&path), Err(DatabaseError::Sqlite(_))));
    }
}
