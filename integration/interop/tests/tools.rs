//! What the tools of either side show of a ring of both kinds, to the letter. Ids of processes and the time are taken
//! from what is shown; everything else is known before.

use interop_tests::{
    GroupMember,
    Kind::{self, Corosync, Quorate},
    Node, PATIENCE, Ring, Timers, Votes,
    Wire::{Knet, KnetTwoLinks},
    until,
};

const MIX: [Kind; 4] = [Corosync, Quorate, Quorate, Corosync];
const ALL: [u32; 4] = [1, 2, 3, 4];

/// Waits until a tool says this: links and group memberships take a moment.
async fn says(node: &Node, program: &str, arguments: &[&str], wanted: &str) -> anyhow::Result<()> {
    until(&format!("{program} {arguments:?} says:\n{wanted}"), PATIENCE, || async {
        let said = node.run(program, arguments).map_err(|error| error.to_string())?;
        if said.trim() == wanted.trim() { Ok(()) } else { Err(said) }
    })
    .await
}

/// The list of members, as `corosync-quorumtool` of a node and `pvecm nodes` show it.
fn members(ids: &[u32], local: u32) -> String {
    let lines = ids.iter().map(|id| {
        let here = if *id == local { " (local)" } else { "" };
        format!("{id:>10}          1 node{id}{here}\n")
    });
    let lines: String = lines.collect();
    format!("Membership information\n----------------------\n    Nodeid      Votes Name\n{lines}")
}

/// What comes before the list of members in the output of `corosync-quorumtool -s`, without the line of the date.
fn quorum(votes: &Votes, local: u32) -> String {
    let (Votes { expected, highest, total, quorum, .. }, (rep, seq)) = (votes, votes.ring);
    let (yes, blocked, flags) =
        if votes.quorate { ("Yes", " ", "Quorate ") } else { ("No", "Activity blocked", "") };
    format!(
        "Quorum information\n------------------\nQuorum provider:  corosync_votequorum\n\
         Nodes:            {}\nNode ID:          {local}\nRing ID:          {rep:x}.{seq:x}\n\
         Quorate:          {yes}\n\nVotequorum information\n----------------------\n\
         Expected votes:   {expected}\nHighest expected: {highest}\nTotal votes:      {total}\n\
         Quorum:           {quorum} {blocked}\nFlags:            {flags}\n\n",
        votes.members.len()
    )
}

/// The output of `corosync-quorumtool -s` on a node of theirs.
fn quorumtool_says(node: &Node, votes: &Votes) -> anyhow::Result<()> {
    let ids: Vec<u32> = votes.members.keys().copied().collect();
    let said = node.run("corosync-quorumtool", &["-s"])?;
    let dated = |line: &&str| !line.starts_with("Date:");
    let said: Vec<&str> = said.trim().lines().filter(dated).collect();
    let wanted = quorum(votes, node.id()) + &members(&ids, node.id());
    assert_eq!(said, wanted.trim().lines().collect::<Vec<_>>());
    Ok(())
}

#[tokio::test]
async fn corosync_quorumtool_shows_our_nodes_as_its_own() -> anyhow::Result<()> {
    let Some(mut ring) = Ring::formed(&MIX, Timers::SHORT.over(Knet)).await? else { return Ok(()) };
    let votes = ring.agree(&ALL).await?;
    for id in [1, 4] {
        quorumtool_says(&ring[id], &votes)?;
        says(&ring[id], "corosync-quorumtool", &["-l"], &members(&ALL, id)).await?;
    }

    ring[2].kill()?;
    let votes = ring.agree(&[1, 3, 4]).await?;
    quorumtool_says(&ring[1], &votes)?;
    ring[3].stop().await?;
    let votes = ring.agree(&[1, 4]).await?;
    assert!(!votes.quorate);
    quorumtool_says(&ring[4], &votes)?;
    says(&ring[4], "corosync-quorumtool", &["-l"], &members(&[1, 4], 4)).await
}

/// `corosync-cfgtool -s` of node 1; `lost` is a node that no link reaches.
fn links(lost: Option<u32>) -> String {
    let of_link = |link: u32| {
        let states = ALL.map(|id| match id {
            1 => format!("\t\tnodeid: {id:>10}:\tlocalhost\n"),
            _ if lost == Some(id) => format!("\t\tnodeid: {id:>10}:\tdisconnected\n"),
            _ => format!("\t\tnodeid: {id:>10}:\tconnected\n"),
        });
        format!("LINK ID {link} udp\n\taddr\t= 10.77.{link}.1\n\tstatus:\n{}", states.concat())
    };
    format!("Local node ID 1, transport knet\n{}{}", of_link(0), of_link(1))
}

