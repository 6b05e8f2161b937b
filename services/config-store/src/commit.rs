//! The one way of a write, whoever asks for it: the ring judges a new corosync.conf, a span begins whose context travels
//! with the operation, and the driver takes it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;
use config_store_core::{Applied, Operation, RequestId};
use corosync_conf::ClusterConf;
use quorate_daemon::{
    client::{self, DaemonChannel},
    trace_context,
};
use quorate_proto::{
    config::v1::{Change, Entry},
    membership::v1::{CheckConfigurationRequest, membership_service_client::MembershipServiceClient},
};
use tonic::Code;
use tracing::{Instrument as _, Span};

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

/// How a write is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask<'a> {
    /// Identifies it across retries.
    pub(crate) id: RequestId,
    /// When the answer must be there.
    pub(crate) deadline: Instant,
    /// Who asks; empty if that is not known.
    pub(crate) caller: &'a str,
}

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

    /// Performs one write.
    pub(crate) async fn commit(
        &self,
        operation: Operation,
        ask: Ask<'_>,
    ) -> Result<(Applied, Option<Entry>), Error> {
        let (write, span) = self.prepared(operation, ask).await?;
        self.replica.write(write).instrument(span).await
    }

    /// Performs a transaction.
    pub(crate) async fn transact(
        &self,
        operation: Operation,
        ask: Ask<'_>,
    ) -> Result<(Applied, Vec<Change>), Error> {
        let (write, span) = self.prepared(operation, ask).await?;
        self.replica.transact(write).instrument(span).await
    }

    /// A write with the span whose context travels with the operation to every node.
    async fn prepared(&self, operation: Operation, ask: Ask<'_>) -> Result<(Write, Span), Error> {
        let Ask { id, deadline, caller } = ask;
        self.check_conf(&operation, deadline).await?;
        let span = tracing::info_span!("config.commit", otel.kind = "producer", operation = operation.name(), path = %operation.path());
        let trace = trace_context::of(&span).and_then(|text| convert::trace_context(&text));
        Ok((Write { id, operation, caller: caller.to_owned(), trace, deadline }, span))
    }

    /// What an operation would make the cluster's corosync.conf.
    fn new_conf(&self, operation: &Operation) -> Option<Bytes> {
        let mut written = BTreeMap::new();
        let mut conf = None;
        for one in operation.each() {
            match one {
                Operation::Put { path, content, .. } if path.as_str() == COROSYNC_CONF => {
                    conf = Some(content.clone());
                }
                Operation::Put { path, content, .. } => drop(written.insert(path, content.clone())),
                Operation::Rename { from, to, .. } if to.as_str() == COROSYNC_CONF => {
                    let before = || read::get(&self.view.tree(), from).ok().map(|(_, content)| content);
                    // One that is not there makes the rename itself fail, which says what is wrong.
                    conf = written.get(from).cloned().or_else(before).or(conf);
                }
                _ => {}
            }
        }
        conf
    }

    /// Asks the ring whether it could run with what is to become corosync.conf: only it knows transports, timers, keys
    /// and addresses. A daemon that does not answer says nothing against it.
    async fn check_conf(&self, operation: &Operation, until: Instant) -> Result<(), Error> {
        let Some(content) = self.new_conf(operation) else { return Ok(()) };
        // What cannot be read is refused by the guard, in its own words.
        let Ok(corosync_conf) = String::from_utf8(content.into()) else { return Ok(()) };
        if ClusterConf::parse(&corosync_conf).is_err() {
            return Ok(());
        }
        self.ask_ring(corosync_conf, until).await
    }

    /// Asks the ring of this node whether it could run with a corosync.conf.
    pub(crate) async fn ask_ring(&self, corosync_conf: String, until: Instant) -> Result<(), Error> {
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
