//! The token: one per ring, always forward, and true about what the members have.

use std::collections::{BTreeMap, BTreeSet};

use quorate_types::{NodeId, RingId};

use super::{Checker, Violation};
use crate::history::{Change, Event, Observation, Token};

/// What one member did with the token of a ring.
#[derive(Debug)]
struct Visit {
    /// As it sent the token last.
    sent: Token,
    /// The aru with which the token had come to it.
    arrived_aru: Option<u32>,
    /// Up to where it kept no messages when that was last known.
    released: Option<u32>,
}

/// The token of one ring, and the commit token before it.
#[derive(Debug, Default)]
struct Round {
    last: Option<Token>,
    visits: BTreeMap<NodeId, Visit>,
    /// Who is to be in the ring.
    members: Vec<NodeId>,
    /// The numbers under which each of them sent the commit token.
    commits: BTreeMap<NodeId, BTreeSet<u32>>,
}

/// Checks P8: the token's numbers never go back, its aru is never above its sequence nor above what its
/// sender has, at most one token of a ring is alive (each visit has its own number, and whatever is
/// sent again is the same), a message is forgotten only after two successive tokens said that all have it, and
/// the commit token goes round twice before the first token.
///
/// That recovered messages come before the new ring is announced is P2.2, in `order.rs`.
#[derive(Debug, Default)]
pub struct TokenChecker {
    rings: BTreeMap<RingId, Round>,
    /// Members that installed a ring since they sent a token: what recovery left is forgotten at once.
    fresh: BTreeSet<NodeId>,
}

fn violation(property: &'static str, observation: &Observation, why: String) -> Violation {
    Violation { checker: "token", property, what: format!("{observation}: {why}") }
}

/// Whether `a` comes before `b`; numbers may wrap.
fn is_before(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() < 0
}

