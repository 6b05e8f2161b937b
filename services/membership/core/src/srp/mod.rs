//! The Totem single ring protocol: membership and total order, without I/O.

mod io;
mod params;
mod stats;

use std::{collections::VecDeque, time::Instant};

use quorate_types::{NodeId, RingId};

pub use io::{
    ConfigurationChange, Delivery, Destination, Guarantee, Input, Output, Phase, Reason, RingStatus,
    StateName,
};
pub use params::{Params, ParamsError, TotemSettings};
pub use stats::{Drop, StateCount, Stats, Traffic};

/// One node's view of the ring: one input, then drain all outputs, in order.
#[derive(Debug)]
pub struct Ring {
    me: NodeId,
    params: Params,
    outputs: VecDeque<Output>,
    stats: Stats,
}

impl Ring {
    /// A stopped ring of node `me`. `seed` feeds the random delays.
    #[must_use]
    pub fn new(me: NodeId, params: Params, _seed: u64) -> Self {
        Self { me, params, outputs: VecDeque::new(), stats: Stats::default() }
    }

    /// What happened. `now` is the only clock that the ring has.
    pub fn handle_input(&mut self, _now: Instant, _input: Input) {}

    /// What must be done. Call until it returns `None`, then wait for the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Timer`] is due at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        None
    }

    /// Packets that may still be queued in this phase.
    #[must_use]
    pub fn queue_room(&self, _phase: Phase) -> usize {
        self.params.send_queue_packets_max()
    }

    /// True when the token is at this node, so that a message multicast now leaves at once.
    ///
    /// A layer that stages messages until the token comes flushes them when this is true: directly
    /// after staging, and before each [`Input::Timer`]. On a ring of one node no token datagram
    /// ever arrives, so this is the only sign there.
    #[must_use]
    pub fn has_token(&self) -> bool {
        false
    }

    /// What the ring looks like now.
    #[must_use]
    pub fn status(&self) -> RingStatus {
        RingStatus {
            state: StateName::Stopped,
            ring: RingId::new(self.me, 0),
            members: Vec::new(),
            gathering: Vec::new(),
            failed: Vec::new(),
            representative: true,
            aru: 0,
            high_seq_received: 0,
            high_delivered: 0,
            backlog: 0,
            waiting_trans_ack: true,
            token_held: false,
        }
    }

    /// All counters.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }
}
