//! Process groups of one node: messages in, changes out.

use super::*;

fn node(id: u32) -> NodeId {
    NodeId::new(id).expect("test ids are not 0")
}

fn group(name: &str) -> GroupName {
    GroupName::new(name).expect("test names are short")
}

fn member(id: u32, pid: u32) -> Member {
    Member { node: node(id), pid }
}

fn accept(cpg: &mut Cpg, from: u32, wire: Bytes) -> Option<Event> {
    cpg.accept(node(from), &ServiceMessage::from_wire(wire).expect("test messages have a header"), false)
}

fn join(cpg: &mut Cpg, from: u32, name: &str, pid: u32) -> Option<Event> {
    accept(cpg, from, CpgMessage::proc_join(&group(name), pid))
}

fn leave(cpg: &mut Cpg, from: u32, name: &str, pid: u32) -> Option<Event> {
    accept(cpg, from, CpgMessage::proc_leave(&group(name), pid, ChangeReason::Leave))
}

fn mcast(from: u32, name: &str, pid: u32, payload: &[u8]) -> Bytes {
    let header = CpgMessage::mcast_header(&group(name), pid, node(from), payload.len());
    Bytes::from([&header[..], payload].concat())
}

fn start(cpg: &mut Cpg, transitional: &[u32], members: &[u32]) {
    let members: Vec<_> = members.iter().copied().map(node).collect();
    cpg.start_sync(&transitional.iter().copied().map(node).collect(), &members);
}

fn list(cpg: &mut Cpg, from: u32, processes: &[(u32, &str)]) {
    let processes: Vec<_> = processes.iter().map(|(pid, name)| (*pid, group(name))).collect();
    assert_eq!(accept(cpg, from, CpgMessage::join_list(&processes)), None);
}

fn membership(
    name: &str,
    members: &[Member],
    joined: &[(Member, ChangeReason)],
    left: &[(Member, ChangeReason)],
) -> Event {
    Event::Membership(Membership {
        group: group(name),
        members: members.to_vec(),
        joined: joined.to_vec(),
        left: left.to_vec(),
    })
}

/// Node 1 in a ring with nodes 2 and 3, one process of each in group "g".
fn three_nodes() -> Cpg {
    let mut cpg = Cpg::new(node(1));
    start(&mut cpg, &[], &[1, 2, 3]);
    cpg.activate();
    for id in 1..=3 {
        join(&mut cpg, id, "g", id * 10);
    }
    cpg
}

#[test]
fn join_and_leave_are_told_once() {
    let mut cpg = Cpg::new(node(1));
    let process = member(2, 20);
    let joined = membership("g", &[process], &[(process, ChangeReason::Join)], &[]);
    assert_eq!(join(&mut cpg, 2, "g", 20), Some(joined));
    assert_eq!(join(&mut cpg, 2, "g", 20), None);
    let left = membership("g", &[], &[], &[(process, ChangeReason::Leave)]);
    assert_eq!(leave(&mut cpg, 2, "g", 20), Some(left));
    assert_eq!(leave(&mut cpg, 2, "g", 20), None);
}

#[test]
fn a_message_is_delivered_only_if_its_node_has_a_process_in_the_group() {
    let mut cpg = Cpg::new(node(1));
    join(&mut cpg, 2, "g", 20);
    // another process of the same node may send
    let delivered = accept(&mut cpg, 2, mcast(2, "g", 99, b"hello"));
    let payload = Bytes::from_static(b"hello");
    assert_eq!(
        delivered,
        Some(Event::Message { group: group("g"), from: member(2, 99), payload, spans_change: false })
    );
    // another node may not
    assert_eq!(accept(&mut cpg, 3, mcast(3, "g", 30, b"hello")), None);
    assert_eq!(cpg.stats().not_member, 1);
}

#[test]
fn two_lost_nodes_are_one_event_per_group() {
    let mut cpg = three_nodes();
    start(&mut cpg, &[1], &[1]);
    let lost = [(member(2, 20), ChangeReason::NodeDown), (member(3, 30), ChangeReason::NodeDown)];
    assert_eq!(cpg.activate(), [membership("g", &[member(1, 10)], &[], &lost)]);
}

