//! Messages that a client library cut into parts: put together per process, within a limit.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use quorate_types::NodeId;

use super::{GroupName, Member, message::Part};

/// What the parts of one process may add up to, in bytes.
pub const PARTIAL_MAX: usize = 16 * 1024 * 1024;

/// Unfinished messages, at most one per process.
#[derive(Debug, Default)]
pub(super) struct Partials {
    open: BTreeMap<Member, Open>,
}

#[derive(Debug)]
struct Open {
    group: GroupName,
    total: usize,
    bytes: BytesMut,
    /// Nodes joined since the first part began.
    spans_change: bool,
}

/// What became of a part.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Accepted {
    /// More parts are needed.
    Waiting,
    /// The message is whole.
    Complete {
        /// Its bytes.
        payload: Bytes,
        /// Nodes joined since its first part began.
        spans_change: bool,
    },
    /// The part belongs to no open message, or the message broke a limit.
    Dropped,
}

impl Partials {
    /// Takes one part of a message of `total` bytes.
    pub(super) fn accept(
        &mut self,
        from: Member,
        group: &GroupName,
        (part, total): (Part, u32),
        payload: &[u8],
        spans_change: bool,
    ) -> Accepted {
        let total = total as usize;
        if part == Part::First {
            self.open.remove(&from);
            if total <= PARTIAL_MAX {
                self.open
                    .insert(from, Open { group: group.clone(), total, bytes: BytesMut::new(), spans_change });
            }
        }
        let Some(open) = self.open.get_mut(&from) else {
            return Accepted::Dropped;
        };
        let fits = open.group == *group && open.total == total && open.bytes.len() + payload.len() <= total;
        open.spans_change |= spans_change;
        if fits {
            open.bytes.extend_from_slice(payload);
        }
        let is_whole = fits && open.bytes.len() == total;
        match part {
            Part::First | Part::Continued if fits => Accepted::Waiting,
            Part::Last if is_whole => {
                let open = self.open.remove(&from).expect("it was just looked at");
                Accepted::Complete { payload: open.bytes.freeze(), spans_change: open.spans_change }
            }
            _ => {
                self.open.remove(&from);
                Accepted::Dropped
            }
        }
    }

    /// Nodes joined: what has begun is incomplete for them.
    pub(super) fn nodes_joined(&mut self) {
        self.open.values_mut().for_each(|open| open.spans_change = true);
    }

    /// A process left: what it had begun is void.
    pub(super) fn forget(&mut self, process: Member) {
        self.open.remove(&process);
    }

    /// Nodes left: what their processes had begun is void.
    pub(super) fn forget_nodes(&mut self, gone: impl Fn(NodeId) -> bool) {
        self.open.retain(|process, _| !gone(process.node));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32) -> Member {
        Member { node: NodeId::new(1).unwrap(), pid }
    }

    fn accept(partials: &mut Partials, pid: u32, part: (Part, u32), payload: &[u8]) -> Accepted {
        partials.accept(process(pid), &GroupName::new("g").unwrap(), part, payload, false)
    }

    #[test]
    fn parts_of_two_processes_do_not_mix() {
        let mut partials = Partials::default();
        accept(&mut partials, 1, (Part::First, 6), b"ab");
        accept(&mut partials, 2, (Part::First, 2), b"x");
        assert_eq!(accept(&mut partials, 1, (Part::Continued, 6), b"cd"), Accepted::Waiting);
        let complete = |payload: &'static str, spans_change| {
            let payload = Bytes::from_static(payload.as_bytes());
            Accepted::Complete { payload, spans_change }
        };
        assert_eq!(accept(&mut partials, 2, (Part::Last, 2), b"y"), complete("xy", false));
        partials.nodes_joined();
        assert_eq!(accept(&mut partials, 1, (Part::Last, 6), b"ef"), complete("abcdef", true));
    }

    #[test]
    fn a_part_without_a_beginning_is_dropped() {
        let mut partials = Partials::default();
        assert_eq!(accept(&mut partials, 1, (Part::Continued, 6), b"cd"), Accepted::Dropped);
        accept(&mut partials, 1, (Part::First, 2), b"x");
        partials.forget(process(1));
        assert_eq!(accept(&mut partials, 1, (Part::Last, 2), b"y"), Accepted::Dropped);
    }

    #[test]
    fn more_or_fewer_bytes_than_announced_are_dropped() {
        let mut partials = Partials::default();
        accept(&mut partials, 1, (Part::First, 3), b"ab");
        assert_eq!(accept(&mut partials, 1, (Part::Last, 3), b"cd"), Accepted::Dropped);
        accept(&mut partials, 1, (Part::First, 4), b"ab");
        assert_eq!(accept(&mut partials, 1, (Part::Last, 4), b"c"), Accepted::Dropped);
    }

    #[test]
    fn a_message_above_the_limit_is_dropped_at_its_first_part() {
        let mut partials = Partials::default();
        let total = PARTIAL_MAX as u32 + 1;
        assert_eq!(accept(&mut partials, 1, (Part::First, total), b"ab"), Accepted::Dropped);
        assert!(partials.open.is_empty());
    }
}
