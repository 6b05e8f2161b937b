//! The wire: what `corosync-qdevice` 3.0.3 and `corosync-qnetd` 3.0.3 said to each other on 2026-11-24 reads as it was
//! meant; whatever else is read does no harm.

#![allow(clippy::unwrap_used, reason = "helpers of tests: a failure ends the test")]

use proptest::{collection::vec, option, prelude::*};
use qdevice_core::{
    Algorithm, Frames, Kind, Message, NodeState, TieBreaker,
    message::{Answer, ErrorCode, Heuristics, ListKind, ListedNode, TlsSupport},
};
use quorate_types::{NodeId, RingId};

fn id(node: u32) -> NodeId {
    NodeId::new(node).unwrap()
}

/// Reads a message given as its type and the fields in hex.
fn read(kind: u16, fields: &str) -> Message {
    let digits: Vec<char> = fields.chars().filter(|digit| !digit.is_whitespace()).collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
    Message::from_wire(kind, &digits.chunks(2).map(byte).collect::<Vec<_>>()).unwrap()
}

const RING: RingId = RingId { rep: 1, seq: 5 };

#[test]
fn the_introduction_of_a_node_reads_as_it_was_meant() {
    let preinit = read(0, "0000 0004 00000001 0001 0004 64656d6f");
    assert_eq!(
        (preinit.kind, preinit.seq, preinit.cluster.as_deref()),
        (Kind::Preinit, Some(1), Some("demo"))
    );

    let init = read(
        3,
        "0000 0004 00000002  0009 0004 00000001  000b 0002 0001  000c 0004 00001f40  0015 0005 0100000000 \
         000d 000c 000000010000000000000005",
    );
    let wanted = Message {
        seq: Some(2),
        node: Some(id(1)),
        algorithm: Some(Algorithm::Ffsplit),
        heartbeat_ms: Some(8000),
        tie_breaker: Some(TieBreaker::Lowest),
        ring: Some(RING),
        ..Message::new(Kind::Init)
    };
    assert_eq!(init, wanted);
}

#[test]
fn the_answers_of_the_arbiter_read_as_they_were_meant() {
    let preinit = read(1, "0000 0004 00000001 0002 0001 00 0003 0001 01");
    assert_eq!((preinit.tls, preinit.client_certificate), (Some(TlsSupport::Unsupported), Some(true)));
    let init = read(
        4,
        "0006 0002 0000 0000 0004 00000002 0007 0004 00008000 0008 0004 00008000 000a 0008 0000000100020003",
    );
    assert_eq!(
        (init.error, init.request_max, init.algorithms),
        (Some(ErrorCode::NONE), Some(32768), Some(vec![0, 1, 2, 3]))
    );
    let vote = read(14, "0000 0004 00000001 0013 0001 01 000d 000c 000000010000000000000005");
    assert_eq!((vote.vote, vote.ring), (Some(Answer::Ack), Some(RING)));
    let list = read(11, "0000 0004 00000005 0012 0001 02 000d 000c 000000010000000000000005 0013 0001 05");
    assert_eq!((list.list, list.vote), (Some(ListKind::Membership), Some(Answer::NoChange)));
}

#[test]
fn a_list_of_nodes_is_written_as_corosync_writes_it() {
    let fields = "0000 0004 00000006 0012 0001 03 0014 0001 00 0011 000d 0009 0004 00000001 0010 0001 01";
    let message = read(10, fields);
    let nodes = vec![ListedNode { node: id(1), state: Some(NodeState::Member) }];
    let wanted = Message {
        seq: Some(6),
        list: Some(ListKind::Quorum),
        quorate: Some(false),
        nodes,
        ..Message::new(Kind::NodeList)
    };
    assert_eq!(message, wanted);
    let hex: String = message.to_wire()[6..].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, fields.replace(' ', ""));
}

fn node() -> impl Strategy<Value = NodeId> {
    (1..=u32::MAX).prop_map(id)
}

fn message() -> impl Strategy<Value = Message> {
    let numbers = || option::of(vec(any::<u16>(), 0..20));
    let about = (
        prop::sample::select(Kind::ALL.to_vec()),
        any::<Option<u32>>(),
        option::of("[a-z]{0,20}"),
        any::<Option<bool>>(),
        numbers(),
        option::of(any::<u16>().prop_map(ErrorCode)),
        option::of(node()),
        any::<Option<u32>>(),
    );
    let ring = option::of((any::<u32>(), any::<u64>()).prop_map(|(rep, seq)| RingId { rep, seq }));
    let state =
        option::of(prop::sample::select(vec![NodeState::Member, NodeState::Dead, NodeState::Leaving]));
    let nodes = vec((node(), state).prop_map(|(node, state)| ListedNode { node, state }), 0..5);
    let answers = vec![Answer::Ack, Answer::Nack, Answer::AskLater, Answer::WaitForReply, Answer::NoChange];
    let says = (
        ring,
        any::<Option<u64>>(),
        nodes,
        option::of(prop::sample::select(answers)),
        option::of(node().prop_map(TieBreaker::Node)),
        option::of(prop::sample::select(vec![Heuristics::Undefined, Heuristics::Pass, Heuristics::Fail])),
    );
    (about, says).prop_map(|(about, says)| {
        let (kind, seq, cluster, quorate, messages, error, node, heartbeat_ms) = about;
        let (ring, config_version, nodes, vote, tie_breaker, heuristics) = says;
        Message {
            seq,
            cluster,
            quorate,
            messages,
            error,
            node,
            heartbeat_ms,
            ring,
            config_version,
            nodes,
            vote,
            tie_breaker,
            heuristics,
            ..Message::new(kind)
        }
    })
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(kind in 0u16..20, bytes in vec(any::<u8>(), 0..300)) {
        if let Ok(message) = Message::from_wire(kind, &bytes) {
            let mut frames = Frames::new();
            frames.put(&message.to_wire());
            let (kind, fields) = frames.next_message().unwrap().unwrap();
            prop_assert_eq!(Message::from_wire(kind, &fields), Ok(message));
        }
    }

    #[test]
    fn what_is_written_is_read(message in message()) {
        let mut frames = Frames::new();
        frames.put(&message.to_wire());
        let (kind, fields) = frames.next_message().unwrap().unwrap();
        prop_assert_eq!(Message::from_wire(kind, &fields), Ok(message));
    }
}
