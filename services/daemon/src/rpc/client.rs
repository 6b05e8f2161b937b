//! The layer around all calls that this process makes: CLIENT span, `traceparent`, status.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{HeaderValue, Request, Response};
use tonic::{Status, TimeoutExpired, body::Body};
use tower::{Layer, Service};
use tracing::{Instrument as _, Span};

use super::{body, call::Call, names};
use crate::{
    tasks::BoxError,
    trace_context::{self, TRACEPARENT},
};

/// Wraps a channel, see the module.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClientLayer;

impl<S> Layer<S> for ClientLayer {
    type Service = ClientService<S>;

    fn layer(&self, inner: S) -> ClientService<S> {
        ClientService { inner }
    }
}

/// A channel with [`ClientLayer`] around it; what the generated clients are made from.
#[derive(Debug, Clone)]
pub struct ClientService<S> {
    inner: S,
}

impl<S> Service<Request<Body>> for ClientService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error: Into<BoxError>, Future: Send + 'static>,
{
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let method = names::method_of(request.uri().path());
        let span = tracing::info_span!("rpc", otel.name = method, otel.kind = "client");
        inject(&span, &mut request);
        let mut call = Call::made(method, span.clone(), request.headers());
        let answer = span.in_scope(|| self.inner.call(request));
        let answer = async move {
            match answer.await {
                Ok(response) => Ok(body::watch(call, response)),
                Err(err) => {
                    let status = status_of(err.into());
                    call.finish(status.code(), status.message());
                    Err(status.into())
                }
            }
        };
        Box::pin(answer.instrument(span))
    }
}

fn inject<B>(span: &Span, request: &mut Request<B>) {
    let Some(traceparent) = trace_context::of(span) else { return };
    let value = HeaderValue::from_str(&traceparent).expect("a traceparent is made of hex digits and hyphens");
    request.headers_mut().insert(TRACEPARENT, value);
}

/// The status of a call that got no response. An expired deadline is DEADLINE_EXCEEDED, as everywhere
/// else in gRPC; tonic would say CANCELLED.
fn status_of(err: BoxError) -> Status {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(err.as_ref());
    while let Some(current) = cause {
        if current.is::<TimeoutExpired>() {
            return Status::deadline_exceeded("the deadline passed before an answer came");
        }
        cause = current.source();
    }
    Status::from_error(err)
}
