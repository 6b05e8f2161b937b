//! What is observable from outside: the events that the checkers judge.
//!
//! An observation is what a client of a daemon sees, what a daemon's disk holds, or what it sends: tokens, commit
//! tokens and joins, with how far its messages were; never a private field of a core. A checker that is fed a history by hand therefore needs no cluster.
//!
//! Processes live many times: `*Started` begins a life, `*Stopped` (crash, kill or leave) ends it.

use std::fmt;

use quorate_types::{NodeId, RingId};

use crate::event::SimTime;

/// Something that was observed at a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Observation {
    /// When.
    pub at: SimTime,
    /// Where.
    pub node: NodeId,
    /// What.
    pub event: Event,
}

impl fmt::Display for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {:.6} s node {}: {}", self.at.as_secs_f64(), self.node, self.event)
    }
}

/// The two test clients that every membership daemon has, each in a process group of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Probe {
    /// Joined with agreed delivery; it sees the configurations of the ring as the watchers do.
    Agreed,
    /// Joined with safe delivery; it sees the configurations as its own event stream tells them.
    Safe,
}

impl Probe {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Agreed, Self::Safe];
}

/// Number of a test message, unique in a run.
pub type MessageId = u64;

/// Number of a write to the store, unique in a run.
pub type WriteId = u64;

/// A configuration change as seen on one stream of events.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Change {
    /// The members of the old ring that move together into the ring `next`.
    Transitional {
        /// The ring that is being installed.
        next: RingId,
        /// Who moves there together with this node.
        members: Vec<NodeId>,
    },
    /// A new ring.
    Regular {
        /// Its id.
        ring: RingId,
        /// Its members.
        members: Vec<NodeId>,
    },
}

/// An epoch of the store, comparable: ring sequence, representative, round.
pub type EpochKey = (u64, u32, u32);

/// What a replica holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The epoch that wrote this version.
    pub epoch: EpochKey,
    /// Version of its tree.
    pub version: u64,
    /// Hash over its tree.
    pub checksum: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seq, rep, round) = self.epoch;
        write!(f, "{rep:x}.{seq:x}/{round} version {} ({:08x})", self.version, self.checksum >> 32)
    }
}

/// How a write ended, as its client was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It is on the disks of a majority.
    Acknowledged {
        /// Epoch that it was written in.
        epoch: EpochKey,
        /// Version of the tree after it.
        version: u64,
    },
    /// It was not and will not be applied.
    Refused,
    /// It may or may not be applied.
    Unknown,
}

/// The token of a ring, as a member sent it, and what this member had of the ring's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token {
    /// The ring.
    pub ring: RingId,
    /// The number of the visit.
    pub token_seq: u32,
    /// The highest message number that was given out.
    pub seq: u32,
    /// What every member has received, as far as the token knows.
    pub aru: u32,
    /// What the sender has; `None` if it has given up the ring in the same moment, after it sent the token.
    pub own: Option<Holdings>,
}

/// What a member has of the messages of a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Holdings {
    /// It has received all up to here.
    pub aru: u32,
    /// Up to here it keeps none any more.
    pub released: u32,
}

