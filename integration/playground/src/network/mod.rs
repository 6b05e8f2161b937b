//! How nodes reach each other, and how they are kept from it.

mod loopback;
mod netns;

use std::{
    io::Write as _,
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
};

use crate::{
    Error, Groups, Mode,
    plan::{NodePlan, Plan},
};

/// Makes what the nodes need before they start.
pub(crate) fn create(plan: &Plan) -> Result<(), Error> {
    match plan.mode {
        Mode::Loopback => Ok(()),
        Mode::Netns => netns::create(plan),
    }
}

/// Takes away all that [`create`] and [`partition`] made; what is gone already is no error.
pub(crate) fn remove(plan: &Plan) -> Result<(), Error> {
    match plan.mode {
        Mode::Loopback => loopback::remove(plan),
        Mode::Netns => netns::remove(plan),
    }
}

/// Keeps the groups apart. An earlier partition is replaced.
pub(crate) fn partition(plan: &Plan, groups: &Groups) -> Result<(), Error> {
    let groups = groups.of(&plan.nodes)?;
    match plan.mode {
        Mode::Loopback => loopback::partition(plan, groups),
        Mode::Netns => netns::partition(plan, groups),
    }
}

/// Lets nobody hear a node, which goes on hearing the others. An earlier partition is replaced.
pub(crate) fn mute(plan: &Plan, node: &NodePlan) -> Result<(), Error> {
    match plan.mode {
        Mode::Loopback => loopback::mute(plan, node),
        Mode::Netns => Err(Error::LoopbackOnly("a mute node")),
    }
}

/// Lets all nodes reach each other again.
pub(crate) fn heal(plan: &Plan) -> Result<(), Error> {
    match plan.mode {
        Mode::Loopback => loopback::remove(plan),
        Mode::Netns => netns::heal(plan),
    }
}

/// A command that runs where the node is.
pub(crate) fn command(plan: &Plan, node: &NodePlan, program: &str) -> Command {
    match plan.mode {
        Mode::Loopback => Command::new(program),
        Mode::Netns => netns::command(plan, node, program),
    }
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Runs a program to its end, with text on its standard input.
fn run(program: &str, arguments: &[&str], input: &str, hint: &'static str) -> Result<(), Error> {
    let missing = |source| Error::Program { program: program.to_owned(), hint, source };
    // A process group of its own: a Ctrl-C in the terminal is for the playground, which ends in order.
    let mut child = Command::new(program)
        .args(arguments)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(missing)?;
    let mut stdin = child.stdin.take().expect("standard input is a pipe");
    // A program that ends without reading it says why on standard error.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().map_err(missing)?;
    if output.status.success() {
        return Ok(());
    }
    let command = format!("{program} {}", arguments.join(" "));
    Err(Error::Command { command, output: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
}
