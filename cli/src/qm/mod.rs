//! `qm`: virtual machines of this node.
//!
//! A file for each kind of command; `entries.rs` reads `--KEY VALUE`, which may be any key of a configuration.

mod config;
mod entries;
mod list;
mod migrate;
mod power;
mod run;

pub use run::main;

use clap::{Parser, Subcommand};

use crate::pvecm::Global;

/// Manages the virtual machines of this node.
///
/// A machine belongs to the node under which its configuration lies, nodes/NODE/qemu-server/VMID.conf in the shared tree.
/// Changes and starts need quorum; machines that run go on without it.
#[derive(Debug, Parser)]
#[command(
    name = "qm",
    version,
    disable_help_subcommand = true,
    arg_required_else_help = true,
    subcommand_required = true,
    max_term_width = 100,
    after_long_help = "\
Examples:
  qm create 100 --name web1 --memory 2048 --cores 2 --scsihw virtio-scsi-pci --scsi0 local:32
  qm set 100 --onboot 1 --startup order=1,up=30
  qm start 100
  qm shutdown 100 --timeout 2m --forceStop

Options of every command, such as -o json, stand before the number of create and set.

Exit status: 0 success, 255 any failure."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    List(list::ListArgs),
    Status(list::StatusArgs),
    Create(config::CreateArgs),
    Config(config::ConfigArgs),
    Set(config::SetArgs),
    Unlock(config::UnlockArgs),
    Destroy(config::DestroyArgs),
    Start(power::StartArgs),
    Shutdown(power::ShutdownArgs),
    Stop(power::StopArgs),
    Reset(power::ResetArgs),
    Wait(power::WaitArgs),
    Monitor(power::MonitorArgs),
    Migrate(migrate::MigrateArgs),
    Migrations(migrate::MigrationsArgs),
    MigrateCancel(migrate::CancelArgs),
}
