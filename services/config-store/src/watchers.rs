//! Who watches the tree: each gets what it missed, then every burst of changes below its prefix.

use config_store_core::{Change, ConfigPath, Replica};
use tokio::sync::mpsc::{self, error::TrySendError};

use crate::{
    convert,
    error::Error,
    handle::{BURSTS_MAX, Burst, Watch},
};

#[derive(Debug)]
struct Watcher {
    prefix: ConfigPath,
    bursts: mpsc::Sender<Result<Burst, Error>>,
}

/// All watchers.
#[derive(Debug, Default)]
pub(crate) struct Watchers(Vec<Watcher>);

impl Watchers {
    /// Adds a watcher and collects what happened since `after`.
    pub(crate) fn add(
        &mut self,
        replica: &Replica,
        prefix: ConfigPath,
        after: Option<u64>,
    ) -> Result<Watch, Error> {
        let version = replica.committed();
        let missed = match after {
            Some(after) => replica
                .changes_since(after)
                .map_err(|compacted| Error::Compacted { oldest: compacted.oldest })?,
            None => Vec::new(),
        };
        let backlog = burst(&missed, &prefix, replica, version);
        // One place is kept for the error that ends the stream of a slow reader.
        let (sender, bursts) = mpsc::channel(BURSTS_MAX + 1);
        self.0.push(Watcher { prefix, bursts: sender });
        Ok(Watch { backlog, bursts })
    }

    /// Tells everybody what changed.
    pub(crate) fn tell(&mut self, changes: &[Change], replica: &Replica) {
        let Some(version) = changes.last().map(|change| change.version) else { return };
        self.0.retain(|watcher| watcher.send(burst(changes, &watcher.prefix, replica, version)));
    }

    /// Tells everybody to read again.
    pub(crate) fn reset(&mut self, version: u64) {
        self.0.retain(|watcher| watcher.send(Burst { changes: vec![convert::reloaded(version)], version }));
    }
}

impl Watcher {
    /// False if the watcher is gone or too slow.
    fn send(&self, burst: Burst) -> bool {
        if burst.changes.is_empty() {
            return !self.bursts.is_closed();
        }
        if self.bursts.capacity() <= 1 {
            let _ = self.bursts.try_send(Err(Error::SlowReader));
            return false;
        }
        !matches!(self.bursts.try_send(Ok(burst)), Err(TrySendError::Closed(_)))
    }
}

fn burst(changes: &[Change], prefix: &ConfigPath, replica: &Replica, version: u64) -> Burst {
    let wanted = changes.iter().filter(|change| convert::concerns(change, prefix));
    Burst { changes: wanted.map(|change| convert::change(change, replica.tree())).collect(), version }
}
