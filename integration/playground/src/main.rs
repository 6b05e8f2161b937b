//! `playground`: whole nodes on this machine. Parses, calls, prints.

use std::{
    collections::BTreeMap, io::Write as _, os::unix::process::CommandExt as _, path::PathBuf,
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use playground::{
    Error, Groups, GroupsError, Interrupt, Interrupts, Mode, Playground, Setup, demo, demo::DemoError, report,
};
use quorate_daemon::telemetry::chain;

/// Runs whole nodes on this machine, with real processes.
///
/// Each node has a root of its own below the directory, and an address of its own: 127.x.y.N, or with --netns a
/// network namespace and 10.77.0.N. Nodes are called hp1, hp2 and so on.
#[derive(Debug, Parser)]
#[command(name = "playground", version, after_long_help = EXAMPLES)]
struct Cli {
    /// Directory of the playground
    #[arg(
        long,
        global = true,
        env = "QUORATE_PLAYGROUND",
        default_value = "/tmp/quorate",
        value_name = "DIR"
    )]
    dir: PathBuf,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  playground up --nodes 3
  playground exec hp1 -- pvecm create lab
  playground exec hp1 -- bash              a shell on hp1
  playground status
  playground kill hp3                      as a power failure would
  playground start hp3
  playground partition hp1,hp2/hp3         as root
  playground heal
  playground down";

#[derive(Debug, Subcommand)]
enum Command {
    /// Sets up the directory and starts its nodes
    Up {
        /// Number of nodes
        #[arg(long, default_value_t = 3)]
        nodes: u8,
        /// A network namespace for each node: needs root
        #[arg(long)]
        netns: bool,
        /// First three numbers of the addresses, such as 127.0.0 [default: chosen by the directory]
        #[arg(long, conflicts_with = "netns")]
        subnet: Option<String>,
    },
    /// Runs a command where a node is
    Exec {
        /// The node
        node: String,
        /// The command, after --
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Shows the nodes, their daemons and what they say of themselves
    Status,
    /// Kills a whole node, or one of its daemons, with SIGKILL
    Kill {
        /// The node
        node: String,
        /// The daemon, such as quorumd [default: all and their supervisor]
        daemon: Option<String>,
    },
    /// Starts a node that was stopped or killed
    Start {
        /// The node
        node: String,
    },
    /// Stops a node in order
    Stop {
        /// The node
        node: String,
    },
    /// Keeps groups of nodes apart: hp1,hp2/hp3
    Partition {
        /// The groups: '/' between groups, ',' between nodes
        #[arg(value_parser = parse_groups)]
        groups: Groups,
    },
    /// Ends a partition
    Heal,
    /// Stops all nodes and removes them with all that they stored
    Down,
    /// Shows a cluster's life in six steps, each checked, in a directory of its own
    Demo {
        /// Leave the nodes running
        #[arg(long)]
        keep: bool,
    },
}

fn parse_groups(text: &str) -> Result<Groups, GroupsError> {
    text.parse()
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Two workers: the demo writes files while it watches.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("the operating system gives a process its threads");
    match runtime.block_on(run(cli)) {
        Ok(code) => code,
        Err(error) => {
            // The terminal may be gone by now.
            let _ = writeln!(std::io::stderr(), "playground: {}", chain(error.as_ref()));
            interrupted(error.as_ref()).map_or(ExitCode::FAILURE, |signal| ExitCode::from(signal.exit_code()))
        }
    }
}

/// The signal that ended it, if one did.
fn interrupted(error: &(dyn std::error::Error + 'static)) -> Option<Interrupt> {
    let error = match error.downcast_ref::<DemoError>() {
        Some(DemoError::Playground(error)) => Some(error),
        Some(DemoError::Broken { .. }) => None,
        None => error.downcast_ref::<Error>(),
    };
    match error? {
        Error::Interrupted(signal) => Some(*signal),
        Error::Left { error, .. } => interrupted(error.as_ref()),
        _ => None,
    }
}

async fn run(cli: Cli) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let open = || Playground::open(&cli.dir);
    match cli.command {
        Command::Up { nodes, netns, subnet } => {
            let mode = if netns { Mode::Netns } else { Mode::Loopback };
            // The nodes inherit what is set here; a playground's own environment is for tests.
            let setup = Setup { nodes, mode, subnet, environment: BTreeMap::new() };
            let mut interrupts = Interrupts::receive()?;
            let playground = Playground::up_unless(&cli.dir, &setup, interrupts.next()).await?;
            tokio::select! {
                biased;
                signal = interrupts.next() => {
                    playground.down().await?;
                    return Err(Error::Interrupted(signal).into());
                }
                () = print_status(&playground) => {}
            }
        }
        Command::Exec { node, command } => return exec(open()?.node(&node)?, &command).map_err(Into::into),
        Command::Status => print_status(&open()?).await,
        Command::Kill { node, daemon } => open()?.node(&node)?.kill(daemon.as_deref()).await?,
        Command::Start { node } => open()?.node(&node)?.start().await?,
        Command::Stop { node } => open()?.node(&node)?.stop().await?,
        Command::Partition { groups } => open()?.partition(&groups)?,
        Command::Heal => open()?.heal()?,
        Command::Down => open()?.down().await?,
        Command::Demo { keep } => demo::run(keep).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Becomes the command.
fn exec(node: &playground::Node, command: &[String]) -> Result<ExitCode, Error> {
    let (program, arguments) = command.split_first().expect("clap wants at least one word");
    let source = node.command(program).args(arguments).exec();
    Err(Error::Program { program: program.clone(), hint: "it is not in PATH, or not a program", source })
}

async fn print_status(playground: &Playground) {
    println!("{:<6} {:<16} {:<11} {:>8}  DAEMONS", "NODE", "ADDRESS", "VOTES", "VERSION");
    for node in report(playground).await {
        let daemons: Vec<String> = node.running.iter().map(|(name, pid)| format!("{name}({pid})")).collect();
        let daemons = if daemons.is_empty() { "none".to_owned() } else { daemons.join(" ") };
        let version = node.version.map_or_else(|| "-".to_owned(), |version| version.to_string());
        println!("{:<6} {:<16} {:<11} {version:>8}  {daemons}", node.name, node.address, node.votes);
    }
}
