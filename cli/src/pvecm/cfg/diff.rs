//! `pvecm cfg diff`: what changed in a file.

use bytes::Bytes;
use serde::Serialize;
use similar::TextDiff;

use super::version;
use crate::{
    client::Client,
    error::Error,
    exit::Exit,
    output::{Output, printable},
};

/// Lines around each change.
const CONTEXT: usize = 3;

/// Shows what changed in a file between two versions, as a unified diff.
///
/// With one version: from it to the file as it is now. Without: what its last change did. A version is one of the tree:
/// the file is taken as it was then. Works without quorum.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  pvecm cfg diff storage.cfg
  pvecm cfg diff storage.cfg 1180
  pvecm cfg diff storage.cfg 1180 1192")]
pub(super) struct Args {
    /// Path of the file
    #[arg(value_name = "PATH")]
    path: String,
    /// The version to begin with [default: the one before the last]
    #[arg(value_name = "V1", value_parser = crate::number::version)]
    from: Option<u64>,
    /// The version to end with [default: the file as it is now]
    #[arg(value_name = "V2", value_parser = crate::number::version)]
    to: Option<u64>,
}

/// The document of `pvecm cfg diff -o json`.
#[derive(Debug, Serialize)]
struct Difference {
    path: String,
    /// Version of the tree; absent if there was no file.
    from: Option<u64>,
    to: Option<u64>,
    same: bool,
    /// Unified; absent if one of the two is no text.
    diff: Option<String>,
}

/// One side: the version that made it, and its content.
type Side = Option<(u64, Bytes)>;

pub(super) async fn run(args: Args, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let to = match args.to {
        Some(version) => at(client, &args.path, version).await?,
        None => version::present(client, &args.path).await?,
    };
    let from = match args.from {
        Some(version) => at(client, &args.path, version).await?,
        None => before_the_last(client, &args.path).await?,
    };
    let diff = unified(&args.path, &from, &to);
    let number = |side: &Side| side.as_ref().map(|(version, _)| *version);
    let same = from.as_ref().map(|(_, content)| content) == to.as_ref().map(|(_, content)| content);
    let (from, to) = (number(&from), number(&to));
    let difference = Difference { path: args.path, from, to, same, diff };
    out.answer(&difference, || difference.text())?;
    Ok(Exit::Success)
}

impl Difference {
    fn text(&self) -> String {
        match &self.diff {
            Some(diff) => diff.clone(),
            None if self.same => String::new(),
            None => format!("{} differs, and is no text\n", printable(&self.path)),
        }
    }
}

async fn at(client: &Client, path: &str, version: u64) -> Result<Side, Error> {
    let found = version::get(client, path, version).await?;
    Ok(Some((found.version.map_or(version, |found| found.version), found.content)))
}

/// What the path held before its last change; nothing if that made it.
async fn before_the_last(client: &Client, path: &str) -> Result<Side, Error> {
    let versions = version::list(client, path, 2, 0).await?;
    match versions.get(1) {
        Some(before) if !before.content_kept && before.sha256.is_empty() && is_end(before) => Ok(None),
        Some(before) => at(client, path, before.version).await,
        None => Ok(None),
    }
}

fn is_end(version: &quorate_proto::config::v1::FileVersion) -> bool {
    use quorate_proto::config::v1::file_version::Kind;
    matches!(version.kind(), Kind::Deleted | Kind::MovedAway)
}

/// `None` if one of them is no text.
fn unified(path: &str, from: &Side, to: &Side) -> Option<String> {
    let text = |side: &Side| match side {
        Some((_, content)) => std::str::from_utf8(content).ok().map(str::to_owned),
        None => Some(String::new()),
    };
    let (old, new) = (text(from)?, text(to)?);
    let name = |side: &Side| match side {
        Some((version, _)) => format!("{} version {version}", printable(path)),
        None => "/dev/null".to_owned(),
    };
    let diff = TextDiff::from_lines(&old, &new);
    Some(diff.unified_diff().context_radius(CONTEXT).header(&name(from), &name(to)).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(version: u64, content: &'static [u8]) -> Side {
        Some((version, Bytes::from_static(content)))
    }

    #[test]
    fn a_changed_line_is_shown_with_both_versions() {
        let diff = unified("a", &side(3, b"one\ntwo\n"), &side(7, b"one\n2\n")).unwrap();
        assert_eq!(diff, "--- a version 3\n+++ a version 7\n@@ -1,2 +1,2 @@\n one\n-two\n+2\n");
    }

    #[test]
    fn the_same_is_nothing_and_a_file_that_is_not_there_is_empty() {
        assert_eq!(unified("a", &side(3, b"x\n"), &side(4, b"x\n")).unwrap(), "");
        let made = unified("a", &None, &side(4, b"x\n")).unwrap();
        assert!(made.starts_with("--- /dev/null\n+++ a version 4\n"), "{made}");
    }

    #[test]
    fn what_is_no_text_has_no_lines() {
        assert_eq!(unified("a", &side(3, b"\xff"), &side(4, b"x")), None);
    }
}
