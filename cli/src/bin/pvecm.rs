//! `pvecm`: everything is in [`quorate_cli::pvecm`]; here is only the process around it.

use std::process::ExitCode;

fn main() -> ExitCode {
    quorate_cli::pvecm::main(std::env::args_os())
}
