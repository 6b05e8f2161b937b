//! What is no packet of the ring is counted by its reason and dropped: malformed, truncated, oversized and foreign
//! datagrams, from a member's address and from one that is not listed. The ring stays as it is.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use bytes::Bytes;
use cluster_tests::{Lab, cli, wait};
use membership_core::srp::message::{MembJoin, MembMergeDetect, OrfToken, TokenHoldCancel};
use playground::Node;
use quorate_proto::membership::v1::{
    GetStatusRequest, GetStatusResponse, membership_service_client::MembershipServiceClient,
};
use quorate_types::{NodeId, RingId};
use tonic::Request;

/// Port of the ring on the nodes of a playground.
const RING_PORT: u16 = 5405;
/// How often each datagram is sent.
const TIMES: u64 = 10;
/// The shortest datagram that aes256 and sha256 make: salt, one block, digest.
const SEALED_MIN: usize = 16 + 16 + 32;
/// The largest datagram that UDP over IPv4 carries.
const UDP_MAX: usize = 65_507;

async fn ring(node: &Node) -> GetStatusResponse {
    wait::until("the state of the ring", async || {
        let mut request = Request::new(GetStatusRequest {});
        request.set_timeout(Duration::from_secs(5));
        let answer = MembershipServiceClient::new(node.gateway()).get_status(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| status.message().to_owned())
    })
    .await
}

fn id(number: u32) -> NodeId {
    NodeId::new(number).expect("not 0")
}

fn token(ring_id: RingId) -> OrfToken {
    OrfToken {
        nodeid: id(2),
        target_nodeid: 0,
        seq: 0,
        token_seq: 1,
        aru: 0,
        aru_addr: 0,
        ring_id,
        backlog: 0,
        fcc: 0,
        retrans_flg: 0,
        rtr: Vec::new(),
    }
}

fn detect(ring_id: RingId) -> MembMergeDetect {
    MembMergeDetect { nodeid: id(2), target_nodeid: 0, system_from: id(2), ring_id }
}

/// A join of node 2 that would make everybody gather.
fn join(ring_seq: u64) -> MembJoin {
    let proc_list = vec![id(2), id(7)];
    let failed_list = vec![id(3)];
    MembJoin { nodeid: Some(id(2)), target_nodeid: 0, system_from: id(2), ring_seq, proc_list, failed_list }
}

/// A datagram with some of its bytes replaced.
fn patched(datagram: &Bytes, at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut patched = datagram.to_vec();
    patched[at..at + bytes.len()].copy_from_slice(bytes);
    patched
}

/// Datagrams that a node must drop although they come from a member's address, with the reason to count.
fn nonsense(present: RingId) -> Vec<(&'static str, Vec<u8>)> {
    let detect = detect(present).encode();
    let elsewhere = RingId::new(id(2), present.seq + 1);
    let many_requests = patched(&token(present).encode(), 53, &31_u32.to_le_bytes());
    let many_nodes = patched(&join(present.seq).encode(), 17, &u32::MAX.to_le_bytes());
    let mut oversized = join(present.seq).encode().to_vec();
    oversized.resize(UDP_MAX, 0xff);
    vec![
        ("malformed", Vec::new()),
        ("malformed", detect[..1].to_vec()),
        ("malformed", detect[..12].to_vec()),
        ("malformed", detect[..28].to_vec()),
        ("malformed", patched(&detect, 13, &[0; 4])),
        ("bad_magic", b"hello, is this the ring?".to_vec()),
        ("bad_magic", vec![0; UDP_MAX]),
        ("big_endian", patched(&detect, 0, &[0xc0, 0x70])),
        ("bad_version", patched(&detect, 2, &[4])),
        ("unknown_type", patched(&detect, 3, &[6])),
        ("too_long", many_requests),
        ("too_long", many_nodes),
        ("too_long", patched(&Bytes::from(oversized), 17, &385_u32.to_le_bytes())),
        ("foreign_ring", token(elsewhere).encode().to_vec()),
        (
            "foreign_ring",
            TokenHoldCancel { nodeid: id(2), target_nodeid: 0, ring_id: elsewhere }.encode().to_vec(),
        ),
        ("foreign_message", self::detect(RingId::new(id(2), present.seq - 1)).encode().to_vec()),
        ("stale_join", join(present.seq - 1).encode().to_vec()),
    ]
}

