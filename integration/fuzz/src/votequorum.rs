//! A message survives being written; the engine never contradicts itself, whatever it is sent.

use std::time::{Duration, Instant};

use quorate_types::{NodeId, RingId};
use quorum_core::{
    DeviceConfig, DeviceVote, Input, Output, QuorumConfig, TieBreaker, Votequorum,
    message::{Message, Parameter},
};

use crate::{feed::Feed, heap};

/// See the module.
pub fn check(input: &[u8]) {
    heap::within(256 * 1024 + 64 * input.len(), || {
        if let Ok(message) = Message::from_wire(input) {
            let again = match &message {
                Message::NodeInfo(info) => info.to_wire(),
                Message::Reconfigure(change) => {
                    assert!(!matches!(change.parameter, Parameter::Unknown(1..=3)));
                    change.to_wire()
                }
                Message::QdeviceRegistration(registration) => {
                    // A name that is no text, or too long, is not written as it was read.
                    if registration.name.contains('\u{fffd}') || registration.name.len() > 254 {
                        return;
                    }
                    registration.to_wire()
                }
                Message::QdeviceOther => return,
            };
            assert_eq!(Message::from_wire(&again), Ok(message));
        }
        engine(Feed(input));
    });
}

fn engine(mut feed: Feed<'_>) {
    let me = NodeId::new(1).expect("not 0");
    let mut engine = Votequorum::new(me, config(&mut feed), None);
    let mut now = Instant::now();
    while !feed.is_empty() {
        let input = match feed.byte() % 16 {
            0 => {
                let members: Vec<_> =
                    [me].into_iter().chain((0..feed.byte() % 4).map(|_| feed.node(5))).collect();
                Input::SyncStarted { ring: ring(&mut feed), transitional: vec![me], members }
            }
            1 => Input::SyncActivated { ring: ring(&mut feed) },
            2 => Input::SyncAborted,
            3 => Input::RingLost,
            4 => Input::SetExpected { expected: feed.word() },
            5 => Input::Reconfigure(config(&mut feed)),
            6 => Input::CancelWaitForAll,
            7 => Input::Timer,
            8 => {
                let vote = match feed.byte() % 4 {
                    0 => DeviceVote::Unreachable,
                    1 => DeviceVote::Undecided,
                    2 => DeviceVote::Granted,
                    _ => DeviceVote::Refused,
                };
                Input::Device { ring: ring(&mut feed), vote }
            }
            _ => Input::Message { from: feed.node(5), message: feed.piece() },
        };
        now += Duration::from_millis(700);
        engine.handle_input(now, input);
        let mut outputs = 0;
        while let Some(output) = engine.poll_output() {
            outputs += 1;
            if let Output::Changed(status) = output {
                assert_eq!(status, engine.status());
            }
        }
        assert!(outputs <= 8, "{outputs} outputs for one input");
        let status = engine.status();
        assert!(!(status.quorate && (status.waiting_for_all || status.ring.is_none())));
        assert!(status.quorum > 0);
    }
}

fn ring(feed: &mut Feed<'_>) -> RingId {
    RingId { rep: 1, seq: u64::from(feed.byte() % 3) }
}

fn config(feed: &mut Feed<'_>) -> QuorumConfig {
    let bits = feed.byte();
    let votes = |feed: &mut Feed<'_>| match feed.byte() {
        255 => feed.word(),
        few => u32::from(few % 6),
    };
    QuorumConfig {
        votes: votes(feed),
        expected_votes: votes(feed),
        nodes: usize::from(feed.byte() % 5),
        two_node: bits & 1 != 0,
        wait_for_all: bits & 2 != 0,
        last_man_standing: bits & 4 != 0,
        last_man_standing_window: Duration::from_secs(10),
        auto_tie_breaker: (bits & 8 != 0).then_some(TieBreaker::Lowest),
        allow_downscale: bits & 16 != 0,
        expected_votes_tracking: bits & 32 != 0,
        device: (bits & 64 != 0).then_some(DeviceConfig { votes: 2 }),
    }
}
