//! The ways to a node's tree: gRPC, or the file system that it mounts.

mod grpc;
mod mount;

pub use grpc::GrpcClient;
pub use mount::MountClient;

use crate::linear::{Answer, Call};

/// A way to one node's tree. Every call ends within seconds, with what is known.
#[tonic::async_trait]
pub trait Client: Send + Sync {
    /// The node's name.
    fn node(&self) -> &str;

    /// Whether a read can ask the cluster first.
    fn reads_linearizable(&self) -> bool;

    /// Reads a file: the cluster's newest (`fresh`), or this replica's. A read that failed is [`Answer::Unknown`].
    async fn get(&self, path: &str, fresh: bool) -> Answer;

    /// Performs a put or a delete. Calls with the same request id are one.
    async fn write(&self, path: &str, call: Call, request: [u8; 16]) -> Answer;
}
