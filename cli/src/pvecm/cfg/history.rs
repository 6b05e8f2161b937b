//! `pvecm cfg history`: the versions of a file.

use super::version::{self, Version};
use crate::{
    client::Client,
    error::Error,
    exit::Exit,
    output::{Output, columns},
};

/// Lists the versions of a file, the newest first: when, by whom, and how.
///
/// A file that was deleted is found by its path. WRITER is the number of the node that wrote, CALLER who asked it to: a
/// process of that node as user@unix:process/uid, or node:NAME. SIZE is - where this node does not have the content (any
/// more); another node may have it. Works without quorum.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  pvecm cfg history storage.cfg
  pvecm cfg history nodes/hp1/qemu-server/100.conf --limit 5
  pvecm cfg history storage.cfg --before 1200")]
pub(super) struct Args {
    /// Path of the file
    #[arg(value_name = "PATH")]
    path: String,
    /// At most so many versions, up to 1000 [default: 100]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = crate::number::positive, default_value = "100", hide_default_value = true)]
    limit: u32,
    /// Only versions before this one
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = crate::number::version, default_value = "0", hide_default_value = true)]
    before: u64,
}

pub(super) async fn run(args: Args, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let versions = version::list(client, &args.path, args.limit, args.before).await?;
    let versions: Vec<Version> = versions.into_iter().map(Version::from).collect();
    out.answer(&versions, || table(&versions, &args.path))?;
    Ok(Exit::Success)
}

fn table(versions: &[Version], asked: &str) -> String {
    let header = ["VERSION", "TIME", "WRITER", "CALLER", "SIZE", "WHAT", ""].map(str::to_owned).to_vec();
    let rows = versions.iter().map(|version| version.row(asked));
    columns(&std::iter::once(header).chain(rows).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use quorate_proto::config::v1::{FileVersion, file_version::Kind};

    use super::*;

    #[test]
    fn each_version_is_a_line_and_a_content_that_is_not_here_has_no_size() {
        let version = |version, kind: Kind, content_kept| FileVersion {
            version,
            path: "a".to_owned(),
            kind: kind.into(),
            other_path: if kind == Kind::MovedHere { "a.tmp".to_owned() } else { String::new() },
            writer: 2,
            caller: "root@unix:7/0".to_owned(),
            size: 12,
            content_kept,
            ..FileVersion::default()
        };
        let versions =
            [version(9, Kind::MovedHere, true), version(4, Kind::Written, false)].map(Version::from);
        let text = table(&versions, "a");
        let expected = "\
VERSION  TIME  WRITER  CALLER         SIZE  WHAT
9        -     2       root@unix:7/0  12    moved here from a.tmp
4        -     2       root@unix:7/0  -     written
";
        assert_eq!(text, expected);
    }
}
