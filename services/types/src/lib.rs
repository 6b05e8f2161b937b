//! The few words that all of Quorate shares.
//!
//! Plain data used by three or more crates: no I/O, no async, no wire format of gRPC. A value of
//! one of these types is valid by construction, so nothing below the edge checks it again.
//!
//! - [`NodeId`], [`RingId`]: who, and in which configuration (`ids.rs`)
//! - [`NodeName`], [`ClusterName`]: what people call them (`names.rs`)

mod ids;
mod names;

pub use ids::{NodeId, NodeIdError, RingId};
pub use names::{ClusterName, NameError, NodeName};
