//! What the users of the cluster do: a plan drawn from the seed before the run begins.

use std::{fmt, time::Duration};

use quorate_types::NodeId;

use crate::{
    event::SimTime,
    history::{MessageId, Probe, WriteId},
    rng::{MILLION, Rng},
};

/// Names that several writes fight for.
const SHARED_FILES: u64 = 4;

/// One thing that a user does at a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// The probe multicasts a message of so many bytes.
    Multicast {
        /// Which probe.
        probe: Probe,
        /// The message's number.
        message: MessageId,
        /// Payload in bytes.
        size: usize,
    },
    /// A write to the store.
    Write {
        /// The write's number, and its identity across attempts.
        write: WriteId,
        /// Which attempt this is, from 0.
        attempt: u32,
        /// What is written.
        change: Change,
    },
    /// A linearizable read of the store.
    Read {
        /// The read's number.
        read: u64,
    },
}

/// What a write does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    /// A new file of its own, that nobody else touches: it must be there for ever once acknowledged.
    Own {
        /// Content in bytes.
        size: usize,
    },
    /// Several such files in one transaction, which may depend on a file that others make and delete.
    Together {
        /// How many.
        files: u64,
        /// Content of each in bytes.
        size: usize,
        /// The transaction is refused, at its end, unless this shared file is there.
        needs: Option<u64>,
    },
    /// The content of a file that others write too.
    Shared {
        /// Which.
        file: u64,
        /// Content in bytes.
        size: usize,
    },
    /// Deletes such a file.
    Delete {
        /// Which.
        file: u64,
    },
    /// Renames such a file over another.
    Rename {
        /// Which.
        from: u64,
        /// To which.
        to: u64,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Multicast { probe, message, size } => {
                write!(f, "{probe:?} probe is to send #{message}, {size} bytes")
            }
            Self::Write { write, attempt, change } => write!(f, "write {write}.{attempt}: {change:?}"),
            Self::Read { read } => write!(f, "read {read}"),
        }
    }
}

/// What is done, in the order of time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Workload {
    /// Each with its time and its node.
    pub actions: Vec<(SimTime, NodeId, Action)>,
}

/// How much is done: drawn from the seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Mean time between two bursts of messages.
    pub message_interval: Duration,
    /// Most messages of one burst.
    pub burst_max: u64,
    /// Chance, in parts per million, that a message is longer than a packet.
    pub long_messages: u32,
    /// Mean time between two writes.
    pub write_interval: Duration,
    /// Chance, in parts per million, that a write is longer than a packet.
    pub long_writes: u32,
}

impl Load {
    /// The load of a seed.
    #[must_use]
    pub fn generate(rng: &mut Rng) -> Self {
        Self {
            message_interval: rng.span(Duration::from_millis(200), Duration::from_secs(10)),
            burst_max: *rng.pick(&[1, 5, 20, 100]),
            long_messages: *rng.pick(&[0, MILLION / 50, MILLION / 5]),
            write_interval: Duration::from_millis(*rng.pick(&[50, 300, 1000, 3000, 10_000])),
            long_writes: *rng.pick(&[0, MILLION / 100, MILLION / 20]),
        }
    }
}

impl Workload {
    /// Draws the actions between `begin` and `end`. Numbers of messages and writes start at 1 and grow with
    /// time.
    #[must_use]
    pub fn generate(rng: &mut Rng, load: Load, nodes: &[NodeId], begin: SimTime, end: SimTime) -> Self {
        let mut actions = Vec::new();
        let mut at = begin;
        loop {
            at += rng.span(Duration::from_millis(1), load.message_interval * 2);
            if at >= end {
                break;
            }
            burst(rng, load, nodes, at, &mut actions);
        }
        let mut at = begin;
        loop {
            at += rng.span(Duration::from_millis(1), load.write_interval * 2);
            if at >= end {
                break;
            }
            let together = *rng.pick(&[1, 1, 1, 1, 1, 1, 1, 5, 5, 30]);
            let (one, everywhere) = (*rng.pick(nodes), rng.chance(MILLION / 2));
            for _ in 0..rng.between(1, together) {
                let action = if rng.chance(MILLION / 5) {
                    Action::Read { read: 0 }
                } else {
                    Action::Write { write: 0, attempt: 0, change: change(rng, load) }
                };
                let node = if everywhere { *rng.pick(nodes) } else { one };
                actions.push((at, node, action));
            }
        }
        actions.sort_by_key(|(at, ..)| *at);
        number(&mut actions);
        Self { actions }
    }
}

fn burst(
    rng: &mut Rng,
    load: Load,
    nodes: &[NodeId],
    at: SimTime,
    actions: &mut Vec<(SimTime, NodeId, Action)>,
) {
    let node = *rng.pick(nodes);
    let probe = *rng.pick(&Probe::ALL);
    for _ in 0..rng.between(1, load.burst_max) {
        let sender = if rng.chance(MILLION / 4) { *rng.pick(nodes) } else { node };
        let size = if rng.chance(load.long_messages) {
            let most = *rng.pick(&[3000, 10_000, 100_000]);
            rng.between(1000, most)
        } else {
            rng.between(24, 400)
        };
        actions.push((at, sender, Action::Multicast { probe, message: 0, size: size as usize }));
    }
}

fn change(rng: &mut Rng, load: Load) -> Change {
    let most = if rng.chance(load.long_writes) { *rng.pick(&[3000, 20_000, 200_000]) } else { 300 };
    let size = rng.between(1, most) as usize;
    match rng.below(10) {
        0..=3 => Change::Own { size },
        4..=5 => {
            let number = size as u64;
            let needs = (number.is_multiple_of(2)).then_some(number / 2 % SHARED_FILES);
            Change::Together { files: 2 + number % 4, size, needs }
        }
        6..=7 => Change::Shared { file: rng.below(SHARED_FILES), size },
        8 => Change::Delete { file: rng.below(SHARED_FILES) },
        _ => Change::Rename { from: rng.below(SHARED_FILES), to: rng.below(SHARED_FILES) },
    }
}

fn number(actions: &mut [(SimTime, NodeId, Action)]) {
    let (mut messages, mut writes, mut reads) = (0, 0, 0);
    for (_, _, action) in actions {
        match action {
            Action::Multicast { message, .. } => {
                messages += 1;
                *message = messages;
            }
            Action::Write { write, .. } => {
                writes += 1;
                *write = writes;
            }
            Action::Read { read } => {
                reads += 1;
                *read = reads;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(seed: u64) -> Workload {
        let mut rng = Rng::new(seed);
        let load = Load::generate(&mut rng);
        let nodes: Vec<NodeId> = (1..=3).map(|id| NodeId::new(id).unwrap()).collect();
        Workload::generate(&mut rng, load, &nodes, SimTime::from_secs(5), SimTime::from_secs(60))
    }

    #[test]
    fn a_seed_gives_one_workload_numbered_in_the_order_of_time() {
        for seed in 0..20 {
            let one = workload(seed);
            assert_eq!(one, workload(seed));
            assert!(one.actions.is_sorted_by_key(|(at, ..)| *at));
            let messages = one.actions.iter().filter_map(|(_, _, action)| match action {
                Action::Multicast { message, .. } => Some(*message),
                _ => None,
            });
            assert!(messages.enumerate().all(|(index, message)| message == index as u64 + 1));
        }
    }
}
