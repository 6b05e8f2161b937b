//! From the arguments of the process to its exit status.

use std::{
    ffi::OsString,
    io::{self, Write},
    process::ExitCode,
};

use clap::{CommandFactory, FromArgMatches};

use super::{
    Cli, Command, add, apiver, cfg, completion, create, delnode, doctor, expected, guests, help, keygen, log,
    man, netcheck, nodes, qdevice, status, token, updatecerts,
};
use crate::{
    args::Options,
    client::{self, Client},
    error::Error,
    exit::Exit,
    output::Output,
};

/// Runs `pvecm` with these arguments, the program's name first.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match parse(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to standard output, complaints to standard error.
            let _ = error.print();
            return exit_on_usage(&error).into();
        }
    };
    let on_failure = exit_on_failure(&cli.command);
    let changes = may_change(&cli.command);
    let exit = match run(cli) {
        Ok(exit) => exit,
        Err(error) if error.is_broken_pipe() => Exit::Success,
        Err(error) => {
            let report = if changes { error.report_of_change() } else { error.report() };
            let _ = writeln!(io::stderr().lock(), "{report}");
            on_failure
        }
    };
    exit.into()
}

/// Reads the arguments in any of the spellings that are understood.
fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let mut command = Cli::command();
    command.build();
    let arguments = Options::of(&command).normalise(arguments);
    let matches = Cli::command().try_get_matches_from(arguments)?;
    Cli::from_arg_matches(&matches)
}

/// Asking for help is no failure.
fn exit_on_usage(error: &clap::Error) -> Exit {
    if error.use_stderr() { Exit::Failed } else { Exit::Success }
}

/// How this command says that it failed. Source: spec 1.
fn exit_on_failure(command: &Command) -> Exit {
    match command {
        Command::Status(_) | Command::Nodes(_) | Command::Expected(_) => Exit::EngineFailed,
        _ => Exit::Failed,
    }
}

/// Whether the command may change something.
const fn may_change(command: &Command) -> bool {
    match command {
        Command::Create(_)
        | Command::Add(_)
        | Command::Updatecerts(_)
        | Command::Expected(_)
        | Command::Delnode(_) => true,
        Command::Token(args) => args.may_change(),
        Command::Qdevice(args) => args.may_change(),
        Command::Cfg(args) => args.may_change(),
        _ => false,
    }
}

fn run(cli: Cli) -> Result<Exit, Error> {
    let mut stdout = io::stdout().lock();
    let mut out = Output::new(cli.global.output, &mut stdout);
    match cli.command {
        Command::Apiver(args) => apiver::run(&args, &mut out),
        Command::Keygen(args) => keygen::run(&args),
        Command::Completion(args) => completion::run(&args, &mut out),
        Command::Man(args) => man::run(&args, &mut out),
        Command::Help(args) => help::run(&args, &mut out),
        Command::Netcheck(args) => netcheck::run(&args, &mut out),
        command => client::block_on(&cli.global, name(&command), async |client| {
            call(command, client, &mut out).await
        }),
    }
}

/// The command as the user knows it: the name of its trace.
const fn name(command: &Command) -> &'static str {
    match command {
        Command::Create(_) => "pvecm create",
        Command::Add(_) => "pvecm add",
        Command::Status(_) => "pvecm status",
        Command::Nodes(_) => "pvecm nodes",
        Command::Expected(_) => "pvecm expected",
        Command::Delnode(_) => "pvecm delnode",
        Command::Doctor(_) => "pvecm doctor",
        Command::Token(args) => args.name(),
        Command::Qdevice(args) => args.name(),
        Command::Cfg(args) => args.name(),
        Command::Guests(_) => "pvecm guests",
        Command::Log(_) => "pvecm log",
        Command::Netcheck(_) => "pvecm netcheck",
        Command::Keygen(_) => "pvecm keygen",
        Command::Updatecerts(_) => "pvecm updatecerts",
        Command::Apiver(_) | Command::Completion(_) | Command::Man(_) | Command::Help(_) => "pvecm",
    }
}

