//! The signals that end a daemon.

use std::{
    io::{self, Read as _},
    process, thread,
    time::{Duration, Instant},
};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit code when a second signal cuts the shutdown short: 128 + SIGINT, as shells report it.
const EXIT_SECOND_SIGNAL: i32 = 130;

/// One wish to stop may arrive as several signals: from the terminal and from a supervisor that forwards
/// it. What comes so soon after the first is not a second wish.
const SAME_WISH: Duration = Duration::from_secs(1);

/// Cancels `token` at the first SIGTERM (service managers) or SIGINT (a terminal); a second one, more than
/// a second later, ends the process at once.
///
/// # Errors
/// If the operating system refuses to install the handlers.
pub fn cancel_on_signal(token: CancellationToken) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        let name = either(&mut terminate, &mut interrupt).await;
        tracing::info!(signal = name, "stopping");
        token.cancel();
        let first = Instant::now();
        let name = loop {
            let name = either(&mut terminate, &mut interrupt).await;
            if first.elapsed() > SAME_WISH {
                break name;
            }
        };
        tracing::warn!(signal = name, "second signal: ending at once");
        process::exit(EXIT_SECOND_SIGNAL);
    });
    Ok(())
}

/// Environment variable that a supervisor sets to `1`: standard input is a pipe whose other end it holds.
pub const SUPERVISED: &str = "QUORATE_SUPERVISED";

/// How long a daemon may take to stop when its supervisor is gone and nobody else would end it.
const ORPHAN_GRACE: Duration = Duration::from_secs(20);

/// Cancels `token` when the supervisor ends, however it ends; does nothing without [`SUPERVISED`]. A daemon
/// that then does not stop in time ends at once.
///
/// # Errors
/// If the operating system refuses the thread.
pub fn cancel_without_supervisor(token: CancellationToken) -> io::Result<()> {
    if std::env::var_os(SUPERVISED).is_none_or(|value| value != "1") {
        return Ok(());
    }
    // A thread of its own: reading a pipe blocks, and a runtime would wait for it at its end.
    let watch = move || {
        let mut buffer = [0; 64];
        while matches!(io::stdin().lock().read(&mut buffer), Ok(1..)) {}
        if token.is_cancelled() {
            return;
        }
        tracing::warn!("the supervisor is gone: stopping");
        token.cancel();
        thread::park_timeout(ORPHAN_GRACE);
        process::exit(i32::from(crate::EXIT_FAILED_START));
    };
    thread::Builder::new().name("supervisor".to_owned()).spawn(watch).map(drop)
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
