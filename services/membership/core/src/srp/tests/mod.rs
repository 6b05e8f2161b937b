//! One ring, one transition at a time: the state before, one input, the state and outputs after.

#![allow(clippy::unwrap_used)]

mod bench;
mod gathering;
mod operation;
mod pacing;
mod recovering;
