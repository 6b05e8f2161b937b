//! The services: they check the request, ask, answer. No decision is made here.

pub(crate) mod guest;
pub(crate) mod migration;
mod qmp_stream;
pub(crate) mod storage;

use std::pin::Pin;

use tokio_stream::Stream;
use tonic::{Response, Status};

use crate::error::Error;

/// A stream of answers.
pub(crate) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Finishes what was begun also when the caller goes away: a half-started guest would be nobody's.
pub(crate) async fn finish<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<Response<T>, Status> {
    let done = tokio::spawn(work).await;
    let done = done.map_err(|broken| Status::internal(format!("the call broke: {broken}")))?;
    Ok(Response::new(done?))
}
