//! How every daemon starts: flags, node.toml, telemetry, signals; and with which exit code it ends.

use std::{error::Error, ffi::OsString, future::Future, path::PathBuf, process::ExitCode};

use clap::{Arg, Command, value_parser};
use tokio_util::sync::CancellationToken;

use crate::{
    metrics::Metrics,
    node::NodeConfig,
    ownership::{self, OwnershipError},
    paths::Root,
    service_manager::ServiceManager,
    shutdown,
    sign_of_life::SignOfLife,
    tasks::BoxError,
    telemetry,
    telemetry::Telemetry,
};

/// Exit code for a configuration that makes no sense: `EX_USAGE` of sysexits.h. Starting again will not help.
pub const EXIT_CONFIGURATION: u8 = 64;
/// Exit code when the daemon could not start or gave up: starting again may help.
pub const EXIT_FAILED_START: u8 = 1;

/// What every daemon has: who it is, where its files are, its metrics, and when to stop.
#[derive(Clone)]
pub struct Daemon {
    /// Name of the daemon, such as `quorumd`.
    pub name: &'static str,
    /// Prefix of all paths.
    pub root: Root,
    /// What only this node knows.
    pub node: NodeConfig,
    /// The registry of its metrics.
    pub metrics: Metrics,
    /// Who started it, if they want to know how it is.
    pub manager: ServiceManager,
    /// Cancelled when the daemon is to stop.
    pub shutdown: CancellationToken,
}

impl Daemon {
    /// A daemon outside of [`daemon_main`]: for tests, and for several daemons in one process.
    #[must_use]
    pub fn new(name: &'static str, root: Root, node: NodeConfig) -> Self {
        let (metrics, manager) = (Metrics::new(), ServiceManager::default());
        Self { name, root, node, metrics, manager, shutdown: CancellationToken::new() }
    }

    /// Where this daemon serves.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.root.socket(self.name)
    }

    /// Where this daemon keeps what it must find again.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.root.state_dir(self.name)
    }
}

/// Why a daemon ended, and with which exit code.
///
/// Any error becomes [`Failure::Run`] by `?`; errors of the configuration go through
/// [`Failure::configuration`].
#[derive(Debug)]
pub enum Failure {
    /// The configuration makes no sense: [`EXIT_CONFIGURATION`].
    Configuration(BoxError),
    /// The start failed, or the daemon gave up later: [`EXIT_FAILED_START`].
    Run(BoxError),
}

impl Failure {
    /// Marks an error as one of the configuration.
    pub fn configuration(err: impl Into<BoxError>) -> Self {
        Self::Configuration(err.into())
    }

    /// The error.
    #[must_use]
    pub fn error(&self) -> &(dyn Error + 'static) {
        match self {
            Self::Configuration(err) | Self::Run(err) => err.as_ref(),
        }
    }

    /// The exit code that tells a supervisor whether to start again.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Configuration(_) => EXIT_CONFIGURATION,
            Self::Run(_) => EXIT_FAILED_START,
        }
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Failure {
    fn from(err: E) -> Self {
        Self::Run(err.into())
    }
}

/// The whole `main` of a daemon: reads flags and node.toml, starts telemetry, runs until a signal or a
/// failure, flushes, prints the error with its causes, and says how it ended.
pub fn daemon_main<F>(name: &'static str, run: impl FnOnce(Daemon) -> F) -> ExitCode
where
    F: Future<Output = Result<(), Failure>>,
{
    let root = match root_of(name, std::env::args_os()) {
        Ok(root) => root,
        // Prints help and version, too: those are no errors.
        Err(err) => {
            let failed = err.use_stderr();
            let _ = err.print();
            return if failed { ExitCode::from(EXIT_CONFIGURATION) } else { ExitCode::SUCCESS };
        }
    };
    match start(name, root, run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{name}: {}", telemetry::chain(failure.error()));
            ExitCode::from(failure.exit_code())
        }
    }
}

fn root_of(name: &'static str, args: impl IntoIterator<Item = OsString>) -> Result<Root, clap::Error> {
    let root = Arg::new("root")
        .long("root")
        .value_name("DIR")
        .env("QUORATE_ROOT")
        .default_value("/")
        .value_parser(value_parser!(PathBuf))
        .help("Prefix of all paths of this node");
    let command = Command::new(name).version(env!("CARGO_PKG_VERSION")).arg(root);
    let mut matches = command.try_get_matches_from(args)?;
    let root: PathBuf = matches.remove_one("root").expect("the flag has a default");
    Ok(Root::new(root))
}

fn start<F>(name: &'static str, root: Root, run: impl FnOnce(Daemon) -> F) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    let node = NodeConfig::load(&root).map_err(Failure::configuration)?;
    ownership::claim(&root, &node.name).map_err(|error| match error {
        OwnershipError::OtherNode { .. } => Failure::configuration(error),
        // A disk that is full now may have room later.
        OwnershipError::Mark { .. } => error.into(),
    })?;
    // One thread: a call passes through several tasks, and waking another thread for each costs more than they do.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let telemetry = Telemetry::start(name, &node).map_err(Failure::configuration)?;
        let mut daemon = Daemon::new(name, root, node);
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            root = %daemon.root.as_path().display(),
            node = %daemon.node.name,
            gateway_port = daemon.node.gateway_port,
            "starting {name}"
        );
        shutdown::cancel_on_signal(daemon.shutdown.clone())?;
        shutdown::cancel_without_supervisor(daemon.shutdown.clone())?;
        daemon.manager = watched_by_the_manager(&daemon);
        let ended = run(daemon).await;
        tracing::info!(failed = ended.is_err(), "{name} ended");
        telemetry.stop().await;
        ended
    })
}

/// The service manager, which from now on gets signs of life if it wants them.
fn watched_by_the_manager(daemon: &Daemon) -> ServiceManager {
    let manager = ServiceManager::of(|name| std::env::var(name).ok()).unwrap_or_else(|error| {
        tracing::warn!(error = telemetry::chain(&error), "nobody is told when this daemon is ready");
        ServiceManager::default()
    });
    let (watched, shutdown) = (manager.clone(), daemon.shutdown.clone());
    let sign = SignOfLife::of(&daemon.root, daemon.name);
    tokio::spawn(async move { watched.keep_informed(sign, shutdown).await });
    manager
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(args: &[&str]) -> Vec<OsString> {
        args.iter().map(OsString::from).collect()
    }

    #[test]
    fn the_root_flag_moves_all_paths() {
        let root = root_of("quorumd", args(&["quorumd", "--root", "/tmp/n1"])).unwrap();

        assert_eq!(root, Root::new("/tmp/n1"));
    }

    #[test]
    fn an_unknown_flag_is_a_configuration_error() {
        let err = root_of("quorumd", args(&["quorumd", "--rot"])).unwrap_err();

        assert!(err.use_stderr());
    }

    #[test]
    fn asking_for_the_version_is_no_error() {
        let err = root_of("quorumd", args(&["quorumd", "--version"])).unwrap_err();

        assert!(!err.use_stderr());
        assert!(err.to_string().starts_with("quorumd "));
    }

    #[test]
    fn exit_codes_tell_configuration_from_start() {
        let failure = Failure::configuration("corosync.conf:3: no value");
        assert_eq!(
            (failure.exit_code(), failure.error().to_string().as_str()),
            (64, "corosync.conf:3: no value")
        );

        let failure = Failure::from(std::io::Error::other("disk full"));
        assert_eq!(failure.exit_code(), 1);
    }
}
