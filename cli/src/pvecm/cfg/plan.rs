//! Bringing files into the tree: what would change, what stands against it, and doing it in transactions.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use bytes::Bytes;
use quorate_daemon::client::deadline;
use quorate_proto::config::v1::{
    TransactOperation, TransactRequest,
    transact_operation::{Mkdir, Operation, Put},
};
use serde::Serialize;

use super::copy::{Copy, FILE_MAX, Node, vmid};
use crate::{client::Client, error::Error, output::printable};

/// The members of the cluster: never touched unless that is asked for.
const COROSYNC_CONF: &str = "corosync.conf";
/// Locks belong to whoever holds them, not to a copy.
const LOCKS: &str = "priv/lock/";
/// Operations and bytes of one transaction: within the bounds of the service, with room for names.
const OPERATIONS: usize = 200;
const BYTES: usize = 2 << 20;
/// Time for one transaction.
const WITHIN: Duration = Duration::from_secs(30);

/// What to bring in.
#[derive(Debug, Clone, Default)]
pub(super) struct Choice {
    /// Only this path and what is below.
    pub(super) prefix: Option<String>,
    /// Also corosync.conf.
    pub(super) corosync_conf: bool,
}

impl Choice {
    fn has(&self, path: &str) -> bool {
        let below = |prefix: &String| {
            path.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let wanted = self.prefix.as_ref().is_none_or(below);
        wanted && (self.corosync_conf || path != COROSYNC_CONF) && !path.starts_with(LOCKS)
    }
}

/// What happens to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Step {
    /// A directory is made.
    Directory,
    /// A file is made.
    New,
    /// A file gets other content.
    Changed,
}

/// A change, as it is printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Change {
    step: Step,
    path: String,
    /// Of the new content.
    size: usize,
    #[serde(skip)]
    content: Bytes,
    /// The version that it replaces.
    #[serde(skip)]
    replaces: u64,
}

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Plan {
    pub(super) changes: Vec<Change>,
    /// Files that are as they should be.
    pub(super) unchanged: usize,
    /// Files of the tree that the copy has not; they stay.
    pub(super) only_in_the_tree: usize,
    /// Why nothing can be done, one sentence each.
    pub(super) conflicts: Vec<String>,
}

impl Plan {
    /// What makes the tree have what the copy has.
    pub(super) fn of(copy: &Copy, tree: &Copy, choice: &Choice) -> Self {
        let mut plan = Self::default();
        let mut guests: BTreeMap<u32, &str> =
            tree.keys().filter_map(|path| Some((vmid(path)?, &**path))).collect();
        let mut paths: BTreeMap<&str, &Node> = BTreeMap::new();
        for (path, copied) in copy.iter().filter(|(path, _)| choice.has(path)) {
            // The way to it is made, whatever the copy says of it.
            let parents = path.match_indices('/').map(|(at, _)| &path[..at]);
            for parent in parents {
                paths.entry(parent).or_insert(&Node::Directory);
            }
            paths.insert(path, &copied.node);
        }
        for (path, node) in paths {
            let there = tree.get(path).map(|there| (&there.node, there.version));
            match (node, there) {
                (Node::Directory, Some((Node::Directory, _))) => {}
                (Node::Directory, None) => plan.add(Step::Directory, path, &Bytes::new(), 0),
                (Node::Directory, Some(_)) => {
                    plan.conflict(path, "is a file in the tree, and a directory here")
                }
                (Node::File(_), Some((Node::Directory, _))) => {
                    plan.conflict(path, "is a directory in the tree, and a file here");
                }
                (Node::File(new), Some((Node::File(old), _))) if new == old => plan.unchanged += 1,
                (Node::File(new), _) if new.len() > FILE_MAX => plan.conflict(path, "has more than 1 MiB"),
                (Node::File(new), Some((_, version))) => plan.add(Step::Changed, path, new, version),
                (Node::File(new), None) => {
                    let owner = vmid(path).and_then(|vmid| Some((vmid, guests.insert(vmid, path)?)));
                    match owner {
                        Some((vmid, owner)) => {
                            let why = format!("has VMID {vmid}, which is in use by '{}'", printable(owner));
                            plan.conflict(path, &why);
                        }
                        None => plan.add(Step::New, path, new, 0),
                    }
                }
            }
        }
        let alone = |(path, there): &(&String, &super::copy::Copied)| {
            matches!(there.node, Node::File(_)) && choice.has(path) && !copy.contains_key(*path)
        };
        plan.only_in_the_tree = tree.iter().filter(alone).count();
        plan
    }