/// The kinds of observation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Event {
    /// membershipd began with this ring sequence from its disk.
    MembershipStarted {
        /// What the ring-sequence file held.
        ring_seq: u64,
        /// Its feature level; `None` if it takes no part, as corosync.
        level: Option<u32>,
    },
    /// membershipd is gone.
    MembershipStopped,
    /// The ring sequence is durable.
    RingSeqDurable(u64),
    /// membershipd sent the token.
    Token(Token),
    /// membershipd sent the commit token of a ring that is being formed.
    CommitToken {
        /// The ring.
        ring: RingId,
        /// The number of the visit.
        token_seq: u32,
        /// Who is to be in the ring.
        members: Vec<NodeId>,
    },
    /// membershipd sent a join.
    Join {
        /// Whom it knows of.
        known: Vec<NodeId>,
        /// Who counts as failed.
        failed: Vec<NodeId>,
    },
    /// The ring changed, as watchers of membershipd see it.
    Ring(Change),
    /// What the members of this ring have in common from here on, as membershipd says.
    FeaturesAgreed {
        /// The ring.
        ring: RingId,
        /// Its feature level.
        level: u32,
        /// Whether it runs with the fast timers.
        fast: bool,
    },
    /// All services have synchronised in this ring.
    SyncCompleted(RingId),
    /// The probe is a member of its group from here on.
    ProbeJoined(Probe),
    /// The probe's own event stream reported a configuration (safe probe only).
    ProbeRing(Probe, Change),
    /// The probe handed over a message and it was accepted.
    Sent {
        /// Which probe.
        probe: Probe,
        /// The message.
        message: MessageId,
        /// Its size in bytes.
        size: usize,
    },
    /// The probe received a message.
    Delivered {
        /// Which probe.
        probe: Probe,
        /// The message; `None` if what arrived is nothing that any probe ever sent.
        message: Option<MessageId>,
        /// Who sent it, as the event says.
        origin: NodeId,
        /// Ring in which it was ordered.
        ring: RingId,
        /// Its place in that ring's order; messages packed together share one.
        seq: u32,
        /// It began before other members of the ring joined: they cannot have it.
        spans_change: bool,
    },
    /// The probe was told who is in its group.
    GroupMembers {
        /// Which probe.
        probe: Probe,
        /// Ring in which this was ordered.
        ring: RingId,
        /// Its place in that ring's order.
        seq: u32,
        /// Nodes with a process in the group, ascending.
        members: Vec<NodeId>,
    },
    /// quorumd began.
    QuorumStarted,
    /// quorumd is gone.
    QuorumStopped,
    /// quorumd published its status.
    Quorum {
        /// Whether this node may act.
        quorate: bool,
        /// The configuration that was counted; `None` while there is no ring.
        ring: Option<RingId>,
        /// Its members.
        members: Vec<NodeId>,
        /// The expected votes that were used.
        expected_votes: u32,
    },
    /// configd began with what its disk held.
    StoreStarted(Position),
    /// configd is gone.
    StoreStopped,
    /// Whether the replica takes writes.
    StoreWritable(bool),
    /// The replica's tree moved to this position, in memory.
    Applied(Position),
    /// The replica's disk holds this position.
    Durable(Position),
    /// A client asked for a write at this node.
    Submitted {
        /// The write.
        write: WriteId,
        /// Which attempt, from 0.
        attempt: u32,
        /// It makes a file that nothing else touches: [`Event::Tree`] shows for ever whether it happened.
        lasting: bool,
    },
    /// The client got its answer.
    Replied {
        /// The write.
        write: WriteId,
        /// Which attempt.
        attempt: u32,
        /// The answer.
        outcome: Outcome,
    },
    /// A client asked for a linearizable read.
    ReadSubmitted(u64),
    /// The client got its answer.
    ReadReplied {
        /// The read.
        read: u64,
        /// The version that is no older than any write acknowledged before; `None` if the read failed.
        version: Option<u64>,
    },
    /// A reply to something that nobody waits for.
    StrayReply(u64),
    /// The replica's tree as it is now.
    Tree {
        /// Where in history.
        position: Position,
        /// Every lasting write whose effect it holds, ascending.
        writes: Vec<WriteId>,
        /// The run is at its end and the cluster is whole.
        last: bool,
    },
    /// Of these transactions the replica's tree has some changes and lacks others, or watchers were told of some only.
    Torn(Vec<WriteId>),
    /// The replica's tree holds the effect of a lasting write from now on.
    Performed(WriteId),
    /// What the replica wrote beyond the common history was put aside; these lasting writes are in the copy.
    ConflictKept(Vec<WriteId>),
    /// A replica saw that another one differs at the same place in history.
    Divergence {
        /// The other.
        with: NodeId,
        /// The version.
        version: u64,
    },
    /// Watchers of the replica were told of these versions.
    Watched(Vec<u64>),
    /// Watchers of the replica must read again, from this version on.
    WatchReset(u64),
}

