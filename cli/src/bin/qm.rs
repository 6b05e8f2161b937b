//! `qm`: everything is in [`quorate_cli::qm`]; here is only the process around it.

use std::process::ExitCode;

fn main() -> ExitCode {
    quorate_cli::qm::main(std::env::args_os())
}
