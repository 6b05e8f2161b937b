//! `pvecm expected`: override the expected votes at run time. Source: spec 4.8.

use std::{
    collections::BTreeSet,
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    time::Duration,
};

use quorate_proto::gateway::v1::{OverrideVotesRequest, OverrideVotesResponse};
use serde::Serialize;

use super::view;
use crate::{
    client::Client,
    error::Error,
    exit::Exit,
    number::positive,
    output::{Output, remark},
    time::{DurationError, local, parse_duration, timestamp},
};

/// What the operator takes upon himself.
const WARNING: &str = "the expected votes are overridden on all members of this part of the cluster; if the missing nodes still run elsewhere, both parts may act, and what one of \
    them writes is set aside when they meet";

/// Overrides the number of expected votes at run time.
///
/// For the one case that the missing nodes are certainly off: the members that are left become quorate when the new
/// number makes their votes a majority. Nothing is written to the configuration. Not less than the votes that are
/// present. It ends by itself after 30 minutes, or as --for says; with a restart or a change of the configuration, such
/// as 'pvecm delnode'; and when the missing nodes return.
///
/// On a terminal, with nodes missing, their names must be typed. Scripts are not asked.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  pvecm expected 1                        the only survivor becomes quorate, for 30 minutes
  pvecm expected 2 --for 2h --yes
  pvecm expected 1 --for never            as corosync does it
  pvecm expected 1 --dry-run              what would come of it

Exit status: 0, or 1 if quorumd cannot be reached or refuses, or if the names were not typed.")]
pub(crate) struct Args {
    /// The new number of expected votes
    #[arg(value_name = "VOTES", allow_negative_numbers = true, value_parser = positive)]
    votes: u32,
    /// How long it counts, such as 45m or 2h; 'never' does not end by itself
    #[arg(long = "for", value_name = "DURATION", default_value = "30m")]
    lifetime: Lifetime,
    /// Do not ask, also on a terminal
    #[arg(long)]
    yes: bool,
    /// Make all checks, print what would come of it, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// How long an override counts; `None`: it does not expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lifetime(Option<Duration>);

impl std::str::FromStr for Lifetime {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        if text == "never" { Ok(Self(None)) } else { parse_duration(text).map(|it| Self(Some(it))) }
    }
}

/// The answer of `pvecm expected -o json`.
#[derive(Debug, Serialize)]
struct Expected {
    expected_votes: u32,
    total_votes: u32,
    quorum: u32,
    quorate: bool,
    /// When it ends by itself; `null` if it does not.
    expires: Option<String>,
    /// Nodes whose votes are not expected any more.
    missing: Vec<String>,
    /// Nothing was changed.
    dry_run: bool,
}

pub(super) async fn run(args: &Args, client: &Client, out: &mut Output<'_>) -> Result<Exit, Error> {
    if !args.yes && !args.dry_run && io::stdin().is_terminal() {
        let missing = view::missing(&view::quorum_status(client).await?);
        confirm(missing.into_iter().map(|node| node.name).collect())?;
    }
    let lifetime = prost_types::Duration::try_from(args.lifetime.0.unwrap_or_default()).ok();
    let request = OverrideVotesRequest { expected_votes: args.votes, lifetime, validate_only: args.dry_run };
    let answer = client.cluster().override_votes(client.request(request)).await.map_err(client.failure())?;
    let answer = answer.into_inner();
    if !args.dry_run {
        remark("warning", WARNING);
        remark("note", &end(&answer));
    }
    let expected = Expected {
        expected_votes: answer.expected_votes,
        total_votes: answer.total_votes,
        quorum: answer.quorum,
        quorate: answer.quorate,
        expires: view::rfc3339(answer.expires.as_ref()),
        missing: answer.missing.clone(),
        dry_run: args.dry_run,
    };
    out.answer(&expected, || if args.dry_run { preview(&answer) } else { String::new() })?;
    Ok(Exit::Success)
}

fn end(answer: &OverrideVotesResponse) -> String {
    match timestamp(answer.expires.as_ref()) {
        Some(end) => format!("it ends by itself at {}; 'pvecm status' shows it until then", local(end)),
        None => "it does not end by itself: a restart, a change of the configuration, or the return of the nodes ends it".into(),
    }
}

fn preview(answer: &OverrideVotesResponse) -> String {
    let quorate = if answer.quorate { "quorate" } else { "not quorate" };
    let missing = if answer.missing.is_empty() { "nobody".to_owned() } else { answer.missing.join(", ") };
    format!(
        "nothing was changed; with {} expected votes, {} are needed and {} present: this part would be {quorate}\nmissing: {missing}\n",
        answer.expected_votes, answer.quorum, answer.total_votes
    )
}

/// Has the operator type the names of the nodes that must be off.
fn confirm(missing: Vec<String>) -> Result<(), Error> {
    if missing.is_empty() {
        return Ok(());
    }
    let mut stderr = io::stderr().lock();
    writeln!(stderr, "These nodes are missing: {}. {WARNING}.", missing.join(", "))?;
    write!(stderr, "If they are certainly off, type their names: ")?;
    stderr.flush()?;
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line);
    read.map_err(|source| Error::ReadInput { path: "/dev/stdin".into(), source })?;
    if is_same(&missing, &line) { Ok(()) } else { Err(Error::NotConfirmed) }
}

/// Whether all of the names were typed and no others, in any order.
fn is_same(missing: &[String], typed: &str) -> bool {
    let typed: BTreeSet<&str> =
        typed.split([' ', ',', '\t', '\n', '\r']).filter(|name| !name.is_empty()).collect();
    typed == missing.iter().map(String::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_names_and_no_others_confirm_in_any_order() {
        let missing = ["hp2".to_owned(), "hp3".to_owned()];
        for typed in ["hp2 hp3\n", "hp3, hp2\r\n", " hp2\thp3 hp3 "] {
            assert!(is_same(&missing, typed), "{typed:?}");
        }
        for typed in ["", "yes", "hp2", "hp2 hp3 hp4", "HP2 HP3"] {
            assert!(!is_same(&missing, typed), "{typed:?}");
        }
    }

    #[test]
    fn an_override_may_last_for_a_while_or_never_end() {
        assert_eq!("45m".parse(), Ok(Lifetime(Some(Duration::from_secs(2700)))));
        assert_eq!("never".parse(), Ok(Lifetime(None)));
        assert!("0".parse::<Lifetime>().is_err() && "soon".parse::<Lifetime>().is_err());
    }

    #[test]
    fn a_dry_run_says_what_would_come_of_it() {
        let answer = OverrideVotesResponse {
            expected_votes: 1,
            total_votes: 1,
            quorum: 1,
            quorate: true,
            expires: None,
            missing: vec!["hp2".into()],
        };
        assert!(preview(&answer).contains("this part would be quorate\nmissing: hp2\n"));
        assert!(end(&answer).contains("does not end by itself"));
    }
}
