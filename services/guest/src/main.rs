//! The guest daemon.

use std::process::ExitCode;

fn main() -> ExitCode {
    quorate_daemon::daemon_main(guestd::NAME, guestd::run)
}