impl Checker for TokenChecker {
    fn observe(&mut self, observation: &Observation) -> Result<(), Violation> {
        let node = observation.node;
        match &observation.event {
            Event::Token(token) => self.token(observation, *token),
            Event::CommitToken { ring, token_seq, members } => {
                let round = self.rings.entry(*ring).or_default();
                round.members.clone_from(members);
                round.commits.entry(node).or_default().insert(*token_seq);
                Ok(())
            }
            Event::Ring(Change::Regular { .. }) => {
                self.fresh.insert(node);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl TokenChecker {
    fn token(&mut self, observation: &Observation, token: Token) -> Result<(), Violation> {
        let node = observation.node;
        let round = self.rings.entry(token.ring).or_default();
        let fail = |property, why: String| Err(violation(property, observation, why));
        if let Some(Visit { sent, .. }) = round.visits.get(&node)
            && sent.token_seq == token.token_seq
        {
            let same = (sent.seq, sent.aru) == (token.seq, token.aru);
            let why = format!("it had sent this one to {} with aru {}", sent.seq, sent.aru);
            return if same { Ok(()) } else { fail("P8 one token alive per ring", why) };
        }
        match round.last {
            None => {
                let once = |member: &&NodeId| round.commits.get(member).is_none_or(|seqs| seqs.len() < 2);
                if let Some(member) = round.members.iter().find(once) {
                    let why = format!("{member} had not seen the commit token twice");
                    return fail("P8 the commit token goes round twice", why);
                }
            }
            Some(last) if token.token_seq != last.token_seq.wrapping_add(1) => {
                return fail("P8 one token alive per ring", format!("it was at visit {}", last.token_seq));
            }
            Some(last) if is_before(token.seq, last.seq) => {
                return fail("P8 the token never goes back", format!("it was at message {}", last.seq));
            }
            Some(_) => {}
        }
        if is_before(token.seq, token.aru) {
            return fail("P8 no aru above the sequence", format!("its aru is {}", token.aru));
        }
        if let Some(own) = token.own
            && is_before(own.aru, token.aru)
        {
            return fail("P8 no aru above what its sender has", format!("that is {}", own.aru));
        }
        let arrived_aru = round.last.replace(token).map(|last| last.aru);
        let before = round.visits.remove(&node);
        let known = before.as_ref().and_then(|visit| visit.released);
        let released = token.own.map(|own| own.released).or(known);
        round.visits.insert(node, Visit { sent: token, arrived_aru, released });
        if !self.fresh.remove(&node)
            && let Some((before, released)) = before.zip(released)
            && before.released != Some(released)
        {
            let both = before.arrived_aru.zip(arrived_aru);
            if both.is_none_or(|(a, b)| is_before(a, released) || is_before(b, released)) {
                let why = format!("it forgot up to {released}, the last two tokens said {both:?}");
                return fail("P8 forgotten after two tokens", why);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::testing::{judge, nodes, ring};
    use crate::history::Holdings;

    fn token(id: u32, token_seq: u32, seq: u32, aru: u32) -> (u32, Event) {
        let token =
            Token { ring: ring(1, 5), token_seq, seq, aru, own: Some(Holdings { aru: seq, released: 0 }) };
        (id, Event::Token(token))
    }

    /// The same, from a member with this aru that keeps nothing up to there.
    fn token_of(mut sent: (u32, Event), own: u32, forgotten: u32) -> (u32, Event) {
        if let Event::Token(token) = &mut sent.1 {
            token.own = Some(Holdings { aru: own, released: forgotten });
        }
        sent
    }

    /// The same, from a member that gave up the ring at once.
    fn last_token_of(mut sent: (u32, Event)) -> (u32, Event) {
        if let Event::Token(token) = &mut sent.1 {
            token.own = None;
        }
        sent
    }

    fn commit(id: u32, token_seq: u32) -> (u32, Event) {
        (id, Event::CommitToken { ring: ring(1, 5), token_seq, members: nodes(&[1, 2]) })
    }

    fn verdict(history: &[(u32, Event)]) -> Result<(), &'static str> {
        judge(&mut TokenChecker::default(), history).map_err(|violation| violation.property)
    }

    #[test]
    fn a_token_that_goes_round_is_fine_even_across_the_wrap_and_sent_again() {
        let rounds = [commit(1, 1), commit(2, 2), commit(1, 3), commit(2, 4)];
        let first = token(1, u32::MAX, u32::MAX, u32::MAX);
        let again = first.clone();
        assert_eq!(verdict(&[&rounds[..], &[first, token(2, 0, 1, 0), again]].concat()), Ok(()));
    }

    #[test]
    fn a_second_token_is_caught() {
        let caught = Err("P8 one token alive per ring");
        assert_eq!(verdict(&[token(1, 1, 1, 1), token(2, 2, 1, 1), token(1, 2, 1, 1)]), caught);
        assert_eq!(verdict(&[token(1, 1, 1, 1), token(1, 1, 2, 1)]), caught);
        assert_eq!(verdict(&[token(1, 1, 1, 1), token(2, 3, 1, 1)]), caught);
    }

    #[test]
    fn a_token_that_goes_back_is_caught() {
        let history = [token(1, 1, 7, 7), token(2, 2, 6, 6)];
        assert_eq!(verdict(&history), Err("P8 the token never goes back"));
    }

    #[test]
    fn an_aru_that_cannot_be_is_caught() {
        assert_eq!(verdict(&[token(1, 1, 7, 8)]), Err("P8 no aru above the sequence"));
        let more_than_it_has = token_of(token(1, 1, 7, 7), 6, 0);
        assert_eq!(verdict(&[more_than_it_has]), Err("P8 no aru above what its sender has"));
    }

    #[test]
    fn a_message_forgotten_after_one_token_is_caught() {
        let rotation = |first: u32, aru: u32| [token(2, first, 9, aru), token(1, first + 1, 9, aru)];
        let early = [rotation(1, 3), rotation(3, 9)].concat();
        let forgets = |history: &[(u32, Event)]| {
            let last = token_of(history[history.len() - 1].clone(), 9, 9);
            verdict(&[&history[..history.len() - 1], &[last]].concat())
        };
        assert_eq!(forgets(&early), Err("P8 forgotten after two tokens"));
        let late = [rotation(1, 3), rotation(3, 9), rotation(5, 9)].concat();
        assert_eq!(forgets(&late), Ok(()));
    }

    #[test]
    fn a_member_that_gives_up_the_ring_says_nothing_about_it_and_excuses_nothing() {
        let given_up = [token(1, 1, 9, 3), token(2, 2, 9, 3), last_token_of(token(1, 3, 9, 3))];
        assert_eq!(verdict(&given_up), Ok(()));
        let then = |next: (u32, Event)| verdict(&[&given_up[..], &[token(2, 4, 9, 3), next]].concat());
        assert_eq!(then(token_of(token(1, 5, 9, 3), 9, 3)), Ok(()));
        assert_eq!(then(token_of(token(1, 5, 9, 3), 9, 4)), Err("P8 forgotten after two tokens"));
        assert_eq!(then(token_of(token(1, 5, 9, 4), 3, 0)), Err("P8 no aru above what its sender has"));
        // the token itself is judged as any other
        assert_eq!(then(last_token_of(token(1, 6, 9, 3))), Err("P8 one token alive per ring"));
        assert_eq!(then(last_token_of(token(1, 5, 8, 3))), Err("P8 the token never goes back"));
        assert_eq!(then(last_token_of(token(1, 5, 9, 10))), Err("P8 no aru above the sequence"));
    }

    #[test]
    fn a_first_token_after_one_round_of_the_commit_token_is_caught() {
        let history = [commit(1, 1), commit(2, 2), commit(1, 3), token(1, 0, 0, 0)];
        assert_eq!(verdict(&history), Err("P8 the commit token goes round twice"));
    }
}
