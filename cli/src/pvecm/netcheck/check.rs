//! The network check of one node, without sockets and clocks: datagrams and times go in, datagrams come out.
//!
//! Contract: one [`Check::handle_input`], then [`Check::poll_output`] until it returns `None`, then wait until
//! [`Check::deadline`] or the next datagram. Times are since 1970 by a clock that never jumps during the check.
//!
//! A node waits until all see all (or the wait is over), sends its probes, waits a moment for the last answers, looks
//! for the MTU, and then asks each peer for its rows until it has them or the peer falls silent.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use serde::Serialize;

use super::{
    datagram::{Body, Class, Datagram, PROBE_LENGTH, Probe, Stage},
    mtu::MtuSearch,
    summary::{Row, Samples, Times},
};

/// Time between two hellos.
const HELLO_INTERVAL: Duration = Duration::from_millis(200);
/// Without a datagram for this long a peer is gone.
const SILENCE: Duration = Duration::from_secs(3);
/// Time for the last answers.
const GRACE: Duration = Duration::from_secs(1);
/// Time between two rounds of questions for rows.
const ASK_INTERVAL: Duration = Duration::from_millis(100);
/// Time beyond the longest wait and two measurements after which the exchange of rows is given up.
const EXCHANGE: Duration = Duration::from_secs(60);
/// Probes sent at once to catch up after a late wake-up; what is later than that is put off.
const CATCH_UP: u32 = 8;
/// Answers to one peer in one second: twice what the shortest interval asks for.
const ANSWERS_PER_SECOND: u32 = 4000;

/// What is to be checked.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// A hash of everything that all nodes must agree on.
    pub(super) run: u64,
    /// Nodes in the list, 2 to 64.
    pub(super) nodes: u8,
    /// The place of this node in the sorted list.
    pub(super) me: u8,
    /// Probes to each peer.
    pub(super) count: u32,
    /// Time between two probes to the same peer.
    pub(super) interval: Duration,
    /// Longest time to wait for the peers to appear.
    pub(super) wait: Duration,
    /// Whether the group is probed, too.
    pub(super) multicast: bool,
    /// Bytes of the headers of IP and UDP.
    pub(super) overhead: u32,
}

/// What happened.
#[derive(Debug)]
pub(super) enum Input<'a> {
    /// A datagram came from the node at this place of the list; `None`: from an address that is not in it.
    Datagram(Option<u8>, &'a [u8]),
    /// The operating system refuses to send this many bytes to this peer unfragmented.
    TooLong(u8, usize),
    /// The deadline has come.
    Deadline,
    /// The operator has seen enough.
    Interrupt,
}

/// A datagram to be sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Output {
    /// To whom.
    pub(super) to: To,
    /// What.
    pub(super) bytes: Vec<u8>,
}

/// Who gets a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum To {
    /// The peer at this place.
    Peer(u8),
    /// The multicast group.
    Group,
}

/// Datagrams that were not used, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Dropped {
    /// From an address that is not in the list, or that claims to be another.
    pub(super) foreign: u64,
    /// Not of this protocol, damaged or truncated.
    pub(super) malformed: u64,
    /// Of a check with another list of addresses, port or group.
    pub(super) other_run: u64,
    /// Answers to what was not asked, such as an earlier start of this check.
    pub(super) unasked: u64,
    /// Questions beyond the rate that is answered.
    pub(super) too_many: u64,
}

/// What this node knows of a peer.
struct Peer {
    last_heard: Option<Duration>,
    /// Whose hellos it gets, one bit each.
    hears: u64,
    stage: Stage,
    /// It was there when the measurement began.
    is_reached: bool,
    unicast: Samples,
    multicast: Samples,
    mtu: MtuSearch,
    rows: BTreeMap<u8, Row>,
    /// The second in which answers are counted, and how many there were.
    answers: (u64, u32),
}

impl Peer {
    fn is_alive(&self, now: Duration) -> bool {
        self.last_heard.is_some_and(|heard| now < heard + SILENCE)
    }
}

