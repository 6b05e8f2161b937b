//! Text to tree: one line at a time, as corosync reads it.

use crate::{
    ConfError, Reason,
    tree::{Entry, Key, Section, Tree},
};

/// Sections inside each other that are accepted. Corosync's own go three deep.
const DEPTH_MAX: usize = 16;

/// Characters of a wrong line that a message shows.
const SHOWN_MAX: usize = 40;

/// What one line says.
enum Line<'a> {
    Blank,
    Open(&'a str),
    Close,
    Key(&'a str, &'a str),
}

pub(crate) fn parse(text: &str) -> Result<Tree, ConfError> {
    // The innermost open section is last; the root is always there.
    let mut open = vec![Section::default()];
    for (text, line) in text.lines().zip(1..) {
        match read_line(text).map_err(|(key, reason)| ConfError::new(line, key, reason))? {
            Line::Blank => {}
            Line::Open(_) if open.len() > DEPTH_MAX => {
                return Err(ConfError::new(line, path(&open), Reason::TooDeep { max: DEPTH_MAX }));
            }
            Line::Open(name) => open.push(Section { name: name.to_owned(), line, entries: Vec::new() }),
            Line::Close => close(&mut open, line)?,
            Line::Key(key, value) => {
                let key = Key { key: key.to_owned(), value: value.to_owned(), line };
                innermost(&mut open).entries.push(Entry::Key(key));
            }
        }
    }
    if open.len() > 1 {
        return Err(ConfError::new(innermost(&mut open).line, path(&open), Reason::NeverClosed));
    }
    Ok(Tree { root: open.remove(0) })
}

fn innermost(open: &mut [Section]) -> &mut Section {
    open.last_mut().expect("the root is never closed")
}

fn close(open: &mut Vec<Section>, line: u32) -> Result<(), ConfError> {
    if open.len() == 1 {
        return Err(ConfError::new(line, "", Reason::UnexpectedClosing));
    }
    if let Some(closed) = open.pop() {
        innermost(open).entries.push(Entry::Section(closed));
    }
    Ok(())
}

fn path(open: &[Section]) -> String {
    let names: Vec<&str> = open.iter().skip(1).map(|section| section.name.as_str()).collect();
    names.join(".")
}

/// A brace that opens goes before a colon, a colon before a brace that closes: corosync's order.
fn read_line(line: &str) -> Result<Line<'_>, (&str, Reason)> {
    let line = without_comment(line).trim();
    if line.is_empty() {
        return Ok(Line::Blank);
    }
    if let Some((name, rest)) = line.split_once('{') {
        let name = name.trim();
        return match () {
            () if !rest.is_empty() => Err((name, Reason::AfterOpening)),
            () if !is_key(name) => Err((name, Reason::SectionName)),
            () => Ok(Line::Open(name)),
        };
    }
    if let Some((key, value)) = line.split_once(':') {
        let (key, value) = (key.trim(), value.trim());
        return match () {
            () if !is_key(key) => Err((key, Reason::KeyCharacters)),
            // `key:#..` would become a comment when it is written with a space.
            () if value.is_empty() || value.starts_with('#') => Err((key, Reason::NoValue)),
            () => Ok(Line::Key(key, value)),
        };
    }
    match line {
        "}" => Ok(Line::Close),
        _ if line.contains('}') => Err(("", Reason::BesideClosing)),
        _ => Err(("", Reason::NotALine { line: shown(line) })),
    }
}

/// A comment starts at a `#` that starts the line or follows a space.
fn without_comment(line: &str) -> &str {
    let starts = |(at, _): &(usize, &str)| line[..*at].chars().next_back().is_none_or(char::is_whitespace);
    line.match_indices('#').find(starts).map_or(line, |(at, _)| &line[..at])
}

/// Whether this may stand before a colon or a brace: the characters that corosync's key store takes.
pub(crate) fn is_key(word: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'/');
    !word.is_empty() && word.bytes().all(allowed)
}

/// Whether this, written after a colon, is read back unchanged.
pub(crate) fn is_value(value: &str) -> bool {
    !value.is_empty()
        && value.trim() == value
        && !value.contains(['\n', '\r', '{'])
        && without_comment(&format!(" {value}")).len() == value.len() + 1
}

/// The beginning of a line as a message may hold it.
fn shown(line: &str) -> String {
    let mut letters = line.chars().map(|letter| if letter.is_control() { '?' } else { letter });
    let mut shown: String = letters.by_ref().take(SHOWN_MAX).collect();
    if letters.next().is_some() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(text: &str) -> (u32, String, Reason) {
        let error = parse(text).unwrap_err();
        (error.line, error.key, error.reason)
    }

    #[test]
    fn values_run_to_the_end_of_the_line() {
        let tree = parse("# head\nlogging {\n\tlogfile :  /var/log/a b: c#1  \r\n # no\n}\n").unwrap();
        assert_eq!(tree.value("logging.logfile"), Some("/var/log/a b: c#1"));
        assert_eq!(tree.sections("logging")[0].line, 2);
        assert_eq!(tree.sections("logging")[0].key("logfile").unwrap().line, 3);
    }

    #[test]
    fn comments_may_follow_keys_and_braces() {
        let tree = parse("quorum { # votes\n two_node: 1 # two\n} # end\n").unwrap();
        assert_eq!(tree.value("quorum.two_node"), Some("1"));
    }

    #[test]
    fn sections_may_repeat_and_nest() {
        let tree = parse("a {\n b {\n  c: 1\n }\n b {\n }\n}\nd: 2\n").unwrap();
        assert_eq!(tree.sections("a.b").len(), 2);
        assert_eq!(tree.value("d"), Some("2"));
    }

    #[test]
    fn each_wrong_line_is_named() {
        let owned = str::to_owned;
        assert_eq!(reason("a {\njunk\n}\n"), (2, owned(""), Reason::NotALine { line: owned("junk") }));
        let long = format!("\u{1b}{}", "x".repeat(100));
        let shown = format!("?{}...", "x".repeat(SHOWN_MAX - 1));
        assert_eq!(reason(&long), (1, owned(""), Reason::NotALine { line: shown }));
        assert_eq!(reason("a { b: 1 }\n"), (1, owned("a"), Reason::AfterOpening));
        assert_eq!(reason("{\n}\n"), (1, owned(""), Reason::SectionName));
        assert_eq!(reason("a b {\n}\n"), (1, owned("a b"), Reason::SectionName));
        assert_eq!(reason("a {\n} x\n"), (2, owned(""), Reason::BesideClosing));
        assert_eq!(reason("}\n"), (1, owned(""), Reason::UnexpectedClosing));
        assert_eq!(reason("a {\n b {\n }\n"), (1, owned("a"), Reason::NeverClosed));
        assert_eq!(reason("a {\n b:\n}\n"), (2, owned("b"), Reason::NoValue));
        assert_eq!(reason("b:#1\n"), (1, owned("b"), Reason::NoValue));
        assert_eq!(reason("a b: 1\n"), (1, owned("a b"), Reason::KeyCharacters));
        assert_eq!(reason(": 1\n"), (1, owned(""), Reason::KeyCharacters));
    }

    #[test]
    fn endless_nesting_is_refused() {
        let (line, _, reason) = reason(&"a {\n".repeat(100_000));
        assert_eq!((line, reason), (17, Reason::TooDeep { max: DEPTH_MAX }));
    }
}
