//! Which client gets which event, and when.

use bytes::Bytes;

use super::*;
use crate::cpg::Event;

const RING: RingId = RingId { rep: 1, seq: 8 };
const NEXT: RingId = RingId { rep: 1, seq: 12 };

fn node(id: u32) -> NodeId {
    NodeId::new(id).expect("test ids are not 0")
}

fn group() -> GroupName {
    GroupName::new("g").expect("a short name")
}

fn at(seq: u32) -> Position {
    Position { ring: RING, seq }
}

fn message(payload: &'static [u8]) -> Event {
    let from = Member { node: node(2), pid: 20 };
    Event::Message { group: group(), from, payload: Bytes::from_static(payload), spans_change: false }
}

fn change(joined: &[(u32, u32)], left: &[(u32, u32)]) -> Event {
    let list = |members: &[(u32, u32)], reason| {
        members.iter().map(|&(id, pid)| (Member { node: node(id), pid }, reason)).collect()
    };
    Event::Membership(Membership {
        group: group(),
        members: vec![],
        joined: list(joined, ChangeReason::Join),
        left: list(left, ChangeReason::Leave),
    })
}

/// Short names of the events: client and what it got.
fn drain(out: &mut VecDeque<Output>) -> Vec<(ClientId, String)> {
    let name = |event| match event {
        GroupEvent::Joined { .. } => "joined".to_owned(),
        GroupEvent::Members { .. } => "members".to_owned(),
        GroupEvent::Message { payload, .. } => String::from_utf8_lossy(&payload).into_owned(),
        GroupEvent::Configuration { kind, .. } => format!("{kind:?}"),
    };
    let entry = |output| match output {
        Output::Group { client, event } => (client, name(event)),
        other => panic!("not for a client: {other:?}"),
    };
    out.drain(..).map(entry).collect()
}

fn got(client: ClientId, names: &[&str]) -> Vec<(ClientId, String)> {
    names.iter().map(|name| (client, (*name).to_owned())).collect()
}

/// Client 7 with pid 70, its join come back.
fn joined(delivery: Guarantee) -> (Clients, VecDeque<Output>) {
    let (mut clients, mut out) = (Clients::new(node(1)), VecDeque::new());
    clients.join(7, 70, group(), delivery).expect("the first join");
    clients.deliver(at(1), change(&[(1, 70)], &[]), &mut out);
    (clients, out)
}

#[test]
fn a_client_sees_nothing_before_its_own_join() {
    let (mut clients, mut out) = (Clients::new(node(1)), VecDeque::new());
    clients.join(7, 70, group(), Guarantee::Agreed).unwrap();
    clients.deliver(at(1), message(b"early"), &mut out);
    clients.deliver(at(2), change(&[(1, 70)], &[]), &mut out);
    clients.deliver(at(3), message(b"late"), &mut out);
    assert_eq!(drain(&mut out), got(7, &["joined", "members", "late"]));
}

#[test]
fn a_leaving_client_sees_everything_up_to_its_own_leave() {
    let (mut clients, mut out) = joined(Guarantee::Agreed);
    out.clear();
    assert_eq!(clients.leave(7, LeaveReason::Leave), Some((70, group())));
    assert!(clients.sender(7).is_err());
    clients.deliver(at(2), message(b"still"), &mut out);
    clients.deliver(at(3), change(&[], &[(1, 70)]), &mut out);
    clients.deliver(at(4), message(b"gone"), &mut out);
    assert_eq!(drain(&mut out), got(7, &["still", "members"]));
    assert_eq!(clients.len(), 0);
}

#[test]
fn a_pid_can_be_used_again_while_its_leave_is_on_the_way() {
    // given a client that vanished and one that takes over its pid and leaves again
    let (mut clients, mut out) = joined(Guarantee::Agreed);
    out.clear();
    clients.leave(7, LeaveReason::ProcessDown);
    clients.join(8, 70, group(), Guarantee::Agreed).unwrap();
    clients.leave(8, LeaveReason::Leave);
    // when leave, join and leave come back
    clients.deliver(at(2), change(&[], &[(1, 70)]), &mut out);
    assert_eq!(drain(&mut out), []);
    clients.deliver(at(3), change(&[(1, 70)], &[]), &mut out);
    clients.deliver(at(4), change(&[], &[(1, 70)]), &mut out);
    // then the first leave was not taken for the second
    assert_eq!(clients.len(), 0);
    assert!(clients.leaves.is_empty() && clients.joins.is_empty());
}

