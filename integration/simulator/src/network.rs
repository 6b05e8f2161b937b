//! The faulty network: decides for each datagram whether, when and how often it arrives.
//!
//! It holds no datagrams: the cluster asks [`Network::carry`] and puts the arrivals into its queue.
//! On a healthy link datagrams of one sender stay in order, as on a real switch; only a
//! reordered or stale copy overtakes or falls behind.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use quorate_types::NodeId;

use crate::{event::SimTime, rng::Rng, trace::hash_bytes};

/// What travels, with the hash of it that the trace wants: taken once, however many receive it.
#[derive(Debug, Clone)]
pub struct Datagram {
    /// The bytes.
    pub bytes: Bytes,
    /// Their hash.
    pub hash: u64,
}

impl From<Bytes> for Datagram {
    fn from(bytes: Bytes) -> Self {
        Self { hash: hash_bytes(&bytes), bytes }
    }
}

/// How well datagrams travel from one node to another. Chances are in parts per million.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Quality {
    /// Chance that a datagram is lost.
    pub loss: u32,
    /// Chance that a datagram arrives twice, the second time soon after.
    pub duplicate: u32,
    /// Chance that a datagram is held back and overtaken by those after it.
    pub reorder: u32,
    /// Chance that an additional copy arrives long after, when its ring may be history.
    pub stale: u32,
    /// Longer datagrams vanish: a path with a smaller MTU than anyone knows, and no word of it.
    pub bytes_max: usize,
    /// Shortest way from one node to another.
    pub delay_min: Duration,
    /// Longest way, unless reordered.
    pub delay_max: Duration,
}

impl Quality {
    /// A local network without faults: 50 to 150 microseconds.
    pub const PERFECT: Self = Self {
        loss: 0,
        duplicate: 0,
        reorder: 0,
        stale: 0,
        bytes_max: usize::MAX,
        delay_min: Duration::from_micros(50),
        delay_max: Duration::from_micros(150),
    };
}

/// Longest time that a reordered datagram is held back.
const REORDER_DELAY_MAX: Duration = Duration::from_millis(20);
/// Longest time after which a stale copy still arrives.
const STALE_DELAY_MAX: Duration = Duration::from_secs(20);
/// How many datagrams wait at a rate-limited receiver before the next ones are lost: a receive
/// buffer of about 1 MB.
const BACKLOG_MAX: u32 = 700;

/// Arrival times of the copies of one datagram: none, one, two or three.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Arrivals {
    times: [Option<SimTime>; 3],
}

impl Arrivals {
    fn add(&mut self, at: SimTime) {
        let free = self.times.iter_mut().find(|slot| slot.is_none());
        *free.expect("a datagram has at most three copies") = Some(at);
    }

    /// The times, in no particular order.
    pub fn iter(self) -> impl Iterator<Item = SimTime> {
        self.times.into_iter().flatten()
    }

    /// Whether no copy arrives.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.times[0].is_none()
    }
}

/// Counters over the whole run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NetworkStats {
    /// Datagrams handed to the network, one per receiver.
    pub sent: u64,
    /// Those that did not arrive at all.
    pub lost: u64,
    /// Those of the lost ones that a block (partition) stopped.
    pub blocked: u64,
    /// Additional copies.
    pub copies: u64,
}

/// All links between the nodes, each direction for itself.
#[derive(Debug)]
pub struct Network {
    rng: Rng,
    quality: Quality,
    overrides: BTreeMap<(NodeId, NodeId), Quality>,
    blocked: BTreeMap<(NodeId, NodeId), u32>,
    last_arrival: BTreeMap<(NodeId, NodeId), SimTime>,
    service_time: BTreeMap<NodeId, Duration>,
    busy_until: BTreeMap<NodeId, SimTime>,
    stats: NetworkStats,
}

impl Network {
    /// All links with the same quality, nothing blocked.
    #[must_use]
    pub fn new(rng: Rng, quality: Quality) -> Self {
        Self {
            rng,
            quality,
            overrides: BTreeMap::new(),
            blocked: BTreeMap::new(),
            last_arrival: BTreeMap::new(),
            service_time: BTreeMap::new(),
            busy_until: BTreeMap::new(),
            stats: NetworkStats::default(),
        }
    }

    /// Sets the quality of every link that has none of its own.
    pub fn set_quality(&mut self, quality: Quality) {
        self.quality = quality;
    }

    /// Gives one direction of one link a quality of its own, or takes it away.
    pub fn set_link_quality(&mut self, from: NodeId, to: NodeId, quality: Option<Quality>) {
        match quality {
            Some(quality) => self.overrides.insert((from, to), quality),
            None => self.overrides.remove(&(from, to)),
        };
    }

    /// Stops everything that goes from one node to another. Blocks are counted: two blocks need two
    /// [`Network::unblock`].
    pub fn block(&mut self, from: NodeId, to: NodeId) {
        *self.blocked.entry((from, to)).or_default() += 1;
    }

    /// Takes one block away.
    pub fn unblock(&mut self, from: NodeId, to: NodeId) {
        if let Some(count) = self.blocked.get_mut(&(from, to)) {
            *count -= 1;
            if *count == 0 {
                self.blocked.remove(&(from, to));
            }
        }
    }

    /// Lets a node take at most one datagram per `service_time`; `None` lifts the limit.
    pub fn limit_receiver(&mut self, node: NodeId, service_time: Option<Duration>) {
        match service_time {
            Some(time) => self.service_time.insert(node, time),
            None => self.service_time.remove(&node),
        };
        self.busy_until.remove(&node);
    }

