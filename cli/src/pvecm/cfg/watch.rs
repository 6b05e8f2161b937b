//! `pvecm cfg watch`: every change as it happens.

use std::time::Duration;

use quorate_proto::config::v1::{Change, WatchRequest, WatchResponse, change::Kind};
use serde::Serialize;
use tonic::{Code, Request, Status, Streaming};

use super::entry::Entry;
use crate::{
    client::Client,
    error::Error,
    exit::Exit,
    output::{Output, printable},
};

/// First pause after a break; doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Prints every change below a path, one per line, until it is interrupted.
///
/// A line has the version of the tree after the change, the kind of change, and the path. JSON prints one document per
/// line. When a daemon is started again it goes on by itself where it was; to go on after an end of its own without missing
/// anything, give the last version that was seen to --after. With --timeout it ends by itself, and that is no failure.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  pvecm cfg watch
  pvecm cfg watch nodes/hp1 -o json
  pvecm cfg watch --after 17
  pvecm cfg watch --timeout 10s           what changes in ten seconds")]
pub(super) struct Args {
    /// Changes at this path and below [default: all]
    #[arg(value_name = "PREFIX", default_value = "", hide_default_value = true)]
    prefix: String,
    /// Start with the changes after this version [default: from now on]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = crate::number::version)]
    after: Option<u64>,
}

/// A change, as `-o json` prints it.
#[derive(Debug, Serialize)]
struct Changed {
    /// Version of the tree after it.
    version: u64,
    /// `put`, `deleted`, `renamed` or `reloaded`.
    kind: &'static str,
    /// The entry after the change (deleted: before it); absent for `reloaded`.
    entry: Option<Entry>,
    /// The path before a rename.
    #[serde(skip_serializing_if = "String::is_empty")]
    old_path: String,
    /// Who asked for it, if that is known.
    #[serde(skip_serializing_if = "String::is_empty")]
    caller: String,
}

impl From<Change> for Changed {
    fn from(change: Change) -> Self {
        let kind = match change.kind() {
            Kind::Put => "put",
            Kind::Deleted => "deleted",
            Kind::Renamed => "renamed",
            Kind::Reloaded => "reloaded",
            Kind::Unspecified => "unknown",
        };
        let entry = change.entry.map(Entry::from);
        Self { version: change.version, kind, entry, old_path: change.old_path, caller: change.caller }
    }
}

impl Changed {
    fn text(&self) -> String {
        let name = self.entry.as_ref().map(Entry::name).unwrap_or_default();
        let old = printable(&self.old_path);
        let from = if old.is_empty() { String::new() } else { format!(" (was {old})") };
        format!("{} {} {name}{from}", self.version, self.kind).trim_end().to_owned()
    }
}

pub(super) async fn run(args: Args, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let watch = watch(args, client, out);
    match client.timeout() {
        // Told from outside: a stream's own deadline covers only its beginning.
        Some(limit) => tokio::time::timeout(limit, watch).await.unwrap_or(Ok(Exit::Success)),
        None => watch.await,
    }
}

async fn watch(args: Args, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let mut after = args.after;
    let mut pause = None;
    loop {
        let request = Request::new(WatchRequest { prefix: args.prefix.clone(), after_version: after });
        let broke = match client.config().watch(request).await {
            Ok(answers) => follow(answers.into_inner(), &mut after, &mut pause, out).await?,
            Err(status) => status,
        };
        // What never began is told; what has begun goes on, as long as it may take: it lasts until it is interrupted.
        let Some(wait) = pause.filter(|_| is_passing(&broke)) else { return Err(client.failure()(broke)) };
        tracing::warn!(reason = broke.message(), ?after, "the watch broke and goes on");
        tokio::time::sleep(wait).await;
        pause = Some((wait * 2).min(PAUSE_MAX));
    }
}

/// Prints changes until the stream ends; says why it did.
async fn follow(
    mut answers: Streaming<WatchResponse>,
    after: &mut Option<u64>,
    pause: &mut Option<Duration>,
    out: &mut Output<'_>,
) -> Result<Status, Error> {
    loop {
        let answer = match answers.message().await {
            Ok(Some(answer)) => answer,
            Ok(None) => return Ok(Status::unavailable("the watch ended")),
            Err(status) => return Ok(status),
        };
        for change in answer.changes {
            let change = Changed::from(change);
            out.line(&change, || change.text())?;
        }
        *after = Some(answer.version);
        *pause = Some(PAUSE_MIN);
    }
}

/// Whether a stream broke because somebody went away who comes back.
fn is_passing(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled | Code::DeadlineExceeded
    )
}

#[cfg(test)]
mod tests {
    use quorate_proto::config::v1::{self as proto, EntryKind};

    use super::*;

    fn change(kind: Kind, path: &str, old_path: &str) -> Changed {
        let entry =
            proto::Entry { path: path.into(), kind: EntryKind::File.into(), ..proto::Entry::default() };
        Change {
            kind: kind.into(),
            version: 7,
            entry: Some(entry),
            old_path: old_path.into(),
            ..Change::default()
        }
        .into()
    }

    #[test]
    fn a_change_is_one_line_with_version_kind_and_path() {
        assert_eq!(change(Kind::Put, "datacenter.cfg", "").text(), "7 put datacenter.cfg");
        assert_eq!(change(Kind::Renamed, "b", "a").text(), "7 renamed b (was a)");
        let reloaded = Changed::from(Change { kind: Kind::Reloaded.into(), version: 9, ..Change::default() });
        assert_eq!(reloaded.text(), "9 reloaded");
    }
}
