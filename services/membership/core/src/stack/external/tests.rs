//! Attached services through one synchronisation.

use super::*;
use crate::service;

const RING: RingId = RingId { rep: 1, seq: 8 };

fn node(id: u32) -> NodeId {
    NodeId::new(id).expect("test ids are not 0")
}

fn nodeinfo(about: u8) -> Bytes {
    let mut bytes = service::message(service::id(VOTEQUORUM, 0), 32, 32);
    bytes[16] = about;
    bytes.into()
}

fn started(attached: bool) -> Externals {
    let mut externals = Externals::default();
    let mut out = VecDeque::new();
    if attached {
        externals.attach(VOTEQUORUM, &mut out);
    }
    externals.start_sync(RING, &[node(1), node(2)], &[node(1)].into(), &mut out);
    assert_eq!(out.len(), usize::from(attached));
    externals
}

fn deliver(externals: &mut Externals, from: u32, message: Bytes) -> VecDeque<Output> {
    let mut out = VecDeque::new();
    let message = ServiceMessage::from_wire(message).expect("a service message");
    assert!(externals.deliver(node(from), message, &mut out));
    out
}

#[test]
fn an_answer_before_the_step_is_sent_in_the_step() {
    let mut externals = started(true);
    let answer = externals.answer(VOTEQUORUM, RING, vec![nodeinfo(1)]);
    assert_eq!(answer, Answer::Kept { due: false });
    assert_eq!(externals.step(VOTEQUORUM, Instant::now()), Step::Send(vec![nodeinfo(1)]));
}

#[test]
fn a_silent_service_is_awaited_half_a_second() {
    let (mut externals, now) = (started(true), Instant::now());
    assert_eq!(externals.step(VOTEQUORUM, now), Step::Wait);
    assert_eq!(externals.deadline(), Some(now + EXTERNAL_SYNC_WAIT));
    assert_eq!(externals.step(VOTEQUORUM, now + EXTERNAL_SYNC_WAIT), Step::Send(vec![]));
    assert_eq!((externals.deadline(), externals.timeouts()), (None, 1));
    // and what it says later goes as ordinary messages
    assert_eq!(externals.answer(VOTEQUORUM, RING, vec![nodeinfo(1)]), Answer::Late(vec![nodeinfo(1)]));
}

#[test]
fn an_answer_while_it_is_awaited_is_due_at_once() {
    let (mut externals, now) = (started(true), Instant::now());
    externals.step(VOTEQUORUM, now);
    assert_eq!(externals.answer(VOTEQUORUM, RING, vec![]), Answer::Kept { due: true });
    assert_eq!(externals.step(VOTEQUORUM, now), Step::Send(vec![]));
}

#[test]
fn a_service_that_is_not_there_is_not_awaited() {
    let mut externals = started(false);
    assert_eq!(externals.step(VOTEQUORUM, Instant::now()), Step::Send(vec![]));
    let mut detached = started(true);
    detached.detach(VOTEQUORUM);
    assert_eq!(detached.step(VOTEQUORUM, Instant::now()), Step::Send(vec![]));
}

#[test]
fn answers_for_another_ring_and_messages_of_another_service_are_dropped() {
    let mut externals = started(true);
    assert_eq!(externals.answer(VOTEQUORUM, RingId { rep: 1, seq: 4 }, vec![]), Answer::Outdated);
    let foreign = Bytes::from(service::message(service::id(service::CPG, 0), 32, 32));
    externals.answer(VOTEQUORUM, RING, vec![foreign, Bytes::from_static(b"short"), nodeinfo(1)]);
    assert_eq!(externals.step(VOTEQUORUM, Instant::now()), Step::Send(vec![nodeinfo(1)]));
}

#[test]
fn a_late_service_is_told_what_it_missed() {
    // given a synchronisation that is over
    let mut externals = started(false);
    assert_eq!(deliver(&mut externals, 2, nodeinfo(2)), []);
    externals.activate(VOTEQUORUM, &mut VecDeque::new());
    // when the service attaches
    let mut out = VecDeque::new();
    externals.attach(VOTEQUORUM, &mut out);
    // then it sees the start, the message and the activation
    let started = ServiceEvent::SyncStarted {
        ring: RING,
        members: vec![node(1), node(2)],
        transitional: vec![node(1)],
    };
    let message = ServiceEvent::Message { from: node(2), message: nodeinfo(2) };
    let events = [started, message, ServiceEvent::SyncActivated { ring: RING }];
    assert_eq!(out, events.map(|event| Output::Service { service: VOTEQUORUM, event }));
}

#[test]
fn corosyncs_own_services_cannot_be_attached() {
    let mut externals = Externals::default();
    for service in [0, 4, 64, 5000] {
        assert!(!externals.attach(service, &mut VecDeque::new()), "{service}");
    }
    for service in [5, 41, 63] {
        assert!(externals.attach(service, &mut VecDeque::new()), "{service}");
    }
}

#[test]
fn a_service_attached_during_a_round_that_is_without_it_speaks_outside_of_it() {
    let mut externals = started(true);
    externals.attach(41, &mut VecDeque::new());
    let message = Bytes::from(service::message(service::id(41, 0), 32, 32));
    assert_eq!(externals.answer(41, RING, vec![message.clone()]), Answer::Late(vec![message]));
}
