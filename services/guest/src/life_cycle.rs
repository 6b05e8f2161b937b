//! Start, shutdown, stop, reset, monitor.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use guest_core::{VmConfig, Vmid};
use serde_json::{Value, json};

use crate::{
    error::Error,
    guests::Guests,
    launch::{Launch, launch},
    lease,
    machine::Machine,
    tree::INFO,
};

/// How a guest is to be started.
#[derive(Debug, Clone, Default)]
pub(crate) struct Start {
    /// Although it is locked.
    pub(crate) skip_lock: bool,
    /// Do not run it yet.
    pub(crate) paused: bool,
    /// The node of which the operator says that it is off; empty if none.
    pub(crate) node_is_off: String,
}

/// Refuses a locked guest.
pub(crate) fn check_lock(vmid: Vmid, config: &VmConfig, skip: bool) -> Result<(), Error> {
    match config.lock().filter(|_| !skip) {
        Some(lock) => Err(Error::Locked { vmid: vmid.get(), lock: lock.to_owned() }),
        None => Ok(()),
    }
}

impl Guests {
    /// Starts a guest.
    pub(crate) async fn start(self: &Arc<Self>, vmid: Vmid, how: Start) -> Result<(), Error> {
        let _turn = self.turn(vmid).await;
        self.start_in_turn(vmid, how).await
    }

    /// The same for whoever has the turn.
    pub(crate) async fn start_in_turn(self: &Arc<Self>, vmid: Vmid, how: Start) -> Result<(), Error> {
        let began = Instant::now();
        if self.machine(vmid).is_some() {
            return Err(Error::Running(vmid.get()));
        }
        let mut read = self.read_newest(vmid).await?;
        check_lock(vmid, &read.config, how.skip_lock)?;
        let changed = read.config.apply_pending().then(|| read.config.to_string());
        lease::take(self, vmid, &read, changed, &how.node_is_off).await?;
        let what = Launch { vmid, config: &read.config, machine: None, incoming: None };
        let machine = match launch(self, what).await {
            Ok(machine) => machine,
            Err(error) => {
                lease::give_back(self, vmid).await;
                return Err(error);
            }
        };
        if !how.paused {
            machine.execute("cont", Value::Null).await?;
            machine.ask_status().await.map_err(Error::qmp(vmid))?;
        }
        self.metrics.started(began.elapsed());
        tracing::info!(vmid = vmid.get(), pid = machine.process.pid(), took = ?began.elapsed(), "started");
        let guests = self.clone();
        // Nobody waits for the log.
        tokio::spawn(async move { guests.tree.log(INFO, format!("guest {vmid} was started")).await });
        Ok(())
    }

    /// Asks a guest to switch itself off; says whether it had to be ended.
    pub(crate) async fn shut_down(
        &self,
        vmid: Vmid,
        within: Duration,
        force: bool,
        skip_lock: bool,
    ) -> Result<bool, Error> {
        let machine = {
            let _turn = self.turn(vmid).await;
            check_lock(vmid, &self.read(vmid).await?.config, skip_lock)?;
            let Some(machine) = self.machine(vmid) else { return Ok(false) };
            machine.execute("system_powerdown", Value::Null).await?;
            machine
        };
        if tokio::time::timeout(within, machine.gone.cancelled()).await.is_ok() {
            return Ok(false);
        }
        if !force {
            return Err(Error::ShutdownTimeout { vmid: vmid.get(), within });
        }
        machine.end().await?;
        Ok(true)
    }

    /// Ends a guest at once; says whether it ran. Works without quorum.
    pub(crate) async fn stop(&self, vmid: Vmid, skip_lock: bool) -> Result<bool, Error> {
        let _turn = self.turn(vmid).await;
        check_lock(vmid, &self.read(vmid).await?.config, skip_lock)?;
        let Some(machine) = self.machine(vmid) else { return Ok(false) };
        machine.end().await?;
        Ok(true)
    }

    /// Presses the reset button.
    pub(crate) async fn reset(&self, vmid: Vmid, skip_lock: bool) -> Result<(), Error> {
        let _turn = self.turn(vmid).await;
        check_lock(vmid, &self.read(vmid).await?.config, skip_lock)?;
        self.running(vmid)?.execute("system_reset", Value::Null).await.map(drop)
    }
}

/// A line for QEMU's human monitor.
pub(crate) async fn human_monitor(machine: &Machine, line: &str) -> Result<String, Error> {
    let output = machine.execute("human-monitor-command", json!({ "command-line": line })).await?;
    Ok(output.as_str().unwrap_or_default().to_owned())
}

/// A command of QMP, as JSON.
pub(crate) async fn qmp_monitor(machine: &Machine, text: &str) -> Result<String, Error> {
    let bad = |reason: &str| Error::Field { field: "qmp", reason: reason.to_owned() };
    let command: Value = serde_json::from_str(text).map_err(|_| bad("it is no JSON"))?;
    let name = command["execute"].as_str().ok_or_else(|| bad("an object with 'execute' is expected"))?;
    let answer = machine.qmp.execute(name, command["arguments"].clone(), false, crate::qmp::PATIENCE).await;
    match answer {
        Ok(value) => Ok(value.to_string()),
        Err(crate::qmp::QmpError::Refused { source, .. }) => Err(Error::MonitorRefused(source.description)),
        Err(source) => Err(Error::qmp(machine.vmid)(source)),
    }
}
