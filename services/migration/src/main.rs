//! The migration daemon.

use std::process::ExitCode;

fn main() -> ExitCode {
    quorate_daemon::daemon_main(migrationd::NAME, migrationd::run)
}
