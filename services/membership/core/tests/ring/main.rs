//! Whole rings: formation, order, recovery, partitions, crashes, in virtual time.

#![allow(clippy::unwrap_used)]

mod checks;
mod network;
mod random;

use std::time::Duration;

use bytes::Bytes;
use membership_core::srp::{Input, Params, StateName};

use network::{Event, Faults, Network, id};

const SECOND: Duration = Duration::from_secs(1);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn settled(count: u32, seed: u64) -> Network {
    let mut network = Network::new(count, seed, Params::default());
    network.start_all();
    network.settle(2 * SECOND);
    network
}

fn text(node: u32, n: u32) -> Bytes {
    Bytes::from(format!("{node}/{n}"))
}

#[test]
fn one_node_forms_a_ring_at_once_and_idles_at_one_rotation_per_hold() {
    let mut network = Network::new(1, 1, Params::default());

    network.start_all();
    network.settle(ms(10));
    network.run(SECOND);
    let before = network.nodes[&id(1)].ring.stats().token_visits;
    network.run(10 * SECOND);

    let visits = network.nodes[&id(1)].ring.stats().token_visits - before;
    assert!((16..=19).contains(&visits), "{visits} visits in 10 s at a hold of 561 ms");
}

#[test]
fn one_node_orders_its_own_messages_at_once() {
    let mut network = settled(1, 1);
    network.run(5 * SECOND);

    for n in 0..100 {
        network.multicast(id(1), text(1, n));
    }
    network.run(ms(1));

    assert_eq!(network.delivered(id(1)).len(), 100);
}

#[test]
fn nodes_started_together_form_one_ring_within_a_second() {
    for count in 2..=5 {
        let network = settled(count, u64::from(count));

        checks::check(&network);
        assert!(network.now - network.start < SECOND, "{count} nodes: {:?}", network.now - network.start);
    }
}

#[test]
fn late_node_joins_a_running_ring_by_merge() {
    let mut network = Network::new(3, 7, Params::default());
    network.start_node(id(1));
    network.start_node(id(2));
    network.settle(SECOND);
    network.run(5 * SECOND);

    network.start_node(id(3));
    network.settle(SECOND);

    checks::check(&network);
}

#[test]
fn all_members_deliver_all_messages_in_one_order() {
    let mut network = settled(4, 11);

    for n in 0..200 {
        for node in 1..=4 {
            network.multicast(id(node), text(node, n));
        }
    }
    network.run(SECOND);

    let order = network.delivered(id(1));
    assert_eq!(order.len(), 800);
    for node in 2..=4 {
        assert_eq!(network.delivered(id(node)), order);
    }
    checks::check(&network);
}

#[test]
fn message_on_an_idle_ring_takes_about_one_rotation() {
    let mut network = settled(3, 3);
    network.run(10 * SECOND);
    assert!(network.nodes[&id(1)].ring.status().token_held);

    for node in 1..=3 {
        let sent = network.now;
        network.multicast(id(node), text(node, 0));
        let all = |network: &Network| (1..=3).all(|n| network.delivered(id(n)).contains(&text(node, 0)));
        network.run_until(SECOND, "all deliver", all);

        assert!(network.now - sent < ms(1), "from {node} after {:?}", network.now - sent);
        network.run(5 * SECOND);
    }
}

#[test]
fn idle_ring_makes_one_rotation_per_hold_interval() {
    let mut network = settled(3, 3);
    network.run(5 * SECOND);
    let before = network.packets[&0];

    network.run(10 * SECOND);

    let tokens = network.packets[&0] - before;
    assert!((3 * 16..=3 * 19).contains(&tokens), "{tokens} tokens in 10 s");
}

#[test]
fn everything_delivered_becomes_safe_after_two_more_rotations() {
    let mut network = settled(3, 5);

    for n in 0..50 {
        network.multicast(id(2), text(2, n));
    }
    network.run(SECOND);

    for node in network.ids() {
        let status = network.nodes[&node].ring.status();
        assert_eq!(network.nodes[&node].log.last(), Some(&Event::Safe(status.ring, status.high_delivered)));
    }
    checks::check(&network);
}

#[test]
fn leave_reforms_the_ring_without_a_timeout() {
    let mut network = settled(3, 9);
    network.run(5 * SECOND);

    let at = network.now;
    network.leave(id(3));
    network.settle(SECOND);

    assert!(network.now - at < ms(120), "{:?}", network.now - at);
    checks::check(&network);
}

#[test]
fn crash_reforms_the_ring_after_token_and_consensus_timeout() {
    for victim in 1..=3 {
        let mut network = settled(3, 13);
        network.run(5 * SECOND);

        let at = network.now;
        network.crash(id(victim));
        network.settle(8 * SECOND);

        let params = Params::default();
        let bound = params.token + params.consensus + ms(300);
        assert!(network.now - at < bound, "{:?}", network.now - at);
        checks::check(&network);
    }
}

#[test]
fn restarted_node_is_noticed_before_the_token_timeout() {
    for node in 1..=3 {
        let mut network = settled(3, 17);
        network.run(5 * SECOND);

        network.crash(id(node));
        network.start_node(id(node));
        network.settle(8 * SECOND);

        checks::check(&network);
    }
}

