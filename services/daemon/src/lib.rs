//! What every daemon of Quorate is made of: its paths, sockets, telemetry, health, tasks and shutdown.
//!
//! It knows no ring, no vote and no file of the cluster. A daemon is a library with
//! `pub async fn run(daemon: Daemon) -> Result<(), Failure>` and a `main` of one line:
//!
//! ```no_run
//! use quorate_daemon::{Daemon, Failure, Server, Tasks, daemon_main};
//!
//! async fn run(daemon: Daemon) -> Result<(), Failure> {
//!     // 1. build: register metrics, bind the socket; nothing runs yet
//!     let server = Server::new(&daemon).bind(&daemon.socket())?;
//!     // 2. start: every task has a name; one that ends early ends the daemon
//!     let mut tasks = Tasks::new(daemon.shutdown.clone());
//!     tasks.spawn("grpc", server.serve(daemon.shutdown.clone()));
//!     // 3. wait for a signal or a failed task, then drain
//!     Ok(tasks.run().await?)
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     daemon_main("exampled", run)
//! }
//! ```
//!
//! # Map
//!
//! | file | holds |
//! |---|---|
//! | `start.rs` | [`daemon_main`], [`Daemon`], [`Failure`] and the exit codes |
//! | `paths.rs` | [`Root`]: where everything lies below the prefix |
//! | `node.rs` | [`NodeConfig`]: `etc/quorate/node.toml` |
//! | `server.rs`, `listen.rs`, `health.rs` | [`Server`]: gRPC, reflection, health and `/metrics` on one Unix socket |
//! | `client.rs` | [`client::daemon_channel`]: the way to another daemon of this node |
//! | `caller.rs` | [`caller::of`]: who calls, in words for the history of the tree |
//! | `sign_of_life.rs` | [`sign_of_life::SignOfLife`]: whether a daemon still answers |
//! | `service_manager.rs` | [`ServiceManager`]: readiness, status and signs of life for systemd |
//! | `backoff.rs` | [`backoff::Backoff`]: pauses between attempts |
//! | `ownership.rs` | whose data lies below the root |
//! | `rpc/` | the layers that give each call a span, a trace context and a duration |
//! | `trace_context.rs` | `traceparent` of the current span, for messages that leave the process |
//! | `timeout.rs` | how long callers wait |
//! | `telemetry.rs`, `export.rs` | logs, spans and their export |
//! | `metrics.rs` | [`Metrics`]: one registry per daemon |
//! | `status.rs` | rich gRPC errors: built and read |
//! | `tasks.rs`, `shutdown.rs` | [`Tasks`] and the signals that end a daemon |
//!
//! Sources: OpenTelemetry semantic conventions for RPC 1.44; W3C Trace Context 1; gRPC health checking
//! protocol; OpenMetrics 1.0.

pub mod backoff;
pub mod caller;
pub mod client;
mod export;
pub mod health;
pub mod listen;
pub mod metrics;
pub mod node;
pub mod ownership;
pub mod paths;
pub mod rpc;
pub mod server;
pub mod service_manager;
pub mod shutdown;
pub mod sign_of_life;
mod start;
pub mod status;
pub mod tasks;
pub mod telemetry;
pub mod timeout;
pub mod trace_context;

pub use health::Health;
pub use metrics::Metrics;
pub use node::NodeConfig;
pub use paths::Root;
pub use server::{BoundServer, Server};
pub use service_manager::ServiceManager;
pub use start::{Daemon, EXIT_CONFIGURATION, EXIT_FAILED_START, Failure, daemon_main};
pub use tasks::Tasks;
