//! Nodes of either kind join, leave, die, stand still and come back.

use std::time::{Duration, Instant};

use interop_tests::{
    Kind::{self, Corosync, Quorate},
    Node, Ring, Timers,
    Wire::{self, Knet, Udpu},
    group::{join_all, same_sequence},
};

const MIX: [Kind; 4] = [Corosync, Quorate, Quorate, Corosync];
/// Token timeout that no leave may wait for, long against everything else that happens.
const SLOW: Timers = Timers { token: 10_000, retransmits: 4 };

/// All nodes but one.
fn others(of: u32) -> Vec<u32> {
    (1..=4).filter(|id| *id != of).collect()
}

/// After whatever happened: a group over all nodes is delivered the same everywhere.
async fn exchange(ring: &Ring, group: &str) -> anyhow::Result<()> {
    let nodes: Vec<&Node> = ring.nodes().iter().collect();
    let mut members = join_all(&nodes, group).await?;
    for (seed, member) in (0..).step_by(100).zip(&mut members) {
        member.send(2000, seed, 20).await?;
    }
    same_sequence(&mut members, 20 * nodes.len()).await?;
    Ok(())
}

async fn good_byes(wire: Wire) -> anyhow::Result<()> {
    let Some(mut ring) = Ring::formed(&MIX, SLOW.over(wire)).await? else { return Ok(()) };

    for id in [2, 4, 1, 3] {
        let begun = Instant::now();
        ring[id].stop().await?;
        ring.agree(&others(id)).await?;
        let took = begun.elapsed();
        assert!(took < Duration::from_millis(SLOW.token.into()), "node {id}: {took:?}");

        ring[id].start().await?;
        ring.agree(&[1, 2, 3, 4]).await?;
    }
    exchange(&ring, "leave").await
}

#[tokio::test]
async fn a_node_that_says_good_bye_is_not_waited_for() -> anyhow::Result<()> {
    good_byes(Udpu).await
}

#[tokio::test]
async fn a_node_that_says_good_bye_to_an_encrypted_ring_is_not_waited_for() -> anyhow::Result<()> {
    good_byes(Knet).await
}

#[tokio::test]
async fn a_killed_node_is_lost_and_comes_back() -> anyhow::Result<()> {
    let Some(mut ring) = Ring::formed(&MIX, Timers::SHORT).await? else { return Ok(()) };

    for id in [2, 1, 3, 4] {
        ring[id].kill()?;
        ring.agree(&others(id)).await?;

        ring[id].start().await?;
        ring.agree(&[1, 2, 3, 4]).await?;
    }
    exchange(&ring, "kill").await
}

async fn pauses(wire: Wire) -> anyhow::Result<()> {
    let Some(mut ring) = Ring::formed(&MIX, Timers::SHORT.over(wire)).await? else { return Ok(()) };

    for id in [1, 2, 3, 4] {
        ring[id].pause()?;
        ring.agree(&others(id)).await?;

        ring[id].resume()?;
        ring.agree(&[1, 2, 3, 4]).await?;
    }
    exchange(&ring, "pause").await
}

#[tokio::test]
async fn a_node_that_stood_still_is_taken_back() -> anyhow::Result<()> {
    pauses(Udpu).await
}

#[tokio::test]
async fn a_node_that_stood_still_is_taken_back_into_an_encrypted_ring() -> anyhow::Result<()> {
    pauses(Knet).await
}

#[tokio::test]
async fn without_a_majority_nobody_is_quorate_and_all_say_so() -> anyhow::Result<()> {
    let Some(mut ring) = Ring::formed(&MIX, Timers::SHORT).await? else { return Ok(()) };

    ring[2].kill()?;
    ring[4].kill()?;

    let votes = ring.agree(&[1, 3]).await?;
    assert!(!votes.quorate);
    ring[4].start().await?;
    let votes = ring.agree(&[1, 3, 4]).await?;
    assert!(votes.quorate);
    Ok(())
}

#[tokio::test]
async fn a_node_of_ours_obeys_corosyncs_order_to_leave() -> anyhow::Result<()> {
    let Some(mut ring) = Ring::formed(&MIX, Timers::SHORT).await? else { return Ok(()) };

    ring[1].run("corosync-cfgtool", &["-k", "2"])?;

    ring.agree(&others(2)).await?;
    ring[2].kill()?;
    ring[2].start().await?;
    ring.agree(&[1, 2, 3, 4]).await?;
    Ok(())
}

#[tokio::test]
async fn membershipd_that_is_restarted_is_back_in_the_ring_with_its_vote() -> anyhow::Result<()> {
    let Some(mut ring) = Ring::formed(&MIX, Timers::SHORT).await? else { return Ok(()) };

    for id in [2, 3] {
        ring[id].kill_daemon("membershipd")?;
        ring[id].start_daemon("membershipd").await?;

        ring.agree(&[1, 2, 3, 4]).await?;
    }
    exchange(&ring, "restart").await
}

#[tokio::test]
async fn the_others_are_delivered_the_same_while_a_sender_dies() -> anyhow::Result<()> {
    for victim in [1_u32, 2] {
        let Some(mut ring) = Ring::formed(&MIX, Timers::SHORT).await? else { return Ok(()) };
        let nodes: Vec<&Node> = ring.nodes().iter().collect();
        let mut members = join_all(&nodes, "interop").await?;
        for (seed, member) in (0..).step_by(10_000).zip(&mut members) {
            member.send(3000, seed, 300).await?;
        }
        members[0].wait_messages(100).await?;

        ring[victim].kill()?;

        ring.agree(&others(victim)).await?;
        let lost = usize::try_from(victim)? - 1;
        members.remove(lost);
        for member in &mut members {
            member.wait_nodes(&others(victim)).await?;
        }
        // A last message of each: once all are there, everything before is, too.
        for member in &mut members {
            member.send(7, 0, 1).await?;
        }
        for member in &mut members {
            let is_last = |record: &interop_tests::group::Record| {
                record.messages.iter().filter(|message| message.length == 7).count() == 3
            };
            member.wait("the last messages", interop_tests::PATIENCE, is_last).await?;
        }
        same_sequence(&mut members, 900).await?;
    }
    Ok(())
}
