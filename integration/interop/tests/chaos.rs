//! Whatever happens to the nodes, in whatever order: the ring comes back whole, and histories do not differ.
//!
//! `INTEROP_SEED` decides what happens; a failing run prints it. `INTEROP_ROUNDS` makes it longer, over every transport:
//! 200 take some ten minutes over knet.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use interop_tests::{
    GroupMember,
    Kind::{self, Corosync, Quorate},
    Ring, Timers,
    Wire::{self, Knet, Udpu},
    group::{Message, Record},
    payload::{hash, payload},
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

const MIX: [Kind; 5] = [Quorate, Corosync, Quorate, Corosync, Quorate];
const NODES: std::ops::RangeInclusive<u32> = 1..=5;
/// Rounds unless the environment says otherwise: for `make test`.
const ROUNDS: u64 = 4;
/// The same over knet, where a ring takes longer to come back.
const ROUNDS_KNET: u64 = 2;
/// Most things that happen in one round.
const FAULTS_MAX: u32 = 5;

/// How often a ring may change after the last trouble is over.
const SETTLES_MAX: u32 = 5;
/// How long a message may take in a ring that does not change.
const EXCHANGE: Duration = Duration::from_secs(10);

/// What is wrong with a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Up,
    Down,
    Paused,
    Unplugged,
}

struct Chaos {
    ring: Ring,
    random: StdRng,
    states: BTreeMap<u32, State>,
    members: BTreeMap<u32, GroupMember>,
    /// What members saw that are gone, and on which node.
    past: Vec<(u32, Record)>,
    sent: u64,
    events: Vec<String>,
}

impl Chaos {
    /// One thing happens to one node.
    async fn strike(&mut self) -> anyhow::Result<()> {
        let id = self.random.random_range(NODES);
        let state = self.states[&id];
        let act = *match state {
            State::Up => ["kill", "stop", "pause", "unplug", "send", "send"].as_slice(),
            State::Down => ["start"].as_slice(),
            State::Paused => ["resume", "kill"].as_slice(),
            State::Unplugged => ["plug", "kill", "send"].as_slice(),
        }
        .choose(&mut self.random)
        .context("there is always something to do")?;
        self.events.push(format!("{act} {id}"));
        let after = match act {
            "kill" => {
                self.ring[id].kill()?;
                self.forget(id);
                State::Down
            }
            "stop" => {
                self.ring[id].stop().await?;
                self.forget(id);
                State::Down
            }
            "pause" => {
                self.ring[id].pause()?;
                State::Paused
            }
            "unplug" => {
                self.ring.separate(&[id])?;
                State::Unplugged
            }
            "start" => {
                self.ring[id].start().await?;
                State::Up
            }
            "resume" => {
                self.ring[id].resume()?;
                State::Up
            }
            "plug" => {
                self.ring.heal()?;
                self.states
                    .values_mut()
                    .filter(|state| **state == State::Unplugged)
                    .for_each(|state| *state = State::Up);
                State::Up
            }
            _ => {
                self.send(id).await;
                state
            }
        };
        self.states.insert(id, after);
        self.wait_a_little().await;
        Ok(())
    }

    /// Long enough that sometimes a ring forms, sometimes not.
    async fn wait_a_little(&mut self) {
        let looks = self.random.random_range(0..15);
        for _ in 0..looks {
            for node in self.ring.nodes() {
                if self.states[&node.id()] == State::Up {
                    // What it says is not asked for: it may be anything while the ring changes.
                    let _ = node.votes().await;
                }
            }
        }
    }

    async fn send(&mut self, id: u32) {
        if let Some(member) = self.members.get_mut(&id) {
            self.sent += 100;
            // A member that is gone is replaced at the end of the round.
            let _ = member.send(self.random.random_range(16..8000), self.sent, 20).await;
        }
    }

    fn forget(&mut self, id: u32) {
        if let Some(member) = self.members.remove(&id) {
            self.past.push((id, member.record()));
        }
    }

    /// Ends all trouble, and checks that the ring is whole and carries messages.
    async fn recover(&mut self) -> anyhow::Result<()> {
        self.ring.heal()?;
        for id in NODES {
            match self.states[&id] {
                State::Down => self.ring[id].start().await?,
                State::Paused => self.ring[id].resume()?,
                State::Up | State::Unplugged => {}
            }
            self.states.insert(id, State::Up);
        }
        let all: Vec<u32> = NODES.collect();
        // A ring that all agree on may have lost its token already and not know it yet: then it changes once more.
        for _ in 0..SETTLES_MAX {
            let ring = self.ring.agree(&all).await?.ring;
            self.join_all().await?;
            for member in self.members.values_mut() {
                member.wait_nodes(&all).await?;
            }
            let exchanged = self.exchange().await;
            if exchanged.is_ok() {
                return exchanged;
            }
            let now = self.ring.agree(&all).await?.ring;
            if now == ring {
                return exchanged;
            }
            println!("the ring changed from {ring:?} to {now:?} after all had agreed");
        }
        bail!("the ring changes again and again")
    }

