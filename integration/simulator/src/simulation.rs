//! One run of a seed: first safety, with everything that may go wrong; then liveness, with everything
//! repaired.

use std::{panic, time::Duration};

use quorate_types::NodeId;

use crate::{
    checker::{Expectation, LivenessChecker, Violation},
    cluster::{Cluster, Tally},
    event::SimTime,
    history::Probe,
    mutation::Mutation,
    setup::Setup,
    trace::Lines,
    workload::{Action, Change},
};

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// The seed.
    pub seed: u64,
    /// Number of nodes; by default 2 to 7, drawn from the seed.
    pub nodes: Option<u32>,
    /// What becomes of the trace.
    pub lines: Lines,
    /// A deliberate bug.
    pub mutation: Option<Mutation>,
}

impl Options {
    /// A silent run of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        Self { seed, nodes: None, lines: Lines::Off, mutation: None }
    }
}

/// How a run ended.
#[derive(Debug, Clone)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// How many nodes there were.
    pub nodes: usize,
    /// Hash over every event.
    pub hash: u64,
    /// How many events there were.
    pub events: u64,
    /// Virtual time that passed.
    pub simulated: SimTime,
    /// From healing until all was well.
    pub healed_after: Option<Duration>,
    /// What went wrong, and when.
    pub violation: Option<(SimTime, Violation)>,
    /// How much happened, to see that a run was worth it.
    pub tally: Tally,
    /// The last lines of the trace, if they were asked for.
    pub tail: Vec<String>,
    /// What the daemons say of themselves at the end.
    pub at_end: Vec<String>,
}

/// After healing all must be well within this many times token plus consensus timeout, and some seconds for
/// restarts, connections and disks.
const BOUND_TIMEOUTS: u32 = 10;
const BOUND_BASE: Duration = Duration::from_secs(30);
/// Messages, writes and reads of the last check are numbered from here.
const FINAL: u64 = 1 << 32;
/// In this time whatever the first phase left to be sent must be sent: megabytes, through the smallest
/// of windows.
const BACKLOG_BOUND: Duration = Duration::from_secs(300);
/// How long the cluster is watched after the last check.
const QUIET: Duration = Duration::from_secs(5);

/// Runs a seed.
#[must_use]
pub fn run(options: Options) -> Report {
    let mut setup = Setup::generate(options.seed, options.nodes);
    setup.mutation = options.mutation;
    let nodes = setup.votes.len();
    let mut cluster = Cluster::new(setup, options.lines);
    let length = cluster.setup().safety_length;
    cluster.run_for(length);
    let healed_after = if cluster.violation().is_none() { heal(&mut cluster) } else { None };
    Report {
        seed: options.seed,
        nodes,
        hash: cluster.trace().hash(),
        events: cluster.trace().events(),
        simulated: cluster.now(),
        healed_after,
        violation: cluster.violation().cloned(),
        tally: cluster.tally(),
        tail: cluster.trace().tail().map(str::to_owned).collect(),
        at_end: cluster.describe(),
    }
}

/// Runs a seed; a core that panics is a violation like any other.
#[must_use]
pub fn run_caught(options: Options) -> Report {
    let outcome = panic::catch_unwind(|| run(options));
    outcome.unwrap_or_else(|cause| {
        let text = cause.downcast_ref::<String>().cloned();
        let what = text.or_else(|| cause.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let what = what.unwrap_or_else(|| "without a message".to_owned());
        let violation = Violation { checker: "progress", property: "no core panics", what };
        Report {
            seed: options.seed,
            nodes: 0,
            hash: 0,
            events: 0,
            simulated: SimTime::ZERO,
            healed_after: None,
            violation: Some((SimTime::ZERO, violation)),
            tally: Tally::default(),
            tail: Vec::new(),
            at_end: Vec::new(),
        }
    })
}

/// Repairs everything, waits until all is well, lets every node work once more, and asks the checkers
/// for their last word. Returns how long the recovery took.
pub fn heal(cluster: &mut Cluster) -> Option<Duration> {
    cluster.heal();
    let live = cluster.setup().nodes().into_iter().collect();
    let params = &cluster.setup().params;
    let bound = BOUND_BASE + (params.token + params.consensus) * BOUND_TIMEOUTS;
    let checker = LivenessChecker::new(Expectation { live, quorate: true, bound });
    let begin = cluster.now();
    let well =
        |cluster: &Cluster| cluster.live() == *checker.live() && checker.lacks(cluster.states()).is_none();
    let healed = cluster.run_until(bound, well);
    let healed_after = healed.then(|| cluster.now() - begin);
    if cluster.violation().is_none() {
        work_once_more(cluster);
    }
    if cluster.violation().is_none() {
        if let Err(violation) = checker.judge(cluster.states()) {
            cluster.report(violation);
        }
        cluster.show_trees();
        cluster.finish();
    }
    healed_after
}

fn work_once_more(cluster: &mut Cluster) {
    let nodes: Vec<NodeId> = cluster.setup().nodes();
    let (mut message, mut number) = (FINAL, FINAL);
    for node in nodes {
        for probe in Probe::ALL {
            message += 1;
            cluster.act(node, Action::Multicast { probe, message, size: 100 });
        }
        number += 1;
        cluster.act(node, Action::Write { write: number, attempt: 0, change: Change::Own { size: 10 } });
        cluster.act(node, Action::Read { read: number });
    }
    cluster.run_for(QUIET);
    let sent = |cluster: &Cluster| cluster.states().all(|state| state.backlog_bytes == 0);
    cluster.run_until(BACKLOG_BOUND, sent);
    cluster.run_for(QUIET);
}
