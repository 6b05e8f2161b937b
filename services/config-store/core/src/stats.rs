//! Counters of a replica; the driver copies them to its metrics.

/// Counts since the replica was loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Operations performed.
    pub operations_performed: u64,
    /// Operations refused.
    pub operations_refused: u64,
    /// Operations recognised as repetitions.
    pub operations_repeated: u64,
    /// Operations dropped because they were meant for another epoch; their originators send them again.
    pub operations_of_other_epochs: u64,
    /// Barriers passed.
    pub barriers: u64,
    /// Messages that could not be read.
    pub messages_malformed: u64,
    /// Messages of nodes that are not in the group.
    pub messages_of_strangers: u64,
    /// Messages of other rounds or in other phases than they are meant for.
    pub messages_out_of_place: u64,
    /// Rounds of synchronisation that began.
    pub rounds_started: u64,
    /// Rounds that ended with a new epoch.
    pub epochs_begun: u64,
    /// Times that the group went on without this replica.
    pub times_left_out: u64,
    /// Bytes of transfers sent.
    pub transfer_bytes_sent: u64,
    /// Bytes of transfers received.
    pub transfer_bytes_received: u64,
    /// States taken over as what changed since the own version.
    pub deltas_adopted: u64,
    /// States taken over by comparing indexes.
    pub indexes_adopted: u64,
    /// Conflict copies kept.
    pub conflicts_kept: u64,
    /// Trees of equal history that were not the same.
    pub divergences: u64,
    /// Batches handed to the store.
    pub batches: u64,
    /// Bytes of keys and values in them.
    pub batch_bytes: u64,
}
