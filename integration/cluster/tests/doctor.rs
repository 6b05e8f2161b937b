//! `pvecm doctor` on real nodes: what is in order, a local file that differs, a node that is gone.

use std::fs;

use cluster_tests::{Lab, cli};
use playground::Node;
use serde_json::Value;

/// What depends on how busy the machine of the test is.
const OF_THE_MACHINE: [&str; 3] = ["LATENCY_HIGH", "DISK_SLOW", "DISK_FULL"];

/// The findings, each with its node.
async fn findings(node: &Node) -> Vec<(String, String)> {
    let said = cli::pvecm(node, &["doctor", "-o", "json"]).await;
    let document: Value = serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    let all = document["findings"].as_array().expect("a list");
    assert_eq!(said.code, Some(if all.is_empty() { 0 } else { 2 }), "{said:?}");
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    assert!(
        all.iter().all(|finding| !text(finding, "reason").is_empty() && !text(finding, "way_out").is_empty())
    );
    let found = all.iter().map(|finding| (text(finding, "id"), text(finding, "node")));
    found.filter(|(id, _)| !OF_THE_MACHINE.contains(&id.as_str())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_other_nodes_are_found_from_any_node_and_nothing_where_nothing_is_wrong() {
    let lab = Lab::cluster(3).await;
    let [first, second, third] = [1, 2, 3].map(|number| lab.node(number));
    assert_eq!(findings(first).await, []);

    let conf = second.root().corosync_conf();
    let text = fs::read_to_string(&conf).expect("a member has one");
    fs::write(&conf, text.replace("quorum_votes: 1", "quorum_votes: 2")).expect("a file of the test");
    let differs = [("CONF_DIFFERS", "hp2"), ("CONF_DIFFERS_BETWEEN_NODES", "")];
    assert_eq!(findings(third).await, differs.map(|(id, node)| (id.to_owned(), node.to_owned())));
    fs::write(&conf, text).expect("a file of the test");

    third.kill(None).await.expect("the node runs");
    let found = findings(first).await;
    assert!(found.contains(&("NODE_UNREACHABLE".to_owned(), "hp3".to_owned())), "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_has_findings_and_logs_and_no_secret() {
    let lab = Lab::cluster(1).await;
    let node = lab.node(1);
    let file = lab.playground().dir().join("bundle.tar");
    cli::pvecm(node, &["doctor", "--bundle", &file.display().to_string()]).await;
    let archive = fs::read(&file).expect("the bundle is written");
    let has = |bytes: &[u8]| archive.windows(bytes.len()).any(|window| window == bytes);
    for name in ["findings.json", "corosync.conf", "log/membershipd.log", "log/gatewayd.log"] {
        assert!(has(name.as_bytes()), "{name} is not in the bundle");
    }
    assert!(!has(b"PRIVATE KEY"));
    assert!(!has(&fs::read(node.root().authkey()).expect("a member has one")));
}
