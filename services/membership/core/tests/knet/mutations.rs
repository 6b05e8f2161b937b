//! Recorded packets, damaged, from the addresses of a peer: answers, memory and timers stay in their bounds.

use std::time::Duration;

use bytes::Bytes;
use membership_core::knet::Input;
use proptest::prelude::*;

use crate::{
    network::{Network, Template, address},
    pcap,
};

/// Incomplete packets of two hosts: 32 each, of at most 64 KiB, and the growth of a buffer.
const REASSEMBLY_MAX: usize = 2 * 32 * 2 * 65_536;
/// Offsets of the header's and data header's fields, and of what they are set to.
const FIELDS: [usize; 9] = [1, 3, 5, 6, 7, 8, 11, 12, 13];
const EXTREMES: [u8; 8] = [0, 1, 2, 7, 127, 128, 254, 255];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_damaged_recording_makes_the_links_panic_grow_or_talk(
        packets in prop::collection::vec(
            (any::<prop::sample::Index>(), 2u16..4, 0u8..2, prop::sample::select(&FIELDS[..]),
             prop::sample::select(&EXTREMES[..]), any::<prop::sample::Index>(), 0u8..6),
            1..120,
        ),
    ) {
        let recorded = pcap::read(pcap::PLAIN);
        let mut network = Network::new(Template { nodes: 3, links: 2, ..Template::default() });
        network.settle();
        for (which, node, link, field, value, at, kind) in packets {
            let mut datagram = recorded[which.index(recorded.len())].datagram.to_vec();
            datagram[3] = node as u8;
            match kind {
                0 => datagram.truncate(at.index(datagram.len())),
                1 => {
                    let at = at.index(datagram.len());
                    datagram[at] ^= value;
                }
                2 => datagram = [&[1, 0, 0, node as u8, 0, 0, 1, value, 0, 0, 1, 3, at.index(4) as u8, 0][..], &datagram].concat(),
                _ => if let Some(byte) = datagram.get_mut(field) { *byte = value },
            }
            let now = network.now;
            let links = network.nodes.get_mut(&1).unwrap();
            let from = address(node.into(), link);
            links.handle_input(now, Input::Datagram { link, from, datagram: Bytes::from(datagram) });
            let outputs = std::iter::from_fn(|| links.poll_output()).count();
            prop_assert!(outputs <= 4, "{}", outputs);
            prop_assert!(links.stats().reassembly_bytes <= REASSEMBLY_MAX);
            links.handle_input(now, Input::Timer);
            while links.poll_output().is_some() {}
            prop_assert!(links.next_deadline() > Some(now));
            network.now += Duration::from_millis(1);
        }
    }
}