#[test]
fn a_second_client_with_the_same_pid_is_refused() {
    let (mut clients, _) = joined(Guarantee::Agreed);
    assert_eq!(clients.join(8, 70, group(), Guarantee::Agreed), Err(RefuseReason::AlreadyJoined));
    assert_eq!(clients.join(7, 71, group(), Guarantee::Agreed), Err(RefuseReason::AlreadyJoined));
    assert_eq!(clients.join(8, 71, group(), Guarantee::Agreed), Ok(()));
}

#[test]
fn safe_delivery_holds_back_until_all_members_have_the_message() {
    let (mut clients, mut out) = joined(Guarantee::Safe);
    clients.deliver(at(2), message(b"two"), &mut out);
    clients.deliver(at(3), message(b"three"), &mut out);
    assert_eq!(drain(&mut out), []);
    // when everything up to 2 is safe
    clients.safe_up_to(at(2), &mut out);
    assert_eq!(drain(&mut out), got(7, &["joined", "members", "two"]));
    // then a later message still waits for its turn
    clients.safe_up_to(at(3), &mut out);
    assert_eq!(drain(&mut out), got(7, &["three"]));
}

#[test]
fn a_message_that_is_safe_already_is_delivered_at_once() {
    let (mut clients, mut out) = joined(Guarantee::Safe);
    clients.safe_up_to(at(5), &mut out);
    out.clear();
    clients.deliver(at(5), message(b"five"), &mut out);
    assert_eq!(drain(&mut out), got(7, &["five"]));
}

#[test]
fn what_is_not_safe_follows_the_transitional_configuration() {
    let (mut clients, mut out) = joined(Guarantee::Safe);
    clients.safe_up_to(at(1), &mut out);
    out.clear();
    clients.deliver(at(2), message(b"held"), &mut out);
    clients.transitional(NEXT, &[node(1)], &mut out);
    clients.deliver(at(3), message(b"recovered"), &mut out);
    clients.regular(NEXT, &[node(1), node(3)], &mut out);
    clients.deliver(Position { ring: NEXT, seq: 1 }, message(b"new"), &mut out);
    assert_eq!(drain(&mut out), got(7, &["Transitional", "held", "recovered", "Regular"]));
    // and safety of the old ring says nothing about the new one
    clients.safe_up_to(at(9), &mut out);
    assert_eq!(drain(&mut out), []);
}

#[test]
fn agreed_clients_are_told_configurations_and_wait_for_nothing() {
    let (mut clients, mut out) = joined(Guarantee::Agreed);
    out.clear();
    clients.transitional(NEXT, &[node(1)], &mut out);
    clients.regular(NEXT, &[node(1)], &mut out);
    clients.deliver(Position { ring: NEXT, seq: 1 }, message(b"new"), &mut out);
    assert_eq!(drain(&mut out), got(7, &["Transitional", "Regular", "new"]));
}

#[test]
fn members_of_an_unchanged_group_are_confirmed_once_after_a_synchronisation() {
    let (mut clients, mut out) = joined(Guarantee::Agreed);
    out.clear();
    let (table, here) = (ProcessTable::default(), Position { ring: NEXT, seq: 4 });
    let group = clients.by_group.keys().next().cloned().unwrap();
    clients.confirm_members(here, &BTreeSet::from([group]), &table, &mut out);
    assert_eq!(drain(&mut out), []);
    clients.confirm_members(here, &BTreeSet::new(), &table, &mut out);
    let confirmed = |output: &Output| {
        matches!(output, Output::Group { client: 7, event: GroupEvent::Members { ring: NEXT, joined, left, .. } }
            if joined.is_empty() && left.is_empty())
    };
    assert!(out.len() == 1 && out.iter().all(confirmed), "{out:?}");
}
