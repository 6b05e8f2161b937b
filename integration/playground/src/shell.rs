//! `pvecm` on a node: what it printed, and how it ended.

use std::process::{Output, Stdio};

use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::Node;

/// What a command printed, and how it ended.
#[derive(Debug, Clone)]
pub struct Said {
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// Exit status; `None` if a signal ended it or it could not be run.
    pub code: Option<i32>,
}

impl Said {
    /// The value of a `Label:   value` line of standard output.
    #[must_use]
    pub fn value(&self, label: &str) -> Option<&str> {
        let mut lines = self.out.lines();
        lines.find_map(|line| line.strip_prefix(label)?.strip_prefix(':')).map(str::trim)
    }
}

/// Runs `pvecm` on a node with a text on its standard input; shows nothing. It ends when this future is dropped.
pub async fn run(node: &Node, arguments: &[&str], input: &str) -> Said {
    let ended = async {
        let mut command = Command::from(node.command("pvecm"));
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn()?;
        let mut stdin = child.stdin.take().expect("standard input is a pipe");
        // A command that does not read it has closed it.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        child.wait_with_output().await
    };
    match ended.await {
        Ok(Output { status, stdout, stderr }) => {
            let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
            Said { out: text(stdout), err: text(stderr), code: status.code() }
        }
        Err(error) => Said { out: String::new(), err: format!("pvecm cannot be run: {error}\n"), code: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_by_its_label() {
        let said = Said {
            out: "Expected votes:   3\nQuorum:           2  \n".into(),
            err: String::new(),
            code: Some(0),
        };
        assert_eq!(said.value("Quorum"), Some("2"));
        assert_eq!(said.value("Expected votes"), Some("3"));
        assert_eq!(said.value("Votes"), None);
    }
}
