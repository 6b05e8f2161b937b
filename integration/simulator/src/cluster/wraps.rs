//! Counts how often a number went past its end: a run that begins close to it must get there.

use std::collections::BTreeSet;

use quorate_types::RingId;

use super::Tally;
use crate::{
    history::{Change, Event},
    setup::Setup,
};

/// What has wrapped so far.
#[derive(Debug)]
pub(super) struct Wraps {
    initial_seq: u32,
    ring_seq: u64,
    messages: BTreeSet<RingId>,
    tokens: BTreeSet<RingId>,
    rings: BTreeSet<RingId>,
}

impl Wraps {
    pub(super) fn new(setup: &Setup) -> Self {
        Self {
            initial_seq: setup.params.initial_seq,
            ring_seq: setup.ring_seq,
            messages: BTreeSet::new(),
            tokens: BTreeSet::new(),
            rings: BTreeSet::new(),
        }
    }

    pub(super) fn observe(&mut self, event: &Event) {
        match event {
            Event::Token(token) => {
                if token.seq < self.initial_seq {
                    self.messages.insert(token.ring);
                }
                if token.token_seq < self.initial_seq {
                    self.tokens.insert(token.ring);
                }
            }
            Event::Ring(Change::Regular { ring, .. }) if ring.seq >> 32 > self.ring_seq >> 32 => {
                self.rings.insert(*ring);
            }
            _ => {}
        }
    }

    pub(super) fn add_to(&self, tally: &mut Tally) {
        tally.message_wraps = self.messages.len() as u64;
        tally.token_wraps = self.tokens.len() as u64;
        tally.ring_wraps = self.rings.len() as u64;
    }
}