/// How far this node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It waits for the peers.
    Waiting,
    /// This many probes to each peer are sent; the next is due at this time.
    Probing(u32, Duration),
    /// It waits until then for the last answers.
    Draining(Duration),
    /// It looks for the MTU.
    Mtu,
    /// It asks for the rows of the others; the next round is due at this time.
    Exchanging(Duration),
    /// Everything is done.
    Done,
}

/// One node's check.
pub(super) struct Check {
    plan: Plan,
    started: Duration,
    state: State,
    peers: BTreeMap<u8, Peer>,
    next_hello: Duration,
    outputs: VecDeque<Output>,
    dropped: Dropped,
}

impl Check {
    /// A check that begins now.
    pub(super) fn new(now: Duration, plan: Plan) -> Self {
        assert!(plan.me < plan.nodes && plan.nodes <= 64, "a place in a list of at most 64");
        let peer = |_| Peer {
            last_heard: None,
            hears: 0,
            stage: Stage::Waiting,
            is_reached: false,
            unicast: Samples::new(plan.count),
            multicast: Samples::new(plan.count),
            mtu: MtuSearch::new(),
            rows: BTreeMap::new(),
            answers: (0, 0),
        };
        let peers =
            (0..plan.nodes).filter(|&place| place != plan.me).map(|place| (place, peer(place))).collect();
        let (state, outputs, dropped) = (State::Waiting, VecDeque::new(), Dropped::default());
        Self { started: now, state, peers, next_hello: now, outputs, dropped, plan }
    }

    /// Takes in what happened.
    pub(super) fn handle_input(&mut self, now: Duration, input: Input<'_>) {
        match input {
            Input::Datagram(from, bytes) => self.handle_datagram(now, from, bytes),
            Input::TooLong(place, length) => {
                if let Some(peer) = self.peers.get_mut(&place) {
                    peer.mtu.refused(length);
                }
            }
            Input::Deadline => {}
            Input::Interrupt => {
                self.state = match self.state {
                    State::Probing(..) => State::Draining(now + GRACE),
                    _ => State::Done,
                }
            }
        }
        self.advance(now);
    }

    /// The next datagram to be sent.
    pub(super) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to come back at the latest.
    pub(super) fn deadline(&self) -> Duration {
        let own = match self.state {
            State::Probing(_, at) | State::Draining(at) | State::Exchanging(at) => at,
            State::Mtu => {
                self.reached().filter_map(|(_, peer)| peer.mtu.deadline()).min().unwrap_or(self.next_hello)
            }
            State::Waiting | State::Done => self.next_hello,
        };
        own.min(self.next_hello)
    }

    /// How far the check is.
    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Places of the peers that are heard.
    pub(super) fn heard(&self) -> Vec<u8> {
        self.peers.iter().filter(|(_, peer)| peer.last_heard.is_some()).map(|(&place, _)| place).collect()
    }

    /// Datagrams that were not used.
    pub(super) fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// Every row that is known, by who measured and who was measured.
    pub(super) fn rows(&self) -> BTreeMap<(u8, u8), Row> {
        let own = self.peers.keys().map(|&about| ((self.plan.me, about), self.row(about)));
        let others = self
            .peers
            .iter()
            .flat_map(|(&from, peer)| peer.rows.iter().map(move |(&about, &row)| ((from, about), row)));
        own.chain(others).collect()
    }

    fn row(&self, about: u8) -> Row {
        let peer = &self.peers[&about];
        let payload = u32::try_from(peer.mtu.passed()).expect("a datagram is shorter than 64 KiB");
        let is_known = peer.unicast.is_answered() && peer.mtu.is_done();
        Row {
            is_reached: peer.is_reached,
            unicast: peer.unicast.summary(),
            multicast: self.plan.multicast.then(|| peer.multicast.summary()),
            mtu: if is_known { payload + self.plan.overhead } else { 0 },
        }
    }

    fn reached(&self) -> impl Iterator<Item = (u8, &Peer)> {
        self.peers.iter().filter(|(_, peer)| peer.is_reached).map(|(&place, peer)| (place, peer))
    }

    fn send(&mut self, to: To, body: Body) {
        let bytes = Datagram { run: self.plan.run, from: self.plan.me, body }.encode();
        self.outputs.push_back(Output { to, bytes });
    }

