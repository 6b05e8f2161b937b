//! What went wrong, as `error[REASON]: message` with details and next steps below it.
//!
//! The daemons decide what to say: the message, the reason and every detail come out of the gRPC status. Only what
//! happens before a daemon answers is worded here.

use std::{
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::pvecm::cfg::{archive::ArchiveError, database::DatabaseError};

/// What can be done about a node without a ring.
const NEXT_NO_RING: &str =
    "next: if it does not pass by itself, correct the cause; the daemons then go on without a restart";
/// What is known of a write when nobody answered in time.
const UNKNOWN_OUTCOME: &str = "what was asked for may have happened, or may still happen: look before you repeat it; --timeout sets how long to wait";
/// The gateway's word for a daemon that takes calls and does not answer.
const DAEMON_TIMEOUT: &str = "DAEMON_TIMEOUT";

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The arguments contradict each other or the formats; one sentence per bad parameter.
    #[error("the parameters are not valid, nothing was changed")]
    Parameters(Vec<String>),
    /// The node's gateway cannot be reached.
    #[error("cannot reach the gateway of this node at {}", socket.display())]
    Gateway {
        /// Where it should listen.
        socket: PathBuf,
        /// What the connection attempt said.
        status: Box<Status>,
    },
    /// The node's gateway did not answer in time. It answers for daemons that hang.
    #[error("gatewayd of this node did not answer in time")]
    Silent {
        /// Where it listens.
        socket: PathBuf,
    },
    /// The connection to the gateway broke before the answer was complete.
    #[error("the connection to the gateway of this node broke before the answer was complete")]
    Broken(Box<Status>),
    /// A daemon refused a call or failed in it.
    #[error("{}", .0.message())]
    Call(Box<Status>),
    /// This node has no cluster configuration.
    #[error("this node is in no cluster")]
    NotClustered,
    /// This node is in a cluster, but in no ring.
    #[error("this node is in a cluster, but has no ring")]
    NoRing {
        /// Why, as the daemons tell it.
        reason: String,
    },
    /// A stream of answers ended before its last answer.
    #[error("{0} ended before it was complete")]
    Incomplete(&'static str),
    /// No token was given, and nobody can be asked for it.
    #[error("a join token is needed")]
    TokenMissing,
    /// The file to be sent cannot be read.
    #[error("cannot read {}", path.display())]
    ReadInput {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file to be sent is longer than anything that can be sent.
    #[error("{} is longer than {max} bytes, far more than a file of the tree may have (1 MiB); nothing was changed", path.display())]
    InputTooLong {
        /// Which file.
        path: PathBuf,
        /// The most that can be sent.
        max: u64,
    },
    /// A directory on the way to the path does not exist, and was not to be made.
    #[error("{}", .0.message())]
    ParentMissing(Box<Status>),
    /// An archive cannot be written or used.
    #[error("cannot use {}", path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// Why.
        source: ArchiveError,
    },
    /// A database cannot be imported.
    #[error("cannot import {}, nothing was changed", path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// Why.
        source: DatabaseError,
    },
    /// Files cannot be brought into the tree as it is; one sentence for each.
    #[error("what stands in the tree is in the way, {} times; nothing was changed", .0.len())]
    Conflicts(Vec<String>),
    /// Nobody said yes.
    #[error("this was not confirmed, nothing was changed")]
    NotConfirmed,
    /// The key of the ring cannot be written.
    #[error("cannot write a key to {}", path.display())]
    WriteKey {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The answer cannot be printed.
    #[error("cannot write the answer")]
    WriteOutput(#[from] io::Error),
    /// The network cannot be probed.
    #[error("cannot probe the network from UDP {address}")]
    Probe {
        /// Where the probes come from.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// The process cannot be set up.
    #[error("cannot start")]
    Start(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        // Only a status that was made on this side has a cause in this process.
        let is_local = std::error::Error::source(&status).is_some();
        match status.code() {
            Code::Unknown | Code::Cancelled | Code::Internal if is_local => Self::Broken(Box::new(status)),
            _ => Self::Call(Box::new(status)),
        }
    }
}

impl Error {
    /// Whether the reader of the output is gone: the command has done its work.
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::WriteOutput(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// The same; but where something does not exist, and directories on the way to the path were not to be made, with
    /// the way to have them made.
    #[must_use]
    pub fn hinting_at_parents(self, may_lack_parents: bool) -> Self {
        match self {
            Self::Call(status) if may_lack_parents && status.code() == Code::NotFound => {
                Self::ParentMissing(status)
            }
            other => other,
        }
    }

    /// The error as it is printed by a command that may have changed something.
    #[must_use]
    pub fn report_of_change(&self) -> Report {
        let mut report = self.report();
        let unknown = match self {
            Self::Silent { .. } | Self::Broken(_) => true,
            Self::Call(status) => {
                status.code() == Code::DeadlineExceeded
                    && matches!(report.reason.as_str(), DAEMON_TIMEOUT | "DEADLINE_EXCEEDED")
            }
            _ => false,
        };
        if unknown {
            let next = report.details.iter().position(|line| line.starts_with("next: "));
            report.details.insert(next.unwrap_or(report.details.len()), UNKNOWN_OUTCOME.to_owned());
        }
        report
    }

    /// The error as it is printed.
    #[must_use]
    pub fn report(&self) -> Report {
        let message = self.to_string();
        let report = |reason: &str, details: Vec<String>| Report { reason: reason.into(), message, details };
        match self {
            Self::Parameters(problems) => report("INVALID_PARAMETERS", problems.clone()),
            Self::Gateway { socket, status } => {
                report("GATEWAY_UNREACHABLE", gateway_details(socket, status))
            }
            Self::Silent { socket } => report("DEADLINE_EXCEEDED", silent_details(socket)),
            Self::Broken(status) => report("CONNECTION_BROKEN", broken_details(status)),
            Self::Call(status) => Report::of_status(status),
            Self::NotClustered => report("NOT_CLUSTERED", next_to_be_clustered()),
            Self::NoRing { reason } => {
                report("NO_RING", vec![format!("cause: {reason}"), NEXT_NO_RING.into()])
            }
            Self::Incomplete(_) => report("INCOMPLETE", vec!["next: pvecm status".into()]),
            Self::TokenMissing => report("TOKEN_MISSING", next_for_token()),
            Self::ReadInput { .. } => {
                report("READ_INPUT", [causes(self), vec!["nothing was changed".into()]].concat())
            }
            Self::InputTooLong { .. } => report("FILE_TOO_LARGE", Vec::new()),
            Self::ParentMissing(status) => {
                let mut report = Report::of_status(status);
                report.details.push("next: make the directories on the way as well, with --parents".into());
                report
            }
            Self::Archive { .. } => report("ARCHIVE", causes(self)),
            Self::Database { .. } => report("DATABASE", causes(self)),
            Self::Conflicts(conflicts) => report("CONFLICTS", conflicts.clone()),
            Self::NotConfirmed => report(
                "NOT_CONFIRMED",
                vec![
                    "next: answer what is asked on a terminal, or give --force (expected: --yes); --dry-run shows what would change"
                        .into(),
                ],
            ),
            Self::WriteKey { .. } => report(
                "WRITE_OUTPUT",
                [causes(self), vec!["a key that exists is never overwritten: move it away first".into()]].concat(),
            ),
            Self::WriteOutput(_) => report("WRITE_OUTPUT", causes(self)),
            Self::Probe { .. } => report("PROBE", causes(self)),
            Self::Start(_) => report("START", causes(self)),
        }
    }
}

fn gateway_details(socket: &Path, status: &Status) -> Vec<String> {
    let cause = innermost(status);
    let is_permission = cause.contains("Permission denied");
    let mut details = vec![format!("cause: {cause}"), "nothing was changed".into()];
    if is_permission {
        details.push(
            "next: run this as root, or as the user that runs the daemons: only they may use the socket"
                .into(),
        );
        return details;
    }
    let next =
        "next: check that quorate-node runs on this node, and that --root (or QUORATE_ROOT) is its root";
    details.push(next.into());
    if let Some(log) = gateway_log(socket) {
        details.push(format!("      if it does, {} says why", log.display()));
    }
    details
}

/// The gateway's log, if there is one. The socket is ROOT/run/quorate/gatewayd.sock.
fn gateway_log(socket: &Path) -> Option<PathBuf> {
    let log = socket.ancestors().nth(3)?.join("var/log/quorate/gatewayd.log");
    log.exists().then_some(log)
}

fn silent_details(socket: &Path) -> Vec<String> {
    let why = "it hangs, or more time is needed than --timeout gives";
    vec![gateway_log(socket).map_or_else(|| why.to_owned(), |log| format!("{why}; see {}", log.display()))]
}

fn broken_details(status: &Status) -> Vec<String> {
    vec![format!("cause: {}", innermost(status)), "next: pvecm status".into()]
}

fn next_to_be_clustered() -> Vec<String> {
    vec!["next: pvecm create NAME".into(), "  or: pvecm add ADDRESS --token TOKEN".into()]
}

fn next_for_token() -> Vec<String> {
    vec![
        "nothing was changed".into(),
        "next: run `pvecm token create` on a member, then `pvecm add ADDRESS --token TOKEN` here".into(),
        "the token is also read from the environment (QUORATE_TOKEN)".into(),
    ]
}

/// What stands behind an error, from the outside in.
fn causes(error: &dyn std::error::Error) -> Vec<String> {
    let first = error.source();
    std::iter::successors(first, |error| error.source()).map(|cause| format!("cause: {cause}")).collect()
}

/// The last cause in the chain behind a status: the operating system's word.
fn innermost(status: &Status) -> String {
    let first: Option<&dyn std::error::Error> = std::error::Error::source(status);
    std::iter::successors(first, |error| error.source())
        .last()
        .map_or_else(|| status.message().to_owned(), ToString::to_string)
}

/// An error as the user sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Upper-case words joined by `_`: stable, for programs and for looking it up.
    pub reason: String,
    /// One sentence: what failed.
    pub message: String,
    /// Why, with numbers; what state things are in; what to do next. One line each.
    pub details: Vec<String>,
}

impl Report {
    /// What a daemon said.
    fn of_status(status: &Status) -> Self {
        let details = status.get_error_details();
        let reason =
            details.error_info().map_or_else(|| code_name(status.code()), |info| info.reason.clone());
        let message = if status.message().is_empty() { "no message" } else { status.message() };
        Self { reason, message: message.to_owned(), details: detail_lines(&details, message) }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error[{}]: {}", self.reason, self.message)?;
        self.details.iter().try_for_each(|detail| write!(f, "\n  {detail}"))
    }
}

/// Every detail of a status that its message does not tell, the most important first: failed checks, bad fields,
/// facts, what to do next.
fn detail_lines(details: &ErrorDetails, message: &str) -> Vec<String> {
    let mut lines = failed_checks(details, message);
    if let Some(request) = details.bad_request() {
        let fields = request.field_violations.iter().filter(|field| !message.contains(&field.description));
        lines.extend(fields.map(|field| format!("{}: {}", field.field, field.description)));
    }
    lines.extend(facts(details, message));
    if let Some(delay) = details.retry_info().and_then(|info| info.retry_delay) {
        lines.push(format!("retry after {:.1} s", delay.as_secs_f32()));
    }
    if let Some(help) = details.help() {
        lines.extend(help.links.iter().map(|link| format!("see: {} ({})", link.url, link.description)));
    }
    lines
}

fn failed_checks(details: &ErrorDetails, message: &str) -> Vec<String> {
    let Some(failure) = details.precondition_failure() else { return Vec::new() };
    let checks = failure.violations.iter().filter(|check| !message.contains(&check.description));
    let width = checks.clone().map(|check| check.subject.chars().count()).max().unwrap_or(0);
    let line = |subject: &str, text: &str| format!("FAIL {subject:<width$}  {text}");
    checks.map(|check| line(&check.subject, &check.description)).collect()
}

/// Whether a text has a value as a word of its own: `2` is in `2 needed` and not in `hp2`.
fn tells(text: &str, value: &str) -> bool {
    let is_part = |letter: char| letter.is_alphanumeric();
    text.match_indices(value).any(|(start, _)| {
        let before = text[..start].chars().next_back();
        let after = text[start + value.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

/// The facts of an `ErrorInfo`: votes in one sentence, the rest by name, the next step last.
fn facts(details: &ErrorDetails, message: &str) -> Vec<String> {
    let Some(info) = details.error_info() else { return Vec::new() };
    let mut facts: Vec<(&str, &str)> = info.metadata.iter().map(|(key, value)| (&**key, &**value)).collect();
    facts.sort_unstable();
    let mut lines = Vec::new();
    let value = |name: &str| info.metadata.get(name);
    if let (Some(present), Some(expected), Some(needed)) =
        (value("votes_present"), value("votes_expected"), value("votes_needed"))
    {
        lines.push(format!("votes present {present} of {expected} expected, {needed} needed"));
        facts.retain(|(key, _)| !key.starts_with("votes_"));
    }
    facts.retain(|(key, value)| *key != "reasons" && !value.split(',').all(|part| tells(message, part)));
    facts.sort_by_key(|(key, _)| *key == "next");
    lines.extend(facts.iter().map(|(key, value)| format!("{}: {value}", key.replace('_', " "))));
    lines
}

/// The gRPC code in the words of its specification.
fn code_name(code: Code) -> String {
    let camel = format!("{code:?}");
    let mut name = String::new();
    for (index, letter) in camel.char_indices() {
        if letter.is_uppercase() && index > 0 {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn not_quorate() -> Status {
        let metadata = [
            ("votes_present", "1"),
            ("votes_expected", "3"),
            ("votes_needed", "2"),
            ("missing", "hp2 (since 12:30:13), hp3 (since 12:30:11)"),
            ("next", "bring back one of hp2, hp3"),
        ];
        let metadata: HashMap<String, String> =
            metadata.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let details = ErrorDetails::with_error_info("NOT_QUORATE", "quorate", metadata);
        Status::with_error_details(Code::FailedPrecondition, "no quorum, the tree is read-only", details)
    }

    #[test]
    fn a_missing_quorum_is_told_with_votes_who_is_missing_and_what_to_do() {
        let report = Error::from(not_quorate()).report();
        let expected = "error[NOT_QUORATE]: no quorum, the tree is read-only\n  \
            votes present 1 of 3 expected, 2 needed\n  \
            missing: hp2 (since 12:30:13), hp3 (since 12:30:11)\n  \
            next: bring back one of hp2, hp3";
        assert_eq!(report.to_string(), expected);
    }

    #[test]
    fn a_connection_that_broke_is_told_apart_from_what_a_daemon_said() {
        let reset = || std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let local = Error::from(Status::from_error(Box::new(reset()))).report_of_change();
        assert_eq!(local.reason, "CONNECTION_BROKEN");
        assert_eq!(local.details[0], "cause: connection reset");
        assert!(local.details[1].contains("may have happened"), "{local}");
        assert_eq!(Error::from(Status::unknown("the daemon's own words")).report().reason, "UNKNOWN");
    }

    #[test]
    fn a_socket_that_others_may_not_use_is_told_apart_from_one_that_is_not_there() {
        let failure = |kind: io::ErrorKind, text: &str| {
            let status = Box::new(Status::from_error(Box::new(io::Error::new(kind, text))));
            Error::Gateway { socket: "/nowhere/run/quorate/gatewayd.sock".into(), status }.report()
        };
        let refused = failure(io::ErrorKind::PermissionDenied, "Permission denied (os error 13)");
        assert!(refused.details.last().unwrap().contains("as root"), "{refused}");
        let absent = failure(io::ErrorKind::NotFound, "No such file or directory");
        assert!(absent.details.last().unwrap().contains("quorate-node runs"), "{absent}");
    }

    #[test]
    fn a_missing_directory_on_the_way_comes_with_the_option_that_makes_it() {
        let missing = || Error::from(Status::not_found("'a' does not exist"));
        let hinted = missing().hinting_at_parents(true).report();
        assert!(hinted.details.last().unwrap().contains("--parents"), "{hinted}");
        assert!(missing().hinting_at_parents(false).report().details.is_empty());
    }

    #[test]
    fn every_failed_check_has_a_line_and_their_texts_are_aligned() {
        let mut details = ErrorDetails::new();
        details.add_precondition_failure_violation("CHECK", "guests", "this node has guests 100, 101");
        details.add_precondition_failure_violation("CHECK", "time", "the clock differs by 4.2 s");
        let status = Status::with_error_details(Code::FailedPrecondition, "cannot join", details);
        let lines = Error::from(status).report().details;
        assert_eq!(
            lines,
            ["FAIL guests  this node has guests 100, 101", "FAIL time    the clock differs by 4.2 s"]
        );
    }

    #[test]
    fn what_the_message_tells_is_not_repeated() {
        let metadata = [("subject", "hp2"), ("node", "hp3"), ("limit", "2")];
        let metadata: HashMap<String, String> =
            metadata.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let mut details = ErrorDetails::with_error_info("NODE_ID_TAKEN", "quorate", metadata);
        details.add_precondition_failure_violation("NODE_ID_TAKEN", "2", "node id 2 is used by 'hp3'");
        let message = "cannot admit 'hp2': node id 2 is used by 'hp3'; nothing was changed";
        let status = Status::with_error_details(Code::FailedPrecondition, message, details);
        assert_eq!(Error::from(status).report().details, Vec::<String>::new());
    }

    #[test]
    fn a_value_is_told_only_as_a_word_of_its_own() {
        assert!(tells("2 needed", "2"));
        assert!(tells("node 'hp2'", "hp2"));
        assert!(!tells("node hp2", "2"));
        assert!(!tells("20 needed", "2"));
    }

    #[test]
    fn a_status_without_details_shows_its_code_as_the_reason() {
        let report = Error::from(Status::unavailable("quorumd does not answer")).report();
        assert_eq!(report.to_string(), "error[UNAVAILABLE]: quorumd does not answer");
    }

    #[test]
    fn an_answer_that_did_not_come_leaves_the_outcome_of_a_change_open_and_of_nothing_else() {
        let details = ErrorDetails::with_error_info(DAEMON_TIMEOUT, "quorate", HashMap::new());
        let silent = Status::with_error_details(Code::DeadlineExceeded, "configd did not answer", details);
        for (error, reason) in [
            (Error::from(Status::deadline_exceeded("no answer within 10 s")), "DEADLINE_EXCEEDED"),
            (Error::from(silent), DAEMON_TIMEOUT),
        ] {
            assert_eq!(error.report().details, Vec::<String>::new());
            assert_eq!(error.report_of_change().reason, reason);
            assert_eq!(error.report_of_change().details, [UNKNOWN_OUTCOME]);
        }
        let silent = Error::Silent { socket: "/nowhere/run/quorate/gatewayd.sock".into() };
        assert!(!silent.report().to_string().contains("may have happened"));
        assert_eq!(silent.report_of_change().details[1], UNKNOWN_OUTCOME);
        assert_eq!(Error::NotClustered.report_of_change(), Error::NotClustered.report());
    }

    #[test]
    fn a_closed_pipe_is_told_apart_from_other_failures_of_the_output() {
        assert!(Error::WriteOutput(io::ErrorKind::BrokenPipe.into()).is_broken_pipe());
        assert!(!Error::WriteOutput(io::ErrorKind::StorageFull.into()).is_broken_pipe());
    }
}
