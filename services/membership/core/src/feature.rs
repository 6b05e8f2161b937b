//! Feature levels: what all members of a ring can do beyond corosync. A service of our own in the synchronisation.
//!
//! In each synchronisation every Quorate node announces its level. When all have passed the barrier of this service,
//! the ring's level is the lowest that was announced, and 0 if any member announced none, as corosync does: it takes
//! part in the barrier and ignores the messages. Total order makes the result the same on all members; it is known
//! before ordinary messages flow again. A node whose offer changes announces it again, in order.
//!
//! One message, function 0:
//!
//! | offset | field |
//! |---:|---|
//! | 16 | u32 magic, "QLVL" |
//! | 20 | u32 layout, 1 |
//! | 24 | ring id: rep u32, seq u64 @28 |
//! | 40 | u32 level |
//! | 44 | u32 lowest level that the sender still works with |
//! | 48 | u64 features switched on, one bit each |
//! | 56 | more, skipped: the header states the size |

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_types::{NodeId, RingId};

use crate::service::{self, FEATURES, MessageError, put, put_ring, put_u32, read_ring, read_u32, read_u64};

/// The level that this program has. Level 1: fast failure detection.
pub const LEVEL: u32 = 1;
/// Feature bit: the timers of [`Pace::fast`](crate::srp::Pace::fast) while the ring has the level for it.
const FAST_DETECTION: u64 = 1;
/// The level from which on [`FAST_DETECTION`] has a meaning.
const FAST_DETECTION_LEVEL: u32 = 1;

const FUNCTION_ANNOUNCE: u16 = 0;
const MAGIC: u32 = u32::from_le_bytes(*b"QLVL");
const LAYOUT: u32 = 1;
const SIZE: usize = 56;

/// What a node can do and has switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// The highest level that it has.
    pub level: u32,
    /// The lowest level that it still works with. So far everything works with corosync: 0.
    pub level_min: u32,
    /// Features that its configuration allows, one bit each.
    pub features: u64,
}

impl Offer {
    fn new(level: u32, fast_detection: bool) -> Self {
        Self { level, level_min: 0, features: if fast_detection { FAST_DETECTION } else { 0 } }
    }
}

/// What all members of a ring have in common. By default nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Agreed {
    /// The lowest level of any member; 0 if one announced none.
    pub level: u32,
    /// Features that all have switched on, one bit each.
    pub features: u64,
}

impl Agreed {
    /// Whether the ring runs with the fast timers.
    #[must_use]
    pub fn has_fast_detection(self) -> bool {
        self.level >= FAST_DETECTION_LEVEL && self.features & FAST_DETECTION != 0
    }
}

/// An announcement as it travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announcement {
    /// The ring for which it is meant.
    pub ring: RingId,
    /// What the sender offers.
    pub offer: Offer,
}

impl Announcement {
    /// The complete message.
    #[must_use]
    pub fn to_wire(self) -> Bytes {
        let mut out = service::message(service::id(FEATURES, FUNCTION_ANNOUNCE), SIZE, SIZE);
        put_u32(&mut out, 16, MAGIC);
        put_u32(&mut out, 20, LAYOUT);
        put_ring(&mut out, 24, self.ring);
        put_u32(&mut out, 40, self.offer.level);
        put_u32(&mut out, 44, self.offer.level_min);
        put(&mut out, 48, &self.offer.features.to_le_bytes());
        out.into()
    }

    /// Decodes a message; what follows the known fields is skipped.
    ///
    /// # Errors
    /// [`MessageError`] when the layout does not hold.
    pub fn from_wire(bytes: &[u8]) -> Result<Self, MessageError> {
        let expect = |field, at, wanted| match read_u32(bytes, at)? {
            found if found == wanted => Ok(()),
            found => Err(MessageError::BadField { field, value: found.into() }),
        };
        expect("magic", 16, MAGIC)?;
        expect("layout", 20, LAYOUT)?;
        let ring = read_ring(bytes, 24)?;
        let (level, level_min, features) = (read_u32(bytes, 40)?, read_u32(bytes, 44)?, read_u64(bytes, 48)?);
        if level_min > level {
            return Err(MessageError::BadField { field: "level_min", value: level_min.into() });
        }
        Ok(Self { ring, offer: Offer { level, level_min, features } })
    }
}

