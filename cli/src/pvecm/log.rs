//! `pvecm log`: the cluster log.

use quorate_proto::config::v1::{LogEntry, ReadLogRequest};
use serde::Serialize;

use crate::{
    client::Client,
    error::Error,
    exit::Exit,
    output::{Output, columns, printable},
    time::{local, timestamp},
};

/// Shows what happened in the cluster, newest first.
///
/// Each node keeps the newest entries of all nodes, 128 KiB of them, in memory. Works without quorum: then only what the
/// nodes that see each other wrote is there.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  pvecm log
  pvecm log -n 5 --user root@pam
  pvecm log -o json")]
pub(crate) struct Args {
    /// At most so many entries
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    max: u32,
    /// Only what this user caused [default: all]
    #[arg(long, value_name = "USER", default_value = "", hide_default_value = true)]
    user: String,
}

/// An entry, as `-o json` prints it. The time is RFC 3339 in UTC.
#[derive(Debug, Serialize)]
struct Entry {
    time: Option<String>,
    node: String,
    user: String,
    tag: String,
    pid: u32,
    priority: u32,
    message: String,
}

impl From<LogEntry> for Entry {
    fn from(entry: LogEntry) -> Self {
        Self {
            time: timestamp(entry.time.as_ref()).map(|time| time.to_string()),
            node: entry.node,
            user: entry.user,
            tag: entry.tag,
            pid: entry.pid,
            priority: entry.priority,
            message: entry.message,
        }
    }
}

pub(super) async fn run(args: Args, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let request = client.request(ReadLogRequest { max: args.max, user: args.user });
    let entries = client.status().read_log(request).await.map_err(client.failure())?.into_inner().entries;
    let text = text(&entries);
    let entries: Vec<Entry> = entries.into_iter().map(Entry::from).collect();
    out.answer(&entries, || text)?;
    Ok(Exit::Success)
}

fn text(entries: &[LogEntry]) -> String {
    let mut rows = vec![["TIME", "NODE", "USER", "TAG", "MESSAGE"].map(str::to_owned).to_vec()];
    for entry in entries {
        let time = timestamp(entry.time.as_ref()).map_or_else(|| "-".to_owned(), local);
        let texts = [&entry.node, &entry.user, &entry.tag, &entry.message];
        let texts = texts.into_iter().map(|text| printable(text).into_owned());
        rows.push(std::iter::once(time).chain(texts).collect());
    }
    columns(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_cannot_steer_the_terminal() {
        let entry = LogEntry { node: "n1".into(), message: "a\u{1b}[2Jb\nc".into(), ..LogEntry::default() };
        let text = text(&[entry]);
        assert_eq!(text.lines().count(), 2, "{text:?}");
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
}
