//! Votes: both sides count the same, whoever changes them and whenever quorumd comes.

use interop_tests::{
    Kind::{Corosync, Quorate},
    PATIENCE, Ring, Timers, until,
};

#[tokio::test]
async fn expected_votes_that_are_changed_on_one_side_arrive_on_the_other() -> anyhow::Result<()> {
    let Some(mut ring) = Ring::formed(&[Corosync, Quorate, Corosync], Timers::SHORT).await? else {
        return Ok(());
    };

    ring[1].set_expected(5).await?;
    ring.agree_with_expected(&[1, 2, 3], 5).await?;

    ring[2].set_expected(4).await?;
    ring.agree_with_expected(&[1, 2, 3], 4).await?;

    for id in [1, 2] {
        let refused = ring[id].set_expected(7).await;
        assert!(refused.is_err(), "both refuse: 3 votes are no majority of 7");
    }
    ring[3].set_expected(3).await?;
    ring.agree(&[1, 2, 3]).await?;
    Ok(())
}

#[tokio::test]
async fn a_node_that_joins_while_expected_votes_are_overridden_learns_them() -> anyhow::Result<()> {
    let kinds = [Corosync, Quorate, Corosync, Quorate];
    let Some(mut ring) = Ring::new(&kinds, Timers::SHORT)? else { return Ok(()) };
    for id in [1, 2, 3] {
        ring[id].start().await?;
    }
    ring.agree(&[1, 2, 3]).await?;
    ring[1].set_expected(5).await?;
    ring.agree_with_expected(&[1, 2, 3], 5).await?;

    ring[4].start().await?;

    ring.agree_with_expected(&[1, 2, 3, 4], 5).await?;
    Ok(())
}

#[tokio::test]
async fn quorumd_that_comes_late_gives_its_node_its_vote() -> anyhow::Result<()> {
    let Some(mut ring) = Ring::new(&[Corosync, Quorate, Corosync], Timers::SHORT)? else { return Ok(()) };
    ring[1].start().await?;
    ring[3].start().await?;
    ring.agree(&[1, 3]).await?;
    ring[2].start_daemon("membershipd").await?;
    let before = until("corosync sees the ring, without a vote of node 2", PATIENCE, || async {
        let shown = ring[1].run("corosync-quorumtool", &["-s"]).map_err(|error| error.to_string())?;
        let nodes_and_votes = ["Nodes:            3", "Total votes:      2"];
        if nodes_and_votes.iter().all(|line| shown.contains(line)) { Ok(shown) } else { Err(shown) }
    })
    .await?;
    assert!(before.contains("Quorate:          Yes"), "{before}");

    ring[2].start_daemon("quorumd").await?;

    ring.agree(&[1, 2, 3]).await?;
    Ok(())
}

#[tokio::test]
async fn quorumd_that_is_restarted_counts_as_before() -> anyhow::Result<()> {
    let Some(mut ring) = Ring::formed(&[Quorate, Corosync, Quorate], Timers::SHORT).await? else {
        return Ok(());
    };
    let before = ring[2].votes().await?;

    ring[1].kill_daemon("quorumd")?;
    ring[1].start_daemon("quorumd").await?;

    let after = ring.agree(&[1, 2, 3]).await?;
    assert_eq!(before, after, "the ring has not changed");
    // And again in the synchronisation of another ring.
    ring[2].stop().await?;
    ring.agree(&[1, 3]).await?;
    ring[2].start().await?;
    ring.agree(&[1, 2, 3]).await?;
    Ok(())
}

#[tokio::test]
async fn a_ring_that_changes_while_quorumd_is_away_is_counted_when_it_is_back() -> anyhow::Result<()> {
    let Some(mut ring) = Ring::formed(&[Quorate, Corosync, Corosync], Timers::SHORT).await? else {
        return Ok(());
    };
    ring[1].kill_daemon("quorumd")?;
    ring[3].stop().await?;
    ring[3].start().await?;
    until("corosync counts three members again", PATIENCE, || async {
        let shown = ring[3].run("corosync-quorumtool", &["-s"]).map_err(|error| error.to_string())?;
        if shown.contains("Nodes:            3") { Ok(()) } else { Err(shown) }
    })
    .await?;

    ring[1].start_daemon("quorumd").await?;

    ring.agree(&[1, 2, 3]).await?;
    Ok(())
}
