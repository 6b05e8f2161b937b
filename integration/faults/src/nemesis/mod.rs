//! What goes wrong: drawn from a seed, done to processes, networks and disks, and undone.
//!
//! Not among it: jumps of the clock. Time namespaces shift only the monotonic clock and not while a process runs, and
//! setting the machine's clock would be felt by everything else on it. Nothing in the tree is ordered or judged by
//! the clock of the day: it stamps files, and no more.

mod strike;

use std::{fmt, time::Duration};

use rand::{Rng as _, SeedableRng as _, seq::IndexedRandom as _, seq::SliceRandom as _};
use rand_chacha::ChaCha8Rng;

pub use strike::Struck;

/// One thing that goes wrong. Nodes are counted from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL of one daemon; its supervisor starts it again.
    KillDaemon(usize, &'static str),
    /// SIGKILL of some nodes at once; started again when it is undone.
    KillNodes(Vec<usize>),
    /// An orderly stop of a node, and its start.
    Restart(usize),
    /// SIGSTOP of one daemon; its supervisor may kill it before it goes on.
    PauseDaemon(usize, &'static str),
    /// SIGSTOP of all processes of a node, as of a virtual machine that is paused.
    PauseNode(usize),
    /// Two parts that do not hear each other: the nodes that are named, and the others.
    Partition(Vec<usize>),
    /// So many per cent of all packets of the ring are lost on arrival, everywhere.
    Loss(u32),
    /// Nobody hears a node, which hears the others: what it sends with its last token, it alone delivers.
    Mute(usize),
    /// A node hears nobody, and is heard.
    Deaf(usize),
    /// The disk of a node's store is full.
    DiskFull(usize),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |node: &usize| format!("hp{}", node + 1);
        let names = |nodes: &[usize]| nodes.iter().map(name).collect::<Vec<_>>().join(",");
        match self {
            Self::KillDaemon(node, daemon) => write!(f, "kill {daemon} of {}", name(node)),
            Self::KillNodes(nodes) => write!(f, "kill {}", names(nodes)),
            Self::Restart(node) => write!(f, "stop {} in order", name(node)),
            Self::PauseDaemon(node, daemon) => write!(f, "pause {daemon} of {}", name(node)),
            Self::PauseNode(node) => write!(f, "pause {}", name(node)),
            Self::Partition(nodes) => write!(f, "cut off {}", names(nodes)),
            Self::Loss(per_cent) => write!(f, "lose {per_cent} % of all packets"),
            Self::Mute(node) => write!(f, "nobody hears {}", name(node)),
            Self::Deaf(node) => write!(f, "{} hears nobody", name(node)),
            Self::DiskFull(node) => write!(f, "the disk of {} is full", name(node)),
        }
    }
}

/// Faults at one time, and the time after them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What goes wrong: at most one fault of processes and one of the surroundings.
    pub faults: Vec<Fault>,
    /// For how long.
    pub lasts: Duration,
    /// How long nothing goes wrong afterwards.
    pub rest: Duration,
}

/// The nemesis of a seed: an endless sequence of steps.
#[derive(Debug, Clone)]
pub struct Nemesis {
    random: ChaCha8Rng,
    nodes: usize,
}

impl Nemesis {
    /// For so many nodes.
    #[must_use]
    pub fn new(seed: u64, nodes: u8) -> Self {
        Self { random: ChaCha8Rng::seed_from_u64(seed), nodes: usize::from(nodes) }
    }

    /// The next step.
    pub fn step(&mut self) -> Step {
        let faults = match self.random.random_range(0..10) {
            0..=3 => vec![self.of_processes()],
            4..=7 => vec![self.of_surroundings()],
            _ => vec![self.of_surroundings(), self.of_processes()],
        };
        // Around the timeouts of ring and supervisor, where it hurts most.
        let longest = *[300, 1500, 4000, 12_000].choose(&mut self.random).unwrap_or(&1500);
        let lasts = Duration::from_millis(self.random.random_range(50..longest));
        let longest = *[1000, 3000, 9000].choose(&mut self.random).unwrap_or(&3000);
        let rest = Duration::from_millis(self.random.random_range(300..longest));
        Step { faults, lasts, rest }
    }

    fn node(&mut self) -> usize {
        self.random.random_range(0..self.nodes)
    }

    /// At least one node, and not all.
    fn some(&mut self) -> Vec<usize> {
        let mut nodes: Vec<usize> = (0..self.nodes).collect();
        nodes.shuffle(&mut self.random);
        nodes.truncate(self.random.random_range(1..self.nodes.max(2)));
        nodes.sort_unstable();
        nodes
    }

    fn daemon(&mut self) -> &'static str {
        let often = ["configd", "configd", "membershipd", "membershipd", "quorumd", "gatewayd"];
        often.choose(&mut self.random).copied().unwrap_or("configd")
    }

    fn of_processes(&mut self) -> Fault {
        match self.random.random_range(0..10) {
            0..=2 => Fault::KillDaemon(self.node(), self.daemon()),
            3..=4 => Fault::KillNodes(self.some()),
            5 => Fault::KillNodes((0..self.nodes).collect()),
            6 => Fault::Restart(self.node()),
            7 => Fault::PauseDaemon(self.node(), self.daemon()),
            _ => Fault::PauseNode(self.node()),
        }
    }

    fn of_surroundings(&mut self) -> Fault {
        match self.random.random_range(0..10) {
            0..=2 => Fault::Partition(self.some()),
            3..=4 => Fault::Loss(*[1, 5, 15, 30].choose(&mut self.random).unwrap_or(&5)),
            5..=7 => Fault::Mute(self.node()),
            8 => Fault::Deaf(self.node()),
            _ => Fault::DiskFull(self.node()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn steps(seed: u64) -> Vec<Step> {
        let mut nemesis = Nemesis::new(seed, 3);
        (0..300).map(|_| nemesis.step()).collect()
    }

    #[test]
    fn a_seed_gives_one_sequence_and_another_seed_another() {
        assert_eq!(steps(1), steps(1));
        assert_ne!(steps(1), steps(2));
    }

    #[test]
    fn every_kind_of_fault_turns_up_and_no_partition_is_empty() {
        let faults: Vec<Fault> = steps(1).into_iter().flat_map(|step| step.faults).collect();
        let kinds: BTreeSet<String> = faults
            .iter()
            .map(|fault| format!("{fault:?}").split('(').next().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(kinds.len(), 10, "{kinds:?}");
        for fault in faults {
            if let Fault::Partition(nodes) = fault {
                assert!((1..3).contains(&nodes.len()));
            }
        }
    }
}
