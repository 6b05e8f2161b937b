//! gatewayd
pub mod auth;
pub mod ca;
pub mod client;
pub mod files;
pub mod fingerprint;
pub mod identity;
pub mod metrics;
pub mod refusal;
pub mod route;
pub mod tls;
pub mod token;
pub mod tree;
