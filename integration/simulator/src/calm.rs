//! Hours without faults on lossy links: every new ring is a false alarm.

use std::{fmt, time::Duration};

use crate::{
    checker::{NodeState, Violation},
    cluster::Cluster,
    history::Probe,
    network::Quality,
    rng::Rng,
    setup::Setup,
    trace::Lines,
    workload::Action,
};

/// Enough for the nodes to find each other.
const FORM_BOUND: Duration = Duration::from_secs(60);
/// One node sends a message this often, so that the ring is neither always idle nor always busy.
const MESSAGE_INTERVAL: Duration = Duration::from_secs(5);
const HOUR: Duration = Duration::from_secs(3600);

/// How it went so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calm {
    /// How many nodes there are.
    pub nodes: u32,
    /// Hours that passed since all shared a ring.
    pub hours: u32,
    /// Rings that a node installed since then, though nothing had happened.
    pub false_alarms: u64,
    /// What a checker found; then the run ends.
    pub violation: Option<Violation>,
}

impl fmt::Display for Calm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} nodes, {} hours: {} false alarms", self.nodes, self.hours, self.false_alarms)
    }
}

/// Lets a cluster with the timers of `pvecm create` run for some hours; `loss` is in parts per million. `each_hour` is
/// told how it goes.
#[must_use]
pub fn run(seed: u64, nodes: u32, loss: u32, hours: u32, mut each_hour: impl FnMut(&Calm)) -> Calm {
    let quality = Quality { loss, ..Quality::PERFECT };
    let mut cluster = Cluster::new(Setup { seed, quality, ..Setup::created(nodes) }, Lines::Off);
    let mut calm = Calm { nodes, hours: 0, false_alarms: 0, violation: None };
    let everybody = usize::try_from(nodes).unwrap_or(usize::MAX);
    let share_a_ring = |state: NodeState| state.in_sync && state.members.len() == everybody;
    if !cluster.run_until(FORM_BOUND, |cluster| cluster.states().all(share_a_ring)) {
        let what = format!("not within {FORM_BOUND:?}");
        calm.violation = Some(Violation { checker: "calm", property: "the nodes find each other", what });
        return calm;
    }
    let before = cluster.tally().rings;
    let mut rng = Rng::new(seed);
    let members = cluster.setup().nodes();
    let mut message = 0;
    while calm.hours < hours && calm.violation.is_none() {
        let end = cluster.now() + HOUR;
        while cluster.now() < end && cluster.violation().is_none() {
            message += 1;
            let size = rng.between(50, 5000) as usize;
            cluster.act(*rng.pick(&members), Action::Multicast { probe: Probe::Agreed, message, size });
            cluster.run_for(MESSAGE_INTERVAL);
        }
        calm.hours += 1;
        calm.false_alarms = cluster.tally().rings - before;
        calm.violation = cluster.violation().map(|(_, violation)| violation.clone());
        each_hour(&calm);
    }
    calm
}