/// What this node offers, and what the members of its ring do.
#[derive(Debug)]
pub struct Features {
    /// `None`: this node takes no part, as corosync.
    own: Option<Offer>,
    ring: RingId,
    members: BTreeSet<NodeId>,
    offers: BTreeMap<NodeId, Offer>,
    /// `None` until all have announced.
    agreed: Option<Agreed>,
    /// Announcements for another ring, or of a stranger.
    out_of_place: u64,
}

impl Features {
    /// A node of this level; without one it takes no part.
    #[must_use]
    pub fn new(level: Option<u32>, fast_detection: bool) -> Self {
        Self {
            own: level.map(|level| Offer::new(level, fast_detection)),
            ring: RingId::default(),
            members: BTreeSet::new(),
            offers: BTreeMap::new(),
            agreed: None,
            out_of_place: 0,
        }
    }

    /// Whether this node takes part.
    #[must_use]
    pub fn takes_part(&self) -> bool {
        self.own.is_some()
    }

    /// A new configuration: nothing is agreed until its synchronisation is complete.
    pub fn start_sync(&mut self, ring: RingId, members: &[NodeId]) {
        self.ring = ring;
        self.members = members.iter().copied().collect();
        self.offers.clear();
        self.agreed = None;
    }

    /// What this node announces for the present ring; `None` if it takes no part.
    #[must_use]
    pub fn announcement(&self) -> Option<Bytes> {
        self.own.map(|offer| Announcement { ring: self.ring, offer }.to_wire())
    }

    /// Fast detection is switched on or off. Returns the announcement if that is news.
    pub fn set_fast_detection(&mut self, on: bool) -> Option<Bytes> {
        let own = self.own.as_mut()?;
        let offer = Offer::new(own.level, on);
        let before = std::mem::replace(own, offer);
        (before != offer).then(|| self.announcement()).flatten()
    }

    /// Takes an announcement, in ring order. Returns what is agreed now if that has changed. One for another ring, left
    /// over from a synchronisation that was given up, and one of a stranger have no effect.
    ///
    /// # Errors
    /// [`MessageError`] for one that is malformed: it has no effect.
    pub fn accept(
        &mut self,
        from: NodeId,
        function: u16,
        message: &[u8],
    ) -> Result<Option<Agreed>, MessageError> {
        if function != FUNCTION_ANNOUNCE {
            return Err(MessageError::BadField { field: "function", value: function.into() });
        }
        let Announcement { ring, offer } = Announcement::from_wire(message)?;
        if ring != self.ring || !self.members.contains(&from) {
            self.out_of_place += 1;
            return Ok(None);
        }
        self.offers.insert(from, offer);
        let Some(before) = self.agreed else { return Ok(None) };
        let agreed = self.activate();
        Ok(Some(agreed).filter(|agreed| *agreed != before))
    }

    /// All members have passed the barrier: what they have in common.
    pub fn activate(&mut self) -> Agreed {
        let common =
            |a: Agreed, b: Agreed| Agreed { level: a.level.min(b.level), features: a.features & b.features };
        let offers = self.members.iter().map(|member| {
            let offer = self.offers.get(member);
            offer.map_or_else(Agreed::default, |o| Agreed { level: o.level, features: o.features })
        });
        let agreed = offers.reduce(common).unwrap_or_default();
        self.agreed = Some(agreed);
        agreed
    }

    /// What the members of the present ring have in common; nothing until its synchronisation is complete.
    #[must_use]
    pub fn agreed(&self) -> Agreed {
        self.agreed.unwrap_or_default()
    }

    /// Announcements for another ring, or of a stranger.
    #[must_use]
    pub fn out_of_place(&self) -> u64 {
        self.out_of_place
    }

    /// The level of each member of the present ring that announced one.
    #[must_use]
    pub fn levels(&self) -> BTreeMap<NodeId, u32> {
        self.offers.iter().map(|(node, offer)| (*node, offer.level)).collect()
    }
}

#[cfg(test)]
mod tests;