fn nodes(members: &[NodeId]) -> String {
    members.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transitional { next, members } => {
                write!(f, "transitional towards {next} with {{{}}}", nodes(members))
            }
            Self::Regular { ring, members } => write!(f, "RING {ring} {{{}}}", nodes(members)),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MembershipStarted { ring_seq, level } => {
                let level = level.map_or_else(|| "none".to_owned(), |level| level.to_string());
                write!(f, "membershipd starts, ring seq {ring_seq:x}, feature level {level}")
            }
            Self::FeaturesAgreed { ring, level, fast } => {
                write!(f, "feature level {level} in {ring}{}", if *fast { ", fast" } else { "" })
            }
            Self::MembershipStopped => f.write_str("membershipd stops"),
            Self::RingSeqDurable(seq) => write!(f, "ring seq {seq:x} durable"),
            Self::Token(Token { ring, token_seq, seq, aru, .. }) => {
                write!(f, "  token {token_seq} of {ring}, messages to {seq}, all have {aru}")
            }
            Self::CommitToken { ring, token_seq, members } => {
                write!(f, "  commit token {token_seq} of {ring} {{{}}}", nodes(members))
            }
            Self::Join { known, failed } => {
                write!(f, "  join {{{}}} without {{{}}}", nodes(known), nodes(failed))
            }
            Self::Ring(change) => change.fmt(f),
            Self::SyncCompleted(ring) => write!(f, "sync completed in {ring}"),
            Self::ProbeJoined(probe) => write!(f, "{probe:?} probe joined"),
            Self::ProbeRing(probe, change) => write!(f, "{probe:?} probe sees {change}"),
            Self::Sent { probe, message, size } => write!(f, "{probe:?} sends #{message} ({size} bytes)"),
            Self::Delivered { probe, message: Some(message), origin, ring, seq, .. } => {
                write!(f, "{probe:?} delivers #{message} from {origin}, {ring}:{seq}")
            }
            Self::Delivered { probe, message: None, origin, ring, seq, .. } => {
                write!(f, "{probe:?} delivers GARBAGE from {origin}, {ring}:{seq}")
            }
            Self::GroupMembers { probe, ring, seq, members } => {
                write!(f, "{probe:?} group is {{{}}}, {ring}:{seq}", nodes(members))
            }
            Self::QuorumStarted => f.write_str("quorumd starts"),
            Self::QuorumStopped => f.write_str("quorumd stops"),
            Self::Quorum { quorate, ring, members, expected_votes } => {
                let word = if *quorate { "QUORATE" } else { "not quorate" };
                let ring = ring.map_or_else(|| "no ring".to_owned(), |ring| ring.to_string());
                write!(f, "{word} in {ring} {{{}}}, {expected_votes} expected", nodes(members))
            }
            Self::StoreStarted(position) => write!(f, "configd starts, {position}"),
            Self::StoreStopped => f.write_str("configd stops"),
            Self::StoreWritable(writable) => {
                f.write_str(if *writable { "store WRITABLE" } else { "store read-only" })
            }
            Self::Applied(position) => write!(f, "store applied {position}"),
            Self::Durable(position) => write!(f, "store durable {position}"),
            Self::Submitted { write, attempt, .. } => write!(f, "write {write}.{attempt} submitted"),
            Self::Replied { write, attempt, outcome } => {
                write!(f, "write {write}.{attempt} ended: {outcome:?}")
            }
            Self::ReadSubmitted(read) => write!(f, "read {read} submitted"),
            Self::ReadReplied { read, version } => write!(f, "read {read} ended: {version:?}"),
            Self::StrayReply(handle) => write!(f, "reply to unknown request {handle}"),
            Self::Tree { position, writes, .. } => {
                write!(f, "tree at {position} holds {} test writes", writes.len())
            }
            Self::Torn(writes) => write!(f, "TORN transactions {writes:?}"),
            Self::Performed(write) => write!(f, "write {write} performed"),
            Self::ConflictKept(writes) => write!(f, "conflict copy with the writes {writes:?}"),
            Self::Divergence { with, version } => write!(f, "DIVERGENCE with {with} at version {version}"),
            Self::Watched(versions) => write!(f, "watchers told of versions {versions:?}"),
            Self::WatchReset(version) => write!(f, "watchers reset to version {version}"),
        }
    }
}