#[test]
fn single_lost_token_is_retransmitted() {
    let mut network = settled(3, 19);
    let ring = network.nodes[&id(1)].ring.status().ring;

    network.drop_next = Some((0, 1));
    network.run(10 * SECOND);

    assert!(network.is_settled());
    assert_eq!(network.nodes[&id(1)].ring.status().ring, ring);
}

#[test]
fn lost_tokens_beyond_the_timeout_form_a_new_ring_of_all() {
    let mut network = settled(3, 19);
    let ring = network.nodes[&id(1)].ring.status().ring;

    network.drop_next = Some((0, 20));
    network.run(5 * SECOND);
    network.settle(10 * SECOND);

    assert!(network.nodes[&id(1)].ring.status().ring > ring);
    checks::check(&network);
}

#[test]
fn lost_commit_tokens_are_retransmitted() {
    for lost in 1..=5 {
        let mut network = Network::new(3, 23 + u64::from(lost), Params::default());
        network.drop_next = Some((4, lost));

        network.start_all();
        network.settle(30 * SECOND);

        checks::check(&network);
    }
}

#[test]
fn partitions_go_on_alone_and_merge_when_healed() {
    let mut network = settled(5, 29);
    for n in 0..20 {
        network.multicast(id(n % 5 + 1), text(n % 5 + 1, n));
    }

    network.partition(&[&[1, 4], &[2, 3, 5]]);
    network.settle(20 * SECOND);
    for node in 1..=5 {
        network.multicast(id(node), text(node, 1000));
    }
    network.run(SECOND);
    network.heal();
    network.settle(20 * SECOND);

    assert!(!network.delivered(id(1)).contains(&text(2, 1000)));
    assert!(network.delivered(id(3)).contains(&text(2, 1000)));
    checks::check(&network);
}

#[test]
fn quarter_of_all_packets_lost_still_gives_everything_to_everybody() {
    let params = Params { token_retransmit: ms(30), ..Params::default() };
    let mut network = Network::new(3, 31, params);
    network.start_all();
    network.settle(5 * SECOND);

    network.faults.loss = 25;
    for n in 0..300 {
        for node in 1..=3 {
            network.multicast(id(node), text(node, n));
        }
        network.run(ms(5));
    }
    network.run(60 * SECOND);
    network.faults.loss = 0;
    network.settle(30 * SECOND);
    network.run(5 * SECOND);

    for node in 1..=3 {
        let delivered = network.delivered(id(node));
        let own: Vec<_> = (0..300).map(|n| text(node, n)).collect();
        let seen: Vec<_> =
            delivered.iter().filter(|p| p.starts_with(format!("{node}/").as_bytes())).cloned().collect();
        assert_eq!(seen, own, "node {node} delivers its own in order");
    }
    checks::check(&network);
}

#[test]
fn paused_node_is_excluded_and_comes_back_without_harm() {
    let mut network = settled(3, 37);
    network.run(5 * SECOND);

    network.freeze(id(2), 12 * SECOND);
    network.run(11 * SECOND);
    for n in 0..10 {
        network.multicast(id(1), text(1, n));
    }
    network.run(2 * SECOND);
    network.settle(30 * SECOND);

    assert!(network.nodes[&id(2)].ring.stats().pauses > 0);
    checks::check(&network);
}

#[test]
fn sequence_numbers_wrap_without_notice() {
    let params = Params { initial_seq: 0xffff_fe00, ..Params::default() };
    let mut network = Network::new(3, 41, params);
    network.start_all();
    network.settle(2 * SECOND);
    network.faults.loss = 5;

    for n in 0..1000 {
        network.multicast(id(n % 3 + 1), text(n % 3 + 1, n));
        network.run(ms(3));
    }
    network.faults.loss = 0;
    network.run(20 * SECOND);

    assert_eq!(network.delivered(id(1)).len(), 1000);
    assert!(network.nodes[&id(1)].ring.status().high_delivered < 1000);
    checks::check(&network);
}

#[test]
fn node_that_leaves_is_silent_for_good() {
    let mut network = settled(2, 43);

    network.leave(id(2));
    let before = network.nodes[&id(2)].ring.stats().orf_token.tx;
    network.node(id(2)).up = true;
    network.run(20 * SECOND);
    network.input(id(2), Input::Start { stored_ring_seq: 0 });

    let ring = &network.nodes[&id(2)].ring;
    assert_eq!(ring.stats().orf_token.tx, before);
    assert_eq!(ring.status().state, StateName::Stopped);
    assert_eq!(ring.next_deadline(), None);
}

#[test]
fn same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut network = Network::new(4, seed, Params::default());
        network.faults = Faults { loss: 10, duplicate: 5, reorder: 10, corrupt: 0 };
        network.start_all();
        network.run(20 * SECOND);
        let logs: Vec<_> = network.nodes.values().map(|n| n.log.clone()).collect();
        (network.sent, logs)
    };

    assert_eq!(run(5), run(5));
    assert_ne!(run(5).0, run(6).0);
}
