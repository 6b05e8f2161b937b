//! Options that every command has.

use std::{path::PathBuf, time::Duration};

use crate::{
    output::Format,
    time::{DurationError, parse_duration},
};

/// Time for an answer when nothing else is asked for.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Options of every command.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Root directory of the node
    #[arg(long, global = true, env = "QUORATE_ROOT", default_value = "/", value_name = "DIR")]
    pub root: PathBuf,
    /// Form of the answer
    #[arg(
        short = 'o',
        long = "output-format",
        alias = "output",
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    pub output: Format,
    /// Longest time to wait for an answer, such as 500ms, 10s, 2m [default: 10s; add: 2m; cfg watch: none]
    #[arg(long, global = true, value_parser = parse_timeout, value_name = "DURATION")]
    pub timeout: Option<Duration>,
}

fn parse_timeout(text: &str) -> Result<Duration, DurationError> {
    parse_duration(text)
}

impl Global {
    /// The time for an answer.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(TIMEOUT)
    }
}
