//! The cluster log: what was done to the cluster, and on whose behalf.

use quorate_daemon::client::deadline;
use quorate_proto::config::v1::{AppendLogRequest, status_service_client::StatusServiceClient};

use super::ThisNode;
use crate::client::READ;

/// Syslog's "notice": normal, but significant.
const NOTICE: u32 = 5;

/// Tells the cluster log what was done. It was done in any case: a log that does not take it is no error.
pub(super) async fn note(node: &ThisNode, caller: &str, message: &str) {
    let entry = AppendLogRequest {
        user: caller.to_owned(),
        tag: "pvecm".to_owned(),
        pid: std::process::id(),
        priority: NOTICE,
        message: message.to_owned(),
    };
    let mut log = StatusServiceClient::new(node.daemons.channel("configd"));
    if let Err(status) = log.append_log(deadline(entry, READ)).await {
        tracing::warn!(reason = status.message(), message, "the cluster log did not take this");
    }
}
