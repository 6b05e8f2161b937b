//! Rings of thirty-two nodes. Too much for every run of the tests: `docs/protocols/scale.md` has the command and what was
//! measured.

use std::time::Instant;

use interop_tests::{
    Kind::{self, Corosync, Quorate},
    Ring, Timers,
    Wire::Knet,
};

const NODES: u32 = 32;

/// Nodes that lose their power at once: a representative, neighbours, the last; a majority stays.
const FEW: [u32; 6] = [1, 2, 9, 17, 18, 32];
/// Half of all: nobody is quorate any more.
const HALF: std::ops::RangeInclusive<u32> = 1..=16;

async fn lives(kinds: &[Kind]) -> anyhow::Result<()> {
    let Some(mut ring) = Ring::new(kinds, Timers::PATIENT.over(Knet))? else { return Ok(()) };
    let all: Vec<u32> = (1..=NODES).collect();
    let begun = Instant::now();
    for id in &all {
        ring[*id].start().await?;
    }
    println!("{NODES} nodes started after {:.1} s", begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    let votes = ring.agree(&all).await?;
    println!("one quorate ring {:.1} s after the last start", begun.elapsed().as_secs_f64());
    assert!(votes.quorate);

    for (lost, quorate) in [(FEW.to_vec(), true), (HALF.collect(), false), (vec![16, 20], true)] {
        let rest: Vec<u32> = all.iter().copied().filter(|id| !lost.contains(id)).collect();
        let begun = Instant::now();
        for id in &lost {
            ring[*id].kill()?;
        }
        let votes = ring.agree(&rest).await?;
        println!("{} killed: the others agree after {:.1} s", lost.len(), begun.elapsed().as_secs_f64());
        assert_eq!(votes.quorate, quorate);

        let begun = Instant::now();
        for id in &lost {
            ring[*id].start().await?;
        }
        ring.agree(&all).await?;
        println!("{} started again: all agree after {:.1} s", lost.len(), begun.elapsed().as_secs_f64());
    }
    Ok(())
}

#[tokio::test]
#[ignore = "64 processes for some minutes"]
async fn thirty_two_of_ours_form_a_quorate_ring_and_survive_kills() -> anyhow::Result<()> {
    lives(&[Quorate; NODES as usize]).await
}

#[tokio::test]
#[ignore = "48 processes for some minutes"]
async fn sixteen_of_ours_and_sixteen_of_theirs_form_a_quorate_ring_and_survive_kills() -> anyhow::Result<()> {
    let kinds: Vec<Kind> = (0..NODES).map(|index| if index % 2 == 0 { Quorate } else { Corosync }).collect();
    lives(&kinds).await
}
