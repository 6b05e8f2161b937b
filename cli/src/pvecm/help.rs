//! `pvecm help`: the same text as `--help`. Source: spec 1.

use clap::CommandFactory as _;

use super::Cli;
use crate::{error::Error, exit::Exit, output::Output};

/// Explains pvecm or one of its commands.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  pvecm help
  pvecm help cfg put
  pvecm help create --verbose")]
pub(crate) struct Args {
    /// The command to explain, such as `cfg put` [default: pvecm itself]
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
    /// With all details and examples
    #[arg(long, short)]
    verbose: bool,
}

pub(super) fn run(args: &Args, out: &mut Output<'_>) -> Result<Exit, Error> {
    let mut root = Cli::command();
    root.build();
    let mut command = &mut root;
    for word in &args.command {
        let unknown =
            || Error::Parameters(vec![format!("command: there is no '{}'", args.command.join(" "))]);
        command = command.find_subcommand_mut(word).ok_or_else(unknown)?;
    }
    let text = if args.verbose { command.render_long_help() } else { command.render_help() };
    out.raw(text.to_string().as_bytes())?;
    Ok(Exit::Success)
}
