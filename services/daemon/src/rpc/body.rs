//! A response body that ends its call when the status arrives in the trailers.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::Response;
use http_body::{Body as _, Frame, SizeHint};
use tonic::{Code, Status, body::Body};

use super::call::Call;

/// A body that passes everything on and watches for the end of the call.
///
/// The headers of a response say nothing about a stream that fails later: the status stands in the
/// trailers. A body that is dropped before them was cancelled.
pub struct CallBody {
    inner: Body,
    call: Call,
}

/// Watches the response of a call until its status is known.
pub(super) fn watch(mut call: Call, response: Response<Body>) -> Response<Body> {
    let (parts, body) = response.into_parts();
    if call.finish_from(&parts.headers) {
        return Response::from_parts(parts, body);
    }
    if body.is_end_stream() {
        call.finish(Code::Unknown, "the response carries no status");
        return Response::from_parts(parts, body);
    }
    Response::from_parts(parts, Body::new(CallBody { inner: body, call }))
}

impl http_body::Body for CallBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
        let this = &mut *self;
        let span = this.call.span().clone();
        let polled = ready!(span.in_scope(|| Pin::new(&mut this.inner).poll_frame(cx)));
        match &polled {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref()
                    && !this.call.finish_from(trailers)
                {
                    this.call.finish(Code::Unknown, "the trailers carry no status");
                }
            }
            Some(Err(status)) => this.call.finish(status.code(), status.message()),
            None => this.call.finish(Code::Unknown, "the stream ended without a status"),
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
