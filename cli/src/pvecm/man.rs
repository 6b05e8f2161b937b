//! `pvecm man`: manual pages, made from the definitions of the arguments.

use std::path::PathBuf;

use clap::CommandFactory as _;
use clap_mangen::Man;

use super::Cli;
use crate::{error::Error, exit::Exit, output::Output};

/// Prints the manual page of pvecm, or writes the pages of all commands to a directory.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  pvecm man | man -l -
  pvecm man --dir /usr/local/share/man/man1")]
pub(crate) struct Args {
    /// Write pvecm.1, pvecm-create.1 and so on to this directory
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) fn run(args: &Args, out: &mut Output<'_>) -> Result<Exit, Error> {
    match &args.dir {
        Some(dir) => clap_mangen::generate_to(Cli::command(), dir)?,
        None => {
            let mut page = Vec::new();
            Man::new(Cli::command()).render(&mut page)?;
            out.raw(&page)?;
        }
    }
    Ok(Exit::Success)
}
