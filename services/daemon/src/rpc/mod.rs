//! What each call gets on its way: a span, a trace context, a duration.
//!
//! - `call.rs`: the life of one call, from its headers to the end of its last stream
//! - `body.rs`: a response body that sees the status in the trailers
//! - `server.rs`, `client.rs`: the layers
//! - `names.rs`: every name that dashboards and trace queries rely on
//! - `metrics.rs`: durations of served calls

pub mod body;
mod call;
pub mod client;
pub mod metrics;
pub mod names;
pub mod server;
#[cfg(test)]
pub(crate) mod tests;
