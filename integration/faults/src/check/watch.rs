//! Watchers see every version once, in order, and what is certain they see as it was.

use std::collections::BTreeMap;

use super::{Files, Problem};
use crate::record::{Change, Event, Watched};

/// Where a session is.
#[derive(Debug, Clone, Copy)]
struct Place {
    last: u64,
}

/// Judges all sessions, which must watch the whole tree.
#[must_use]
pub fn check(events: &[Event], files: &Files) -> Vec<Problem> {
    let mut places: BTreeMap<u64, Place> = BTreeMap::new();
    // By node: its last session, and how far that came.
    let mut ends: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let mut problems = Vec::new();
    for event in events {
        let Event::Watched(watched) = event else { continue };
        // The first answer of a session says where it begins.
        let begins = Place { last: watched.version };
        let place = places.entry(watched.session).or_insert(begins);
        for change in &watched.changes {
            if change.kind == "reloaded" {
                place.last = change.version;
                continue;
            }
            problems.extend(in_order(watched, place, change));
            problems.extend(as_it_was(watched, change, files));
        }
        if place.last > watched.version {
            let what = format!(
                "{}, session {}: told version {}, then that everything up to {} was told",
                watched.node, watched.session, place.last, watched.version
            );
            problems.push(Problem { property: "watchers are told how far they are", what });
        }
        ends.insert(&watched.node, (watched.session, place.last));
    }
    problems.extend(events.iter().filter_map(|event| to_the_end(event, &ends)));
    problems
}

/// After all was mended every watcher comes to the last version.
fn to_the_end(event: &Event, ends: &BTreeMap<&str, (u64, u64)>) -> Option<Problem> {
    let Event::Ended { node, version, .. } = event else { return None };
    let (session, told) = ends.get(node.as_str()).copied().unwrap_or_default();
    if told >= *version {
        return None;
    }
    let what = format!("{node}, session {session}: told up to version {told} of {version}");
    Some(Problem { property: "watchers are told everything in the end", what })
}

/// Each version follows the one before; a change that touches two paths may have two entries.
fn in_order(watched: &Watched, place: &mut Place, change: &Change) -> Option<Problem> {
    let before = std::mem::replace(&mut place.last, change.version);
    if change.version == before + 1 {
        return None;
    }
    let what = format!(
        "{}, session {}: version {} ({} {}) came after version {before}",
        watched.node, watched.session, change.version, change.kind, change.path
    );
    Some(Problem { property: "watchers see each version once, in order", what })
}

fn as_it_was(watched: &Watched, change: &Change, files: &Files) -> Option<Problem> {
    let write = files.at(change.version)?;
    // A client of a mount renames what it wrote.
    let kinds: &[&str] = if write.value.is_some() { &["put", "renamed"] } else { &["deleted"] };
    if change.path == write.path && kinds.contains(&change.kind.as_str()) {
        return None;
    }
    let kind = kinds[0];
    let what = format!(
        "{}, session {}: version {} was told as '{} {}', and is operation {}: {kind} {}",
        watched.node, watched.session, change.version, change.kind, change.path, write.id, write.path
    );
    Some(Problem { property: "watchers see what was written", what })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        linear::{Answer, Call, Expect},
        record::Called,
    };

    fn told(version: u64, changes: &[(u64, &str)]) -> Event {
        let change = |(version, kind): &(u64, &str)| Change {
            version: *version,
            kind: (*kind).to_owned(),
            path: "a".to_owned(),
        };
        let changes = changes.iter().map(change).collect();
        Event::Watched(Watched { node: "hp1".into(), session: 1, at: 0, version, changes })
    }

    fn judge(events: &[Event]) -> Vec<&'static str> {
        check(events, &Files::of(events)).into_iter().map(|problem| problem.property).collect()
    }

    fn written(version: u64) -> Event {
        Event::Called(Called {
            id: version,
            client: "writer".into(),
            node: "hp1".into(),
            path: "a".into(),
            invoked: 0,
            returned: 1,
            call: Call::Put { expect: Expect::Any, value: version },
            answer: Answer::Done { version: Some(version) },
            local: None,
        })
    }

    #[test]
    fn every_version_once_is_right() {
        let story =
            [told(4, &[]), told(6, &[(5, "put"), (6, "deleted")]), told(7, &[(7, "put")]), told(7, &[])];
        assert!(judge(&story).is_empty());
    }

    #[test]
    fn a_version_that_is_missed_or_comes_twice_is_caught() {
        let property = "watchers see each version once, in order";
        assert_eq!(judge(&[told(4, &[]), told(6, &[(6, "put")])]), [property]);
        assert_eq!(judge(&[told(4, &[]), told(5, &[(5, "put")]), told(5, &[(5, "put")])]), [property]);
    }

    #[test]
    fn a_reloaded_tree_begins_anew() {
        assert!(judge(&[told(4, &[]), told(9, &[(9, "reloaded")]), told(10, &[(10, "put")])]).is_empty());
    }

    #[test]
    fn a_certain_write_that_is_told_as_something_else_is_caught() {
        let story = [written(5), told(4, &[]), told(5, &[(5, "deleted")])];
        assert_eq!(judge(&story), ["watchers see what was written"]);
    }

    #[test]
    fn a_watcher_that_falls_silent_is_caught() {
        let ended = |version| Event::Ended { node: "hp1".into(), version, checksum: "x".into() };
        assert!(judge(&[told(4, &[]), told(5, &[(5, "put")]), ended(5)]).is_empty());
        let property = "watchers are told everything in the end";
        assert_eq!(judge(&[told(4, &[]), ended(5)]), [property]);
        assert_eq!(judge(&[ended(5)]), [property]);
    }

    #[test]
    fn a_version_that_was_told_cannot_be_ahead_of_what_was_told() {
        assert_eq!(judge(&[told(4, &[]), told(4, &[(5, "put")])]), ["watchers are told how far they are"]);
    }
}
