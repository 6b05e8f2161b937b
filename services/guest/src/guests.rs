//! What all calls share: who runs, whose turn it is with a guest, and who is told of changes.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use guest_core::{VmConfig, Vmid};
use quorate_daemon::{Daemon, Root};
use tokio::sync::{Notify, OwnedMutexGuard, broadcast};

use crate::{
    error::Error,
    lease,
    machine::Machine,
    metrics::GuestMetrics,
    tree::{ERROR, INFO, Tree},
};

/// Changes that a slow watcher may be behind.
const CHANGES_MAX: usize = 1024;
/// Events after which QEMU is asked what it does.
const TELLING: [&str; 11] = [
    "STOP",
    "RESUME",
    "SHUTDOWN",
    "POWERDOWN",
    "RESET",
    "SUSPEND",
    "WAKEUP",
    "MIGRATION",
    "GUEST_PANICKED",
    "BLOCK_IO_ERROR",
    "WATCHDOG",
];

/// A configuration as it was read.
#[derive(Debug, Clone)]
pub(crate) struct Read {
    /// What it says.
    pub(crate) config: VmConfig,
    /// The file.
    pub(crate) text: bytes::Bytes,
    /// Its version in the tree.
    pub(crate) version: u64,
}

/// This node's guests.
pub struct Guests {
    pub(crate) root: Root,
    pub(crate) node: String,
    pub(crate) tree: Tree,
    pub(crate) metrics: GuestMetrics,
    pub(crate) changes: broadcast::Sender<Vmid>,
    /// A lease could not be given back: try again.
    pub(crate) leases_left: Notify,
    machines: Mutex<BTreeMap<Vmid, Arc<Machine>>>,
    failures: Mutex<BTreeMap<Vmid, String>>,
    turns: Mutex<BTreeMap<Vmid, Arc<tokio::sync::Mutex<()>>>>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Guests {
    /// None runs as far as is known.
    #[must_use]
    pub fn new(daemon: &Daemon) -> Self {
        Self {
            root: daemon.root.clone(),
            node: daemon.node.name.to_string(),
            tree: Tree::new(&daemon.root),
            metrics: daemon.metrics.register(GuestMetrics::register),
            changes: broadcast::Sender::new(CHANGES_MAX),
            leases_left: Notify::new(),
            machines: Mutex::default(),
            failures: Mutex::default(),
            turns: Mutex::default(),
        }
    }

    /// Waits for the turn with a guest: one change at a time.
    pub(crate) async fn turn(&self, vmid: Vmid) -> OwnedMutexGuard<()> {
        let turn = locked(&self.turns).entry(vmid).or_default().clone();
        turn.lock_owned().await
    }

    /// The directory of all guests' sockets.
    pub(crate) fn run_dir(&self) -> PathBuf {
        self.root.run_dir().join("guests")
    }

    /// The directory of one guest's sockets.
    pub(crate) fn directory(&self, vmid: Vmid) -> PathBuf {
        self.run_dir().join(vmid.to_string())
    }

    /// The path of a configuration of this node.
    pub(crate) fn config_path(&self, vmid: Vmid) -> String {
        config_path(&self.node, vmid)
    }

    /// The process of a guest.
    pub(crate) fn machine(&self, vmid: Vmid) -> Option<Arc<Machine>> {
        locked(&self.machines).get(&vmid).cloned()
    }

    /// The process of a guest, which must have one.
    pub(crate) fn running(&self, vmid: Vmid) -> Result<Arc<Machine>, Error> {
        self.machine(vmid).ok_or(Error::Stopped(vmid.get()))
    }

    /// All guests that have a process.
    pub(crate) fn machines(&self) -> Vec<Arc<Machine>> {
        locked(&self.machines).values().cloned().collect()
    }

    /// Why a guest's last process ended, if it was not to.
    pub(crate) fn failure(&self, vmid: Vmid) -> String {
        locked(&self.failures).get(&vmid).cloned().unwrap_or_default()
    }

    /// Tells watchers that a guest changed.
    pub(crate) fn changed(&self, vmid: Vmid) {
        // Nobody may be watching.
        let _ = self.changes.send(vmid);
    }

    /// Reads a configuration from this node's replica.
    pub(crate) async fn read(&self, vmid: Vmid) -> Result<Read, Error> {
        let file = self.tree.read(&self.config_path(vmid)).await?;
        self.understood(vmid, file).await
    }

    /// Reads a configuration as the cluster has it now: needs quorum.
    pub(crate) async fn read_newest(&self, vmid: Vmid) -> Result<Read, Error> {
        let file = self.tree.read_newest(&self.config_path(vmid)).await?;
        self.understood(vmid, file).await
    }

    async fn understood(&self, vmid: Vmid, file: Option<crate::tree::File>) -> Result<Read, Error> {
        let Some(file) = file else {
            return Err(match self.tree.place(vmid).await? {
                Some(place) if place.node != self.node => {
                    Error::Elsewhere { vmid: vmid.get(), node: place.node }
                }
                _ => Error::Unknown(vmid.get()),
            });
        };
        let config = VmConfig::parse(&file.content);
        let config = config.map_err(|source| Error::Config { vmid: vmid.get(), source })?;
        Ok(Read { config, text: file.content, version: file.version })
    }

    /// Takes note of a process, and follows it to its end.
    pub(crate) fn follow(self: &Arc<Self>, machine: Arc<Machine>) {
        locked(&self.machines).insert(machine.vmid, machine.clone());
        locked(&self.failures).remove(&machine.vmid);
        self.metrics.running.set(self.machines().len().try_into().unwrap_or(i64::MAX));
        self.changed(machine.vmid);
        tokio::spawn(keep(self.clone(), machine));
    }

    /// Clears away what is left of a process that is dead.
    async fn ended(&self, machine: &Machine) {
        let vmid = machine.vmid;
        let failure = (!machine.was_asked_to_end()).then(|| why(&machine.stderr()));
        if machine.facts().incoming.is_none() {
            lease::give_back(self, vmid).await;
        }
        if let Some(failure) = &failure {
            tracing::error!(vmid = vmid.get(), failure, "a guest's process ended");
            self.metrics.failures.inc();
            locked(&self.failures).insert(vmid, failure.clone());
        }
        locked(&self.machines).remove(&vmid);
        self.metrics.running.set(self.machines().len().try_into().unwrap_or(i64::MAX));
        clear(&machine.directory);
        self.changed(vmid);
        machine.gone.cancel();
        match failure {
            Some(failure) => self.tree.log(ERROR, format!("guest {vmid}: {failure}")).await,
            None => self.tree.log(INFO, format!("guest {vmid} is off")).await,
        }
    }
}

/// The path of a configuration.
pub(crate) fn config_path(node: &str, vmid: Vmid) -> String {
    format!("nodes/{node}/qemu-server/{vmid}.conf")
}

fn why(stderr: &str) -> String {
    match stderr.lines().last() {
        Some(line) => format!("QEMU ended unasked: {line}"),
        None => "QEMU ended unasked, it was killed or crashed".to_owned(),
    }
}

/// Removes sockets and process id. Logs stay until the next start.
fn clear(directory: &std::path::Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let keeps = entry.path().extension().is_some_and(|ending| ending == "log");
        if !keeps {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Follows a process: what it does, until it ends.
async fn keep(guests: Arc<Guests>, machine: Arc<Machine>) {
    let mut events = machine.qmp.subscribe();
    loop {
        tokio::select! {
            () = machine.process.ended() => break,
            event = events.recv() => match event {
                Ok(event) => told(&guests, &machine, &event).await,
                Err(broadcast::error::RecvError::Lagged(_)) => refresh(&guests, &machine).await,
                Err(broadcast::error::RecvError::Closed) => {
                    machine.process.ended().await;
                    break;
                }
            },
        }
    }
    guests.ended(&machine).await;
}

async fn told(guests: &Guests, machine: &Machine, event: &guest_core::qmp::Event) {
    tracing::debug!(vmid = machine.vmid.get(), event = event.name, data = %event.data, "QEMU");
    if event.name == "SHUTDOWN" {
        // The guest, or somebody at its controls, has switched it off: QEMU ends.
        machine.is_asked_to_end();
    }
    if TELLING.contains(&event.name.as_str()) {
        refresh(guests, machine).await;
    }
}

async fn refresh(guests: &Guests, machine: &Machine) {
    if machine.ask_status().await.is_ok() {
        guests.changed(machine.vmid);
    }
}
