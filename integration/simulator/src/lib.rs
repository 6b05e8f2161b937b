//! Deterministic simulator of whole clusters: all protocol cores, one clock, one seed.

pub mod checker;
pub mod disk;
pub mod event;
pub mod fault;
pub mod history;
pub mod network;
pub mod rng;
pub mod trace;
