//! A network namespace per node, and one more with the switch that they are plugged into.
//!
//! The switch has one bridge per group of a partition; all ports are on the first one while there is none. So a
//! partition cuts everything, not only the ring, and needs no packet filter.

use std::process::Command;

use super::{is_root, run};
use crate::{
    Error,
    plan::{NodePlan, Plan},
};

/// Where ip comes from.
const HINT: &str = "network namespaces are made with iproute2 (Debian: apt install iproute2)";
/// The interface of each node in its namespace.
const INTERFACE: &str = "eth0";

fn switch(plan: &Plan) -> String {
    format!("quorate-{:08x}-switch", plan.id)
}

fn namespace(plan: &Plan, node: &NodePlan) -> String {
    format!("quorate-{:08x}-{}", plan.id, node.name)
}

fn bridge(group: usize) -> String {
    format!("br{group}")
}

fn ip(arguments: &str) -> Result<(), Error> {
    run("ip", &arguments.split(' ').collect::<Vec<_>>(), "", HINT)
}

pub(super) fn create(plan: &Plan) -> Result<(), Error> {
    if !is_root() {
        return Err(Error::NeedsRoot("netns mode"));
    }
    let switch = switch(plan);
    ip(&format!("netns add {switch}"))?;
    add_bridge(&switch, 0)?;
    for node in &plan.nodes {
        let NodePlan { name, address } = node;
        let namespace = namespace(plan, node);
        ip(&format!("netns add {namespace}"))?;
        ip(&format!("-n {namespace} link add {INTERFACE} type veth peer name {name} netns {switch}"))?;
        ip(&format!("-n {namespace} addr add {address}/24 dev {INTERFACE}"))?;
        ip(&format!("-n {namespace} link set lo up"))?;
        ip(&format!("-n {namespace} link set {INTERFACE} up"))?;
        ip(&format!("-n {switch} link set {name} master {} up", bridge(0)))?;
    }
    Ok(())
}

fn add_bridge(switch: &str, group: usize) -> Result<(), Error> {
    let bridge = bridge(group);
    ip(&format!("-n {switch} link add {bridge} type bridge"))?;
    ip(&format!("-n {switch} link set {bridge} up"))
}

pub(super) fn remove(plan: &Plan) -> Result<(), Error> {
    let namespaces = plan.nodes.iter().map(|node| namespace(plan, node)).chain([switch(plan)]);
    for namespace in namespaces {
        match ip(&format!("netns delete {namespace}")) {
            Err(Error::Command { output, .. }) if output.contains("No such file") => {}
            // Without ip there never was a namespace.
            Err(Error::Program { .. }) => {}
            result => result?,
        }
    }
    Ok(())
}

pub(super) fn partition(plan: &Plan, groups: &[Vec<String>]) -> Result<(), Error> {
    let switch = switch(plan);
    for (number, group) in groups.iter().enumerate() {
        match add_bridge(&switch, number) {
            // Left from an earlier partition.
            Err(Error::Command { output, .. }) if output.contains("File exists") => {}
            result => result?,
        }
        for name in group {
            ip(&format!("-n {switch} link set {name} master {}", bridge(number)))?;
        }
    }
    Ok(())
}

pub(super) fn heal(plan: &Plan) -> Result<(), Error> {
    let switch = switch(plan);
    plan.nodes
        .iter()
        .try_for_each(|node| ip(&format!("-n {switch} link set {} master {}", node.name, bridge(0))))
}

pub(super) fn command(plan: &Plan, node: &NodePlan, program: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &namespace(plan, node), program]);
    command
}
