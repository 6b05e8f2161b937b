//! Commands, shown as at a prompt, with their real output.

use std::process::{Output, Stdio};

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
    show(node, arguments);
    let said = quiet(node, arguments).await;
    print!("{}", said.out);
    print!("{}", said.err);
    said
}

/// Shows a command without running it: words with blanks are quoted, and a token is cut.
fn show(node: &Node, arguments: &[&str]) {
    let words: Vec<String> = arguments.iter().map(|word| shown(word)).collect();
    println!("\n{}# pvecm {}", node.name(), words.join(" "));
}

fn shown(word: &str) -> String {
    const LONGEST: usize = 60;
    match word.char_indices().nth(LONGEST) {
        Some(_) => format!("{}...", word.chars().take(16).collect::<String>()),
        None if word.contains(' ') => format!("'{word}'"),
        None => word.to_owned(),
    }
}

/// Runs `pvecm` on a node.
pub(super) async fn quiet(node: &Node, arguments: &[&str]) -> Said {
    let mut command = tokio::process::Command::from(node.command("pvecm"));
    command.args(arguments).stdin(Stdio::null());
    match command.output().await {
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
        assert_eq!(shown("add"), "add");
        assert_eq!(shown("two words"), "'two words'");
        assert_eq!(shown(&"t".repeat(100)), format!("{}...", "t".repeat(16)));
    }
}
