//! What changes while the ring runs: a new key and cipher, and a second link, on all members and without a new ring.

use std::{fs, net::IpAddr};

use cluster_tests::{Lab, cli, wait};
use playground::Node;
use quorate_proto::membership::v1::{
    GetStatusRequest, ListLinksRequest, membership_service_client::MembershipServiceClient,
};

async fn ring_id(node: &Node) -> String {
    let answer = MembershipServiceClient::new(node.gateway()).get_status(GetStatusRequest {}).await;
    format!("{:?}", answer.expect("membershipd answers").into_inner().ring)
}

/// Waits until a line is in the log of every node's membershipd.
async fn all_say(lab: &Lab, words: &str) {
    for node in lab.all() {
        let log = node.root().as_path().join("var/log/quorate/membershipd.log");
        wait::until(&format!("'{words}' of {}", node.name()), async || {
            let text = fs::read_to_string(&log).map_err(|error| error.to_string())?;
            if text.contains(words) { Ok(()) } else { Err("it is not in the log".to_owned()) }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_and_cipher_come_into_use_on_all_members_without_a_new_ring() {
    let lab = Lab::cluster(3).await;
    let node = lab.node(1);
    let before = ring_id(node).await;
    for member in lab.all() {
        let path = member.root().authkey();
        fs::remove_file(&path).expect("there is a key");
        fs::write(&path, [0x17; 200]).expect("writable");
    }
    let conf = cli::done(node, &["cfg", "get", "corosync.conf"]).await;
    let conf =
        newer(&conf).replace("secauth: on", "secauth: on\n  crypto_cipher: aes128\n  crypto_hash: sha512");

    cli::put(node, "corosync.conf", &conf).await;

    all_say(&lab, "packets with the old key are refused").await;
    cli::put(lab.node(3), "after", "the ring works\n").await;
    lab.settled(&lab.all()).await;
    assert_eq!(ring_id(node).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_link_comes_up_without_a_new_ring() {
    let lab = Lab::cluster(2).await;
    let node = lab.node(1);
    let before = ring_id(node).await;
    let mut conf = newer(&cli::done(node, &["cfg", "get", "corosync.conf"]).await).replacen(
        "interface {",
        "interface {\n    linknumber: 1\n  }\n  interface {",
        1,
    );
    for member in lab.all() {
        let IpAddr::V4(first) = member.address() else { panic!("playgrounds have IPv4 addresses") };
        let [_, b, c, d] = first.octets();
        // Another address of this machine that no other playground has, either.
        let line = format!("ring0_addr: {first}");
        conf = conf.replace(&line, &format!("{line}\n    ring1_addr: 127.{}.{c}.{d}", b ^ 0x80));
    }

    cli::put(node, "corosync.conf", &conf).await;

    wait::until("both links are up", async || {
        let answer = MembershipServiceClient::new(node.gateway()).list_links(ListLinksRequest {}).await;
        let links = answer.map_err(|status| status.message().to_owned())?.into_inner().links;
        let up: Vec<u32> = links.iter().filter(|link| link.connected).map(|link| link.link).collect();
        if up == [0, 1] { Ok(()) } else { Err(format!("{links:?}")) }
    })
    .await;
    assert_eq!(ring_id(node).await, before);
}

/// The same configuration with a version that is surely higher.
fn newer(conf: &str) -> String {
    let old = conf.lines().find(|line| line.contains("config_version")).expect("every file has a version");
    conf.replace(old, "  config_version: 100")
}
