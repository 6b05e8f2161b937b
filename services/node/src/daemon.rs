//! One daemon: start, wait, start again, stop.

use std::{
    io,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use quorate_daemon::{EXIT_CONFIGURATION, Root, shutdown::SUPERVISED};
use tokio::process::{Child, ChildStdin, Command};
use tokio_util::sync::CancellationToken;

use crate::{Settings, files, probe::Probe, restart::Restarts};

/// How long a daemon may take to stop: more than it gives its own calls and tasks.
const GRACE: Duration = Duration::from_secs(15);

/// One daemon of the node.
#[derive(Debug)]
pub(crate) struct Daemon {
    name: &'static str,
    program: PathBuf,
    root: Root,
    foreground_logs: bool,
    probe_every: Option<Duration>,
}

/// Why a daemon did not start.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("cannot open its log")]
    OpenLog(#[source] io::Error),
    #[error("cannot run {}", program.display())]
    Run { program: PathBuf, source: io::Error },
    #[error(transparent)]
    WritePid(#[from] crate::Error),
}

/// A daemon that runs, and what must live as long as it does.
struct Run {
    child: Child,
    /// Closed when this process ends, however it ends. Taken from the child, which would close it when waited for.
    _pipe: Option<ChildStdin>,
    _pid_file: files::PidFile,
}

/// A run that is over: how, or `None` if it was to stop.
type Ended = Option<Option<ExitStatus>>;

impl Daemon {
    pub(crate) fn new(name: &'static str, bin_dir: &Path, root: &Root, settings: &Settings) -> Self {
        Self {
            name,
            program: bin_dir.join(name),
            root: root.clone(),
            foreground_logs: settings.foreground_logs,
            probe_every: settings.probe_every(),
        }
    }

    /// Keeps the daemon running until `stop`, then stops it.
    pub(crate) async fn supervise(self, stop: CancellationToken) {
        let mut restarts = Restarts::new();
        loop {
            let started = Instant::now();
            let Some(status) = self.run_once(&stop).await else { return };
            let code = status.and_then(|status| status.code());
            let pause = restarts.pause(started.elapsed(), code);
            self.tell(status, pause);
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    /// Starts the daemon and waits for its end or for `stop`.
    async fn run_once(&self, stop: &CancellationToken) -> Ended {
        let mut run = match self.start() {
            Ok(run) => run,
            Err(error) => {
                let error = quorate_daemon::telemetry::chain(&error);
                tracing::error!(daemon = self.name, error, "did not start");
                return Some(None);
            }
        };
        tokio::select! {
            status = run.child.wait() => Some(status.ok()),
            silent = self.hangs() => {
                tracing::error!(daemon = self.name, ?silent, "gives no sign of life and is killed");
                let _ = run.child.kill().await;
                Some(run.child.wait().await.ok())
            }
            () = stop.cancelled() => {
                self.stop(&mut run.child).await;
                None
            }
        }
    }

    /// Ends when the daemon hangs, see [`Probe`].
    async fn hangs(&self) -> Duration {
        match self.probe_every {
            Some(every) => Probe::new(&self.root, self.name, every).hangs().await,
            None => std::future::pending().await,
        }
    }

    fn start(&self) -> Result<Run, StartError> {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(self.root.as_path()).env(SUPERVISED, "1");
        // Tells the daemon when its supervisor is gone; nothing is ever written to it.
        command.stdin(Stdio::piped());
        // Signals of a terminal reach the supervisor alone, which stops the daemons in order.
        command.process_group(0);
        if !self.foreground_logs {
            let log = files::open_log(&self.root, self.name).map_err(StartError::OpenLog)?;
            command.stdout(log.try_clone().map_err(StartError::OpenLog)?).stderr(log);
        }
        let child = command.kill_on_drop(true).spawn();
        let mut child = child.map_err(|source| StartError::Run { program: self.program.clone(), source })?;
        let pid = child.id().expect("a child that was not waited for has an id");
        tracing::info!(daemon = self.name, pid, "started");
        let pid_file = files::PidFile::write(&self.root, self.name, pid)?;
        Ok(Run { _pipe: child.stdin.take(), child, _pid_file: pid_file })
    }

    /// SIGTERM; SIGKILL if that does not help in time.
    async fn stop(&self, child: &mut Child) {
        let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) else { return };
        if let Err(error) = kill(Pid::from_raw(pid), Signal::SIGTERM) {
            tracing::warn!(daemon = self.name, %error, "cannot be told to stop");
        }
        match tokio::time::timeout(GRACE, child.wait()).await {
            Ok(_) => tracing::info!(daemon = self.name, "stopped"),
            Err(_) => {
                tracing::warn!(daemon = self.name, after = ?GRACE, "did not stop in time and is killed");
                let _ = child.kill().await;
            }
        }
    }

    /// Logs how a run ended, and when the next one starts.
    fn tell(&self, status: Option<ExitStatus>, pause: Duration) {
        let daemon = self.name;
        let Some(status) = status else { return };
        if status.code() == Some(i32::from(EXIT_CONFIGURATION)) {
            let log = self.root.log(daemon);
            let log = log.display();
            tracing::error!(daemon, ?pause, %log, "its configuration makes no sense; correct it, its log says where");
        } else {
            let (code, signal) = (status.code(), status.signal());
            tracing::warn!(daemon, code, signal, ?pause, "ended and will be started again");
        }
    }
}
