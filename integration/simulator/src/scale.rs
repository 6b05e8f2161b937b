//! How the ring's times grow with the number of its nodes: formation, rotation of the token, loss of a node.
//!
//! All times are virtual. Packets take 50 to 150 µs from node to node and nothing is lost; what a node does with a
//! packet takes no time, and links have no limit. So the figures are what the protocol's timers and rounds cost;
//! machines and cables add theirs.

use std::time::Duration;

use membership_core::srp::{Params, StateName};
use quorate_types::NodeId;

use crate::{
    checker::Violation,
    cluster::Cluster,
    event::SimTime,
    fault::Fault,
    history::{Event, Probe},
    setup::Setup,
    trace::Lines,
    workload::Action,
};

mod plot;
pub use plot::svg;

/// Enough for any number of nodes to come together.
const FORM_BOUND: Duration = Duration::from_secs(600);
/// How long the token is watched.
const ROTATION_WINDOW: Duration = Duration::from_secs(1);
/// One node sends a message this often meanwhile: a ring without messages holds its token back.
const MESSAGE_INTERVAL: Duration = Duration::from_millis(1);
const MESSAGE_SIZE: usize = 1000;
/// After the formation, for stores and agreed timers to settle.
const SETTLE: Duration = Duration::from_secs(5);
/// More nodes than these spread their joins over `send_join`, and this is the value. Source: corosync.conf(5).
const JOINS_AT_ONCE_MAX: u32 = 32;
const SEND_JOIN: Duration = Duration::from_millis(80);

/// What was measured with one number of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// How many nodes.
    pub nodes: u32,
    /// From the start of the last membershipd until all share one synchronised ring.
    pub formation: Duration,
    /// Mean time of one rotation of the token while one node sends.
    pub rotation: Duration,
    /// From the silent death of a node until a survivor begins to gather.
    pub detection: Duration,
    /// From the death until all survivors share one synchronised ring.
    pub recovery: Duration,
    /// Datagrams of all nodes, one for each receiver, from the first start to the common ring.
    pub formation_datagrams: u64,
}

/// The setup that is measured: timers as `pvecm create` writes them; and `send_join`, by default as corosync.conf(5)
/// recommends it for so many nodes.
#[must_use]
pub fn setup(nodes: u32, send_join: Option<Duration>) -> Setup {
    let setup = Setup::created(nodes);
    let recommended = if nodes > JOINS_AT_ONCE_MAX { SEND_JOIN } else { Duration::ZERO };
    let send_join = send_join.unwrap_or(recommended);
    let params = Params { send_join, ..setup.params.clone() };
    Setup { params, ..setup }
}

/// Forms a ring of all nodes, watches its token, and takes the power of one in the middle.
///
/// # Errors
/// What a checker found, or that the nodes did not find each other.
pub fn measure(setup: Setup) -> Result<Times, Violation> {
    let mut cluster = Cluster::new(setup, Lines::Off);
    let all = cluster.setup().nodes();
    cluster.keep_history();
    let formed = share(&mut cluster, &all, "all nodes find each other")?;
    let started =
        cluster.history().iter().filter(|seen| matches!(seen.event, Event::MembershipStarted { .. }));
    let started = started.map(|seen| seen.at).max().unwrap_or(SimTime::ZERO);
    let formation_datagrams = cluster.network_stats().sent;
    pass(&mut cluster, SETTLE)?;

    let rotation = rotation(&mut cluster, all[0])?;

    let victim = all[all.len() / 2];
    let died = cluster.now();
    cluster.fault(Fault::Crash(victim));
    let survivors: Vec<NodeId> = all.into_iter().filter(|node| *node != victim).collect();
    let gathers = |cluster: &Cluster| {
        survivors.iter().any(|node| cluster.ring_state(*node) != Some(StateName::Operational))
    };
    // A ring of one needs no token: its node sees at once that it is alone.
    if !cluster.run_until(FORM_BOUND, gathers) {
        return Err(failed(&cluster, "the loss is noticed"));
    }
    let noticed = cluster.now();
    let recovered = share(&mut cluster, &survivors, "the survivors find each other")?;
    Ok(Times {
        nodes: u32::try_from(survivors.len() + 1).unwrap_or(u32::MAX),
        formation: formed - started,
        rotation,
        detection: noticed - died,
        recovery: recovered - died,
        formation_datagrams,
    })
}

/// Waits for one synchronised ring of these nodes alone; when that was.
fn share(cluster: &mut Cluster, nodes: &[NodeId], what: &'static str) -> Result<SimTime, Violation> {
    let one_ring = |cluster: &Cluster| {
        let mut states = cluster.states().filter(|state| nodes.contains(&state.node));
        states.all(|state| state.in_sync && state.members == nodes)
    };
    if cluster.run_until(FORM_BOUND, one_ring) { Ok(cluster.now()) } else { Err(failed(cluster, what)) }
}

fn pass(cluster: &mut Cluster, span: Duration) -> Result<(), Violation> {
    cluster.run_for(span);
    match cluster.violation() {
        Some((_, violation)) => Err(violation.clone()),
        None => Ok(()),
    }
}

fn rotation(cluster: &mut Cluster, sender: NodeId) -> Result<Duration, Violation> {
    let begin = cluster.wire().len();
    let end = cluster.now() + ROTATION_WINDOW;
    let mut message = 0;
    while cluster.now() < end {
        message += 1;
        let action = Action::Multicast { probe: Probe::Agreed, message, size: MESSAGE_SIZE };
        cluster.act(sender, action);
        pass(cluster, MESSAGE_INTERVAL)?;
    }
    let of_sender = |event: &Event, node| node == sender && matches!(event, Event::Token(_));
    let visits = cluster.wire()[begin..].iter().filter(|seen| of_sender(&seen.event, seen.node)).count();
    Ok(ROTATION_WINDOW / u32::try_from(visits).unwrap_or(u32::MAX).max(1))
}

fn failed(cluster: &Cluster, what: &'static str) -> Violation {
    let otherwise =
        || Violation { checker: "scale", property: what, what: format!("not within {FORM_BOUND:?}") };
    cluster.violation().map_or_else(otherwise, |(_, violation)| violation.clone())
}

/// A Markdown table of all that was measured.
#[must_use]
pub fn table(rows: &[Times]) -> String {
    let millis = |span: Duration| format!("{:.0}", span.as_secs_f64() * 1000.0);
    let mut text = "| nodes | formation, ms | rotation, ms | detection, ms | new ring, ms | datagrams of the formation |\n\
                    |---:|---:|---:|---:|---:|---:|\n"
        .to_owned();
    for row in rows {
        text += &format!(
            "| {} | {} | {:.2} | {} | {} | {} |\n",
            row.nodes,
            millis(row.formation),
            row.rotation.as_secs_f64() * 1000.0,
            millis(row.detection),
            millis(row.recovery),
            row.formation_datagrams
        );
    }
    text
}
