//! Synchronisation after a configuration change: all members agree on a list of services, then go
//! through it service by service, with a barrier after each.
//!
//! Without time-outs: a member that sends no barrier holds up everybody, so a node must always
//! send its own. Because messages are totally ordered, no numbering of barriers is needed.
//!
//! Source: corosync services, section 2; corosync `sync.c`.

mod message;

use std::{
    collections::BTreeSet,
    ops::Bound::{Excluded, Unbounded},
};

use bytes::Bytes;
use quorate_types::{NodeId, RingId};

pub use message::{BUILD_SERVICES_MAX, SyncMessage};

/// The synchronisation of one node.
#[derive(Debug, Default)]
pub struct Sync {
    round: Option<Round>,
    stats: SyncStats,
}

/// Counters of the synchronisation.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct SyncStats {
    /// Rounds begun.
    pub started: u64,
    /// Rounds completed.
    pub completed: u64,
    /// Rounds given up because the configuration changed again.
    pub aborted: u64,
    /// Messages that did not decode.
    pub malformed: u64,
    /// Messages of another ring, of a stranger or out of place.
    pub ignored: u64,
}

/// One round, on one ring.
#[derive(Debug)]
struct Round {
    ring: RingId,
    members: BTreeSet<NodeId>,
    /// Union of what all members synchronise, ascending.
    services: BTreeSet<i32>,
    /// Members whose service list, or barrier of the current service, has arrived.
    marked: BTreeSet<NodeId>,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Service lists are collected.
    Build,
    /// This service's process step is due.
    Process(i32),
    /// This service's barrier is sent; those of others may be missing.
    Barrier(i32),
}

/// What a message brought about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Nothing to do above.
    None,
    /// All members have finished this service: activate it.
    Activate {
        /// The service.
        service: i32,
        /// It was the last one: the synchronisation is complete.
        last: bool,
    },
}

impl Sync {
    /// Begins a round on a new configuration; an unfinished one is given up. Returns the service
    /// list to multicast.
    pub fn start(&mut self, ring: RingId, members: &[NodeId], own: &BTreeSet<u16>) -> Bytes {
        self.abort();
        self.stats.started += 1;
        let services: Vec<i32> = own.iter().copied().map(i32::from).collect();
        self.round = Some(Round {
            ring,
            members: members.iter().copied().collect(),
            services: services.iter().copied().collect(),
            marked: BTreeSet::new(),
            stage: Stage::Build,
        });
        SyncMessage::ServiceBuild { ring, services }.to_wire()
    }

    /// Gives up: what is still on its way is ignored from now on. True when a round was running.
    pub fn abort(&mut self) -> bool {
        let running = self.round.take().is_some();
        self.stats.aborted += u64::from(running);
        running
    }

    /// Takes a message of the group "sync", in ring order.
    pub fn accept(&mut self, from: NodeId, bytes: &[u8]) -> Progress {
        let Ok(message) = SyncMessage::from_wire(bytes) else {
            self.stats.malformed += 1;
            return Progress::None;
        };
        let Some(round) = self.round.as_mut().filter(|round| round.awaits(from, &message)) else {
            self.stats.ignored += 1;
            return Progress::None;
        };
        if let SyncMessage::ServiceBuild { services, .. } = message {
            round.services.extend(services);
        }
        if !round.mark(from) {
            return Progress::None;
        }
        match round.stage {
            Stage::Build => {
                round.next_service();
                Progress::None
            }
            Stage::Process(service) | Stage::Barrier(service) => {
                let last = !round.next_service();
                if last {
                    self.round = None;
                    self.stats.completed += 1;
                }
                Progress::Activate { service, last }
            }
        }
    }

    /// The service whose process step is due at this token.
    #[must_use]
    pub fn step_due(&self) -> Option<i32> {
        match self.round.as_ref()?.stage {
            Stage::Process(service) => Some(service),
            Stage::Build | Stage::Barrier(_) => None,
        }
    }

    /// The process step is done; returns the barrier to multicast after the service's messages.
    ///
    /// # Panics
    /// When no step is due.
    pub fn step_done(&mut self) -> Bytes {
        let service = self.step_due().expect("a step that was done was due");
        let round = self.round.as_mut().expect("a due step belongs to a round");
        round.stage = Stage::Barrier(service);
        SyncMessage::Barrier { ring: round.ring }.to_wire()
    }

    /// Whether a round is running.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.round.is_some()
    }

    /// The service at work and the members that are waited for, for status pages.
    #[must_use]
    pub fn progress(&self) -> Option<(Option<i32>, Vec<NodeId>)> {
        let round = self.round.as_ref()?;
        let missing = round.members.difference(&round.marked).copied().collect();
        let service = match round.stage {
            Stage::Build => None,
            Stage::Process(service) | Stage::Barrier(service) => Some(service),
        };
        Some((service, missing))
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> SyncStats {
        self.stats
    }
}

impl Round {
    fn awaits(&self, from: NodeId, message: &SyncMessage) -> bool {
        let fits_stage = match message {
            SyncMessage::ServiceBuild { .. } => self.stage == Stage::Build,
            SyncMessage::Barrier { .. } => self.stage != Stage::Build,
        };
        fits_stage && message.ring() == self.ring && self.members.contains(&from)
    }

    /// Marks a member; true when all are marked.
    fn mark(&mut self, from: NodeId) -> bool {
        self.marked.insert(from);
        self.marked.len() == self.members.len()
    }

    /// Goes to the next service of the list; false when there is none.
    fn next_service(&mut self) -> bool {
        self.marked.clear();
        let next = match self.stage {
            Stage::Build => self.services.first().copied(),
            Stage::Process(done) | Stage::Barrier(done) => {
                self.services.range((Excluded(done), Unbounded)).next().copied()
            }
        };
        if let Some(service) = next {
            self.stage = Stage::Process(service);
        }
        next.is_some()
    }
}

#[cfg(test)]
mod tests;