#[test]
fn a_node_that_merges_back_is_seen_to_leave_and_to_join_again() {
    // given node 2 comes from another partition into a ring with us
    let mut cpg = three_nodes();
    start(&mut cpg, &[1, 3], &[1, 2, 3]);
    list(&mut cpg, 2, &[(20, "g")]);
    list(&mut cpg, 3, &[(30, "g")]);
    // then both changes are told, in this order
    let (one, two, three) = (member(1, 10), member(2, 20), member(3, 30));
    let down = membership("g", &[one, three], &[], &[(two, ChangeReason::NodeDown)]);
    let up = membership("g", &[one, two, three], &[(two, ChangeReason::NodeUp)], &[]);
    assert_eq!(cpg.activate(), [down, up]);
}

#[test]
fn a_process_that_no_list_names_is_gone() {
    let mut cpg = three_nodes();
    start(&mut cpg, &[1, 2, 3], &[1, 2, 3]);
    list(&mut cpg, 3, &[(30, "g")]);
    let left = [(member(2, 20), ChangeReason::ProcessDown)];
    assert_eq!(cpg.activate(), [membership("g", &[member(1, 10), member(3, 30)], &[], &left)]);
}

#[test]
fn the_list_of_a_node_that_died_in_the_barrier_phase_is_not_replayed() {
    // given node 3's list of an aborted round
    let mut cpg = Cpg::new(node(1));
    start(&mut cpg, &[], &[1, 2, 3]);
    list(&mut cpg, 3, &[(30, "g")]);
    cpg.abort_sync();
    // when the next round is without node 3
    start(&mut cpg, &[1, 2], &[1, 2]);
    list(&mut cpg, 2, &[(20, "g")]);
    list(&mut cpg, 3, &[(30, "g")]);
    cpg.activate();
    // then it has left no ghost
    assert_eq!(cpg.table().members(&group("g")), [member(2, 20)]);
}

#[test]
fn a_process_that_leaves_during_the_round_is_not_revived_by_a_list() {
    let mut cpg = Cpg::new(node(1));
    start(&mut cpg, &[], &[1, 2]);
    leave(&mut cpg, 2, "g", 20);
    list(&mut cpg, 2, &[(20, "g"), (21, "g")]);
    cpg.activate();
    assert_eq!(cpg.table().members(&group("g")), [member(2, 21)]);
}

#[test]
fn own_processes_stay_without_a_list() {
    let mut cpg = three_nodes();
    start(&mut cpg, &[1], &[1]);
    cpg.activate();
    start(&mut cpg, &[1], &[1]);
    assert_eq!(cpg.activate(), []);
    assert_eq!(cpg.table().members(&group("g")), [member(1, 10)]);
}

#[test]
fn the_process_step_names_lost_nodes_and_own_processes() {
    let mut cpg = three_nodes();
    start(&mut cpg, &[1, 3], &[1, 3]);
    let own = CpgMessage::join_list(&[(10, group("g"))]);
    assert_eq!(cpg.sync_messages(), [CpgMessage::downlist(3, [node(2)].into_iter()), own]);
    let empty = Cpg::new(node(1));
    assert_eq!(empty.sync_messages(), [CpgMessage::downlist(0, std::iter::empty())]);
}

#[test]
fn parts_of_a_node_that_left_are_void() {
    let mut cpg = three_nodes();
    let part = |part, payload: &[u8]| {
        let header = CpgMessage::partial_header(&group("g"), 20, node(2), (part, payload.len(), 4));
        Bytes::from([&header[..], payload].concat())
    };
    accept(&mut cpg, 2, part(Part::First, b"ab"));
    // when node 2 leaves and comes back
    start(&mut cpg, &[1, 3], &[1, 2, 3]);
    list(&mut cpg, 2, &[(20, "g")]);
    cpg.activate();
    // then the rest of its message is dropped
    assert_eq!(accept(&mut cpg, 2, part(Part::Last, b"cd")), None);
    assert_eq!(cpg.stats().partial_dropped, 1);
}
