//! `pvecm cfg import`: the tree of a Proxmox node.

use std::path::PathBuf;

use super::{
    copy, database,
    plan::{Choice, Plan},
    restore::carry_out,
};
use crate::{client::Client, error::Error, exit::Exit, output::Output};

/// Writes the files of a Proxmox node's database into the shared tree.
///
/// The database is /var/lib/pve-cluster/config.db of that node: stop pve-cluster there before you copy it, and copy
/// config.db-wal with it if there is one. It is only read. Nothing is changed if a VMID of it is in use, if it
/// uses one twice, or if a file stands where the other has a directory. corosync.conf is left alone unless it is
/// asked for, and locks always are. Files that the database does not have stay. Needs quorum.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  pvecm cfg import /root/config.db --dry-run
  pvecm cfg import /root/config.db --prefix nodes/pve1
  pvecm cfg import /root/config.db --force")]
pub(super) struct Args {
    /// The database
    #[arg(value_name = "CONFIG.DB")]
    file: PathBuf,
    /// Only print what would be done
    #[arg(long)]
    dry_run: bool,
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

impl Args {
    /// Whether the tree may be changed.
    pub(super) const fn may_change(&self) -> bool {
        !self.dry_run
    }
}

pub(super) async fn run(args: Args, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let wanted = database::read(&args.file);
    let wanted = wanted.map_err(|source| Error::Database { path: args.file.clone(), source })?;
    let (_, tree) = copy::of_cluster(client).await?;
    let prefix = args.prefix.map(|prefix| prefix.trim_end_matches('/').to_owned());
    let choice = Choice { prefix, corosync_conf: args.with_corosync_conf };
    let plan = Plan::of(&wanted, &tree, &choice);
    out.answer(&plan, || plan.text())?;
    carry_out(&plan, client, args.dry_run, args.force).await
}
