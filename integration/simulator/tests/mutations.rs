//! The checkers catch bugs: each deliberate one is found within a few seeds, by the right checker.

use simulator::{
    mutation::Mutation,
    simulation::{Options, run_caught},
};

/// Seeds that are tried with a mutation. Most are caught by one of the first; that safe delivery is missing shows only
/// when the network splits within a token rotation.
const SEEDS: u64 = 200;

/// The checker that caught the mutation.
fn caught_by(mutation: Mutation) -> &'static str {
    for seed in 1..=SEEDS {
        let report = run_caught(Options { mutation: Some(mutation), ..Options::of(seed) });
        if let Some((_, violation)) = report.violation {
            return violation.checker;
        }
    }
    panic!("{SEEDS} seeds passed with {mutation:?}");
}

#[test]
fn a_delivery_that_is_dropped_breaks_virtual_synchrony() {
    assert_eq!(caught_by(Mutation::DropDelivery), "virtual synchrony");
}

#[test]
fn two_deliveries_that_are_swapped_break_the_order() {
    assert_eq!(caught_by(Mutation::SwapDeliveries), "order");
}

#[test]
fn a_delivery_that_comes_twice_breaks_the_order() {
    assert_eq!(caught_by(Mutation::DuplicateDelivery), "order");
}

#[test]
fn a_delivery_with_a_flipped_bit_was_never_sent() {
    assert_eq!(caught_by(Mutation::CorruptDelivery), "order");
}

#[test]
fn agreed_delivery_is_not_safe_delivery() {
    assert_eq!(caught_by(Mutation::SafeIsAgreed), "safe delivery");
}

#[test]
fn a_ring_sequence_that_is_forgotten_leads_to_a_ring_id_used_twice() {
    assert_eq!(caught_by(Mutation::ReuseRingSeq), "membership");
}

#[test]
fn a_ring_sequence_that_is_used_before_it_is_durable_is_noticed() {
    assert_eq!(caught_by(Mutation::RingSeqBeforeDurable), "membership");
}

#[test]
fn a_node_that_takes_its_own_feature_level_for_that_of_the_ring_is_noticed() {
    assert_eq!(caught_by(Mutation::LevelOfOneself), "features");
}

#[test]
fn a_minority_that_acts_is_noticed() {
    assert_eq!(caught_by(Mutation::IgnoreQuorum), "quorum");
}

#[test]
fn an_acknowledgement_that_counts_unsynced_disks_is_noticed() {
    // Either the store's checker sees it, or a replica does when it loads what a crash left of its disk.
    assert!(["store", "progress"].contains(&caught_by(Mutation::StoreBeforeDurable)));
}

#[test]
fn writes_that_never_reach_the_disk_are_noticed() {
    assert_eq!(caught_by(Mutation::SkipStore), "store");
}

#[test]
fn a_replica_that_misses_a_message_is_noticed() {
    assert_eq!(caught_by(Mutation::DropStoreMessage), "store");
}

#[test]
fn an_acknowledgement_at_once_is_noticed() {
    assert_eq!(caught_by(Mutation::AcknowledgeAtOnce), "store");
}
