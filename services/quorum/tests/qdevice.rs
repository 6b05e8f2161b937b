//! quorumd with a real arbiter: two nodes, whose rings the test forms, and corosync-qnetd.

#![allow(clippy::unwrap_used, reason = "helpers of tests: a failure ends the test")]

mod support;

use std::fs;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use quorate_proto::quorum::v1::{QuorumStatus, quorum_device::Vote};
use support::{
    Attached, Node, Watch,
    arbiter::{self, Arbiter},
    corosync_conf,
};

const BOTH: [(&str, u32, u32); 2] = [("hp1", 1, 1), ("hp2", 2, 1)];

/// Gives a node the certificate of a cluster.
fn certify(arbiter: &Arbiter, node: &Node, cluster: &str) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, cluster);
    let (ca, certificate) = arbiter.sign(params.serialize_request(&key).unwrap().der());
    let bundle = [String::from_utf8(ca).unwrap(), pem(&certificate), key.serialize_pem()].join("\n");
    let path = node.daemon.root.qdevice_credentials();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bundle).unwrap();
}

fn pem(certificate: &[u8]) -> String {
    let text = STANDARD.encode(certificate);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

struct Member {
    node: Node,
    link: Attached,
    watch: Watch,
    id: u32,
}

impl Member {
    async fn start(id: u32, conf: &str) -> Self {
        let mut node = Node::start_as(&format!("hp{id}"), Some(conf));
        let watch = node.watch().await;
        let link = node.attached().await;
        Self { node, link, watch, id }
    }

    /// A ring with these nodes, in which this one sees the others.
    async fn ring(&mut self, seq: u64, ids: &[u32]) {
        let others = ids.iter().filter(|id| **id != self.id).map(|id| (*id, 1, 3));
        let members: Vec<_> = [(self.id, 1, 3)].into_iter().chain(others).collect();
        self.link.form_ring_of(seq, ids[0], &members).await;
    }

    async fn until_vote(&mut self, vote: Vote) -> QuorumStatus {
        self.watch.until(|status| status.device.as_ref().is_some_and(|device| device.vote() == vote)).await
    }
}

fn conf(arbiter: &Arbiter, tls: &str) -> String {
    corosync_conf(7, &BOTH, &arbiter.section(tls, "ffsplit", "votes: 1"))
}

/// Both nodes in one ring, both with the arbiter's vote.
async fn two_nodes(arbiter: &Arbiter) -> (Member, Member) {
    let conf = conf(arbiter, "off");
    let (mut one, mut two) = (Member::start(1, &conf).await, Member::start(2, &conf).await);
    tokio::join!(one.ring(8, &[1, 2]), two.ring(8, &[1, 2]));
    for member in [&mut one, &mut two] {
        let status = member.until_vote(Vote::Granted).await;
        assert!(status.quorate);
        assert_eq!((status.expected_votes, status.total_votes, status.quorum), (3, 3, 2));
    }
    (one, two)
}

#[tokio::test]
async fn a_node_survives_the_loss_of_the_other_without_a_moment_without_quorum() {
    if !arbiter::is_there() {
        return;
    }
    let arbiter = Arbiter::start("off");
    let (mut one, two) = two_nodes(&arbiter).await;

    two.node.daemon.shutdown.cancel();
    one.ring(12, &[1]).await;

    let alone = one.watch.until(|status| status.ring.is_some_and(|ring| ring.seq == 12)).await;
    assert!(alone.quorate, "{alone:#?}");
    assert_eq!((alone.total_votes, alone.quorum), (2, 2));
    assert_eq!(alone.flags, ["Quorate", "Qdevice"]);
    assert_eq!(alone.nodes[0].device, "A,V,NMW");
}

#[tokio::test]
async fn of_two_halves_exactly_one_gets_the_vote() {
    if !arbiter::is_there() {
        return;
    }
    let arbiter = Arbiter::start("off");
    let (mut one, mut two) = two_nodes(&arbiter).await;

    tokio::join!(one.ring(12, &[1]), two.ring(16, &[2]));

    let one = one.until_vote(Vote::Granted).await;
    let two = two.until_vote(Vote::Refused).await;
    assert!(one.quorate && !two.quorate);
    assert_eq!((one.total_votes, two.total_votes), (2, 1));
}

#[tokio::test]
async fn both_nodes_survive_the_loss_of_the_arbiter_and_get_its_vote_back() {
    if !arbiter::is_there() {
        return;
    }
    let mut arbiter = Arbiter::start("off");
    let (mut one, mut two) = two_nodes(&arbiter).await;

    arbiter.kill();
    for member in [&mut one, &mut two] {
        let status = member.until_vote(Vote::Unreachable).await;
        assert!(status.quorate);
        assert_eq!(status.total_votes, 2);
        assert!(!status.device.unwrap().error.is_empty());
    }

    arbiter.restart();
    for member in [&mut one, &mut two] {
        member.until_vote(Vote::Granted).await;
    }
}

#[tokio::test]
async fn without_arbiter_and_without_the_other_node_there_is_no_quorum() {
    if !arbiter::is_there() {
        return;
    }
    let mut arbiter = Arbiter::start("off");
    let (mut one, _two) = two_nodes(&arbiter).await;

    arbiter.kill();
    one.until_vote(Vote::Unreachable).await;
    one.ring(12, &[1]).await;

    let status = one.watch.until(|status| !status.quorate).await;
    assert_eq!(status.total_votes, 1);
}

#[tokio::test]
async fn the_connection_is_encrypted_with_the_certificates_of_the_arbiter() {
    if !arbiter::is_there() {
        return;
    }
    let arbiter = Arbiter::start("req");
    let conf = conf(&arbiter, "on");
    let mut one = Member::start(1, &conf).await;
    certify(&arbiter, &one.node, "demo");

    one.ring(8, &[1]).await;

    let status = one.until_vote(Vote::Granted).await;
    assert!(status.quorate && status.device.unwrap().encrypted);
}

#[tokio::test]
async fn the_certificate_of_another_cluster_is_refused() {
    if !arbiter::is_there() {
        return;
    }
    let arbiter = Arbiter::start("req");
    let mut one = Member::start(1, &conf(&arbiter, "on")).await;
    certify(&arbiter, &one.node, "other");

    one.ring(8, &[1]).await;

    let refused = |status: &QuorumStatus| {
        status
            .device
            .as_ref()
            .is_some_and(|device| device.error.contains("refuses") || device.error.contains("closed"))
    };
    assert!(!one.watch.until(refused).await.quorate);
}

#[tokio::test]
async fn what_keeps_a_node_from_the_arbiter_is_said() {
    if !arbiter::is_there() {
        return;
    }
    let arbiter = Arbiter::start("req");
    let mut one = Member::start(1, &conf(&arbiter, "on")).await;

    one.ring(8, &[1]).await;

    let says = |word: &str, status: &QuorumStatus| {
        status.device.as_ref().is_some_and(|device| device.error.contains(word))
    };
    one.watch.until(|status| says("qdevice.pem: it comes with `pvecm qdevice setup`", status)).await;
}
