//! `pvecm completion`: a completion script, made from the definitions of the arguments.

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::Cli;
use crate::{error::Error, exit::Exit, output::Output};

/// Prints a completion script for a shell.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  pvecm completion bash > /etc/bash_completion.d/pvecm
  pvecm completion zsh > ~/.zfunc/_pvecm")]
pub(crate) struct Args {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(args: &Args, out: &mut Output<'_>) -> Result<Exit, Error> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "pvecm", &mut script);
    out.raw(&script)?;
    Ok(Exit::Success)
}
