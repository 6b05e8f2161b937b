//! `.version`: counters that tell what changed. Source: pmxcfs specification, section 4.1.

use std::fmt::Write as _;

use super::json;

/// The paths that have a counter, in the order of the file.
pub(crate) const TRACKED: [&str; 43] = [
    "corosync.conf",
    "corosync.conf.new",
    "storage.cfg",
    "user.cfg",
    "domains.cfg",
    "notifications.cfg",
    "priv/notifications.cfg",
    "priv/shadow.cfg",
    "priv/acme/plugins.cfg",
    "priv/tfa.cfg",
    "priv/token.cfg",
    "priv/wg-keys.cfg",
    "datacenter.cfg",
    "vzdump.cron",
    "vzdump.conf",
    "jobs.cfg",
    "ha/crm_commands",
    "ha/manager_status",
    "ha/resources.cfg",
    "ha/rules.cfg",
    "ha/groups.cfg",
    "ha/fence.cfg",
    "status.cfg",
    "replication.cfg",
    "ceph.conf",
    "sdn/vnets.cfg",
    "sdn/zones.cfg",
    "sdn/controllers.cfg",
    "sdn/subnets.cfg",
    "sdn/ipams.cfg",
    "sdn/mac-cache.json",
    "sdn/pve-ipam-state.json",
    "sdn/dns.cfg",
    "sdn/fabrics.cfg",
    "sdn/route-maps.cfg",
    "sdn/prefix-lists.cfg",
    "sdn/.running-config",
    "virtual-guest/cpu-models.conf",
    "virtual-guest/profiles.cfg",
    "firewall/cluster.fw",
    "mapping/directory.cfg",
    "mapping/pci.cfg",
    "mapping/usb.cfg",
];

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    /// When this daemon started, in whole UTC seconds: the counters are comparable while it is the same.
    pub(crate) start: u32,
    /// Rises with members, addresses, votes and corosync.conf.
    pub(crate) cluster: u64,
    /// Rises with the list of guests.
    pub(crate) guests: u64,
    /// One counter for each of [`TRACKED`].
    pub(crate) paths: [u64; TRACKED.len()],
    /// Keys and counters of each node, this one first.
    pub(crate) values: Vec<(String, Vec<(String, u64)>)>,
}

/// The text.
pub(crate) fn version(version: &Version) -> String {
    let mut text = format!(
        "{{\n\"starttime\": {},\n\"clinfo\": {},\n\"vmlist\": {},\n",
        version.start, version.cluster, version.guests
    );
    for (path, count) in TRACKED.iter().zip(version.paths) {
        let _ = writeln!(text, "\"{path}\": {count},");
    }
    text.push_str("\"kvstore\": {\n");
    let blocks: Vec<String> = version.values.iter().map(|(node, keys)| block(node, keys)).collect();
    text.push_str(&blocks.join(",\n"));
    text.push_str("}\n}\n");
    text
}

fn block(node: &str, keys: &[(String, u64)]) -> String {
    let lines: Vec<String> =
        keys.iter().map(|(key, count)| format!("{}: {count}", json::string(key))).collect();
    format!("{}: {{\n{}}}\n", json::string(node), lines.join(",\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_laid_out_as_pmxcfs_does_it() {
        let keys =
            |keys: &[(&str, u64)]| keys.iter().map(|(key, count)| ((*key).to_owned(), *count)).collect();
        let mut paths = [0; TRACKED.len()];
        (paths[0], paths[42]) = (1, 9);
        let sample = Version {
            start: 1_700_000_000,
            cluster: 12,
            guests: 5,
            paths,
            values: vec![
                ("node1".into(), keys(&[("tasklist", 31), ("version-info", 0)])),
                ("node2".into(), keys(&[("tasklist", 28)])),
            ],
        };
        let text = version(&sample);
        let begin = "{\n\"starttime\": 1700000000,\n\"clinfo\": 12,\n\"vmlist\": 5,\n\"corosync.conf\": 1,\n\
                     \"corosync.conf.new\": 0,\n";
        assert!(text.starts_with(begin), "{text}");
        let end = r#""mapping/usb.cfg": 9,
"kvstore": {
"node1": {
"tasklist": 31,
"version-info": 0}
,
"node2": {
"tasklist": 28}
}
}
"#;
        assert!(text.ends_with(end), "{text}");
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(json["kvstore"]["node2"]["tasklist"], 28);
        assert_eq!(json.as_object().expect("an object").len(), 4 + TRACKED.len());
    }

    #[test]
    fn a_node_without_values_has_an_empty_block() {
        let sample = Version {
            start: 1,
            cluster: 0,
            guests: 1,
            paths: [0; TRACKED.len()],
            values: vec![("n".into(), Vec::new())],
        };
        let text = version(&sample);
        assert!(text.ends_with("\"kvstore\": {\n\"n\": {\n}\n}\n}\n"), "{text}");
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
    }
}
