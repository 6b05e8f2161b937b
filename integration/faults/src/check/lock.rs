//! A lock has one holder at a time.

use std::collections::BTreeMap;

use super::Problem;
use crate::record::{Event, Held};

/// Judges all times for which a lock was surely held.
#[must_use]
pub fn check(events: &[Event]) -> Vec<Problem> {
    let mut by_lock: BTreeMap<&str, Vec<&Held>> = BTreeMap::new();
    for event in events {
        if let Event::Held(held) = event {
            by_lock.entry(&held.lock).or_default().push(held);
        }
    }
    let mut problems = Vec::new();
    for (lock, mut all) in by_lock {
        all.sort_by_key(|held| held.from);
        // The one that lasts longest so far: it may overlap more than the next one.
        let mut longest: Option<&Held> = None;
        for held in all {
            if let Some(other) = longest.filter(|other| held.from < other.until) {
                let what = format!(
                    "{lock}: {} held it from {} to {} and {} from {} to {}",
                    other.client, other.from, other.until, held.client, held.from, held.until
                );
                problems.push(Problem { property: "a lock has one holder", what });
            }
            if longest.is_none_or(|other| other.until < held.until) {
                longest = Some(held);
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(client: &str, lock: &str, from: u64, until: u64) -> Event {
        Event::Held(Held { client: client.into(), lock: lock.into(), from, until })
    }

    #[test]
    fn one_after_the_other_is_right_and_two_locks_are_two() {
        assert!(check(&[held("b", "x", 5, 9), held("a", "x", 0, 5), held("c", "y", 3, 7)]).is_empty());
    }

    #[test]
    fn two_holders_are_caught_however_many_are_between() {
        assert_eq!(check(&[held("a", "x", 0, 5), held("b", "x", 4, 9)]).len(), 1);
        assert_eq!(check(&[held("a", "x", 0, 20), held("b", "x", 30, 40), held("c", "x", 19, 21)]).len(), 1);
        assert_eq!(check(&[held("a", "x", 0, 20), held("b", "x", 5, 6), held("c", "x", 8, 9)]).len(), 2);
    }
}
