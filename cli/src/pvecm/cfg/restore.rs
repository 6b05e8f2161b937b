//! `pvecm cfg restore`: files of a backup into the tree.

use std::{
    fs::File,
    io::{self, Read},
    path::PathBuf,
};

use super::{
    archive,
    copy::{self, Copy},
    plan::{Choice, Plan, confirm},
};
use crate::{client::Client, error::Error, exit::Exit, output::Output};

/// Writes the files of a backup into the shared tree.
///
/// Files that the backup does not have stay. corosync.conf is left alone unless it is asked for, and locks always are.
/// It is done in transactions of up to 200 files, each of which happens as a whole; a file that somebody else writes at
/// the same moment makes its transaction fail. What was replaced can be had again with `pvecm cfg history` and
/// `pvecm cfg rollback`. Needs quorum.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  pvecm cfg restore /root/tree.tar --dry-run
  pvecm cfg restore /root/tree.tar --prefix nodes/hp1/qemu-server
  pvecm cfg restore /root/tree.tar --force")]
pub(super) struct Args {
    /// The archive; - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    how: How,
}

impl Args {
    /// Whether the tree may be changed.
    pub(super) const fn may_change(&self) -> bool {
        !self.how.dry_run
    }
}

pub(super) async fn run(args: Args, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let input: Box<dyn Read> = if args.file.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        let opened = File::open(&args.file);
        Box::new(opened.map_err(|source| Error::ReadInput { path: args.file.clone(), source })?)
    };
    let read = archive::read(io::BufReader::new(input));
    let (manifest, wanted) = read.map_err(|source| Error::Archive { path: args.file.clone(), source })?;
    let (header, tree) = copy::of_cluster(client).await?;
    if manifest.cluster != header.cluster {
        let text = format!("this backup is of cluster '{}', this is '{}'", manifest.cluster, header.cluster);
        crate::output::remark("warning", &text);
    }
    args.how.bring_in(&wanted, &tree, client, out).await
}

/// How a tree from outside is brought in: `pvecm cfg restore` and `pvecm cfg import`.
#[derive(Debug, clap::Args)]
pub(super) struct How {
    /// Only print what would be done
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Only this path and what is below
    #[arg(long, value_name = "PATH")]
    prefix: Option<String>,
    /// Also corosync.conf: the members and addresses of the cluster
    #[arg(long)]
    with_corosync_conf: bool,
    /// Do not ask
    #[arg(long)]
    force: bool,
}

impl How {
    /// Prints what there is to do, then does it.
    pub(super) async fn bring_in(
        self,
        wanted: &Copy,
        tree: &Copy,
        client: &Client,
        out: &mut Output<'_>,
    ) -> Result<Exit, Error> {
        let prefix = self.prefix.map(|prefix| prefix.trim_end_matches('/').to_owned());
        let choice = Choice { prefix, corosync_conf: self.with_corosync_conf };
        let plan = Plan::of(wanted, tree, &choice);
        out.answer(&plan, || plan.text())?;
        carry_out(&plan, client, self.dry_run, self.force).await
    }
}

/// Asks if need be, then performs a plan that was printed.
async fn carry_out(plan: &Plan, client: &Client, dry_run: bool, force: bool) -> Result<Exit, Error> {
    if dry_run || (plan.changes.is_empty() && plan.conflicts.is_empty()) {
        return Ok(Exit::Success);
    }
    if !force && plan.conflicts.is_empty() {
        confirm(&format!("Make these {} changes?", plan.changes.len()))?;
    }
    let version = plan.perform(client).await?;
    crate::output::remark("done", &format!("the tree is at version {version}"));
    Ok(Exit::Success)
}
