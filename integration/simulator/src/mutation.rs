//! Deliberate bugs in the glue, to prove that the checkers would catch them in a core.
//!
//! A checker that never fails proves nothing. Each mutation breaks one promise at the place where a core
//! meets the world; `tests/mutations.rs` runs seeds with each and expects the matching
//! checker to speak up. They are ordinary values, so the very code that passes the seeds is tested.

/// One deliberate bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub enum Mutation {
    /// Now and then one node does not pass on a message that it delivered.
    DropDelivery,
    /// Now and then one node passes on two messages in the wrong order.
    SwapDeliveries,
    /// Now and then one node passes on a message twice.
    DuplicateDelivery,
    /// Now and then one node passes on a message with one bit flipped.
    CorruptDelivery,
    /// Now and then one node passes on a message as if it had an earlier place.
    MisplaceDelivery,
    /// Now and then one node passes on a message only after the next ring is installed.
    DeliverAfterChange,
    /// Now and then a message that was accepted is never sent.
    LoseOwn,
    /// Rings are reported without the node itself.
    LeaveSelfOut,
    /// The transitional configuration is reported with those who left.
    LeftCameAlong,
    /// Now and then the token says that all have everything.
    RaiseAru,
    /// Now and then the token goes back by a message.
    LowerTokenSeq,
    /// Now and then a second token leaves after the first.
    ForkToken,
    /// Every token is received as if all had everything.
    ReleaseEarly,
    /// The representative takes the commit token for returned as soon as it has sent it.
    SkipCommitRound,
    /// Every other join names nobody as failed.
    ForgetFailed,
    /// Joins are not received.
    IgnoreJoins,
    /// Safe delivery is no more than agreed delivery.
    SafeIsAgreed,
    /// membershipd always finds an empty ring-sequence file.
    ReuseRingSeq,
    /// The ring sequence is reported as stored before it is.
    RingSeqBeforeDurable,
    /// A node takes its own feature level for that of the ring.
    LevelOfOneself,
    /// quorumd says that every ring is quorate.
    IgnoreQuorum,
    /// The store's writes are reported as stored before they are.
    StoreBeforeDurable,
    /// The store's writes never reach the disk, but are reported as stored.
    SkipStore,
    /// Of the last batch that survives a crash only the first half does.
    TearBatch,
    /// What the store's batches remove stays on the disk.
    KeepRemoved,
    /// Now and then one replica misses a message of its group.
    DropStoreMessage,
    /// configd answers a write as soon as it has handed it over.
    AcknowledgeAtOnce,
    /// configd answers a linearizable read with what it has, without asking the group.
    ReadAtOnce,
    /// configd sends only the first operation of a transaction.
    TearTransaction,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Self; 29] = [
        Self::DropDelivery,
        Self::SwapDeliveries,
        Self::DuplicateDelivery,
        Self::CorruptDelivery,
        Self::MisplaceDelivery,
        Self::DeliverAfterChange,
        Self::LoseOwn,
        Self::LeaveSelfOut,
        Self::LeftCameAlong,
        Self::RaiseAru,
        Self::LowerTokenSeq,
        Self::ForkToken,
        Self::ReleaseEarly,
        Self::SkipCommitRound,
        Self::ForgetFailed,
        Self::IgnoreJoins,
        Self::SafeIsAgreed,
        Self::ReuseRingSeq,
        Self::RingSeqBeforeDurable,
        Self::LevelOfOneself,
        Self::IgnoreQuorum,
        Self::StoreBeforeDurable,
        Self::SkipStore,
        Self::TearBatch,
        Self::KeepRemoved,
        Self::DropStoreMessage,
        Self::AcknowledgeAtOnce,
        Self::ReadAtOnce,
        Self::TearTransaction,
    ];
}
