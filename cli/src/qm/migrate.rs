//! `qm migrate`, `qm migrations`, `qm migrate-cancel`.

use std::time::{Duration, Instant};

use quorate_proto::migration::v1::{
    self as api, CancelRequest, ListRequest, MigrateRequest, MigrateResponse, MigrationType, Progress,
    migrate_response::Event,
};
use serde::Serialize;
use tonic::{Code, Request, Status, Streaming};

use crate::{
    client::Client,
    error::Error,
    exit::Exit,
    output::{self, Output},
};

/// Between two lines with numbers.
const EVERY: Duration = Duration::from_secs(1);

/// Moves a machine to another node; with --online while it runs.
///
/// Everything that stands in the way is told at once, before anything is changed. Ctrl-C takes the migration back as long as
/// the machine still belongs to this node. A lost connection does not: `qm migrations` shows what is under way.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  qm migrate 100 hp2 --online
  qm migrate 100 hp2 --online --migration_network 10.1.2.0/24
  qm migrate 100 hp2 --online --with-local-disks --targetstorage fast")]
pub(crate) struct MigrateArgs {
    /// Number of the machine
    vmid: u32,
    /// Name of the node to which it goes
    target: String,
    /// Move it while it runs
    #[arg(long)]
    online: bool,
    /// Copy disks that only this node has while the machine runs
    #[arg(long)]
    with_local_disks: bool,
    /// Storage for the copied disks [default: the one of the same name]
    #[arg(long, value_name = "STORAGE", default_value = "", hide_default_value = true)]
    targetstorage: String,
    /// Network that carries the data; each node must have one address in it [default: as datacenter.cfg says]
    #[arg(long = "migration_network", value_name = "CIDR", default_value = "", hide_default_value = true)]
    migration_network: String,
    /// How memory travels [default: as datacenter.cfg says, else secure]
    #[arg(long = "migration_type", value_name = "TYPE", value_parser = ["secure", "insecure"])]
    migration_type: Option<String>,
    /// Most KiB per second; 0: no limit
    #[arg(long, value_name = "KIB", default_value_t = 0)]
    bwlimit: u64,
}

/// Shows the migrations of the cluster that are under way.
#[derive(Debug, clap::Args)]
pub(crate) struct MigrationsArgs {}

/// Takes a migration back: the machine stays where it is. One that is committed goes on.
#[derive(Debug, clap::Args)]
pub(crate) struct CancelArgs {
    /// Number of the machine
    vmid: u32,
}

/// What is told, as `-o json` prints it: one document per line.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line {
    Message {
        message: String,
    },
    Progress {
        state: String,
        memory_transferred: u64,
        memory_remaining: u64,
        memory_total: u64,
        disk_done: u64,
        disk_total: u64,
    },
    Ended {
        moved: bool,
        downtime_ms: u64,
        duration_ms: u64,
        memory_transferred: u64,
        problems: Vec<String>,
    },
}

pub(crate) async fn migrate(args: MigrateArgs, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let vmid = args.vmid;
    let request = Request::new(wanted(args));
    let answers = client.migrations().migrate(request).await.map_err(client.failure())?.into_inner();
    let followed = follow(answers, out);
    tokio::pin!(followed);
    tokio::select! {
        ended = &mut followed => return ended.map_err(|failed| failed.told(client)),
        _ = tokio::signal::ctrl_c() => {}
    }
    // What has been sent is taken back, and how that ends is waited for.
    let cancel = client.request(CancelRequest { vmid });
    client.migrations().cancel(cancel).await.map_err(client.failure())?;
    followed.await.map_err(|failed| failed.told(client))
}

fn wanted(args: MigrateArgs) -> MigrateRequest {
    let kind = match args.migration_type.as_deref() {
        Some("secure") => MigrationType::Secure,
        Some("insecure") => MigrationType::Insecure,
        _ => MigrationType::Unspecified,
    };
    MigrateRequest {
        vmid: args.vmid,
        target: args.target,
        online: args.online,
        with_local_disks: args.with_local_disks,
        target_storage: args.targetstorage,
        migration_network: args.migration_network,
        migration_type: kind.into(),
        bytes_per_second: args.bwlimit.saturating_mul(1024),
    }
}

/// How following ended, if not well.
enum Failed {
    Output(std::io::Error),
    Call(Status),
}

impl Failed {
    fn told(self, client: &Client) -> Error {
        match self {
            Self::Output(error) => error.into(),
            Self::Call(status) => client.failure()(status),
        }
    }
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Self::Output(error)
    }
}

/// Prints what happens until the end.
async fn follow(mut answers: Streaming<MigrateResponse>, out: &mut Output<'_>) -> Result<Exit, Failed> {
    let mut last: Option<Instant> = None;
    loop {
        let answer = answers.message().await.map_err(Failed::Call)?;
        let Some(event) = answer.and_then(|answer| answer.event) else {
            let lost = "the connection to the migration was lost; 'qm migrations' shows whether it goes on";
            return Err(Failed::Call(Status::unavailable(lost)));
        };
        match event {
            Event::Message(message) => {
                out.line(&Line::Message { message: message.clone() }, || message)?;
            }
            Event::Progress(progress) if last.is_none_or(|last| last.elapsed() >= EVERY) => {
                last = Some(Instant::now());
                let text = numbers(&progress);
                out.line(&line(progress), || text)?;
            }
            Event::Progress(_) => {}
            Event::Ended(ended) => return tell_end(ended, out),
        }
    }
}

