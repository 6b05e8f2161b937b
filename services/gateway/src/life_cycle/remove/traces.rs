//! What else in the tree is of a node that goes: its directory, its join tokens, its lines in the files of SSH keys, and
//! what other files say of it.

use quorate_proto::config::v1::{Entry, EntryKind};
use tonic::Status;

use super::super::guests;
use crate::{
    batch::Batch,
    token::{TOKEN_DIRECTORY, TokenRecord},
    tree::Tree,
};

/// Files with one SSH key per line. Source: pvecm specification, 4.1 and 6.
const KEY_FILES: [&str; 2] = ["priv/authorized_keys", "priv/known_hosts"];
/// Configuration that may name nodes, whose meaning an operator must judge: an emptied list of nodes would mean all of them.
const NAMING: [&str; 7] =
    ["storage.cfg", "replication.cfg", "jobs.cfg", "datacenter.cfg", "vzdump.cron", "ha/", "sdn/"];
/// Files of that kind that are searched: more than any cluster has.
const NAMING_MAX: usize = 64;

/// What there is of a node in the tree.
#[derive(Debug, Default)]
pub(super) struct Traces {
    /// Changes that move its directory to the archive, in order.
    pub(super) moves: Batch,
    /// Changes that take its tokens and keys away.
    pub(super) credentials: Batch,
    /// What `credentials` does, for people.
    pub(super) steps: Vec<String>,
    /// Its guests, as `100 (n4)`.
    pub(super) guests: Vec<String>,
    /// Files that name it and are left alone.
    pub(super) named_in: Vec<String>,
}

/// Everything of a node called `name`, with `addresses`, that goes to `archive`.
///
/// # Errors
/// What configd says.
pub(super) async fn of(
    tree: &Tree,
    name: &str,
    addresses: &[String],
    archive: &str,
) -> Result<Traces, Status> {
    let entries = tree.list(&format!("nodes/{name}")).await?;
    let mut traces = Traces { guests: guests::of(&entries), ..Traces::default() };
    if !entries.is_empty() {
        traces.moves = moves(&entries, &format!("nodes/{name}"), &format!("{archive}/node"));
    }
    for path in KEY_FILES {
        let Some(file) = tree.read(path).await? else { continue };
        if let Some((rest, dropped)) = without(&file.text(), name, addresses) {
            traces.credentials.put(path, rest, Some(file.version));
            traces.steps.push(format!("{path}: {dropped} line(s) of '{name}' go"));
        }
    }
    tokens(tree, name, &mut traces).await?;
    traces.named_in = named_in(tree, name).await?;
    Ok(traces)
}

/// Makes the directories anew at their new place, moves the files, deletes the old directories, deepest first.
fn moves(entries: &[Entry], from: &str, to: &str) -> Batch {
    let mut moves = Batch::default();
    let target = |path: &str| format!("{to}{}", &path[from.len()..]);
    let (mut directories, files): (Vec<_>, Vec<_>) = entries
        .iter()
        .map(|entry| (&entry.path, entry.kind()))
        .partition(|(_, kind)| *kind == EntryKind::Directory);
    directories.sort();
    moves.make_directory(to);
    directories.iter().for_each(|(path, _)| moves.make_directory(target(path)));
    files.iter().for_each(|(path, _)| moves.rename(path.as_str(), target(path)));
    directories.iter().rev().for_each(|(path, _)| moves.delete(path.as_str(), None));
    moves.delete(from, None);
    moves
}

/// The lines that are not of the node, and how many are; `None` if none is. A key is of a node whose name ends its comment
/// (`root@n4`), or that stands among the hosts at the beginning of a line of known hosts.
fn without(text: &str, name: &str, addresses: &[String]) -> Option<(String, usize)> {
    let is_its = |line: &&str| {
        let host = |host: &str| host == name || addresses.iter().any(|address| address == host);
        let mut words = line.split_ascii_whitespace();
        let hosts = words.next().is_some_and(|hosts| !line.starts_with('#') && hosts.split(',').any(host));
        hosts
            || words
                .next_back()
                .and_then(|comment| comment.rsplit_once('@'))
                .is_some_and(|(_, at)| at == name)
    };
    let dropped = text.lines().filter(is_its).count();
    let rest = text.lines().filter(|line| !is_its(line)).map(|line| format!("{line}\n")).collect();
    (dropped > 0).then_some((rest, dropped))
}

