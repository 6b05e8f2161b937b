//! corosync.conf is read again when a member of the ring asks all nodes to: `corosync-cfgtool -R` on any of them.
//!
//! As in corosync, each node reads its own file. What cannot change while the ring runs is refused as a whole; a file
//! with mistakes, one that is gone, or one without this node leaves the ring as it is.
//!
//! Source: corosync-cfgtool(8); corosync `cfg.c`, `message_handler_req_exec_cfg_reload_config`.

use tokio_util::sync::CancellationToken;

use crate::{config::ConfigSource, error::Error, handle::RingHandle};

/// Reads and applies corosync.conf each time a member asks for it, until the daemon stops.
///
/// # Errors
/// [`Error::Stopped`] if the ring's thread has ended.
pub(crate) async fn follow(
    ring: RingHandle,
    source: ConfigSource,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            () = ring.reload_wanted() => {}
        }
        match reload(&ring, &source).await {
            Err(Error::Stopped) if shutdown.is_cancelled() => return Ok(()),
            Err(Error::Stopped) => return Err(Error::Stopped),
            Err(error) => {
                let why = quorate_daemon::telemetry::chain(&error);
                tracing::error!(error = why, "corosync.conf is not applied");
            }
            Ok(()) => {}
        }
    }
}

async fn reload(ring: &RingHandle, source: &ConfigSource) -> Result<(), Error> {
    let source = source.clone();
    // Names are resolved, which may take a while.
    let loaded = tokio::task::spawn_blocking(move || source.load()).await.map_err(|_| Error::Stopped)?;
    let loaded = loaded
        .map_err(|source| Error::Config { state: "the ring goes on with the settings it has", source })?;
    let Some(config) = loaded else {
        tracing::warn!("there is no corosync.conf; the ring goes on with the settings it has");
        return Ok(());
    };
    if !ring.configure_in_place(config).await? {
        tracing::warn!(
            "corosync.conf changes the node id, cluster name, transport or address of this node, which needs a restart; \
             the ring goes on with the settings it has"
        );
    }
    Ok(())
}
