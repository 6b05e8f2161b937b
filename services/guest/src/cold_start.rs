//! After a boot: guests with `onboot: 1` start, as soon as this node may act, in the order of their `startup`.
//!
//! A mark in `run/`, which a boot empties, says that it was done: a restart of guestd starts nothing that somebody has
//! stopped.

use std::{sync::Arc, time::Duration};

use guest_core::{
    Vmid,
    startup::{self, Startup},
};
use tokio_util::sync::CancellationToken;

use crate::{error::Error, guests::Guests, life_cycle::Start, tree::ERROR};

/// How often the tree is asked whether it can be written.
const AGAIN: Duration = Duration::from_millis(300);

/// Runs until shutdown.
pub(crate) async fn run(guests: Arc<Guests>, shutdown: CancellationToken) {
    let mark = guests.run_dir().join("started");
    if !mark.exists() {
        let work = async {
            start_all(&guests).await;
            let marked = std::fs::create_dir_all(guests.run_dir()).and_then(|()| std::fs::write(&mark, ""));
            if let Err(error) = marked {
                tracing::warn!(%error, path = %mark.display(), "a restart of guestd will start guests again");
            }
        };
        if shutdown.run_until_cancelled(work).await.is_none() {
            return;
        }
    }
    shutdown.cancelled().await;
}

async fn start_all(guests: &Arc<Guests>) {
    let mut waits = false;
    while !guests.tree.is_writable().await {
        if !std::mem::replace(&mut waits, true) {
            tracing::info!("no guest is started before this node has quorum");
        }
        tokio::time::sleep(AGAIN).await;
    }
    let chosen = loop {
        match chosen(guests).await {
            Ok(chosen) => break chosen,
            Err(error) => tracing::warn!(%error, "the configurations cannot be read yet"),
        }
        tokio::time::sleep(AGAIN).await;
    };
    tracing::info!(guests = chosen.len(), "quorate: starting guests with onboot");
    for step in startup::plan(chosen) {
        match guests.start(step.vmid, Start::default()).await {
            Ok(()) => tokio::time::sleep(step.then_wait).await,
            Err(Error::Running(_)) => {}
            Err(error) => {
                let error = quorate_daemon::telemetry::chain(&error);
                tracing::error!(vmid = step.vmid.get(), error, "not started after the boot");
                guests
                    .tree
                    .log(ERROR, format!("guest {} was not started after the boot: {error}", step.vmid))
                    .await;
            }
        }
    }
}

/// The guests of this node that are to start.
async fn chosen(guests: &Guests) -> Result<Vec<(Vmid, Startup)>, Error> {
    let names = guests.tree.names(&format!("nodes/{}/qemu-server", guests.node)).await?;
    let mut chosen = Vec::new();
    for vmid in names.iter().filter_map(|name| Vmid::of_file(name)) {
        let config = match guests.read(vmid).await {
            Ok(read) => read.config,
            Err(Error::Tree(status)) => return Err(Error::Tree(status)),
            Err(error) => {
                tracing::error!(vmid = vmid.get(), %error, "not started after the boot");
                continue;
            }
        };
        if config.flag("onboot") && !config.flag("template") {
            // Who wrote it was told about mistakes; a bad order is no reason to stay off.
            chosen
                .push((vmid, Startup::parse(config.get("startup").unwrap_or_default()).unwrap_or_default()));
        }
    }
    Ok(chosen)
}
