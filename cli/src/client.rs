//! The way to the daemons of one node: its gateway's socket, a deadline for each call, one trace per command.

use std::{
    error::Error as StdError,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use quorate_daemon::{
    Root,
    client::{DaemonChannel, daemon_channel, deadline},
    telemetry::Telemetry,
};
use quorate_proto::{
    config::v1::{
        config_service_client::ConfigServiceClient, history_service_client::HistoryServiceClient,
        status_service_client::StatusServiceClient,
    },
    gateway::v1::{
        cluster_service_client::ClusterServiceClient, diagnostics_service_client::DiagnosticsServiceClient,
    },
    guest::v1::guest_service_client::GuestServiceClient,
    membership::v1::membership_service_client::MembershipServiceClient,
    migration::v1::migration_service_client::MigrationServiceClient,
    quorum::v1::quorum_service_client::QuorumServiceClient,
};
use tonic::{Code, Request, Status};
use tracing::Instrument as _;

use crate::{error::Error, exit::Exit, pvecm::Global};

/// Time for a call when that of its command is used up: enough for an answer that is there already.
const LAST: Duration = Duration::from_millis(1);
/// The daemon that passes all calls on.
const GATEWAY: &str = "gatewayd";

/// Calls to the daemons of one node.
#[derive(Clone)]
pub struct Client {
    channel: DaemonChannel,
    socket: PathBuf,
    global: Global,
    /// When the first call of the command began.
    began: Arc<OnceLock<Instant>>,
}

impl Client {
    /// A client of the node below the root; nothing is connected before the first call. Needs a runtime.
    #[must_use]
    pub fn new(global: &Global) -> Self {
        let root = Root::new(&global.root);
        let socket = root.socket(GATEWAY);
        Self {
            channel: daemon_channel(&root, GATEWAY),
            socket,
            global: global.clone(),
            began: Arc::default(),
        }
    }

    /// Examining the cluster.
    #[must_use]
    pub fn diagnostics(&self) -> DiagnosticsServiceClient<DaemonChannel> {
        DiagnosticsServiceClient::new(self.channel.clone())
    }

    /// Where the files of the node are.
    #[must_use]
    pub fn root(&self) -> Root {
        Root::new(&self.global.root)
    }

    /// The life cycle of the cluster.
    #[must_use]
    pub fn cluster(&self) -> ClusterServiceClient<DaemonChannel> {
        ClusterServiceClient::new(self.channel.clone())
    }

    /// The replicated tree.
    #[must_use]
    pub fn config(&self) -> ConfigServiceClient<DaemonChannel> {
        ConfigServiceClient::new(self.channel.clone())
    }

    /// What nodes tell each other beside the tree.
    #[must_use]
    pub fn status(&self) -> StatusServiceClient<DaemonChannel> {
        StatusServiceClient::new(self.channel.clone())
    }

    /// What the replicated tree was before.
    #[must_use]
    pub fn history(&self) -> HistoryServiceClient<DaemonChannel> {
        HistoryServiceClient::new(self.channel.clone())
    }

    /// The virtual machines of this node.
    #[must_use]
    pub fn guests(&self) -> GuestServiceClient<DaemonChannel> {
        GuestServiceClient::new(self.channel.clone())
    }

    /// Guests on their way.
    #[must_use]
    pub fn migrations(&self) -> MigrationServiceClient<DaemonChannel> {
        MigrationServiceClient::new(self.channel.clone())
    }

    /// The ring.
    #[must_use]
    pub fn membership(&self) -> MembershipServiceClient<DaemonChannel> {
        MembershipServiceClient::new(self.channel.clone())
    }

    /// The votes.
    #[must_use]
    pub fn quorum(&self) -> QuorumServiceClient<DaemonChannel> {
        QuorumServiceClient::new(self.channel.clone())
    }

    /// A request that must be answered within `--timeout`: all requests of a command together.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let elapsed = self.began.get_or_init(Instant::now).elapsed();
        deadline(message, self.global.timeout().saturating_sub(elapsed).max(LAST))
    }

    /// `--timeout`, or another time than usual if it is not given.
    #[must_use]
    pub fn timeout_or(&self, timeout: Duration) -> Duration {
        self.global.timeout.unwrap_or(timeout)
    }

    /// `--timeout`, if it is given.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        self.global.timeout
    }

    /// Tells a gateway that cannot be reached from a call that failed.
    pub fn failure(&self) -> impl Fn(Status) -> Error {
        let socket = self.socket.clone();
        move |status| {
            // Only a status that was made on this side has a cause in this process.
            if status.code() == Code::Unavailable && status.source().is_some() {
                Error::Gateway { socket: socket.clone(), status: Box::new(status) }
            } else if status.code() == Code::DeadlineExceeded && status.details().is_empty() {
                Error::Silent { socket: socket.clone() }
            } else {
                Error::from(status)
            }
        }
    }
}

