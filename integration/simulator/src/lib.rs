//! Deterministic simulator of whole clusters: all protocol cores, one clock, one seed.

pub mod checker;
pub mod cluster;
pub mod daemon;
pub mod disk;
pub mod event;
pub mod fault;
pub mod history;
pub mod mutation;
pub mod network;
pub mod process;
pub mod rng;
pub mod scenario;
pub mod setup;
pub mod simulation;
pub mod trace;
pub mod workload;
