//! Passing calls on to the daemon that serves them, by the name of the service.
//!
//! The gateway does not read what passes: bodies stream through both ways, trailers included. Each call
//! gets a CLIENT span below the gateway's own SERVER span, whose context replaces the `traceparent`.
//! Tokens stay here. A call that answers once has a little less time than its caller gives: a daemon that hangs is then
//! named by the gateway, before the caller gives up.

use std::{collections::HashSet, sync::LazyLock, time::Duration};

use http::{HeaderValue, Request, Response, header};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use quorate_daemon::{
    caller::CALLER_HEADER,
    status,
    tasks::BoxError,
    timeout::{self, GRPC_TIMEOUT},
};
use tonic::{Code, Status, body::Body};
use tower::ServiceExt as _;

use crate::{absent, client::Daemons};

/// Deadline of a call that answers once, if the caller set none: longer than any such call should take.
const UNARY_TIMEOUT: Duration = Duration::from_secs(60);

/// Every method that streams in either direction, as `/package.Service/Method`: these may last for ever.
static STREAMING: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let set = FileDescriptorSet::decode(quorate_proto::DESCRIPTORS)
        .expect("descriptors were encoded by the compiler");
    let mut streaming = HashSet::new();
    for file in &set.file {
        for service in &file.service {
            for method in service.method.iter().filter(|m| m.client_streaming() || m.server_streaming()) {
                streaming.insert(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
            }
        }
    }
    streaming
});

/// The service and the method that a path names; `None` if it names none.
#[must_use]
pub fn split(path: &str) -> Option<(&str, &str)> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    (!service.is_empty() && !method.is_empty() && !method.contains('/')).then_some((service, method))
}

/// Passes a call on to a daemon and its answer back. What fails becomes a gRPC status.
/// `caller` is who makes it, in words for the daemon's records; what the call itself says of that is not passed on.
pub async fn forward(
    daemons: &Daemons,
    daemon: &'static str,
    request: Request<Body>,
    caller: &str,
) -> Response<Body> {
    let request = prepare(request, caller);
    let answer = daemons.channel(daemon).oneshot(request).await;
    answer.unwrap_or_else(|error| unreachable(daemons, daemon, error).into_http())
}

fn prepare(mut request: Request<Body>, caller: &str) -> Request<Body> {
    let unary = !STREAMING.contains(request.uri().path());
    // What the connection left here (peer, certificates, upgrades) is not the daemon's business.
    request.extensions_mut().clear();
    let headers = request.headers_mut();
    for ours in [header::AUTHORIZATION, header::HOST, header::CONNECTION] {
        headers.remove(ours);
    }
    headers.remove(CALLER_HEADER);
    if let Ok(caller) = HeaderValue::from_str(caller) {
        headers.insert(CALLER_HEADER, caller);
    }
    if unary {
        let wanted = headers.get(GRPC_TIMEOUT).and_then(|value| timeout::parse(value.to_str().ok()?));
        let shorter = timeout::print(timeout::ahead_of(wanted.unwrap_or(UNARY_TIMEOUT)));
        let shorter = HeaderValue::from_str(&shorter).expect("digits and a letter");
        headers.insert(GRPC_TIMEOUT, shorter);
    }
    request
}

fn unreachable(daemons: &Daemons, daemon: &'static str, error: BoxError) -> Status {
    let why = Status::from_error(error);
    match why.code() {
        Code::DeadlineExceeded => {
            let message = absent::silent(daemons.root(), daemon);
            status::error(Code::DeadlineExceeded, "DAEMON_TIMEOUT", message, [("daemon", daemon)])
        }
        _ => absent::status(daemons.root(), daemon, why.message()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_service_and_a_method() {
        assert_eq!(split("/a.B/C"), Some(("a.B", "C")));
        for bad in ["", "/", "a/b", "/a", "/a/", "//b", "/a/b/c"] {
            assert_eq!(split(bad), None, "{bad}");
        }
    }

    #[test]
    fn watches_may_last_for_ever_and_single_answers_may_not() {
        let request = |path: &str| Request::builder().uri(path).body(Body::empty()).unwrap();
        let unary = prepare(request("/quorate.quorum.v1.QuorumService/GetStatus"), "");
        assert_eq!(unary.headers()[GRPC_TIMEOUT], "59500000u");
        let watch = prepare(request("/quorate.quorum.v1.QuorumService/Watch"), "");
        assert!(!watch.headers().contains_key(GRPC_TIMEOUT));
    }

    #[test]
    fn a_token_and_the_connections_facts_stay_at_the_door() {
        let mut request = Request::builder().uri("/a/b").header("authorization", "Bearer x");
        request.extensions_mut().unwrap().insert(7_u32);
        let request = request.header("x-other", "1").header(CALLER_HEADER, "root@unix:1/0");
        let prepared = prepare(request.body(Body::empty()).unwrap(), "node:hp2");
        assert_eq!(prepared.headers()[CALLER_HEADER], "node:hp2", "only the gateway says who calls");
        assert!(!prepared.headers().contains_key("authorization"));
        assert!(prepared.headers().contains_key("x-other"));
        assert_eq!(prepared.extensions().get::<u32>(), None);
    }

    #[test]
    fn a_daemon_has_a_little_less_time_than_the_caller_gives() {
        let request = Request::builder().uri("/a/b").header(GRPC_TIMEOUT, "2S").body(Body::empty()).unwrap();
        assert_eq!(prepare(request, "").headers()[GRPC_TIMEOUT], "1800000u");
    }
}