/// The commands that need a daemon.
async fn call(command: Command, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    match command {
        Command::Create(args) => create::run(args, client, out).await,
        Command::Add(args) => add::run(args, client, out).await,
        Command::Status(args) => status::run(&args, client, out).await,
        Command::Nodes(args) => nodes::run(&args, client, out).await,
        Command::Expected(args) => expected::run(&args, client, out).await,
        Command::Delnode(args) => delnode::run(args, client, out).await,
        Command::Doctor(args) => doctor::run(&args, client, out).await,
        Command::Token(args) => token::run(args, client, out).await,
        Command::Qdevice(args) => qdevice::run(args, client, out).await,
        Command::Cfg(args) => cfg::run(args, client, out).await,
        Command::Guests(args) => guests::run(&args, client, out).await,
        Command::Log(args) => log::run(args, client, out).await,
        Command::Updatecerts(args) => updatecerts::run(&args, client, out).await,
        Command::Keygen(args) => keygen::run(&args),
        Command::Apiver(args) => apiver::run(&args, out),
        Command::Completion(args) => completion::run(&args, out),
        Command::Man(args) => man::run(&args, out),
        Command::Help(args) => help::run(&args, out),
        Command::Netcheck(args) => netcheck::run(&args, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Cli, clap::Error> {
        parse(line.split(' ').map(OsString::from))
    }

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_spellings_of_older_versions_are_understood() {
        for line in [
            "pvecm create tweak -votes 1 -nodeid 1",
            "pvecm create tweak -ring0_addr 10.10.10.1 -ring1_addr 10.10.20.1 -bindnet0_addr 10.10.10.1 \
             -bindnet1_addr 10.10.20.1 -rrp_mode passive",
            "pvecm create lab --link0 address=10.0.0.1,priority=20 --link1 10.1.0.1",
            "pvecm add hp1 -ring0_addr 10.0.0.2 --force 1",
            "pvecm add hp1 --use_ssh --force --fingerprint 00",
            "pvecm delnode hp4 --force 0",
            "pvecm expected 1",
            "pvecm status --output-format json",
            "pvecm status --output_format json",
        ] {
            parsed(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn a_boolean_of_zero_switches_a_flag_off() {
        let Command::Add(args) = parsed("pvecm add hp1 --force 0").unwrap().command else {
            panic!("not add")
        };
        assert!(!args.force);
        let Command::Add(args) = parsed("pvecm add --force hp1").unwrap().command else { panic!("not add") };
        assert!(args.force);
        assert_eq!(args.address, "hp1");
    }

    #[test]
    fn wrong_usage_ends_with_255_and_asking_for_help_with_0() {
        assert_eq!(exit_on_usage(&parsed("pvecm create").unwrap_err()), Exit::Failed);
        assert_eq!(exit_on_usage(&parsed("pvecm frobnicate").unwrap_err()), Exit::Failed);
        assert_eq!(exit_on_usage(&parsed("pvecm status --help").unwrap_err()), Exit::Success);
        assert_eq!(exit_on_usage(&parsed("pvecm -version").unwrap_err()), Exit::Success);
    }

    #[test]
    fn a_trace_has_the_name_of_the_command_as_it_is_typed() {
        for line in [
            "pvecm status",
            "pvecm token list",
            "pvecm cfg status",
            "pvecm cfg ls",
            "pvecm cfg watch",
            "pvecm log",
            "pvecm qdevice status",
            "pvecm guests",
            "pvecm doctor",
        ] {
            assert_eq!(name(&parsed(line).unwrap().command), line);
            assert!(!may_change(&parsed(line).unwrap().command), "{line}");
        }
        for line in [
            "pvecm create lab",
            "pvecm token create",
            "pvecm qdevice setup 10.0.0.9",
            "pvecm qdevice remove",
            "pvecm cfg put a",
            "pvecm cfg mkdir a",
            "pvecm cfg rm a",
        ] {
            assert!(line.starts_with(name(&parsed(line).unwrap().command)), "{line}");
            assert!(may_change(&parsed(line).unwrap().command), "{line}");
        }
    }

    #[test]
    fn status_nodes_and_expected_fail_with_1_and_the_others_with_255() {
        let failure = |line: &str| exit_on_failure(&parsed(line).unwrap().command).code();
        assert_eq!(failure("pvecm status"), 1);
        assert_eq!(failure("pvecm nodes"), 1);
        assert_eq!(failure("pvecm expected 1"), 1);
        assert_eq!(failure("pvecm create lab"), 255);
        assert_eq!(failure("pvecm cfg status"), 255);
    }
}
