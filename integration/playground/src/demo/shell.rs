//! Commands, shown as at a prompt, with their real output.

use std::process::{Output, Stdio};

use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::Node;

/// What a command printed, and how it ended.
#[derive(Debug, Clone)]
pub(super) struct Said {
    /// Standard output.
    pub(super) out: String,
    /// Standard error.
    pub(super) err: String,
    /// Exit status; `None` if a signal ended it or it could not be run.
    pub(super) code: Option<i32>,
}

impl Said {
    /// The value of a `Label:   value` line of standard output.
    pub(super) fn value(&self, label: &str) -> Option<&str> {
        let mut lines = self.out.lines();
        lines.find_map(|line| line.strip_prefix(label)?.strip_prefix(':')).map(str::trim)
    }
}

/// Runs `pvecm` on a node, shows the command as typed and everything that it prints.
pub(super) async fn pvecm(node: &Node, arguments: &[&str]) -> Said {
    println!("\n{}# pvecm {}", node.name(), shown(arguments));
    printed(run(node, arguments, "").await)
}

/// The same with a line of text on its standard input.
pub(super) async fn pipe(node: &Node, line: &str, arguments: &[&str]) -> Said {
    println!("\n{}# echo '{line}' | pvecm {}", node.name(), shown(arguments));
    printed(run(node, arguments, &format!("{line}\n")).await)
}

/// Runs `pvecm` on a node and shows nothing.
pub(super) async fn quiet(node: &Node, arguments: &[&str]) -> Said {
    run(node, arguments, "").await
}

fn printed(said: Said) -> Said {
    print!("{}", said.out);
    print!("{}", said.err);
    said
}

/// The words of a command line: those with blanks are quoted, and a token is cut.
fn shown(arguments: &[&str]) -> String {
    const LONGEST: usize = 60;
    let word = |word: &&str| match word.char_indices().nth(LONGEST) {
        Some(_) => format!("{}...", word.chars().take(16).collect::<String>()),
        None if word.contains(' ') => format!("'{word}'"),
        None => (*word).to_owned(),
    };
    arguments.iter().map(word).collect::<Vec<_>>().join(" ")
}

async fn run(node: &Node, arguments: &[&str], input: &str) -> Said {
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

    #[test]
    fn a_token_is_cut_and_words_with_blanks_are_quoted() {
        let token = "t".repeat(100);
        assert_eq!(shown(&["add", "two words", &token]), format!("add 'two words' {}...", "t".repeat(16)));
    }
}
