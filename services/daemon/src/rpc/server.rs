//! The layer around all served calls: span, parent from `traceparent`, duration and status.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use tonic::body::Body;
use tower::{Layer, Service};
use tracing::{Instrument as _, Span};

use super::{body, call::Call, metrics::RpcMetrics, names};
use crate::trace_context::{self, TRACEPARENT};

/// Wraps a gRPC service, see the module.
#[derive(Debug, Clone)]
pub struct ServerLayer {
    metrics: RpcMetrics,
}

impl ServerLayer {
    /// Counts into these metrics.
    #[must_use]
    pub fn new(metrics: RpcMetrics) -> Self {
        Self { metrics }
    }
}

impl<S> Layer<S> for ServerLayer {
    type Service = ServerService<S>;

    fn layer(&self, inner: S) -> ServerService<S> {
        ServerService { inner, metrics: self.metrics.clone() }
    }
}

/// A service with [`ServerLayer`] around it.
#[derive(Debug, Clone)]
pub struct ServerService<S> {
    inner: S,
    metrics: RpcMetrics,
}

impl<S, B, R> Service<Request<B>> for ServerService<S>
where
    S: Service<Request<B>, Response = Response<R>, Error = Infallible, Future: Send + 'static>,
    R: http_body::Body<Data = Bytes, Error: Into<tonic::codegen::StdError>> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let method = names::method_of(request.uri().path());
        let span = span_of(method, &request);
        let call = Call::served(method, span.clone(), request.headers(), self.metrics.clone());
        let answer = span.in_scope(|| self.inner.call(request));
        let answer = async move {
            let response = answer.await?;
            Ok(body::watch(call, response.map(Body::new)))
        };
        Box::pin(answer.instrument(span))
    }
}

fn span_of<B>(method: &'static str, request: &Request<B>) -> Span {
    let span = tracing::info_span!(parent: None, "rpc", otel.name = method, otel.kind = "server");
    if let Some(parent) = request.headers().get(TRACEPARENT).and_then(|value| value.to_str().ok()) {
        trace_context::set_remote_parent(&span, parent);
    }
    span
}