    /// Makes every link perfect and lifts all blocks and limits.
    pub fn heal(&mut self) {
        self.quality = Quality::PERFECT;
        self.overrides.clear();
        self.blocked.clear();
        self.service_time.clear();
        self.busy_until.clear();
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> NetworkStats {
        self.stats
    }

    /// Decides the fate of one datagram of so many bytes sent now.
    pub fn carry(&mut self, now: SimTime, from: NodeId, to: NodeId, bytes: usize) -> Arrivals {
        self.stats.sent += 1;
        let mut arrivals = Arrivals::default();
        if self.blocked.contains_key(&(from, to)) {
            self.stats.lost += 1;
            self.stats.blocked += 1;
            return arrivals;
        }
        let quality = self.overrides.get(&(from, to)).copied().unwrap_or(self.quality);
        if bytes > quality.bytes_max {
            self.stats.lost += 1;
            return arrivals;
        }
        if self.rng.chance(quality.loss) {
            self.stats.lost += 1;
        } else {
            let at = self.first_arrival(now, (from, to), quality);
            self.receive(to, at, &mut arrivals);
        }
        if self.rng.chance(quality.duplicate) {
            let at = now + self.rng.span(quality.delay_min, quality.delay_max * 2);
            self.stats.copies += 1;
            self.receive(to, at, &mut arrivals);
        }
        if self.rng.chance(quality.stale) {
            let at = now + self.rng.span(REORDER_DELAY_MAX, STALE_DELAY_MAX);
            self.stats.copies += 1;
            self.receive(to, at, &mut arrivals);
        }
        arrivals
    }

    fn first_arrival(&mut self, now: SimTime, link: (NodeId, NodeId), quality: Quality) -> SimTime {
        let at = now + self.rng.span(quality.delay_min, quality.delay_max);
        if self.rng.chance(quality.reorder) {
            return at + self.rng.span(quality.delay_max, REORDER_DELAY_MAX);
        }
        let last = self.last_arrival.entry(link).or_default();
        *last = at.max(*last + Duration::from_nanos(1));
        *last
    }

    /// Passes an arrival through the rate limit of the receiver, if it has one.
    fn receive(&mut self, to: NodeId, at: SimTime, arrivals: &mut Arrivals) {
        let Some(&service_time) = self.service_time.get(&to) else {
            return arrivals.add(at);
        };
        let busy_until = self.busy_until.entry(to).or_default();
        let start = at.max(*busy_until);
        if start - at > service_time * BACKLOG_MAX {
            self.stats.lost += 1;
            return;
        }
        *busy_until = start + service_time;
        arrivals.add(*busy_until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::MILLION;

    fn node(id: u32) -> NodeId {
        NodeId::new(id).unwrap()
    }

    fn network(quality: Quality) -> Network {
        Network::new(Rng::new(1), quality)
    }

    #[test]
    fn a_perfect_link_keeps_the_order_and_loses_nothing() {
        let mut network = network(Quality::PERFECT);
        let mut last = SimTime::ZERO;
        for micros in 0..1000 {
            let arrivals = network.carry(SimTime::from_micros(micros), node(1), node(2), 100);
            let times: Vec<_> = arrivals.iter().collect();
            assert_eq!(times.len(), 1);
            assert!(times[0] > last);
            last = times[0];
        }
        assert_eq!(network.stats().lost, 0);
    }

    #[test]
    fn a_block_stops_one_direction_until_every_block_is_lifted() {
        let mut network = network(Quality::PERFECT);
        network.block(node(1), node(2));
        network.block(node(1), node(2));
        network.unblock(node(1), node(2));
        assert!(network.carry(SimTime::ZERO, node(1), node(2), 100).is_lost());
        assert!(!network.carry(SimTime::ZERO, node(2), node(1), 100).is_lost());
        network.unblock(node(1), node(2));
        assert!(!network.carry(SimTime::ZERO, node(1), node(2), 100).is_lost());
    }

    #[test]
    fn loss_and_duplication_happen_about_as_often_as_asked() {
        let mut network = network(Quality { loss: MILLION / 4, duplicate: MILLION / 4, ..Quality::PERFECT });
        for _ in 0..4000 {
            let _ = network.carry(SimTime::ZERO, node(1), node(2), 100);
        }
        let stats = network.stats();
        assert!((800..1200).contains(&stats.lost), "{stats:?}");
        assert!((800..1200).contains(&stats.copies), "{stats:?}");
    }

    #[test]
    fn a_limited_receiver_takes_one_datagram_a_time_and_loses_the_excess() {
        let mut network = network(Quality::PERFECT);
        network.limit_receiver(node(2), Some(Duration::from_millis(1)));
        let mut arrived = 0;
        for _ in 0..2000 {
            arrived += network.carry(SimTime::ZERO, node(1), node(2), 100).iter().count();
        }
        assert!((700..=702).contains(&arrived), "{arrived}");
    }

    #[test]
    fn long_datagrams_vanish_in_a_black_hole() {
        let mut network = network(Quality { bytes_max: 500, ..Quality::PERFECT });
        assert!(!network.carry(SimTime::ZERO, node(1), node(2), 500).is_lost());
        assert!(network.carry(SimTime::ZERO, node(1), node(2), 501).is_lost());
    }

    #[test]
    fn a_healed_network_is_perfect() {
        let mut network = network(Quality { loss: MILLION, ..Quality::PERFECT });
        network.block(node(1), node(2));
        network.heal();
        assert!(!network.carry(SimTime::ZERO, node(1), node(2), 100).is_lost());
    }
}
