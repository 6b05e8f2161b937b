//! What an external service missed: its messages since the last synchronisation began, so that
//! a service that attaches late sees the same as one that was there.
//!
//! Compacted by what votequorum's messages mean: a later node record replaces an earlier one. Kept
//! in the order of the ring. Source of the layouts: corosync services, sections 3.1 and 3.2.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_types::NodeId;

use crate::service::{ServiceMessage, VOTEQUORUM, read_u32, u8_at};

/// Messages kept at most; beyond it the oldest goes.
const MESSAGES_MAX: usize = 4096;
/// Longer messages are not kept, in bytes. votequorum's longest has 528.
const MESSAGE_MAX: usize = 1024;

const FUNCTION_NODEINFO: u16 = 0;
const FUNCTION_RECONFIGURE: u16 = 1;

/// Messages of external services on the present ring, compacted.
#[derive(Debug, Default)]
pub(super) struct ReplayLog {
    /// Where the last message of each kind is.
    latest: BTreeMap<(u16, Kind), u64>,
    messages: BTreeMap<u64, Logged>,
    next: u64,
}

#[derive(Debug)]
struct Logged {
    key: (u16, Kind),
    from: NodeId,
    message: Bytes,
}

/// Messages of the same kind replace each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// What a sender says about a node.
    NodeInfo { from: NodeId, node: u32 },
    /// A parameter of a node, whoever set it.
    Reconfigure { node: u32, param: u8 },
    /// The last call of another function.
    Other { from: NodeId, function: u16 },
}

impl ReplayLog {
    /// Notes a message, in ring order.
    pub(super) fn note(&mut self, from: NodeId, message: &ServiceMessage) {
        if message.bytes.len() > MESSAGE_MAX {
            return;
        }
        let key = (message.service, kind(from, message));
        if let Some(before) = self.latest.insert(key, self.next) {
            self.messages.remove(&before);
        }
        self.messages.insert(self.next, Logged { key, from, message: message.bytes.clone() });
        self.next += 1;
        if self.messages.len() > MESSAGES_MAX
            && let Some((_, oldest)) = self.messages.pop_first()
        {
            self.latest.remove(&oldest.key);
        }
    }

    /// The messages of a service, in ring order.
    pub(super) fn of_service(&self, service: u16) -> impl Iterator<Item = (NodeId, Bytes)> {
        let logged = self.messages.values().filter(move |logged| logged.key.0 == service);
        logged.map(|logged| (logged.from, logged.message.clone()))
    }

    /// A new synchronisation begins: all members say everything again.
    pub(super) fn clear(&mut self) {
        self.latest.clear();
        self.messages.clear();
    }
}

fn kind(from: NodeId, message: &ServiceMessage) -> Kind {
    let function = message.function;
    let node = read_u32(&message.bytes, 16).ok().filter(|_| message.service == VOTEQUORUM);
    let param = u8_at(&message.bytes, 24);
    match (function, node, param) {
        (FUNCTION_NODEINFO, Some(node), _) => Kind::NodeInfo { from, node },
        (FUNCTION_RECONFIGURE, Some(node), Some(param)) => Kind::Reconfigure { node, param },
        _ => Kind::Other { from, function },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service;

    fn node(id: u32) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn message(function: u16, about: u32, value: u32) -> ServiceMessage {
        let mut bytes = service::message(service::id(VOTEQUORUM, function), 32, 32);
        service::put_u32(&mut bytes, 16, about);
        service::put_u32(&mut bytes, 20, value);
        ServiceMessage { service: VOTEQUORUM, function, bytes: bytes.into() }
    }

    fn kept(log: &ReplayLog) -> Vec<(u32, Bytes)> {
        log.of_service(VOTEQUORUM).map(|(from, message)| (from.get(), message)).collect()
    }

    #[test]
    fn a_later_record_replaces_the_earlier_and_takes_its_later_place() {
        let mut log = ReplayLog::default();
        let (old, new) = (message(FUNCTION_NODEINFO, 1, 1), message(FUNCTION_NODEINFO, 1, 2));
        let device = message(FUNCTION_NODEINFO, 0, 0);
        let other = message(FUNCTION_NODEINFO, 2, 1);
        for (from, message) in [(1, &old), (1, &device), (2, &other), (1, &new)] {
            log.note(node(from), message);
        }
        assert_eq!(kept(&log), [(1, device.bytes), (2, other.bytes), (1, new.bytes)]);
    }

    #[test]
    fn a_parameter_is_kept_once_whoever_set_it() {
        let mut log = ReplayLog::default();
        let (old, new) = (message(FUNCTION_RECONFIGURE, 2, 1), message(FUNCTION_RECONFIGURE, 2, 3));
        log.note(node(1), &old);
        log.note(node(3), &new);
        assert_eq!(kept(&log), [(3, new.bytes)]);
    }

    #[test]
    fn it_is_bounded() {
        let mut log = ReplayLog::default();
        for about in 0..5000 {
            log.note(node(1), &message(FUNCTION_NODEINFO, about, 1));
        }
        assert_eq!((log.messages.len(), log.latest.len()), (MESSAGES_MAX, MESSAGES_MAX));
        assert_eq!(kept(&log)[0].1, message(FUNCTION_NODEINFO, 904, 1).bytes);
    }
}
