//! One node: three processes and what their disks hold.

use std::{collections::BTreeMap, time::Instant};

use bytes::Bytes;
use config_store_core::{Batch, Image, LoadError, Loader, Space, State};
use membership_core::stack::StackConfig;
use quorate_types::NodeId;

use super::is_installed;
use crate::{
    checker::NodeState,
    daemon::{ConfigDaemon, Core, DiskWrite, MembershipDaemon, QuorumDaemon, position},
    disk::Disk,
    fault::Daemon,
    history::Event,
    mutation::Mutation,
    process::Process,
    rng::Rng,
    setup::Setup,
};

/// A node.
#[derive(Debug)]
pub(super) struct Machine {
    processes: [Process; 3],
    ring_seq: u64,
    tracking: Option<u32>,
    store: BTreeMap<(Space, Bytes), Bytes>,
    mutation: Option<Mutation>,
}

impl Machine {
    /// A node that was just installed: empty disks, nothing runs.
    pub(super) fn new(mut rng: Rng, setup: &Setup) -> Self {
        let processes =
            Daemon::ALL.map(|daemon| Process::new(Disk::new(rng.fork(daemon as u64), setup.disk)));
        let (ring_seq, mutation) = (setup.ring_seq, setup.mutation);
        Self { processes, ring_seq, tracking: None, store: BTreeMap::new(), mutation }
    }

    pub(super) fn process(&self, daemon: Daemon) -> &Process {
        &self.processes[daemon as usize]
    }

    pub(super) fn process_mut(&mut self, daemon: Daemon) -> &mut Process {
        &mut self.processes[daemon as usize]
    }

    /// Starts a daemon with what its disk holds; says why if it cannot.
    pub(super) fn start(
        &mut self,
        now: Instant,
        node: NodeId,
        daemon: Daemon,
        setup: &Setup,
        mut rng: Rng,
    ) -> Result<Event, LoadError> {
        let mutation = setup.mutation;
        let life = self.process_mut(daemon).next_life();
        let (core, event) = match daemon {
            Daemon::Membership => {
                let reuse = mutation == Some(Mutation::ReuseRingSeq);
                let ring_seq = if reuse { 0 } else { self.ring_seq };
                let config = StackConfig {
                    me: node,
                    members: setup.nodes().into_iter().collect(),
                    params: setup.params.clone(),
                    config_version: 1,
                    feature_level: setup.level(node),
                    seed: rng.next_u64(),
                };
                let daemon = MembershipDaemon::start(now, config, ring_seq, mutation, rng);
                let started = Event::MembershipStarted { ring_seq: self.ring_seq, level: setup.level(node) };
                (Core::Membership(Box::new(daemon)), started)
            }
            Daemon::Quorum => {
                let daemon = QuorumDaemon::start(node, &setup.votes, setup.quorum, self.tracking, mutation);
                (Core::Quorum(Box::new(daemon)), Event::QuorumStarted)
            }
            Daemon::Config => {
                let incarnation = u64::from(life);
                let daemon = ConfigDaemon::start(node, incarnation, self.load()?, mutation, rng);
                let started = Event::StoreStarted(position(daemon.replica()));
                (Core::Config(Box::new(daemon)), started)
            }
        };
        self.process_mut(daemon).start(core);
        Ok(event)
    }

    /// The ring-sequence file is damaged: membershipd takes that for 0.
    pub(super) fn lose_ring_seq(&mut self) {
        self.ring_seq = 0;
    }

    /// The store is empty: a new disk.
    pub(super) fn wipe_store(&mut self) {
        self.store.clear();
    }

    fn load(&self) -> Result<Image, LoadError> {
        let mut loader = Loader::new();
        for ((space, key), value) in &self.store {
            loader.add(*space, key, value.clone())?;
        }
        loader.finish()
    }

    fn store(&mut self, batch: &Batch) {
        for write in &batch.writes {
            let key = (write.space, write.key.clone());
            match &write.value {
                Some(value) => drop(self.store.insert(key, value.clone())),
                None if self.mutation == Some(Mutation::KeepRemoved) => {}
                None => drop(self.store.remove(&key)),
            }
        }
    }

    /// A daemon is gone; a random part of what it had not synced survives.
    pub(super) fn stop(&mut self, daemon: Daemon) -> Vec<Event> {
        let process = self.process_mut(daemon);
        process.stop();
        let mut survivors = process.disk.crash();
        if self.mutation == Some(Mutation::TearBatch)
            && let Some(DiskWrite::Store(batch, _)) = survivors.last_mut()
        {
            batch.writes.truncate(batch.writes.len() / 2);
        }
        let mut events: Vec<Event> = survivors.iter().filter_map(|write| self.apply(write)).collect();
        events.push(match daemon {
            Daemon::Membership => Event::MembershipStopped,
            Daemon::Quorum => Event::QuorumStopped,
            Daemon::Config => Event::StoreStopped,
        });
        events
    }

    /// A write is durable.
    pub(super) fn apply(&mut self, write: &DiskWrite) -> Option<Event> {
        match write {
            DiskWrite::RingSeq(seq) => {
                self.ring_seq = *seq;
                Some(Event::RingSeqDurable(*seq))
            }
            DiskWrite::Tracking(votes) => {
                self.tracking = Some(*votes);
                None
            }
            DiskWrite::Store(batch, position) => {
                self.store(batch);
                Some(Event::Durable(*position))
            }
        }
    }

    /// What the node looks like from outside.
    pub(super) fn state(&self, node: NodeId) -> NodeState {
        let mut state = NodeState {
            node,
            ring: None,
            members: Vec::new(),
            in_sync: false,
            quorate: false,
            writable: false,
            backlog_bytes: 0,
            position: None,
        };
        if let Some(Core::Membership(daemon)) = self.process(Daemon::Membership).core() {
            let status = daemon.status();
            state.ring = is_installed(status.ring.state).then_some(status.ring.ring);
            state.members = status.ring.members;
            state.in_sync = status.synchronised;
            state.backlog_bytes = status.backlog_bytes;
        }
        if let Some(Core::Quorum(daemon)) = self.process(Daemon::Quorum).core() {
            state.quorate = daemon.status().is_some_and(|status| status.quorate && status.ring == state.ring);
        }
        if let Some(Core::Config(daemon)) = self.process(Daemon::Config).core() {
            state.writable = daemon.replica().state() == State::Synced;
            state.position = Some(position(daemon.replica()));
        }
        state
    }
}
