//! Starting QEMU, and finding again what an earlier guestd has started.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, OpenOptions},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use guest_core::{
    VmConfig, Vmid, VolumeId,
    command_line::{self, Disk, Files, Surroundings},
    network::Card,
};
use tokio::process::Command;

use crate::{
    error::Error,
    guests::Guests,
    machine::{self, Facts, Machine},
    process::Process,
};

/// The program.
const QEMU: &str = "qemu-system-x86_64";
/// How long it may take until its control sockets are there.
const START: Duration = Duration::from_secs(30);
/// Pause between attempts to reach a QEMU that runs and does not answer.
const AGAIN: Duration = Duration::from_secs(1);

/// What is to be started.
pub(crate) struct Launch<'a> {
    /// The guest.
    pub(crate) vmid: Vmid,
    /// Its configuration.
    pub(crate) config: &'a VmConfig,
    /// The machine type, instead of the configuration's.
    pub(crate) machine: Option<String>,
    /// It waits for this migration.
    pub(crate) incoming: Option<String>,
}

/// Now, in seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Whether the host's processors can virtualise and KVM is there. Opening the device proves nothing: it opens where no guest
/// runs.
fn has_kvm() -> bool {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = processors.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    Path::new("/dev/kvm").exists() && flags.split_whitespace().any(|flag| flag == "vmx" || flag == "svm")
}

/// Starts QEMU; the guest does not run yet.
///
/// # Errors
/// [`Error`]; nothing is left of the process then.
pub(crate) async fn launch(guests: &Arc<Guests>, what: Launch<'_>) -> Result<Arc<Machine>, Error> {
    let directory = guests.directory(what.vmid);
    let around = Surroundings {
        vmid: what.vmid,
        directory: directory.clone(),
        has_kvm: has_kvm(),
        disks: disks(guests, what.config).await?,
        cards: command_line::cards(what.config)?,
        machine: what.machine,
        is_incoming: what.incoming.is_some(),
    };
    let arguments = command_line::arguments(what.config, &around)?;
    prepare(&directory)?;
    let facts = Facts { started: now(), incoming: what.incoming };
    machine::store(&directory, &facts)?;
    let started = start(what.vmid, &directory, &arguments, facts).await;
    let started = match started {
        Ok(machine) => plug_in(what.vmid, &around.cards).await.map(|()| machine),
        Err(error) => Err(error),
    };
    match started {
        Ok(machine) => {
            let machine = Arc::new(machine);
            guests.follow(machine.clone());
            Ok(machine)
        }
        Err(error) => {
            kill_left(&directory).await;
            Err(error)
        }
    }
}

/// Makes an empty directory for this user alone.
fn prepare(directory: &Path) -> Result<(), Error> {
    if directory.exists() {
        fs::remove_dir_all(directory).map_err(Error::file(directory))?;
    }
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(Error::file(directory))
}

async fn start(vmid: Vmid, directory: &Path, arguments: &[String], facts: Facts) -> Result<Machine, Error> {
    let failed = |reason: String| Error::Qemu { vmid: vmid.get(), reason };
    let files = Files(directory);
    let stderr = OpenOptions::new().create(true).append(true).mode(0o600).open(files.stderr());
    let stderr = stderr.map_err(Error::file(files.stderr()))?;
    let mut command = Command::new(QEMU);
    command.args(arguments).current_dir(directory).stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
    // It divides itself: what is waited for here ends when the control sockets are there, the guest is nobody's child.
    let ended = tokio::time::timeout(START, command.kill_on_drop(true).status()).await;
    let status = match ended {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => {
            return Err(failed(format!(
                "cannot run {QEMU}: {error}; is the package qemu-system-x86 installed?"
            )));
        }
        Err(_) => return Err(failed(format!("no sign of life within {} s", START.as_secs()))),
    };
    if !status.success() {
        return Err(failed(machine::stderr(directory)));
    }
    let process = Process::of_file(&files.pid(), &files.mark());
    let process =
        process.ok_or_else(|| failed(format!("it ended at once: {}", machine::stderr(directory))))?;
    let attached = Machine::attach(vmid, directory.to_owned(), process, facts).await;
    attached.map_err(Error::qmp(vmid))
}

