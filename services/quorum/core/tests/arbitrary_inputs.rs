//! No input in no order makes the engine panic or contradict itself.

use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};
use quorate_types::{NodeId, RingId};
use quorum_core::{
    DeviceConfig, DeviceVote, Input, Output, QuorumConfig, TieBreaker, Votequorum,
    message::{NodeFlags, NodeInfo, Parameter, Reconfigure},
};

const ME: u32 = 1;

fn node() -> impl Strategy<Value = NodeId> {
    (1u32..5).prop_map(|node| NodeId::new(node).expect("not 0"))
}

fn votes() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0u32..4, 1 => any::<u32>()]
}

fn ring() -> impl Strategy<Value = RingId> {
    (0u64..3).prop_map(|seq| RingId { rep: 1, seq })
}

fn message() -> impl Strategy<Value = Bytes> {
    let info = (0u32..5, votes(), votes(), 0u32..512).prop_map(|(node, votes, expected_votes, flags)| {
        NodeInfo { node, votes, expected_votes, flags: NodeFlags::from_bits(flags) }.to_wire()
    });
    let parameter = prop_oneof![
        Just(Parameter::ExpectedVotes),
        Just(Parameter::NodeVotes),
        Just(Parameter::CancelWaitForAll),
        any::<u8>().prop_map(Parameter::Unknown),
    ];
    let change = (0u32..5, votes(), parameter)
        .prop_map(|(node, value, parameter)| Reconfigure { node, value, parameter }.to_wire());
    prop_oneof![6 => info, 3 => change, 1 => vec(any::<u8>(), 0..64).prop_map(Bytes::from)]
}

fn config() -> impl Strategy<Value = QuorumConfig> {
    let tie_breaker = prop_oneof![
        Just(None),
        Just(Some(TieBreaker::Lowest)),
        Just(Some(TieBreaker::Highest)),
        vec(node(), 0..3).prop_map(|list| Some(TieBreaker::List(list))),
    ];
    (votes(), votes(), 0usize..4, any::<[bool; 6]>(), tie_breaker).prop_map(
        |(votes, expected_votes, nodes, switches, auto_tie_breaker)| QuorumConfig {
            votes,
            expected_votes,
            nodes,
            two_node: switches[0],
            wait_for_all: switches[1],
            last_man_standing: switches[2],
            last_man_standing_window: Duration::from_secs(10),
            auto_tie_breaker,
            allow_downscale: switches[3],
            expected_votes_tracking: switches[4],
            device: switches[5].then_some(DeviceConfig { votes: 2 }),
        },
    )
}

fn device_vote() -> impl Strategy<Value = DeviceVote> {
    prop_oneof![
        Just(DeviceVote::Unreachable),
        Just(DeviceVote::Undecided),
        Just(DeviceVote::Granted),
        Just(DeviceVote::Refused),
    ]
}

fn input() -> impl Strategy<Value = Input> {
    let sync = (ring(), vec(node(), 0..4)).prop_map(|(ring, mut members)| {
        members.push(NodeId::new(ME).expect("not 0"));
        Input::SyncStarted { ring, members, transitional: Vec::new() }
    });
    prop_oneof![
        4 => sync,
        10 => (node(), message()).prop_map(|(from, message)| Input::Message { from, message }),
        4 => ring().prop_map(|ring| Input::SyncActivated { ring }),
        1 => Just(Input::SyncAborted),
        1 => Just(Input::RingLost),
        2 => votes().prop_map(|expected| Input::SetExpected { expected }),
        1 => config().prop_map(Input::Reconfigure),
        1 => Just(Input::CancelWaitForAll),
        1 => Just(Input::Leave),
        3 => (ring(), device_vote()).prop_map(|(ring, vote)| Input::Device { ring, vote }),
        2 => Just(Input::Timer),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_engine_never_contradicts_itself(
        config in config(),
        tracking: Option<u32>,
        inputs in vec(input(), 0..60),
    ) {
        let start = Instant::now();
        let mut engine = Votequorum::new(NodeId::new(ME).unwrap(), config, tracking);
        for (step, input) in inputs.into_iter().enumerate() {
            let is_lost = input == Input::RingLost;
            engine.handle_input(start + Duration::from_secs(step as u64), input);
            while let Some(output) = engine.poll_output() {
                if let Output::Changed(status) = output {
                    prop_assert_eq!(&status, &engine.status());
                }
            }
            let status = engine.status();
            prop_assert!(!(status.quorate && (status.waiting_for_all || status.ring.is_none())));
            prop_assert!(!(status.quorate && is_lost));
            prop_assert!(status.quorum > 0);
        }
    }
}
