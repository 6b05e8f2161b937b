//! A message of a process group survives being written, and a node's groups hold no node that is no member.

use std::collections::BTreeSet;

use bytes::Bytes;
use membership_core::{
    cpg::{ChangeReason, Cpg, CpgMessage},
    service::ServiceMessage,
};
use quorate_types::NodeId;

use crate::{feed::Feed, heap};

/// See the module.
pub fn check(input: &[u8]) {
    heap::within(1 << 20 | 64 * input.len(), || {
        for function in 0..8 {
            message(function, &Bytes::copy_from_slice(input));
        }
        sequence(Feed(input));
    });
}

fn message(function: u16, bytes: &Bytes) {
    let Ok(message) = CpgMessage::from_wire(function, bytes) else { return };
    let me = NodeId::new(1).expect("not 0");
    let again = match &message {
        CpgMessage::ProcJoin { group, pid, reason: ChangeReason::Join } => CpgMessage::proc_join(group, *pid),
        CpgMessage::ProcLeave { group, pid, reason } => CpgMessage::proc_leave(group, *pid, *reason),
        CpgMessage::JoinList(processes) => CpgMessage::join_list(processes),
        CpgMessage::Mcast { group, pid, payload } => {
            let head = CpgMessage::mcast_header(group, *pid, me, payload.len());
            [&head[..], payload].concat().into()
        }
        CpgMessage::PartialMcast { group, pid, total, part, payload } => {
            let sizes = (*part, payload.len(), *total as usize);
            let head = CpgMessage::partial_header(group, *pid, me, sizes);
            [&head[..], payload].concat().into()
        }
        CpgMessage::Downlist { old_members, left } => {
            let nodes: Vec<_> = left.iter().filter_map(|node| NodeId::new(*node).ok()).collect();
            if nodes.len() != left.len() {
                return;
            }
            CpgMessage::downlist(*old_members as usize, nodes.into_iter())
        }
        CpgMessage::ProcJoin { .. } | CpgMessage::Ignored => return,
    };
    assert_eq!(CpgMessage::from_wire(function, &again), Ok(message));
}

fn sequence(mut feed: Feed<'_>) {
    let mut cpg = Cpg::new(NodeId::new(1).expect("not 0"));
    let mut members: Vec<NodeId> = Vec::new();
    while !feed.is_empty() {
        let op = feed.byte();
        match op % 16 {
            0 => {
                let bits = feed.byte() | 1;
                members =
                    (0..4).filter(|n| bits >> n & 1 == 1).filter_map(|n| NodeId::new(n + 1).ok()).collect();
                let transitional: BTreeSet<_> =
                    members.iter().copied().filter(|n| bits >> 4 & n.get() as u8 == 0).collect();
                cpg.start_sync(&transitional, &members);
                assert!(!cpg.sync_messages().is_empty());
            }
            1 => {
                cpg.activate();
                let nodes =
                    cpg.table().groups().flat_map(|(_, of_group)| of_group.iter().map(|member| member.node));
                let strangers = nodes.filter(|node| !members.contains(node)).count();
                assert!(strangers == 0 || members.is_empty());
            }
            2 => cpg.abort_sync(),
            3 => cpg.nodes_joined(),
            _ => {
                let from = feed.node(4);
                let payload = feed.piece();
                if let Ok(message) = ServiceMessage::from_wire(payload) {
                    cpg.accept(from, &message, op & 128 != 0);
                }
            }
        }
    }
}
