//! A QEMU process with its control sockets, and what is known of it.

use std::{
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use guest_core::{Vmid, command_line::Files};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{
    error::Error,
    process::Process,
    qmp::{Qmp, QmpError},
};

/// How long QEMU may take for what is done in microseconds.
const SOON: Duration = Duration::from_secs(3);
/// The most of QEMU's error output that is told.
const STDERR_MAX: usize = 4096;

/// What must be known of a process when it is found again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts {
    /// When it was started, in seconds since 1970.
    pub(crate) started: u64,
    /// It waits for this migration, or has received it and may not run yet.
    pub(crate) incoming: Option<String>,
}

/// A running QEMU.
#[derive(Debug)]
pub(crate) struct Machine {
    /// The guest.
    pub(crate) vmid: Vmid,
    /// Its directory of sockets.
    pub(crate) directory: PathBuf,
    /// Its process.
    pub(crate) process: Process,
    /// For commands.
    pub(crate) qmp: Qmp,
    /// For what must get through when the other one hangs.
    pub(crate) oob: Qmp,
    /// Cancelled when the process is dead and all of it is cleared away.
    pub(crate) gone: CancellationToken,
    /// Somebody reads the serial port.
    pub(crate) console: tokio::sync::Mutex<()>,
    facts: Mutex<Facts>,
    status: Mutex<String>,
    asked_to_end: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Machine {
    /// Connects to the control sockets of a process.
    ///
    /// # Errors
    /// [`QmpError`].
    pub(crate) async fn attach(
        vmid: Vmid,
        directory: PathBuf,
        process: Process,
        facts: Facts,
    ) -> Result<Self, QmpError> {
        let files = Files(&directory);
        let qmp = Qmp::connect(&files.qmp()).await?;
        let oob = Qmp::connect(&files.oob()).await?;
        let machine = Self {
            vmid,
            process,
            qmp,
            oob,
            gone: CancellationToken::new(),
            console: tokio::sync::Mutex::new(()),
            facts: Mutex::new(facts),
            status: Mutex::default(),
            asked_to_end: AtomicBool::new(false),
            directory,
        };
        machine.ask_status().await?;
        Ok(machine)
    }

    /// Executes a command in band.
    ///
    /// # Errors
    /// [`Error::Qmp`].
    pub(crate) async fn execute(&self, name: &str, arguments: Value) -> Result<Value, Error> {
        let answer = self.qmp.execute(name, arguments, false, crate::qmp::PATIENCE).await;
        answer.map_err(Error::qmp(self.vmid))
    }

    /// Asks QEMU what it does, and remembers the answer.
    pub(crate) async fn ask_status(&self) -> Result<(), QmpError> {
        let answer = self.qmp.execute("query-status", Value::Null, false, SOON).await?;
        answer["status"].as_str().unwrap_or_default().clone_into(&mut lock(&self.status));
        Ok(())
    }

    /// QEMU's word for what it does.
    pub(crate) fn status(&self) -> String {
        lock(&self.status).clone()
    }

    /// What is remembered of it.
    pub(crate) fn facts(&self) -> Facts {
        lock(&self.facts).clone()
    }

    /// It has arrived: from now on it is an ordinary guest of this node.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) fn arrived(&self) -> Result<(), Error> {
        let mut facts = lock(&self.facts);
        facts.incoming = None;
        store(&self.directory, &facts)
    }

    /// Whether its end was asked for.
    pub(crate) fn was_asked_to_end(&self) -> bool {
        self.asked_to_end.load(Ordering::Relaxed)
    }

    /// Its end is no failure.
    pub(crate) fn is_asked_to_end(&self) {
        self.asked_to_end.store(true, Ordering::Relaxed);
    }

    /// Ends the process, by force if it does not end by itself, and waits until all of it is cleared away.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be killed.
    pub(crate) async fn end(&self) -> Result<(), Error> {
        self.is_asked_to_end();
        let quits = async {
            let _ = self.qmp.execute("quit", Value::Null, false, SOON).await;
            self.process.ended().await;
        };
        if tokio::time::timeout(SOON, quits).await.is_err() {
            tracing::warn!(vmid = self.vmid.get(), "QEMU does not quit and is killed");
            self.process.kill().map_err(Error::file(format!("/proc/{}", self.process.pid())))?;
        }
        self.gone.cancelled().await;
        Ok(())
    }

    /// The end of QEMU's error output.
    pub(crate) fn stderr(&self) -> String {
        stderr(&self.directory)
    }
}

/// The end of QEMU's error output.
pub(crate) fn stderr(directory: &std::path::Path) -> String {
    let bytes = std::fs::read(Files(directory).stderr()).unwrap_or_default();
    let end = &bytes[bytes.len().saturating_sub(STDERR_MAX)..];
    String::from_utf8_lossy(end).trim().to_owned()
}

/// Writes down what must be known when the process is found again.
pub(crate) fn store(directory: &std::path::Path, facts: &Facts) -> Result<(), Error> {
    let path = directory.join("facts.json");
    let text = serde_json::to_vec(facts).expect("strings and numbers are JSON");
    let staged = path.with_extension("new");
    let written = std::fs::write(&staged, text).and_then(|()| std::fs::rename(&staged, &path));
    written.map_err(Error::file(path))
}

/// What was written down; nothing special if that cannot be read.
pub(crate) fn load(directory: &std::path::Path) -> Facts {
    let bytes = std::fs::read(directory.join("facts.json")).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}