/// Runs a command that needs the daemons, inside its trace.
///
/// # Errors
/// The command's own, and [`Error::Start`] if the process cannot be set up.
pub fn block_on<F>(global: &Global, name: &'static str, command: F) -> Result<Exit, Error>
where
    F: AsyncFnOnce(&Client) -> Result<Exit, Error>,
{
    let start = |error: Box<dyn StdError + Send + Sync>| Error::Start(error);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| start(error.into()))?;
    runtime.block_on(async {
        let telemetry = Telemetry::start_command("pvecm").map_err(|error| start(error.into()))?;
        let span = tracing::info_span!("command", otel.name = name, otel.kind = "client", error.type = tracing::field::Empty);
        let client = Client::new(global);
        let result = command(&client).instrument(span.clone()).await;
        if let Err(error) = &result {
            span.record("error.type", error.report().reason);
        }
        drop((span, client));
        telemetry.stop().await;
        result
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn global(root: &std::path::Path) -> Global {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            global: Global,
        }
        Line::try_parse_from(["pvecm", "--root", root.to_str().unwrap()]).unwrap().global
    }

    #[tokio::test]
    async fn a_gateway_that_does_not_run_is_named_by_its_socket() {
        let dir = tempfile::tempdir().unwrap();
        let client = Client::new(&global(dir.path()));
        let request = client.request(quorate_proto::quorum::v1::GetStatusRequest {});
        let failure = client.quorum().get_status(request).await.map_err(client.failure()).unwrap_err();
        let report = failure.report();
        assert_eq!(report.reason, "GATEWAY_UNREACHABLE");
        assert!(report.message.ends_with("/run/quorate/gatewayd.sock"), "{report}");
        assert!(report.details[0].contains("No such file or directory"), "{report}");
    }

    #[test]
    fn all_requests_of_a_command_have_one_deadline() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let client = Client::new(&global(std::path::Path::new("/nowhere")));
        let long_ago = Instant::now().checked_sub(Duration::from_secs(9)).unwrap();
        client.began.set(long_ago).unwrap();
        let request = client.request(());
        let left = request.metadata().get(quorate_daemon::timeout::GRPC_TIMEOUT).unwrap();
        let left = quorate_daemon::timeout::parse(left.to_str().unwrap()).unwrap();
        assert!(left <= Duration::from_secs(1), "{left:?}");
    }

    #[tokio::test]
    async fn a_gateway_that_hangs_is_named_and_a_daemon_that_hangs_by_the_gateway() {
        let dir = tempfile::tempdir().unwrap();
        let mut global = global(dir.path());
        global.timeout = Some(Duration::from_millis(300));
        let client = Client::new(&global);
        std::fs::create_dir_all(client.socket.parent().unwrap()).unwrap();
        let _hanging = tokio::net::UnixListener::bind(&client.socket).unwrap();
        let request = client.request(quorate_proto::quorum::v1::GetStatusRequest {});
        let failure = client.quorum().get_status(request).await.map_err(client.failure()).unwrap_err();
        assert!(failure.report().message.starts_with("gatewayd of this node"), "{}", failure.report());
    }

    #[tokio::test]
    async fn a_daemon_that_is_unavailable_behind_the_gateway_is_told_in_its_own_words() {
        let client = Client::new(&global(std::path::Path::new("/nowhere")));
        let failure = client.failure()(Status::unavailable("quorumd does not answer"));
        assert_eq!(failure.report().to_string(), "error[UNAVAILABLE]: quorumd does not answer");
    }
}
