//! The client against a scripted arbiter: what it says in which order, and what counts when.

#![allow(clippy::unwrap_used, reason = "helpers of tests: a failure ends the test")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use qdevice_core::{
    Algorithm, Client, Config, Encryption, Frames, Input, Kind, Message, Output, TieBreaker, Vote,
    message::{Answer, ListKind, TlsSupport},
};
use quorate_types::{NodeId, RingId};

const HEARTBEAT: Duration = Duration::from_secs(8);

fn id(node: u32) -> NodeId {
    NodeId::new(node).unwrap()
}

fn ring(seq: u64) -> RingId {
    RingId { rep: 1, seq }
}

fn config(encryption: Encryption) -> Config {
    Config {
        cluster: "demo".into(),
        me: id(1),
        host: "arbiter".into(),
        port: 5403,
        encryption,
        algorithm: Algorithm::Ffsplit,
        tie_breaker: TieBreaker::Lowest,
        keep_active_partition: true,
        heartbeat: HEARTBEAT,
        connect_timeout: HEARTBEAT,
        nodes: vec![id(1), id(2)],
        config_version: 1,
    }
}

struct World {
    client: Client,
    now: Instant,
}

impl World {
    fn new(encryption: Encryption) -> Self {
        Self { client: Client::new(config(encryption)), now: Instant::now() }
    }

    fn put(&mut self, input: Input) -> Vec<Output> {
        self.client.handle_input(self.now, input);
        std::iter::from_fn(|| self.client.poll_output()).collect()
    }

    fn ring(&mut self, seq: u64, members: &[u32]) -> Vec<Output> {
        let members = members.iter().copied().map(id).collect();
        self.put(Input::Ring { ring: ring(seq), members })
    }

    fn says(&mut self, message: Message) -> Vec<Output> {
        let bytes: Bytes = message.to_wire();
        self.put(Input::Received(bytes))
    }

    fn after(&mut self, time: Duration) -> Vec<Output> {
        self.now += time;
        self.put(Input::Timer)
    }

    /// Connected, and granted the vote in ring 4 with node 2.
    fn granted() -> Self {
        let mut world = Self::new(Encryption::Off);
        world.ring(4, &[1, 2]);
        world.put(Input::Connected);
        world.says(Message { tls: Some(TlsSupport::Unsupported), ..Message::new(Kind::PreinitReply) });
        world.says(Message::new(Kind::InitReply));
        world.says(vote(Answer::Ack, 4));
        assert_eq!(world.client.vote(), Vote::Granted);
        world
    }
}

fn vote(answer: Answer, seq: u64) -> Message {
    Message { seq: Some(9), vote: Some(answer), ring: Some(ring(seq)), ..Message::new(Kind::VoteInfo) }
}

fn membership_reply(answer: Answer, seq: u64) -> Message {
    let list = Some(ListKind::Membership);
    Message { vote: Some(answer), ring: Some(ring(seq)), list, ..Message::new(Kind::NodeListReply) }
}

fn sent(outputs: &[Output]) -> Vec<Message> {
    let mut frames = Frames::new();
    for output in outputs {
        if let Output::Send(bytes) = output {
            frames.put(bytes);
        }
    }
    std::iter::from_fn(|| frames.next_message().unwrap())
        .map(|(kind, fields)| Message::from_wire(kind, &fields).unwrap())
        .collect()
}

fn kinds(outputs: &[Output]) -> Vec<Kind> {
    sent(outputs).iter().map(|message| message.kind).collect()
}

#[test]
fn a_node_introduces_itself_before_it_tells_of_its_ring() {
    let mut world = World::new(Encryption::On);
    let outputs = world.ring(4, &[1, 2]);
    assert!(outputs.contains(&Output::Connect { host: "arbiter".into(), port: 5403 }));
    assert_eq!(kinds(&world.put(Input::Connected)), [Kind::Preinit]);
    let outputs =
        world.says(Message { tls: Some(TlsSupport::Supported), ..Message::new(Kind::PreinitReply) });
    assert_eq!(kinds(&outputs), [Kind::StartTls]);
    assert_eq!(outputs.last(), Some(&Output::StartTls));
    assert_eq!(kinds(&world.put(Input::Secured)), [Kind::Init]);
    let outputs = world.says(Message { fields: Some(vec![23]), ..Message::new(Kind::InitReply) });
    assert_eq!(kinds(&outputs), [Kind::SetOption, Kind::NodeList, Kind::NodeList]);
    assert_eq!(world.client.vote(), Vote::Undecided);
}

