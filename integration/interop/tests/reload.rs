//! `corosync-cfgtool -R` on one node: nodes of both kinds read corosync.conf again.

use std::fs;

use interop_tests::{
    Kind::{Corosync, Quorate},
    Node, PATIENCE, Ring, Timers, Votes,
    Wire::{self, Knet, Udpu},
    until,
};
use quorate_proto::membership::v1::{GetStatusRequest, membership_service_client::MembershipServiceClient};

/// The file without the block of a node.
fn without(conf: &str, id: u32) -> String {
    let (before, rest) = conf.split_once(&format!("  node {{\n    name: node{id}\n")).expect("it is listed");
    let (_, after) = rest.split_once("  }\n").expect("a block ends");
    format!("{before}{after}")
}

/// The file with a higher version and one more change.
fn changed(conf: &str, version: u32, from: &str, to: &str) -> String {
    assert!(conf.contains(from), "{conf}");
    conf.replace("config_version: 1\n", &format!("config_version: {version}\n")).replace(from, to)
}

async fn agree_on(ring: &Ring, wanted: impl Fn(&Votes) -> bool) -> anyhow::Result<Votes> {
    let what = "all nodes count what the new file says";
    until(what, PATIENCE, || async {
        let mut seen = Vec::new();
        for node in ring.nodes() {
            seen.push(node.votes().await.map_err(|error| error.to_string())?);
        }
        let first = seen[0].clone();
        if wanted(&first) && seen.iter().all(|votes| *votes == first) {
            Ok(first)
        } else {
            Err(format!("{seen:#?}"))
        }
    })
    .await
}

async fn version_and_token(node: &Node) -> anyhow::Result<(u64, i64)> {
    let mut client = MembershipServiceClient::new(node.channel("membershipd"));
    let status = client.get_status(GetStatusRequest {}).await?.into_inner();
    let token = status.token_timeout.unwrap_or_default();
    Ok((status.config_version, token.seconds * 1000 + i64::from(token.nanos) / 1_000_000))
}

async fn a_node_is_added(wire: Wire) -> anyhow::Result<()> {
    let kinds = [Corosync, Quorate, Quorate, Corosync];
    for added in [3, 4] {
        let Some(mut ring) = Ring::new(&kinds, Timers::SHORT.over(wire))? else { return Ok(()) };
        let full = changed(ring.conf(), 2, "token: 1000", "token: 1000");
        let first: Vec<u32> = (1..=4).filter(|id| *id != added).collect();
        ring.write_conf(&without(ring.conf(), added))?;
        for id in &first {
            ring[*id].start().await?;
        }
        let before = ring.agree_with_expected(&first, 3).await?;

        ring.write_conf(&full)?;
        ring[1].run("corosync-cfgtool", &["-R"])?;

        let after = ring.agree_with_expected(&first, 4).await?;
        assert_eq!(before.ring, after.ring, "a reload leaves the ring as it is");
        ring[added].start().await?;
        ring.agree(&[1, 2, 3, 4]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_node_that_is_added_to_every_file_joins_after_one_of_theirs_says_reload() -> anyhow::Result<()> {
    a_node_is_added(Udpu).await
}

#[tokio::test]
async fn a_node_that_is_added_to_an_encrypted_ring_joins_after_one_of_theirs_says_reload()
-> anyhow::Result<()> {
    a_node_is_added(Knet).await
}

#[tokio::test]
async fn votes_and_timers_of_the_new_file_are_in_force_on_both_sides_after_a_reload() -> anyhow::Result<()> {
    let kinds = [Quorate, Corosync, Quorate];
    let Some(ring) = Ring::formed(&kinds, Timers::SHORT).await? else { return Ok(()) };
    assert_eq!(version_and_token(&ring[1]).await?, (1, 1000));

    let votes = changed(ring.conf(), 2, "nodeid: 3\n    quorum_votes: 1", "nodeid: 3\n    quorum_votes: 4");
    ring.write_conf(&votes.replace("token: 1000", "token: 1500"))?;
    ring[2].run("corosync-cfgtool", &["-R"])?;

    let votes = agree_on(&ring, |votes| votes.total == 6).await?;
    assert_eq!((votes.expected, votes.quorum, votes.members[&3]), (6, 4, 4));
    for id in [1, 3] {
        assert_eq!(version_and_token(&ring[id]).await?, (2, 1500));
    }
    let theirs = ring[2].run("corosync-cmapctl", &["-g", "runtime.config.totem.token"])?;
    assert!(theirs.trim_end().ends_with("= 1500"), "{theirs}");
    Ok(())
}

#[tokio::test]
async fn a_file_that_cannot_be_used_leaves_our_node_as_it_is() -> anyhow::Result<()> {
    let Some(mut ring) = Ring::formed(&[Quorate, Corosync, Corosync], Timers::SHORT).await? else {
        return Ok(());
    };
    let before = ring.agree(&[1, 2, 3]).await?;
    let unusable = [
        ("mistakes", ring.conf().replace("nodeid: 3", "nodeid: three")),
        ("no node named", without(ring.conf(), 1)),
        ("needs a restart", ring.conf().replace("cluster_name: interop", "cluster_name: other")),
    ];
    for (why, conf) in unusable {
        ring[1].write_conf(&conf)?;

        ring[2].run("corosync-cfgtool", &["-R"])?;

        let log = ring[1].log("membershipd");
        until(&format!("membershipd says why: {why}"), PATIENCE, || async {
            let text = fs::read_to_string(&log).map_err(|error| error.to_string())?;
            if text.contains(why) { Ok(()) } else { Err(text) }
        })
        .await?;
        assert_eq!(ring.agree(&[1, 2, 3]).await?, before);
    }
    Ok(())
}
