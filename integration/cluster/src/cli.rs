//! `pvecm` on a node, with a deadline.

use std::time::Duration;

use playground::{
    Node,
    shell::{self, Said},
};

/// The longest that a command may take: more than its own deadlines, which it must keep itself.
const COMMAND: Duration = Duration::from_secs(180);

/// Runs `pvecm` on a node with a text on its standard input.
pub async fn pipe(node: &Node, input: &str, arguments: &[&str]) -> Said {
    let said = tokio::time::timeout(COMMAND, shell::run(node, arguments, input)).await;
    said.unwrap_or_else(|_| {
        panic!("{}: pvecm {arguments:?} does not end within {} s", node.name(), COMMAND.as_secs())
    })
}

/// Runs `pvecm` on a node.
pub async fn pvecm(node: &Node, arguments: &[&str]) -> Said {
    pipe(node, "", arguments).await
}

/// Runs `pvecm` on a node; it must succeed. Gives its standard output.
pub async fn done(node: &Node, arguments: &[&str]) -> String {
    succeeded(node, arguments, pvecm(node, arguments).await)
}

/// Writes a file, with its directories, which must succeed.
pub async fn put(node: &Node, path: &str, content: &str) {
    let arguments = ["cfg", "put", "-p", path];
    succeeded(node, &arguments, pipe(node, content, &arguments).await);
}

fn succeeded(node: &Node, arguments: &[&str], said: Said) -> String {
    let Said { out, err, code } = said;
    assert_eq!(code, Some(0), "{}: pvecm {arguments:?} printed {out:?} and {err:?}", node.name());
    out
}

/// A new join token of a member.
pub async fn token(member: &Node) -> String {
    done(member, &["token", "create"]).await.trim().to_owned()
}
