//! The quorum daemon.

use std::process::ExitCode;

fn main() -> ExitCode {
    quorate_daemon::daemon_main(quorumd::NAME, quorumd::run)
}
