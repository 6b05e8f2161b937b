//! Process groups across the boundary: every member is delivered the same messages in the same order.

use interop_tests::{
    GroupMember,
    Kind::{Corosync, Quorate},
    Node, PATIENCE, Ring, Timers,
    group::{join_all, same_sequence},
    payload::{hash, payload},
    until,
};

/// Largest message that corosync's library does not split. Source: spec `corosync-services.md`, 4.2.
const ATOMIC_MAX: usize = 1_047_552;

/// Two of each kind, in turn, with a process of the group on each.
async fn four() -> anyhow::Result<Option<(Ring, Vec<GroupMember>)>> {
    let kinds = [Quorate, Corosync, Quorate, Corosync];
    let Some(ring) = Ring::formed(&kinds, Timers::PATIENT).await? else { return Ok(None) };
    let nodes: Vec<&Node> = ring.nodes().iter().collect();
    let members = join_all(&nodes, "interop").await?;
    Ok(Some((ring, members)))
}

/// Every member sends `count` messages of this size at the same time.
async fn all_send(size: usize, count: u64) -> anyhow::Result<()> {
    let Some((mut ring, mut members)) = four().await? else { return Ok(()) };

    for (seed, member) in (1000..).step_by(1000).zip(&mut members) {
        member.send(size, seed, count).await?;
    }

    let digest = same_sequence(&mut members, usize::try_from(count)? * 4).await?;
    println!("{count} messages of {size} bytes from each of 4 nodes: {digest:016x} on all");
    let delivered = members[0].record().messages;
    for (seed, pid) in (1000..).step_by(1000).zip(members.iter().map(GroupMember::pid)) {
        let own: Vec<u64> = delivered.iter().filter(|sent| sent.pid == pid).map(|sent| sent.hash).collect();
        let sent: Vec<u64> = (0..count).map(|number| hash(&payload(size, seed + number))).collect();
        assert_eq!(own, sent, "what was sent is delivered whole, once, in the sender's order");
    }
    ring.agree(&[1, 2, 3, 4]).await?;
    Ok(())
}

#[tokio::test]
async fn small_messages_are_packed_and_delivered_in_one_order() -> anyhow::Result<()> {
    all_send(40, 2000).await
}

#[tokio::test]
async fn empty_messages_are_delivered() -> anyhow::Result<()> {
    all_send(0, 20).await
}

#[tokio::test]
async fn messages_of_about_a_packet_are_delivered_in_one_order() -> anyhow::Result<()> {
    // 184 bytes of CPG's header, 5 of the group's name: sizes around the end of a packet of 1402 bytes.
    let Some((_ring, mut members)) = four().await? else { return Ok(()) };
    let sizes = 1190..1226;

    for member in &mut members {
        for size in sizes.clone() {
            member.send(size, 7, 1).await?;
        }
    }

    same_sequence(&mut members, sizes.len() * 4).await?;
    Ok(())
}

#[tokio::test]
async fn messages_of_64_kib_are_delivered_in_one_order() -> anyhow::Result<()> {
    all_send(65_536, 20).await
}

#[tokio::test]
async fn messages_of_a_megabyte_are_delivered_in_one_order() -> anyhow::Result<()> {
    all_send(ATOMIC_MAX, 2).await
}

#[tokio::test]
async fn a_message_that_corosyncs_library_splits_is_delivered_whole_by_ours() -> anyhow::Result<()> {
    let Some((_ring, mut members)) = four().await? else { return Ok(()) };
    let size = 2 * ATOMIC_MAX + 12_345;

    members[1].send(size, 9, 1).await?;
    members[0].send(100, 1, 1).await?;

    for member in &mut members {
        member.wait_messages(2).await?;
        let messages = member.record().messages;
        let large = messages.iter().find(|message| message.length == size);
        assert_eq!(large.map(|message| message.hash), Some(hash(&payload(size, 9))), "{messages:?}");
    }
    Ok(())
}

#[tokio::test]
async fn mixed_sizes_are_delivered_in_one_order() -> anyhow::Result<()> {
    let Some((_ring, mut members)) = four().await? else { return Ok(()) };
    let sizes = [10, 70_000, 1, 1402, 300, 200_000, 5000, 16];

    for round in 0..5 {
        for member in &mut members {
            for size in sizes {
                member.send(size, round, 3).await?;
            }
        }
    }

    same_sequence(&mut members, 5 * 4 * sizes.len() * 3).await?;
    Ok(())
}

#[tokio::test]
async fn joins_and_leaves_of_processes_are_seen_on_both_sides() -> anyhow::Result<()> {
    let Some(ring) = Ring::formed(&[Quorate, Corosync], Timers::SHORT).await? else { return Ok(()) };
    let mut ours = ring[1].join_group("interop").await?;

    let mut theirs = ring[2].join_group("interop").await?;
    ours.wait_nodes(&[1, 2]).await?;
    theirs.wait_nodes(&[1, 2]).await?;
    let pid = ours.pid().to_string();
    until("corosync-cpgtool shows our process", PATIENCE, || async {
        let shown = ring[2].run("corosync-cpgtool", &[]).map_err(|error| error.to_string())?;
        let is_ours = |line: &str| line.contains(&pid) && line.contains("1 (10.77.0.1)");
        if shown.lines().any(is_ours) { Ok(()) } else { Err(shown) }
    })
    .await?;

    drop(theirs);
    ours.wait_nodes(&[1]).await?;
    let mut theirs = ring[2].join_group("interop").await?;
    theirs.wait_nodes(&[1, 2]).await?;
    drop(ours);
    theirs.wait_nodes(&[2]).await?;
    Ok(())
}

#[tokio::test]
async fn members_of_other_groups_are_delivered_nothing() -> anyhow::Result<()> {
    let Some(ring) = Ring::formed(&[Quorate, Corosync], Timers::SHORT).await? else { return Ok(()) };
    let nodes: Vec<&Node> = ring.nodes().iter().collect();
    let mut members = join_all(&nodes, "one").await?;
    let mut others = join_all(&nodes, "two").await?;

    members[0].send(10, 1, 5).await?;
    members[1].send(10, 2, 5).await?;
    same_sequence(&mut members, 10).await?;

    // What is sent later is delivered later: had anything come, it would be there now.
    others[0].send(10, 3, 1).await?;
    others[1].send(10, 4, 1).await?;
    same_sequence(&mut others, 2).await?;
    assert_eq!(others[0].record().messages.len(), 2);
    Ok(())
}
