//! Every line of the document that Quorate follows, and what proves it.
//!
//! `table.md` has a row for each of the lines 1 to [`LINES`]; its head says how a row is written. The test in `tests/`
//! reads it and looks whether each proof is there: a test in the sources that is not ignored, a section of a document
//! with the words that matter, a command of the handbook that is run. Whether the tests pass is for the tests themselves
//! to say; all of this is one run of `make test`.
//!
//! | file | holds |
//! |---|---|
//! | `table.rs` | [`Table`], [`Row`]: how the table is read |
//! | `proof.rs` | [`Proof`]: how one proof is read |
//! | `markdown.rs` | headings, sections and console blocks of a document |
//! | `rust.rs` | tests in a source file |
//! | `check.rs` | [`check`]: whether the proofs are there |

mod check;
mod markdown;
mod proof;
mod rust;
mod table;

pub use check::check;
pub use markdown::{Section, Step, commands, sections, steps};
pub use proof::{Proof, ProofError};
pub use rust::{Found, find_test};
pub use table::{Row, Table, TableError};

/// How many lines the document has.
pub const LINES: u16 = 241;