#[test]
fn an_arbiter_without_encryption_is_refused_where_it_is_required() {
    let mut world = World::new(Encryption::Required);
    world.ring(4, &[1, 2]);
    world.put(Input::Connected);
    let outputs =
        world.says(Message { tls: Some(TlsSupport::Unsupported), ..Message::new(Kind::PreinitReply) });
    assert!(outputs.contains(&Output::Close));
    assert!(world.client.summary().error.contains("does not offer encryption"));
}

#[test]
fn a_refusal_is_in_force_before_the_arbiter_hears_that_it_is_known() {
    let mut world = World::granted();
    let outputs = world.says(vote(Answer::Nack, 4));
    assert_eq!(outputs[0], Output::Vote { ring: ring(4), vote: Vote::Refused });
    assert_eq!(kinds(&outputs[1..]), [Kind::VoteInfoReply]);
    assert_eq!(sent(&outputs)[0].seq, Some(9));
}

#[test]
fn the_vote_of_a_ring_does_not_count_in_the_next_one_until_it_is_confirmed() {
    let mut world = World::granted();
    let outputs = world.ring(8, &[1]);
    assert_eq!(outputs[0], Output::Vote { ring: ring(8), vote: Vote::Undecided });

    // Late words about the ring before.
    world.says(vote(Answer::Ack, 4));
    world.says(membership_reply(Answer::NoChange, 4));
    assert_eq!(world.client.vote(), Vote::Undecided);

    world.says(membership_reply(Answer::WaitForReply, 8));
    assert_eq!(world.client.vote(), Vote::Undecided);
    world.says(vote(Answer::Ack, 8));
    assert_eq!(world.client.vote(), Vote::Granted);
}

#[test]
fn no_change_confirms_the_last_word_for_the_new_ring() {
    let mut world = World::granted();
    world.ring(8, &[1]);
    world.says(membership_reply(Answer::NoChange, 8));
    assert_eq!(world.client.vote(), Vote::Granted);
}

#[test]
fn the_vote_ends_with_the_connection_and_a_new_one_is_tried() {
    let mut world = World::granted();
    let outputs = world.put(Input::Closed { reason: "cut".into() });
    assert_eq!(outputs[0], Output::Vote { ring: ring(4), vote: Vote::Unreachable });
    assert_eq!(world.client.summary().error, "cut");
    let outputs = world.after(Duration::from_secs(1));
    assert!(outputs.contains(&Output::Connect { host: "arbiter".into(), port: 5403 }));
}

#[test]
fn the_vote_ends_before_a_silent_arbiter_takes_the_node_for_dead() {
    let mut world = World::granted();
    assert_eq!(kinds(&world.after(HEARTBEAT / 2)), [Kind::EchoRequest]);
    world.after(HEARTBEAT / 2);
    assert_eq!(world.client.vote(), Vote::Granted);
    // One and a quarter heartbeats after the last message that was answered; the arbiter waits for one and a half.
    let outputs = world.after(HEARTBEAT / 4);
    assert_eq!(outputs[0], Output::Vote { ring: ring(4), vote: Vote::Unreachable });
    assert!(outputs.contains(&Output::Close));
}

#[test]
fn nonsense_ends_the_connection() {
    let mut world = World::granted();
    let outputs = world.put(Input::Received(Bytes::from_static(b"HTTP/1.1 400 Bad Request\r\n\r\n")));
    assert!(outputs.contains(&Output::Close));
    assert_eq!(world.client.vote(), Vote::Unreachable);
}

#[test]
fn a_changed_nodelist_is_told_on_the_same_connection() {
    let mut world = World::granted();
    let config = Config { nodes: vec![id(1), id(2), id(3)], config_version: 2, ..config(Encryption::Off) };
    let outputs = world.put(Input::Reconfigure(config));
    let messages = sent(&outputs);
    assert_eq!(messages[0].list, Some(ListKind::ChangedConfig));
    assert_eq!((messages[0].nodes.len(), messages[0].config_version), (3, Some(2)));
    assert!(!outputs.contains(&Output::Close));
}
