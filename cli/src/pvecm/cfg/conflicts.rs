//! `pvecm cfg conflicts`: what this node wrote and another history replaced.

use clap::Subcommand;
use quorate_proto::config::v1::{
    Conflict, DropConflictRequest, GetConflictRequest, ListConflictsRequest, change,
    get_conflict_response::Part,
};
use serde::Serialize;

use super::entry::Entry;
use crate::{
    client::Client,
    error::Error,
    exit::Exit,
    output::{Output, columns, printable},
};

/// Shows what this node wrote without the cluster, and the cluster's history replaced.
///
/// It was never acknowledged, or the quorum was overridden when it was written; it lies aside until somebody removes it.
/// To take over a file: show the copy with the file's path and put what is printed.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  pvecm cfg conflicts
  pvecm cfg conflicts show 0
  pvecm cfg conflicts show 0 storage.cfg > storage.cfg
  pvecm cfg conflicts drop 0")]
pub(super) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Lists the copies of this node
    List,
    /// Shows the files and changes of a copy, or the content of one file
    Show {
        /// Number of the copy
        #[arg(value_name = "N", value_parser = crate::number::version)]
        number: u64,
        /// Print the content of this file
        #[arg(value_name = "PATH")]
        path: Option<String>,
    },
    /// Removes a copy for good
    Drop {
        /// Number of the copy
        #[arg(value_name = "N", value_parser = crate::number::version)]
        number: u64,
    },
}

impl Args {
    /// Whether something may be removed.
    pub(super) const fn may_change(&self) -> bool {
        matches!(self.action, Some(Action::Drop { .. }))
    }
}

/// A copy, as `-o json` prints it.
#[derive(Debug, Serialize)]
struct Listed {
    number: u64,
    /// Last version of the history that was left, and the last one that it shares with the other.
    version: u64,
    common_version: u64,
    /// Version of the history that replaced it, then.
    winner_version: u64,
    entries: u64,
    changes: u64,
}

impl From<Conflict> for Listed {
    fn from(conflict: Conflict) -> Self {
        let Conflict { number, version, common_version, winner_version, entries, changes } = conflict;
        Self { number, version, common_version, winner_version, entries, changes }
    }
}

/// A change that was left.
#[derive(Debug, Serialize)]
struct Left {
    version: u64,
    kind: &'static str,
    path: String,
    caller: String,
}

/// The document of `pvecm cfg conflicts show -o json`.
#[derive(Debug, Default, Serialize)]
struct Shown {
    entries: Vec<Entry>,
    changes: Vec<Left>,
}

pub(super) async fn run(args: Args, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    match args.action.unwrap_or(Action::List) {
        Action::List => list(client, out).await,
        Action::Show { number, path } => show(client, out, number, path).await,
        Action::Drop { number } => {
            let request = client.request(DropConflictRequest { number });
            let answer =
                client.history().drop_conflict(request).await.map_err(client.failure())?.into_inner();
            let document = serde_json::json!({ "number": number, "entries": answer.entries });
            out.answer(&document, || {
                format!("conflict copy {number} with {} entries removed\n", answer.entries)
            })?;
            Ok(Exit::Success)
        }
    }
}

async fn list(client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let request = client.request(ListConflictsRequest {});
    let answer = client.history().list_conflicts(request).await.map_err(client.failure())?.into_inner();
    let listed: Vec<Listed> = answer.conflicts.into_iter().map(Listed::from).collect();
    out.answer(&listed, || table(&listed))?;
    Ok(Exit::Success)
}

fn table(listed: &[Listed]) -> String {
    if listed.is_empty() {
        return "no conflict copies on this node\n".to_owned();
    }
    let header = ["NUMBER", "ENTRIES", "CHANGES", "VERSIONS", "REPLACED BY"].map(str::to_owned).to_vec();
    let row = |copy: &Listed| {
        let versions = format!("{} to {}", copy.common_version + 1, copy.version);
        let numbers = [copy.number.to_string(), copy.entries.to_string(), copy.changes.to_string()];
        numbers.into_iter().chain([versions, format!("version {}", copy.winner_version)]).collect()
    };
    columns(&std::iter::once(header).chain(listed.iter().map(row)).collect::<Vec<_>>())
}

async fn show(
    client: &Client,
    out: &mut Output<'_>,
    number: u64,
    path: Option<String>,
) -> Result<Exit, Error> {
    let request = client.request(GetConflictRequest { number });
    let mut parts = client.history().get_conflict(request).await.map_err(client.failure())?.into_inner();
    let mut shown = Shown::default();
    while let Some(part) = parts.message().await.map_err(client.failure())? {
        match part.part {
            Some(Part::Item(item)) => {
                let entry = Entry::of(item.entry)?;
                if path.as_ref() == Some(&entry.path) {
                    out.raw(&item.content)?;
                    return Ok(Exit::Success);
                }
                shown.entries.push(entry);
            }
            Some(Part::Change(change)) => {
                let kind = match change.kind() {
                    change::Kind::Deleted => "deleted",
                    change::Kind::Renamed => "renamed",
                    _ => "put",
                };
                let path = change.entry.map(|entry| entry.path).unwrap_or_default();
                shown.changes.push(Left { version: change.version, kind, path, caller: change.caller });
            }
            None => {}
        }
    }
    if let Some(path) = path {
        return Err(Error::Parameters(vec![format!("path: '{path}' is not in conflict copy {number}")]));
    }
    out.answer(&shown, || shown.text())?;
    Ok(Exit::Success)
}

impl Shown {
    fn text(&self) -> String {
        let mut text = columns(&self.entries.iter().map(Entry::row).collect::<Vec<_>>());
        for left in &self.changes {
            text.push_str(&format!(
                "{} {} {} {}",
                left.version,
                left.kind,
                printable(&left.path),
                left.caller
            ));
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_listed_with_the_versions_that_only_it_has() {
        let copy = Conflict {
            number: 2,
            version: 30,
            common_version: 27,
            winner_version: 41,
            entries: 4,
            changes: 3,
        };
        let text = table(&[Listed::from(copy)]);
        assert_eq!(text.lines().nth(1), Some("2       4        3        28 to 30  version 41"));
        assert_eq!(table(&[]), "no conflict copies on this node\n");
    }
}
