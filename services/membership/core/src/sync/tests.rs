//! Rounds of the synchronisation, message by message.

use super::*;

const RING: RingId = RingId { rep: 1, seq: 9 };

fn node(id: u32) -> NodeId {
    NodeId::new(id).expect("test ids are not 0")
}

fn started(members: &[u32], own: &[u16]) -> Sync {
    let mut sync = Sync::default();
    let members: Vec<_> = members.iter().copied().map(node).collect();
    sync.start(RING, &members, &own.iter().copied().collect());
    sync
}

fn build(services: &[i32]) -> Bytes {
    SyncMessage::ServiceBuild { ring: RING, services: services.to_vec() }.to_wire()
}

fn barrier() -> Bytes {
    SyncMessage::Barrier { ring: RING }.to_wire()
}

#[test]
fn services_are_processed_in_order_after_all_lists_arrived() {
    // given two members with different services
    let mut sync = started(&[1, 2], &[0, 5]);
    sync.accept(node(1), &build(&[0, 5]));
    assert_eq!(sync.step_due(), None);
    // when the second list arrives
    sync.accept(node(2), &build(&[0, 3]));
    // then the union is gone through, one barrier of each member per service
    for (service, last) in [(0, false), (3, false), (5, true)] {
        assert_eq!(sync.step_due(), Some(service));
        assert_eq!(SyncMessage::from_wire(&sync.step_done()), Ok(SyncMessage::Barrier { ring: RING }));
        assert_eq!(sync.accept(node(2), &barrier()), Progress::None);
        assert_eq!(sync.accept(node(1), &barrier()), Progress::Activate { service, last });
    }
    assert!(!sync.is_running());
    assert_eq!(sync.stats().completed, 1);
}

#[test]
fn a_faster_member_may_send_its_barrier_before_our_step() {
    let mut sync = started(&[1, 2], &[0]);
    sync.accept(node(1), &build(&[0]));
    sync.accept(node(2), &build(&[0]));
    // when the other's barrier arrives first
    sync.accept(node(2), &barrier());
    // then our own completes the service
    assert_eq!(sync.step_due(), Some(0));
    sync.step_done();
    assert_eq!(sync.accept(node(1), &barrier()), Progress::Activate { service: 0, last: true });
}

#[test]
fn messages_of_other_rings_strangers_and_wrong_stages_have_no_effect() {
    let mut sync = started(&[1, 2], &[0]);
    let other_ring = SyncMessage::ServiceBuild { ring: RingId { rep: 1, seq: 5 }, services: vec![0] };
    sync.accept(node(2), &other_ring.to_wire());
    sync.accept(node(3), &build(&[0]));
    sync.accept(node(2), &barrier());
    sync.accept(node(1), &build(&[0]));
    assert_eq!(sync.step_due(), None);
    assert_eq!(sync.stats().ignored, 3);
}

#[test]
fn after_an_abort_left_over_messages_are_ignored() {
    let mut sync = started(&[1], &[0]);
    assert!(sync.abort());
    assert!(!sync.abort());
    assert_eq!(sync.accept(node(1), &build(&[0])), Progress::None);
    assert_eq!((sync.is_running(), sync.stats().aborted), (false, 1));
}

#[test]
fn status_names_the_members_that_are_waited_for() {
    let mut sync = started(&[1, 2, 3], &[0]);
    sync.accept(node(1), &build(&[0]));
    assert_eq!(sync.progress(), Some((None, vec![node(2), node(3)])));
}
