//! From the arguments of the process to its exit status.

use std::{
    ffi::OsString,
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser as _;

use super::{Cli, Command, config, list, migrate, power};
use crate::{
    client::{self, Client},
    error::Error,
    exit::Exit,
    output::Output,
};

/// Runs `qm` with these arguments, the program's name first.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to standard output, complaints to standard error.
            let _ = error.print();
            let exit = if error.use_stderr() { Exit::Failed } else { Exit::Success };
            return exit.into();
        }
    };
    let changes =
        !matches!(cli.command, Command::List(_) | Command::Status(_) | Command::Config(_) | Command::Wait(_));
    match run(cli) {
        Ok(exit) => exit.into(),
        Err(error) if error.is_broken_pipe() => Exit::Success.into(),
        Err(error) => {
            let report = if changes { error.report_of_change() } else { error.report() };
            let _ = writeln!(io::stderr().lock(), "{report}");
            Exit::Failed.into()
        }
    }
}

fn run(cli: Cli) -> Result<Exit, Error> {
    let mut stdout = io::stdout().lock();
    let mut out = Output::new(cli.global.output, &mut stdout);
    let name = name(&cli.command);
    client::block_on(&cli.global, name, async |client| call(cli.command, client, &mut out).await)
}

/// The command as the user knows it: the name of its trace.
const fn name(command: &Command) -> &'static str {
    match command {
        Command::List(_) => "qm list",
        Command::Status(_) => "qm status",
        Command::Create(_) => "qm create",
        Command::Config(_) => "qm config",
        Command::Set(_) => "qm set",
        Command::Unlock(_) => "qm unlock",
        Command::Destroy(_) => "qm destroy",
        Command::Start(_) => "qm start",
        Command::Shutdown(_) => "qm shutdown",
        Command::Stop(_) => "qm stop",
        Command::Reset(_) => "qm reset",
        Command::Wait(_) => "qm wait",
        Command::Monitor(_) => "qm monitor",
        Command::Migrate(_) => "qm migrate",
        Command::Migrations(_) => "qm migrations",
        Command::MigrateCancel(_) => "qm migrate-cancel",
    }
}

async fn call(command: Command, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    match command {
        Command::List(args) => list::list(&args, client, out).await,
        Command::Status(args) => list::status(&args, client, out).await,
        Command::Create(args) => config::create(args, client, out).await,
        Command::Config(args) => config::config(&args, client, out).await,
        Command::Set(args) => config::set(args, client, out).await,
        Command::Unlock(args) => config::unlock(&args, client, out).await,
        Command::Destroy(args) => config::destroy(&args, client, out).await,
        Command::Start(args) => power::start(args, client, out).await,
        Command::Shutdown(args) => power::shutdown(&args, client, out).await,
        Command::Stop(args) => power::stop(&args, client, out).await,
        Command::Reset(args) => power::reset(&args, client, out).await,
        Command::Wait(args) => power::wait(&args, client, out).await,
        Command::Monitor(args) => power::monitor(&args, client, out).await,
        Command::Migrate(args) => migrate::migrate(args, client, out).await,
        Command::Migrations(args) => migrate::migrations(&args, client, out).await,
        Command::MigrateCancel(args) => migrate::cancel(&args, client, out).await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn any_key_of_a_configuration_may_be_given() {
        let line = ["qm", "create", "100", "--memory", "512", "--args", "-device x", "--start"];
        assert!(Cli::try_parse_from(line).is_ok());
        assert!(Cli::try_parse_from(["qm", "create"]).is_err());
        assert!(Cli::try_parse_from(["qm", "monitor", "100", "info", "status"]).is_ok());
    }
}
