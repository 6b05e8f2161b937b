//! `qm list`, `qm status`: what machines do.

use quorate_proto::guest::v1::{self as api, GuestState, GuestStatus};
use serde::Serialize;

use crate::{client::Client, error::Error, exit::Exit, output::Output};

const GIB: f64 = 1_073_741_824.0;

/// Lists the machines of this node.
///
/// `pvecm guests` lists those of the whole cluster.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Accepted for compatibility
    #[arg(long, num_args = 0..=1, require_equals = true)]
    full: Option<Option<String>>,
}

/// Tells what a machine does.
#[derive(Debug, clap::Args)]
pub(crate) struct StatusArgs {
    /// Number of the machine
    vmid: u32,
    /// All that is known
    #[arg(long)]
    verbose: bool,
}

/// A machine, as `-o json` prints it.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    vmid: u32,
    name: String,
    node: String,
    status: String,
    qmpstatus: String,
    pid: u32,
    memory_mib: u64,
    boot_disk_bytes: u64,
    lock: String,
    failure: String,
}

impl From<GuestStatus> for Machine {
    fn from(status: GuestStatus) -> Self {
        Self {
            status: word(&status).to_owned(),
            vmid: status.vmid,
            name: status.name,
            node: status.node,
            qmpstatus: status.qmp_status,
            pid: status.pid,
            memory_mib: status.memory_mib,
            boot_disk_bytes: status.boot_disk_bytes,
            lock: status.lock,
            failure: status.failure,
        }
    }
}

/// The short word for a state.
pub(super) fn word(status: &GuestStatus) -> &str {
    match status.state() {
        GuestState::Stopped | GuestState::Unspecified => "stopped",
        GuestState::Running => "running",
        _ if status.qmp_status.is_empty() => "paused",
        _ => &status.qmp_status,
    }
}

pub(super) async fn list(_args: &ListArgs, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let request = client.request(api::ListRequest {});
    let guests = client.guests().list(request).await.map_err(client.failure())?.into_inner().guests;
    let machines: Vec<Machine> = guests.into_iter().map(Machine::from).collect();
    out.answer(&machines, || table(&machines))?;
    Ok(Exit::Success)
}

/// The columns of the original. Source: spec 3.1.
fn table(machines: &[Machine]) -> String {
    if machines.is_empty() {
        return String::new();
    }
    let head = ["VMID", "NAME", "STATUS", "MEM(MB)", "BOOTDISK(GB)", "PID"].map(str::to_owned);
    let rows = machines.iter().map(|machine| {
        let disk = format!("{:.2}", machine.boot_disk_bytes as f64 / GIB);
        let (vmid, memory, pid) =
            (machine.vmid.to_string(), machine.memory_mib.to_string(), machine.pid.to_string());
        [vmid, machine.name.clone(), machine.status.clone(), memory, disk, pid]
    });
    let line = |[vmid, name, status, memory, disk, pid]: [String; 6]| {
        let line = format!("{vmid:>10} {name:<20} {status:<10} {memory:<10} {disk:>12} {pid:<10}");
        format!("{}\n", line.trim_end())
    };
    std::iter::once(head).chain(rows).map(line).collect()
}

pub(super) async fn status(args: &StatusArgs, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let request = client.request(api::GetStatusRequest { vmid: args.vmid });
    let answer = client.guests().get_status(request).await.map_err(client.failure())?.into_inner();
    let machine = Machine::from(answer.status.ok_or(Error::Incomplete("the status"))?);
    out.answer(&machine, || text(&machine, args.verbose))?;
    Ok(Exit::Success)
}

fn text(machine: &Machine, verbose: bool) -> String {
    let mut lines = vec![("status", machine.status.clone())];
    if verbose {
        lines.extend([
            ("lock", machine.lock.clone()),
            ("memory", format!("{} MiB", machine.memory_mib)),
            ("name", machine.name.clone()),
            ("node", machine.node.clone()),
            ("pid", machine.pid.to_string()),
            ("qmpstatus", machine.qmpstatus.clone()),
        ]);
    }
    lines.push(("failure", machine.failure.clone()));
    lines.retain(|(_, value)| !value.is_empty());
    lines.into_iter().map(|(key, value)| format!("{key}: {value}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(state: GuestState, qmp_status: &str) -> Machine {
        let status = GuestStatus {
            vmid: 100,
            name: "web1".into(),
            memory_mib: 2048,
            boot_disk_bytes: 32 << 30,
            ..Default::default()
        };
        Machine::from(GuestStatus { state: state.into(), qmp_status: qmp_status.into(), ..status })
    }

    #[test]
    fn the_table_has_the_columns_of_the_original() {
        let text = table(&[machine(GuestState::Stopped, "")]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "      VMID NAME                 STATUS     MEM(MB)    BOOTDISK(GB) PID");
        assert_eq!(lines[1], "       100 web1                 stopped    2048              32.00 0");
        assert_eq!(table(&[]), "");
    }

    #[test]
    fn a_state_is_a_short_word_and_a_failure_is_told() {
        assert_eq!(text(&machine(GuestState::Running, "running"), false), "status: running\n");
        assert_eq!(text(&machine(GuestState::Paused, "prelaunch"), false), "status: prelaunch\n");
        let mut failed = machine(GuestState::Stopped, "");
        failed.failure = "QEMU ended unasked".into();
        assert_eq!(text(&failed, false), "status: stopped\nfailure: QEMU ended unasked\n");
    }
}
