//! `pvecm cfg import`: the tree of a Proxmox node.

use std::path::PathBuf;

use super::{copy, database, restore::How};
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
    let wanted = database::read(&args.file);
    let wanted = wanted.map_err(|source| Error::Database { path: args.file.clone(), source })?;
    let (_, tree) = copy::of_cluster(client).await?;
    args.how.bring_in(&wanted, &tree, client, out).await
}
