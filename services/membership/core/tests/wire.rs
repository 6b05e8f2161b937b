//! Messages and packets recorded from corosync 3.1.7: read as they were meant, written byte for
//! byte the same where the layout has no padding.

use std::{collections::BTreeMap, ops::Range};

use bytes::Bytes;
use membership_core::{
    cfg::CfgMessage,
    cmap::{self, ConfigVersion},
    cpg::{ChangeReason, Cpg, CpgMessage, Event, GroupName},
    pg::{Assembler, Group, Packet},
    service::ServiceMessage,
    srp::Phase,
    sync::{Progress, Sync, SyncMessage},
};
use quorate_types::{NodeId, RingId};

fn node(id: u32) -> NodeId {
    NodeId::new(id).expect("captured node ids are not 0")
}

fn lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split(' ').collect())
}

fn hex(text: &str) -> Bytes {
    let digit = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("data files hold hex");
    (0..text.len()).step_by(2).map(digit).collect()
}

/// Name -> (originator, group, message without group header).
fn messages() -> BTreeMap<&'static str, (NodeId, Group, Bytes)> {
    let entry = |fields: Vec<&'static str>| {
        let (group, message) = Group::split(hex(fields[2])).expect("a known group");
        (fields[0], (node(fields[1].parse().expect("a node id")), group, message))
    };
    lines(include_str!("data/pg-messages.txt")).map(entry).collect()
}

/// (originator, payload) in ring order.
fn packets(text: &'static str) -> Vec<(NodeId, Bytes)> {
    lines(text).map(|fields| (node(fields[1].parse().expect("a node id")), hex(fields[2]))).collect()
}

fn message(name: &str) -> Bytes {
    messages()[name].2.clone()
}

/// Equal outside of the padding of the header and of these ranges.
#[track_caller]
fn assert_same(name: &str, ours: &[u8], padding: &[Range<usize>]) {
    let mask = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        for range in padding.iter().chain([&(4..8), &(12..16)]) {
            bytes[range.clone()].fill(0);
        }
        bytes
    };
    assert_eq!(mask(ours), mask(&message(name)), "{name}");
}

fn cpg(name: &str) -> CpgMessage {
    let message = ServiceMessage::from_wire(message(name)).expect("a service message");
    assert_eq!(message.service, 2, "{name}");
    CpgMessage::from_wire(message.function, &message.bytes).expect("a cpg message")
}

fn group(name: &str) -> GroupName {
    GroupName::new(name).expect("a short name")
}

#[test]
fn every_captured_message_states_its_exact_size() {
    for (name, (_, kind, bytes)) in messages() {
        match kind {
            Group::Service => {
                let message = ServiceMessage::from_wire(bytes.clone()).expect(name);
                assert_eq!(message.bytes.len(), bytes.len(), "{name}");
            }
            Group::Sync => assert!(SyncMessage::from_wire(&bytes).is_ok(), "{name}"),
        }
    }
}

#[test]
fn synchronisation_messages_are_equal() {
    let ring = RingId { rep: 1, seq: 9 };
    let build = SyncMessage::ServiceBuild { ring, services: vec![0, 2, 3, 5] };
    assert_eq!(SyncMessage::from_wire(&message("service_build")), Ok(build.clone()));
    assert_same("service_build", &build.to_wire(), &[28..32, 36..40]);
    let barrier = SyncMessage::Barrier { ring };
    assert_eq!(SyncMessage::from_wire(&message("barrier")), Ok(barrier.clone()));
    assert_same("barrier", &barrier.to_wire(), &[]);
}

#[test]
fn config_versions_are_equal() {
    use cmap::Reason::{NewConfigVersion, Sync};
    for (name, reason, version) in [
        ("cmap_unset", Sync, None),
        ("cmap_sync", Sync, Some(7)),
        ("cmap_changed", NewConfigVersion, Some(8)),
    ] {
        let expected = ConfigVersion { reason, version };
        assert_eq!(ConfigVersion::from_wire(&message(name)), Ok(expected), "{name}");
        let padding = [17..24, 25..48, 50..56, 48 + 265..48 + 272];
        assert_same(name, &expected.to_wire(), &padding);
    }
}

#[test]
fn joins_and_leaves_are_equal() {
    let name = group("grpA");
    assert_same("procjoin", &CpgMessage::proc_join(&name, 20333), &[20..24, 28..152, 156..160, 164..168]);
    for (message, pid, reason) in
        [("procleave", 20333, ChangeReason::Leave), ("procleave_down", 20360, ChangeReason::ProcessDown)]
    {
        assert_eq!(cpg(message), CpgMessage::ProcLeave { group: name.clone(), pid, reason });
        let wire = CpgMessage::proc_leave(&name, pid, reason);
        assert_same(message, &wire, &[20..24, 28..152, 156..160, 164..168]);
    }
}

