//! `pvecm cfg`: the files that all nodes share.

pub(crate) mod archive;
mod backup;
mod conflicts;
mod copy;
pub(crate) mod database;
mod diff;
mod entry;
mod get;
mod history;
mod import;
mod ls;
mod mkdir;
mod mv;
mod plan;
mod put;
mod restore;
mod rm;
mod rollback;
mod status;
mod version;
mod watch;

use clap::Subcommand;

use crate::{client::Client, error::Error, exit::Exit, output::Output};

/// Reads, writes and watches the files that all nodes share.
///
/// Reading works without quorum. A write needs it, and is acknowledged when members with a majority of the votes
/// have it on disk. Paths start at the root of the shared tree: datacenter.cfg, nodes/hp1/qemu-server/100.conf.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  pvecm cfg ls
  pvecm cfg get datacenter.cfg
  pvecm cfg put datacenter.cfg FILE
  pvecm cfg watch nodes/hp1
  pvecm cfg history datacenter.cfg
  pvecm cfg backup /root/tree.tar")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Get(get::Args),
    Put(put::Args),
    Ls(ls::Args),
    Mkdir(mkdir::Args),
    Mv(mv::Args),
    Rm(rm::Args),
    Watch(watch::Args),
    Status(status::Args),
    History(history::Args),
    Diff(diff::Args),
    Rollback(rollback::Args),
    Backup(backup::Args),
    Restore(restore::Args),
    Import(import::Args),
    Conflicts(conflicts::Args),
}

impl Args {
    /// The command as the user knows it.
    pub(super) const fn name(&self) -> &'static str {
        match self.action {
            Action::Get(_) => "pvecm cfg get",
            Action::Put(_) => "pvecm cfg put",
            Action::Ls(_) => "pvecm cfg ls",
            Action::Mkdir(_) => "pvecm cfg mkdir",
            Action::Mv(_) => "pvecm cfg mv",
            Action::Rm(_) => "pvecm cfg rm",
            Action::Watch(_) => "pvecm cfg watch",
            Action::Status(_) => "pvecm cfg status",
            Action::History(_) => "pvecm cfg history",
            Action::Diff(_) => "pvecm cfg diff",
            Action::Rollback(_) => "pvecm cfg rollback",
            Action::Backup(_) => "pvecm cfg backup",
            Action::Restore(_) => "pvecm cfg restore",
            Action::Import(_) => "pvecm cfg import",
            Action::Conflicts(_) => "pvecm cfg conflicts",
        }
    }

    /// Whether it may change the tree.
    pub(super) const fn may_change(&self) -> bool {
        match &self.action {
            Action::Put(_) | Action::Mkdir(_) | Action::Mv(_) | Action::Rm(_) | Action::Rollback(_) => true,
            Action::Restore(args) => args.may_change(),
            Action::Import(args) => args.may_change(),
            Action::Conflicts(args) => args.may_change(),
            _ => false,
        }
    }
}

pub(super) async fn run(args: Args, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    match args.action {
        Action::Get(args) => get::run(args, client, out).await,
        Action::Put(args) => put::run(args, client, out).await,
        Action::Ls(args) => ls::run(args, client, out).await,
        Action::Mkdir(args) => mkdir::run(args, client, out).await,
        Action::Mv(args) => mv::run(args, client, out).await,
        Action::Rm(args) => rm::run(args, client, out).await,
        Action::Watch(args) => watch::run(args, client, out).await,
        Action::Status(args) => status::run(&args, client, out).await,
        Action::History(args) => history::run(args, client, out).await,
        Action::Diff(args) => diff::run(args, client, out).await,
        Action::Rollback(args) => rollback::run(args, client, out).await,
        Action::Backup(args) => backup::run(args, client, out).await,
        Action::Restore(args) => restore::run(args, client, out).await,
        Action::Import(args) => import::run(args, client, out).await,
        Action::Conflicts(args) => conflicts::run(args, client, out).await,
    }
}
