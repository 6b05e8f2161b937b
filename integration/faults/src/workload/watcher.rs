//! A watcher of the whole tree through one node. A stream that ends is resumed where it ended.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use playground::Node;
use quorate_daemon::client::{DaemonChannel, daemon_channel};
use quorate_proto::config::v1::{
    Change as Told, WatchRequest, WatchResponse, change::Kind, config_service_client::ConfigServiceClient,
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::record::{Change, Event, Recorder, Watched};

/// Before a stream is opened again.
const AGAIN: Duration = Duration::from_millis(200);

/// Watches until it is told to stop.
pub(super) async fn work(node: Node, recorder: Recorder, told: Arc<AtomicU64>, stop: CancellationToken) {
    let mut watcher = Watcher {
        service: ConfigServiceClient::new(daemon_channel(node.root(), "configd")),
        node: node.name().to_owned(),
        session: recorder.number(),
        after: None,
        recorder,
        told,
    };
    let watch = async {
        loop {
            if let Err(status) = watcher.follow().await
                && status.code() == Code::OutOfRange
            {
                // What was missed is no longer kept: a new session.
                watcher.session = watcher.recorder.number();
                watcher.after = None;
            }
            tokio::time::sleep(AGAIN).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = watch => {}
    }
}

struct Watcher {
    service: ConfigServiceClient<DaemonChannel>,
    node: String,
    session: u64,
    after: Option<u64>,
    recorder: Recorder,
    told: Arc<AtomicU64>,
}

impl Watcher {
    /// Follows one stream to its end.
    async fn follow(&mut self) -> Result<(), Status> {
        let request = WatchRequest { prefix: String::new(), after_version: self.after };
        let mut stream = self.service.watch(request).await?.into_inner();
        while let Some(WatchResponse { changes, version }) = stream.message().await? {
            // A sign of life before anything was told says nothing.
            if changes.is_empty() && version == 0 {
                continue;
            }
            let changes = changes.into_iter().map(change).collect();
            let at = self.recorder.now();
            let (node, session) = (self.node.clone(), self.session);
            self.recorder.record(&Event::Watched(Watched { node, session, at, version, changes }));
            self.after = Some(version);
            self.told.store(version, Ordering::Relaxed);
        }
        Ok(())
    }
}

fn change(told: Told) -> Change {
    let kind = match told.kind() {
        Kind::Put => "put",
        Kind::Deleted => "deleted",
        Kind::Renamed => "renamed",
        Kind::Reloaded => "reloaded",
        Kind::Unspecified => "unspecified",
    };
    let path = told.entry.map(|entry| entry.path).unwrap_or_default();
    Change { version: told.version, kind: kind.to_owned(), path }
}
