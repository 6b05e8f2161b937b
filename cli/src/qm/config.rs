//! `qm create`, `config`, `set`, `unlock`, `destroy`: configurations and disks.

use std::{collections::BTreeMap, time::Duration};

use quorate_daemon::client::deadline;
use quorate_proto::guest::v1 as api;
use serde_json::json;

use super::{entries, list::Machine};
use crate::{
    client::Client,
    error::Error,
    exit::Exit,
    output::{Output, remark},
};

/// Time for what makes or deletes disks.
const DISKS: Duration = Duration::from_secs(60);

/// Makes a machine, with its disks.
///
/// A disk that is given as STORAGE:SIZE, in GiB, is made; format=qcow2 behind it chooses the format.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  qm create 100 --name web1 --memory 2048 --scsihw virtio-scsi-pci --scsi0 local:32,format=qcow2
  qm create 101 --memory 512 --virtio0 local:0.25 --net0 virtio,bridge=vmbr0 --onboot 1 --start")]
pub(crate) struct CreateArgs {
    /// Number of the machine: 100 to 999999999, unused in the cluster
    vmid: u32,
    /// Keys of the configuration: --KEY VALUE; --start
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    options: Vec<String>,
}

/// Prints the configuration of a machine.
#[derive(Debug, clap::Args)]
pub(crate) struct ConfigArgs {
    /// Number of the machine
    vmid: u32,
    /// Only what is in effect, without what waits for the next start
    #[arg(long)]
    current: bool,
}

/// Changes the configuration of a machine.
///
/// What cannot change while it runs waits for its next start.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  qm set 100 --memory 4096 --onboot 1
  qm set 100 --delete net1,startup
  qm set 100 --virtio1 local:8")]
pub(crate) struct SetArgs {
    /// Number of the machine
    vmid: u32,
    /// Keys of the configuration: --KEY VALUE; --delete KEY,...; --digest SHA1; --skiplock
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    options: Vec<String>,
}

/// Removes the lock of a machine.
///
/// For locks that were left by something that broke off. Make sure that nothing works on the machine any more.
#[derive(Debug, clap::Args)]
pub(crate) struct UnlockArgs {
    /// Number of the machine
    vmid: u32,
}

/// Removes a machine and the disks that it owns.
#[derive(Debug, clap::Args)]
pub(crate) struct DestroyArgs {
    /// Number of the machine
    vmid: u32,
    /// Also disks of its number that its configuration does not name
    #[arg(long = "destroy-unreferenced-disks")]
    unreferenced: bool,
    /// Although it is locked
    #[arg(long)]
    skiplock: bool,
}

pub(super) async fn create(args: CreateArgs, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let read = entries::read(&args.options)?;
    if !read.delete.is_empty() || !read.digest.is_empty() {
        return Err(Error::Parameters(vec!["--delete and --digest are for `qm set`".to_owned()]));
    }
    let message = api::CreateRequest { vmid: args.vmid, entries: read.set, start: read.start };
    let request = deadline(message, client.timeout_or(DISKS));
    let answer = client.guests().create(request).await.map_err(client.failure())?.into_inner();
    let machine = Machine::from(answer.status.ok_or(Error::Incomplete("the status"))?);
    out.answer(&machine, String::new)?;
    Ok(Exit::Success)
}

pub(super) async fn config(args: &ConfigArgs, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let request = client.request(api::GetConfigRequest { vmid: args.vmid, current: args.current });
    let answer = client.guests().get_config(request).await.map_err(client.failure())?.into_inner();
    let mut entries: BTreeMap<String, String> =
        answer.entries.into_iter().map(|entry| (entry.key, entry.value)).collect();
    let text =
        || entries.iter().map(|(key, value)| format!("{key}: {}\n", value.replace('\n', "\\n"))).collect();
    if !out.is_json() {
        out.answer(&(), text)?;
        return Ok(Exit::Success);
    }
    entries.insert("digest".to_owned(), answer.digest);
    out.answer(&entries, String::new)?;
    Ok(Exit::Success)
}

pub(super) async fn set(args: SetArgs, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let read = entries::read(&args.options)?;
    if read.set.is_empty() && read.delete.is_empty() {
        return Err(Error::Parameters(vec![
            "nothing is to be changed: --KEY VALUE or --delete KEY".to_owned(),
        ]));
    }
    let entries::Entries { set, delete, digest, skip_lock, .. } = read;
    let message = api::SetConfigRequest { vmid: args.vmid, entries: set, delete, digest, skip_lock };
    let request = deadline(message, client.timeout_or(DISKS));
    let answer = client.guests().set_config(request).await.map_err(client.failure())?.into_inner();
    if !answer.pending.is_empty() {
        remark("note", &format!("waits for the next start of {}: {}", args.vmid, answer.pending.join(", ")));
    }
    out.answer(&json!({ "pending": answer.pending, "digest": answer.digest }), String::new)?;
    Ok(Exit::Success)
}

pub(super) async fn unlock(args: &UnlockArgs, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let request = client.request(api::UnlockRequest { vmid: args.vmid });
    let lock = client.guests().unlock(request).await.map_err(client.failure())?.into_inner().lock;
    out.answer(&json!({ "lock": lock }), String::new)?;
    Ok(Exit::Success)
}

pub(super) async fn destroy(
    args: &DestroyArgs,
    client: &Client,
    out: &mut Output<'_>,
) -> Result<Exit, Error> {
    let message = api::DestroyRequest {
        vmid: args.vmid,
        unreferenced_disks: args.unreferenced,
        skip_lock: args.skiplock,
    };
    let request = deadline(message, client.timeout_or(DISKS));
    let freed = client.guests().destroy(request).await.map_err(client.failure())?.into_inner().freed;
    out.answer(&json!({ "freed": freed }), || {
        freed.iter().map(|volume| format!("deleted {volume}\n")).collect()
    })?;
    Ok(Exit::Success)
}
