//! The table: one row per line of the document.

use crate::proof::{Proof, ProofError};

/// One line of the document, and what proves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The line's number, from 1.
    pub number: u16,
    /// What it is: `B` behaviour, `C` command, `O` output, `F` file, `N` network, `W` warning, `P` procedure,
    /// `X` a mistake of the document; several are joined by `/`.
    pub kind: String,
    /// What it asks for.
    pub asks: String,
    /// What proves it; at least one.
    pub proofs: Vec<Proof>,
}

/// The whole table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// How many rows may be open at most.
    pub open_max: usize,
    /// The rows as they stand in the file.
    pub rows: Vec<Row>,
}

/// Why the table cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// The head does not say how many rows may be open.
    #[error("no line 'Open: NUMBER' before the table")]
    NoBound,
    /// A row has not four cells.
    #[error("line {line}: a row has a number, a kind, what it asks for and its proof, not {cells} cells")]
    Cells {
        /// The line in the file, from 1.
        line: usize,
        /// How many cells there are.
        cells: usize,
    },
    /// The first cell is no number.
    #[error("line {line}: '{found}' is no number of a line")]
    Number {
        /// The line in the file, from 1.
        line: usize,
        /// What stands there.
        found: String,
    },
    /// A row has an unknown kind.
    #[error("row {row}: '{found}' is no kind: B, C, O, F, N, W, P, X, or several joined by '/'")]
    Kind {
        /// The row.
        row: u16,
        /// What stands there.
        found: String,
    },
    /// A proof cannot be read.
    #[error("row {row}: {source}")]
    Proof {
        /// The row.
        row: u16,
        /// Why.
        source: ProofError,
    },
}

impl Table {
    /// Reads the table out of its page. Rows are lines that begin with `| ` and a digit.
    ///
    /// # Errors
    /// If the bound is missing, or a row has not its shape: the first that is found.
    pub fn read(page: &str) -> Result<Self, TableError> {
        let bound = page.lines().find_map(|line| line.strip_prefix("Open: "));
        let open_max = bound.and_then(|number| number.trim().parse().ok()).ok_or(TableError::NoBound)?;
        let is_row = |line: &str| {
            line.strip_prefix("| ").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        };
        let rows = page.lines().enumerate().filter(|(_, line)| is_row(line));
        let rows = rows.map(|(index, line)| read_row(index + 1, line)).collect::<Result<_, _>>()?;
        Ok(Self { open_max, rows })
    }

    /// The rows that are not proven, or not all of them.
    #[must_use]
    pub fn open(&self) -> Vec<&Row> {
        self.rows.iter().filter(|row| row.proofs.iter().any(Proof::is_open)).collect()
    }
}

fn read_row(line: usize, text: &str) -> Result<Row, TableError> {
    let cells: Vec<&str> = text.trim().trim_matches('|').split('|').map(str::trim).collect();
    let [number, kind, asks, proofs] = cells[..] else {
        return Err(TableError::Cells { line, cells: cells.len() });
    };
    let found = || number.to_owned();
    let number = number.parse().map_err(|_| TableError::Number { line, found: found() })?;
    let is_kind = |word: &str| word.len() == 1 && "BCOFNWPX".contains(word);
    if !kind.split('/').all(is_kind) {
        return Err(TableError::Kind { row: number, found: kind.to_owned() });
    }
    let proofs = proofs.split("<br>").map(Proof::read).collect::<Result<_, _>>();
    let proofs = proofs.map_err(|source| TableError::Proof { row: number, source })?;
    Ok(Row { number, kind: kind.to_owned(), asks: asks.to_owned(), proofs })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# Head\n\nOpen: 1\n\n| line | kind | asks | proof |\n|---|---|---|---|\n";

    fn read(rows: &str) -> Result<Table, TableError> {
        Table::read(&format!("{PAGE}{rows}"))
    }

    #[test]
    fn rows_are_read_with_all_their_proofs() {
        let rows =
            "| 7 | C | create | test a.rs b<br>open \"the rest\" |\n| 8 | W/B | warn | test a.rs c |\n";
        let table = read(rows).expect("a table");
        assert_eq!((table.open_max, table.rows.len()), (1, 2));
        assert_eq!((table.rows[0].number, table.rows[0].proofs.len()), (7, 2));
        let open: Vec<u16> = table.open().iter().map(|row| row.number).collect();
        assert_eq!(open, [7]);
    }

    #[test]
    fn what_is_no_row_is_refused_by_name() {
        assert_eq!(Table::read("| 1 | C | a | test a.rs b |"), Err(TableError::NoBound));
        assert_eq!(read("| 1 | C | a |\n"), Err(TableError::Cells { line: 7, cells: 3 }));
        assert!(matches!(read("| 1x | C | a | test a b |\n"), Err(TableError::Number { line: 7, .. })));
        assert!(matches!(read("| 1 | Q | a | test a b |\n"), Err(TableError::Kind { row: 1, .. })));
        assert!(matches!(read("| 1 | C | a |  |\n"), Err(TableError::Proof { row: 1, .. })));
    }

    proptest::proptest! {
        #[test]
        fn no_page_makes_the_reader_panic(rows in "(\\| 1[^\n]{0,40}\n){0,3}") {
            let _ = read(&rows);
        }
    }
}