fn line(progress: Progress) -> Line {
    Line::Progress {
        state: progress.state,
        memory_transferred: progress.memory_transferred,
        memory_remaining: progress.memory_remaining,
        memory_total: progress.memory_total,
        disk_done: progress.disk_done,
        disk_total: progress.disk_total,
    }
}

fn numbers(progress: &Progress) -> String {
    let mib = |bytes: u64| bytes >> 20;
    let mut text = format!(
        "{}: memory {} MiB sent, {} of {} MiB left",
        progress.state,
        mib(progress.memory_transferred),
        mib(progress.memory_remaining),
        mib(progress.memory_total)
    );
    if progress.disk_total > 0 {
        text += &format!("; disks {} of {} MiB", mib(progress.disk_done), mib(progress.disk_total));
    }
    text
}

fn tell_end(ended: api::Ended, out: &mut Output<'_>) -> Result<Exit, Failed> {
    if !ended.moved {
        let message = format!("{}; the machine stays where it was", ended.message);
        let details = quorate_daemon::status::error_named(Code::Aborted, &ended.reason, message);
        return Err(Failed::Call(details));
    }
    let text = format!(
        "moved in {} ms; it stood still for {} ms, {} MiB of memory were sent",
        ended.duration_ms,
        ended.downtime_ms,
        ended.memory_transferred >> 20
    );
    for problem in &ended.problems {
        output::remark("warning", problem);
    }
    let exit = if ended.problems.is_empty() { Exit::Success } else { Exit::Failed };
    let line = Line::Ended {
        moved: true,
        downtime_ms: ended.downtime_ms,
        duration_ms: ended.duration_ms,
        memory_transferred: ended.memory_transferred,
        problems: ended.problems,
    };
    out.line(&line, || text)?;
    Ok(exit)
}

/// A migration, as `-o json` prints it.
#[derive(Debug, Serialize)]
struct Migration {
    migration_id: String,
    vmid: u32,
    source: String,
    target: String,
    state: String,
    online: bool,
    started: u64,
}

pub(crate) async fn migrations(
    _: &MigrationsArgs,
    client: &Client,
    out: &mut Output<'_>,
) -> Result<Exit, Error> {
    let request = client.request(ListRequest {});
    let answer = client.migrations().list(request).await.map_err(client.failure())?.into_inner();
    let all: Vec<Migration> = answer.migrations.into_iter().map(Migration::from).collect();
    out.answer(&all, || {
        let mut rows = vec![["VMID", "SOURCE", "TARGET", "STATE", "ONLINE"].map(str::to_owned).to_vec()];
        rows.extend(all.iter().map(|migration| {
            let online = if migration.online { "yes" } else { "no" };
            let Migration { vmid, source, target, state, .. } = migration;
            vec![vmid.to_string(), source.clone(), target.clone(), state.clone(), online.to_owned()]
        }));
        if all.is_empty() { String::new() } else { output::columns(&rows) }
    })?;
    Ok(Exit::Success)
}

impl From<api::Migration> for Migration {
    fn from(migration: api::Migration) -> Self {
        let api::Migration { migration_id, vmid, source, target, state, online, started } = migration;
        Self { migration_id, vmid, source, target, state, online, started }
    }
}

pub(crate) async fn cancel(args: &CancelArgs, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    let request = client.request(CancelRequest { vmid: args.vmid });
    let answer = client.migrations().cancel(request).await.map_err(client.failure())?.into_inner();
    let id = answer.migration_id;
    out.line(&serde_json::json!({ "migration_id": id }), || format!("{id} is being taken back"))?;
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::qm::{Cli, Command};

    #[test]
    fn the_line_of_the_handbook_is_understood() {
        let line = "qm migrate 106 tre --online --migration_network 10.1.2.0/24";
        let cli = Cli::try_parse_from(line.split(' ')).expect("it is a command");
        let Command::Migrate(args) = cli.command else { panic!("another command") };
        let wanted = wanted(args);
        let expected = MigrateRequest {
            vmid: 106,
            target: "tre".into(),
            online: true,
            migration_network: "10.1.2.0/24".into(),
            ..MigrateRequest::default()
        };
        assert_eq!(wanted, expected);
    }

    #[test]
    fn numbers_are_told_in_mebibytes_and_disks_only_where_they_are_copied() {
        let mut progress = Progress {
            state: "precopy".into(),
            memory_transferred: 3 << 20,
            memory_remaining: 1 << 20,
            memory_total: 4 << 20,
            ..Progress::default()
        };
        assert_eq!(numbers(&progress), "precopy: memory 3 MiB sent, 1 of 4 MiB left");
        progress.disk_total = 8 << 20;
        assert!(numbers(&progress).ends_with("; disks 0 of 8 MiB"));
    }
}