/// Kills what a start that failed has left.
async fn kill_left(directory: &Path) {
    let files = Files(directory);
    if let Some(process) = Process::of_file(&files.pid(), &files.mark()) {
        if let Err(error) = process.kill() {
            tracing::error!(%error, pid = process.pid(), "cannot be killed");
            return;
        }
        process.ended().await;
    }
}

/// The drives with the files behind their volumes.
async fn disks(guests: &Guests, config: &VmConfig) -> Result<Vec<Disk>, Error> {
    let mut disks = Vec::new();
    for drive in command_line::drives(config)? {
        let (file, format) = match drive.volume() {
            Some(volume) => (Some(existing(guests, volume).await?), volume.format()),
            None => (None, guest_core::volume::Format::Raw),
        };
        let is_direct = file.as_deref().is_some_and(can_be_direct);
        disks.push(Disk { drive, file, format, is_direct });
    }
    Ok(disks)
}

async fn existing(guests: &Guests, volume: &VolumeId) -> Result<PathBuf, Error> {
    let path = guests.volume_path(volume).await?;
    if path.exists() { Ok(path) } else { Err(Error::VolumeUnknown(volume.to_string())) }
}

/// Whether the file system can read past the host's cache.
fn can_be_direct(path: &Path) -> bool {
    OpenOptions::new().read(true).custom_flags(nix::libc::O_DIRECT).open(path).is_ok()
}

/// Plugs the host's end of each card into its bridge.
async fn plug_in(vmid: Vmid, cards: &[Card]) -> Result<(), Error> {
    for card in cards {
        let Some(bridge) = &card.bridge else { continue };
        let tap = command_line::tap_name(vmid, card.number);
        let arguments = ["link", "set", "dev", &tap, "master", bridge, "up"];
        let output = Command::new("ip").args(arguments).stdin(Stdio::null()).output().await;
        let reason = match output {
            Ok(output) if output.status.success() => continue,
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => format!("cannot run ip: {error}"),
        };
        let reason = format!("net{} cannot be plugged into the bridge '{bridge}': {reason}", card.number);
        return Err(Error::Qemu { vmid: vmid.get(), reason });
    }
    Ok(())
}

/// Names of the disks in QEMU's block graph, by key.
pub(crate) fn block_nodes(config: &VmConfig) -> Result<std::collections::HashMap<String, String>, Error> {
    let drives = command_line::drives(config)?.into_iter().filter(|drive| drive.volume().is_some());
    Ok(drives
        .map(|drive| (drive.slot.to_string(), drive.block_node()))
        .collect::<BTreeMap<_, _>>()
        .into_iter()
        .collect())
}

/// Finds the processes that an earlier guestd has started. One that does not answer is tried again for ever: it runs.
pub(crate) async fn find_again(guests: &Arc<Guests>) {
    for entry in fs::read_dir(guests.run_dir()).into_iter().flatten().flatten() {
        let Some(vmid) = entry.file_name().to_str().and_then(|name| name.parse::<Vmid>().ok()) else {
            continue;
        };
        let directory = entry.path();
        if !attach(guests, vmid, &directory).await {
            tokio::spawn(keep_attaching(guests.clone(), vmid, directory));
        }
    }
}

/// False if there is a process that does not answer.
async fn attach(guests: &Arc<Guests>, vmid: Vmid, directory: &Path) -> bool {
    let files = Files(directory);
    let Some(process) = Process::of_file(&files.pid(), &files.mark()) else { return true };
    let pid = process.pid();
    match Machine::attach(vmid, directory.to_owned(), process, machine::load(directory)).await {
        Ok(machine) => {
            tracing::info!(vmid = vmid.get(), pid, "found again");
            guests.follow(Arc::new(machine));
            true
        }
        Err(error) => {
            let error = quorate_daemon::telemetry::chain(&error);
            tracing::error!(vmid = vmid.get(), pid, error, "runs and does not answer");
            false
        }
    }
}

async fn keep_attaching(guests: Arc<Guests>, vmid: Vmid, directory: PathBuf) {
    // Nothing may be started meanwhile.
    let _turn = guests.turn(vmid).await;
    loop {
        tokio::time::sleep(AGAIN).await;
        if attach(&guests, vmid, &directory).await {
            return;
        }
    }
}
