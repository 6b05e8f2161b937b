//! A node's tree through gRPC over a Unix socket of the node.

use std::time::Duration;

use bytes::Bytes;
use playground::Node;
use quorate_daemon::{
    client::{DaemonChannel, daemon_channel, deadline},
    status,
};
use quorate_proto::config::v1::{
    DeleteRequest, Entry, GetRequest, PutRequest, config_service_client::ConfigServiceClient,
};
use tonic::Status;

use super::Client;
use crate::{
    content,
    linear::{Answer, Call, Expect},
};

/// How long a call may take. Then its outcome is not known, and the caller goes on.
const CALL: Duration = Duration::from_secs(4);
/// Beyond it: for a daemon that is stopped and cannot even keep deadlines.
const GRACE: Duration = Duration::from_secs(1);

/// Reasons that promise that the write had no effect and will have none.
const REFUSALS: [&str; 4] = ["NOT_QUORATE", "SYNCHRONISING", "OVERLOADED", "STORE_FAILED"];

/// A client of one node.
#[derive(Clone)]
pub struct GrpcClient {
    node: String,
    service: ConfigServiceClient<DaemonChannel>,
}

impl GrpcClient {
    /// Through the socket of this daemon of the node: configd, or gatewayd before it.
    #[must_use]
    pub fn new(node: &Node, daemon: &str) -> Self {
        let service = ConfigServiceClient::new(daemon_channel(node.root(), daemon));
        Self { node: node.name().to_owned(), service }
    }
}

async fn within<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let ended = tokio::time::timeout(CALL + GRACE, call).await;
    ended.unwrap_or_else(|_| Err(Status::cancelled("no answer within the deadline")))
}

/// What a failure says about a write.
fn failure(status: &Status) -> Answer {
    let reason = status::reason(status).map(|reason| reason.reason);
    match reason.as_deref() {
        Some("NOT_FOUND") => Answer::Missing,
        Some("ALREADY_EXISTS" | "VERSION_MISMATCH") => Answer::Unexpected,
        Some(reason) if REFUSALS.contains(&reason) => Answer::Refused,
        _ => Answer::Unknown,
    }
}

fn version(entry: Option<Entry>) -> Option<u64> {
    entry.map(|entry| entry.version)
}

#[tonic::async_trait]
impl Client for GrpcClient {
    fn node(&self) -> &str {
        &self.node
    }

    fn reads_linearizable(&self) -> bool {
        true
    }

    async fn get(&self, path: &str, fresh: bool) -> Answer {
        let mut service = self.service.clone();
        let request = GetRequest { path: path.to_owned(), linearizable: fresh };
        match within(service.get(deadline(request, CALL))).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                Answer::Found { value: content::decode(&answer.content), version: version(answer.entry) }
            }
            Err(status) if failure(&status) == Answer::Missing => Answer::Missing,
            Err(_) => Answer::Unknown,
        }
    }

    async fn write(&self, path: &str, call: Call, request: [u8; 16]) -> Answer {
        let mut service = self.service.clone();
        let (path, request_id) = (path.to_owned(), Bytes::copy_from_slice(&request));
        let expected = |expect| match expect {
            Expect::Any => None,
            Expect::Absent => Some(0),
            Expect::Version(version) => Some(version),
        };
        let done = match call {
            Call::Get => return Answer::Refused,
            Call::Put { expect, value } => {
                let (content, expected_version) = (content::encode(value), expected(expect));
                let put = PutRequest { path, content, expected_version, request_id, make_parents: false };
                let put = within(service.put(deadline(put, CALL))).await;
                put.map(|answer| version(answer.into_inner().entry))
            }
            Call::Delete { expect } => {
                let delete = DeleteRequest { path, expected_version: expected(expect), request_id };
                let deleted = within(service.delete(deadline(delete, CALL))).await;
                deleted.map(|answer| Some(answer.into_inner().version))
            }
        };
        match done {
            Ok(version) => Answer::Done { version },
            Err(status) => failure(&status),
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn only_a_reason_that_promises_it_makes_a_write_refused() {
        let with = |reason| status::error(Code::Internal, reason, "", Vec::<(&str, &str)>::new());
        assert_eq!(failure(&with("NOT_QUORATE")), Answer::Refused);
        assert_eq!(failure(&with("OUTCOME_UNKNOWN")), Answer::Unknown);
        assert_eq!(failure(&with("VERSION_MISMATCH")), Answer::Unexpected);
        assert_eq!(failure(&with("NOT_FOUND")), Answer::Missing);
        assert_eq!(failure(&Status::unavailable("nobody listens")), Answer::Unknown);
        assert_eq!(failure(&Status::not_found("said by somebody else")), Answer::Unknown);
    }
}
