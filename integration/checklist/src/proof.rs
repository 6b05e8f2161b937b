//! What proves a line, as it stands in the table.

use std::fmt;

/// One proof of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// `test FILE NAME`: this test of this source file.
    Test {
        /// The source file, from the top of the repository.
        file: String,
        /// The function.
        name: String,
    },
    /// `doc FILE#HEADING "WORDS" ...`: this section of this document, which says these words.
    Doc {
        /// The document, from the top of the repository.
        file: String,
        /// The heading as it is written in a link; empty for the whole document.
        heading: String,
        /// What the section must say, whatever the case and the line breaks; at least one.
        words: Vec<String>,
    },
    /// `run FILE#HEADING "COMMAND"`: this section of the handbook shows this command, and the handbook is run.
    Run {
        /// The page of the handbook, from the top of the repository.
        file: String,
        /// The heading as it is written in a link; empty for the whole page.
        heading: String,
        /// How the command begins.
        command: String,
    },
    /// `step FILE "WORDS"`: this script of `make test` has a step that is called so.
    Step {
        /// The script, from the top of the repository.
        file: String,
        /// How the step is called, or a part of it.
        words: String,
    },
    /// `open "WHAT"`: not there yet, or not proven.
    Open {
        /// What is missing.
        what: String,
    },
}

/// Why a proof cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// It begins with another word.
    #[error("a proof begins with test, doc, run, step or open, not '{0}'")]
    Kind(String),
    /// It has too few or too many parts.
    #[error("'{found}' should be: {should}")]
    Shape {
        /// What stands there.
        found: String,
        /// How it is written.
        should: &'static str,
    },
}

impl Proof {
    /// Whether it says that something is missing.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Open { .. })
    }

    /// Reads one proof.
    ///
    /// # Errors
    /// If it does not have the shape of its kind.
    pub fn read(text: &str) -> Result<Self, ProofError> {
        let text = text.trim();
        let (kind, rest) = text.split_once(' ').unwrap_or((text, ""));
        let shape = |should| ProofError::Shape { found: text.to_owned(), should };
        let (plain, quoted) = split_quoted(rest).ok_or(shape("closed by a second quotation mark"))?;
        let place = || {
            let (file, heading) = plain.split_once('#').unwrap_or((&plain, ""));
            (file.to_owned(), heading.to_owned())
        };
        match kind {
            "test" => match plain.split_once(' ') {
                Some((file, name)) if quoted.is_empty() && !name.contains(' ') => {
                    Ok(Self::Test { file: file.to_owned(), name: name.to_owned() })
                }
                _ => Err(shape("test FILE NAME")),
            },
            "doc" if !plain.is_empty() && !plain.contains(' ') && !quoted.is_empty() => {
                let (file, heading) = place();
                Ok(Self::Doc { file, heading, words: quoted })
            }
            "doc" => Err(shape("doc FILE#HEADING \"WORDS\" ...")),
            "run" if !plain.is_empty() && !plain.contains(' ') && quoted.len() == 1 => {
                let (file, heading) = place();
                Ok(Self::Run { file, heading, command: quoted.concat() })
            }
            "run" => Err(shape("run FILE#HEADING \"COMMAND\"")),
            "step" if !plain.is_empty() && !plain.contains(' ') && quoted.len() == 1 => {
                Ok(Self::Step { file: plain, words: quoted.concat() })
            }
            "step" => Err(shape("step FILE \"WORDS\"")),
            "open" if plain.is_empty() && quoted.len() == 1 => Ok(Self::Open { what: quoted.concat() }),
            "open" => Err(shape("open \"WHAT\"")),
            kind => Err(ProofError::Kind(kind.to_owned())),
        }
    }
}

/// What stands outside of quotation marks, and what stands within each pair; `None` if a pair is not closed.
fn split_quoted(text: &str) -> Option<(String, Vec<String>)> {
    let parts: Vec<&str> = text.split('"').collect();
    if parts.len().is_multiple_of(2) {
        return None;
    }
    let outside: Vec<&str> =
        parts.iter().step_by(2).map(|part| part.trim()).filter(|part| !part.is_empty()).collect();
    let within = parts.iter().skip(1).step_by(2).map(|part| (*part).to_owned()).collect();
    Some((outside.join(" "), within))
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Test { file, name } => write!(f, "test {file} {name}"),
            Self::Doc { file, heading, .. } => write!(f, "doc {file}#{heading}"),
            Self::Run { file, heading, command } => write!(f, "run {file}#{heading} \"{command}\""),
            Self::Step { file, words } => write!(f, "step {file} \"{words}\""),
            Self::Open { what } => write!(f, "open \"{what}\""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_read() {
        let text = |text: &str| text.to_owned();
        let test = Proof::Test { file: text("cli/src/args.rs"), name: text("a_test") };
        assert_eq!(Proof::read(" test cli/src/args.rs a_test "), Ok(test));
        let words = vec![text("two words"), text("2 ms")];
        let doc = Proof::Doc { file: text("docs/a.md"), heading: text("b-c"), words };
        assert_eq!(Proof::read("doc docs/a.md#b-c \"two words\" \"2 ms\""), Ok(doc));
        let run =
            Proof::Run { file: text("docs/a.md"), heading: String::new(), command: text("pvecm status") };
        assert_eq!(Proof::read("run docs/a.md \"pvecm status\""), Ok(run));
        let step = Proof::Step { file: text("integration/a.sh"), words: text("a node is lost") };
        assert_eq!(Proof::read("step integration/a.sh \"a node is lost\""), Ok(step));
        assert_eq!(Proof::read("open \"no guests\""), Ok(Proof::Open { what: text("no guests") }));
    }

    #[test]
    fn what_has_not_the_shape_of_its_kind_is_refused() {
        let bad = [
            "test cli/src/args.rs",
            "test a b c",
            "doc docs/a.md#b",
            "doc \"words\"",
            "run docs/a.md",
            "run docs/a.md \"a\" \"b\"",
            "step integration/a.sh",
            "open",
            "open nothing",
            "open \"not closed",
        ];
        for text in bad {
            assert!(matches!(Proof::read(text), Err(ProofError::Shape { .. })), "{text}");
        }
        assert_eq!(Proof::read("seen by me"), Err(ProofError::Kind("seen".to_owned())));
        assert_eq!(Proof::read(""), Err(ProofError::Kind(String::new())));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in ".{0,60}") {
            let _ = Proof::read(&text);
        }
    }
}
