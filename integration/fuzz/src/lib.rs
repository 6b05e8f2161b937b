//! What must hold for every input: one module per fuzz target, each with `check(input)`.
//!
//! The targets in `fuzz_targets/` hand what libFuzzer makes up to these functions, `tests/seeds.rs` the seeds that
//! [`seeds`] takes from recorded packets. A check panics, and nothing else: libFuzzer keeps the input that made it.
//! How to run them: `README.md`.

pub mod config_replica;
pub mod config_store;
pub mod corosync_conf;
pub mod cpg;
pub mod features;
pub mod feed;
pub mod heap;
pub mod join_token;
pub mod knet_crypto;
pub mod knet_links;
pub mod knet_packet;
pub mod seeds;
pub mod services;
pub mod stack;
pub mod sync;
pub mod totem;
pub mod totempg;
pub mod votequorum;

// The gateway's own sources, without the gateway.
#[allow(dead_code)]
#[path = "../../../services/gateway/src/fingerprint.rs"]
pub mod fingerprint;
#[allow(dead_code)]
#[path = "../../../services/gateway/src/token.rs"]
pub mod token;

/// A target's check.
pub type Check = fn(&[u8]);

/// All targets by name.
pub const TARGETS: [(&str, Check); 15] = [
    ("totem", totem::check),
    ("totempg", totempg::check),
    ("sync", sync::check),
    ("services", services::check),
    ("cpg", cpg::check),
    ("votequorum", votequorum::check),
    ("features", features::check),
    ("knet_packet", knet_packet::check),
    ("knet_crypto", knet_crypto::check),
    ("knet_links", knet_links::check),
    ("stack", stack::check),
    ("config_store", config_store::check),
    ("config_replica", config_replica::check),
    ("corosync_conf", corosync_conf::check),
    ("join_token", join_token::check),
];
