//! One machine: a disk, a process that may run or be stopped, and what is on its way to and from it.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use config_store_core::{Batch, Loader, QuorumView, Replica, Settings, Space, State};
use quorate_types::NodeId;

use super::Event;

#[derive(Debug, Default)]
pub struct Machine {
    pub replica: Option<Replica>,
    /// What is synced.
    pub disk: BTreeMap<(Space, Bytes), Bytes>,
    /// Batches handed to the disk, not yet synced.
    pub storing: VecDeque<Batch>,
    /// Messages not yet in the ring's order.
    pub outgoing: VecDeque<Bytes>,
    /// Events that the ring delivered, not yet taken by the process.
    pub inbox: VecDeque<Event>,
    /// How much of the ring's order was delivered.
    pub cursor: usize,
    /// The quorum service's view, not yet told.
    pub view: Option<QuorumView>,
    /// The process is stopped (`SIGSTOP`): it takes nothing, but the ring keeps its place.
    pub stopped: bool,
}

impl Machine {
    pub fn is_running(&self) -> bool {
        self.replica.is_some()
    }

    pub fn state(&self) -> Option<State> {
        self.replica.as_ref().map(Replica::state)
    }

    pub fn start(&mut self, id: NodeId, incarnation: u64) {
        let mut loader = Loader::new();
        for ((space, key), value) in &self.disk {
            loader.add(*space, key, value.clone()).unwrap();
        }
        let image = loader.finish().expect("every batch leaves a disk that can be loaded");
        self.replica = Some(Replica::load(Settings::new(id, incarnation), image));
    }

    /// The process ends. The batch under way is lost unless `keep`.
    pub fn stop(&mut self, keep: bool) {
        if keep {
            for batch in std::mem::take(&mut self.storing) {
                self.write(&batch);
            }
        }
        let disk = std::mem::take(&mut self.disk);
        *self = Self { disk, ..Self::default() };
    }

    pub fn write(&mut self, batch: &Batch) {
        for write in &batch.writes {
            let key = (write.space, write.key.clone());
            match &write.value {
                Some(value) => drop(self.disk.insert(key, value.clone())),
                None => drop(self.disk.remove(&key)),
            }
        }
    }
}
