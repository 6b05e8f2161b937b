//! Partitions, cables that are pulled, and networks that lose packets.

use interop_tests::{
    Kind::{self, Corosync, Quorate},
    Node, PATIENCE, Ring, Timers,
    group::{join_all, same_sequence},
};

const MIX: [Kind; 4] = [Quorate, Corosync, Corosync, Quorate];

/// Splits a group, lets both parts talk, heals, and checks what each part was delivered.
async fn divided(separated: &[u32], rest: &[u32]) -> anyhow::Result<()> {
    let Some(mut ring) = Ring::formed(&MIX, Timers::SHORT).await? else { return Ok(()) };
    let nodes: Vec<&Node> = ring.nodes().iter().collect();
    let mut members = join_all(&nodes, "interop").await?;
    for member in &mut members {
        member.send(500, 0, 50).await?;
    }
    same_sequence(&mut members, 200).await?;

    ring.separate(separated)?;

    for part in [separated, rest] {
        ring.agree(part).await?;
        for id in part {
            members[*id as usize - 1].wait_nodes(part).await?;
        }
    }
    for (seed, member) in (1..).zip(&mut members) {
        member.send(500, seed, 50).await?;
    }
    for part in [separated, rest] {
        let count = 200 + 50 * part.len();
        for id in part {
            members[*id as usize - 1].wait_messages(count).await?;
        }
    }
    let digest = |id: &u32| members[*id as usize - 1].record().digest();
    for part in [separated, rest] {
        assert!(part.iter().all(|id| digest(id) == digest(&part[0])), "one order within {part:?}");
    }

    ring.heal()?;

    ring.agree(&[1, 2, 3, 4]).await?;
    for member in &mut members {
        member.wait_nodes(&[1, 2, 3, 4]).await?;
    }
    let before: Vec<usize> = members.iter().map(|member| member.record().messages.len()).collect();
    for member in &mut members {
        member.send(500, 99, 50).await?;
    }
    let mut after = Vec::new();
    for (member, before) in members.iter_mut().zip(before) {
        member.wait_messages(before + 200).await?;
        after.push(member.record().messages.split_off(before));
    }
    assert!(after.iter().all(|sequence| *sequence == after[0]), "one order after the merge");
    Ok(())
}

#[tokio::test]
async fn a_partition_between_the_kinds_heals() -> anyhow::Result<()> {
    divided(&[1, 4], &[2, 3]).await
}

#[tokio::test]
async fn a_partition_across_the_kinds_heals() -> anyhow::Result<()> {
    divided(&[1, 2], &[3, 4]).await
}

#[tokio::test]
async fn one_of_ours_alone_comes_back() -> anyhow::Result<()> {
    divided(&[1], &[2, 3, 4]).await
}

#[tokio::test]
async fn one_of_theirs_alone_comes_back() -> anyhow::Result<()> {
    divided(&[2], &[1, 3, 4]).await
}

#[tokio::test]
async fn a_node_whose_interface_goes_down_is_alone_until_it_is_up() -> anyhow::Result<()> {
    let Some(mut ring) = Ring::formed(&MIX, Timers::SHORT).await? else { return Ok(()) };
    for id in [1, 2, 3, 4] {
        let others: Vec<u32> = (1..=4).filter(|other| *other != id).collect();

        ring[id].set_links(false)?;

        ring.agree(&others).await?;
        if ring[id].kind() == Quorate {
            // corosync's own ring of one is at the loopback address; only ours is asked here.
            ring.agree(&[id]).await?;
        }

        ring[id].set_links(true)?;

        ring.agree(&[1, 2, 3, 4]).await?;
    }
    Ok(())
}

/// Messages of all sizes arrive in one order although packets get lost, and the ring stays as it is.
async fn lossy(percent: u32) -> anyhow::Result<()> {
    let Some(mut ring) = Ring::formed(&MIX, Timers::LOSSY).await? else { return Ok(()) };
    let nodes: Vec<&Node> = ring.nodes().iter().collect();
    let mut members = join_all(&nodes, "interop").await?;
    let before = ring.agree(&[1, 2, 3, 4]).await?;

    ring.lose(percent)?;

    let sizes = [(100, 60), (3000, 20), (65_536, 2), (300_000, 1)];
    for (size, count) in sizes {
        for (seed, member) in (0..).step_by(1000).zip(&mut members) {
            member.send(size, seed, count).await?;
        }
    }
    let count: u64 = sizes.iter().map(|(_, count)| 4 * count).sum();
    same_sequence(&mut members, usize::try_from(count)?).await?;
    let after = ring.agree(&[1, 2, 3, 4]).await?;
    assert_eq!(before.ring, after.ring, "packets that are lost are sent again; no node is taken for dead");
    Ok(())
}

#[tokio::test]
async fn one_percent_of_loss_changes_nothing() -> anyhow::Result<()> {
    lossy(1).await
}

#[tokio::test]
async fn ten_percent_of_loss_change_nothing() -> anyhow::Result<()> {
    lossy(10).await
}

#[tokio::test]
async fn a_ring_forms_and_changes_while_a_tenth_of_the_packets_is_lost() -> anyhow::Result<()> {
    let Some(mut ring) = Ring::new(&MIX, Timers::LOSSY)? else { return Ok(()) };
    ring.lose(10)?;
    for id in [2, 1, 4, 3] {
        ring[id].start().await?;
    }
    ring.agree(&[1, 2, 3, 4]).await?;

    ring[4].kill()?;
    ring.agree(&[1, 2, 3]).await?;
    ring[4].start().await?;
    ring.agree(&[1, 2, 3, 4]).await?;

    let mut one = ring[1].join_group("interop").await?;
    one.wait("a process of its own", PATIENCE, |record| record.memberships.len() == 1).await?;
    Ok(())
}
