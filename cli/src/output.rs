//! Standard output: text for people and old parsers, JSON for programs.
//!
//! `println!` panics when the reader of a pipe is gone; everything here reports it as an error instead, and
//! [`crate::error`] treats a broken pipe as success.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use serde::Serialize;

/// What the answer should look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// For people, and for parsers of the original program's output.
    #[default]
    Text,
    /// One JSON document; streams give one document per line.
    Json,
}

/// Writes answers to a stream in the format that was asked for.
pub struct Output<'a> {
    format: Format,
    out: &'a mut dyn Write,
}

impl<'a> Output<'a> {
    /// An output in this format to this stream.
    pub fn new(format: Format, out: &'a mut dyn Write) -> Self {
        Self { format, out }
    }

    /// Whether JSON was asked for.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Prints an answer: the text as it stands, or the document, pretty.
    ///
    /// # Errors
    /// When the stream refuses.
    pub fn answer(&mut self, document: &impl Serialize, text: impl FnOnce() -> String) -> io::Result<()> {
        match self.format {
            Format::Text => self.out.write_all(text().as_bytes())?,
            Format::Json => {
                serde_json::to_writer_pretty(&mut *self.out, document)?;
                self.out.write_all(b"\n")?;
            }
        }
        self.out.flush()
    }

    /// Prints one element of a stream on one line, at once.
    ///
    /// # Errors
    /// When the stream refuses.
    pub fn line(&mut self, document: &impl Serialize, text: impl FnOnce() -> String) -> io::Result<()> {
        match self.format {
            Format::Text => self.out.write_all(text().as_bytes())?,
            Format::Json => serde_json::to_writer(&mut *self.out, document)?,
        }
        self.out.write_all(b"\n")?;
        self.out.flush()
    }

    /// Prints bytes as they are, whatever the format.
    ///
    /// # Errors
    /// When the stream refuses.
    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.out.flush()
    }
}

/// Prints remarks to standard error, one per line; remarks that cannot be printed are lost.
pub fn remark(kind: &str, text: &str) {
    let _ = writeln!(io::stderr().lock(), "{kind}: {text}");
}

/// A name as it may be shown on a terminal: control characters become escapes, such as `\n`.
#[must_use]
pub fn printable(name: &str) -> Cow<'_, str> {
    if !name.contains(char::is_control) {
        return Cow::Borrowed(name);
    }
    let shown =
        |letter: char| if letter.is_control() { letter.escape_default().to_string() } else { letter.into() };
    Cow::Owned(name.chars().map(shown).collect())
}

/// Lays rows out in columns: left-aligned, two spaces between, nothing behind the last.
#[must_use]
pub fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..count).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(format: Format, print: impl FnOnce(&mut Output<'_>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        print(&mut Output::new(format, &mut out)).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_is_printed_as_it_stands_and_json_pretty() {
        let answer = |out: &mut Output<'_>| out.answer(&[1], || "one\n".to_owned());
        assert_eq!(printed(Format::Text, answer), "one\n");
        assert_eq!(printed(Format::Json, answer), "[\n  1\n]\n");
    }

    #[test]
    fn an_element_of_a_stream_is_one_line_in_either_format() {
        let line = |out: &mut Output<'_>| out.line(&[1], || "one".to_owned());
        assert_eq!(printed(Format::Text, line), "one\n");
        assert_eq!(printed(Format::Json, line), "[1]\n");
    }

    #[test]
    fn a_name_never_controls_the_terminal() {
        assert_eq!(printable("nodes/hp1 ü"), "nodes/hp1 ü");
        assert_eq!(printable("a\nb\t\u{1b}[31m"), r"a\nb\t\u{1b}[31m");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["ID", "EXPIRES"], ["abcdef", "never"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(columns(&rows), "ID      EXPIRES\nabcdef  never\n");
    }
}