    fn handle_datagram(&mut self, now: Duration, from: Option<u8>, bytes: &[u8]) {
        let Some(datagram) = Datagram::decode(bytes) else {
            self.dropped.malformed += 1;
            return;
        };
        if datagram.run != self.plan.run {
            self.dropped.other_run += 1;
            return;
        }
        if from == Some(self.plan.me) && datagram.from == self.plan.me {
            // Our own probe to the group.
            return;
        }
        let Some(peer) = self.peers.get_mut(&datagram.from).filter(|_| from == Some(datagram.from)) else {
            self.dropped.foreign += 1;
            return;
        };
        peer.last_heard = Some(now);
        let place = datagram.from;
        match datagram.body {
            Body::Hello { heard, stage } => (peer.hears, peer.stage) = (heard, stage),
            Body::Probe(probe) => self.answer(now, place, probe),
            Body::Answer { probe, received, answered } => {
                self.returned(now, place, probe, received, answered)
            }
            Body::Ask { about } => {
                let is_measured = self.stage(now) >= Stage::Measured;
                if is_measured && self.peers.contains_key(&about) && self.may_answer(now, place) {
                    let row = self.row(about);
                    self.send(To::Peer(place), Body::Row { about, row });
                }
            }
            Body::Row { about, row } => {
                if about < self.plan.nodes && about != place {
                    peer.rows.insert(about, row);
                }
            }
        }
    }

    /// Whether this peer may have one more answer in this second.
    fn may_answer(&mut self, now: Duration, place: u8) -> bool {
        let Some(peer) = self.peers.get_mut(&place) else { return false };
        if peer.answers.0 != now.as_secs() {
            peer.answers = (now.as_secs(), 0);
        }
        peer.answers.1 += 1;
        let may = peer.answers.1 <= ANSWERS_PER_SECOND;
        self.dropped.too_many += u64::from(!may);
        may
    }

    fn answer(&mut self, now: Duration, place: u8, probe: Probe) {
        if self.may_answer(now, place) {
            let now = nanoseconds(now);
            self.send(To::Peer(place), Body::Answer { probe, received: now, answered: now });
        }
    }

    fn returned(&mut self, now: Duration, place: u8, probe: Probe, received: u64, answered: u64) {
        let returned = nanoseconds(now);
        let is_ours = (nanoseconds(self.started)..=returned).contains(&probe.sent);
        let peer = self.peers.get_mut(&place).expect("the caller has found it");
        let times = Times { sent: probe.sent, received, answered, returned };
        let is_asked = is_ours
            && match probe.class {
                Class::Unicast => peer.unicast.returned(probe.seq, times),
                Class::Multicast => peer.multicast.returned(probe.seq, times),
                Class::Mtu => {
                    peer.mtu.answered(probe.length);
                    true
                }
            };
        self.dropped.unasked += u64::from(!is_asked);
    }

    /// What the hellos say.
    fn stage(&self, now: Duration) -> Stage {
        match self.state {
            State::Waiting => Stage::Waiting,
            State::Probing(..) | State::Draining(_) | State::Mtu => Stage::Measuring,
            State::Exchanging(_) if self.missing(now).is_empty() => Stage::Finished,
            State::Exchanging(_) => Stage::Measured,
            State::Done => Stage::Finished,
        }
    }

    fn say_hello(&mut self, now: Duration) {
        let heard = self.peers.iter().filter(|(_, peer)| peer.is_alive(now));
        let heard = heard.fold(1 << self.plan.me, |bits, (&place, _)| bits | 1 << place);
        let hello = Body::Hello { heard, stage: self.stage(now) };
        let places: Vec<u8> = self.peers.keys().copied().collect();
        places.into_iter().for_each(|place| self.send(To::Peer(place), hello.clone()));
        self.next_hello = now + HELLO_INTERVAL;
    }