/// `corosync-cfgtool -n` of node 1. The MTU is what aes256 and sha256 leave of Ethernet's 1500 bytes.
fn reachable() -> String {
    let of_node = |id: u32| {
        let links = [0, 1].map(|link| {
            let (from, to) = (format!("10.77.{link}.1"), format!("10.77.{link}.{id}"));
            format!("   LINK: {link} udp ({from}->{to}) enabled connected mtu: 1397\n")
        });
        format!("nodeid: {id} reachable\n{}", links.concat())
    };
    let nodes: Vec<String> = ALL[1..].iter().map(|id| of_node(*id)).collect();
    format!("Local node ID 1, transport knet\n{}", nodes.join("\n"))
}

#[tokio::test]
async fn corosync_cfgtool_shows_both_links_to_our_nodes_and_that_one_is_gone() -> anyhow::Result<()> {
    let Some(mut ring) = Ring::formed(&MIX, Timers::SHORT.over(KnetTwoLinks)).await? else { return Ok(()) };
    says(&ring[1], "corosync-cfgtool", &["-s"], &links(None)).await?;
    says(&ring[1], "corosync-cfgtool", &["-n"], &reachable()).await?;

    ring[2].kill()?;
    ring.agree(&[1, 3, 4]).await?;
    says(&ring[1], "corosync-cfgtool", &["-s"], &links(Some(2))).await?;
    ring[2].start().await?;
    ring.agree(&ALL).await?;
    says(&ring[1], "corosync-cfgtool", &["-s"], &links(None)).await
}

/// Words of the lines of `corosync-cpgtool -e` below its heading, sorted: their order is that of the joins.
fn processes(said: &str) -> Vec<Vec<String>> {
    let lines = said.lines().skip(1).filter(|line| !line.trim().is_empty());
    let mut lines: Vec<Vec<String>> =
        lines.map(|line| line.split_whitespace().map(str::to_owned).collect()).collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn corosync_cpgtool_shows_the_processes_of_our_nodes_in_a_group() -> anyhow::Result<()> {
    let Some(ring) = Ring::formed(&MIX, Timers::SHORT.over(KnetTwoLinks)).await? else { return Ok(()) };
    let mut joined: Vec<GroupMember> = Vec::new();
    for node in ring.nodes() {
        joined.push(node.join_group("shown").await?);
    }
    for member in &mut joined {
        member.wait_nodes(&ALL).await?;
    }
    says(&ring[4], "corosync-cpgtool", &["-n"], "shown").await?;

    let said = ring[4].run("corosync-cpgtool", &["-e"])?;

    assert_eq!(said.lines().next(), Some("Group Name\t       PID\t   Node ID"), "{said}");
    let line = |member: &GroupMember| -> Vec<String> {
        let (pid, id) = (member.pid(), member.node());
        [format!("{pid}"), format!("{id}"), format!("(10.77.0.{id}"), format!("10.77.1.{id})")].to_vec()
    };
    let mut wanted: Vec<Vec<String>> = joined.iter().map(line).collect();
    wanted.push(vec!["shown".to_owned()]);
    wanted.sort();
    assert_eq!(processes(&said), wanted);
    Ok(())
}

#[tokio::test]
async fn pvecm_on_our_node_shows_theirs_as_its_own() -> anyhow::Result<()> {
    let Some(mut ring) = Ring::formed(&MIX, Timers::SHORT.over(Knet)).await? else { return Ok(()) };
    for daemon in ["configd", "gatewayd"] {
        ring[2].start_daemon(daemon).await?;
    }
    ring[4].stop().await?;
    let votes = ring.agree(&[1, 2, 3]).await?;

    let said = ring[2].pvecm(&["status"])?;

    let said: Vec<&str> = said.trim().lines().filter(|line| !line.starts_with("Date:")).collect();
    let lines = [1, 2, 3].map(|id| {
        let here = if id == 2 { " (local)" } else { "" };
        format!("0x{id:08x}          1 10.77.0.{id}{here}\n")
    });
    let wanted = "Cluster information\n-------------------\nName:             interop\nConfig Version:   1\n\
                  Transport:        knet\nSecure auth:      on\n\n"
        .to_owned()
        + &quorum(&votes, 2).replace("Node ID:          2", "Node ID:          0x00000002")
        + "Membership information\n----------------------\n    Nodeid      Votes Name\n"
        + &lines.concat();
    assert_eq!(said, wanted.trim().lines().collect::<Vec<_>>());
    assert_eq!(ring[2].pvecm(&["nodes"])?.trim(), members(&[1, 2, 3], 2).trim());
    Ok(())
}