async fn tokens(tree: &Tree, name: &str, traces: &mut Traces) -> Result<(), Status> {
    for entry in tree.list(TOKEN_DIRECTORY).await?.into_iter().filter(|entry| entry.kind() == EntryKind::File)
    {
        let Some(file) = tree.read(&entry.path).await? else { continue };
        let its = TokenRecord::from_json(&file.content).is_ok_and(|token| token.node_name == name);
        if its {
            traces.credentials.delete(entry.path, Some(file.version));
            traces.steps.push(format!("a join token for '{name}' becomes worthless"));
        }
    }
    Ok(())
}

async fn named_in(tree: &Tree, name: &str) -> Result<Vec<String>, Status> {
    let is_naming =
        |path: &str| NAMING.iter().any(|one| path == *one || one.ends_with('/') && path.starts_with(one));
    let files = tree.list("").await?.into_iter();
    let files = files.filter(|entry| entry.kind() == EntryKind::File && is_naming(&entry.path));
    let mut found = Vec::new();
    for entry in files.take(NAMING_MAX) {
        let file = tree.read(&entry.path).await?;
        if file.is_some_and(|file| names(&file.text(), name)) {
            found.push(entry.path);
        }
    }
    Ok(found)
}

/// Whether a text has the name as a word of its own.
fn names(text: &str, name: &str) -> bool {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '.')).any(|word| word == name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_lines_of_a_node_go_and_no_other() {
        let text = "# keys\nssh-rsa AAAA root@n4\nssh-rsa BBBB root@n40\nssh-rsa CCCC root@n1\n";
        let (rest, dropped) = without(text, "n4", &[]).unwrap();
        assert_eq!((rest.as_str(), dropped), ("# keys\nssh-rsa BBBB root@n40\nssh-rsa CCCC root@n1\n", 1));
        let hosts = "n4,10.0.0.4 ssh-rsa AAAA\n10.0.0.4 ssh-rsa AAAA\nn1 ssh-rsa CCCC\n";
        let (rest, dropped) = without(hosts, "n4", &["10.0.0.4".into()]).unwrap();
        assert_eq!((rest.as_str(), dropped), ("n1 ssh-rsa CCCC\n", 2));
        assert_eq!(without("ssh-rsa CCCC root@n1\n", "n4", &[]), None);
    }

    #[test]
    fn a_name_is_found_as_a_word_only() {
        assert!(names("dir: local\n\tnodes n1,n4\n", "n4"));
        assert!(!names("nodes n1,n40,xn4,n4-b", "n4"));
    }

    #[test]
    fn a_directory_is_moved_whole_and_the_old_one_deleted_from_below() {
        let entry =
            |path: &str, kind: EntryKind| Entry { path: path.into(), kind: kind.into(), ..Entry::default() };
        let entries = [
            entry("nodes/n4/gateway", EntryKind::File),
            entry("nodes/n4/lxc", EntryKind::Directory),
            entry("nodes/n4/lxc/100.conf", EntryKind::File),
        ];
        let moves = format!("{:?}", moves(&entries, "nodes/n4", "a/node"));
        let places = [
            r#"Mkdir { path: "a/node" }"#,
            r#"Mkdir { path: "a/node/lxc" }"#,
            r#"from: "nodes/n4/lxc/100.conf", to: "a/node/lxc/100.conf""#,
            r#"Delete { path: "nodes/n4/lxc""#,
            r#"Delete { path: "nodes/n4","#,
        ]
        .map(|part| moves.find(part).unwrap_or_else(|| panic!("{part} is not in {moves}")));
        assert!(places.is_sorted(), "{moves}");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_readers_panic(text in "\\PC{0,60}(\n\\PC{0,60}){0,3}", name in "[a-z0-9-]{1,8}") {
            let _ = without(&text, &name, &[]);
            let _ = names(&text, &name);
        }
    }
}
