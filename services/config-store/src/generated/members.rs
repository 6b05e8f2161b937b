//! `.members`: the nodes and who is online. Source: pmxcfs specification, section 4.2.

use std::fmt::Write as _;

use super::json;

/// One node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) id: u32,
    /// Whether it is in the group of the status stores.
    pub(crate) online: bool,
    /// The address that it told.
    pub(crate) ip: Option<String>,
}

/// The cluster as a member sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Members {
    /// Name of the cluster.
    pub(crate) name: String,
    /// `config_version` of corosync.conf.
    pub(crate) config_version: u64,
    pub(crate) quorate: bool,
    pub(crate) nodes: Vec<Member>,
}

/// The text; `cluster` is `None` on a node that is in no cluster.
pub(crate) fn members(node: &str, version: u64, cluster: Option<&Members>) -> String {
    let mut text = format!("{{\n\"nodename\": {},\n\"version\": {version}", json::string(node));
    if let Some(cluster) = cluster {
        let _ = write!(
            text,
            ",\n\"cluster\": {{ \"name\": {}, \"version\": {}, \"nodes\": {}, \"quorate\": {} }},\n\"nodelist\": {{\n",
            json::string(&cluster.name),
            cluster.config_version,
            cluster.nodes.len(),
            u8::from(cluster.quorate)
        );
        let lines: Vec<String> = cluster.nodes.iter().map(line).collect();
        text.push_str(&lines.join(",\n"));
        text.push_str("\n  }");
    }
    text.push_str("\n}\n");
    text
}

fn line(node: &Member) -> String {
    let ip = node.ip.as_ref().map(|ip| format!(", \"ip\": {}", json::string(ip))).unwrap_or_default();
    format!(
        "  {}: {{ \"id\": {}, \"online\": {}{ip}}}",
        json::string(&node.name),
        node.id,
        u8::from(node.online)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_laid_out_as_pmxcfs_does_it() {
        let node = |id: u32, ip: Option<&str>| Member {
            name: format!("node{id}"),
            id,
            online: ip.is_some(),
            ip: ip.map(str::to_owned),
        };
        let nodes = vec![node(1, Some("192.168.15.91")), node(2, Some("192.168.15.92")), node(3, None)];
        let cluster = Members { name: "prod".into(), config_version: 4, quorate: true, nodes };
        let text = members("node1", 7, Some(&cluster));
        assert_eq!(
            text,
            r#"{
"nodename": "node1",
"version": 7,
"cluster": { "name": "prod", "version": 4, "nodes": 3, "quorate": 1 },
"nodelist": {
  "node1": { "id": 1, "online": 1, "ip": "192.168.15.91"},
  "node2": { "id": 2, "online": 1, "ip": "192.168.15.92"},
  "node3": { "id": 3, "online": 0}
  }
}
"#
        );
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(json["nodelist"]["node2"]["ip"], "192.168.15.92");
    }

    #[test]
    fn a_node_in_no_cluster_has_its_name_only() {
        assert_eq!(members("node1", 0, None), "{\n\"nodename\": \"node1\",\n\"version\": 0\n}\n");
    }
}
