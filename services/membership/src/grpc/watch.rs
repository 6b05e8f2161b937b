//! The stream of configurations.

use quorate_proto::membership::v1::{WatchConfigurationsResponse, watch_configurations_response::Kind};
use tokio::sync::{broadcast::error::RecvError, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{RESPONSES_MAX, ResponseStream, convert::ids};
use crate::{
    error::Error,
    handle::RingHandle,
    view::{ConfigurationEvent, RingView},
};

/// The present configuration, then each change, until the ring's thread ends or the reader lags.
pub(super) fn configurations(ring: &RingHandle) -> ResponseStream<WatchConfigurationsResponse> {
    let (view, mut events) = ring.configurations();
    let stopped = stopped(ring.view());
    let (sender, receiver) = mpsc::channel(RESPONSES_MAX);
    tokio::spawn(async move {
        let mut next = Ok(present(&view));
        let mut stopped = std::pin::pin!(stopped);
        loop {
            let ended = next.is_err();
            if sender.send(next).await.is_err() || ended {
                return;
            }
            let received = tokio::select! {
                received = events.recv() => received,
                () = &mut stopped => Err(RecvError::Closed),
                () = sender.closed() => return,
            };
            next = match received {
                Ok(event) => Ok(response(event)),
                Err(RecvError::Lagged(missed)) => {
                    Err(Error::SlowReader(missed.try_into().unwrap_or(usize::MAX)).into())
                }
                Err(RecvError::Closed) => Err(Status::from(Error::Stopped)),
            };
        }
    });
    ReceiverStream::new(receiver)
}

/// Ends with the ring's thread.
async fn stopped(mut view: watch::Receiver<RingView>) {
    while view.changed().await.is_ok() {}
}

fn present(view: &RingView) -> WatchConfigurationsResponse {
    let kind = match (view.up, view.synchronised) {
        (false, _) => Kind::Down,
        (true, false) => Kind::Regular,
        (true, true) => Kind::Synchronised,
    };
    WatchConfigurationsResponse {
        kind: kind.into(),
        ring: Some(view.ring.into()),
        members: ids(&view.members),
        ..WatchConfigurationsResponse::default()
    }
}

fn response(event: ConfigurationEvent) -> WatchConfigurationsResponse {
    let empty = WatchConfigurationsResponse::default();
    match event {
        ConfigurationEvent::Transitional { ring, members, left } => WatchConfigurationsResponse {
            kind: Kind::Transitional.into(),
            ring: Some(ring.into()),
            members: ids(&members),
            left: ids(&left),
            ..empty
        },
        ConfigurationEvent::Regular { ring, members, joined } => WatchConfigurationsResponse {
            kind: Kind::Regular.into(),
            ring: Some(ring.into()),
            members: ids(&members),
            joined: ids(&joined),
            ..empty
        },
        ConfigurationEvent::Synchronised { ring, members } => WatchConfigurationsResponse {
            kind: Kind::Synchronised.into(),
            ring: Some(ring.into()),
            members: ids(&members),
            ..empty
        },
        ConfigurationEvent::Down => WatchConfigurationsResponse { kind: Kind::Down.into(), ..empty },
    }
}