#[test]
fn lists_of_processes_and_of_lost_nodes_are_equal() {
    let processes = [(3259, group("grpL")), (3563, group("grpM"))];
    assert_eq!(cpg("joinlist_two"), CpgMessage::JoinList(processes.to_vec()));
    let names = [24, 168].map(|at| at + 20..at + 144);
    let padding = [20..24, 28..32, 172..176].into_iter().chain(names).collect::<Vec<_>>();
    assert_same("joinlist_two", &CpgMessage::join_list(&processes), &padding);
    for (name, old, left) in
        [("downlist_first", 0, vec![]), ("downlist_left", 3, vec![3]), ("downlist_two_left", 3, vec![1, 3])]
    {
        assert_eq!(cpg(name), CpgMessage::Downlist { old_members: old, left: left.clone() }, "{name}");
        let used = 32 + 4 * left.len();
        let wire = CpgMessage::downlist(old as usize, left.into_iter().map(node));
        assert_same(name, &wire, &[20..24, 28..32, used..1568]);
    }
}

#[test]
fn group_messages_are_equal() {
    for (name, length) in [("mcast_10", 10), ("mcast_100", 100)] {
        let wire = message(name);
        let payload: Bytes = (0..length).map(|i: usize| b'A' + ((i / 16 + i) % 26) as u8).collect();
        let expected = CpgMessage::Mcast { group: group("grpA"), pid: 20333, payload: payload.clone() };
        assert_eq!(cpg(name), expected);
        let header = CpgMessage::mcast_header(&group("grpA"), 20333, node(1), length);
        // 176: the sender's connection, opaque
        let padding = [20..24, 28..152, 156..160, 164..168, 172..184];
        assert_same(name, &[&header[..], &payload].concat(), &padding);
        assert_eq!(wire.len(), 184 + length);
    }
}

#[test]
fn administration_messages_are_equal() {
    let read = |name| {
        let message = ServiceMessage::from_wire(message(name)).expect("a service message");
        CfgMessage::from_wire(message.function, &message.bytes).expect("a cfg message")
    };
    let reason = "Killed by corosync-cfgtool".to_owned();
    let wire = CfgMessage::kill_node(node(3), &reason);
    assert_eq!(read("cfg_killnode"), CfgMessage::KillNode { node: 3, reason });
    assert_same("cfg_killnode", &wire, &[20..24, 26..32, 59..288]);
    assert_eq!(read("cfg_shutdown"), CfgMessage::Shutdown);
    assert_eq!(read("cfg_reload"), CfgMessage::ReloadConfig { source: 1 });
    assert_same("cfg_reload", &CfgMessage::reload_config(node(1)), &[20..24, 24..32]);
}

#[test]
fn a_round_of_two_corosync_nodes_completes() {
    // given the packets of a whole synchronisation between nodes 1 and 2
    let ring = RingId { rep: 1, seq: 9 };
    let (mut assembler, mut sync) = (Assembler::default(), Sync::default());
    sync.start(ring, &[node(1), node(2)], &[0, 2, 3, 5].into());
    let mut activated = Vec::new();
    let mut served = Vec::new();
    for (from, packet) in packets(include_str!("data/pg-ring-1.9.txt")) {
        assert_eq!(Packet::from_wire(&packet).map(|read| read.to_wire()), Ok(packet.clone()));
        // when they are read in ring order
        for assembled in assembler.accept(from, Phase::Transitional, &packet) {
            match Group::split(assembled.message).expect("a known group") {
                (Group::Sync, message) => {
                    if let Progress::Activate { service, last } = sync.accept(from, &message) {
                        activated.push((service, last));
                    }
                }
                (Group::Service, message) => {
                    served.push(ServiceMessage::from_wire(message).expect("a service message").service);
                }
            }
        }
    }
    // then every service was activated and every message was for one of them
    assert_eq!(activated, [(0, false), (2, false), (3, false), (5, true)]);
    assert_eq!((assembler.stats().malformed, assembler.stats().start_unknown), (0, 0));
    // two nodeinfos of each node, and the one that node 2 sent when it started
    assert_eq!(served.iter().filter(|service| **service == 5).count(), 5);
    assert_eq!(sync.stats().ignored, 0);
}

#[test]
fn a_message_of_three_fragments_reaches_its_group() {
    let mut assembler = Assembler::default();
    let mut cpg = Cpg::new(node(2));
    let mut deliver = |from: NodeId, message: Bytes| {
        cpg.accept(from, &ServiceMessage::from_wire(message).expect("a service message"), false)
    };
    deliver(node(1), message("procjoin"));
    let mut lengths = Vec::new();
    for (from, packet) in packets(include_str!("data/pg-mcast-3000.txt")) {
        for assembled in assembler.accept(from, Phase::Normal, &packet) {
            let (_, message) = Group::split(assembled.message).expect("a known group");
            if let Some(Event::Message { payload, .. }) = deliver(from, message) {
                lengths.push(payload.len());
            }
        }
    }
    assert_eq!(lengths, [10, 100, 3000]);
}
