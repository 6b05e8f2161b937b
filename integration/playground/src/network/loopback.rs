//! Partitions on the loopback interface: a table of nftables that drops the ring's packets on arrival.

use std::fmt::Write as _;

use super::{is_root, run};
use crate::{
    Error,
    plan::{NodePlan, Plan},
};

/// Where nft comes from.
const HINT: &str = "a partition in loopback mode is made with nftables (Debian: apt install nftables)";

fn table(plan: &Plan) -> String {
    format!("quorate_{:08x}", plan.id)
}

pub(super) fn partition(plan: &Plan, groups: &[Vec<String>]) -> Result<(), Error> {
    if !is_root() {
        return Err(Error::NeedsRoot("a partition in loopback mode (it uses nftables)"));
    }
    run("nft", &["-f", "-"], &rules(plan, groups), HINT)
}

/// Drops all packets of the ring that a node sends to others; it goes on hearing them.
pub(super) fn mute(plan: &Plan, node: &NodePlan) -> Result<(), Error> {
    if !is_root() {
        return Err(Error::NeedsRoot("a mute node in loopback mode (it uses nftables)"));
    }
    let address = node.address;
    let rule = format!("    ip saddr {address} ip daddr != {address} meta l4proto udp drop\n");
    run("nft", &["-f", "-"], &table_with(plan, &rule), HINT)
}

pub(super) fn remove(plan: &Plan) -> Result<(), Error> {
    // Only root can have made a table.
    if !is_root() {
        return Ok(());
    }
    // Adding first makes deleting a table that is not there no error.
    let table = table(plan);
    match run("nft", &["-f", "-"], &format!("add table ip {table}\ndelete table ip {table}\n"), HINT) {
        // Without nft there never was a partition.
        Err(Error::Program { .. }) => Ok(()),
        result => result,
    }
}

/// One transaction that replaces the table. Packets are dropped on arrival: a sender does not notice, as on a real
/// network.
fn rules(plan: &Plan, groups: &[Vec<String>]) -> String {
    let addresses = |group: &[String]| {
        let nodes = plan.nodes.iter().filter(|node| group.contains(&node.name));
        nodes.map(|node| node.address.to_string()).collect::<Vec<_>>().join(", ")
    };
    let mut rules = String::new();
    for (number, from) in groups.iter().enumerate() {
        for (other, to) in groups.iter().enumerate() {
            if number != other {
                let (from, to) = (addresses(from), addresses(to));
                let _ =
                    writeln!(rules, "    ip saddr {{ {from} }} ip daddr {{ {to} }} meta l4proto udp drop");
            }
        }
    }
    table_with(plan, &rules)
}

/// The playground's table with these rules and no others.
fn table_with(plan: &Plan, rules: &str) -> String {
    let table = table(plan);
    format!(
        "add table ip {table}\ndelete table ip {table}\ntable ip {table} {{\n  chain input {{\n    \
         type filter hook input priority 0; policy accept;\n{rules}  }}\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::Path};

    use super::*;
    use crate::{Mode, Setup};

    #[test]
    fn a_partition_drops_both_directions_between_the_groups() {
        let subnet = Some("127.9.9".into());
        let setup = Setup { nodes: 3, mode: Mode::Loopback, subnet, environment: BTreeMap::new() };
        let plan = Plan::new(Path::new("/tmp/x"), &setup).unwrap();
        let groups = [vec!["hp1".to_owned(), "hp2".to_owned()], vec!["hp3".to_owned()]];
        let rules = rules(&plan, &groups);
        assert!(
            rules.contains("ip saddr { 127.9.9.1, 127.9.9.2 } ip daddr { 127.9.9.3 } meta l4proto udp drop")
        );
        assert!(
            rules.contains("ip saddr { 127.9.9.3 } ip daddr { 127.9.9.1, 127.9.9.2 } meta l4proto udp drop")
        );
        assert_eq!(rules.matches(" drop\n").count(), 2);
    }
}
