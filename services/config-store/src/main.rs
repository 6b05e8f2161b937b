//! configd: see the library's documentation.

use std::process::ExitCode;

fn main() -> ExitCode {
    quorate_daemon::daemon_main("configd", configd::run)
}
