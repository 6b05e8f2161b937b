//! `quorate-node`: flags, telemetry, signals and exit code; the work is in [`quorate_node::run`].

use std::process::ExitCode;

use clap::Parser as _;
use quorate_daemon::{
    EXIT_CONFIGURATION, EXIT_FAILED_START, NodeConfig,
    shutdown::cancel_on_signal,
    telemetry::{Telemetry, chain},
};
use quorate_node::{NAME, Settings, run};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let settings = match Settings::try_parse() {
        Ok(settings) => settings,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_CONFIGURATION) } else { ExitCode::SUCCESS };
        }
    };
    match supervise(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, error)) => {
            eprintln!("{NAME}: {}", chain(error.as_ref()));
            ExitCode::from(code)
        }
    }
}

type Failure = (u8, Box<dyn std::error::Error>);

fn supervise(settings: Settings) -> Result<(), Failure> {
    let root = settings.root();
    let node = NodeConfig::load(&root).map_err(|error| (EXIT_CONFIGURATION, error.into()))?;
    // Two workers: one may block while the last spans are exported.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(failed_start)?.block_on(async {
        let telemetry = Telemetry::start(NAME, &node).map_err(|error| (EXIT_CONFIGURATION, error.into()))?;
        let shutdown = CancellationToken::new();
        cancel_on_signal(shutdown.clone()).map_err(failed_start)?;
        let ended = run(&settings, shutdown).await.map_err(failed_start);
        telemetry.stop().await;
        ended
    })
}

fn failed_start(error: impl std::error::Error + 'static) -> Failure {
    (EXIT_FAILED_START, Box::new(error))
}
