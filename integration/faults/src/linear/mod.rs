//! Linearizability of one file: is there an order of all operations, each at one moment between its start and its
//! end, in which every answer is right?
//!
//! A file is a *versioned register*: absent, or holding a value; a write may require what it finds, and every write
//! makes a version above all versions before. Linearizability is local (Herlihy and Wing 1990), so each file is
//! judged alone.
//!
//! The search is just-in-time linearization (Wing and Gong 1993, Lowe 2017) with memoisation: it walks along the
//! starts and ends of the operations and keeps every state in which the register may be. Four things keep these
//! states few, and none of them changes the answer:
//!
//! - an operation that changes nothing takes effect as soon as the register agrees with its answer
//! - a write of unknown outcome whose value somebody read did happen, before the end of the first such read
//! - writes of unknown outcome that nobody saw are alike: only how many of a kind took effect is kept
//! - writes that were answered with versions take effect in the order of these, as the register demands it
//!
//! | file | holds |
//! |---|---|
//! | `prepare.rs` | who read whose value; what contradicts itself without any search |
//! | `search.rs` | the states in which the register may be, from event to event |
//! | `flaw.rs` | what is wrong, with the operations that show it |

mod flaw;
mod prepare;
mod search;

#[cfg(test)]
mod brute;
#[cfg(test)]
mod generate;
#[cfg(test)]
mod tests;

pub use flaw::Flaw;
use serde::{Deserialize, Serialize};

/// What was written: every write of a history has its own.
pub type Value = u64;

/// Time of the recorder's one clock; only the order counts.
pub type Time = u64;

/// One operation as its caller saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Names it in a [`Flaw`].
    pub id: u64,
    /// When it began.
    pub invoked: Time,
    /// When its answer came. Meaningless if that is [`Answer::Unknown`] or [`Answer::Refused`].
    pub returned: Time,
    /// What was asked for.
    pub call: Call,
    /// What was answered.
    pub answer: Answer,
}

/// What may be asked of a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// The value.
    Get,
    /// To hold this value from now on.
    Put {
        /// What it requires.
        expect: Expect,
        /// The value.
        value: Value,
    },
    /// To be absent from now on; requires that it is not.
    Delete {
        /// What it requires besides.
        expect: Expect,
    },
}

/// What a write requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expect {
    /// Nothing.
    Any,
    /// That the register is absent.
    Absent,
    /// That it holds the value of this version.
    Version(u64),
}

/// What a caller was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The write took effect.
    Done {
        /// As this version, if that was told.
        version: Option<u64>,
    },
    /// The value.
    Found {
        /// It.
        value: Value,
        /// Its version, if that was told.
        version: Option<u64>,
    },
    /// The register is absent; a write had no effect.
    Missing,
    /// The register holds something that the write did not expect; it had no effect.
    Unexpected,
    /// It had no effect, and nothing was said of the register.
    Refused,
    /// Not known: it took effect at any time after its start, or never will.
    Unknown,
}

/// What a search has cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Effort {
    /// Operations that were judged.
    pub operations: usize,
    /// Most states in which the register could be at one moment.
    pub states_max: usize,
}

/// Judges the history of one register that is absent at first.
///
/// # Errors
/// [`Flaw`]: the first thing that is wrong; or [`Flaw::TooHard`], which says that nothing is known.
pub fn check(history: &[Operation]) -> Result<Effort, Flaw> {
    let prepared = prepare::prepare(history)?;
    search::search(&prepared)
}
