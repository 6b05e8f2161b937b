//! `qm start`, `shutdown`, `stop`, `reset`, `wait`, `monitor`.

use std::time::Duration;

use quorate_daemon::client::deadline;
use quorate_proto::guest::v1::{self as api, GuestState, monitor_request::Command};
use serde_json::json;
use tonic::Request;

use super::list::Machine;
use crate::{client::Client, error::Error, exit::Exit, output::Output};

/// Time for a start.
const START: Duration = Duration::from_secs(60);
/// Time that a machine has to switch itself off.
const SHUTDOWN: Duration = Duration::from_secs(60);
/// More than that for the answer.
const ANSWER: Duration = Duration::from_secs(20);

/// Starts a machine.
///
/// Needs quorum, and the machine's lease: it may run on one node only.
#[derive(Debug, clap::Args)]
pub(crate) struct StartArgs {
    /// Number of the machine
    vmid: u32,
    /// Although it is locked
    #[arg(long)]
    skiplock: bool,
    /// Do not run it yet: `qm monitor ID cont` lets it go
    #[arg(long)]
    paused: bool,
    /// You vouch that this node, which has the machine's lease, is off
    #[arg(long, value_name = "NODE", default_value = "", hide_default_value = true)]
    node_is_off: String,
}

/// Asks a machine to switch itself off, and waits for it: --timeout, one minute if it is not given.
#[derive(Debug, clap::Args)]
pub(crate) struct ShutdownArgs {
    /// Number of the machine
    vmid: u32,
    /// End it when the time is over
    #[arg(long = "forceStop", alias = "force-stop")]
    force_stop: bool,
    /// Although it is locked
    #[arg(long)]
    skiplock: bool,
}

/// Ends a machine at once, as by pulling its plug. Works without quorum.
#[derive(Debug, clap::Args)]
pub(crate) struct StopArgs {
    /// Number of the machine
    vmid: u32,
    /// Although it is locked
    #[arg(long)]
    skiplock: bool,
}

/// Presses a machine's reset button.
#[derive(Debug, clap::Args)]
pub(crate) struct ResetArgs {
    /// Number of the machine
    vmid: u32,
    /// Although it is locked
    #[arg(long)]
    skiplock: bool,
}

/// Waits until a machine is off: --timeout, for ever if it is not given.
#[derive(Debug, clap::Args)]
pub(crate) struct WaitArgs {
    /// Number of the machine
    vmid: u32,
}

/// Gives a command to the monitor of a machine's QEMU, and prints the answer.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  qm monitor 100 info status
  qm monitor 100 --qmp '{\"execute\": \"query-block\"}'")]
pub(crate) struct MonitorArgs {
    /// Number of the machine
    vmid: u32,
    /// The command is one of QMP, in JSON
    #[arg(long)]
    qmp: bool,
    /// The command
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

pub(super) async fn start(args: StartArgs, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let StartArgs { vmid, skiplock: skip_lock, paused, node_is_off } = args;
    let message = api::StartRequest { vmid, skip_lock, paused, node_is_off };
    let answer = client.guests().start(deadline(message, client.timeout_or(START))).await;
    let answer = answer.map_err(client.failure())?.into_inner();
    let machine = Machine::from(answer.status.ok_or(Error::Incomplete("the status"))?);
    out.answer(&machine, String::new)?;
    Ok(Exit::Success)
}

pub(super) async fn shutdown(
    args: &ShutdownArgs,
    client: &Client,
    out: &mut Output<'_>,
) -> Result<Exit, Error> {
    let within = client.timeout_or(SHUTDOWN);
    let timeout_ms = within.as_millis().try_into().unwrap_or(u64::MAX);
    let (vmid, force_stop, skip_lock) = (args.vmid, args.force_stop, args.skiplock);
    let message = api::ShutdownRequest { vmid, timeout_ms, force_stop, skip_lock };
    let answer = client.guests().shutdown(deadline(message, within + ANSWER)).await;
    let forced = answer.map_err(client.failure())?.into_inner().forced;
    out.answer(&json!({ "forced": forced }), String::new)?;
    Ok(Exit::Success)
}

pub(super) async fn stop(args: &StopArgs, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let message = api::StopRequest { vmid: args.vmid, skip_lock: args.skiplock };
    let answer = client.guests().stop(deadline(message, client.timeout_or(ANSWER))).await;
    let was_running = answer.map_err(client.failure())?.into_inner().was_running;
    out.answer(&json!({ "was_running": was_running }), String::new)?;
    Ok(Exit::Success)
}

pub(super) async fn reset(args: &ResetArgs, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let request = client.request(api::ResetRequest { vmid: args.vmid, skip_lock: args.skiplock });
    client.guests().reset(request).await.map_err(client.failure())?;
    out.answer(&json!({}), String::new)?;
    Ok(Exit::Success)
}

pub(super) async fn wait(args: &WaitArgs, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let off = async {
        // A machine that this node has not is refused here, not waited for.
        let first = client.request(api::GetStatusRequest { vmid: args.vmid });
        client.guests().get_status(first).await.map_err(client.failure())?;
        let watch = Request::new(api::WatchRequest { vmid: args.vmid });
        let mut states = client.guests().watch(watch).await.map_err(client.failure())?.into_inner();
        while let Some(answer) = states.message().await.map_err(client.failure())? {
            let is_off = |status: &api::GuestStatus| {
                matches!(status.state(), GuestState::Stopped | GuestState::Unspecified)
            };
            if answer.status.as_ref().is_some_and(is_off) {
                return Ok(());
            }
        }
        Err(Error::Incomplete("the watch of the machine"))
    };
    match client.timeout() {
        Some(timeout) => {
            tokio::time::timeout(timeout, off).await.unwrap_or(Err(Error::Incomplete("the wait")))?
        }
        None => off.await?,
    }
    out.answer(&json!({}), String::new)?;
    Ok(Exit::Success)
}

pub(super) async fn monitor(
    args: &MonitorArgs,
    client: &Client,
    out: &mut Output<'_>,
) -> Result<Exit, Error> {
    let text = args.command.join(" ");
    let command = if args.qmp { Command::Qmp(text) } else { Command::Human(text) };
    let request = client.request(api::MonitorRequest { vmid: args.vmid, command: Some(command) });
    let output = client.guests().monitor(request).await.map_err(client.failure())?.into_inner().output;
    let output = output.replace("\r\n", "\n");
    out.answer(&json!({ "output": output }), || {
        if output.ends_with('\n') || output.is_empty() { output.clone() } else { format!("{output}\n") }
    })?;
    Ok(Exit::Success)
}
