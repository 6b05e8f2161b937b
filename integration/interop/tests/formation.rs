//! A ring forms from either side, with a node of either kind as its representative.

use interop_tests::{
    Kind::{self, Corosync, Quorate},
    Node, PATIENCE, Ring, Timers, until,
};
use quorate_proto::membership::v1::{
    GetStatusRequest, RingState, membership_service_client::MembershipServiceClient,
};

/// Why a packet is dropped that we cannot read.
const UNREADABLE: [&str; 6] =
    ["bad_magic", "bad_version", "unknown_type", "malformed", "too_long", "unlisted_address"];

/// Starts the nodes in this order, each when those before it have formed a ring; then asks everybody.
async fn forms(kinds: &[Kind], order: &[u32]) -> anyhow::Result<()> {
    let Some(mut ring) = Ring::new(kinds, Timers::SHORT)? else { return Ok(()) };
    let mut members = Vec::new();
    for id in order {
        ring[*id].start().await?;
        members.push(*id);
        members.sort_unstable();

        let votes = ring.agree(&members).await?;

        assert_eq!(votes.ring.0, members[0], "the member with the lowest id is the representative");
    }
    for node in ring.nodes() {
        match node.kind() {
            Quorate => quorate_shows_all(node, &members).await?,
            Corosync => corosync_shows_all(node, &members).await?,
        }
    }
    Ok(())
}

async fn quorate_shows_all(node: &Node, members: &[u32]) -> anyhow::Result<()> {
    let mut client = MembershipServiceClient::new(node.channel("membershipd"));
    let status = client.get_status(GetStatusRequest {}).await?.into_inner();
    assert_eq!(status.members, members);
    assert_eq!(status.state(), RingState::Operational);
    assert!(status.synchronised);
    for reason in UNREADABLE {
        assert_eq!(status.dropped[reason], 0, "packets of corosync were dropped: {:?}", status.dropped);
    }
    Ok(())
}

async fn corosync_shows_all(node: &Node, members: &[u32]) -> anyhow::Result<()> {
    let mut wanted = Vec::new();
    for id in members {
        wanted.push(format!("runtime.members.{id}.status (str) = joined"));
        wanted.push(format!("runtime.members.{id}.config_version (u64) = 1"));
        wanted.push(format!("runtime.votequorum.this_node_id (u32) = {}", node.id()));
    }
    until("corosync-cmapctl shows all members", PATIENCE, || async {
        let shown = node.run("corosync-cmapctl", &["runtime."]).map_err(|error| error.to_string())?;
        if wanted.iter().all(|line| shown.lines().any(|shown| shown == line)) { Ok(()) } else { Err(shown) }
    })
    .await
}

#[tokio::test]
async fn two_corosync_nodes_join_a_ring_of_ours() -> anyhow::Result<()> {
    forms(&[Quorate, Corosync, Corosync], &[1, 2, 3]).await
}

#[tokio::test]
async fn ours_joins_a_ring_of_two_corosync_nodes_in_the_middle() -> anyhow::Result<()> {
    forms(&[Corosync, Quorate, Corosync], &[1, 3, 2]).await
}

#[tokio::test]
async fn corosync_joins_a_ring_of_two_of_ours_and_becomes_its_representative() -> anyhow::Result<()> {
    forms(&[Corosync, Quorate, Quorate], &[2, 3, 1]).await
}

#[tokio::test]
async fn two_of_ours_join_a_corosync_node_and_take_over_as_representative() -> anyhow::Result<()> {
    forms(&[Quorate, Quorate, Corosync], &[3, 2, 1]).await
}

#[tokio::test]
async fn three_of_ours_and_two_of_theirs_form_a_ring_at_once() -> anyhow::Result<()> {
    Ring::formed(&[Corosync, Quorate, Quorate, Corosync, Quorate], Timers::SHORT).await?;
    Ok(())
}
