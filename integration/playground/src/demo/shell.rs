//! Commands, shown as at a prompt, with their real output.

pub(super) use crate::shell::Said;
use crate::{Node, shell::run};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_cut_and_words_with_blanks_are_quoted() {
        let token = "t".repeat(100);
        assert_eq!(shown(&["add", "two words", &token]), format!("add 'two words' {}...", "t".repeat(16)));
    }
}