    /// Does what is due.
    fn advance(&mut self, now: Duration) {
        let before = self.state;
        match self.state {
            State::Waiting => self.wait(now),
            State::Probing(sent, at) => self.probe(now, sent, at),
            State::Draining(until) if now >= until => self.state = State::Mtu,
            State::Mtu => self.search(now),
            State::Exchanging(at) => self.exchange(now, at),
            State::Draining(_) | State::Done => {}
        }
        let is_other = std::mem::discriminant(&before) != std::mem::discriminant(&self.state);
        if now >= self.next_hello || is_other {
            self.say_hello(now);
        }
        if is_other && self.state != State::Done {
            self.advance(now);
        }
    }

    fn wait(&mut self, now: Duration) {
        let all = u64::MAX >> (64 - self.plan.nodes);
        let is_ready = |peer: &Peer| {
            peer.is_alive(now)
                && (peer.hears == all || peer.stage != Stage::Waiting && peer.hears & 1 << self.plan.me != 0)
        };
        let is_complete = self.peers.values().all(is_ready);
        if !is_complete && now < self.started + self.plan.wait {
            return;
        }
        self.peers.values_mut().for_each(|peer| peer.is_reached = peer.is_alive(now));
        self.state = State::Probing(0, now);
    }

    fn probe(&mut self, now: Duration, sent: u32, mut at: Duration) {
        let places: Vec<u8> = self.reached().map(|(place, _)| place).collect();
        let (mut seq, mut burst) = (sent, 0);
        while seq < self.plan.count && now >= at && burst < CATCH_UP && !places.is_empty() {
            let probe = |class| Probe { class, seq, sent: nanoseconds(now), length: PROBE_LENGTH };
            for place in &places {
                self.send(To::Peer(*place), Body::Probe(probe(Class::Unicast)));
                let peer = self.peers.get_mut(place).expect("it was found above");
                peer.unicast.sent(now);
                if self.plan.multicast {
                    peer.multicast.sent(now);
                }
            }
            if self.plan.multicast {
                self.send(To::Group, Body::Probe(probe(Class::Multicast)));
            }
            (seq, burst, at) = (seq + 1, burst + 1, at + self.plan.interval);
        }
        if burst == CATCH_UP {
            at = at.max(now);
        }
        let is_over = seq >= self.plan.count || places.is_empty();
        self.state = if is_over { State::Draining(now + GRACE) } else { State::Probing(seq, at) };
    }

    fn search(&mut self, now: Duration) {
        let mut tries = Vec::new();
        let mut is_done = true;
        for (&place, peer) in self.peers.iter_mut().filter(|(_, peer)| peer.unicast.is_answered()) {
            tries.extend(peer.mtu.poll(now).map(|length| (place, length)));
            is_done &= peer.mtu.is_done();
        }
        for (place, length) in tries {
            let seq = u32::try_from(length).expect("a datagram is shorter than 64 KiB");
            let probe = Probe { class: Class::Mtu, seq, sent: nanoseconds(now), length };
            self.send(To::Peer(place), Body::Probe(probe));
        }
        if is_done {
            self.state = State::Exchanging(now);
        }
    }

    /// Rows that are still to be asked for, as (who measured, who was measured): those of peers that answer.
    fn missing(&self, now: Duration) -> Vec<(u8, u8)> {
        let alive = self.peers.iter().filter(|(_, peer)| peer.is_alive(now));
        let pairs = alive.flat_map(|(&from, peer)| {
            let abouts = (0..self.plan.nodes).filter(move |&about| about != from);
            abouts.filter(|about| !peer.rows.contains_key(about)).map(move |about| (from, about))
        });
        pairs.collect()
    }

    fn exchange(&mut self, now: Duration, at: Duration) {
        let measurement = self.plan.interval * self.plan.count;
        let is_over = now > self.started + self.plan.wait + 2 * measurement + EXCHANGE;
        let missing = self.missing(now);
        let is_awaited = |peer: &Peer| peer.is_alive(now) && peer.stage != Stage::Finished;
        if is_over || missing.is_empty() && !self.peers.values().any(is_awaited) {
            self.state = State::Done;
            return;
        }
        if now < at {
            return;
        }
        for (from, about) in missing {
            if self.peers[&from].stage >= Stage::Measured {
                self.send(To::Peer(from), Body::Ask { about });
            }
        }
        self.state = State::Exchanging(now + ASK_INTERVAL);
    }
}

/// Nanoseconds since 1970; fits until 2554.
fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
