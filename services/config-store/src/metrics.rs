//! The replica's numbers for Prometheus.

use std::{sync::atomic::AtomicU64, time::Duration};

use config_store_core::{Replica, State};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Unit,
};
use quorate_daemon::Metrics;

/// Upper bounds of the time that a synced batch takes, in seconds: from a fast disk to a failing one.
const BATCH_SECONDS: [f64; 12] =
    [0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    operation: &'static str,
    applied: &'static str,
}

/// What configd measures.
#[derive(Debug, Clone)]
pub(crate) struct StoreMetrics {
    writable: Gauge,
    version: Gauge<u64, AtomicU64>,
    entries: Gauge<u64, AtomicU64>,
    content_bytes: Gauge<u64, AtomicU64>,
    pending: Gauge<u64, AtomicU64>,
    divergences: Gauge<u64, AtomicU64>,
    conflicts: Gauge<u64, AtomicU64>,
    operations: Family<OperationLabels, Counter>,
    batch: Histogram,
}

impl StoreMetrics {
    pub(crate) fn register(metrics: &Metrics) -> Self {
        let new = Self {
            writable: Gauge::default(),
            version: Gauge::default(),
            entries: Gauge::default(),
            content_bytes: Gauge::default(),
            pending: Gauge::default(),
            divergences: Gauge::default(),
            conflicts: Gauge::default(),
            operations: Family::default(),
            batch: Histogram::new(BATCH_SECONDS),
        };
        metrics.register(|registry| {
            registry.register("store_writable", "1 while the tree may be written; 0 means no quorum, a synchronisation, or a failed disk", new.writable.clone());
            registry.register("store_version", "Version of the tree; differs between members only while one of them catches up", new.version.clone());
            registry.register("store_entries", "Files and directories in the tree", new.entries.clone());
            registry.register_with_unit("store_content", "Content of all files; writes are refused at 128 MiB", Unit::Bytes, new.content_bytes.clone());
            registry.register("store_requests_pending", "Writes that wait for their acknowledgement; a lasting high value means slow disks or no progress", new.pending.clone());
            registry.register("store_divergences_seen", "Times a replica differed at the same version; anything but 0 is a bug or a broken disk", new.divergences.clone());
            registry.register("store_conflicts_kept", "Times that writes of a minority were put aside as a conflict copy", new.conflicts.clone());
            registry.register("store_operations", "Operations by kind and whether they were applied", new.operations.clone());
            registry.register_with_unit("store_batch_duration", "From handing a batch to the disk until it is synced; high values mean a slow disk", Unit::Seconds, new.batch.clone());
        });
        new
    }

    pub(crate) fn operation(&self, operation: &'static str, applied: bool) {
        let applied = if applied { "yes" } else { "no" };
        self.operations.get_or_create(&OperationLabels { operation, applied }).inc();
    }

    pub(crate) fn batch_written(&self, took: Duration) {
        self.batch.observe(took.as_secs_f64());
    }

    pub(crate) fn publish(&self, replica: &Replica) {
        self.writable.set(i64::from(matches!(replica.state(), State::Local | State::Synced)));
        self.version.set(replica.tree().version());
        self.entries.set(replica.tree().entry_count() as u64);
        self.content_bytes.set(replica.tree().byte_count() as u64);
        self.pending.set(replica.pending_requests() as u64);
        self.divergences.set(replica.stats().divergences);
        self.conflicts.set(replica.stats().conflicts_kept);
    }
}
