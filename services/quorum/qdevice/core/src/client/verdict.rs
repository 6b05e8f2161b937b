//! What the arbiter has said, and whether that is about the present ring.

use quorate_types::RingId;

use crate::{
    Vote,
    message::{Answer, Kind, ListKind, Message},
};

/// The arbiter's last word on one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Verdict {
    /// For this part or not, in whatever ring; `None` while it has not decided.
    word: Option<bool>,
    /// Whether it stands for the present ring.
    is_present: bool,
}

impl Verdict {
    /// What counts.
    pub(super) const fn vote(self) -> Vote {
        match (self.is_present, self.word) {
            (true, Some(true)) => Vote::Granted,
            (true, Some(false)) => Vote::Refused,
            _ => Vote::Undecided,
        }
    }

    /// Another ring: the word must be repeated for it.
    pub(super) const fn forget_ring(&mut self) {
        self.is_present = false;
    }

    /// The arbiter says something.
    ///
    /// "No change" is about the last word that it sent, so that one is remembered over rings; it counts only when
    /// it is the answer to what this node told about the present ring.
    pub(super) fn hear(&mut self, message: &Message, ring: Option<RingId>) {
        let is_about_ring = message.ring.is_some() && message.ring == ring;
        let is_about_members =
            message.kind == Kind::NodeListReply && message.list == Some(ListKind::Membership);
        match message.vote {
            Some(Answer::Ack) => self.word = Some(true),
            Some(Answer::Nack) => self.word = Some(false),
            Some(Answer::AskLater | Answer::WaitForReply) => self.word = None,
            Some(Answer::NoChange) if is_about_members => {}
            Some(Answer::NoChange) | None => return,
        }
        self.is_present |= is_about_ring;
    }
}
