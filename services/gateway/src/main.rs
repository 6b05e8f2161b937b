//! The gateway daemon; see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    quorate_daemon::daemon_main(gatewayd::NAME, gatewayd::run)
}