    fn add(&mut self, step: Step, path: &str, content: &Bytes, replaces: u64) {
        let (path, content) = (path.to_owned(), content.clone());
        self.changes.push(Change { step, path, size: content.len(), content, replaces });
    }

    fn conflict(&mut self, path: &str, why: &str) {
        self.conflicts.push(format!("'{}' {why}", printable(path)));
    }

    /// For people: a line for each change, then the numbers.
    pub(super) fn text(&self) -> String {
        let line = |change: &Change| match change.step {
            Step::Directory => format!("directory  {}/\n", printable(&change.path)),
            Step::New => format!("new        {}  {} bytes\n", printable(&change.path), change.size),
            Step::Changed => format!("changed    {}  {} bytes\n", printable(&change.path), change.size),
        };
        let mut text: String = self.changes.iter().map(line).collect();
        text.extend(self.conflicts.iter().map(|conflict| format!("conflict   {conflict}\n")));
        text + &format!(
            "{} to change, {} unchanged, {} only in the tree (they stay), {} conflicts\n",
            self.changes.len(),
            self.unchanged,
            self.only_in_the_tree,
            self.conflicts.len()
        )
    }

    /// Performs it, or says why not. Each transaction happens as a whole; what was done before a refusal stays.
    pub(super) async fn perform(&self, client: &Client) -> Result<u64, Error> {
        if !self.conflicts.is_empty() {
            return Err(Error::Conflicts(self.conflicts.clone()));
        }
        let (mut version, mut done) = (0, 0);
        for batch in self.batches() {
            let operations: Vec<TransactOperation> = batch.iter().map(operation).collect();
            let request = TransactRequest { operations, request_id: Bytes::new() };
            let request = deadline(request, client.timeout_or(WITHIN));
            let answer = client.config().transact(request).await.map_err(client.failure());
            let answer = answer.map_err(|error| partly(error, done, self.changes.len()))?;
            version = answer.into_inner().version;
            done += batch.len();
        }
        Ok(version)
    }

    fn batches(&self) -> Vec<&[Change]> {
        let mut batches = Vec::new();
        let (mut begin, mut bytes) = (0, 0);
        for (at, change) in self.changes.iter().enumerate() {
            if at > begin && (at - begin == OPERATIONS || bytes + change.size > BYTES) {
                batches.push(&self.changes[begin..at]);
                (begin, bytes) = (at, 0);
            }
            bytes += change.size;
        }
        if begin < self.changes.len() {
            batches.push(&self.changes[begin..]);
        }
        batches
    }
}

fn partly(error: Error, done: usize, all: usize) -> Error {
    if done > 0 {
        let text =
            format!("{done} of {all} changes were made before this; run the command again for the others");
        crate::output::remark("note", &text);
    }
    error
}

fn operation(change: &Change) -> TransactOperation {
    let path = change.path.clone();
    let operation = match change.step {
        Step::Directory => Operation::Mkdir(Mkdir { path }),
        Step::New | Step::Changed => {
            let expected_version = Some(change.replaces);
            Operation::Put(Put { path, content: change.content.clone(), expected_version })
        }
    };
    TransactOperation { operation: Some(operation) }
}

/// Asks on the terminal.
///
/// # Errors
/// [`Error::NotConfirmed`] if the answer is no, or nobody can be asked.
pub(super) fn confirm(question: &str) -> Result<(), Error> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(Error::NotConfirmed);
    }
    let mut stderr = io::stderr().lock();
    write!(stderr, "{question} (yes/no): ")?;
    stderr.flush()?;
    let mut line = String::new();
    stdin.read_line(&mut line).map_err(|source| Error::ReadInput { path: "/dev/stdin".into(), source })?;
    if matches!(line.trim(), "y" | "yes") { Ok(()) } else { Err(Error::NotConfirmed) }
}

#[cfg(test)]
mod tests {
    use super::{super::copy::Copied, *};

