//! API tokens, which stand in priv/token.cfg as `user secret`, one a line. Source: pmxcfs specification, section 11.

use config_store_core::{ConfigPath, Tree};

use crate::status::QueryError;

const TOKEN_FILE: &str = "priv/token.cfg";

/// Whether the token stands in the file.
pub(crate) fn verify(tree: &Tree, user: &str, secret: &str) -> Result<(), QueryError> {
    let is_word = |text: &str| !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c == '\0');
    if !is_word(user) || !is_word(secret) {
        return Err(QueryError::TokenInvalid);
    }
    let path: ConfigPath = TOKEN_FILE.parse().expect("a plain path is one");
    let wanted = format!("{user} {secret}");
    let content = tree.get(&path).map(|entry| entry.content().clone()).unwrap_or_default();
    let mut found = false;
    // All lines are compared in full, so that the time says nothing of how much was right.
    for line in content.split(|byte| *byte == b'\n') {
        found |= same(line, wanted.as_bytes());
    }
    if found { Ok(()) } else { Err(QueryError::TokenUnknown) }
}

fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use config_store_core::{Expect, Operation};

    use super::*;

    #[test]
    fn only_a_whole_line_is_a_token() {
        let mut tree = Tree::new();
        assert!(matches!(verify(&tree, "root@pam!a", "s1"), Err(QueryError::TokenUnknown)), "no file");
        let path = |text: &str| text.parse::<ConfigPath>().expect("a path");
        tree.apply(0, 1, &Operation::Mkdir { path: path("priv") }).expect("made");
        let content = Bytes::from_static(b"root@pam!a s1\nroot@pam!b s2");
        let put = Operation::Put { path: path(TOKEN_FILE), expect: Expect::Any, content };
        tree.apply(0, 1, &put).expect("written");

        assert!(verify(&tree, "root@pam!a", "s1").is_ok());
        assert!(verify(&tree, "root@pam!b", "s2").is_ok());
        for (user, secret) in [("root@pam!a", "s2"), ("root@pam!a", "s"), ("pam!a", "s1")] {
            assert!(matches!(verify(&tree, user, secret), Err(QueryError::TokenUnknown)), "{user} {secret}");
        }
        for (user, secret) in
            [("", "s1"), ("root@pam!a", ""), ("root@pam!a", "s1\nx"), ("a b", "c"), ("a\0", "c")]
        {
            assert!(matches!(verify(&tree, user, secret), Err(QueryError::TokenInvalid)), "{user} {secret}");
        }
    }
}
