//! Reads the sources and refuses what the conventions of this project do not allow.
//!
//! The rules are the tests in `tests/`, one each; this library walks the tree and looks at text. A rule that
//! a compiler or a linter can check is not here, except for [`licences`]: that linter is not everywhere.

pub mod licences;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The top of the repository.
#[must_use]
pub fn top() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("this crate lies two levels below the top").to_owned()
}

/// A source file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Relative to the top, with `/` between its parts.
    pub path: String,
    /// What is in it.
    pub text: String,
}

/// All files below the top whose name ends in this, sorted by path. Hidden and generated folders are left out.
///
/// # Errors
/// If a folder or file cannot be read.
pub fn sources(ending: &str) -> io::Result<Vec<Source>> {
    let top = top();
    let mut found = Vec::new();
    walk(&top, &top, ending, &mut found)?;
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn walk(top: &Path, dir: &Path, ending: &str, found: &mut Vec<Source>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            let is_skipped = name.starts_with('.') || name.starts_with("target") || name == "node_modules";
            if !is_skipped {
                walk(top, &path, ending, found)?;
            }
        } else if name.ends_with(ending) {
            let relative = path.strip_prefix(top).expect("the walk began at the top");
            let text = fs::read_to_string(&path)?;
            found.push(Source { path: relative.to_string_lossy().into_owned(), text });
        }
    }
    Ok(())
}

/// Whether a Rust file begins with `//!`; attributes may stand before it.
#[must_use]
pub fn has_head(rust: &str) -> bool {
    let first = rust.lines().find(|line| !line.trim().is_empty() && !line.starts_with("#!["));
    first.is_some_and(|line| line.starts_with("//!"))
}

/// The lines, from 1, of a `.proto` file that declare something without a comment above it.
#[must_use]
pub fn without_comment(proto: &str) -> Vec<(usize, String)> {
    let lines: Vec<&str> = proto.lines().map(str::trim).collect();
    let declares = |line: &str| {
        let word = line.split_whitespace().next().unwrap_or_default();
        let is_block = ["service", "rpc", "message", "enum", "oneof"].contains(&word);
        let is_other = ["syntax", "package", "import", "option", "reserved", "}"].contains(&word);
        let is_member = !is_other && line.contains(" = ") && line.ends_with(';');
        is_block || is_member
    };
    let mut missing = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let above = index.checked_sub(1).map_or("", |above| lines[above]);
        if declares(line) && !above.starts_with("//") {
            missing.push((index + 1, (*line).to_owned()));
        }
    }
    missing
}

/// The code of a Rust file without comments and without its tests: what the rules for cores look at.
#[must_use]
pub fn code_only(rust: &str) -> String {
    let before_tests = rust.split("#[cfg(test)]").next().unwrap_or_default();
    let code = before_tests.lines().map(|line| line.split("//").next().unwrap_or_default());
    code.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_may_follow_attributes() {
        assert!(has_head("//! Says what lives here.\nuse std::fs;\n"));
        assert!(has_head("#![allow(dead_code)]\n\n//! Says it, too.\n"));
        assert!(!has_head("use std::fs;\n//! Too late.\n"));
        assert!(!has_head(""));
    }

    #[test]
    fn what_a_proto_file_declares_needs_a_comment() {
        let good = "syntax = \"proto3\";\n// A.\nmessage A {\n  // B.\n  string b = 1;\n  // C.\n  oneof c {\n    // D.\n    A d = 2;\n  }\n}\n";
        assert_eq!(without_comment(good), []);
        let bad = "message A {\n  string b = 1;\n}\n// S.\nservice S {\n  rpc R(A) returns (A);\n}\n";
        let lines: Vec<usize> = without_comment(bad).into_iter().map(|(line, _)| line).collect();
        assert_eq!(lines, [1, 2, 6]);
    }

    #[test]
    fn comments_and_tests_are_no_code() {
        let code = code_only("let a = 1; // tokio\n/// tokio\n#[cfg(test)]\nmod tests { use tokio; }\n");
        assert!(!code.contains("tokio"), "{code}");
    }
}