    async fn join_all(&mut self) -> anyhow::Result<()> {
        for id in NODES {
            if self.members.get(&id).is_some_and(|member| member.record().ended) {
                self.forget(id);
            }
            if !self.members.contains_key(&id) {
                let member = self.ring[id].join_group("interop").await?;
                self.members.insert(id, member);
            }
        }
        Ok(())
    }

    /// A message of everybody reaches everybody.
    async fn exchange(&mut self) -> anyhow::Result<()> {
        let mut marks = BTreeSet::new();
        for member in self.members.values_mut() {
            self.sent += 100;
            member.send(16, self.sent, 1).await?;
            marks.insert(hash(&payload(16, self.sent)));
        }
        for member in self.members.values_mut() {
            let all_seen = |record: &Record| {
                record.messages.iter().filter(|message| marks.contains(&message.hash)).count() == marks.len()
            };
            member.wait("a message of everybody", EXCHANGE, all_seen).await?;
        }
        Ok(())
    }

    /// No two members were delivered the same two messages in different orders, and none anything twice.
    fn check(&self) -> anyhow::Result<()> {
        let present = self.members.iter().map(|(id, member)| (*id, member.record()));
        let records: Vec<(u32, Record)> = present.chain(self.past.iter().cloned()).collect();
        let sets: Vec<BTreeSet<u64>> = records
            .iter()
            .map(|(_, record)| record.messages.iter().map(|message| message.hash).collect())
            .collect();
        for (index, (id, record)) in records.iter().enumerate() {
            ensure!(sets[index].len() == record.messages.len(), "node {id} was delivered a message twice");
            for other in 0..index {
                let both: BTreeSet<u64> = sets[index].intersection(&sets[other]).copied().collect();
                let common = |record: &Record| -> Vec<Message> {
                    record.messages.iter().filter(|message| both.contains(&message.hash)).cloned().collect()
                };
                let (one, two) = (common(record), common(&records[other].1));
                let differs = one.iter().zip(&two).position(|(one, two)| one != two);
                ensure!(
                    differs.is_none(),
                    "nodes {id} and {} differ in the order of {} messages, from {differs:?}",
                    records[other].0,
                    both.len()
                );
            }
        }
        Ok(())
    }
}

fn setting(name: &str, otherwise: u64) -> anyhow::Result<u64> {
    env::var(name).map_or(Ok(otherwise), |value| value.parse().with_context(|| format!("{name}: {value}")))
}

#[tokio::test]
async fn the_ring_survives_whatever_happens() -> anyhow::Result<()> {
    chaos(Udpu, ROUNDS).await
}

#[tokio::test]
async fn an_encrypted_ring_survives_whatever_happens() -> anyhow::Result<()> {
    chaos(Knet, ROUNDS_KNET).await
}

async fn chaos(wire: Wire, rounds: u64) -> anyhow::Result<()> {
    let Some(ring) = Ring::formed(&MIX, Timers::SHORT.over(wire)).await? else { return Ok(()) };
    let seed = setting("INTEROP_SEED", 1)?;
    let rounds = setting("INTEROP_ROUNDS", rounds)?;
    let mut chaos = Chaos {
        ring,
        random: StdRng::seed_from_u64(seed),
        states: NODES.map(|id| (id, State::Up)).collect(),
        members: BTreeMap::new(),
        past: Vec::new(),
        sent: 0,
        events: Vec::new(),
    };
    chaos.recover().await?;
    for round in 1..=rounds {
        chaos.events.clear();
        for _ in 0..chaos.random.random_range(1..=FAULTS_MAX) {
            let struck = chaos.strike().await;
            struck.with_context(|| format!("seed {seed}, round {round}: {:?}", chaos.events))?;
        }
        let recovered = chaos.recover().await;
        recovered.with_context(|| format!("seed {seed}, round {round}: {:?}", chaos.events))?;
        chaos.check().with_context(|| format!("seed {seed}, round {round}: {:?}", chaos.events))?;
        println!("round {round}: {}", chaos.events.join(", "));
    }
    Ok(())
}
