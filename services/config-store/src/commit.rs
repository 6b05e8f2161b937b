//! The one way of a write, whoever asks for it: the ring judges a new corosync.conf, a span begins whose context travels
//! with the operation, and the driver takes it.

use std::time::{Duration, Instant};

use config_store_core::{Applied, Operation, RequestId};
use corosync_conf::ClusterConf;
use quorate_daemon::{
    client::{self, DaemonChannel},
    trace_context,
};
use quorate_proto::{
    config::v1::Entry,
    membership::v1::{CheckConfigurationRequest, membership_service_client::MembershipServiceClient},
};
use tonic::Code;
use tracing::Instrument as _;

use crate::{
    conf_guard::COROSYNC_CONF,
    convert,
    error::Error,
    handle::{ReplicaHandle, Write},
    read,
    view::View,
};

/// How long the ring may take to judge a corosync.conf, host names looked up included.
const CHECK_DEADLINE: Duration = Duration::from_secs(5);

/// Performs writes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Committer {
    replica: ReplicaHandle,
    view: View,
    membership: DaemonChannel,
}

impl Committer {
    pub(crate) fn new(replica: ReplicaHandle, view: View, membership: DaemonChannel) -> Self {
        Self { replica, view, membership }
    }

    /// Performs one write inside a span whose context travels with the operation to every node.
    pub(crate) async fn commit(
        &self,
        operation: Operation,
        id: RequestId,
        deadline: Instant,
    ) -> Result<(Applied, Option<Entry>), Error> {
        self.check_conf(&operation, deadline).await?;
        let span = tracing::info_span!("config.commit", otel.kind = "producer", operation = operation.name(), path = %operation.path());
        let trace = trace_context::of(&span).and_then(|text| convert::trace_context(&text));
        let write = Write { id, operation, trace, deadline };
        self.replica.write(write).instrument(span).await
    }

    /// Asks the ring whether it could run with what is to become corosync.conf: only it knows transports, timers, keys
    /// and addresses. A daemon that does not answer says nothing against it.
    async fn check_conf(&self, operation: &Operation, until: Instant) -> Result<(), Error> {
        let content = match operation {
            Operation::Put { path, content, .. } if path.as_str() == COROSYNC_CONF => content.clone(),
            Operation::Rename { from, to, .. } if to.as_str() == COROSYNC_CONF => {
                match read::get(&self.view.tree(), from) {
                    Ok((_, content)) => content,
                    // The rename itself says what is wrong.
                    Err(_) => return Ok(()),
                }
            }
            _ => return Ok(()),
        };
        // What cannot be read is refused by the guard, in its own words.
        let Ok(corosync_conf) = String::from_utf8(content.into()) else { return Ok(()) };
        if ClusterConf::parse(&corosync_conf).is_err() {
            return Ok(());
        }
        let within = until.saturating_duration_since(Instant::now()).min(CHECK_DEADLINE);
        let request = client::deadline(CheckConfigurationRequest { corosync_conf }, within);
        let checked =
            MembershipServiceClient::new(self.membership.clone()).check_configuration(request).await;
        match checked {
            Err(refusal) if refusal.code() == Code::FailedPrecondition => {
                Err(Error::ConfNotRunnable(refusal.message().to_owned()))
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }
}