    fn copy(entries: &[(&str, Option<&'static str>)]) -> Copy {
        let node = |content: &Option<&'static str>| match content {
            Some(content) => Node::File(Bytes::from_static(content.as_bytes())),
            None => Node::Directory,
        };
        let copied = |content| Copied { node: node(content), version: 7, modified: 0 };
        entries.iter().map(|(path, content)| ((*path).to_owned(), copied(content))).collect()
    }

    fn steps(plan: &Plan) -> Vec<(Step, &str)> {
        plan.changes.iter().map(|change| (change.step, change.path.as_str())).collect()
    }

    #[test]
    fn only_what_differs_is_changed_and_directories_come_first() {
        let tree = copy(&[("a", Some("1")), ("b", Some("2")), ("c", Some("3"))]);
        let wanted = copy(&[("a", Some("1")), ("b", Some("new")), ("d/e/f", Some("4"))]);
        let plan = Plan::of(&wanted, &tree, &Choice::default());
        let expected =
            [(Step::Changed, "b"), (Step::Directory, "d"), (Step::Directory, "d/e"), (Step::New, "d/e/f")];
        assert_eq!(steps(&plan), expected);
        assert_eq!((plan.unchanged, plan.only_in_the_tree, plan.conflicts.len()), (1, 1, 0));
        assert_eq!(plan.changes[0].replaces, 7, "nobody else's write is lost");
        assert_eq!(Plan::of(&tree, &tree, &Choice::default()).changes, []);
    }

    #[test]
    fn corosync_conf_and_locks_are_left_alone_unless_asked_for() {
        let wanted = copy(&[("corosync.conf", Some("x")), ("priv/lock/ha", None), ("priv/key", Some("k"))]);
        let plan = |choice: &Choice| Plan::of(&wanted, &Copy::new(), choice);
        assert_eq!(steps(&plan(&Choice::default())), [(Step::Directory, "priv"), (Step::New, "priv/key")]);
        let with = Choice { corosync_conf: true, prefix: Some("corosync.conf".to_owned()) };
        assert_eq!(steps(&plan(&with)), [(Step::New, "corosync.conf")]);
    }

    #[test]
    fn a_prefix_takes_whole_names_only() {
        let wanted = copy(&[("nodes/hp1/config", Some("x")), ("nodes/hp11/config", Some("x"))]);
        let choice = Choice { prefix: Some("nodes/hp1".to_owned()), ..Choice::default() };
        let plan = Plan::of(&wanted, &copy(&[("nodes", None)]), &choice);
        assert_eq!(steps(&plan), [(Step::Directory, "nodes/hp1"), (Step::New, "nodes/hp1/config")]);
    }

    #[test]
    fn what_stands_against_it_is_told_by_name() {
        let tree = copy(&[("d", None), ("f", Some("1")), ("nodes/a/lxc/100.conf", Some("x"))]);
        let wanted = copy(&[
            ("d", Some("file")),
            ("f", None),
            ("nodes/b/lxc/100.conf", Some("x")),
            ("nodes/b/lxc/101.conf", Some("x")),
            ("nodes/c/lxc/101.conf", Some("x")),
        ]);
        let plan = Plan::of(&wanted, &tree, &Choice::default());
        let told = plan.conflicts.join("\n");
        assert_eq!(plan.conflicts.len(), 4, "{told}");
        assert!(
            told.contains("'nodes/b/lxc/100.conf' has VMID 100, which is in use by 'nodes/a/lxc/100.conf'")
        );
        assert!(
            told.contains("'nodes/c/lxc/101.conf' has VMID 101, which is in use by 'nodes/b/lxc/101.conf'")
        );
    }

    #[test]
    fn transactions_are_bounded_and_nothing_is_left_out() {
        let content = Bytes::from(vec![0; 700_000]);
        let change = |at: usize, content: &Bytes| Change {
            step: Step::New,
            path: format!("f{at}"),
            size: content.len(),
            content: content.clone(),
            replaces: 0,
        };
        let large = (0..7).map(|at| change(at, &content));
        let small = (7..500).map(|at| change(at, &Bytes::new()));
        let plan = Plan { changes: large.chain(small).collect(), ..Plan::default() };
        let batches = plan.batches();
        assert!(batches.iter().all(|batch| batch.len() <= OPERATIONS));
        assert!(batches.iter().all(|batch| batch.iter().map(|change| change.size).sum::<usize>() <= BYTES));
        assert_eq!(batches.concat(), plan.changes);
    }
}
