//! The checkers catch bugs: each deliberate one is found within a few seeds, by the right checker, for the right
//! reason. A property is proven to be checked when a mutation breaks it and its number is what is reported.

use simulator::{
    mutation::Mutation,
    simulation::{Options, run_caught},
};

/// Seeds that are tried with a mutation. Most are caught by one of the first; that safe delivery is missing shows only
/// when the network splits within a token rotation.
const SEEDS: u64 = 200;

/// Fails unless one of the seeds reports every one of these properties, each of this checker.
#[track_caller]
fn is_caught(mutation: Mutation, checker: &str, properties: &[&str]) {
    let mut missing = properties.to_vec();
    let mut seen = Vec::new();
    for seed in 1..=SEEDS {
        let report = run_caught(Options { mutation: Some(mutation), ..Options::of(seed) });
        let Some((_, violation)) = report.violation else { continue };
        missing.retain(|wanted| (violation.checker, violation.property) != (checker, *wanted));
        if missing.is_empty() {
            return;
        }
        seen.push(format!("seed {seed}: {violation}"));
    }
    panic!("{mutation:?} never broke {missing:?}, but:\n{}", seen.join("\n"));
}

/// P4, P5, P6.3.
#[test]
fn a_delivery_that_is_dropped_breaks_virtual_synchrony() {
    let broken = ["P4 those who move together delivered the same", "P6.3 no holes, P5 causes first"];
    is_caught(Mutation::DropDelivery, "virtual synchrony", &broken);
}

/// P6.1; P5 for the messages of one sender.
#[test]
fn two_deliveries_that_are_swapped_break_the_order() {
    let broken = ["P1.3 no duplication, P5 order of one sender", "P6.1 one global order"];
    is_caught(Mutation::SwapDeliveries, "order", &broken);
}

/// P1.3.
#[test]
fn a_delivery_that_comes_twice_breaks_the_order() {
    is_caught(Mutation::DuplicateDelivery, "order", &["P1.3 no duplication, P5 order of one sender"]);
}

/// P1.2.
#[test]
fn a_delivery_with_a_flipped_bit_was_never_sent() {
    is_caught(Mutation::CorruptDelivery, "order", &["P1.2 no creation"]);
}

/// P1.1, P5 across senders, P6.2.
#[test]
fn a_delivery_with_an_earlier_place_is_elsewhere_at_others_or_before_its_cause() {
    let broken = ["P5 causal order", "P6.2 same message, same place"];
    is_caught(Mutation::MisplaceDelivery, "order", &broken);
}

/// P2.2, and of P8 that what was recovered comes before the new ring.
#[test]
fn a_message_that_comes_after_the_end_of_its_configuration_is_noticed() {
    is_caught(Mutation::DeliverAfterChange, "order", &["P2.2 a message belongs to its configuration"]);
}

/// P2.1.
#[test]
fn a_ring_without_oneself_is_noticed() {
    is_caught(Mutation::LeaveSelfOut, "membership", &["P2.1 self-inclusion"]);
}

/// P2.5.
#[test]
fn a_transitional_configuration_with_those_who_left_is_noticed() {
    is_caught(Mutation::LeftCameAlong, "membership", &["P2.5 transitional within the new ring"]);
}

/// P2.4.
#[test]
fn a_ring_sequence_that_is_forgotten_leads_to_a_ring_id_used_twice() {
    is_caught(Mutation::ReuseRingSeq, "membership", &["P2.4 ring ids grow at each node"]);
}

/// P2.4.
#[test]
fn a_ring_sequence_that_is_used_before_it_is_durable_is_noticed() {
    is_caught(Mutation::RingSeqBeforeDurable, "membership", &["P2.4 a ring id is durable before it is used"]);
}

/// P3.
#[test]
fn a_message_that_never_comes_back_to_its_sender_is_noticed() {
    is_caught(Mutation::LoseOwn, "self delivery", &["P3 self delivery"]);
}

