//! Whole checks in virtual time: several nodes and the network between them.

use std::collections::BinaryHeap;

use super::*;

const START: Duration = Duration::from_secs(1_700_000_000);
const MS: Duration = Duration::from_millis(1);

fn plan(me: u8, nodes: u8) -> Plan {
    Plan {
        run: 7,
        nodes,
        me,
        count: 400,
        interval: MS,
        wait: 5 * Duration::from_secs(1),
        multicast: true,
        overhead: 28,
    }
}

/// What happens to a datagram: a delay for each copy that arrives. Called with number, from, to, length, multicast.
type Fate = fn(u64, u8, u8, usize, bool) -> Vec<Duration>;

fn calm(_: u64, _: u8, _: u8, length: usize, _: bool) -> Vec<Duration> {
    if length <= 1472 { vec![MS / 4] } else { Vec::new() }
}

/// Runs nodes, `present` of them started, until they are done; the clock of node n is n times `skew` ahead.
fn run(nodes: u8, present: u8, skew: Duration, fate: Fate) -> Vec<Check> {
    let clock = |place: u8, now: Duration| now + skew * u32::from(place);
    let mut checks: Vec<Check> =
        (0..present).map(|me| Check::new(clock(me, START), plan(me, nodes))).collect();
    let mut wire = BinaryHeap::new();
    let (mut now, mut number) = (START, 0);
    while checks.iter().any(|check| check.state() != State::Done) {
        assert!(now < START + Duration::from_secs(120), "the check does not end");
        while let Some(std::cmp::Reverse((at, _, from, to, bytes))) = wire.pop() {
            let entry: (Duration, u64, u8, u8, Vec<u8>) = (at, 0, from, to, bytes);
            if entry.0 > now {
                wire.push(std::cmp::Reverse(entry));
                break;
            }
            if let Some(check) = checks.get_mut(usize::from(to)).filter(|check| check.state() != State::Done)
            {
                check.handle_input(clock(to, now), Input::Datagram(Some(from), &entry.4));
            }
        }
        for (me, check) in (0u8..).zip(&mut checks) {
            if clock(me, now) >= check.deadline() && check.state() != State::Done {
                check.handle_input(clock(me, now), Input::Deadline);
            }
            while let Some(Output { to, bytes }) = check.poll_output() {
                let everyone: Vec<u8> = match to {
                    To::Peer(place) => vec![place],
                    To::Group => (0..nodes).collect(),
                };
                for place in everyone {
                    number += 1;
                    for delay in fate(number, me, place, bytes.len(), to == To::Group) {
                        wire.push(std::cmp::Reverse((now + delay, number, me, place, bytes.clone())));
                    }
                }
            }
        }
        now += MS / 4;
    }
    checks
}

#[test]
fn on_a_calm_network_nothing_is_lost_and_every_node_has_every_row() {
    for check in run(3, 3, Duration::ZERO, calm) {
        let rows = check.rows();
        assert_eq!(rows.len(), 6);
        for row in rows.values() {
            assert_eq!((row.unicast.sent, row.unicast.received), (400, 400));
            assert_eq!(row.multicast.map(|summary| summary.received), Some(400));
            assert_eq!(row.mtu, 1500);
            assert!(row.unicast.rtt_p50.abs_diff(500_000) < 2_000, "{row:?}");
        }
        assert_eq!(check.dropped(), Dropped::default());
    }
}

#[test]
fn the_skew_between_two_clocks_is_seen_from_both_sides_and_is_no_latency() {
    let checks = run(2, 2, Duration::from_millis(40), calm);
    let rows = checks[0].rows();
    assert_eq!(rows[&(0, 1)].unicast.skew, 40_000_000);
    assert_eq!(rows[&(1, 0)].unicast.skew, -40_000_000);
    assert!(rows[&(0, 1)].unicast.rtt_max < 600_000);
}

#[test]
fn lost_datagrams_are_counted_and_the_rows_come_through_all_the_same() {
    let checks = run(3, 3, Duration::ZERO, |number, from, to, length, multicast| {
        if number % 20 == 0 { Vec::new() } else { calm(number, from, to, length, multicast) }
    });
    for check in checks {
        assert_eq!(check.rows().len(), 6);
        let loss: f64 = check.rows().values().map(|row| row.unicast.loss_percent()).sum::<f64>() / 6.0;
        assert!((2.0..20.0).contains(&loss), "{loss}");
    }
}

#[test]
fn duplicates_and_reordering_are_no_loss() {
    let checks = run(2, 2, Duration::ZERO, |number, _, _, length, _| match number % 5 {
        _ if length > 1472 => Vec::new(),
        0 => vec![MS, MS * 2],
        1 => vec![MS * 5],
        _ => vec![MS / 2],
    });
    let unicast = checks[0].rows()[&(0, 1)].unicast;
    assert_eq!(unicast.received, 400);
    assert!(unicast.duplicates > 0 && unicast.reordered > 0 && unicast.jitter > 0, "{unicast:?}");
}

#[test]
fn a_switch_that_loses_multicast_only_is_told_apart() {
    let checks = run(2, 2, Duration::ZERO, |number, from, to, length, multicast| {
        if multicast { Vec::new() } else { calm(number, from, to, length, multicast) }
    });
    let row = checks[0].rows()[&(0, 1)];
    assert_eq!((row.unicast.received, row.multicast.map(|summary| summary.received)), (400, Some(0)));
}

#[test]
fn a_node_that_never_appears_is_waited_for_and_then_left_out() {
    let checks = run(3, 2, Duration::ZERO, calm);
    let rows = checks[0].rows();
    assert!(rows[&(0, 1)].is_reached && !rows[&(0, 2)].is_reached);
    assert_eq!(rows[&(0, 1)].unicast.received, 400);
    assert!(!rows[&(1, 2)].is_reached);
}

#[test]
fn datagrams_of_strangers_and_of_other_checks_are_dropped_by_name_and_never_answered() {
    let mut check = Check::new(START, plan(0, 2));
    check.handle_input(START, Input::Deadline);
    while check.poll_output().is_some() {}
    let probe = Probe { class: Class::Unicast, seq: 0, sent: 1, length: PROBE_LENGTH };
    let bytes = |run, from| Datagram { run, from, body: Body::Probe(probe) }.encode();
    check.handle_input(START, Input::Datagram(None, &bytes(7, 1)));
    check.handle_input(START, Input::Datagram(Some(1), &bytes(8, 1)));
    check.handle_input(START, Input::Datagram(Some(1), &bytes(7, 63)));
    check.handle_input(START, Input::Datagram(Some(1), &bytes(7, 1)[..20]));
    assert_eq!(check.poll_output(), None);
    let dropped = check.dropped();
    assert_eq!((dropped.foreign, dropped.other_run, dropped.malformed), (2, 1, 1));
    check.handle_input(START, Input::Datagram(Some(1), &bytes(7, 1)));
    let answer = check.poll_output().expect("a listed peer is answered");
    assert_eq!((answer.to, answer.bytes.len()), (To::Peer(1), PROBE_LENGTH));
}

#[test]
fn a_flood_of_questions_is_answered_up_to_a_rate() {
    let mut check = Check::new(START, plan(0, 2));
    let probe = Probe { class: Class::Unicast, seq: 0, sent: 1, length: PROBE_LENGTH };
    let bytes = Datagram { run: 7, from: 1, body: Body::Probe(probe) }.encode();
    for _ in 0..ANSWERS_PER_SECOND + 10 {
        check.handle_input(START, Input::Datagram(Some(1), &bytes));
    }
    assert_eq!(check.dropped().too_many, 10);
}
