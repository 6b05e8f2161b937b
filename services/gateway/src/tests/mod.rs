//! Whole gateways in one process, in front of pretended daemons.

mod callers;
mod create;
mod door;
mod join;
mod refusals;
mod remove;
mod tokens;