/// P7.1, P7.2.
#[test]
fn agreed_delivery_is_not_safe_delivery() {
    is_caught(Mutation::SafeIsAgreed, "safe delivery", &["P7.1 safe means all"]);
}

/// P8.
#[test]
fn an_aru_above_what_its_sender_has_is_noticed() {
    is_caught(Mutation::RaiseAru, "token", &["P8 no aru above what its sender has"]);
}

/// P8.
#[test]
fn a_token_that_goes_back_is_noticed() {
    is_caught(Mutation::LowerTokenSeq, "token", &["P8 the token never goes back"]);
}

/// P8.
#[test]
fn a_second_token_is_noticed() {
    is_caught(Mutation::ForkToken, "token", &["P8 one token alive per ring"]);
}

/// P8.
#[test]
fn a_message_forgotten_before_two_tokens_said_that_all_have_it_is_noticed() {
    is_caught(Mutation::ReleaseEarly, "token", &["P8 forgotten after two tokens"]);
}

/// P8.
#[test]
fn a_first_token_before_the_second_round_of_the_commit_token_is_noticed() {
    is_caught(Mutation::SkipCommitRound, "token", &["P8 the commit token goes round twice"]);
}

/// P9.
#[test]
fn a_failed_set_that_shrinks_while_nodes_gather_is_noticed() {
    is_caught(Mutation::ForgetFailed, "gather", &["P9 the failed set only grows"]);
}

/// P9, P2.3.
#[test]
fn nodes_that_never_come_together_are_noticed() {
    is_caught(Mutation::IgnoreJoins, "liveness", &["P9 one ring, quorate and in sync within the bound"]);
}

#[test]
fn a_node_that_takes_its_own_feature_level_for_that_of_the_ring_is_noticed() {
    is_caught(Mutation::LevelOfOneself, "features", &["a ring has the lowest level of its members"]);
}

/// P10.
#[test]
fn a_minority_that_acts_is_noticed() {
    let broken =
        ["P10 quorate means more than half", "P10 two quorate rings share a member", "P10 wait_for_all"];
    is_caught(Mutation::IgnoreQuorum, "quorum", &broken);
}

/// P11: either the store's checker sees it, or a replica does when it loads what a crash left of its disk.
#[test]
fn an_acknowledgement_that_counts_unsynced_disks_is_noticed() {
    is_caught(Mutation::StoreBeforeDurable, "store", &["acknowledged means on the disks of a majority"]);
}

/// P11.
#[test]
fn writes_that_never_reach_the_disk_are_noticed() {
    is_caught(Mutation::SkipStore, "store", &["acknowledged means on the disks of a majority"]);
}

/// P11: the loader compares the checksum.
#[test]
fn a_batch_that_is_torn_by_a_crash_is_noticed_when_it_is_loaded() {
    is_caught(Mutation::TearBatch, "progress", &["a daemon starts"]);
}

/// P11: a file that comes back to life after a restart.
#[test]
fn a_removal_that_never_reached_the_disk_is_noticed_when_it_is_loaded() {
    is_caught(Mutation::KeepRemoved, "progress", &["a daemon starts"]);
}

/// P11.
#[test]
fn a_linearizable_read_that_asks_nobody_is_noticed() {
    is_caught(Mutation::ReadAtOnce, "store", &["a linearizable read is not stale"]);
}

/// P11.
#[test]
fn a_replica_that_misses_a_message_is_noticed() {
    is_caught(Mutation::DropStoreMessage, "store", &["P11 one epoch and version, one checksum"]);
}

/// P11.
#[test]
fn an_acknowledgement_at_once_is_noticed() {
    is_caught(Mutation::AcknowledgeAtOnce, "store", &["acknowledged means on the disks of a majority"]);
}

/// P11.
#[test]
fn a_transaction_that_happens_in_part_is_noticed() {
    is_caught(Mutation::TearTransaction, "store", &["P11 a transaction happens as a whole or not at all"]);
}