/// Sends datagrams from an address to the ring's port of a node, some times each.
fn send(from: IpAddr, to: &Node, datagrams: &[(&'static str, Vec<u8>)]) {
    let socket = UdpSocket::bind((from, 0)).expect("every address 127.x.y.z is this machine's");
    for _ in 0..TIMES {
        for (reason, datagram) in datagrams {
            let sent = socket.send_to(datagram, SocketAddr::new(to.address(), RING_PORT));
            assert_eq!(sent.expect("the datagram is sent"), datagram.len(), "{reason}");
        }
    }
}

/// Waits until a node has counted all of them; its ring must be the one from before.
async fn counted(node: &Node, before: &GetStatusResponse, datagrams: &[(&'static str, Vec<u8>)]) {
    let mut expected: BTreeMap<&str, u64> = BTreeMap::new();
    for (reason, _) in datagrams {
        *expected.entry(reason).or_default() += TIMES;
    }
    let after = wait::until("all datagrams to be counted by their reasons", async || {
        let now = ring(node).await;
        let grown = |reason: &str| now.dropped[reason] - before.dropped[reason];
        let missing: Vec<_> = expected.iter().filter(|(reason, count)| grown(reason) < **count).collect();
        if missing.is_empty() { Ok(now) } else { Err(format!("{missing:?} not seen in {:?}", now.dropped)) }
    })
    .await;
    for (reason, count) in expected {
        println!("{reason}: {count} sent, {} counted", after.dropped[reason] - before.dropped[reason]);
    }
    assert_eq!(after.ring, before.ring, "the ring is the same");
    assert_eq!(after.members, [1, 2, 3]);
    let entered = |status: &GetStatusResponse| status.counters["gather_entered"];
    assert_eq!(entered(&after), entered(before), "no configuration change was even begun");
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_from_a_members_address_is_counted_by_reason_and_leaves_the_ring_alone() {
    let lab = Lab::cluster_over("udpu", 3).await;
    let (target, member) = (lab.node(1), lab.node(2));
    let before = ring(target).await;
    let present = before.ring.expect("there is a ring");
    let datagrams = nonsense(RingId::new(id(present.rep), present.seq));

    send(member.address(), target, &datagrams);

    counted(target, &before, &datagrams).await;
    cli::put(target, "after", "the ring works\n").await;
    lab.settled(&lab.all()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_key_nothing_from_a_members_address_is_looked_at() {
    let lab = Lab::cluster(3).await;
    let (target, member) = (lab.node(1), lab.node(2));
    let before = ring(target).await;
    let present = before.ring.expect("there is a ring");
    let present = RingId::new(id(present.rep), present.seq);
    // Too short to carry a salt, a block and the authentication; long enough, and nothing but a lie.
    let judged = |datagram: Vec<u8>| {
        (if datagram.len() < SEALED_MIN { "too_short" } else { "not_authentic" }, datagram)
    };
    let mut datagrams: Vec<_> = nonsense(present).into_iter().map(|(_, datagram)| judged(datagram)).collect();
    datagrams.push(judged(join(present.seq + 8).encode().repeat(2)));

    send(member.address(), target, &datagrams);

    counted(target, &before, &datagrams).await;
    cli::put(target, "after", "the ring works\n").await;
    lab.settled(&lab.all()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_not_listed_is_not_heard_whatever_it_sends() {
    let lab = Lab::cluster(3).await;
    let target = lab.node(1);
    let before = ring(target).await;
    let present = before.ring.expect("there is a ring");
    let present = RingId::new(id(present.rep), present.seq);
    let IpAddr::V4(address) = target.address() else { panic!("playgrounds have IPv4 addresses") };
    let [a, b, c, _] = address.octets();
    // Packets that would break the ring if they came from a member.
    let valid =
        [join(present.seq + 8).encode(), token(present).encode(), detect(RingId::new(id(9), 99)).encode()];
    let mut datagrams: Vec<_> = valid.iter().map(|packet| ("unlisted_address", packet.to_vec())).collect();
    datagrams.extend(nonsense(present).into_iter().map(|(_, datagram)| ("unlisted_address", datagram)));

    send(Ipv4Addr::new(a, b, c, 250).into(), target, &datagrams);

    counted(target, &before, &datagrams).await;
    cli::put(target, "after", "the ring works\n").await;
    lab.settled(&lab.all()).await;
}
